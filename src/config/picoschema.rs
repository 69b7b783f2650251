//! Picoschema, dotprompt's short way to write a JSON Schema: `name?: string, who asks`. The rules are those of dotprompt's specification;
//! `tests/it/fixtures/picoschema.json` has its cases.

use super::input::SchemaFault;
use crate::domain::{nearest, quoted};
use serde_json::{Map, Value, json};

const SCALARS: [&str; 7] = ["string", "number", "integer", "boolean", "null", "any", "object"];
const CONTAINERS: [&str; 3] = ["array", "object", "enum"];
/// Types that a JSON Schema has at its root.
pub(super) const JSON_SCHEMA_TYPES: [&str; 7] = ["string", "boolean", "null", "number", "integer", "object", "array"];
/// Keys that only a JSON Schema has, where their value is a list.
const COMBINERS: [&str; 4] = ["anyOf", "oneOf", "allOf", "enum"];
const WILDCARD: &str = "(*)";

/// What a schema says once it is a JSON Schema.
#[derive(Debug, PartialEq)]
pub(super) struct Compiled {
    pub(super) schema: Value,
    /// Whether it was Picoschema.
    pub(super) short: bool,
}

/// Compiles Picoschema; a JSON Schema, recognised as dotprompt recognises it, stays as it is.
pub(super) fn compile(schema: &Value) -> Result<Compiled, SchemaFault> {
    if let Some(schema) = json_schema(schema) {
        return Ok(Compiled { schema, short: false });
    }
    let mut path = Vec::new();
    Ok(Compiled { schema: value(schema, &mut path)?, short: true })
}

fn json_schema(schema: &Value) -> Option<Value> {
    let object = schema.as_object()?;
    let kind = object.get("type");
    let has_type = match kind {
        Some(Value::String(kind)) => JSON_SCHEMA_TYPES.contains(&kind.as_str()),
        Some(Value::Array(_)) => true,
        _ => false,
    };
    if has_type {
        return Some(schema.clone());
    }
    if object.get("properties").is_some_and(Value::is_object) {
        let mut object = object.clone();
        object.insert("type".into(), "object".into());
        return Some(Value::Object(object));
    }
    let is_combined = COMBINERS.iter().any(|key| object.get(*key).is_some_and(Value::is_array));
    (object.is_empty() || is_combined || object.keys().any(|key| key.starts_with('$'))).then(|| schema.clone())
}

fn value(found: &Value, path: &mut Vec<String>) -> Result<Value, SchemaFault> {
    match found {
        Value::String(text) => scalar(text, path),
        Value::Object(fields) => object(fields, path),
        Value::Null => Err(fault(path, "it says no type").hint("for the type of null, write \"null\" in quotes")),
        Value::Array(_) => Err(fault(path, "a list is no type").hint("write name(array): type, or name(enum): [A, B]")),
        other => Err(fault(path, format!("{} is no type", quoted(&other.to_string()))).hint(expected())),
    }
}

/// `type, description`.
fn scalar(text: &str, path: &[String]) -> Result<Value, SchemaFault> {
    let (kind, about) = described(text);
    if !SCALARS.contains(&kind) {
        let guess = nearest(kind, SCALARS.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        let reason = format!("{} is no type of Picoschema{}", quoted(kind), guess.unwrap_or_default());
        return Err(fault(path, reason).hint(expected()));
    }
    let mut schema = Map::new();
    if kind != "any" {
        schema.insert("type".into(), kind.into());
    }
    describe(&mut schema, about);
    Ok(Value::Object(schema))
}

fn object(fields: &Map<String, Value>, path: &mut Vec<String>) -> Result<Value, SchemaFault> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let mut others = Value::Bool(false);
    for (key, found) in fields {
        path.push(key.clone());
        if key == WILDCARD {
            others = value(found, path)?;
        } else {
            let field = Field::parse(key, path)?;
            if properties.contains_key(field.name) {
                return Err(fault(path, format!("the field {} stands here a second time", quoted(field.name))));
            }
            let depth = path.len();
            let (schema, is_required) = match property(&field, found, path) {
                Ok(schema) => (schema, !field.optional),
                // Fields of the Go Station, which has them at the root alone, are none of Picoschema.
                Err(refused) => match go_station_field(found).filter(|_| depth == 1 && field.container.is_none()) {
                    Some(long) => {
                        path.truncate(depth);
                        (long.schema, long.is_required && !field.optional)
                    }
                    None => return Err(refused),
                },
            };
            properties.insert(field.name.to_owned(), schema);
            if is_required {
                required.push(Value::from(field.name));
            }
        }
        path.pop();
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": others });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    Ok(schema)
}

/// A key: `name?(array, what it is for)`.
struct Field<'a> {
    name: &'a str,
    optional: bool,
    container: Option<&'a str>,
    about: Option<&'a str>,
}

impl<'a> Field<'a> {
    fn parse(key: &'a str, path: &[String]) -> Result<Self, SchemaFault> {
        let (name, container) = match key.split_once('(') {
            None => (key, None),
            Some((name, rest)) => {
                let inner = rest.trim_end().strip_suffix(')');
                (name, Some(inner.ok_or_else(|| fault(path, "the `(` behind the field's name is never closed"))?))
            }
        };
        let name = name.trim();
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        if name.is_empty() {
            return Err(fault(path, "the field has no name"));
        }
        let (container, about) = container.map(described).unzip();
        if let Some(container) = container.filter(|container| !CONTAINERS.contains(container)) {
            let reason = format!("{} is none of {}", quoted(container), CONTAINERS.join(", "));
            return Err(fault(path, reason).hint("write the type of a single value behind the colon: name: string"));
        }
        Ok(Self { name, optional, container, about: about.flatten() })
    }
}

fn property(field: &Field<'_>, found: &Value, path: &mut Vec<String>) -> Result<Value, SchemaFault> {
    let mut schema = match field.container {
        Some("array") => json!({ "type": "array", "items": value(found, path)? }),
        Some("enum") => json!({ "enum": choices(found, path)? }),
        Some(_) if !found.is_object() => {
            return Err(fault(path, "the fields of an object are expected").hint("write name(object): { field: type }"));
        }
        _ => value(found, path)?,
    };
    if field.optional {
        nullable(&mut schema);
    }
    if let Some(object) = schema.as_object_mut() {
        describe(object, field.about);
    }
    Ok(schema)
}

/// A field as the Go Station writes one.
struct LongField {
    schema: Value,
    is_required: bool,
}

/// `mode: [a, b]`, or `q: { type: string, description: what is asked, default: x, enum: [x, y], required: true }`. As there, it may be left
/// out unless it says that it is required.
fn go_station_field(found: &Value) -> Option<LongField> {
    if found.is_array() {
        let schema = json!({ "enum": choices(found, &[]).ok()? });
        return Some(LongField { schema, is_required: false });
    }
    let parts = found.as_object()?;
    let fits = |(key, value): (&String, &Value)| match key.as_str() {
        "type" => value.as_str().is_some_and(|kind| JSON_SCHEMA_TYPES.contains(&kind)),
        "description" => value.is_string(),
        "enum" => choices(value, &[]).is_ok(),
        "required" => value.is_boolean(),
        key => key == "default",
    };
    if !parts.contains_key("type") || !parts.iter().all(fits) {
        return None;
    }
    let is_required = parts.get("required") == Some(&Value::Bool(true)) && !parts.contains_key("default");
    let mut schema = parts.clone();
    schema.remove("required");
    Some(LongField { schema: schema.into(), is_required })
}

fn choices(found: &Value, path: &[String]) -> Result<Vec<Value>, SchemaFault> {
    let list = found.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| fault(path, "a list of values is expected").hint("write name(enum): [A, B]"))?;
    if let Some(odd) = list.iter().find(|value| value.is_array() || value.is_object()) {
        return Err(fault(path, format!("{} can't be a value of an enum", quoted(&odd.to_string()))));
    }
    if let Some(twice) = list.iter().enumerate().find_map(|(at, value)| list[..at].contains(value).then_some(value)) {
        return Err(fault(path, format!("{} stands here a second time", quoted(&twice.to_string()))));
    }
    Ok(list.clone())
}

/// A field that may be left out may be null as well.
fn nullable(schema: &mut Value) {
    if let Some(kind @ Value::String(_)) = schema.get_mut("type") {
        if *kind != "null" {
            *kind = json!([kind.take(), "null"]);
        }
    } else if let Some(choices) = schema.get_mut("enum").and_then(Value::as_array_mut)
        && !choices.contains(&Value::Null)
    {
        choices.push(Value::Null);
    }
}

/// Splits `type, description` at the first comma.
fn described(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        None => (text.trim(), None),
        Some((kind, about)) => (kind.trim(), Some(about.trim()).filter(|about| !about.is_empty())),
    }
}

fn describe(schema: &mut Map<String, Value>, about: Option<&str>) {
    if let Some(about) = about {
        schema.insert("description".into(), about.into());
    }
}

fn expected() -> String {
    format!("the types are {}; write name: type, description", SCALARS.join(", "))
}

fn fault(path: &[String], reason: impl Into<String>) -> SchemaFault {
    SchemaFault { path: path.to_vec(), reason: reason.into(), hint: None }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn compiled(text: &str) -> Result<Value, SchemaFault> {
        compile(&yaml::parse(text).unwrap().value["schema"]).map(|compiled| compiled.schema)
    }

    /// The cases of dotprompt's specification, but for its named schemas, which a station has none of.
    #[test]
    fn the_cases_of_the_specification_compile_to_what_they_say() {
        let cases: Value = serde_json::from_str(include_str!("../../tests/it/fixtures/picoschema.json")).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 16);
        for case in cases {
            let found = compiled(case["yaml"].as_str().unwrap());
            assert_eq!(found.as_ref().ok(), Some(&case["want"]), "{}: {found:?}", case["name"]);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_field_and_the_fix() {
        for (text, path, part) in [
            ("schema: strin", "", "did you mean `string`?"),
            ("schema: Foo, a named one", "", "`Foo` is no type of Picoschema"),
            ("schema: [string]", "", "a list is no type"),
            ("schema: 5", "", "`5` is no type"),
            ("schema:\n  a: true", "a", "`true` is no type"),
            ("schema:\n  a:", "a", "it says no type"),
            ("schema:\n  a: { b: { c: nmber } }", "a.b.c", "did you mean `number`?"),
            ("schema:\n  a(list): string", "a(list)", "`list` is none of array, object, enum"),
            ("schema:\n  a(array: string", "a(array", "never closed"),
            ("schema:\n  a(array):\n    - string", "a(array)", "a list is no type"),
            ("schema:\n  a(object): string", "a(object)", "the fields of an object"),
            ("schema:\n  a(enum): string", "a(enum)", "a list of values"),
            ("schema:\n  a(enum): []", "a(enum)", "a list of values"),
            ("schema:\n  a(enum): [x, x]", "a(enum)", "a second time"),
            ("schema:\n  a(enum): [{ b: c }]", "a(enum)", "can't be a value"),
            ("schema:\n  a: string\n  a?: string", "a?", "`a` stands here a second time"),
            ("schema:\n  \"?\": string", "?", "no name"),
            ("schema:\n  (*): wild", "(*)", "`wild` is no type"),
        ] {
            let fault = compiled(text).unwrap_err();
            assert_eq!(fault.path.join("."), path, "{text}");
            assert!(fault.reason.contains(part), "{text}: {}", fault.reason);
        }
    }

    #[test]
    fn fields_as_the_go_station_writes_them_are_read_as_it_reads_them() {
        let text = "schema:\n  mode: [fast, slow]\n  q: { type: string, description: what is asked, required: true }\n  n: { type: integer, default: 3, required: true }\n  kind: { type: string, enum: [a, b] }\n  o: { type: string, description: string }\n";
        let schema = compiled(text).unwrap();
        assert_eq!(schema["required"], json!(["q", "o"]));
        let properties = json!({
            "mode": { "enum": ["fast", "slow"] },
            "q": { "type": "string", "description": "what is asked" },
            "n": { "type": "integer", "default": 3 },
            "kind": { "type": "string", "enum": ["a", "b"] },
        });
        for (name, expected) in properties.as_object().unwrap() {
            assert_eq!(&schema["properties"][name], expected);
        }
        assert_eq!(schema["properties"]["o"]["required"], json!(["type", "description"]), "that is Picoschema");
        for (odd, part) in [
            ("{ type: string, defualt: x }", "`x` is no type"),
            ("{ type: string, required: often }", "`often` is no type"),
            ("{ type: strin, default: x }", "is no type"),
            ("[]", "a list is no type"),
        ] {
            let fault = compiled(&format!("schema:\n  q: {odd}")).unwrap_err();
            assert!(fault.reason.contains(part), "{odd}: {}", fault.reason);
        }
    }

    #[test]
    fn a_json_schema_is_left_alone() {
        for schema in [
            json!({ "type": "object", "properties": { "a": { "type": "string" } } }),
            json!({ "type": ["object", "null"] }),
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "object" } } }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "number" }] }),
            json!({}),
        ] {
            assert_eq!(compile(&schema).unwrap(), Compiled { schema: schema.clone(), short: false });
        }
        let field_called_type = compiled("schema:\n  type: the kind of it").unwrap_err();
        assert_eq!(field_called_type.path, ["type"]);
        assert_eq!(compiled("schema:\n  type: string, the kind").unwrap()["required"], json!(["type"]));
    }
}
