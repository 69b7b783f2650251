//! What an agent's answer has to be, where it says so: a JSON value that its schema accepts. Pure.

use crate::domain::ValueSchema;
use crate::error::{Error, Result};
use jsonschema::ValidationError;
use serde_json::Value;

/// At most so many faults of one answer are told at once.
const TOLD: usize = 5;

/// The `output.schema` of an agent.
#[derive(Debug)]
pub(super) struct Contract {
    schema: Value,
    values: ValueSchema,
}

impl Contract {
    /// An error if the schema doesn't compile, which was checked when the file was taken up.
    pub(super) fn new(schema: &Value) -> Result<Self> {
        let values = ValueSchema::new(schema)
            .map_err(|fault| Error::internal(format!("the agent's output schema can't be used: {}", fault.reason)))?;
        Ok(Self { schema: schema.clone(), values })
    }

    /// `system` with what the model has to know about its answer.
    pub(super) fn told(&self, system: Option<&str>) -> String {
        let rule = format!(
            "Your final answer must be one JSON value that is valid against this JSON Schema, with nothing else around it:\n{}",
            self.schema
        );
        system.map_or_else(|| rule.clone(), |system| format!("{system}\n\n{rule}"))
    }

    /// The value that `answer` says, or what is wrong with it.
    pub(super) fn judge(&self, answer: &str) -> Result<Value, String> {
        let value = read(answer)?;
        // Without the value: the model has it, and it may be long.
        let told = |fault: &ValidationError<'_>| format!("{} (at `{}`)", fault.masked(), fault.instance_path());
        let wrong = self.values.faults(&value, TOLD)?.iter().map(told).collect::<Vec<_>>().join("; ");
        if wrong.is_empty() { Ok(value) } else { Err(wrong) }
    }

    /// What the model is told about an answer that doesn't fit. `notice` is what else is known of it, such as that it was cut off.
    pub(super) fn repair(&self, answer: &str, notice: Option<&str>) -> String {
        let wrong = with_notice(self.judge(answer).err().unwrap_or_default(), notice);
        format!(
            "Your answer doesn't fit the JSON Schema that was asked for: {wrong}. Answer again, with the corrected JSON value and nothing else."
        )
    }
}

/// What is wrong with an answer, and what was noticed about it: half of a JSON value is no JSON, but that isn't what went wrong.
pub(super) fn with_notice(wrong: String, notice: Option<&str>) -> String {
    notice.map_or_else(|| wrong.clone(), |notice| format!("{wrong}; {notice}"))
}

/// The JSON value in `answer`: all of it, or what stands in its only fenced block.
fn read(answer: &str) -> Result<Value, String> {
    let whole = serde_json::from_str(answer.trim());
    match (whole, fenced(answer)) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(block)) => {
            serde_json::from_str(block).map_err(|cause| format!("its JSON block is not valid: {cause}"))
        }
        (Err(cause), None) => Err(format!("it is no JSON: {cause}")),
    }
}

/// The content of the only fenced block, if there is one that claims to be JSON or nothing in particular.
fn fenced(answer: &str) -> Option<&str> {
    let mut parts = answer.split("```");
    let (_before, block, _after) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (info, content) = block.split_once('\n')?;
    let info = info.trim();
    (info.is_empty() || info.eq_ignore_ascii_case("json")).then(|| content.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contract() -> Contract {
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        Contract::new(&schema).unwrap()
    }

    #[test]
    fn an_answer_is_the_json_alone_or_its_only_fenced_block() {
        for answer in [" {\"n\": 1}\n", "```json\n{\"n\": 1}\n```", "Here it is:\n```\n{\"n\": 1}\n```\nDone."] {
            assert_eq!(contract().judge(answer), Ok(json!({ "n": 1 })), "{answer}");
        }
        for answer in ["one", "```json\n{\"n\": 1}\n```\n```json\n{\"n\": 2}\n```", "```yaml\nn: 1\n```", ""] {
            assert!(contract().judge(answer).unwrap_err().contains("no JSON"), "{answer}");
        }
        assert!(contract().judge("```json\n{\"n\": \n```").unwrap_err().contains("block is not valid"));
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place_and_without_the_value() {
        let wrong = contract().judge("{\"n\": \"a secret\"}").unwrap_err();
        assert!(wrong.contains("`/n`") && wrong.contains("integer") && !wrong.contains("secret"), "{wrong}");
        let told = contract().repair("{}", None);
        assert!(told.contains("\"n\"") && told.contains("Answer again"), "{told}");
        let told = contract().repair("{\"n\": ", Some("the answer was cut off"));
        assert!(told.contains("no JSON") && told.contains("; the answer was cut off. Answer again"), "{told}");
        assert!(contract().told(Some("Be brief.")).starts_with("Be brief.\n\nYour final answer"));
    }
}
