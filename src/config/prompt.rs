//! `.prompt` files: the front matter's keys, their checks, and the definition they make.

use super::environment::slug;
use super::faults::{Faults, Faulty};
use super::fields::{Fields, Source};
use super::file;
use super::front_matter::{self, LINES_BEFORE_YAML};
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

static INPUT: Keys =
    Keys::of(&[key("schema", Form::Schema, "JSON Schema or Picoschema (`topic: string, what it is about`) of a map.")]);

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
    let source = Source { lines_before: LINES_BEFORE_YAML, warnings: Some(warnings), ..Source::file(file) };
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
        let source = Source { lines_before: LINES_BEFORE_YAML, ..Source::file(file) };
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
    let Some(written) = input.get("schema") else { return Ok(None) };
    let told = |fault: input::SchemaFault| told_inside(&input, &fault);
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

#[cfg(test)]
mod tests {
    use super::super::keys::every_place_of;
    use super::*;
    use serde_json::json;

    const FILE: &str = "agents/log-reader.prompt";

    fn parse(text: &str) -> Result<AgentDefinition, FileProblem> {
        parse_prompt(&Name::new("log-reader").unwrap(), FILE, text.as_bytes())
    }

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_key_in_force_reaches_the_definition() {
        let text = r#"---
metadata: { name: "Log Reader", description: no, tags: [ops] }
model: openai/gpt-5.4-mini
max_steps: 8
timeout: 1h30m
plan: true
tools: [filesystem__read_text_file, "git__*", __search]
agents: [summarizer, "Cost Forecaster"]
input: { schema: { type: object, properties: { path: { type: string } }, required: [path] } }
output: { schema: { type: array, items: { type: string } } }
limits: { tokens: 200000, cost_usd: 0.30 }
retry: { on_in_doubt: skip }
---
{{role "system"}}
Read {{path}}.
"#;
        let agent = parse(text).unwrap();
        assert_eq!(agent.display_name.as_deref(), Some("Log Reader"));
        assert_eq!(agent.description.as_deref(), Some("no"));
        assert_eq!((agent.max_steps, agent.timeout_ms), (Some(8), Some(5_400_000)));
        assert_eq!(agent.tools, ["filesystem__read_text_file", "git__*", "__search"]);
        let agents: Vec<&str> = agent.agents.iter().map(Name::as_str).collect();
        assert_eq!(agents, ["summarizer", "cost-forecaster"]);
        assert_eq!(agent.input_schema.unwrap()["required"], json!(["path"]));
        assert_eq!((agent.plan, agent.output_schema.unwrap()["type"].clone()), (true, json!("array")));
        assert_eq!(agent.limits, Some(Limits { tokens: Some(200_000), cost_microusd: Some(300_000) }));
        assert_eq!(agent.on_in_doubt, OnInDoubt::Skip);
        assert_eq!(agent.prompt, "{{role \"system\"}}\nRead {{path}}.");
    }

    #[test]
    fn an_empty_front_matter_is_an_agent_of_defaults_and_crlf_means_the_same_as_lf() {
        let agent = parse("---\nmetadata: { description: \"\" }\n---\nHello\nthere\n").unwrap();
        assert_eq!(agent.description, None);
        let agent = parse("---\n---\nHello\nthere\n").unwrap();
        assert_eq!((agent.model.clone(), agent.prompt.as_str()), (None, "Hello\nthere"));
        assert_eq!(parse("---\r\n---\r\nHello\r\nthere\r\n").unwrap(), agent);
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_key() {
        assert_eq!(
            problem("---\nmodel: a/b\nmax_step: 3\n---\n"),
            format!("{FILE}:3:1: unknown key `max_step`; did you mean `max_steps`?")
        );
        assert_eq!(
            problem("---\nmetadata:\n  tag: [a]\n---\n"),
            format!("{FILE}:3:3: unknown key `metadata.tag`; did you mean `tags`?")
        );
    }

    #[test]
    fn what_this_version_does_not_do_is_refused_and_never_ignored() {
        for line in ["approval: { destructive: ask }", "limits: { max_concurrent: 5 }", "retry: { max_attempts: 3 }"] {
            let problem = problem(&format!("---\nmodel: a/b\n{line}\n---\n"));
            assert!(problem.contains(":3:") && problem.contains("not supported by this version"), "{line}: {problem}");
        }
    }

    #[test]
    fn picoschema_compiles_and_broken_schemas_are_refused_with_their_place() {
        let pico = parse("---\ninput:\n  schema:\n    topic: string, the topic\n    depth?: integer\n---\n{{topic}}\n")
            .unwrap();
        let schema = pico.input_schema.unwrap();
        assert_eq!(
            (&schema["required"], &schema["properties"]["topic"]["description"]),
            (&json!(["topic"]), &json!("the topic"))
        );
        let typo = parse("---\ninput:\n  schema:\n    topic: strin, the topic\n---\n").unwrap_err();
        assert_eq!((typo.line, typo.column), (Some(4), Some(12)));
        assert_eq!(typo.message, "`input.schema.topic`: `strin` is no type of Picoschema; did you mean `string`?");
        let broken =
            parse("---\ninput:\n  schema:\n    type: object\n    properties:\n      a: { type: strin }\n---\n")
                .unwrap_err();
        assert_eq!((broken.line, broken.column), (Some(6), Some(18)));
        assert!(broken.message.starts_with("`input.schema.properties.a.type`: "), "{broken}");
        for text in ["---\ninput: { schema: { type: string } }\n---\n", "---\ninput: { schema: string }\n---\n"] {
            assert!(problem(text).contains("type: object"), "{}", problem(text));
        }
    }

    #[test]
    fn limits_are_whole_tokens_and_exact_money() {
        let limits = |text: &str| parse(&format!("---\nlimits: {text}\n---\n")).map(|agent| agent.limits);
        let cost = |micros| Some(Limits { tokens: None, cost_microusd: Some(micros) });
        assert_eq!(limits("{ cost_usd: \"0.1\" }").unwrap(), cost(100_000));
        assert_eq!(limits("{ cost_usd: 0.000001 }").unwrap(), cost(1));
        assert_eq!(limits("{ cost_usd: 2 }").unwrap(), cost(2_000_000));
        for nothing in ["{}", "null", "{ tokens: null }"] {
            assert_eq!(limits(nothing).unwrap(), None);
        }
        for (wrong, why) in [
            ("{ tokens: 0 }", "`limits.tokens`: expected a whole number from 1"),
            ("{ tokens: 1.5 }", "whole number"),
            ("{ cost_usd: 0 }", "`limits.cost_usd`: with 0"),
            ("{ cost_usd: 0.0000001 }", "at most six decimals, found `0.0000001`"),
            ("{ cost_usd: -1 }", "found `-1`"),
            ("{ token: 5 }", "did you mean `tokens`"),
            ("5", "expected a map"),
        ] {
            let problem = limits(wrong).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("{FILE}:2:")) && problem.contains(why), "{wrong}: {problem}");
        }
    }

    #[test]
    fn a_template_that_speaks_of_the_task_is_given_it_beside_the_fields_of_its_picoschema() {
        let parsed = |body: &str| {
            let schema =
                parse(&format!("---\ninput: {{ schema: {{ topic: string }} }}\n---\n{body}\n")).unwrap().input_schema;
            schema.unwrap()["required"].clone()
        };
        assert_eq!(parsed("{{topic}}: {{userInput}}"), json!(["topic", "userInput"]));
        assert_eq!(parsed("{{topic}}"), json!(["topic"]));
    }

    #[test]
    fn keys_of_the_go_station_are_taken_up_or_said_to_have_no_effect() {
        let text = "---\nmetadata: { name: A, max_steps: 7, app: finops }\nmodel: gpt-5-mini\nsandbox: python\nschedule: { cron: \"0 0 7 * * *\" }\n---\n";
        let warnings = RefCell::default();
        let agent = parse_warned(&Name::new("log-reader").unwrap(), FILE, text.as_bytes(), &warnings).unwrap();
        assert_eq!((agent.max_steps, agent.model.as_deref(), agent.schedule), (Some(7), Some("gpt-5-mini"), None));
        let told: Vec<String> = warnings.into_inner().iter().map(ToString::to_string).collect();
        let starts =
            [":5:1: `schedule` has no effect here", ":4:1: `sandbox` has no effect here", ":2:36: `metadata.app`"];
        assert_eq!(told.len(), starts.len(), "{told:?}");
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(&format!("{FILE}{start}")), "{told}");
        }
        let steps = |steps: &str| parse(&format!("---\nmetadata: {{ max_steps: {steps} }}\n---\n"));
        assert_eq!(steps("\"8\"").unwrap().max_steps, Some(8));
        for odd in ["\"0\"", "\"+8\"", "\" 8\"", "\"\"", "eight"] {
            assert!(steps(odd).unwrap_err().message.contains("a whole number from 1"), "{odd}");
        }
        let both = parse("---\nmetadata: { max_steps: 7 }\nmax_steps: 3\n---\n").unwrap();
        assert_eq!(both.max_steps, Some(3), "the key of the front matter wins");
    }

    #[test]
    fn a_key_in_any_wrong_line_is_never_quoted() {
        const SECRET: &str = "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6";
        let mut refused = 0;
        for path in every_place_of(&KEYS) {
            for value in [SECRET.to_owned(), format!("[{SECRET}]"), format!("{{ {SECRET}: 1 }}")] {
                let yaml = path.iter().rev().fold(value, |inner, key| format!("{{ {key}: {inner} }}"));
                let text = format!("---\n{yaml}\n---\n{{{{role \"{SECRET}\"}}}}\n");
                let warnings = RefCell::default();
                let read = parse_warned(&Name::new("log-reader").unwrap(), FILE, text.as_bytes(), &warnings);
                let faulty = read.unwrap_err();
                assert!(!format!("{faulty:?}{warnings:?}").contains("Zm9v"), "{yaml}: {faulty:?}");
                refused += faulty.further.len();
            }
        }
        assert!(refused > 40, "{refused}");
        assert!(problem("---\ntimeout: 10 mn\n---\n").contains("`10 mn` is not a duration"));
    }

    #[test]
    fn child_agents_are_names_each_once() {
        assert!(problem("---\nagents:\n  - a\n  - a\n---\n").contains(":4:5: `agents.1`: `a` is there twice"));
        assert!(problem("---\nagents: [a, \"!\"]\n---\n").contains("`agents.1`"));
        assert!(problem("---\nagents: summarizer\n---\n").contains("a list of texts"));
    }

    #[test]
    fn a_plan_needs_a_turn_to_be_carried_out_and_an_output_schema_has_to_compile() {
        assert!(problem("---\nmax_steps: 1\nplan: true\n---\n").contains(":3:7: `plan`: "));
        assert!(problem("---\nplan: maybe\n---\n").contains("true or false"));
        let broken = problem("---\noutput:\n  schema: { type: strin }\n---\n");
        assert!(broken.contains(":3:") && broken.contains("`output.schema.type`"), "{broken}");
        let short = parse("---\noutput: { format: json, schema: \"string, the answer\" }\n---\n").unwrap();
        assert_eq!(short.output_schema, Some(json!({ "type": "string", "description": "the answer" })));
        let in_text = parse("---\noutput_schema: '{\"type\": \"object\"}'\n---\n").unwrap();
        assert_eq!(in_text.output_schema, Some(json!({ "type": "object" })));
        assert!(problem("---\noutput_schema: '{'\n---\n").contains(":2:16: `output_schema`: it is not valid JSON"));
        assert!(problem("---\noutput: { format: text, schema: string }\n---\n").contains("`output.format`"));
        assert!(problem("---\noutput: { schema: string }\noutput_schema: '{}'\n---\n").contains("keep one"));
        assert!(problem("---\noutput: { shema: {} }\n---\n").contains("did you mean `schema`"));
        for schema in ["", ", schema: string"] {
            let typo = problem(&format!("---\noutput: {{ format: jsno{schema} }}\n---\n"));
            assert!(typo.contains(":2:19: `output.format`: `jsno` is none of json, text"), "{typo}");
        }
    }

    #[test]
    fn an_output_may_hold_the_parts_of_its_schema_itself() {
        let read = |output: &str| parse(&format!("---\noutput: {output}\n---\n")).map(|agent| agent.output_schema);
        let object = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] });
        for kind in ["type: object, ", ""] {
            let written = format!("{{ {kind}properties: {{ a: {{ type: string }} }}, required: [a] }}");
            assert_eq!(read(&written).unwrap(), Some(object.clone()));
        }
        assert_eq!(read("{ format: json, type: string }").unwrap(), Some(json!({ "type": "string" })));
        for (output, told) in [
            ("{ type: objekt }", ":2:17: `output.type`: `objekt` is none of"),
            ("{ type: object, properties: { a: { type: strin } } }", "`output.properties.a.type`: it is no valid"),
            ("{ type: object, schema: string }", "keep one"),
            ("{ required: [a] }", "needs `properties`"),
            ("{ type: object, format: text }", "a text has no schema"),
        ] {
            let problem = read(output).unwrap_err().to_string();
            assert!(problem.contains(told), "{output}: {problem}");
        }
    }

    #[test]
    fn a_model_is_a_provider_and_a_model() {
        for bad in ["/gpt", "openai/", "\"openai/gpt 5\"", "\" openai/gpt\""] {
            let problem = parse(&format!("---\nmax_steps: 3\nmodel: {bad}\n---\n")).unwrap_err();
            assert!(problem.to_string().starts_with(&format!("{FILE}:3:8: `model`: ")), "{problem}");
            assert!(problem.hint.unwrap().contains("provider/model"));
        }
        assert_eq!(parse("---\nmodel: hub/org/m:1\n---\n").unwrap().model.as_deref(), Some("hub/org/m:1"));
    }

    #[test]
    fn a_broken_template_names_its_line_in_the_file() {
        let found = parse("---\nmodel: a/b\n---\nfine\n{{#if x}}\nnever closed\n").unwrap_err();
        assert!(found.line.is_some_and(|line| line >= 4), "{found}");
    }

    #[test]
    fn size_encoding_and_values_have_limits() {
        assert!(problem(&format!("---\n---\n{}", "x".repeat(MAX_PROMPT_BYTES))).contains("1 MiB"));
        let name = Name::new("x").unwrap();
        assert_eq!(parse_prompt(&name, FILE, b"---\nmodel: a/b\n\xff\n---\n").unwrap_err().line, Some(3));
        assert!(problem("---\nmax_steps: 0\n---\n").contains("from 1"));
        assert!(problem("---\ntimeout: soon\n---\n").contains("not a duration"));
        assert!(problem("---\ntools: [\"a b\"]\n---\n").contains("no tool name"));
        assert!(problem("---\nretry: { on_in_doubt: perhaps }\n---\n").contains("none of ask"));
        assert!(problem("---\nmodel: a/a\nmodel: b/b\n---\n").contains(":3:"));
    }
}
