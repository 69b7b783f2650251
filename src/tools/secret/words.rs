//! The words of Station itself: a secret that is one of them, or a part of one, would vanish from every answer together with it.

use crate::tools::{Station, Table};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether `value` is part of a word that Station's own answers are made of, or of the name of an environment, a provider or a model.
pub(super) fn is_own(station: &Station, value: &str) -> bool {
    let names = station.environments.all();
    station.models.is_in_a_word(value)
        || names.iter().any(|environment| environment.name.as_str().contains(value))
        || of(&station.table).iter().any(|word| word.contains(value))
}

/// The words of all answers: the names of tools and fields, and what a field may say.
pub(in crate::tools) fn of(table: &Table) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    for tool in table.iter() {
        words.insert(tool.spec.name);
        of_schema(&tool.spec.input, &mut words);
        of_schema(&tool.spec.output, &mut words);
    }
    words
}

/// The names of the properties in `schema`, and what they may say.
pub(super) fn of_schema<'a>(schema: &'a Value, words: &mut BTreeSet<&'a str>) {
    match schema {
        Value::Object(object) => {
            for (key, inside) in object {
                match (key.as_str(), inside) {
                    ("properties", Value::Object(properties)) => {
                        words.extend(properties.keys().map(String::as_str));
                        properties.values().for_each(|schema| of_schema(schema, words));
                    }
                    ("enum", Value::Array(said)) => words.extend(said.iter().filter_map(Value::as_str)),
                    ("const", Value::String(word)) => _ = words.insert(word),
                    _ => of_schema(inside, words),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| of_schema(item, words)),
        _ => {}
    }
}
