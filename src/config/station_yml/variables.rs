//! The `STN_` variables: every static key of `station.yml` has one, and it stands above the file.

use super::super::problem::FileProblem;
use super::super::settings::{Origin, Settings};
use crate::domain::{nearest, quoted};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How the text of a variable becomes a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spelling {
    Text,
    Number,
    Boolean,
    /// Separated by commas.
    List,
}

/// Every static key. Its variable is `STN_` and the path: `http.listen` is `STN_HTTP_LISTEN`.
pub(super) const STATIC: [(&str, Spelling); 19] = [
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
/// What is logged, above `log.level`.
const LOG_FILTER: &str = "STN_LOG";
/// Variables that are no settings of a file.
const OTHERS: [&str; 10] = [
    "STN_HOME",
    "STN_LAYOUT",
    "STN_URL",
    "STN_KEY",
    "STN_ENVIRONMENT",
    LOG_FILTER,
    "STN_MASTER_KEY_FILE",
    "STN_PASSPHRASE_FILE",
    NO_DETECT,
    "STN_FORCE_NETWORK_HOME",
];
fn variable_of(path: &str) -> String {
    format!("STN_{}", path.to_uppercase().replace('.', "_"))
}

/// Puts the variables over the file's values; answers which paths they gave. What is wrong with one leaves the others alone.
pub(super) fn overlay(
    value: &mut Value,
    variables: &BTreeMap<String, String>,
    faults: &mut Vec<FileProblem>,
) -> BTreeMap<String, String> {
    let mut given = BTreeMap::new();
    for (name, text) in variables.iter().filter(|(name, _)| name.starts_with("STN_") && !is_no_setting(name)) {
        let Some((path, form)) = STATIC.iter().find(|(path, _)| variable_of(path) == *name) else {
            faults.push(unknown_variable(name));
            continue;
        };
        // Set but empty is how shells and unit files unset a variable.
        if text.is_empty() {
            continue;
        }
        let Some(new) = read_variable(text, *form) else {
            faults.push(FileProblem::new(&in_variable(name), wrong_form(path, text, *form)).about(*path));
            continue;
        };
        put(value, path, new);
        given.insert((*path).to_owned(), name.clone());
    }
    faults.extend(overlay_others(value, variables, &mut given).err());
    given
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
            let reason = format!("expected 1 or 0, found {}", quoted(other));
            return Err(FileProblem::new(&in_variable(NO_DETECT), reason).about("models.detect"));
        }
    }
    Ok(())
}

/// `STN_LOG` stands above `log.level`, and may say more than a level: directives for parts of the station.
pub(super) fn filter_of_the_log(settings: &mut Settings, variables: &BTreeMap<String, String>) {
    if let Some(filter) = variables.get(LOG_FILTER).filter(|filter| !filter.is_empty()) {
        settings.log.level.clone_from(filter);
        settings.origins.insert("log.level".to_owned(), Origin::Variable(LOG_FILTER.to_owned()));
    }
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
    format!("`{path}`: expected {expected}, found {}", quoted(text))
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
