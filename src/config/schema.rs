//! The JSON Schemas of the files that people write, for editors. They are made from the tables of keys that the parsers use.

use super::keys::{Form, Keys, Needs};
use super::{prompt, servers, station_yml};
use crate::domain::Name;
use serde_json::{Map, Value, json};

/// The files that have a schema: what they are called, and what of them it describes.
pub const FILE_SCHEMAS: [(&str, &str); 4] = [
    ("station", "Settings of a station (station.yml)."),
    ("prompt", "The front matter of an agent's file (agents/*.prompt)."),
    ("servers", "Attached MCP servers (*.json of an environment)."),
    ("variables", "Plain variables of an environment (variables.yml)."),
];

/// Where a schema is kept below a home's cache, and below `docs/` of the sources.
pub fn schema_path(name: &str) -> String {
    format!("schemas/{name}.schema.json")
}

/// Every schema as it is published: its name, and its text.
pub fn schema_texts() -> impl Iterator<Item = (&'static str, String)> {
    let text = |schema: &Value| serde_json::to_string_pretty(schema).unwrap_or_default() + "\n";
    FILE_SCHEMAS.iter().filter_map(move |(name, _)| Some((*name, text(&file_schema(name)?))))
}

/// The JSON Schema (draft 2020-12) of one of [`FILE_SCHEMAS`].
pub fn file_schema(name: &str) -> Option<Value> {
    let (name, about) = FILE_SCHEMAS.iter().find(|(known, _)| *known == name)?;
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), (*name).into());
    schema.insert("description".into(), (*about).into());
    schema.extend(match *name {
        "station" => map(&station_yml::keys::KEYS),
        "prompt" => map(&prompt::KEYS),
        "servers" => map(&servers::FILE_KEYS),
        _ => variables(),
    });
    Some(Value::Object(schema))
}

/// A flat map of names and single values.
fn variables() -> Map<String, Value> {
    object(json!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
    }))
}

fn map(keys: &Keys) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys.known {
        let mut schema = form(key.form);
        schema.insert("description".into(), key.about.into());
        properties.insert(key.name.into(), Value::Object(schema));
    }
    for (key, why) in keys.idle {
        properties
            .insert((*key).into(), json!({ "deprecated": true, "description": format!("No effect here: {why}.") }));
    }
    // Nothing behind a key means that it isn't there.
    let mut schema =
        object(json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false }));
    match keys.needs {
        Needs::All(keys) => {
            schema.insert("allOf".into(), json!([all_there(keys)]));
        }
        Needs::One(keys) => {
            schema.insert("type".into(), "object".into());
            let each: Vec<Value> = keys.iter().map(|key| Value::Object(all_there(&[*key]))).collect();
            schema.insert("oneOf".into(), each.into());
        }
        Needs::Nothing | Needs::KeyUnlessNamed(..) => {}
    }
    schema
}

/// That a map has all of `keys`, and something behind each.
fn all_there(keys: &[&str]) -> Map<String, Value> {
    let said: Map<String, Value> =
        keys.iter().map(|key| ((*key).into(), json!({ "not": { "type": "null" } }))).collect();
    object(json!({ "required": keys, "properties": said }))
}

fn form(form: Form) -> Map<String, Value> {
    object(match form {
        Form::Text => json!({ "type": ["string", "null"], "pattern": "\\S" }),
        Form::Listen => {
            let pattern = r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):\d{1,5}$";
            json!({ "type": ["string", "null"], "pattern": pattern, "examples": ["127.0.0.1:8080", "[::1]:8080"] })
        }
        Form::Url => json!({ "type": ["string", "null"], "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://\S|\{\{" }),
        Form::Note => json!({ "type": ["string", "null"] }),
        Form::Flag => json!({ "type": ["boolean", "null"] }),
        Form::Count(most) => json!({ "type": ["integer", "null"], "minimum": 1, "maximum": most }),
        Form::CountOrText(most) => json!({
            "type": ["integer", "string", "null"], "minimum": 1, "maximum": most, "pattern": "^0*[1-9][0-9]*$"
        }),
        Form::Duration => json!({
            "type": ["string", "integer", "null"],
            "minimum": 1,
            // Servers' texts may have placeholders.
            "pattern": r"^\s*(?=.*[1-9])(\d+|(\d+(ms|s|m|h|d))+)\s*$|\{\{",
            "examples": ["90s", "10m", "1h30m"]
        }),
        Form::Texts => json!({ "type": ["array", "null"], "items": { "type": "string" } }),
        Form::TextMap => json!({ "type": ["object", "null"], "additionalProperties": { "type": "string" } }),
        Form::Values => json!({ "type": ["object", "null"] }),
        Form::OneOf(words) => {
            let words: Vec<Value> = words.iter().map(|word| (*word).into()).chain([Value::Null]).collect();
            json!({ "enum": words })
        }
        Form::FlagOr(words) => {
            let words = words.iter().map(|word| Value::from(*word)).chain([true.into(), false.into(), Value::Null]);
            json!({ "enum": words.collect::<Vec<_>>() })
        }
        Form::Amount => {
            json!({ "type": ["number", "string", "null"], "minimum": 0, "pattern": "^\\d{1,6}(\\.\\d{1,6})?$" })
        }
        Form::Model => json!({ "type": ["string", "null"], "pattern": "^[^/\\s]+/\\S+$" }),
        Form::AgentModel => json!({ "type": ["string", "null"], "pattern": "^[^/\\s]+(/\\S+)?$" }),
        Form::Name => json!({ "type": ["string", "null"], "pattern": Name::PATTERN }),
        Form::Schema => json!({ "type": ["object", "string", "null"] }),
        Form::Map(keys) => return map(keys),
        Form::Named(pattern, keys) => {
            let inner = Value::Object(map(keys));
            let outer = json!({ "type": ["object", "null"], "additionalProperties": inner });
            let mut outer = object(outer);
            if !pattern.is_empty() {
                outer.insert("propertyNames".into(), json!({ "pattern": pattern }));
            }
            if let Needs::KeyUnlessNamed(key, names) = keys.needs {
                let others = format!("^(?!({})$)", names.join("|"));
                outer.insert("allOf".into(), json!([{ "patternProperties": { (others): all_there(&[key]) } }]));
            }
            return outer;
        }
    })
}

fn object(schema: Value) -> Map<String, Value> {
    match schema {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{HOME_FILES, SAMPLE_ENVIRONMENT_FILES};
    use super::super::{front_matter, yaml};
    use super::*;
    use std::path::Path;

    /// `STN_WRITE_SCHEMAS=1` writes them anew.
    #[test]
    fn the_published_schemas_are_those_of_the_code() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        for (name, now) in schema_texts() {
            let path = docs.join(schema_path(name));
            if std::env::var_os("STN_WRITE_SCHEMAS").is_some() {
                std::fs::write(&path, &now).unwrap();
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(published == now, "{} is not what the code says: set STN_WRITE_SCHEMAS=1", path.display());
        }
        assert!(file_schema("other").is_none());
        let kept = std::fs::read_dir(docs.join("schemas")).unwrap().count();
        assert_eq!(kept, FILE_SCHEMAS.len(), "a schema that no file has");
    }

    fn faults(name: &str, value: &Value) -> Vec<String> {
        let validator = jsonschema::validator_for(&file_schema(name).unwrap()).unwrap();
        validator.iter_errors(value).map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn what_the_parsers_read_fits_the_schemas_and_what_they_refuse_does_not() {
        for file in HOME_FILES.iter().chain(&SAMPLE_ENVIRONMENT_FILES) {
            let found = if file.path == "station.yml" {
                faults("station", &yaml::parse(file.contents).unwrap().value)
            } else if file.path.ends_with(".prompt") {
                let halves = front_matter::split(file.contents).unwrap();
                faults("prompt", &yaml::parse(&file.contents[halves.yaml]).unwrap().value)
            } else if file.path.ends_with("variables.yml") {
                faults("variables", &yaml::parse(file.contents).unwrap().value)
            } else if file.path.ends_with(".json") {
                faults("servers", &serde_json::from_str(file.contents).unwrap())
            } else {
                continue;
            };
            assert!(found.is_empty(), "{}: {found:?}", file.path);
        }
        let cases = [
            ("variables", json!({ "A": ["list"] })),
            ("variables", json!({ "a-b": "x" })),
            ("station", json!({ "http": { "listn": "x" } })),
            ("station", json!({ "runs": { "workers": 0 } })),
            ("station", json!({ "environments": { "Bad Name": {} } })),
            ("station", json!({ "models": { "default": "gpt" } })),
            ("prompt", json!({ "max_step": 3 })),
            ("prompt", json!({ "retry": { "on_in_doubt": "perhaps" } })),
            ("prompt", json!({ "tools": "one" })),
            ("servers", json!({ "mcpServers": { "a": { "comand": "x" } } })),
            ("servers", json!({ "mcpServers": { "a": { "command": "x", "env": { "A": 1 } } } })),
        ];
        let refused = [
            ("station", json!({ "runs": { "timeout": "soon" } })),
            ("station", json!({ "runs": { "timeout": "0s" } })),
            ("station", json!({ "runs": { "timeout": 0 } })),
            ("station", json!({ "http": { "listen": "localhost" } })),
            ("station", json!({ "providers": { "hub": { "base_url": "https://x" } } })),
            ("station", json!({ "providers": { "hub": { "api": null } } })),
            ("station", json!({ "providers": { "openai": { "base_url": "ftp://x" } } })),
            ("station", json!({ "models": { "prices": { "a/b": { "input": 1 } } } })),
            ("station", json!({ "models": { "prices": { "a/b": { "input": 1, "output": null } } } })),
            ("prompt", json!({ "timeout": "10 m" })),
            ("prompt", json!({ "metadata": { "max_steps": "eight" } })),
            ("prompt", json!({ "output": { "format": "jsno" } })),
            ("servers", json!({ "mcpServers": { "a": {} } })),
            ("servers", json!({ "mcpServers": { "a": { "args": [] } } })),
            ("servers", json!({ "mcpServers": { "a": { "command": null } } })),
            ("servers", json!({ "mcpServers": { "a": { "command": "x", "url": "https://x" } } })),
            ("servers", json!({ "mcpServers": { "a": { "url": "x" } } })),
        ];
        for (name, value) in cases.into_iter().chain(refused) {
            assert!(!faults(name, &value).is_empty(), "{name}: {value}");
        }
        assert!(faults("station", &json!({ "environments": { "production": null } })).is_empty());
        for (name, value) in [
            ("prompt", json!({ "model": "gpt-5-mini", "sandbox": "python", "metadata": { "max_steps": "8" } })),
            ("prompt", json!({ "timeout": "1h30m" })),
            ("prompt", json!({ "output": { "type": "object", "properties": { "a": {} }, "required": ["a"] } })),
            ("station", json!({ "runs": { "timeout": 90 }, "http": { "listen": "[::1]:0" } })),
            ("station", json!({ "providers": { "openai": { "timeout": "90s" }, "hub": { "api": "openai_chat" } } })),
            ("station", json!({ "models": { "prices": { "a/b": { "input": 1, "output": "0.5" }, "c/d": null } } })),
            ("servers", json!({ "version": "1", "mcpServers": { "a": { "command": "x", "url": null } } })),
            ("servers", json!({ "mcpServers": { "a": { "url": "{{ .URL }}", "timeout": "{{ .T }}" } } })),
        ] {
            let found = faults(name, &value);
            assert!(found.is_empty(), "{name}: {value}: {found:?}");
        }
    }
}
