//! What an agent is given: checks of its schema when the file is read, and of the input when a run is asked for.

use crate::domain::{self, ValueSchema, nearest};
use crate::error::{Error, Result};
use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value, json};

/// At most so many faults of one input are told at once.
const TOLD: usize = 5;

/// Why a schema can't be an agent's input schema.
#[derive(Debug)]
pub(super) struct SchemaFault {
    /// Where in the schema.
    pub(super) path: Vec<String>,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

impl SchemaFault {
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Checks that `schema` is a JSON Schema that compiles, and whose root is an object.
pub(super) fn check_schema(schema: &Value) -> Result<(), SchemaFault> {
    let object = schema.as_object();
    if object.and_then(|object| object.get("type")) != Some(&json!("object")) {
        let reason = "a JSON Schema with `type: object` at its root is expected".to_owned();
        return Err(SchemaFault { path: Vec::new(), reason, hint: None });
    }
    compiles(schema)
}

/// Checks that `schema` is a JSON Schema that compiles, of whatever kind of value.
pub(super) fn check_output_schema(schema: &Value) -> Result<(), SchemaFault> {
    if !schema.is_object() {
        let hint = "write { type: object, properties: { topic: { type: string } }, required: [topic] }".to_owned();
        let reason = "a JSON Schema is expected".to_owned();
        return Err(SchemaFault { path: Vec::new(), reason, hint: Some(hint) });
    }
    compiles(schema)
}

fn compiles(schema: &Value) -> Result<(), SchemaFault> {
    let told = |fault: domain::SchemaFault| SchemaFault { path: fault.path, reason: short(&fault.reason), hint: None };
    ValueSchema::new(schema).map(drop).map_err(told)
}

/// The input that a run gets: an object that `schema` accepts. A text means `{ "userInput": text }`, or the schema's only required text.
/// Errors name the field's path and the reason.
pub fn validate_input(schema: &Value, input: Value) -> Result<Value> {
    let input = match input {
        Value::String(text) => from_text(schema, text)?,
        Value::Null => json!({}),
        Value::Object(object) => Value::Object(object),
        other => {
            let message = format!("`input` must be an object or a text, not `{}`", short(&other.to_string()));
            return Err(Error::invalid_input(message).field("input"));
        }
    };
    let schema_of_values = ValueSchema::new(schema)
        .map_err(|fault| Error::invalid_input(format!("the agent's input schema can't be used: {}", fault.reason)))?;
    let refused = |reason| Error::invalid_input(format!("`input` is not accepted: {reason}")).field("input");
    let faults = schema_of_values.faults(&input, TOLD).map_err(refused)?;
    let Some(first) = faults.first() else {
        drop(faults);
        return Ok(input);
    };
    let message = faults.iter().map(told).collect::<Vec<_>>().join("; ");
    let error = Error::invalid_input(message).field(place(first));
    Err(match guess(schema, first) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

fn from_text(schema: &Value, text: String) -> Result<Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    if properties.is_none_or(|properties| properties.contains_key("userInput")) {
        return Ok(json!({ "userInput": text }));
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let is_text = |name: &str| properties.and_then(|all| all.get(name)?.get("type")) == Some(&json!("string"));
    match required.as_slice() {
        [only] if is_text(only) => Ok(Value::Object(Map::from_iter([((*only).to_owned(), Value::String(text))]))),
        _ => {
            let names: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
            let message = "`input` is a text, but this agent takes an object";
            let hint = format!("give an object with the fields {}", names.join(", "));
            Err(Error::invalid_input(message).field("input").hint(hint))
        }
    }
}

fn told(fault: &ValidationError<'_>) -> String {
    let reason = match fault.kind() {
        ValidationErrorKind::Required { .. } => "it is required".to_owned(),
        ValidationErrorKind::AdditionalProperties { .. } => "there is no such field".to_owned(),
        _ => fault.to_string(),
    };
    let reason = if reason.chars().count() > 200 { fault.masked().to_string() } else { reason };
    format!("`{}`: {}", place(fault), short(&reason))
}

/// `input.filters[0].path`, with the name of a missing or unknown field at its end.
fn place(fault: &ValidationError<'_>) -> String {
    let mut path = String::from("input");
    for segment in segments(fault) {
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{segment}]"));
        } else {
            path.push_str(&format!(".{segment}"));
        }
    }
    match fault.kind() {
        ValidationErrorKind::Required { property: Value::String(name) } => path.push_str(&format!(".{name}")),
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            path.extend(unexpected.first().map(|name| format!(".{name}")));
        }
        _ => {}
    }
    path
}

/// The steps of a JSON pointer.
fn segments(fault: &ValidationError<'_>) -> Vec<String> {
    let unescape = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
    fault.instance_path().to_string().split('/').skip(1).map(unescape).collect()
}

/// The field that an unknown one was probably meant to be.
fn guess(schema: &Value, fault: &ValidationError<'_>) -> Option<String> {
    let ValidationErrorKind::AdditionalProperties { unexpected } = fault.kind() else { return None };
    let known = schema.get("properties")?.as_object()?;
    let near = nearest(unexpected.first()?, known.keys().map(String::as_str))?;
    Some(format!("did you mean `{near}`?"))
}

fn short(text: &str) -> String {
    if text.chars().count() <= 240 {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(240).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": { "path": { "type": "string" }, "lines": { "type": "array", "items": { "type": "integer" } } },
            "required": ["path"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn a_text_becomes_the_field_that_it_can_only_mean() {
        let default =
            json!({ "type": "object", "properties": { "userInput": { "type": "string" } }, "required": ["userInput"] });
        assert_eq!(validate_input(&default, json!("hi")).unwrap(), json!({ "userInput": "hi" }));
        assert_eq!(validate_input(&schema(), json!("a.log")).unwrap(), json!({ "path": "a.log" }));
        let two = json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } }, "required": ["a", "b"] });
        let error = validate_input(&two, json!("x")).unwrap_err();
        assert_eq!(error.hint_text(), Some("give an object with the fields a, b"));
    }

    #[test]
    fn every_fault_names_its_field() {
        let error = validate_input(&schema(), json!({ "path": "x", "lines": [1, "two"] })).unwrap_err();
        assert_eq!(error.field_name(), Some("input.lines[1]"));
        let error = validate_input(&schema(), json!({})).unwrap_err();
        assert_eq!(error.field_name(), Some("input.path"));
        let error = validate_input(&schema(), json!({ "path": "x", "line": [] })).unwrap_err();
        assert_eq!(error.message(), "`input.line`: there is no such field");
        assert_eq!(error.hint_text(), Some("did you mean `lines`?"));
        assert_eq!(validate_input(&schema(), json!(5)).unwrap_err().field_name(), Some("input"));
    }

    #[test]
    fn a_schema_that_reaches_out_is_refused() {
        let fault =
            check_schema(&json!({ "type": "object", "properties": { "a": { "$ref": "https://example.com/x.json" } } }));
        assert!(fault.is_err());
    }
}
