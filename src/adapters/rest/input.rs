//! A tool's input out of a request: path, query and body, by the tool's own schema.

use crate::domain::nearest;
use crate::error::{Error, Result};
use crate::tools::{Method, ToolSpec};
use serde_json::{Map, Value};

/// What a request gave, percent-decoded and in order.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) path: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Map<String, Value>,
}

/// The tool's input. Unknown fields are left in: the tool refuses them with the name that was probably meant.
pub(super) fn input_of(spec: &ToolSpec, method: Method, given: Given) -> Result<Map<String, Value>> {
    let schema = spec.input_for(false);
    let fields = schema.get("properties").and_then(Value::as_object);
    let field = |name: &str| fields.and_then(|fields| fields.get(name)).unwrap_or(&Value::Null);
    let mut input = Map::new();
    for (name, text) in given.path {
        let value = coerce(&name, &text, field(&name))?;
        insert(&mut input, name, value)?;
    }
    let in_query = matches!(method, Method::Get | Method::Delete);
    if in_query && let Some(name) = given.body.keys().next() {
        return Err(Error::invalid_input(format!("`{}` takes no body", spec.name))
            .hint("give its fields in the query")
            .field(name));
    }
    for (name, texts) in grouped(given.query) {
        if !in_query && name != "environment" {
            return Err(misplaced(spec, &name, fields));
        }
        let value = from_query(&name, &texts, field(&name))?;
        insert(&mut input, name, value)?;
    }
    for (name, value) in given.body {
        insert(&mut input, name, value)?;
    }
    Ok(input)
}

fn insert(input: &mut Map<String, Value>, name: String, value: Value) -> Result<()> {
    if input.contains_key(&name) {
        return Err(Error::invalid_input(format!("`{}` is given twice", name.escape_debug()))
            .hint("give it in the path, in the query or in the body")
            .field(name));
    }
    input.insert(name, value);
    Ok(())
}

/// Equal names together, in the order of their first.
fn grouped(query: Vec<(String, String)>) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (name, text) in query {
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, texts)) => texts.push(text),
            None => groups.push((name, vec![text])),
        }
    }
    groups
}

fn misplaced(spec: &ToolSpec, name: &str, fields: Option<&Map<String, Value>>) -> Error {
    let shown = name.escape_debug();
    let error = Error::invalid_input(format!("`{}` has no query field `{shown}`", spec.name)).field(name);
    let known = fields.into_iter().flat_map(Map::keys).map(String::as_str);
    match nearest(name, known) {
        Some(meant) if meant == name => error.hint(format!("give `{shown}` in the JSON body")),
        Some("environment") => error.hint("did you mean `environment`?"),
        Some(meant) => error.hint(format!("did you mean `{meant}`? It goes in the JSON body")),
        None => error.hint("only `environment` may be given in the query here; all else goes in the JSON body"),
    }
}

fn from_query(name: &str, texts: &[String], schema: &Value) -> Result<Value> {
    if let Some(items) = array_of(schema) {
        return texts.iter().map(|text| coerce(name, text, items)).collect::<Result<Vec<_>>>().map(Value::Array);
    }
    match texts {
        [text] => coerce(name, text, schema),
        _ => Err(Error::invalid_input(format!("`{}` is given {} times", name.escape_debug(), texts.len())).field(name)),
    }
}

/// The text as the first type that the schema names. What may be a string stays one.
fn coerce(name: &str, text: &str, schema: &Value) -> Result<Value> {
    let kinds = kinds(schema);
    let is = |kind: &str| kinds.contains(&kind);
    if kinds.is_empty() || is("string") {
        return Ok(Value::from(text));
    }
    let wanted = if is("integer") {
        text.parse::<i64>().map(Value::from).map_err(|_| "an integer")
    } else if is("number") {
        text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from).ok_or("a number")
    } else if is("boolean") {
        text.parse::<bool>().map(Value::from).map_err(|_| "`true` or `false`")
    } else {
        serde_json::from_str(text).map_err(|_| "JSON")
    };
    wanted.map_err(|wanted| {
        let shown: String = text.chars().take(80).collect();
        Error::invalid_input(format!("`{}` is `{}`", name.escape_debug(), shown.escape_debug()))
            .hint(format!("it must be {wanted}"))
            .field(name)
    })
}

/// The types a schema admits, `null` aside: a query can't say it. Empty when it doesn't say.
fn kinds(schema: &Value) -> Vec<&str> {
    let mut kinds = Vec::new();
    match schema.get("type") {
        Some(Value::String(kind)) => kinds.push(kind.as_str()),
        Some(Value::Array(all)) => kinds.extend(all.iter().filter_map(Value::as_str)),
        _ => {}
    }
    if let Some(Value::Array(values)) = schema.get("enum")
        && values.iter().any(Value::is_string)
    {
        kinds.push("string");
    }
    kinds.extend(alternatives(schema).flat_map(self::kinds));
    kinds.retain(|kind| *kind != "null");
    kinds
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten()
}

/// The schema of the items, if the schema admits an array.
fn array_of(schema: &Value) -> Option<&Value> {
    let own = schema.get("type").is_some_and(|kind| {
        kind == "array" || kind.as_array().is_some_and(|all| all.iter().any(|kind| kind == "array"))
    });
    if own {
        return Some(schema.get("items").unwrap_or(&Value::Null));
    }
    alternatives(schema).find_map(array_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;
    use crate::tools::ToolSpec;
    use schemars::JsonSchema;
    use serde_json::json;

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Input {
        agent: String,
        limit: Option<u32>,
        ratio: Option<f64>,
        deep: Option<bool>,
        tags: Option<Vec<String>>,
        numbers: Option<Vec<i64>>,
        filter: Option<Map<String, Value>>,
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(method: Method, path: &[(&str, &str)], query: &[(&str, &str)], body: Value) -> Result<Value> {
        let spec = ToolSpec::new::<Input, Map<String, Value>>("thing_get", Scope::AgentsRead);
        let body = body.as_object().cloned().unwrap_or_default();
        input_of(&spec, method, Given { path: pairs(path), query: pairs(query), body }).map(Value::Object)
    }

    #[test]
    fn the_query_is_coerced_by_the_schema() {
        let query = [
            ("limit", "5"),
            ("ratio", "0.5"),
            ("deep", "true"),
            ("tags", "1"),
            ("tags", "b"),
            ("numbers", "7"),
            ("filter", "{\"a\":1}"),
            ("environment", "staging"),
            ("unknown", "1"),
        ];
        let input = read(Method::Get, &[("agent", "7")], &query, json!({})).unwrap();
        let expected = json!({
            "agent": "7", "limit": 5, "ratio": 0.5, "deep": true, "tags": ["1", "b"], "numbers": [7], "filter": { "a": 1 },
            "environment": "staging", "unknown": "1"
        });
        assert_eq!(input, expected);
    }

    #[test]
    fn a_text_of_the_wrong_type_is_an_error_that_names_the_field() {
        for (name, text) in
            [("limit", "x"), ("limit", "1.5"), ("ratio", "NaN"), ("deep", "yes"), ("numbers", "a"), ("filter", "{")]
        {
            let error = read(Method::Get, &[], &[(name, text)], json!({})).unwrap_err();
            assert_eq!(error.field_name(), Some(name), "{text}");
        }
    }

    #[test]
    fn what_is_given_twice_is_refused() {
        let agent = [("agent", "a")];
        assert!(read(Method::Get, &agent, &agent, json!({})).unwrap_err().message().contains("twice"));
        assert!(read(Method::Patch, &agent, &[], json!({ "agent": "a" })).unwrap_err().message().contains("twice"));
        let environment = read(Method::Post, &[], &[("environment", "a")], json!({ "environment": "a" }));
        assert!(environment.unwrap_err().message().contains("twice"));
        assert!(
            read(Method::Get, &[], &[("limit", "1"), ("limit", "2")], json!({}))
                .unwrap_err()
                .message()
                .contains("2 times")
        );
    }

    #[test]
    fn a_field_in_the_wrong_place_is_told_where_it_belongs() {
        let error = read(Method::Post, &[], &[("limit", "1")], json!({})).unwrap_err();
        assert_eq!(error.hint_text(), Some("give `limit` in the JSON body"));
        let error = read(Method::Post, &[], &[("enviroment", "a")], json!({})).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean `environment`?"));
        assert!(read(Method::Delete, &[], &[], json!({ "limit": 1 })).is_err());
    }

    #[test]
    fn a_null_in_the_body_of_a_patch_stays_a_null_and_an_absent_field_stays_absent() {
        let input = read(Method::Patch, &[("agent", "a")], &[], json!({ "limit": null })).unwrap();
        assert_eq!(input, json!({ "agent": "a", "limit": null }));
    }
}
