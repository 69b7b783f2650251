//! Fakes of OpenAI's Responses and of Gemini's `generateContent` for models that think. They are stricter than the real ones: what the
//! model gave has to come back byte for byte and in its place, and every field of a request has to be known. Else it is 400, with the
//! reason.

use super::home::within;
use super::http::Listening;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Whose API it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Responses,
    Gemini,
}

/// What the model gives in one turn: output items or parts, as JSON text.
pub type Given = &'static [&'static str];

/// A running fake; ends when dropped.
pub struct FakeThinker {
    /// Without a path.
    pub url: String,
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    api: Api,
    script: Vec<Given>,
    /// The turn that is only given after [`FakeThinker::release`].
    held: usize,
    /// Gemini only: refuses this tool's JSON Schema, and takes it only in the oldest words.
    picky: Option<&'static str>,
    /// Responses only: events name the places of their items, and the last one doesn't repeat them. llama-server's don't, and does.
    places: bool,
    released: watch::Sender<bool>,
    asked: Mutex<Vec<(usize, String)>>,
    refused: Mutex<Vec<String>>,
}

impl FakeThinker {
    /// Follows `script`; the turn `held` (from 0) has to be released.
    pub fn start(api: Api, script: &[Given], held: usize) -> Self {
        Self::with(api, script, held, None, true)
    }

    /// Responses whose events name no places.
    pub fn without_places(script: &[Given]) -> Self {
        Self::with(Api::Responses, script, usize::MAX, None, false)
    }

    /// Gemini, which doesn't take the JSON Schema of the tool `picky`.
    pub fn refusing_the_schema_of(picky: &'static str, script: &[Given]) -> Self {
        Self::with(Api::Gemini, script, usize::MAX, Some(picky), true)
    }

    fn with(api: Api, script: &[Given], held: usize, picky: Option<&'static str>, places: bool) -> Self {
        let shared = Arc::new(Shared {
            api,
            script: script.to_vec(),
            held,
            picky,
            places,
            released: watch::Sender::new(false),
            asked: Mutex::default(),
            refused: Mutex::default(),
        });
        let listening = Listening::start(Router::new().fallback(answer).with_state(Arc::clone(&shared)));
        Self { url: listening.url.clone(), shared, _listening: listening }
    }

    /// The bodies of all requests for the turn.
    pub fn bodies(&self, turn: usize) -> Vec<String> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|(of, _)| *of == turn).map(|(_, body)| body.clone()).collect()
    }

    /// Why requests were refused.
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap().clone()
    }

    /// Waits until the turn was asked for.
    pub fn wait_for(&self, turn: usize) {
        within(&format!("the model to be asked for turn {turn}"), || (!self.bodies(turn).is_empty()).then_some(()));
    }

    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

impl Api {
    /// Where the model `m` is asked.
    pub fn place(self) -> &'static str {
        match self {
            Self::Responses => "/v1/responses",
            Self::Gemini => "/v1beta/models/m:streamGenerateContent?alt=sse",
        }
    }

    /// The header that has to carry the key `test`.
    pub fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::Responses => ("authorization", "Bearer test"),
            Self::Gemini => ("x-goog-api-key", "test"),
        }
    }

    fn is_asked(self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        if method != Method::POST || uri != self.place() {
            return Err(format!("{method} {uri}: nothing is here"));
        }
        let (name, value) = self.key();
        headers
            .get(name)
            .is_some_and(|found| found == value)
            .then_some(())
            .ok_or(format!("the key is missing in {name}"))
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let read = shared.api.is_asked(&method, &uri, &headers).and_then(|()| match shared.api {
        Api::Responses => read_responses(&shared.script, &body),
        Api::Gemini => read_gemini(&shared.script, &body, shared.picky),
    });
    let turn = match read.and_then(|turn| (turn < shared.script.len()).then_some(turn).ok_or("no such turn".into())) {
        Ok(turn) => turn,
        Err(reason) => {
            shared.refused.lock().unwrap().push(reason.clone());
            let error = json!({ "error": { "code": 400, "message": reason, "status": "INVALID_ARGUMENT" } });
            return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
        }
    };
    shared.asked.lock().unwrap().push((turn, body));
    if turn == shared.held {
        shared.released.subscribe().wait_for(|released| *released).await.unwrap();
    }
    let text = match shared.api {
        Api::Responses => responses_stream(shared.script[turn], shared.places),
        Api::Gemini => gemini_stream(shared.script[turn]),
    };
    let pieces: Vec<_> = text.as_bytes().chunks(11).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream::iter(pieces))).into_response()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn only(what: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("Unknown name \"{key}\" at '{what}'")),
        None => Ok(()),
    }
}

/// The turn that is asked for.
fn read_responses(script: &[Given], body: &str) -> Result<usize, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        #[serde(rename = "model")]
        _model: String,
        #[serde(rename = "instructions")]
        _instructions: Option<String>,
        input: Vec<Box<RawValue>>,
        #[serde(default)]
        tools: Vec<Map<String, Value>>,
        include: Vec<String>,
        store: bool,
        stream: bool,
    }
    let request: Request = serde_json::from_str(body).map_err(|cause| cause.to_string())?;
    if request.store || !request.stream || request.include != ["reasoning.encrypted_content"] {
        return Err("store, stream or include: not as they have to be".into());
    }
    for tool in &request.tools {
        only("tools", tool, &["type", "name", "description", "parameters", "strict"])?;
        if tool["type"] != "function" || !tool["strict"].is_boolean() || !tool["parameters"].is_object() {
            return Err(format!("tools: {tool:?}"));
        }
        if tool["strict"] == true {
            can_be_held_to(&tool["parameters"])?;
        }
    }
    let mut input = request.input.iter().map(|item| item.get()).peekable();
    let mut turn = 0;
    loop {
        while input.next_if(|item| value(item)["role"] == "user").is_some() {}
        if input.peek().is_none() {
            return Ok(turn);
        }
        let given = script.get(turn).ok_or("more than was given")?;
        for item in *given {
            let found = input.next().unwrap_or("nothing");
            if found != *item {
                return Err(format!("Item {item} was changed, moved or left out: found {found}"));
            }
        }
        for call in given.iter().map(|item| value(item)).filter(|item| item["type"] == "function_call") {
            let found = input.next().map(value).unwrap_or_default();
            let expected =
                json!({ "type": "function_call_output", "call_id": call["call_id"], "output": found["output"] });
            if found != expected || !found["output"].is_string() {
                return Err(format!("No tool output found for function call {}: found {found}", call["call_id"]));
            }
        }
        turn += 1;
    }
}

/// What OpenAI demands of a schema with `strict`: every object is closed and requires all that it has.
fn can_be_held_to(schema: &Value) -> Result<(), String> {
    let foreign = ["allOf", "oneOf", "not", "if", "patternProperties", "dependentRequired", "format", "default"];
    if let Some(keyword) = foreign.iter().find(|keyword| schema.get(**keyword).is_some()) {
        return Err(format!("Invalid schema: '{keyword}' is not permitted with strict"));
    }
    let is_object =
        schema["type"] == "object" || schema["type"].as_array().is_some_and(|types| types.contains(&json!("object")));
    if is_object {
        let properties: Vec<&String> = schema["properties"].as_object().into_iter().flat_map(Map::keys).collect();
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_required = |name: &&String| required.iter().any(|required| required == name.as_str());
        if schema["additionalProperties"] != false || !properties.iter().all(is_required) {
            return Err(format!(
                "Invalid schema: with strict, additionalProperties is false and all is required: {schema}"
            ));
        }
    }
    let inner = schema["properties"].as_object().into_iter().flat_map(Map::values);
    let defined = schema["$defs"].as_object().into_iter().flat_map(Map::values);
    let variants = schema["anyOf"].as_array().into_iter().flatten();
    inner.chain(defined).chain(variants).chain(schema.get("items")).try_for_each(can_be_held_to)
}

/// Gemini's first subset of OpenAPI.
fn in_the_oldest_words(at: &str, schema: &Value) -> Result<(), String> {
    const TYPES: [&str; 6] = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"];
    let object = schema.as_object().ok_or(format!("{at}: no object"))?;
    only(at, object, &["type", "description", "enum", "items", "properties", "required", "nullable"])?;
    if !TYPES.iter().any(|kind| schema["type"] == *kind) {
        return Err(format!("Invalid value at '{at}.type': {}", schema["type"]));
    }
    let inner = schema["properties"].as_object().into_iter().flat_map(Map::values);
    inner.chain(object.get("items")).try_for_each(|schema| in_the_oldest_words(at, schema))
}

fn read_gemini(script: &[Given], body: &str, picky: Option<&str>) -> Result<usize, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Request {
        #[serde(rename = "systemInstruction")]
        _system_instruction: Option<Value>,
        contents: Vec<Content>,
        #[serde(default)]
        tools: Vec<Tools>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Content {
        role: String,
        parts: Vec<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Tools {
        function_declarations: Vec<Map<String, Value>>,
    }
    let request: Request = serde_json::from_str(body).map_err(|cause| cause.to_string())?;
    for (place, tool) in request.tools.iter().flat_map(|tools| &tools.function_declarations).enumerate() {
        let at = format!("tools[0].function_declarations[{place}]");
        if picky.is_none_or(|picky| tool["name"] != picky) {
            only(&at, tool, &["name", "description", "parametersJsonSchema"])?;
            continue;
        }
        only(&at, tool, &["name", "description", "parameters"])?;
        in_the_oldest_words(&at, &tool["parameters"])?;
    }
    let mut contents = request.contents.iter().peekable();
    let is_said = |content: &&Content| content.role == "user" && value(content.parts[0].get()).get("text").is_some();
    let mut turn = 0;
    loop {
        while contents.next_if(is_said).is_some() {}
        let Some(content) = contents.next() else { return Ok(turn) };
        let given = script.get(turn).ok_or("more than was given")?;
        let parts: Vec<&str> = content.parts.iter().map(|part| part.get()).collect();
        if content.role != "model" || parts != *given {
            return Err(format!("a thought_signature or part was changed, moved or left out: {parts:?}"));
        }
        let calls: Vec<Value> = given.iter().filter_map(|part| value(part).get("functionCall").cloned()).collect();
        if !calls.is_empty() {
            let answered = contents.next().filter(|content| content.role == "user").ok_or("no function responses")?;
            let found: Vec<Value> = answered.parts.iter().map(|part| value(part.get())).collect();
            let expected = |(call, found): (&Value, &Value)| {
                let mut response = json!({ "name": call["name"], "response": found["functionResponse"]["response"] });
                if let Some(id) = call.get("id") {
                    response["id"] = id.clone();
                }
                *found == json!({ "functionResponse": response }) && found["functionResponse"]["response"].is_object()
            };
            if found.len() != calls.len() || !calls.iter().zip(&found).all(expected) {
                return Err(format!("function responses don't fit the calls: {found:?}"));
            }
        }
        turn += 1;
    }
}

/// Items are bare when they are added, come in pieces, and are whole when they are done.
fn responses_stream(items: Given, places: bool) -> String {
    let mut stream = String::new();
    let mut event = |kind: &str, rest: String| {
        writeln!(stream, "event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",{rest}}}\n").unwrap();
    };
    event("created", r#""response":{"status":"in_progress","output":[]}"#.into());
    for (index, item) in items.iter().enumerate() {
        let whole = value(item);
        let mut bare = json!({ "type": whole["type"], "id": whole["id"] });
        let (kind, text) = match whole["type"].as_str().unwrap() {
            "function_call" => {
                (bare["name"], bare["call_id"]) = (whole["name"].clone(), whole["call_id"].clone());
                ("function_call_arguments.delta", &whole["arguments"])
            }
            "message" => ("output_text.delta", &whole["content"][0]["text"]),
            _ => ("reasoning_summary_text.delta", &whole["summary"][0]["text"]),
        };
        let (place, of) = match places {
            true => (format!("\"output_index\":{index},"), format!("\"output_index\":{index},")),
            false => (String::new(), format!("\"item_id\":{},", whole["id"])),
        };
        event("output_item.added", format!("{place}\"item\":{bare}"));
        let letters: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
        for piece in letters.chunks(4) {
            event(kind, format!("{of}\"delta\":{}", json!(piece.iter().collect::<String>())));
        }
        event("output_item.done", format!("{place}\"item\":{item}"));
    }
    let output = if places { String::new() } else { format!("\"output\":[{}],", items.join(",")) };
    let usage = r#""usage":{"input_tokens":7,"output_tokens":3}"#;
    event("completed", format!("\"response\":{{\"status\":\"completed\",{output}{usage}}}"));
    stream
}

fn gemini_stream(parts: Given) -> String {
    let mut stream = String::new();
    for (place, part) in parts.iter().enumerate() {
        let finish = if place + 1 == parts.len() { r#","finishReason":"STOP""# } else { "" };
        let candidate = format!(r#"{{"content":{{"parts":[{part}],"role":"model"}}{finish},"index":0}}"#);
        let usage = r#""usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3}"#;
        write!(stream, "data: {{\"candidates\":[{candidate}],{usage}}}\r\n\r\n").unwrap();
    }
    stream
}
