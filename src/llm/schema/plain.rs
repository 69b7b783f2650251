//! A schema in the few keywords that Gemini's `parameters` has known from the beginning: an OpenAPI subset with types in capitals. It is
//! what goes out after the full schema was refused.
//!
//! What can't be said in it is left out, down to the property (a free-form object, a recursion): arguments are validated against the
//! original, and the model is told what is missing.

use super::{Target, cleaned, follow, merge};
use serde_json::{Map, Value, json};

/// The plain copy; `None` if the tool has no arguments that can be said.
pub(crate) fn plain(schema: &Value) -> Option<Value> {
    let document = cleaned(schema, Target::Gemini);
    let writer = Writer { document: &document };
    writer.write(&document, &mut Vec::new())
}

struct Writer<'a> {
    document: &'a Value,
}

impl Writer<'_> {
    /// `within` are the references that led here.
    fn write(&self, schema: &Value, within: &mut Vec<String>) -> Option<Value> {
        let schema = match schema {
            Value::Bool(true) => &Map::new(),
            Value::Object(schema) => schema,
            _ => return None,
        };
        if let Some(path) = schema.get("$ref") {
            return self.referred(schema, path, within);
        }
        let schema = self.united(schema);
        let mut copy = self.choice(&schema, within).or_else(|| self.single(&schema, within))?;
        if let (Some(description), Some(copy)) = (schema.get("description"), copy.as_object_mut()) {
            copy.entry("description").or_insert_with(|| description.clone());
        }
        Some(copy)
    }

    fn referred(&self, schema: &Map<String, Value>, path: &Value, within: &mut Vec<String>) -> Option<Value> {
        let name = path.as_str()?;
        if within.iter().any(|earlier| earlier == name) {
            return None;
        }
        let mut target = follow(self.document, path)?.clone();
        target.extend(
            schema.iter().filter(|(keyword, _)| *keyword == "description").map(|(k, v)| (k.clone(), v.clone())),
        );
        within.push(name.to_owned());
        let copy = self.write(&Value::Object(target), within);
        within.pop();
        copy
    }

    /// The schema with all parts of its `allOf` in one.
    fn united(&self, schema: &Map<String, Value>) -> Map<String, Value> {
        let mut schema = schema.clone();
        if let Some(Value::Array(parts)) = schema.remove("allOf") {
            for part in &parts {
                let part = part.get("$ref").and_then(|path| follow(self.document, path)).or(part.as_object());
                for (keyword, value) in part.into_iter().flatten() {
                    if !matches!(keyword.as_str(), "properties" | "required" | "$ref") {
                        schema.entry(keyword.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
            merge(&mut schema, self.document, &parts, true);
        }
        schema
    }

    /// Alternatives: `anyOf`, `oneOf`, or several types. `null` among them is a mark of its own.
    fn choice(&self, schema: &Map<String, Value>, within: &mut Vec<String>) -> Option<Value> {
        let of_type = |kind: &Value| {
            let mut one = schema.clone();
            one.insert("type".into(), kind.clone());
            one.remove("description");
            Value::Object(one)
        };
        let variants: Vec<Value> = match (schema.get("anyOf").or(schema.get("oneOf")), schema.get("type")) {
            (Some(Value::Array(variants)), _) => variants.clone(),
            (_, Some(Value::Array(kinds))) => kinds.iter().map(of_type).collect(),
            _ => return None,
        };
        let (nulls, others): (Vec<_>, Vec<_>) = variants.iter().partition(|variant| is_null(variant));
        let mut copies: Vec<Value> = others.into_iter().filter_map(|variant| self.write(variant, within)).collect();
        let mut copy = match copies.len() {
            0 => return None,
            1 => copies.remove(0),
            _ => json!({ "anyOf": copies }),
        };
        if !nulls.is_empty() {
            copy["nullable"] = json!(true);
        }
        Some(copy)
    }

    fn single(&self, schema: &Map<String, Value>, within: &mut Vec<String>) -> Option<Value> {
        match kind(schema)? {
            "object" => self.object(schema, within),
            "array" => Some(json!({ "type": "ARRAY", "items": self.items(schema, within)? })),
            "string" => Some(string(schema)),
            "null" => None,
            kind => {
                let mut copy = json!({ "type": kind.to_uppercase() });
                if let Some(values) = schema.get("enum") {
                    copy["description"] = json!(described(schema, values));
                }
                Some(copy)
            }
        }
    }

    fn object(&self, schema: &Map<String, Value>, within: &mut Vec<String>) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object)?;
        let kept: Map<String, Value> = properties
            .iter()
            .filter_map(|(name, property)| Some((name.clone(), self.write(property, within)?)))
            .collect();
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let required: Vec<_> =
            required.iter().filter(|name| name.as_str().is_some_and(|name| kept.contains_key(name))).collect();
        let mut copy = json!({ "type": "OBJECT" });
        if !required.is_empty() {
            copy["required"] = json!(required);
        }
        let says_something = !kept.is_empty();
        copy["properties"] = Value::Object(kept);
        says_something.then_some(copy)
    }

    /// What all elements of an array are; a tuple of different things can't be said.
    fn items(&self, schema: &Map<String, Value>, within: &mut Vec<String>) -> Option<Value> {
        match schema.get("prefixItems").or(schema.get("items"))? {
            Value::Array(places) => {
                let mut copies = places.iter().map(|place| self.write(place, within));
                let first = copies.next()??;
                copies.all(|copy| copy.as_ref() == Some(&first)).then_some(first)
            }
            items => self.write(items, within),
        }
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "null")
}

/// The type, said or to be seen. Anything at all is a string.
fn kind(schema: &Map<String, Value>) -> Option<&str> {
    if let Some(kind) = schema.get("type") {
        return kind.as_str();
    }
    let value = schema.get("const").or_else(|| schema.get("enum")?.get(0));
    Some(match value {
        Some(Value::Number(number)) if number.is_f64() => "number",
        Some(Value::Number(_)) => "integer",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Object(_) | Value::Array(_) | Value::Null) => return None,
        Some(Value::String(_)) => "string",
        None if schema.contains_key("properties") => "object",
        None if schema.contains_key("items") || schema.contains_key("prefixItems") => "array",
        None => "string",
    })
}

/// Only strings, and none that is empty, may be enumerated.
fn string(schema: &Map<String, Value>) -> Value {
    let listed = schema.get("enum").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let values: Vec<&str> =
        listed.iter().chain(schema.get("const")).filter_map(Value::as_str).filter(|value| !value.is_empty()).collect();
    match values.is_empty() {
        true => json!({ "type": "STRING" }),
        false => json!({ "type": "STRING", "enum": values }),
    }
}

fn described(schema: &Map<String, Value>, values: &Value) -> String {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    format!("{description} One of {values}").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The copy of the one property of an object that has this schema.
    fn property(schema: Value) -> Option<Value> {
        let root = json!({ "type": "object", "properties": { "a": schema, "z": { "type": "string" } }, "required": ["a"],
            "$defs": { "named": { "type": "object", "properties": { "n": { "type": "integer" } } },
                       "tree": { "type": "object", "properties": { "left": { "$ref": "#/$defs/tree" }, "n": { "type": "number" } } } } });
        let copy = plain(&root).unwrap();
        assert_eq!(copy["required"] == json!(["a"]), copy["properties"].get("a").is_some());
        copy["properties"].get("a").cloned()
    }

    #[test]
    fn what_can_be_said_is_said_in_capitals_and_known_words() {
        let named = json!({ "type": "OBJECT", "properties": { "n": { "type": "INTEGER" } } });
        for (schema, copy) in [
            (
                json!({ "type": "string", "minLength": 1, "description": "d" }),
                json!({ "type": "STRING", "description": "d" }),
            ),
            (
                json!({ "type": ["integer", "null"], "exclusiveMinimum": 0 }),
                json!({ "type": "INTEGER", "nullable": true }),
            ),
            (
                json!({ "type": ["integer", "string"] }),
                json!({ "anyOf": [{ "type": "INTEGER" }, { "type": "STRING" }] }),
            ),
            (json!({ "const": "x" }), json!({ "type": "STRING", "enum": ["x"] })),
            (json!({ "type": "integer", "enum": [1, 2] }), json!({ "type": "INTEGER", "description": "One of [1,2]" })),
            (json!({ "type": "string", "enum": ["", "x", null] }), json!({ "type": "STRING", "enum": ["x"] })),
            (json!({ "type": "array" }), json!({ "type": "ARRAY", "items": { "type": "STRING" } })),
            (json!(true), json!({ "type": "STRING" })),
            (json!({ "$ref": "#/$defs/named" }), named.clone()),
            (
                json!({ "allOf": [{ "$ref": "#/$defs/named" }, { "properties": { "m": {} } }] }),
                json!({ "type": "OBJECT", "properties": { "n": { "type": "INTEGER" }, "m": { "type": "STRING" } } }),
            ),
            (
                json!({ "oneOf": [{ "$ref": "#/$defs/named" }, { "type": "null" }], "description": "d" }),
                json!({ "type": "OBJECT", "properties": { "n": { "type": "INTEGER" } }, "nullable": true, "description": "d" }),
            ),
            (
                json!({ "$ref": "#/$defs/tree" }),
                json!({ "type": "OBJECT", "properties": { "n": { "type": "NUMBER" } } }),
            ),
        ] {
            assert_eq!(property(schema.clone()), Some(copy), "{schema}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        for schema in [
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            json!({ "type": "array", "items": { "type": "object" } }),
            json!({ "type": "array", "prefixItems": [{ "type": "string" }, { "type": "integer" }] }),
            json!({ "type": "null" }),
            json!(false),
        ] {
            assert_eq!(property(schema.clone()), None, "{schema}");
        }
        assert_eq!(plain(&json!({ "type": "object" })), None);
    }
}
