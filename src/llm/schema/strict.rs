//! Which schemas OpenAI can hold a model to (`strict: true`), so that its arguments always fit. What it can't is a 400 for the whole
//! request, so only what is surely in its subset counts.

use serde_json::{Map, Value};

/// Keywords that strict schemas may have; all others are taken for foreign.
const KEYWORDS: [&str; 10] = [
    "type",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
];
const MAX_DEPTH: usize = 5;
const MAX_PROPERTIES: usize = 5_000;
const MAX_ENUM_VALUES: usize = 1_000;

/// Can a model be held to this schema, the root of a tool's arguments?
pub(crate) fn fits(schema: &Value) -> bool {
    let mut seen = Seen::default();
    let Some(root) = schema.as_object() else { return false };
    let mut root = root.clone();
    let definitions = root.shift_remove("$defs");
    let definitions: Vec<&Value> = match &definitions {
        None => Vec::new(),
        Some(Value::Object(definitions)) => definitions.values().collect(),
        Some(_) => return false,
    };
    !root.contains_key("anyOf")
        && root.get("type").is_some_and(|kind| kind == "object")
        && seen.object(&root, 0)
        && definitions.into_iter().all(|definition| seen.schema(definition, 0))
        && seen.properties <= MAX_PROPERTIES
        && seen.enum_values <= MAX_ENUM_VALUES
}

#[derive(Default)]
struct Seen {
    properties: usize,
    enum_values: usize,
}

impl Seen {
    fn schema(&mut self, schema: &Value, depth: usize) -> bool {
        schema.as_object().is_some_and(|schema| self.object(schema, depth))
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> bool {
        let says_something =
            ["type", "enum", "const", "anyOf", "$ref"].iter().any(|keyword| schema.contains_key(*keyword));
        depth <= MAX_DEPTH
            && says_something
            && schema.keys().all(|keyword| KEYWORDS.contains(&keyword.as_str()))
            && self.closed(schema, depth)
            && self.listed(schema, depth)
            && self.chosen(schema, depth)
    }

    /// An object names all of its properties, requires them, and allows no other.
    fn closed(&mut self, schema: &Map<String, Value>, depth: usize) -> bool {
        if !is(schema, "object") {
            return ["properties", "required", "additionalProperties"]
                .iter()
                .all(|keyword| !schema.contains_key(*keyword));
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return false };
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        self.properties += properties.len();
        schema.get("additionalProperties").is_some_and(|others| *others == Value::Bool(false))
            && required.len() == properties.len()
            && properties.keys().all(|name| required.iter().any(|required| required == name))
            && properties.values().all(|property| self.schema(property, depth + 1))
    }

    fn listed(&mut self, schema: &Map<String, Value>, depth: usize) -> bool {
        match (is(schema, "array"), schema.get("items")) {
            (true, Some(items)) => self.schema(items, depth + 1),
            (false, None) => true,
            _ => false,
        }
    }

    fn chosen(&mut self, schema: &Map<String, Value>, depth: usize) -> bool {
        self.enum_values += schema.get("enum").and_then(Value::as_array).map_or(0, Vec::len);
        match schema.get("anyOf") {
            None => true,
            Some(Value::Array(variants)) => variants.iter().all(|variant| self.schema(variant, depth + 1)),
            Some(_) => false,
        }
    }
}

/// Does the schema allow this type, alone or among others?
fn is(schema: &Map<String, Value>, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(property: Value) -> Value {
        json!({ "type": "object", "properties": { "a": property }, "required": ["a"], "additionalProperties": false })
    }

    #[test]
    fn closed_objects_whose_properties_are_all_required_fit() {
        let inner = of(json!({ "type": ["string", "null"], "description": "d" }));
        let mut with_definitions = of(json!({ "$ref": "#/$defs/inner" }));
        with_definitions["$defs"] = json!({ "inner": inner });
        for schema in [
            json!({ "type": "object", "properties": {}, "additionalProperties": false }),
            of(json!({ "enum": ["x", "y"] })),
            of(json!({ "type": "array", "items": inner })),
            of(json!({ "anyOf": [{ "type": "integer" }, inner] })),
            with_definitions,
        ] {
            assert!(fits(&schema), "{schema}");
        }
    }

    #[test]
    fn everything_else_does_not() {
        let mut optional = of(json!({ "type": "string" }));
        optional["required"] = json!([]);
        let mut open = of(json!({ "type": "string" }));
        open["additionalProperties"] = json!(true);
        let mut odd_root = of(json!({ "type": "string" }));
        odd_root["anyOf"] = json!([]);
        let many: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
        let deep = (0..7).fold(json!({ "type": "string" }), |inner, _| of(inner));
        for schema in [
            json!({ "type": "object", "properties": {} }),
            json!(true),
            optional,
            open,
            odd_root,
            of(json!({})),
            of(json!({ "type": "string", "default": "x" })),
            of(json!({ "type": "array", "items": {} })),
            of(json!({ "type": "object", "additionalProperties": false })),
            of(json!({ "type": "string", "allOf": [] })),
            of(json!({ "properties": {} })),
            of(json!({ "enum": many })),
            deep,
        ] {
            assert!(!fits(&schema), "{schema}");
        }
    }
}
