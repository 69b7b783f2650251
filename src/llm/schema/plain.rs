//! A schema in the few keywords that Gemini's `parameters` has known from the beginning: an OpenAPI subset with types in capitals. It is
//! what goes out after the full schema was refused.
//!
//! What can't be said in it is left out, down to the property (a free-form object, a recursion): arguments are validated against the
//! original, and the model is told what is missing.

use super::{Target, cleaned, follow, merge};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::cell::Cell;

/// The largest copy, in nodes; a hundred bytes of text count as one more. References are written out, so that a small schema may mean
/// a copy that no memory holds.
const MOST_NODES: usize = 5_000;
/// The deepest copy. What is deeper couldn't be sent, and would take too much of the stack to write.
const MOST_DEPTH: usize = 64;

/// The plain copy; `None` if the tool has no arguments that can be said.
pub(crate) fn plain(schema: &Value) -> Option<Value> {
    let document = cleaned(schema, Target::Gemini);
    let writer = Writer { document: &document, left: Cell::new(MOST_NODES) };
    writer.write(&document, &mut Within::default())
}

struct Writer<'a> {
    document: &'a Value,
    /// Nodes that may still be written; what comes when there are none is left out.
    left: Cell<usize>,
}

/// Where the writer is.
#[derive(Default)]
struct Within {
    depth: usize,
    /// The references that led here.
    references: Vec<String>,
}

impl Writer<'_> {
    fn write(&self, schema: &Value, within: &mut Within) -> Option<Value> {
        match schema {
            Value::Bool(true) => self.described(&Map::new(), None, within),
            Value::Object(schema) => self.described(schema, None, within),
            _ => None,
        }
    }

    /// `description` is that of the reference that led here, if it had one.
    fn described(
        &self,
        schema: &Map<String, Value>,
        description: Option<&Value>,
        within: &mut Within,
    ) -> Option<Value> {
        if within.depth > MOST_DEPTH || !self.spend(1 + text_size(schema) / 100) {
            return None;
        }
        within.depth += 1;
        let copy = match schema.get("$ref") {
            Some(path) => self.referred(path, description.or(schema.get("description")), within),
            None => self.inline(schema, description, within),
        };
        within.depth -= 1;
        copy
    }

    fn spend(&self, nodes: usize) -> bool {
        let left = self.left.get().checked_sub(nodes);
        self.left.set(left.unwrap_or_default());
        left.is_some()
    }

    fn referred(&self, path: &Value, description: Option<&Value>, within: &mut Within) -> Option<Value> {
        let name = path.as_str()?;
        if within.references.iter().any(|earlier| earlier == name) {
            return None;
        }
        within.references.push(name.to_owned());
        let copy = follow(self.document, path).and_then(|target| self.described(target, description, within));
        within.references.pop();
        copy
    }

    fn inline(&self, schema: &Map<String, Value>, description: Option<&Value>, within: &mut Within) -> Option<Value> {
        let schema = self.united(schema)?;
        let description = description.or(schema.get("description"));
        let mut copy =
            self.choice(&schema, within).or_else(|| self.single(&schema, kind(&schema)?, description, within))?;
        if let (Some(description), Some(copy)) = (description, copy.as_object_mut()) {
            copy.entry("description").or_insert_with(|| description.clone());
        }
        Some(copy)
    }

    /// The schema with all parts of its `allOf` in one.
    fn united<'s>(&self, schema: &'s Map<String, Value>) -> Option<Cow<'s, Map<String, Value>>> {
        let Some(Value::Array(parts)) = schema.get("allOf") else { return Some(Cow::Borrowed(schema)) };
        let mut united = schema.clone();
        united.remove("allOf");
        for part in parts {
            let part = part.get("$ref").and_then(|path| follow(self.document, path)).or(part.as_object());
            // They are copied before anything of them is written.
            let properties = part.and_then(|part| part.get("properties")?.as_object()).map_or(0, Map::len);
            if !self.spend(properties + part.map_or(0, text_size) / 100) {
                return None;
            }
            for (keyword, value) in part.into_iter().flatten() {
                if !matches!(keyword.as_str(), "properties" | "required" | "$ref") {
                    united.entry(keyword.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        merge(&mut united, self.document, parts, true);
        Some(Cow::Owned(united))
    }

    /// Alternatives: `anyOf`, `oneOf`, or several types. `null` among them is a mark of its own.
    fn choice(&self, schema: &Map<String, Value>, within: &mut Within) -> Option<Value> {
        let (copies, nullable) = match (schema.get("anyOf").or(schema.get("oneOf")), schema.get("type")) {
            (Some(Value::Array(variants)), _) => {
                let (nulls, others): (Vec<_>, Vec<_>) = variants.iter().partition(|variant| is_null(variant));
                let copies = others.into_iter().filter_map(|variant| self.write(variant, within));
                (copies.collect::<Vec<Value>>(), !nulls.is_empty())
            }
            (_, Some(Value::Array(kinds))) => {
                let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
                let others = kinds.iter().filter(|kind| **kind != "null");
                let copies = others.filter_map(|kind| self.single(schema, kind, None, within));
                (copies.collect(), kinds.contains(&"null"))
            }
            _ => return None,
        };
        let mut copies = copies;
        let mut copy = match copies.len() {
            0 => return None,
            1 => copies.remove(0),
            _ => json!({ "anyOf": copies }),
        };
        if nullable {
            copy["nullable"] = json!(true);
        }
        Some(copy)
    }

    /// The copy of a schema as one of `kind`.
    fn single(
        &self,
        schema: &Map<String, Value>,
        kind: &str,
        description: Option<&Value>,
        within: &mut Within,
    ) -> Option<Value> {
        match kind {
            "object" => self.object(schema, within),
            "array" => Some(json!({ "type": "ARRAY", "items": self.items(schema, within)? })),
            "string" => Some(string(schema)),
            "null" => None,
            kind => {
                let mut copy = json!({ "type": kind.to_uppercase() });
                if let Some(values) = schema.get("enum") {
                    copy["description"] = json!(listed(description, values));
                }
                Some(copy)
            }
        }
    }

    fn object(&self, schema: &Map<String, Value>, within: &mut Within) -> Option<Value> {
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
    fn items(&self, schema: &Map<String, Value>, within: &mut Within) -> Option<Value> {
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

fn listed(description: Option<&Value>, values: &Value) -> String {
    let description = description.and_then(Value::as_str).unwrap_or_default();
    format!("{description} One of {values}").trim_start().to_owned()
}

/// Bytes of the texts that a copy of this schema repeats.
fn text_size(schema: &Map<String, Value>) -> usize {
    let size = |keyword: &str| match schema.get(keyword) {
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(values)) => values.iter().map(|value| 8 + value.as_str().map_or(0, str::len)).sum(),
        _ => 0,
    };
    ["description", "enum", "const", "required"].into_iter().map(size).sum()
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

    #[test]
    fn what_would_be_too_large_or_too_deep_is_left_out_and_the_rest_is_said() {
        let defs = |link: fn(Value) -> Value, last: Value| -> Value {
            let mut defs: Map<String, Value> = (0..200)
                .map(|at| (format!("d{at}"), link(json!({ "$ref": format!("#/$defs/d{}", at + 1) }))))
                .collect();
            defs.insert("d200".into(), last);
            json!({ "type": "object", "$defs": defs,
                "properties": { "near": { "type": "string" }, "x": { "$ref": "#/$defs/d150" }, "y": { "$ref": "#/$defs/d0" } } })
        };
        let doubled = defs(|next| json!({ "type": "object", "properties": { "a": next, "b": next } }), json!({}));
        let copy = plain(&doubled).unwrap();
        assert_eq!(copy["properties"]["near"], json!({ "type": "STRING" }));
        assert!(copy.to_string().len() < 1 << 20, "{}", copy.to_string().len());
        let chained = plain(&defs(|next| next, json!({ "type": "integer" }))).unwrap();
        assert_eq!(chained["properties"]["x"], json!({ "type": "INTEGER" }));
        assert!(chained["properties"].get("y").is_none(), "{chained}");
        let long = json!({ "type": "string", "description": "d".repeat(100_000) });
        let properties: Map<String, Value> =
            (0..1_000).map(|at| (format!("p{at}"), json!({ "$ref": "#/$defs/long" }))).collect();
        let repeated = json!({ "type": "object", "properties": properties, "$defs": { "long": long } });
        assert!(plain(&repeated).unwrap().to_string().len() < 1 << 20);
    }
}
