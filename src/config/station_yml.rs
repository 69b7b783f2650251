//! Reads `station.yml` and the `STN_` variables that stand above it.

use super::fields::{Fields, Source};
use super::keys::{Form, Keys, key};
use super::placeholder::secret_reference;
use super::price;
use super::problem::FileProblem;
use super::revision::sha256_hex;
use super::settings::{
    EnvironmentSettings, LogFormat, ProviderApi, ProviderSettings, SecretOr, Settings, ThinkSetting,
};
use super::yaml;
use crate::domain::{EnvironmentKind, Name, nearest};
use crate::error::{Error, Result};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// How the text of a variable becomes a value.
#[derive(Debug, Clone, Copy)]
enum Spelling {
    Text,
    Number,
    Boolean,
    /// Separated by commas.
    List,
}

/// Every static key. Its variable is `STN_` and the path: `http.listen` is `STN_HTTP_LISTEN`.
const STATIC: [(&str, Spelling); 19] = [
    ("default_environment", Spelling::Text),
    ("http.listen", Spelling::Text),
    ("http.allowed_hosts", Spelling::List),
    ("http.allowed_origins", Spelling::List),
    ("http.behind_proxy", Spelling::Boolean),
    ("ssh.listen", Spelling::Text),
    ("log.level", Spelling::Text),
    ("log.format", Spelling::Text),
    ("log.file", Spelling::Text),
    ("models.default", Spelling::Text),
    ("models.detect", Spelling::Boolean),
    ("runs.workers", Spelling::Number),
    ("runs.queue_limit", Spelling::Number),
    ("runs.max_steps", Spelling::Number),
    ("runs.timeout", Spelling::Text),
    ("runs.tool_timeout", Spelling::Text),
    ("runs.result_bytes", Spelling::Number),
    ("runs.retention", Spelling::Text),
    ("watch", Spelling::Boolean),
];
/// Switches off `models.detect`, above everything else.
const NO_DETECT: &str = "STN_NO_DETECT";
/// Variables that are no settings of a file.
const OTHERS: [&str; 10] = [
    "STN_HOME",
    "STN_LAYOUT",
    "STN_URL",
    "STN_KEY",
    "STN_ENVIRONMENT",
    "STN_LOG",
    "STN_MASTER_KEY_FILE",
    "STN_PASSPHRASE_FILE",
    NO_DETECT,
    "STN_FORCE_NETWORK_HOME",
];
/// Keys of a provider that only Ollama's dialect has.
const OLLAMA_KEYS: [&str; 2] = ["context_tokens", "think"];
const MOST_CONTEXT: u32 = 100_000_000;
const MOST_OUTPUT: u32 = 10_000_000;
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const FORMATS: [&str; 2] = ["text", "json"];
const API_WORDS: [&str; 6] = [APIS[0].0, APIS[1].0, APIS[2].0, APIS[3].0, APIS[4].0, APIS[5].0];
const THINKING: [&str; 3] = ["low", "medium", "high"];
const KINDS: [&str; 3] = ["development", "staging", "production"];

/// The keys of the file.
pub(super) static KEYS: Keys = Keys {
    known: &[
        key("default_environment", Form::Name, "The environment of whoever names none."),
        key("http", Form::Map(&HTTP), "Where HTTP is served, and to whom."),
        key("log", Form::Map(&LOG), "What the station writes about itself."),
        key("models", Form::Map(&MODELS), "Which model answers where none is named."),
        key(
            "providers",
            Form::Named(Name::PATTERN, &PROVIDER),
            "Model providers, by the first part of their models' names.",
        ),
        key("runs", Form::Map(&RUNS), "What runs may use."),
        key("environments", Form::Named(Name::PATTERN, &ENVIRONMENT), "What is different in an environment."),
        key(
            "watch",
            Form::Flag,
            "Whether edits of an environment's files are taken up by themselves; on unless said otherwise.",
        ),
    ],
    later: &["ssh", "views"],
    idle: &[],
};

static HTTP: Keys = Keys {
    known: &[
        key("listen", Form::Text, "Address and port, such as 127.0.0.1:8080."),
        key("allowed_hosts", Form::Texts, "Values of Host that are answered, beside the loopback names."),
        key("allowed_origins", Form::Texts, "Values of Origin that are answered."),
    ],
    later: &["tls", "behind_proxy"],
    idle: &[],
};

static LOG: Keys = Keys::of(&[
    key("level", Form::OneOf(&LEVELS), "From which weight on."),
    key("format", Form::OneOf(&FORMATS), "One line of text or of JSON for each event."),
    key("file", Form::Text, "A file in the home's logs/; absent = stderr."),
]);

static MODELS: Keys = Keys {
    known: &[
        key("default", Form::Model, "provider/model, for agents and environments that name none."),
        key("detect", Form::Flag, "Whether a provider is looked for where none is configured."),
        key(
            "prices",
            Form::Named("^[^/\\s]+/\\S+$", &price::KEYS),
            "What models cost, by provider/model, in USD per million tokens; without a price the cost stays unknown.",
        ),
    ],
    later: &[],
    idle: &[],
};

static PROVIDER: Keys = Keys::of(&[
    key("api", Form::OneOf(&API_WORDS), "The dialect that it speaks."),
    key("base_url", Form::Text, "Its address: https, or http on this machine."),
    key("api_key", Form::Text, "Its key, or {{ secret.NAME }}."),
    key("headers", Form::TextMap, "Headers of every request to it."),
    key("timeout", Form::Duration, "The longest that one request may take, such as 2m."),
    key("max_output_tokens", Form::Count(MOST_OUTPUT), "The most tokens that one answer of its models may have."),
    key("context_tokens", Form::Count(MOST_CONTEXT), "With api: ollama: the tokens of context that are asked for."),
    key(
        "think",
        Form::FlagOr(&THINKING),
        "With api: ollama: whether the model thinks before it answers, and how much.",
    ),
]);

static RUNS: Keys = Keys {
    known: &[
        key("workers", Form::Count(1_000), "Runs that are executed at the same time."),
        key("queue_limit", Form::Count(10_000_000), "Runs that may wait."),
        key("max_steps", Form::Count(10_000), "Turns of a run whose agent says nothing."),
        key("timeout", Form::Duration, "The longest that a run may take whose agent says nothing."),
        key("tool_timeout", Form::Duration, "The longest that a tool call may take whose server says nothing."),
        key("result_bytes", Form::Count(64 * 1024 * 1024), "Bytes of a tool's result that a model is shown."),
    ],
    later: &["retention"],
    idle: &[],
};

static ENVIRONMENT: Keys = Keys {
    known: &[
        key(
            "kind",
            Form::OneOf(&KINDS),
            "What it is for, which decides what roles may do; absent = what its name says.",
        ),
        key("model", Form::Model, "provider/model, for agents that name none."),
        key("variables_from_process", Form::Texts, "Names of the process's variables that its files may use."),
        key(
            "auto_accept_commands",
            Form::Flag,
            "Whether new and changed commands of servers run without a person's word.",
        ),
    ],
    later: &["sandbox", "pin_tools", "approval", "budget"],
    idle: &[],
};

/// Reads the settings at `path`, which people know as `file`; without the file they are the defaults. `variables` is the process's
/// environment.
pub fn load_settings(path: &Path, file: &str, variables: &BTreeMap<String, String>) -> Result<Settings> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(misconfigured(Error::invalid_input(format!("`{file}` can't be read: {error}")).source(error)));
        }
    };
    let settings = parse_settings(file, text.as_deref().unwrap_or_default(), variables)
        .map_err(|problem| misconfigured(problem.into()))?;
    Ok(Settings { file_hash: text.map(|text| sha256_hex(text.as_bytes())), ..settings })
}

/// Whether the file at `path` isn't any more what `settings` were read from.
pub fn settings_changed(settings: &Settings, path: &Path) -> bool {
    let now = match std::fs::read(path) {
        Ok(bytes) => Some(sha256_hex(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => return true,
    };
    now != settings.file_hash
}

/// Refuses settings for an environment that isn't among `existing`: they would be settings that nobody follows. `file` is where they
/// stand.
pub fn check_environments(settings: &Settings, file: &str, existing: &[&str]) -> Result<()> {
    let unknown = settings.environments.iter().find(|(name, _)| !existing.contains(&name.as_str()));
    let Some((name, EnvironmentSettings { at, .. })) = unknown else { return Ok(()) };
    let guess = nearest(name.as_str(), existing.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
    let message = format!("`environments.{name}`: there is no such environment{}", guess.unwrap_or_default());
    let problem = Source::file(file).problem(*at, message);
    Err(misconfigured(problem.hint(format!("correct the name, or create the directory environments/{name}")).into()))
}

/// Asks for exit code 78 (`EX_CONFIG` of sysexits), beside the details that are there.
fn misconfigured(error: Error) -> Error {
    let mut details = error.report().details.unwrap_or_else(|| Value::Object(Map::new()));
    if let Some(details) = details.as_object_mut() {
        details.insert("exit_code".into(), 78.into());
    }
    error.details(details)
}

/// Reads the text of the file that people know as `file`, under the variables of the process's environment.
pub fn parse_settings(file: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Settings, FileProblem> {
    let source = Source::file(file);
    let yaml = yaml::parse(text).map_err(|syntax| source.syntax(syntax))?;
    let mut value = if yaml.value.is_null() { Value::Object(Map::new()) } else { yaml.value };
    let overrides = overlay(&mut value, variables)?;
    let source = Source { overrides: Some(&overrides), ..source };
    let mut settings = Settings::default();
    if let Some(root) = Fields::root(source, &value, &yaml.root)? {
        read(&root, &mut settings)?;
    }
    Ok(settings)
}

fn variable_of(path: &str) -> String {
    format!("STN_{}", path.to_uppercase().replace('.', "_"))
}

/// Puts the variables over the file's values; answers which paths they gave.
fn overlay(value: &mut Value, variables: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, FileProblem> {
    let mut given = BTreeMap::new();
    for (name, text) in variables.iter().filter(|(name, _)| name.starts_with("STN_") && !is_no_setting(name)) {
        let Some((path, form)) = STATIC.iter().find(|(path, _)| variable_of(path) == *name) else {
            return Err(unknown_variable(name));
        };
        // Set but empty is how shells and unit files unset a variable.
        if text.is_empty() {
            continue;
        }
        let new = read_variable(text, *form)
            .ok_or_else(|| FileProblem::new(&in_variable(name), wrong_form(path, text, *form)))?;
        put(value, path, new);
        given.insert((*path).to_owned(), name.clone());
    }
    overlay_others(value, variables, &mut given)?;
    Ok(given)
}

/// The variables that are no path of the file and count all the same.
fn overlay_others(
    value: &mut Value,
    variables: &BTreeMap<String, String>,
    given: &mut BTreeMap<String, String>,
) -> Result<(), FileProblem> {
    let set = |name: &str| variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    match set(NO_DETECT) {
        None | Some("0" | "false") => {}
        Some("1" | "true") => {
            put(value, "models.detect", Value::Bool(false));
            given.insert("models.detect".to_owned(), NO_DETECT.to_owned());
        }
        Some(other) => {
            let reason = format!("expected 1 or 0, found `{}`", other.escape_debug());
            return Err(FileProblem::new(&in_variable(NO_DETECT), reason));
        }
    }
    Ok(())
}

fn in_variable(name: &str) -> String {
    format!("environment variable {name}")
}

fn is_no_setting(variable: &str) -> bool {
    #[cfg(feature = "failpoints")]
    if variable == crate::failpoint::VARIABLE {
        return true;
    }
    OTHERS.contains(&variable)
}

fn unknown_variable(name: &str) -> FileProblem {
    let known: Vec<String> = STATIC.iter().map(|(path, _)| variable_of(path)).collect();
    let all = known.iter().map(String::as_str).chain(OTHERS);
    let guess = nearest(name, all).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    FileProblem::new(&in_variable(name), format!("no setting has this name{guess}"))
}

fn read_variable(text: &str, form: Spelling) -> Option<Value> {
    match form {
        Spelling::Text => Some(Value::from(text)),
        Spelling::Number => text.trim().parse::<u64>().ok().map(Value::from),
        Spelling::Boolean => text.trim().parse::<bool>().ok().map(Value::from),
        Spelling::List => Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
    }
}

fn wrong_form(path: &str, text: &str, form: Spelling) -> String {
    let expected = if matches!(form, Spelling::Number) { "a whole number" } else { "true or false" };
    format!("`{path}`: expected {expected}, found `{text}`")
}

/// Sets the value at a path of two keys at most. A file that has something else than a map there is told so when it is read.
fn put(root: &mut Value, path: &str, new: Value) {
    let (section, key) = path.split_once('.').map_or((None, path), |(section, key)| (Some(section), key));
    let map = match (root.as_object_mut(), section) {
        (Some(root), None) => Some(root),
        (Some(root), Some(section)) => {
            let inner = root.entry(section).or_insert(Value::Null);
            if inner.is_null() {
                *inner = Value::Object(Map::new());
            }
            inner.as_object_mut()
        }
        (None, _) => None,
    };
    if let Some(map) = map {
        map.insert(key.to_owned(), new);
    }
}

fn read(root: &Fields<'_>, settings: &mut Settings) -> Result<(), FileProblem> {
    root.check(&KEYS)?;
    if let Some(text) = root.text("default_environment")? {
        let name = Name::new(&text).map_err(|invalid| root.problem("default_environment", invalid))?;
        settings.default_environment = Some(name);
    }
    read_http(root, settings)?;
    read_log(root, settings)?;
    read_models(root, settings)?;
    read_runs(root, settings)?;
    settings.watch = root.boolean("watch")?.unwrap_or(settings.watch);
    for (name, fields) in named(root, "providers")? {
        settings.providers.insert(name.to_string(), provider(&name, &fields)?);
    }
    for (name, fields) in named(root, "environments")? {
        let at = root.map("environments")?.and_then(|all| all.key_at(name.as_str()));
        settings.environments.insert(name, EnvironmentSettings { at, ..environment(&fields)? });
    }
    Ok(())
}

fn read_http(root: &Fields<'_>, settings: &mut Settings) -> Result<(), FileProblem> {
    let Some(http) = root.map("http")? else { return Ok(()) };
    http.check(&HTTP)?;
    if let Some(text) = http.text("listen")? {
        settings.http.listen = text
            .parse()
            .map_err(|_| http.problem("listen", format!("`{text}` is no address such as 127.0.0.1:8080")))?;
    }
    settings.http.allowed_hosts = http.texts("allowed_hosts")?;
    settings.http.allowed_origins = http.texts("allowed_origins")?;
    Ok(())
}

fn read_log(root: &Fields<'_>, settings: &mut Settings) -> Result<(), FileProblem> {
    let Some(log) = root.map("log")? else { return Ok(()) };
    log.check(&LOG)?;
    if let Some(level) = log.text("level")? {
        settings.log.level = one_of(&log, "level", &level, &LEVELS)?.to_owned();
    }
    if let Some(format) = log.text("format")? {
        let is_json = one_of(&log, "format", &format, &FORMATS)? == "json";
        settings.log.format = if is_json { LogFormat::Json } else { LogFormat::Text };
    }
    settings.log.file = log.text("file")?.map(Into::into);
    Ok(())
}

fn read_models(root: &Fields<'_>, settings: &mut Settings) -> Result<(), FileProblem> {
    let Some(models) = root.map("models")? else { return Ok(()) };
    models.check(&MODELS)?;
    settings.models.default = models.model("default")?;
    settings.models.prices = price::prices(&models)?;
    settings.models.detect = models.boolean("detect")?.unwrap_or(settings.models.detect);
    Ok(())
}

fn read_runs(root: &Fields<'_>, settings: &mut Settings) -> Result<(), FileProblem> {
    let Some(fields) = root.map("runs")? else { return Ok(()) };
    fields.check(&RUNS)?;
    let runs = &mut settings.runs;
    runs.workers = fields.count("workers", 1_000)?.unwrap_or(runs.workers);
    runs.queue_limit = fields.count("queue_limit", 10_000_000)?.unwrap_or(runs.queue_limit);
    runs.max_steps = fields.count("max_steps", 10_000)?.unwrap_or(runs.max_steps);
    runs.timeout_ms = fields.duration_ms("timeout")?.unwrap_or(runs.timeout_ms);
    runs.tool_timeout_ms = fields.duration_ms("tool_timeout")?.unwrap_or(runs.tool_timeout_ms);
    runs.result_bytes = fields.count("result_bytes", 64 * 1024 * 1024)?.unwrap_or(runs.result_bytes);
    Ok(())
}

/// The maps under `key`, by their checked names; one that says nothing is left out.
fn named<'a>(root: &Fields<'a>, key: &str) -> Result<Vec<(Name, Fields<'a>)>, FileProblem> {
    let Some(outer) = root.map(key)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for text in outer.keys() {
        let name = Name::new(text).map_err(|invalid| outer.key_problem(text, invalid.to_string()))?;
        if let Some(fields) = outer.map(text)? {
            found.push((name, fields));
        }
    }
    Ok(found)
}

fn provider(name: &Name, fields: &Fields<'_>) -> Result<ProviderSettings, FileProblem> {
    fields.check(&PROVIDER)?;
    let api = api(name, fields)?;
    if let Some(key) = OLLAMA_KEYS.iter().find(|key| api != ProviderApi::Ollama && fields.get(key).is_some()) {
        return Err(fields.problem(key, "only a provider with `api: ollama` has it"));
    }
    if api == ProviderApi::Offline && fields.get("max_output_tokens").is_some() {
        return Err(fields.problem("max_output_tokens", "a provider with `api: offline` doesn't have it"));
    }
    let base_url = fields.text("base_url")?;
    if let Some(url) = &base_url {
        fields.outbound("base_url", url)?;
    }
    let secret = |key: &str, text: String| secret_or(fields, key, text);
    Ok(ProviderSettings {
        api,
        base_url,
        api_key: fields.text("api_key")?.map(|text| secret("api_key", text)).transpose()?,
        headers: fields
            .text_map("headers")?
            .into_iter()
            .map(|(name, text)| Ok((name, secret("headers", text)?)))
            .collect::<Result<_, FileProblem>>()?,
        timeout_ms: fields.duration_ms("timeout")?,
        max_output_tokens: fields.count("max_output_tokens", MOST_OUTPUT)?,
        context_tokens: fields.count("context_tokens", MOST_CONTEXT)?,
        think: think(fields)?,
    })
}

fn think(fields: &Fields<'_>) -> Result<Option<ThinkSetting>, FileProblem> {
    if let Some(Value::Bool(_)) | None = fields.get("think") {
        let switch = |on| if on { ThinkSetting::On } else { ThinkSetting::Off };
        return Ok(fields.boolean("think")?.map(switch));
    }
    let text = fields.text("think")?.unwrap_or_default();
    Ok(Some(match one_of(fields, "think", &text, &THINKING)? {
        "low" => ThinkSetting::Low,
        "medium" => ThinkSetting::Medium,
        _ => ThinkSetting::High,
    }))
}

/// The dialects by their words in the file.
const APIS: [(&str, ProviderApi); 6] = [
    ("openai_responses", ProviderApi::OpenaiResponses),
    ("openai_chat", ProviderApi::OpenaiChat),
    ("anthropic", ProviderApi::Anthropic),
    ("gemini", ProviderApi::Gemini),
    ("ollama", ProviderApi::Ollama),
    ("offline", ProviderApi::Offline),
];

/// The dialect; a provider that is called like one of the well-known ones speaks theirs unless it says otherwise.
fn api(name: &Name, fields: &Fields<'_>) -> Result<ProviderApi, FileProblem> {
    let known = APIS.map(|(word, _)| word);
    let Some(text) = fields.text("api")? else {
        return match name.as_str() {
            "openai" => Ok(ProviderApi::Openai),
            "anthropic" => Ok(ProviderApi::Anthropic),
            "gemini" => Ok(ProviderApi::Gemini),
            "ollama" => Ok(ProviderApi::Ollama),
            "llama-server" | "lm-studio" => Ok(ProviderApi::OpenaiChat),
            _ => Err(fields.problem("api", format!("a provider needs one of {}", known.join(", ")))),
        };
    };
    let word = one_of(fields, "api", &text, &known)?;
    let found = APIS.into_iter().find(|(known, _)| *known == word);
    found.map(|(_, api)| api).ok_or_else(|| fields.problem("api", "is not known"))
}

fn secret_or(fields: &Fields<'_>, key: &str, text: String) -> Result<SecretOr, FileProblem> {
    if let Some(name) = secret_reference(&text) {
        return Ok(SecretOr::Reference(name.to_owned()));
    }
    if text.contains("{{") {
        return Err(fields.problem(key, "write the value itself, or nothing but `{{ secret.NAME }}`"));
    }
    Ok(SecretOr::Plain(SecretString::from(text)))
}

fn environment(fields: &Fields<'_>) -> Result<EnvironmentSettings, FileProblem> {
    fields.check(&ENVIRONMENT)?;
    Ok(EnvironmentSettings {
        kind: fields.text("kind")?.map(|text| kind(fields, &text)).transpose()?,
        model: fields.model("model")?,
        variables_from_process: fields.texts("variables_from_process")?,
        auto_accept_commands: fields.boolean("auto_accept_commands")?,
        at: None,
    })
}

fn kind(fields: &Fields<'_>, text: &str) -> Result<EnvironmentKind, FileProblem> {
    let words = EnvironmentKind::ALL.map(EnvironmentKind::as_str);
    let word = one_of(fields, "kind", text, &words)?;
    let found = EnvironmentKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    Ok(found.unwrap_or(EnvironmentKind::Production))
}

fn one_of<'a>(fields: &Fields<'_>, key: &str, text: &str, known: &[&'a str]) -> Result<&'a str, FileProblem> {
    match known.iter().find(|word| **word == text) {
        Some(word) => Ok(word),
        None => {
            let guess = nearest(text, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            let reason = format!("`{text}` is none of {}{}", known.join(", "), guess.unwrap_or_default());
            Err(fields.problem(key, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Price;
    use secrecy::ExposeSecret;

    fn settings(text: &str, variables: &[(&str, &str)]) -> Result<Settings, FileProblem> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse_settings("station.yml", text, &variables)
    }

    #[test]
    fn every_static_key_in_force_has_its_variable() {
        let mut paths = Vec::new();
        for key in KEYS.known {
            match key.form {
                Form::Named(..) => {}
                Form::Map(inner) => {
                    let plain = inner.known.iter().filter(|key| !matches!(key.form, Form::Named(..)));
                    paths.extend(plain.map(|inner| format!("{}.{}", key.name, inner.name)));
                }
                _ => paths.push(key.name.to_owned()),
            }
        }
        let missing: Vec<_> = paths.iter().filter(|path| !STATIC.iter().any(|(known, _)| known == path)).collect();
        assert!(paths.len() > 10 && missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn without_a_file_the_documented_defaults_hold() {
        let found = settings("", &[("PATH", "/bin"), ("STN_HOME", "/x")]).unwrap();
        assert_eq!(found.http.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((found.runs.workers, found.runs.queue_limit, found.runs.max_steps), (8, 10_000, 25));
        assert_eq!(
            (found.runs.timeout_ms, found.runs.tool_timeout_ms, found.runs.result_bytes),
            (600_000, 60_000, 32_768)
        );
    }

    #[test]
    fn every_section_in_force_is_read() {
        let text = r#"default_environment: staging
http: { listen: "0.0.0.0:9000", allowed_hosts: [a.example] }
log: { level: debug, format: json, file: logs/a.log }
models: { default: openai/x, detect: false }
providers:
  openai: { api: openai_chat, api_key: "{{ secret.OPENAI }}", headers: { X-Org: abc }, timeout: 2m }
  local: { api: offline }
runs: { workers: 2, timeout: 1h }
environments:
  staging: { kind: production, model: local/a, variables_from_process: [TOKEN], auto_accept_commands: true }
  production:
"#;
        let found = settings(text, &[]).unwrap();
        assert_eq!(found.default_environment, Some(Name::new("staging").unwrap()));
        assert_eq!((found.http.listen.port(), found.http.allowed_hosts.len()), (9000, 1));
        assert_eq!((found.log.level.as_str(), found.log.format), ("debug", LogFormat::Json));
        let openai = &found.providers["openai"];
        assert!(matches!(&openai.api_key, Some(SecretOr::Reference(name)) if name == "OPENAI"));
        assert!(matches!(&openai.headers["X-Org"], SecretOr::Plain(text) if text.expose_secret() == "abc"));
        assert_eq!((openai.timeout_ms, found.runs.timeout_ms), (Some(120_000), 3_600_000));
        assert_eq!(found.environment(&Name::new("staging").unwrap()).auto_accept_commands, Some(true));
        assert_eq!(found.environment(&Name::new("production").unwrap()).auto_accept_commands, None);
        let kind = |name: &str| found.kind(&Name::new(name).unwrap()).as_str();
        assert_eq!((kind("staging"), kind("development"), kind("qa")), ("production", "development", "production"));
    }

    #[test]
    fn an_edit_of_the_file_is_noticed_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("station.yml");
        let read = || load_settings(&path, "station.yml", &BTreeMap::new()).unwrap();
        let without = read();
        assert!(!settings_changed(&without, &path));
        std::fs::write(&path, "runs: { workers: 2 }\n").unwrap();
        let with = read();
        assert!(settings_changed(&without, &path) && !settings_changed(&with, &path));
        std::fs::write(&path, "runs: { workers: 3 }\n").unwrap();
        assert!(settings_changed(&with, &path));
    }

    #[test]
    fn a_well_known_provider_needs_nothing_but_its_key() {
        let text =
            "providers: { openai: { api_key: sk-a }, anthropic: { api_key: sk-b }, gemini: { api_key: sk-c } }\n";
        let found = settings(text, &[]).unwrap();
        let api = |name: &str| found.providers[name].api;
        assert_eq!((api("openai"), api("anthropic")), (ProviderApi::Openai, ProviderApi::Anthropic));
        assert_eq!(api("gemini"), ProviderApi::Gemini);
        let other = settings("providers: { mistral: { api_key: sk-c } }\n", &[]).unwrap_err();
        assert!(other.message.contains("a provider needs one of openai_responses"), "{other}");
    }

    #[test]
    fn ollama_is_told_how_much_context_to_take_and_whether_to_think() {
        let found = settings(
            "providers: { ollama: { context_tokens: 65536, think: false }, b: { api: ollama, think: high } }",
            &[],
        );
        let providers = found.unwrap().providers;
        let of = |name: &str| (providers[name].api, providers[name].context_tokens, providers[name].think);
        assert_eq!(of("ollama"), (ProviderApi::Ollama, Some(65_536), Some(ThinkSetting::Off)));
        assert_eq!(of("b"), (ProviderApi::Ollama, None, Some(ThinkSetting::High)));
    }

    #[test]
    fn prices_are_dollars_per_million_tokens() {
        let text = "models:\n  prices:\n    a/b: { input: 0.75, cached_input: \"0.075\", output: 4.5 }\n    a/c:d: { input: 3, output: 15 }\n";
        let found = settings(text, &[]).unwrap().models.prices;
        assert_eq!(found["a/b"], Price { input: 750_000, cached_input: 75_000, output: 4_500_000 });
        assert_eq!(found["a/c:d"], Price { input: 3_000_000, cached_input: 3_000_000, output: 15_000_000 });
    }

    #[test]
    fn a_variable_stands_above_the_file() {
        let variables = [
            ("STN_HTTP_LISTEN", "127.0.0.1:1"),
            ("STN_RUNS_WORKERS", "3"),
            ("STN_HTTP_ALLOWED_HOSTS", "a, b"),
            ("STN_MODELS_DETECT", ""),
        ];
        let found = settings("http: { listen: \"127.0.0.1:2\" }\nmodels: { detect: false }\n", &variables).unwrap();
        assert_eq!((found.http.listen.port(), found.runs.workers, found.models.detect), (1, 3, false));
        assert_eq!(found.http.allowed_hosts, ["a", "b"]);
    }

    #[test]
    fn a_bad_or_unknown_variable_is_named() {
        let problem = settings("", &[("STN_HTTP_LISTENS", "x")]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "environment variable STN_HTTP_LISTENS: no setting has this name; did you mean STN_HTTP_LISTEN?"
        );
        let problem = settings("http: { listen: \"127.0.0.1:2\" }", &[("STN_HTTP_LISTEN", "nowhere")]).unwrap_err();
        assert_eq!((problem.file.as_str(), problem.line), ("environment variable STN_HTTP_LISTEN", None));
        assert!(settings("", &[("STN_RUNS_WORKERS", "many")]).unwrap_err().message.contains("whole number"));
    }

    #[test]
    fn the_short_switch_against_detection_stands_above_the_setting() {
        let detects = |text: &str, value: &str| {
            settings(text, &[("STN_MODELS_DETECT", "true"), ("STN_NO_DETECT", value)]).map(|found| found.models.detect)
        };
        for (value, expected) in [("1", false), ("true", false), ("0", true), ("", true)] {
            assert_eq!(detects("models: { detect: true }", value), Ok(expected), "{value}");
        }
        let problem = detects("", "perhaps").unwrap_err();
        assert!(problem.to_string().contains("STN_NO_DETECT: expected 1 or 0, found `perhaps`"), "{problem}");
    }

    #[test]
    fn settings_of_an_environment_that_does_not_exist_are_refused_with_their_line() {
        let text = "environments:\n  staging:\n    model: a/b\n  prodution:\n    auto_accept_commands: false\n";
        let found = settings(text, &[]).unwrap();
        let refused = check_environments(&found, "station.yml", &["production", "staging"]).unwrap_err();
        assert_eq!(
            refused.message(),
            "station.yml:4:3: `environments.prodution`: there is no such environment; did you mean `production`?"
        );
        assert_eq!(refused.report().details.unwrap()["exit_code"], 78);
        assert!(check_environments(&found, "station.yml", &["prodution", "staging"]).is_ok());
    }

    #[test]
    fn unknown_keys_and_what_comes_later_are_errors_with_their_line() {
        for (text, part) in [
            ("\nhtp: {}\n", "unknown key `htp`; did you mean `http`?"),
            ("\nruns: { worker: 1 }\n", "did you mean `workers`?"),
            ("\nssh: { listen: \"0.0.0.0:2222\" }\n", "`ssh` is not supported by this version"),
            ("http:\n  tls: { cert: a, key: b }\n", "`http.tls` is not supported"),
            ("http:\n  behind_proxy: true\n", "`http.behind_proxy` is not supported"),
            ("models:\n  prices: { a: { input: 1, output: 1 } }\n", "`models.prices`: `a` names no provider and model"),
            ("models:\n  prices: { a/b: 1 }\n", "expected a map"),
            ("models:\n  prices: { a/b: { input: 1 } }\n", "`output` is missing"),
            ("models:\n  prices: { a/b: { input: -1, output: 1 } }\n", "expected USD per million tokens"),
            (
                "models:\n  prices: { a/b: { input: 1, output: 1, cache: 1 } }\n",
                "unknown key `models.prices.a/b.cache`",
            ),
            (
                "providers:\n  o: { api: anthropic, context_tokens: 4096 }\n",
                "only a provider with `api: ollama` has it",
            ),
            (
                "providers:\n  o: { api: offline, max_output_tokens: 100 }\n",
                "a provider with `api: offline` doesn't have it",
            ),
            ("providers:\n  o: { api: anthropic, max_output_tokens: 0 }\n", "a whole number from 1"),
            ("providers:\n  o: { api: ollama, think: much }\n", "is none of low, medium, high"),
            ("providers:\n  o: { api: ollama, context_tokens: 0 }\n", "a whole number from 1"),
            ("environments:\n  a: { sandbox: strict }\n", "`environments.a.sandbox` is not supported"),
            (
                "providers:\n  g: { api: openai }\n",
                "is none of openai_responses, openai_chat, anthropic, gemini, ollama, offline",
            ),
            ("providers:\n  g: { api_key: sk-a }\n", "a provider needs one of openai_responses"),
            ("providers:\n  o: { api: anthropic, base_url: \"http://h/v1\" }\n", "`http://h` is plain http"),
            ("providers:\n  o: { api: anthropic, base_url: h }\n", "no http or https URL"),
            ("\nviews: { a: [b] }\n", "`views` is not supported"),
            ("runs:\n  retention: 30d\n", "`runs.retention` is not supported"),
            ("log:\n  level: loud\n", "is none of error"),
            ("models:\n  default: gpt\n", "`models.default`: `gpt` names no provider and model"),
            (
                "environments:\n  a: { kind: prodution }\n",
                "is none of development, staging, production; did you mean `production`?",
            ),
            ("environments:\n  a: { model: gpt }\n", "`environments.a.model`: `gpt` names no provider"),
            ("environments:\n  \"Bad Name\": { model: a/b }\n", "not a valid name"),
            ("providers:\n  o: { api: openai_chat, api_key: \"x {{ secret.A }}\" }\n", "nothing but"),
        ] {
            let problem = settings(text, &[]).unwrap_err();
            assert!(problem.message.contains(part) && problem.line == Some(2), "{text}: {problem}");
        }
    }

    #[test]
    fn keys_never_show_in_debug_output() {
        let found = settings("providers: { o: { api: openai_chat, api_key: sk-very-secret } }", &[]).unwrap();
        assert!(!format!("{found:?}").contains("sk-very-secret"));
    }
}
