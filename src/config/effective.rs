//! The settings that are in force, key by key, and where each of them comes from. Credentials are not shown, references to them are.

use super::duration::duration_text;
use super::keys::{Form, Keys};
use super::node::Node;
use super::settings::{
    EnvironmentSettings, LogFormat, Origin, ProviderApi, ProviderSettings, SecretOr, Settings, ThinkSetting,
};
use super::station_yml::keys::{APIS, KEYS};
use crate::domain::{EnvironmentKind, Name, Price};
use crate::net::without_credentials;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What stands for a value that nobody is shown.
const HIDDEN: &str = "[not shown]";

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// Nobody says it.
    Default,
    /// `station.yml`.
    File,
    /// A variable of the process's environment, which stands above the file.
    Variable,
    /// A flag of the command that started the station, which stands above both.
    Flag,
}

/// One key of `station.yml`, as it is in force.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EffectiveKey {
    /// As a dotted path: `http.listen`, `environments.staging.model`.
    pub key: String,
    /// What is in force, as the file would say it; null where nothing is. Credentials are `[not shown]`.
    pub value: Value,
    pub source: ValueSource,
    /// With source `file`: the file, and the line of the key in it.
    pub file: Option<String>,
    pub line: Option<usize>,
    /// With source `variable`: its name.
    pub variable: Option<String>,
    /// What the key is for.
    pub about: &'static str,
}

/// Every key, in the order of the tables of keys; of providers, environments and prices those that there are. `default_environment` is the
/// one that counts, `file` where the settings stand, `environments` those that exist.
pub fn effective(
    settings: &Settings,
    file: &str,
    default_environment: &Name,
    environments: &[Name],
) -> Vec<EffectiveKey> {
    let mut found = Vec::new();
    let values = values(settings, default_environment, environments);
    collect(&KEYS, &values, "", &mut |key, value, about| {
        let (mut source, mut line, mut variable) = (ValueSource::Default, None, None);
        match settings.origins.get(&key) {
            Some(Origin::Line(at)) => (source, line) = (ValueSource::File, Some(*at)),
            Some(Origin::Variable(name)) => (source, variable) = (ValueSource::Variable, Some(name.clone())),
            Some(Origin::Flag(_)) => source = ValueSource::Flag,
            None => {}
        }
        let file = line.map(|_| file.to_owned());
        found.push(EffectiveKey { key, value: value.clone(), source, file, line, variable, about });
    });
    found
}

/// Calls `tell` with every key of `values` that is no map of keys itself.
fn collect(keys: &Keys, values: &Value, path: &str, tell: &mut impl FnMut(String, &Value, &'static str)) {
    for key in keys.known {
        let at = join(path, key.name);
        let value = values.get(key.name).unwrap_or(&Value::Null);
        match key.form {
            Form::Map(inner) => collect(inner, value, &at, tell),
            Form::Named(_, inner) => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    collect(inner, value, &join(&at, name), tell);
                }
            }
            _ => tell(at, value, key.about),
        }
    }
}

/// Which keys of the parsed file, with its variables put over it, say something, and where. A key that came in through an alias has the
/// place of the map that it came into.
pub(super) fn origins(value: &Value, root: &Node, overrides: &BTreeMap<String, String>) -> BTreeMap<String, Origin> {
    let mut found = BTreeMap::new();
    place(&KEYS, value, Some(root), "", root.at.line, &mut |path, line| {
        let origin = overrides.get(&path).map_or(Origin::Line(line), |variable| Origin::Variable(variable.clone()));
        found.insert(path, origin);
    });
    found
}

fn place(
    keys: &Keys,
    value: &Value,
    node: Option<&Node>,
    path: &str,
    line: usize,
    tell: &mut impl FnMut(String, usize),
) {
    for key in keys.known {
        let Some(value) = value.get(key.name).filter(|value| !value.is_null()) else { continue };
        let entry = node.and_then(|node| node.entry(key.name));
        let line = entry.map_or(line, |entry| entry.key_at.line);
        let (node, at) = (entry.map(|entry| &entry.value), join(path, key.name));
        match key.form {
            Form::Map(inner) => place(inner, value, node, &at, line, tell),
            Form::Named(_, inner) => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let entry = node.and_then(|node| node.entry(name));
                    let line = entry.map_or(line, |entry| entry.key_at.line);
                    place(inner, value, entry.map(|entry| &entry.value), &join(&at, name), line, tell);
                }
            }
            _ => tell(at, line),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The settings in the shape of the file.
fn values(settings: &Settings, default_environment: &Name, environments: &[Name]) -> Value {
    let Settings { http, log, models, runs, .. } = settings;
    let providers = settings.providers.iter().map(|(name, provider)| (name.clone(), of_provider(provider)));
    let environments = environments
        .iter()
        .map(|name| (name.to_string(), of_environment(settings.kind(name), settings.environment(name))));
    json!({
        "default_environment": default_environment,
        "http": {
            "listen": http.listen.to_string(),
            "allowed_hosts": http.allowed_hosts,
            "allowed_origins": http.allowed_origins,
            "behind_proxy": http.behind_proxy,
        },
        "log": {
            "level": log.level,
            "format": match log.format { LogFormat::Text => "text", LogFormat::Json => "json" },
            "file": log.file.as_ref().map(|file| file.display().to_string()),
        },
        "models": {
            "default": models.default,
            "detect": models.detect,
            "prices": models.prices.iter().map(|(name, price)| (name.clone(), of_price(price))).collect::<Map<_, _>>(),
        },
        "providers": providers.collect::<Map<_, _>>(),
        "runs": {
            "workers": runs.workers,
            "queue_limit": runs.queue_limit,
            "max_steps": runs.max_steps,
            "timeout": duration_text(runs.timeout_ms),
            "tool_timeout": duration_text(runs.tool_timeout_ms),
            "result_bytes": runs.result_bytes,
        },
        "environments": environments.collect::<Map<_, _>>(),
        "watch": settings.watch,
    })
}

fn of_provider(provider: &ProviderSettings) -> Value {
    // The one that asks either way, by its model, has no word of its own.
    let api = APIS.iter().find(|(_, api)| *api == provider.api && *api != ProviderApi::Openai).map(|(word, _)| *word);
    let shown = |value: &SecretOr| match value {
        SecretOr::Plain(_) => HIDDEN.to_owned(),
        SecretOr::Reference(name) => format!("{{{{ secret.{name} }}}}"),
    };
    json!({
        "api": api,
        "base_url": provider.base_url.as_deref().map(without_credentials),
        "api_key": provider.api_key.as_ref().map(shown),
        "headers": provider.headers.iter().map(|(name, value)| (name, shown(value))).collect::<BTreeMap<_, _>>(),
        "timeout": provider.timeout_ms.map(duration_text),
        "max_output_tokens": provider.max_output_tokens,
        "context_tokens": provider.context_tokens,
        "think": provider.think.map(|think| match think {
            ThinkSetting::On => json!(true),
            ThinkSetting::Off => json!(false),
            ThinkSetting::Low => json!("low"),
            ThinkSetting::Medium => json!("medium"),
            ThinkSetting::High => json!("high"),
        }),
    })
}

fn of_environment(kind: EnvironmentKind, settings: EnvironmentSettings) -> Value {
    json!({
        "kind": kind.as_str(),
        "model": settings.model,
        "variables_from_process": settings.variables_from_process,
        // As `Station::auto_accepts_commands` has it.
        "auto_accept_commands": settings.auto_accept_commands.unwrap_or(kind == EnvironmentKind::Development),
    })
}

fn of_price(price: &Price) -> Value {
    let usd = |micros: u64| {
        let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    json!({ "input": usd(price.input), "cached_input": usd(price.cached_input), "output": usd(price.output) })
}

#[cfg(test)]
mod tests {
    use super::super::parse_settings;
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn all(text: &str, variables: &[(&str, &str)]) -> Vec<EffectiveKey> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let settings = parse_settings("station.yml", text, &variables).unwrap();
        effective(&settings, "station.yml", &name("development"), &[name("development"), name("qa")])
    }

    fn one(all: &[EffectiveKey], key: &str) -> EffectiveKey {
        all.iter().find(|found| found.key == key).unwrap_or_else(|| panic!("no `{key}` in {all:#?}")).clone()
    }

    const FULL: &str = r#"default_environment: development
http: { listen: "127.0.0.1:9000", allowed_hosts: [a.example], allowed_origins: ["https://a.example"], behind_proxy: true }
log: { level: debug, format: json, file: a.log }
models:
  default: openai/x
  detect: false
  prices: { a/b.c: { input: 0.75, output: 15 } }
providers:
  local:
    api: ollama
    base_url: "http://me:pass-1234@127.0.0.1:1/v1?key=pass-1234"
    api_key: pass-1234
    headers: { A: pass-1234, B: "{{ secret.B_KEY }}" }
    timeout: 90s
    max_output_tokens: 100
    context_tokens: 4096
    think: high
runs: { workers: 2, queue_limit: 3, max_steps: 4, timeout: 1h, tool_timeout: 30s, result_bytes: 5 }
environments:
  qa: { kind: staging, model: openai/y, variables_from_process: [A], auto_accept_commands: true }
watch: false
"#;

    #[test]
    fn every_key_of_the_tables_is_there_with_what_the_file_says_and_its_line() {
        let found = all(FULL, &[]);
        let unsaid: Vec<&str> = found
            .iter()
            .filter(|key| key.source == ValueSource::Default && !key.key.starts_with("environments.development"))
            .map(|key| key.key.as_str())
            .collect();
        assert_eq!(unsaid, ["models.prices.a/b.c.cached_input"]);
        assert!(
            found.iter().all(|key| !key.value.is_null() || key.key == "environments.development.model"),
            "{found:#?}"
        );
        assert_eq!((one(&found, "runs.timeout").value, one(&found, "runs.timeout").line), (json!("1h"), Some(18)));
        assert_eq!(one(&found, "models.prices.a/b.c.input").value, "0.75");
        assert_eq!(one(&found, "providers.local.think").line, Some(17));
        assert_eq!(one(&found, "environments.qa.kind").file.as_deref(), Some("station.yml"));
    }

    #[test]
    fn credentials_are_not_shown_and_references_are() {
        let found = all(FULL, &[]);
        assert!(!format!("{found:?}").contains("pass-1234"), "{found:#?}");
        assert_eq!(one(&found, "providers.local.headers").value, json!({ "A": HIDDEN, "B": "{{ secret.B_KEY }}" }));
        assert_eq!(one(&found, "providers.local.api_key").value, HIDDEN);
        assert_eq!(one(&found, "providers.local.base_url").value, "http://[not shown]@127.0.0.1:1/v1?[not shown]");
    }

    #[test]
    fn a_variable_stands_above_the_file_and_what_nobody_says_is_the_default() {
        let variables = [("STN_HTTP_LISTEN", "127.0.0.1:1"), ("STN_NO_DETECT", "1")];
        let found = all("http: { listen: \"127.0.0.1:2\" }\n", &variables);
        let listen = one(&found, "http.listen");
        assert_eq!((listen.value, listen.source), (json!("127.0.0.1:1"), ValueSource::Variable));
        assert_eq!(listen.variable.as_deref(), Some("STN_HTTP_LISTEN"));
        assert_eq!(one(&found, "models.detect").variable.as_deref(), Some("STN_NO_DETECT"));
        let found =
            all("log: { level: debug }\n", &[("STN_LOG_LEVEL", "warn"), ("STN_LOG", "info,station::store=trace")]);
        let level = one(&found, "log.level");
        assert_eq!((level.value, level.variable.as_deref()), (json!("info,station::store=trace"), Some("STN_LOG")));
        let unset = one(&all("log: { level: debug }\n", &[("STN_LOG", "")]), "log.level");
        assert_eq!((unset.value, unset.source), (json!("debug"), ValueSource::File));
        let workers = one(&found, "runs.workers");
        assert_eq!((workers.value, workers.source, workers.line), (json!(8), ValueSource::Default, None));
        assert_eq!(one(&found, "environments.development.auto_accept_commands").value, true);
        assert_eq!(one(&found, "environments.qa.kind").value, "production");
    }
}
