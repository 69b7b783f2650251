//! The words of Station itself: a secret that is one of them, or a part of one, would vanish from every answer together with it.

use crate::tools::Station;
use serde_json::Value;

/// Whether `value` is part of a word that Station's own answers are made of: the name of a tool, a field or an environment, or what a field
/// may say.
pub(super) fn is_own(station: &Station, value: &str) -> bool {
    let tools = station.table.iter().any(|tool| {
        tool.spec.name.contains(value) || schema_says(&tool.spec.input, value) || schema_says(&tool.spec.output, value)
    });
    tools || station.environments.all().iter().any(|environment| environment.name.as_str().contains(value))
}

fn schema_says(schema: &Value, value: &str) -> bool {
    match schema {
        Value::Object(object) => object.iter().any(|(key, inside)| match (key.as_str(), inside) {
            ("properties", Value::Object(properties)) => {
                properties.iter().any(|(name, schema)| name.contains(value) || schema_says(schema, value))
            }
            ("enum", Value::Array(words)) => {
                words.iter().any(|word| word.as_str().is_some_and(|word| word.contains(value)))
            }
            ("const", Value::String(word)) => word.contains(value),
            _ => schema_says(inside, value),
        }),
        Value::Array(items) => items.iter().any(|item| schema_says(item, value)),
        _ => false,
    }
}
