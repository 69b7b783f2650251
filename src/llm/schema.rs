//! Copies of tool schemas that providers accept. The original stays what arguments are validated against.
//!
//! Every dialect refuses a whole request because of one schema whose root is not a plain object (a combinator, a `$ref`, a boolean) or
//! that has an array without `items`; all charge for annotations that no model needs. Anthropic also refuses property names outside
//! `[a-zA-Z0-9_.-]{1,64}`, Gemini those outside `[a-zA-Z0-9_]{1,64}` and most values of `format`: such a property is left out of its
//! copy, and the validation of the call tells the model what is missing.
//!
//! `strict` says whether OpenAI can hold a model to a schema; `plain` writes one in the few keywords that Gemini knows at the least.

mod plain;
mod strict;

pub(super) use plain::plain;
pub(super) use strict::fits as fits_strict;

use serde_json::{Map, Value, json};

/// Whose rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    OpenAi,
    Anthropic,
    Gemini,
}

/// Keywords without a use for the model.
const DROPPED: [&str; 5] = ["$schema", "$id", "$comment", "title", "examples"];
const MAPS_OF_SCHEMAS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
const LISTS_OF_SCHEMAS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const SCHEMAS: [&str; 10] = [
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
];
const COMBINATORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The copy of a tool's input schema for `target`.
pub(super) fn cleaned(schema: &Value, target: Target) -> Value {
    let mut root = object_root(schema);
    clean_object(&mut root, target);
    Value::Object(root)
}

/// The schema as a plain object schema: a local `$ref` is followed, a combinator's properties are merged.
fn object_root(schema: &Value) -> Map<String, Value> {
    let mut root = schema.as_object().cloned().unwrap_or_default();
    if let Some(target) = root.get("$ref").and_then(|path| follow(schema, path)) {
        let definitions = root.into_iter().filter(|(key, _)| matches!(key.as_str(), "$defs" | "definitions"));
        let mut inlined = target.clone();
        inlined.extend(definitions);
        root = inlined;
    }
    for combinator in COMBINATORS {
        if let Some(Value::Array(variants)) = root.remove(combinator) {
            merge(&mut root, schema, &variants, combinator == "allOf");
        }
    }
    for keyword in ["not", "enum", "$ref", "if", "then", "else"] {
        root.remove(keyword);
    }
    root.insert("type".into(), json!("object"));
    if !root.get("properties").is_some_and(Value::is_object) {
        root.insert("properties".into(), json!({}));
    }
    root
}

fn follow<'a>(document: &'a Value, path: &Value) -> Option<&'a Map<String, Value>> {
    document.pointer(path.as_str()?.strip_prefix('#')?)?.as_object()
}

/// Adds the variants' properties. What is required by all of them, or by any of an `allOf`, stays required.
fn merge(root: &mut Map<String, Value>, document: &Value, variants: &[Value], all: bool) {
    let variants: Vec<&Map<String, Value>> = variants
        .iter()
        .filter_map(|variant| match variant.get("$ref") {
            Some(path) => follow(document, path),
            None => variant.as_object(),
        })
        .collect();
    let mut properties = root.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut required: Vec<Value> = required_of(root).to_vec();
    for variant in &variants {
        for (name, schema) in variant.get("properties").and_then(Value::as_object).into_iter().flatten() {
            properties.entry(name.clone()).or_insert_with(|| schema.clone());
        }
        for name in required_of(variant) {
            let everywhere = all || variants.iter().all(|other| required_of(other).contains(name));
            if everywhere && !required.contains(name) {
                required.push(name.clone());
            }
        }
    }
    root.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        root.insert("required".into(), Value::Array(required));
    }
}

fn required_of(schema: &Map<String, Value>) -> &[Value] {
    schema.get("required").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn clean(schema: &mut Value, target: Target) {
    match schema {
        Value::Object(object) => clean_object(object, target),
        Value::Bool(true) => *schema = json!({}),
        _ => {}
    }
}

fn clean_object(schema: &mut Map<String, Value>, target: Target) {
    schema.retain(|keyword, _| !DROPPED.contains(&keyword.as_str()));
    if target != Target::OpenAi {
        leave_out_refused_properties(schema, target);
    }
    if target == Target::Gemini {
        schema.remove("format");
    }
    let is_array = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "array"),
        kind => kind.is_some_and(|kind| kind == "array"),
    };
    if is_array && !schema.contains_key("items") && !schema.contains_key("prefixItems") {
        schema.insert("items".into(), json!({}));
    }
    for (keyword, value) in schema.iter_mut() {
        let keyword = keyword.as_str();
        if MAPS_OF_SCHEMAS.contains(&keyword) {
            value.as_object_mut().into_iter().flat_map(|map| map.values_mut()).for_each(|schema| clean(schema, target));
        } else if LISTS_OF_SCHEMAS.contains(&keyword) || (keyword == "items" && value.is_array()) {
            value.as_array_mut().into_iter().flatten().for_each(|schema| clean(schema, target));
        } else if SCHEMAS.contains(&keyword) && value.is_object() {
            clean(value, target);
        }
    }
}

fn leave_out_refused_properties(schema: &mut Map<String, Value>, target: Target) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| is_accepted_property(name, target));
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| is_accepted_property(name, target)));
    }
}

fn is_accepted_property(name: &str, target: Target) -> bool {
    let marks: &[u8] = if target == Target::Gemini { b"_" } else { b"_.-" };
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_go_and_properties_of_the_same_name_stay() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Args", "type": "object",
            "properties": {
                "title": { "type": "string", "title": "Title", "default": "x" },
                "tags": { "type": "array" },
                "any": true,
                "nested": { "type": "object", "properties": { "examples": { "$id": "x", "enum": ["title"] } } }
            },
            "required": ["title"], "additionalProperties": false
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "title": { "type": "string", "default": "x" },
                "tags": { "type": "array", "items": {} },
                "any": {},
                "nested": { "type": "object", "properties": { "examples": { "enum": ["title"] } } }
            },
            "required": ["title"], "additionalProperties": false
        });
        assert_eq!(cleaned(&schema, Target::OpenAi), expected);
    }

    #[test]
    fn an_array_gets_items_also_where_it_is_one_of_several_types() {
        let schema = json!({ "type": "object", "properties": {
            "a": { "type": ["array", "null"] }, "b": { "type": ["string", "null"] } } });
        for target in [Target::OpenAi, Target::Anthropic, Target::Gemini] {
            let expected =
                json!({ "a": { "type": ["array", "null"], "items": {} }, "b": { "type": ["string", "null"] } });
            assert_eq!(cleaned(&schema, target)["properties"], expected, "{target:?}");
        }
    }

    #[test]
    fn every_root_becomes_a_plain_object() {
        for odd in [json!(true), json!({}), json!({"type": ["object", "null"]}), json!({"not": {}})] {
            assert_eq!(cleaned(&odd, Target::OpenAi), json!({"type": "object", "properties": {}}), "{odd}");
        }
        let referring =
            json!({ "$ref": "#/$defs/A", "$defs": { "A": { "type": "object", "properties": { "a": {} } } } });
        assert_eq!(cleaned(&referring, Target::Anthropic)["properties"], json!({ "a": {} }));
        let choice = json!({ "type": "object", "oneOf": [
            { "properties": { "a": {}, "b": {} }, "required": ["a", "b"] }, { "properties": { "a": {} }, "required": ["a"] } ] });
        let cleaned = cleaned(&choice, Target::Anthropic);
        assert_eq!(cleaned["required"], json!(["a"]));
        assert!(cleaned["properties"].get("b").is_some() && cleaned.get("oneOf").is_none());
    }

    #[test]
    fn anthropic_gets_only_property_names_that_it_accepts() {
        let schema =
            json!({ "type": "object", "properties": { "$filter": {}, "ok": {} }, "required": ["$filter", "ok"] });
        let copy = cleaned(&schema, Target::Anthropic);
        assert_eq!(copy["properties"], json!({ "ok": {} }));
        assert_eq!(copy["required"], json!(["ok"]));
        assert!(cleaned(&schema, Target::OpenAi)["properties"].get("$filter").is_some());
    }

    #[test]
    fn gemini_gets_no_formats_and_no_names_with_dots() {
        let schema = json!({ "type": "object", "properties": {
            "format": { "type": "string", "format": "uri" }, "a.b": {} }, "required": ["a.b", "format"] });
        let expected =
            json!({ "type": "object", "properties": { "format": { "type": "string" } }, "required": ["format"] });
        assert_eq!(cleaned(&schema, Target::Gemini), expected);
    }
}
