//! Changes a `.prompt` file without rewriting it: only the spans of the given keys change, so that comments, order, quoting and line
//! ends of the rest stay as their author left them. The result is parsed again and refused unless it says exactly the old plus the patch.
//!
//! `splice` finds and changes spans, `write` spells values as YAML, `variable` does the same to `variables.yml`. A new key of the patch is one line in [`AgentPatch::changes`].

mod splice;
mod variable;
mod write;

pub use variable::{MAX_VARIABLE_BYTES, check_variable, update_variable};

use super::front_matter;
use super::model::split_model;
use super::problem::FileProblem;
use super::prompt::{body, parse_prompt};
use super::yaml::{self, Syntax};
use crate::domain::{Name, OnInDoubt, Usd, quoted};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Changes to an agent. In every field `None` leaves it, `Some(None)` removes it, `Some(Some(..))` sets it.
#[derive(Debug, Clone, Default)]
pub struct AgentPatch {
    /// `metadata.name`.
    pub display_name: Option<Option<String>>,
    pub description: Option<Option<String>>,
    pub tags: Option<Option<Vec<String>>>,
    pub model: Option<Option<String>>,
    pub max_steps: Option<Option<u32>>,
    /// As people write it: `10m`.
    pub timeout: Option<Option<String>>,
    pub plan: Option<Option<bool>>,
    pub tools: Option<Option<Vec<String>>>,
    /// Child agents.
    pub agents: Option<Option<Vec<Name>>>,
    pub input_schema: Option<Option<Value>>,
    pub output_schema: Option<Option<Value>>,
    pub limits: Option<Option<LimitsPatch>>,
    pub on_in_doubt: Option<Option<OnInDoubt>>,
    /// The template; an agent without one doesn't exist, so it can't be removed.
    pub prompt: Option<String>,
}

/// Changes to `limits`, each by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitsPatch {
    pub tokens: Option<Option<u32>>,
    pub cost_usd: Option<Option<Usd>>,
}

/// A path of the front matter, and its new value; none = the key goes.
type Change = (&'static [&'static str], Option<Value>);

impl AgentPatch {
    /// In the order in which a new file has its keys.
    fn changes(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut add = |path: &'static [&'static str], new: Option<Option<Value>>| {
            if let Some(new) = new {
                changes.push((path, new));
            }
        };
        add(&["metadata", "name"], valued(&self.display_name)?);
        add(&["metadata", "description"], valued(&self.description)?);
        add(&["metadata", "tags"], valued(&self.tags)?);
        check_model(self.model.as_ref())?;
        add(&["model"], valued(&self.model)?);
        add(&["max_steps"], valued(&self.max_steps)?);
        add(&["timeout"], valued(&self.timeout)?);
        add(&["plan"], valued(&self.plan)?);
        add(&["tools"], valued(&self.tools)?);
        add(&["agents"], valued(&self.agents)?);
        add(&["input", "schema"], valued(&self.input_schema)?);
        add(&["output", "schema"], valued(&self.output_schema)?);
        match &self.limits {
            None => {}
            Some(None) => add(&["limits"], Some(None)),
            Some(Some(limits)) => {
                add(&["limits", "tokens"], valued(&limits.tokens)?);
                add(&["limits", "cost_usd"], valued(&limits.cost_usd)?);
            }
        }
        add(&["retry", "on_in_doubt"], valued(&self.on_in_doubt)?);
        Ok(changes)
    }
}

/// Files may name a model alone, as those of the Go Station do; whoever writes one through a door says whose model is meant.
fn check_model(model: Option<&Option<String>>) -> Result<()> {
    match model.and_then(Option::as_deref) {
        Some(name) if split_model(name).is_none() => {
            Err(Error::invalid_input(format!("model {} names no provider and model", quoted(name)))
                .hint("write `provider/model`, such as `openai/gpt-5.4-mini`")
                .field("model"))
        }
        _ => Ok(()),
    }
}

fn valued<T: serde::Serialize>(field: &Option<Option<T>>) -> Result<Option<Option<Value>>> {
    let value = |new: &Option<T>| new.as_ref().map(serde_json::to_value).transpose();
    field.as_ref().map(value).transpose().map_err(|error| Error::internal("a change can't be written").source(error))
}

/// A new `.prompt` file of the agent `name`, to be known as `file`.
pub fn new_prompt(name: &Name, file: &str, patch: &AgentPatch) -> Result<String> {
    update_prompt(name, file, "---\n---\n", patch)
}

/// The text of `file` with `patch` applied. Refused with the reason where a key can't be changed on its own (aliases, merge keys), and
/// where the result wouldn't parse.
pub fn update_prompt(name: &Name, file: &str, text: &str, patch: &AgentPatch) -> Result<String> {
    let problem = |syntax: Syntax| {
        let problem = FileProblem::new(file, syntax.message);
        Error::from(if let Some(at) = syntax.at { problem.at(at) } else { problem })
    };
    let opened = front_matter::opened(text).map_err(problem)?;
    let had_none = matches!(opened, Cow::Owned(_));
    let text = opened.as_ref();
    let halves = front_matter::split(text).map_err(problem)?;
    let newline = if text[..halves.yaml.start].ends_with("\r\n") { "\r\n" } else { "\n" };
    let old_yaml = &text[halves.yaml.clone()];
    let changes = patch.changes()?;
    let mut new_yaml = old_yaml.to_owned();
    for (path, new) in &changes {
        new_yaml = splice::change(&new_yaml, path, new.as_ref(), newline)
            .map_err(|reason| refused(file, &path.join("."), &reason))?;
    }
    let new_body = match &patch.prompt {
        None => text[halves.body.clone()].to_owned(),
        Some(prompt) => format!("{}\n", prompt.replace("\r\n", "\n")).replace('\n', newline),
    };
    let closing = &text[halves.yaml.end..halves.body.start];
    // The closing line may be the last of the file, without a line end of its own.
    let gap = if closing.ends_with('\n') || new_body.is_empty() { "" } else { newline };
    let mut new = format!("{}{new_yaml}{closing}{gap}{new_body}", &text[..halves.yaml.start]);
    // What had no front matter gets none that would be empty, unless its body would be taken for one.
    if had_none && new_yaml.is_empty() && front_matter::split(&new_body).is_ok_and(|bare| bare.lines_before_body == 0) {
        new = format!("{}{new_body}", front_matter::bom(text));
    }
    verify(file, old_yaml, &new, &changes, patch)?;
    parse_prompt(name, file, new.as_bytes())?;
    Ok(new)
}

fn refused(file: &str, key: &str, reason: &str) -> Error {
    Error::conflict(format!("`{file}`: `{key}` can't be changed on its own: {reason}"))
        .field(key)
        .hint("edit the file by hand")
}

/// Refuses unless the new text says the old plus the patch, and nothing else.
fn verify(file: &str, old_yaml: &str, new: &str, changes: &[Change], patch: &AgentPatch) -> Result<()> {
    let differs = || refused(file, "front matter", "the result would say something else than was asked for");
    let halves = front_matter::split(new).map_err(|_| differs())?;
    let parse = |text: &str| {
        yaml::parse(text).map(|yaml| yaml.value).map_err(|syntax| refused(file, "front matter", &syntax.message))
    };
    let mut expected = parse(old_yaml)?;
    for (path, value) in changes {
        apply(&mut expected, path, value.clone());
    }
    if pruned(expected) != pruned(parse(&new[halves.yaml])?) {
        return Err(differs());
    }
    match &patch.prompt {
        Some(prompt) if body(&new[halves.body]) != prompt.replace("\r\n", "\n") => Err(differs()),
        _ => Ok(()),
    }
}

fn apply(root: &mut Value, path: &[&str], new: Option<Value>) {
    let Some((key, rest)) = path.split_first() else {
        *root = new.unwrap_or(Value::Null);
        return;
    };
    if root.is_null() {
        *root = Value::Object(Map::new());
    }
    if let Some(object) = root.as_object_mut() {
        apply(object.entry(*key).or_insert(Value::Null), rest, new);
    }
}

/// Without the keys that say nothing: null means absent, in the front matter and in its sections.
fn pruned(root: Value) -> Value {
    let says_something = |value: &Value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty());
    let Value::Object(object) = root else { return Value::Object(Map::new()) };
    let section = |(key, value): (String, Value)| {
        let value = match value {
            Value::Object(inner) => inner.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            other => other,
        };
        (key, value)
    };
    object.into_iter().map(section).filter(|(_, value)| says_something(value)).collect()
}

#[cfg(test)]
mod tests;
