//! The OpenAPI 3.1 document, from the specs that the routes themselves come from.

use super::{BASE, OPENAPI, events};
use crate::error::ErrorKind;
use crate::tools::spec::Rest;
use crate::tools::{Method, Table, ToolSpec};
use serde_json::{Map, Value, json};

/// Describes every route. OpenAPI 3.1 takes the tools' JSON Schemas as they are.
pub(super) fn document(table: &Table) -> Value {
    let mut paths = Map::new();
    for spec in table.iter().map(|tool| &tool.spec) {
        if let Some(rest) = spec.rest {
            add(&mut paths, &format!("{BASE}{}", rest.path), method(rest.method), operation(spec, rest));
        }
    }
    add(&mut paths, OPENAPI, "get", plain("openapi", "This document", "application/json", json!({ "type": "object" })));
    let health = json!({ "type": "object", "properties": { "status": { "type": "string" } } });
    for (path, name, summary) in
        [("/healthz", "health", "Whether the station answers"), ("/readyz", "readiness", "Whether it is ready")]
    {
        let mut operation = plain(name, summary, "application/json", health.clone());
        operation["security"] = json!([]);
        add(&mut paths, path, "get", operation);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Station",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A self-hosted runtime for AI agents. Errors are RFC 9457 problem documents. The bearer is an API key (`stn api-key create`), or on the station's own machine the key of its home.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer", "description": "`Authorization: Bearer stn_key_...`" } },
            "schemas": { "Problem": problem() },
            "responses": {
                "Problem": {
                    "description": "What went wrong, and what to do about it",
                    "headers": { "x-request-id": { "description": "Names the request in the log", "schema": { "type": "string" } } },
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
        },
    })
}

fn add(paths: &mut Map<String, Value>, path: &str, method: &str, operation: Value) {
    let methods = paths.entry(path).or_insert_with(|| json!({}));
    if let Some(methods) = methods.as_object_mut() {
        methods.insert(method.to_owned(), operation);
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "get",
        Method::Post => "post",
        Method::Patch => "patch",
        Method::Delete => "delete",
    }
}

fn operation(spec: &ToolSpec, rest: Rest) -> Value {
    let input = spec.input_for(false);
    let in_path: Vec<&str> = path_fields(rest.path).collect();
    let in_query = matches!(rest.method, Method::Get | Method::Delete);
    let fields = input.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let required = required(&input);
    let of_path = in_path.iter().map(|name| parameter("path", name, fields.get(*name), true));
    let of_query = fields
        .iter()
        .filter(|(name, _)| !in_path.contains(&name.as_str()) && (in_query || *name == "environment"))
        .map(|(name, schema)| parameter("query", name, Some(schema), required.contains(&name.as_str())));
    let mut operation = plain(spec.name, spec.title, "application/json", spec.output.clone());
    let answer = operation["responses"]["200"].take();
    operation["responses"] =
        json!({ rest.success.to_string(): answer, "default": { "$ref": "#/components/responses/Problem" } });
    if let Some(location) = rest.location {
        let header = json!({ "description": format!("`{BASE}{location}`"), "schema": { "type": "string" } });
        operation["responses"][rest.success.to_string()]["headers"] = json!({ "Location": header });
    }
    if rest.success == 202 {
        let mut ended = operation["responses"]["202"].clone();
        ended["description"] = "It has ended: nothing is still to come".into();
        operation["responses"]["200"] = ended;
    }
    operation["description"] = spec.description.into();
    operation["tags"] = json!([spec.action().split('.').next()]);
    let of_header =
        fields.get("idempotency_key").map(|schema| parameter("header", "Idempotency-Key", Some(schema), false));
    operation["parameters"] = of_path.chain(of_query).chain(of_header).collect();
    if !in_query {
        operation["requestBody"] = request_body(&input, &in_path);
    }
    if spec.name == events::TOOL {
        add_stream(&mut operation);
    }
    operation
}

/// An operation with one kind of answer.
fn plain(name: &str, summary: &str, media_type: &str, schema: Value) -> Value {
    json!({
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": { "description": summary, "content": { media_type: { "schema": schema } } },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    })
}

fn parameter(place: &str, name: &str, schema: Option<&Value>, required: bool) -> Value {
    let mut schema = schema.cloned().unwrap_or_else(|| json!({ "type": "string" }));
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut parameter = json!({ "name": name, "in": place, "required": required, "schema": schema });
    if let Some(description) = description {
        parameter["description"] = description;
    }
    parameter
}

/// The input without what the path says. `environment` may stand here too.
fn request_body(input: &Value, in_path: &[&str]) -> Value {
    let mut schema = input.clone();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| !in_path.contains(&name.as_str()));
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !name.as_str().is_some_and(|name| in_path.contains(&name)));
    }
    let needed = !required(&schema).is_empty();
    json!({ "required": needed, "content": { "application/json": { "schema": schema } } })
}

fn required(schema: &Value) -> Vec<&str> {
    let required = schema.get("required").and_then(Value::as_array);
    required.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn path_fields(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// What the same address answers to whoever asks for the stream.
fn add_stream(operation: &mut Value) {
    let stream = json!({ "type": "string", "description": "`event` is the type, `id` is `epoch-seq`, `data` the event as JSON." });
    operation["responses"]["200"]["content"][events::EVENT_STREAM] = json!({ "schema": stream });
    operation["responses"]["204"] =
        json!({ "description": "With `Accept: text/event-stream`: the given event was the run's last" });
    operation["description"] =
        "A page of the stored events. With `Accept: text/event-stream`, a stream: the stored events after the given one, then those that \
         happen, up to the run's end. The stream takes `after` (an event's `id` or its `seq`) and `Last-Event-ID`, and none of the other \
         fields. A reader that has seen what no longer is gets `run.rewound` and the events from the start."
            .into();
    let last =
        json!({ "type": "string", "description": "Of a stream: only events after this one, its `id` or its `seq`." });
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.push(parameter("header", "Last-Event-ID", Some(&last), false));
    }
}

fn problem() -> Value {
    use ErrorKind::{
        Cancelled, Conflict, Internal, InvalidInput, NotAcceptable, NotFound, PayloadTooLarge, PermissionDenied,
        RateLimited, Timeout, Unauthenticated, Unavailable,
    };
    let kinds = [
        InvalidInput,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        NotAcceptable,
        Conflict,
        PayloadTooLarge,
        RateLimited,
        Unavailable,
        Timeout,
        Cancelled,
        Internal,
    ]
    .map(ErrorKind::as_str);
    let text = json!({ "type": "string" });
    let perhaps = json!({ "type": ["string", "null"] });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "kind", "message", "request_id"],
        "properties": {
            "type": { "type": "string", "format": "uri", "description": "`urn:station:error:<kind>`" },
            "title": text,
            "status": { "type": "integer" },
            "detail": text,
            "kind": { "type": "string", "enum": kinds },
            "message": { "type": "string", "description": "The same as `detail`" },
            "hint": { "type": ["string", "null"], "description": "The fix" },
            "field": { "type": ["string", "null"], "description": "The input field at fault" },
            "details": {},
            "request_id": perhaps,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of the document, and every schema that isn't an object.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_tool_with_a_route_is_described_under_its_name() {
        let table = crate::tools::table();
        let document = document(&table);
        for spec in table.iter().map(|tool| &tool.spec) {
            let Some(rest) = spec.rest else { continue };
            let operation = &document["paths"][format!("{BASE}{}", rest.path)][method(rest.method)];
            assert_eq!(operation["operationId"], spec.name);
            assert!(
                operation["responses"][rest.success.to_string()]["content"]["application/json"]["schema"].is_object(),
                "{}",
                spec.name
            );
            let parameters = operation["parameters"].as_array().unwrap();
            for field in path_fields(rest.path) {
                let described = parameters.iter().find(|parameter| parameter["name"] == field).unwrap();
                assert_eq!((&described["in"], &described["required"]), (&json!("path"), &json!(true)));
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_operation_is_named_twice() {
        let document = document(&crate::tools::table());
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|methods| methods.as_object().unwrap().values());
        let mut names: Vec<&str> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn fields_of_a_post_are_in_its_body_and_those_of_a_get_in_its_query() {
        let document = document(&crate::tools::table());
        let run = &document["paths"]["/api/v1/agents/{agent}/queue"]["post"];
        let body = &run["requestBody"]["content"]["application/json"]["schema"];
        assert!(body["properties"]["input"].is_object() && body["properties"].get("agent").is_none());
        assert!(!required(body).contains(&"agent"));
        let list = &document["paths"]["/api/v1/agents"]["get"];
        let query: Vec<&str> =
            list["parameters"].as_array().unwrap().iter().filter_map(|parameter| parameter["name"].as_str()).collect();
        assert!(query.contains(&"limit") && query.contains(&"environment"));
        assert_eq!(document["paths"]["/healthz"]["get"]["security"], json!([]));
    }

    #[test]
    fn the_queue_names_its_header_and_both_its_answers() {
        let document = document(&crate::tools::table());
        let run = &document["paths"]["/api/v1/agents/{agent}/queue"]["post"];
        let named = |name: &str| run["parameters"].as_array().unwrap().iter().find(|given| given["name"] == name);
        assert_eq!(named("Idempotency-Key").unwrap()["in"], "header");
        let schema = |status: &str| &run["responses"][status]["content"]["application/json"]["schema"];
        assert!(schema("202").is_object());
        assert_eq!(schema("200"), schema("202"));
    }

    #[test]
    fn events_are_a_page_or_a_stream_at_one_address() {
        let document = document(&crate::tools::table());
        let events = &document["paths"]["/api/v1/runs/{run}/events"]["get"];
        let kinds: Vec<&String> = events["responses"]["200"]["content"].as_object().unwrap().keys().collect();
        assert_eq!(kinds, ["application/json", "text/event-stream"]);
        assert!(events["responses"]["204"].is_object());
        let names: Vec<&str> =
            events["parameters"].as_array().unwrap().iter().filter_map(|given| given["name"].as_str()).collect();
        for name in ["run", "after", "limit", "cursor", "Last-Event-ID"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
    }
}
