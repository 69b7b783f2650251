//! Reads `station.yml` and the `STN_` variables that stand above it. A fault leaves the rest alone, so that a check can tell every one.
//!
//! `keys.rs` has the tables of keys, `variables.rs` the variables, `provider.rs` one provider.

pub(super) mod keys;
mod provider;
mod variables;

#[cfg(test)]
mod tests;

use super::effective;
use super::faults::Faults;
use super::fields::{Fields, Source};
use super::file::{read_settings_file, text};
use super::placeholder::is_name;
use super::price;
use super::problem::FileProblem;
use super::revision::sha256_hex;
use super::settings::{EnvironmentSettings, LogFormat, Settings};
use super::yaml;
use crate::domain::{EnvironmentKind, Name, nearest, quoted};
use crate::error::{Error, Result};
use crate::home;
use crate::net::{check_host, check_origin};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

const HOSTS_HINT: &str = "write the name that callers use, without `https://` and path; there are no wildcards";
const ORIGINS_HINT: &str =
    "write scheme, host and port as the browser sends them, without a path; there are no wildcards";

const VARIABLES_HINT: &str =
    "write the name alone, without `$` and value; letters, digits and `_` are allowed, no digit first";

/// Reads the settings at `path`, which people know as `file`; without the file they are the defaults. `variables` is the process's
/// environment.
pub fn load_settings(path: &Path, file: &str, variables: &BTreeMap<String, String>) -> Result<Settings> {
    let (settings, faults) = read_settings(path, file, variables);
    let more = faults.len().saturating_sub(1);
    let Some(first) = faults.into_iter().next() else { return Ok(settings) };
    let error = misconfigured(first.into());
    if more == 0 {
        return Err(error);
    }
    let rest = format!("`stn config check` shows {more} more");
    let hint = error.hint_text().map_or_else(|| rest.clone(), |hint| format!("{hint}; {rest}"));
    Err(error.hint(hint))
}

/// The same, with every fault; what could be read is in the settings.
pub(super) fn read_settings(
    path: &Path,
    file: &str,
    variables: &BTreeMap<String, String>,
) -> (Settings, Vec<FileProblem>) {
    let bytes = match read_settings_file(path, file) {
        Ok(bytes) => bytes,
        Err(problem) => return (Settings::default(), vec![problem]),
    };
    let text = match text(file, bytes.as_deref().unwrap_or_default()) {
        Ok(text) => text,
        Err(problem) => return (Settings::default(), vec![problem]),
    };
    let (mut settings, faults) = settings_of(file, text, variables);
    settings.file_hash = bytes.as_deref().map(sha256_hex);
    (settings, faults)
}

/// Whether the file at `path` isn't any more what `settings` were read from.
pub fn settings_changed(settings: &Settings, path: &Path) -> bool {
    read_settings_file(path, "").map_or(true, |now| now.as_deref().map(sha256_hex) != settings.file_hash)
}

/// Refuses settings for an environment that isn't among `existing`: they would be settings that nobody follows. `file` is where they
/// stand.
pub fn check_environments(settings: &Settings, file: &str, existing: &[&str]) -> Result<()> {
    match unknown_environments(settings, file, existing).into_iter().next() {
        Some(first) => Err(misconfigured(first.into())),
        None => Ok(()),
    }
}

/// The settings for environments that aren't among `existing`.
pub(super) fn unknown_environments(settings: &Settings, file: &str, existing: &[&str]) -> Vec<FileProblem> {
    let unknown = settings.environments.iter().filter(|(name, _)| !existing.contains(&name.as_str()));
    let told = |(name, EnvironmentSettings { at, .. }): (&Name, &EnvironmentSettings)| {
        let guess = nearest(name.as_str(), existing.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        let key = format!("environments.{name}");
        let message = format!("`{key}`: there is no such environment{}", guess.unwrap_or_default());
        let problem = Source::file(file).problem(*at, message).about(key);
        problem.hint(format!("correct the name, or create the directory environments/{name}"))
    };
    unknown.map(told).collect()
}

/// Refuses settings under which nobody may listen for HTTP. Commands that don't listen work under them.
pub fn check_listener(settings: &Settings, file: &str) -> Result<()> {
    unsafe_listener(settings, file).map_or(Ok(()), |problem| Err(misconfigured(problem.into())))
}

/// A listener elsewhere than on loopback would need TLS.
pub(super) fn unsafe_listener(settings: &Settings, file: &str) -> Option<FileProblem> {
    let address = Some(settings.http.listen).filter(|address| !address.ip().is_loopback())?;
    let message = format!("`http.listen`: `{address}` is not a loopback address, and this version has no TLS");
    let problem = settings.place("http.listen", file, message);
    let hint = "listen on 127.0.0.1 with `http.behind_proxy: true`, and put a proxy in front that ends TLS there";
    Some(problem.hint(hint))
}

/// Asks for exit code 78 (`EX_CONFIG` of sysexits), beside the details that are there.
fn misconfigured(error: Error) -> Error {
    let mut details = error.report().details.unwrap_or_else(|| Value::Object(Map::new()));
    if let Some(details) = details.as_object_mut() {
        details.insert("exit_code".into(), home::EXIT_MISCONFIGURED.into());
    }
    error.details(details)
}

/// Reads the text of the file that people know as `file`, under the variables of the process's environment.
pub fn parse_settings(file: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Settings, FileProblem> {
    let (settings, faults) = settings_of(file, text, variables);
    faults.into_iter().next().map_or(Ok(settings), Err)
}

fn settings_of(file: &str, text: &str, variables: &BTreeMap<String, String>) -> (Settings, Vec<FileProblem>) {
    let source = Source::file(file);
    let mut settings = Settings::default();
    let yaml = match yaml::parse(text) {
        Ok(yaml) => yaml,
        Err(syntax) => return (settings, vec![source.syntax(syntax)]),
    };
    let mut value = if yaml.value.is_null() { Value::Object(Map::new()) } else { yaml.value };
    let mut faults = Faults::default();
    let overrides = variables::overlay(&mut value, variables, &mut faults.0);
    let source = Source { overrides: Some(&overrides), ..source };
    if let Some(root) = faults.take(Fields::root(source, &value, &yaml.root)).flatten() {
        read(&root, &mut settings, &mut faults);
    }
    settings.origins = effective::origins(&value, &yaml.root, &overrides);
    variables::filter_of_the_log(&mut settings, variables);
    (settings, faults.0)
}

fn read(root: &Fields<'_>, settings: &mut Settings, faults: &mut Faults) {
    faults.0.extend(root.faults(&keys::KEYS));
    let name = |text: String| Name::new(&text).map_err(|invalid| root.problem("default_environment", invalid));
    let default = root.text("default_environment").and_then(|text| text.map(name).transpose());
    settings.default_environment = faults.take(default).flatten();
    read_http(root, settings, faults);
    read_log(root, settings, faults);
    read_models(root, settings, faults);
    read_runs(root, settings, faults);
    settings.watch = faults.take(root.boolean("watch")).flatten().unwrap_or(settings.watch);
    for (name, fields) in faults.named(root, "providers", &keys::PROVIDER) {
        let provider = faults.take(provider::provider(&name, &fields));
        settings.providers.extend(provider.map(|provider| (name.to_string(), provider)));
    }
    for (name, fields) in faults.named(root, "environments", &keys::ENVIRONMENT) {
        let read = environment(&fields, faults);
        let outer = root.map("environments").ok().flatten();
        let at = outer.and_then(|all| all.key_at(name.as_str()));
        settings.environments.insert(name, EnvironmentSettings { at, ..read });
    }
}

fn read_http(root: &Fields<'_>, settings: &mut Settings, faults: &mut Faults) {
    let Some(http) = faults.section(root, "http", &keys::HTTP) else { return };
    let address = |text: String| {
        let wrong = || http.problem("listen", format!("{} is no address such as 127.0.0.1:8080", quoted(&text)));
        text.parse::<SocketAddr>().map_err(|_| wrong())
    };
    let listen = http.text("listen").and_then(|text| text.map(address).transpose());
    settings.http.listen = faults.take(listen).flatten().unwrap_or(settings.http.listen);
    let hosts = checked(&http, "allowed_hosts", check_host, HOSTS_HINT, faults);
    settings.http.allowed_hosts = hosts.unwrap_or_default();
    let origins = checked(&http, "allowed_origins", check_origin, ORIGINS_HINT, faults);
    settings.http.allowed_origins = origins.unwrap_or_default();
    settings.http.behind_proxy = faults.take(http.boolean("behind_proxy")).flatten().unwrap_or_default();
}

/// The texts of `key`; what is wrong with one of them is a fault of its own.
fn checked(
    fields: &Fields<'_>,
    key: &str,
    check: fn(&str) -> Result<(), &'static str>,
    hint: &str,
    faults: &mut Faults,
) -> Option<Vec<String>> {
    let texts = faults.take(fields.texts(key))?;
    for (at, text) in texts.iter().enumerate() {
        if let Err(reason) = check(text) {
            let found = if text.is_empty() { "an empty text".to_owned() } else { quoted(text) };
            let problem = fields.problem_inside(key, &[at.to_string()], format!("{found} {reason}"));
            faults.0.push(problem.hint(hint));
        }
    }
    Some(texts)
}

fn read_log(root: &Fields<'_>, settings: &mut Settings, faults: &mut Faults) {
    let Some(log) = faults.section(root, "log", &keys::LOG) else { return };
    if let Some(level) = faults.take(word(&log, "level", &keys::LEVELS)).flatten() {
        settings.log.level = level.to_owned();
    }
    if let Some(format) = faults.take(word(&log, "format", &keys::FORMATS)).flatten() {
        settings.log.format = if format == "json" { LogFormat::Json } else { LogFormat::Text };
    }
    settings.log.file = faults.take(log.text("file")).flatten().map(Into::into);
}

fn read_models(root: &Fields<'_>, settings: &mut Settings, faults: &mut Faults) {
    let Some(models) = faults.section(root, "models", &keys::MODELS) else { return };
    settings.models.default = faults.take(models.model("default")).flatten();
    settings.models.prices = faults.take(price::prices(&models)).unwrap_or_default();
    settings.models.detect = faults.take(models.boolean("detect")).flatten().unwrap_or(settings.models.detect);
}

fn read_runs(root: &Fields<'_>, settings: &mut Settings, faults: &mut Faults) {
    let Some(fields) = faults.section(root, "runs", &keys::RUNS) else { return };
    let runs = &mut settings.runs;
    let mut count = |key, most, now: &mut u32| *now = faults.take(fields.count(key, most)).flatten().unwrap_or(*now);
    count("workers", 1_000, &mut runs.workers);
    count("queue_limit", 10_000_000, &mut runs.queue_limit);
    count("max_steps", 10_000, &mut runs.max_steps);
    count("result_bytes", 64 * 1024 * 1024, &mut runs.result_bytes);
    let mut duration = |key, now: &mut u64| *now = faults.take(fields.duration_ms(key)).flatten().unwrap_or(*now);
    duration("timeout", &mut runs.timeout_ms);
    duration("tool_timeout", &mut runs.tool_timeout_ms);
}

/// One environment, whose keys have been checked.
fn environment(fields: &Fields<'_>, faults: &mut Faults) -> EnvironmentSettings {
    EnvironmentSettings {
        kind: faults.take(kind(fields)).flatten(),
        model: faults.take(fields.model("model")).flatten(),
        variables_from_process: checked(fields, "variables_from_process", variable, VARIABLES_HINT, faults)
            .unwrap_or_default(),
        auto_accept_commands: faults.take(fields.boolean("auto_accept_commands")).flatten(),
        at: None,
    }
}

/// Why no file can use the variable `name` of the process.
fn variable(name: &str) -> Result<(), &'static str> {
    if is_name(name) { Ok(()) } else { Err("is no name of a variable") }
}

fn kind(fields: &Fields<'_>) -> Result<Option<EnvironmentKind>, FileProblem> {
    let words = EnvironmentKind::ALL.map(EnvironmentKind::as_str);
    let Some(word) = word(fields, "kind", &words)? else { return Ok(None) };
    Ok(EnvironmentKind::ALL.into_iter().find(|kind| kind.as_str() == word))
}

/// The text of `key`, which has to be one of these words.
fn word<'a>(fields: &Fields<'_>, key: &str, known: &[&'a str]) -> Result<Option<&'a str>, FileProblem> {
    fields.text(key)?.map(|text| one_of(fields, key, &text, known)).transpose()
}

fn one_of<'a>(fields: &Fields<'_>, key: &str, text: &str, known: &[&'a str]) -> Result<&'a str, FileProblem> {
    match known.iter().find(|word| **word == text) {
        Some(word) => Ok(word),
        None => {
            let guess = nearest(text, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            let reason = format!("{} is none of {}{}", quoted(text), known.join(", "), guess.unwrap_or_default());
            Err(fields.problem(key, reason))
        }
    }
}
