//! `.prompt` files: the front matter's keys, their checks, and the definition they make.

mod defaults;
#[cfg(test)]
mod tests;

use super::environment::slug;
use super::faults::{Faults, Faulty};
use super::fields::{Fields, Source};
use super::file;
use super::front_matter;
use super::input;
use super::keys::{Form, Key, Keys, Needs, key};
use super::picoschema;
use super::problem::{FileProblem, Position};
use super::revision::sha256_hex;
use super::{template, yaml};
use crate::domain::{AgentDefinition, Limits, MOST_TOKENS, Name, OnInDoubt, quoted};
use serde_json::{Value, json};
use std::cell::RefCell;

/// A `.prompt` file is at most 1 MiB.
pub const MAX_PROMPT_BYTES: usize = 1024 * 1024;

/// The keys of the front matter.
pub(super) static KEYS: Keys = Keys {
    known: &[
        key("metadata", Form::Map(&METADATA), "What people see of the agent."),
        key(
            "model",
            Form::AgentModel,
            "provider/model, such as openai/gpt-5.4-mini; a name without provider is looked up. Absent = the environment's default.",
        ),
        MAX_STEPS,
        key("timeout", Form::Duration, "The longest that a run may take, such as 10m."),
        key(
            "tools",
            Form::Texts,
            "What the agent may use: server__tool, globs such as git__*, or __tool where only one server has it.",
        ),
        key("plan", Form::Flag, "Whether the first turn only plans, without tools."),
        key("agents", Form::Texts, "Agents that it may call, offered to the model as agent__<name>."),
        key("input", Form::Map(&INPUT), "What a run is given."),
        key("output", Form::Map(&OUTPUT), "What a run returns."),
        key("output_schema", Form::Text, "The same as output.schema, as the text of a JSON Schema."),
        key(
            "limits",
            Form::Map(&LIMITS),
            "What a run may use together with all that it calls. Its providers have to report usage.",
        ),
        key("retry", Form::Map(&RETRY), "What happens when something has gone wrong."),
    ],
    needs: Needs::Nothing,
    later: &["approval"],
    idle: &[
        ("schedule", "schedules are not fired by this version"),
        ("config", "the model is asked with its provider's own settings"),
        ("app", APP),
        ("app_type", APP),
        ("cloudshipai", "there is no CloudShip here"),
        ("station", "use max_steps and timeout"),
        ("sandbox", "the agent gets no tools that run code; nothing else was restricted by it"),
        ("coding", "the agent gets no coding tools"),
        ("notify", "the agent gets no tool that sends notices"),
        ("lattice", "there is no lattice here"),
        ("harness", "every agent runs in the same loop"),
        ("harness_config", "use max_steps and timeout"),
        ("workspace", "the agent works on the files that its tools reach"),
        ("skills", "there are no skills here; write them into the prompt"),
        ("memory", "nothing is kept from one run to the next"),
        ("name", "an agent is called like its file"),
        ("description", "write it under metadata"),
        ("variant", "an agent is called like its file"),
        ("version", "an agent's revision is the hash of its file"),
    ],
};

const APP: &str = "it was for reports of another system";

const MAX_STEPS: Key =
    key("max_steps", Form::Count(MOST_STEPS), "The most turns of a run: model calls with the tool calls they ask for.");

static METADATA: Keys = Keys {
    known: &[
        key("name", Form::Note, "The name for people; the agent itself is called like its file."),
        key("description", Form::Note, "What the agent is good for."),
        key("tags", Form::Texts, "Words to find it by."),
        Key { form: Form::CountOrText(MOST_STEPS), ..MAX_STEPS },
    ],
    needs: Needs::Nothing,
    later: &[],
    idle: &[
        ("app", APP),
        ("app_type", APP),
        ("version", "an agent's revision is the hash of its file"),
        ("agent_id", "an agent's id is the station's to give"),
    ],
};

static INPUT: Keys = Keys::of(&[
    key("schema", Form::Schema, "JSON Schema or Picoschema (`topic: string, what it is about`) of a map."),
    key("default", Form::Values, "What fields are when a run is given none, by name."),
]);

static OUTPUT: Keys = Keys {
    known: &[
        key("schema", Form::Schema, "JSON Schema or Picoschema of the final answer."),
        key("format", Form::OneOf(&FORMATS), "json goes with a schema; without one the answer is a text."),
        key("type", Form::OneOf(&picoschema::JSON_SCHEMA_TYPES), "The type of a schema that isn't under schema."),
        key("properties", Form::Schema, "The fields of such a schema, each a JSON Schema."),
        key("required", Form::Texts, "The fields of such a schema that have to be there."),
    ],
    needs: Needs::Nothing,
    later: &[],
    idle: &[("preset", "write out the schema that it stood for")],
};

const FORMATS: [&str; 2] = ["json", "text"];

static LIMITS: Keys = Keys {
    known: &[
        key(
            "tokens",
            Form::Count(MOST_TOKENS),
            "Tokens that models are sent and send back, cached ones and those of reasoning among them.",
        ),
        key("cost_usd", Form::Amount, "US dollars, by models.prices of station.yml, which has to know the model."),
    ],
    needs: Needs::Nothing,
    later: &["max_concurrent"],
    idle: &[],
};

static RETRY: Keys = Keys {
    known: &[key(
        "on_in_doubt",
        Form::OneOf(&IN_DOUBT),
        "What becomes of a call of which nobody knows whether it was carried out.",
    )],
    needs: Needs::Nothing,
    later: &["max_attempts"],
    idle: &[],
};

const IN_DOUBT: [&str; 4] = ["ask", "retry", "skip", "fail"];
const MOST_STEPS: u32 = 10_000;

/// The revision of a definition: SHA-256 of the file's bytes, in hex.
pub fn revision_of(bytes: &[u8]) -> String {
    sha256_hex(bytes)
}

/// Reads the bytes of the file that people know as `file`. Its base name, given as `name`, is the agent's identity; a base name that can't
/// be one stays as the name for people.
pub fn parse_prompt(name: &Name, file: &str, bytes: &[u8]) -> Result<AgentDefinition, FileProblem> {
    parse_warned(name, file, bytes, &RefCell::default()).map_err(|faulty| *faulty.first)
}

/// The same, with every fault; what is accepted and has no effect comes into `warnings`.
pub(super) fn parse_warned(
    name: &Name,
    file: &str,
    bytes: &[u8],
    warnings: &RefCell<Vec<FileProblem>>,
) -> Result<AgentDefinition, Faulty> {
    let text = decode(file, bytes)?;
    let halves = front_matter::split(text).map_err(|syntax| Source::file(file).syntax(syntax))?;
    let source = Source { lines_before: halves.lines_before_yaml, warnings: Some(warnings), ..Source::file(file) };
    let yaml = yaml::parse(&text[halves.yaml]).map_err(|syntax| source.syntax(syntax))?;
    let prompt = body(&text[halves.body]);
    let mut definition = empty(name, prompt);
    let mut faults = Faults::default();
    if let Some(fields) = Fields::root(source, &yaml.value, &yaml.root)? {
        read(&fields, &mut definition, &mut faults);
    }
    faults.take(check_template(file, &definition.prompt, halves.lines_before_body));
    let old_name = Some(base_name(file)).filter(|base| *name != **base).map(str::to_owned);
    definition.display_name = definition.display_name.or(old_name);
    faults.or(definition)
}

/// `Cost Forecaster` of `environments/development/agents/Cost Forecaster.prompt`.
pub fn base_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".prompt").unwrap_or(name)
}

/// The template as it is rendered: LF line ends, without the newline that ends the file.
pub(super) fn body(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.strip_suffix('\n').map_or_else(|| text.clone(), str::to_owned)
}

fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, FileProblem> {
    if bytes.len() > MAX_PROMPT_BYTES {
        let message = format!("it has {} bytes; a .prompt file is at most 1 MiB", bytes.len());
        return Err(
            FileProblem::new(file, message).hint("keep long material in files that the agent can read with a tool")
        );
    }
    file::text(file, bytes)
}

fn check_template(file: &str, prompt: &str, lines_before: usize) -> Result<(), FileProblem> {
    template::check(prompt).map_err(|fault| {
        let problem = FileProblem::new(file, fault.message);
        problem.at(Position { line: lines_before + fault.line, column: fault.column })
    })
}

fn empty(name: &Name, prompt: String) -> AgentDefinition {
    AgentDefinition {
        name: name.clone(),
        display_name: None,
        description: None,
        tags: Vec::new(),
        model: None,
        max_steps: None,
        timeout_ms: None,
        plan: false,
        tools: Vec::new(),
        agents: Vec::new(),
        input_schema: None,
        output_schema: None,
        schedule: None,
        approval: None,
        limits: None,
        retry: None,
        on_in_doubt: OnInDoubt::default(),
        prompt,
    }
}

fn read(fields: &Fields<'_>, definition: &mut AgentDefinition, faults: &mut Faults) {
    faults.0.extend(fields.faults(&KEYS));
    if let Some(metadata) = faults.section(fields, "metadata", &METADATA) {
        definition.display_name = faults.take(metadata.note("name")).flatten();
        definition.description = faults.take(metadata.note("description")).flatten();
        definition.tags = faults.take(metadata.texts("tags")).unwrap_or_default();
        definition.max_steps = faults.take(metadata.count_or_text("max_steps", MOST_STEPS)).flatten();
    }
    definition.model = faults.take(fields.agent_model("model")).flatten();
    let max_steps = faults.take(fields.count("max_steps", MOST_STEPS)).flatten();
    definition.max_steps = max_steps.or(definition.max_steps);
    definition.timeout_ms = faults.take(fields.duration_ms("timeout")).flatten();
    definition.plan = faults.take(plan(fields, definition.max_steps)).unwrap_or_default();
    definition.tools = faults.take(tools(fields)).unwrap_or_default();
    definition.agents = faults.take(agents(fields)).unwrap_or_default();
    definition.input_schema = faults.take(input_schema(fields, &definition.prompt)).flatten();
    definition.output_schema = faults.take(output_schema(fields)).flatten();
    definition.limits = faults.take(limits(fields)).flatten();
    if let Some(retry) = faults.section(fields, "retry", &RETRY) {
        definition.on_in_doubt = faults.take(on_in_doubt(&retry)).flatten().unwrap_or_default();
        definition.retry = fields.get("retry").cloned();
    }
}

fn tools(fields: &Fields<'_>) -> Result<Vec<String>, FileProblem> {
    let tools = fields.texts("tools")?;
    match tools.iter().find(|tool| tool.is_empty() || tool.contains(|c: char| c.is_whitespace() || c.is_control())) {
        None => Ok(tools),
        Some(bad) => {
            let bad = quoted(bad.trim());
            let reason = format!("{bad} is no tool name; write server__tool, a glob such as git__*, or __tool");
            Err(fields.problem("tools", reason))
        }
    }
}

/// Child agents, by name. An old name with other letters means the agent that such a file loads as.
fn agents(fields: &Fields<'_>) -> Result<Vec<Name>, FileProblem> {
    let mut names = Vec::new();
    for (at, text) in fields.texts("agents")?.into_iter().enumerate() {
        let problem = |reason: String| fields.problem_inside("agents", &[at.to_string()], reason);
        let name = Name::new(&text).or_else(|invalid| Name::new(&slug(&text)).map_err(|_| invalid));
        let name = name.map_err(|invalid| problem(invalid.to_string()))?;
        if names.contains(&name) {
            return Err(problem(format!("`{name}` is there twice")));
        }
        names.push(name);
    }
    Ok(names)
}

/// A fault of the value of `key` of a file that parses, placed where it stands; of a list, that of the item that is `item`.
pub(super) fn problem_of(
    file: &str,
    bytes: &[u8],
    key: &str,
    item: Option<&str>,
    reason: &str,
    hint: Option<String>,
) -> FileProblem {
    let placed = || {
        let text = decode(file, bytes).ok()?;
        let halves = front_matter::split(text).ok()?;
        let source = Source { lines_before: halves.lines_before_yaml, ..Source::file(file) };
        let yaml = yaml::parse(&text[halves.yaml]).ok()?;
        let fields = Fields::root(source, &yaml.value, &yaml.root).ok()??;
        let items = fields.texts(key).unwrap_or_default();
        Some(match items.iter().position(|found| Some(found.as_str()) == item) {
            Some(at) => fields.problem_inside(key, &[at.to_string()], reason),
            None => fields.problem(key, reason),
        })
    };
    let problem = placed().unwrap_or_else(|| FileProblem::new(file, format!("`{key}`: {reason}")).about(key));
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn input_schema(fields: &Fields<'_>, prompt: &str) -> Result<Option<Value>, FileProblem> {
    let Some(input) = fields.map("input")? else { return Ok(None) };
    input.check(&INPUT)?;
    let schema = input_fields(&input, prompt)?;
    match input.map("default")? {
        None => Ok(schema),
        Some(given) => defaults::declare(schema, &input, &given).map(Some),
    }
}

fn input_fields(input: &Fields<'_>, prompt: &str) -> Result<Option<Value>, FileProblem> {
    let Some(written) = input.get("schema") else { return Ok(None) };
    let told = |fault: input::SchemaFault| told_inside(input, &fault);
    let picoschema::Compiled { mut schema, short } = picoschema::compile(written).map_err(told)?;
    if short {
        add_user_input(&mut schema, prompt);
    }
    input::check_schema(&schema).map_err(told)?;
    Ok(Some(schema))
}

fn told_inside(fields: &Fields<'_>, fault: &input::SchemaFault) -> FileProblem {
    let problem = fields.problem_inside("schema", &fault.path, &fault.reason);
    match &fault.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// The Go Station gives every agent its task as `userInput`, beside the fields that the schema names.
fn add_user_input(schema: &mut Value, prompt: &str) {
    let is_used = prompt.contains("userInput");
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut).filter(|_| is_used) else {
        return;
    };
    if properties.contains_key("userInput") {
        return;
    }
    properties.insert("userInput".into(), json!({ "type": "string", "description": "The task." }));
    match schema.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.push("userInput".into()),
        None => schema["required"] = json!(["userInput"]),
    }
}

/// A plan takes a turn, and carrying it out at least another.
fn plan(fields: &Fields<'_>, max_steps: Option<u32>) -> Result<bool, FileProblem> {
    let plan = fields.boolean("plan")?.unwrap_or_default();
    if plan && max_steps == Some(1) {
        let reason = "the plan takes a turn of its own, and `max_steps` allows no other";
        return Err(fields.problem("plan", reason).hint("allow at least 2 `max_steps`"));
    }
    Ok(plan)
}

/// What the final answer has to be; unlike an input, it may be any JSON value.
fn output_schema(fields: &Fields<'_>) -> Result<Option<Value>, FileProblem> {
    let in_text = fields.text("output_schema")?.map(|text| text_schema(fields, &text)).transpose()?;
    let Some(output) = fields.map("output")? else { return Ok(in_text) };
    output.check(&OUTPUT)?;
    let format = output.text("format")?;
    if let Some(other) = format.as_deref().filter(|format| !FORMATS.contains(format)) {
        return Err(output.problem("format", format!("{} is none of {}", quoted(other), FORMATS.join(", "))));
    }
    let unnamed = unnamed_schema(&output)?;
    let Some(schema) = named_schema(&output)?.or(unnamed.clone()) else {
        if format.as_deref() == Some("json") && in_text.is_none() {
            let message = "`output.format` has no effect here: without a schema the answer is not checked";
            output.warn(output.key_problem("format", message));
        }
        return Ok(in_text);
    };
    if in_text.is_some() {
        let under = if unnamed.is_some() { "output" } else { "output.schema" };
        let message = format!("`output_schema` and `{under}` mean the same; keep one");
        return Err(fields.key_problem("output_schema", message));
    }
    if unnamed.is_some() && output.get("schema").is_some() {
        let message = "`output` has a schema under `schema`, and another one beside it; keep one";
        return Err(output.key_problem("schema", message));
    }
    if format.as_deref() == Some("text") {
        return Err(output.problem("format", "a text has no schema").hint("write json, or remove the schema"));
    }
    Ok(Some(schema))
}

fn named_schema(output: &Fields<'_>) -> Result<Option<Value>, FileProblem> {
    let Some(written) = output.get("schema") else { return Ok(None) };
    let told = |fault: input::SchemaFault| told_inside(output, &fault);
    let schema = picoschema::compile(written).map_err(told)?.schema;
    input::check_output_schema(&schema).map_err(told)?;
    Ok(Some(schema))
}

/// A schema whose parts stand in `output` itself, as the Go Station reads it.
fn unnamed_schema(output: &Fields<'_>) -> Result<Option<Value>, FileProblem> {
    let kind = output.text("type")?;
    if let Some(odd) = kind.as_deref().filter(|kind| !picoschema::JSON_SCHEMA_TYPES.contains(kind)) {
        let reason = format!("{} is none of {}", quoted(odd), picoschema::JSON_SCHEMA_TYPES.join(", "));
        return Err(output.problem("type", reason));
    }
    let properties = output.map("properties")?.and_then(|_| output.get("properties"));
    let required = output.texts("required")?;
    if kind.is_none() && properties.is_none() {
        let lonely =
            output.get("required").map(|_| output.key_problem("required", "`output.required` needs `properties`"));
        return lonely.map_or(Ok(None), Err);
    }
    let mut schema = json!({ "type": kind.as_deref().unwrap_or("object") });
    if let Some(properties) = properties {
        schema["properties"] = properties.clone();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    input::check_output_schema(&schema).map_err(|fault| match fault.path.split_first() {
        Some((key, inside)) => output.problem_inside(key, inside, &fault.reason),
        None => output.problem_here(&fault.reason),
    })?;
    Ok(Some(schema))
}

/// A JSON Schema as the Go Station's exports have it: JSON in a text.
fn text_schema(fields: &Fields<'_>, text: &str) -> Result<Value, FileProblem> {
    let told = |reason: String| fields.problem("output_schema", reason);
    let schema = serde_json::from_str(text).map_err(|error| told(format!("it is not valid JSON: {error}")))?;
    input::check_output_schema(&schema).map_err(|fault| told(fault.reason))?;
    Ok(schema)
}

fn limits(fields: &Fields<'_>) -> Result<Option<Limits>, FileProblem> {
    let Some(limits) = fields.map("limits")? else { return Ok(None) };
    limits.check(&LIMITS)?;
    let tokens = limits.count("tokens", MOST_TOKENS)?.map(i64::from);
    let cost = limits.usd("cost_usd", "an amount of USD, such as 0.50")?;
    if cost.is_some_and(|cost| cost.micros() == 0) {
        return Err(limits.problem("cost_usd", "with 0 no model can be asked").hint("leave it out to limit nothing"));
    }
    Ok(Limits { tokens, cost_microusd: cost.map(|cost| cost.micros()) }.if_any())
}

fn on_in_doubt(retry: &Fields<'_>) -> Result<Option<OnInDoubt>, FileProblem> {
    let Some(text) = retry.text("on_in_doubt")? else { return Ok(None) };
    match text.as_str() {
        "ask" => Ok(Some(OnInDoubt::Ask)),
        "retry" => Ok(Some(OnInDoubt::Retry)),
        "skip" => Ok(Some(OnInDoubt::Skip)),
        "fail" => Ok(Some(OnInDoubt::Fail)),
        other => Err(retry.problem("on_in_doubt", format!("{} is none of {}", quoted(other), IN_DOUBT.join(", ")))),
    }
}
