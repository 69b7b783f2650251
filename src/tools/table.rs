//! The table of tools with what is derived from it: lookup by name and validation of inputs.

use super::spec::{EnvironmentUse, Tool};
use crate::config::slug;
use crate::domain::{Name, nearest};
use crate::error::{Error, Result};
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Every tool of the station, in reading order.
#[derive(Debug)]
pub struct Table {
    tools: Vec<Tool>,
    index: HashMap<&'static str, usize>,
    validators: Vec<OnceLock<Result<Validator, String>>>,
}

impl Table {
    pub fn new(tools: Vec<Tool>) -> Self {
        let index = tools.iter().enumerate().map(|(at, tool)| (tool.spec.name, at)).collect();
        let validators = tools.iter().map(|_| OnceLock::new()).collect();
        Self { tools, index, validators }
    }

    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.index.get(name).and_then(|at| self.tools.get(*at))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter()
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.tools.iter().map(|tool| tool.spec.name)
    }

    /// Checks an input (without `environment`) against the tool's schema: unknown fields are named with the nearest known one.
    pub fn validate(&self, tool: &Tool, input: &Value) -> Result<()> {
        let spec = &tool.spec;
        let known = spec.input.get("properties").and_then(Value::as_object);
        if let (Some(input), Some(known)) = (input.as_object(), known)
            && let Some(unknown) = input.keys().find(|key| !known.contains_key(*key))
        {
            let error = Error::invalid_input(format!("`{}` has no field `{}`", spec.name, unknown.escape_debug()))
                .field(unknown);
            let names = known
                .keys()
                .map(String::as_str)
                .chain((spec.environment != EnvironmentUse::None).then_some("environment"));
            let listed: Vec<&str> = names.collect();
            return Err(match nearest(unknown, listed.iter().copied()) {
                Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                None if listed.is_empty() => error.hint("it takes no input"),
                None => error.hint(format!("its fields are: {}", listed.join(", "))),
            });
        }
        let Some(slot) = self.index.get(spec.name).and_then(|at| self.validators.get(*at)) else {
            return Err(Error::internal(format!("`{}` is not in the table", spec.name)));
        };
        let validator = slot
            .get_or_init(|| jsonschema::validator_for(&spec.input).map_err(|cause| cause.to_string()))
            .as_ref()
            .map_err(|cause| Error::internal(format!("the input schema of `{}` is not valid: {cause}", spec.name)))?;
        validator.validate(input).map_err(|problem| {
            let path = problem.instance_path().to_string();
            let field = path.trim_start_matches('/').replace('/', ".");
            let place = if field.is_empty() { String::new() } else { format!(" at `{field}`") };
            let is_secret = known.and_then(|known| known.get(field.split('.').next()?)).is_some_and(is_write_only);
            let (reason, hint) = if is_secret { (NOT_SHOWN.to_owned(), None) } else { told(&problem) };
            let error = Error::invalid_input(format!("the input of `{}` is not valid{place}: {reason}", spec.name));
            let error = if let Some(hint) = hint { error.hint(hint) } else { error };
            if field.is_empty() { error } else { error.field(field) }
        })
    }
}

/// What is said of a secret: an error that quotes it would show it.
const NOT_SHOWN: &str = "it isn't what the schema asks for (and isn't shown, being a secret)";

fn is_write_only(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
}

/// What is wrong with a value, and the fix: a list of what is possible is told whole, and a rule in its own words.
fn told(problem: &ValidationError<'_>) -> (String, Option<String>) {
    let value = problem.instance();
    match problem.kind() {
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let guess = value.as_str().and_then(|value| nearest(value, words.iter().copied()));
            let reason = format!("{value} is none of {}", words.join(", "));
            (reason, guess.map(|meant| format!("did you mean `{meant}`?")))
        }
        ValidationErrorKind::Pattern { pattern } if *pattern == Name::PATTERN => {
            let text = value.as_str().unwrap_or_default();
            let Err(invalid) = Name::new(text) else { return (problem.to_string(), None) };
            (invalid.to_string(), Name::new(&slug(text)).ok().map(|name| format!("such as `{name}`")))
        }
        _ => (problem.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_error_never_quotes_a_secret() {
        let table = crate::tools::table();
        for value in [json!(123_454_321), json!(["123454321"]), json!({ "123454321": 1 })] {
            let input = json!({ "name": "TOKEN", "value": value });
            let error = table.validate(table.get("secret_set").unwrap(), &input).unwrap_err();
            assert!(!format!("{error:?}").contains("123454321"), "{error}");
            assert_eq!(error.field_name(), Some("value"));
        }
    }

    #[test]
    fn a_value_that_is_none_of_a_list_is_told_the_whole_list_and_a_name_its_rule() {
        let table = crate::tools::table();
        let refused = |tool: &str, input| table.validate(table.get(tool).unwrap(), &input).unwrap_err();
        let status = refused("run_list", json!({ "status": "cancled" }));
        let all = "\"cancled\" is none of queued, running, input_required, completed, failed, cancelled";
        assert!(status.message().ends_with(all), "{status}");
        assert_eq!(status.hint_text(), Some("did you mean `cancelled`?"));
        let name = refused("agent_create", json!({ "name": "Bad Name", "prompt": "x" }));
        assert!(name.message().ends_with("only lower-case letters, digits, `-` and `_` are allowed"), "{name}");
        assert_eq!((name.hint_text(), name.field_name()), (Some("such as `bad-name`"), Some("name")));
    }
}
