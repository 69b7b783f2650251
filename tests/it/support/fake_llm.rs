//! A provider that follows a script: OpenAI's Chat Completions and Anthropic's Messages, streamed, strict, and patient where it is told
//! to be.
//!
//! Which turn is asked for is read off the conversation (the assistant messages in it), not counted, so that a call that is made again
//! gets the same answer, and any number of runs can follow one script. What a real API would refuse is refused with 400.

use super::home::within;
use super::http::Listening;
use axum::Router;
use axum::extract::State;
use axum::http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One answer of the model.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    thinking: Vec<Value>,
    text: String,
    calls: Vec<Call>,
    held: bool,
    uncounted: bool,
    refused: Vec<Refusal>,
}

#[derive(Debug, Clone)]
struct Call {
    id: String,
    name: String,
    /// As it goes over the wire; need not be JSON.
    arguments: String,
}

#[derive(Debug, Clone)]
struct Refusal {
    status: u16,
    retry_after: &'static str,
}

impl Turn {
    /// Only words.
    pub fn saying(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// A call of one tool.
    pub fn calling(name: &str, arguments: &Value) -> Self {
        Self::default().and_calling(name, &arguments.to_string())
    }

    /// One more call, with its arguments as they go over the wire.
    pub fn and_calling(mut self, name: &str, arguments: &str) -> Self {
        let id = format!("call_{name}_{}", self.calls.len());
        self.calls.push(Call { id, name: name.to_owned(), arguments: arguments.to_owned() });
        self
    }

    /// Blocks of thinking before everything else, which have to come back as they were.
    pub fn thinking(mut self, blocks: &[Value]) -> Self {
        self.thinking = blocks.to_vec();
        self
    }

    /// Is not given before [`FakeLlm::release`].
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Comes over Chat Completions without a word of what it used.
    pub fn uncounted(mut self) -> Self {
        self.uncounted = true;
        self
    }

    /// Is refused at first, with `retry-after`.
    pub fn refused_first(mut self, status: u16, retry_after: &'static str) -> Self {
        self.refused.push(Refusal { status, retry_after });
        self
    }

    fn openai(&self) -> String {
        let calls = self.calls.iter().enumerate().map(|(index, call)| {
            let function = json!({ "name": call.name, "arguments": call.arguments });
            json!({ "index": index, "id": call.id, "type": "function", "function": function })
        });
        let mut delta = json!({ "role": "assistant", "content": self.text });
        let finish = if self.calls.is_empty() { "stop" } else { "tool_calls" };
        if !self.calls.is_empty() {
            delta["tool_calls"] = calls.collect();
        }
        let chunk = |choices: Value| json!({ "object": "chat.completion.chunk", "choices": choices });
        let usage = json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 3 } });
        let usage = if self.uncounted { String::new() } else { format!("data: {usage}\n\n") };
        format!(
            "data: {}\n\ndata: {}\n\n{usage}data: [DONE]\n\n",
            chunk(json!([{ "index": 0, "delta": delta }])),
            chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }])),
        )
    }

    fn anthropic(&self) -> String {
        let mut stream = String::new();
        let mut event = |data: Value| {
            let kind = data["type"].as_str().unwrap();
            writeln!(stream, "event: {kind}\ndata: {data}\n").unwrap();
        };
        event(
            json!({ "type": "message_start", "message": { "role": "assistant", "content": [], "usage": { "input_tokens": 7 } } }),
        );
        for (index, block) in self.blocks().iter().enumerate() {
            let (start, deltas) = in_pieces(block, self.calls.iter().find(|call| block["id"] == call.id));
            event(json!({ "type": "content_block_start", "index": index, "content_block": start }));
            for delta in deltas {
                event(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            event(json!({ "type": "content_block_stop", "index": index }));
        }
        let stop = if self.calls.is_empty() { "end_turn" } else { "tool_use" };
        event(json!({ "type": "message_delta", "delta": { "stop_reason": stop }, "usage": { "output_tokens": 3 } }));
        event(json!({ "type": "message_stop" }));
        stream
    }

    /// The content of this turn as Anthropic has it, and wants it back.
    fn blocks(&self) -> Vec<Value> {
        let mut blocks = self.thinking.clone();
        if !self.text.is_empty() {
            blocks.push(json!({ "type": "text", "text": self.text }));
        }
        blocks.extend(self.calls.iter().map(|call| {
            let input: Value =
                serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({ "INVALID_JSON": call.arguments }));
            json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
        }));
        blocks
    }
}

/// How a block begins, and what is added to it.
fn in_pieces(block: &Value, call: Option<&Call>) -> (Value, Vec<Value>) {
    let mut start = block.clone();
    let halves = |key: &str, kind: &str| -> Vec<Value> {
        let text: Vec<char> = block[key].as_str().unwrap().chars().collect();
        let parts = text.chunks(text.len().div_ceil(2).max(1)).map(|part| part.iter().collect::<String>());
        parts.map(|part| json!({ "type": kind, key: part })).collect()
    };
    let deltas = match block["type"].as_str().unwrap() {
        "thinking" => {
            (start["thinking"], start["signature"]) = (json!(""), json!(""));
            [halves("thinking", "thinking_delta"), halves("signature", "signature_delta")].concat()
        }
        "text" => {
            start["text"] = json!("");
            halves("text", "text_delta")
        }
        "tool_use" => {
            start["input"] = json!({});
            vec![json!({ "type": "input_json_delta", "partial_json": call.unwrap().arguments })]
        }
        _ => Vec::new(),
    };
    (start, deltas)
}

/// A running fake; ends when dropped.
pub struct FakeLlm {
    /// Without a path.
    pub url: String,
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    script: Vec<Turn>,
    released: watch::Sender<bool>,
    asked: Mutex<Vec<Asked>>,
}

/// A request that was received.
struct Asked {
    at: Instant,
    turn: usize,
    key: String,
    body: Value,
}

impl FakeLlm {
    /// Follows `script`.
    pub fn start(script: impl IntoIterator<Item = Turn>) -> Self {
        let script = script.into_iter().collect();
        let shared = Arc::new(Shared { script, released: watch::Sender::new(false), asked: Mutex::default() });
        let router = Router::new()
            .route("/v1/chat/completions", post(chat_completions))
            .route("/v1/messages", post(messages))
            .with_state(Arc::clone(&shared));
        let listening = Listening::start(router);
        Self { url: listening.url.clone(), shared, _listening: listening }
    }

    /// A `station.yml` in which this is the model of every agent, with a key that every owner of the home knows.
    pub fn settings(&self) -> String {
        format!(
            "models: {{ default: fake/m }}\nproviders:\n  fake: {{ api: openai_chat, base_url: \"{}/v1\", api_key: test }}\n",
            self.url
        )
    }

    /// How often the turn (from 0) was asked for.
    pub fn asked(&self, turn: usize) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| asked.turn == turn).count()
    }

    /// Waits until the turn (from 0) has been asked for.
    pub fn wait_for(&self, turn: usize) {
        self.wait_for_more(turn, 0);
    }

    /// Waits until the turn has been asked for more than `times` times.
    pub fn wait_for_more(&self, turn: usize, times: usize) {
        within(&format!("the model to be asked for turn {turn}"), || (self.asked(turn) > times).then_some(()));
    }

    /// The bodies of all requests for the turn.
    pub fn bodies(&self, turn: usize) -> Vec<Value> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.turn == turn).map(|asked| asked.body.clone()).collect()
    }

    /// What the requests for the turn came with as their key.
    pub fn keys(&self, turn: usize) -> Vec<String> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.turn == turn).map(|asked| asked.key.clone()).collect()
    }

    /// The time between each request for the turn and the next.
    pub fn gaps(&self, turn: usize) -> Vec<Duration> {
        let asked = self.shared.asked.lock().unwrap();
        let times: Vec<Instant> = asked.iter().filter(|asked| asked.turn == turn).map(|asked| asked.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Gives the turns that are held.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

async fn chat_completions(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    if header(&headers, "authorization").strip_prefix("Bearer ").is_none_or(str::is_empty) {
        return refusal(401, None, "You didn't provide an API key");
    }
    let key = header(&headers, "authorization");
    shared.answer(key, &body, Turn::openai, chat_refuses).await
}

async fn messages(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    if header(&headers, "x-api-key").is_empty() {
        return refusal(401, None, "x-api-key header is required");
    }
    if header(&headers, "anthropic-version").is_empty() {
        return refusal(400, None, "anthropic-version: header is required");
    }
    let script = shared.script.clone();
    let key = header(&headers, "x-api-key");
    shared.answer(key, &body, Turn::anthropic, |body| anthropic_refuses(&script, body)).await
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

impl Shared {
    async fn answer(
        &self,
        key: &str,
        body: &str,
        write: impl Fn(&Turn) -> String,
        check: impl Fn(&Value) -> Result<(), String>,
    ) -> Response {
        let body: Value = match serde_json::from_str(body) {
            Ok(body) => body,
            Err(cause) => return refusal(400, None, &format!("not JSON: {cause}")),
        };
        let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let turn = messages.iter().filter(|message| message["role"] == "assistant").count();
        let Some(scripted) = self.script.get(turn) else {
            return refusal(400, None, &format!("the script has no turn {turn}"));
        };
        let earlier = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(Asked { at: now(), turn, key: key.to_owned(), body: body.clone() });
            asked.iter().filter(|asked| asked.turn == turn).count() - 1
        };
        if let Err(reason) = check(&body) {
            return refusal(400, None, &reason);
        }
        if let Some(refused) = scripted.refused.get(earlier) {
            return refusal(refused.status, Some(refused.retry_after), "scripted");
        }
        if scripted.held {
            self.released.subscribe().wait_for(|released| *released).await.unwrap();
        }
        ([(CONTENT_TYPE, "text/event-stream")], write(scripted)).into_response()
    }
}

/// The tools of a request. `inner` leads to what a tool is, `schema` is the key of its schema.
fn tools_refused(body: &Value, inner: &str, schema: &str) -> Result<(), String> {
    let Some(tools) = body.get("tools") else { return Ok(()) };
    let tools = tools.as_array().filter(|tools| !tools.is_empty()).ok_or("tools: empty array")?;
    for tool in tools.iter().map(|tool| tool.pointer(inner).unwrap_or(&Value::Null)) {
        let name = tool["name"].as_str().unwrap_or_default();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !(1..=64).contains(&name.len()) || !name.chars().all(fits) {
            return Err(format!("tools: name `{name}` doesn't match ^[a-zA-Z0-9_-]{{1,64}}$"));
        }
        let is_choice = ["oneOf", "allOf", "anyOf"].iter().any(|key| tool[schema].get(key).is_some());
        if tool[schema]["type"] != "object" || is_choice {
            return Err(format!("tools: the schema of `{name}` is no object: {}", tool[schema]));
        }
    }
    Ok(())
}

/// The rules that OpenAI's API has for a conversation with tools.
fn chat_refuses(body: &Value) -> Result<(), String> {
    tools_refused(body, "/function", "parameters")?;
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty()).ok_or("messages: missing")?;
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let place = open.iter().position(|call| *call == id);
            let place = place.ok_or(format!("messages.{at}: `tool` answers no call before it: `{id}`"))?;
            open.remove(place);
            if !message["content"].is_string() {
                return Err(format!("messages.{at}.content: no text"));
            }
            continue;
        }
        if !open.is_empty() {
            return Err(format!("messages.{at}: tool messages for {open:?} have to come first"));
        }
        if !["system", "developer", "user", "assistant"].contains(&role) {
            return Err(format!("messages.{at}.role: `{role}`"));
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let id = call["id"].as_str().filter(|id| !id.is_empty() && !open.contains(id));
            open.push(id.ok_or(format!("messages.{at}: an id is missing or doubled"))?);
            if call["type"] != "function" || !call["function"]["arguments"].is_string() {
                return Err(format!("messages.{at}: {call}"));
            }
        }
    }
    open.is_empty().then_some(()).ok_or(format!("no tool messages for {open:?}"))
}

/// The rules that Anthropic's API has for a conversation with tools and thinking.
fn anthropic_refuses(script: &[Turn], body: &Value) -> Result<(), String> {
    if body["max_tokens"].as_u64().is_none_or(|most| most == 0) {
        return Err("max_tokens: Field required".to_owned());
    }
    tools_refused(body, "", "input_schema")?;
    let messages = body["messages"].as_array().ok_or("messages: missing")?;
    let mut turns = script.iter();
    for (at, message) in messages.iter().enumerate().filter(|(_, message)| message["role"] == "assistant") {
        let given = turns.next().unwrap().blocks();
        if message["content"] != json!(given) {
            return Err(format!(
                "messages.{at}.content: `thinking` or other blocks were modified: {}",
                message["content"]
            ));
        }
        let uses: Vec<_> = given.iter().filter(|block| block["type"] == "tool_use").map(|block| &block["id"]).collect();
        let next = messages.get(at + 1).and_then(|next| next["content"].as_array()).cloned().unwrap_or_default();
        let results: Vec<_> = next.iter().map_while(|block| block.get("tool_use_id")).collect();
        if uses != results {
            return Err(format!(
                "messages.{at}: `tool_use` ids {uses:?} were found with results {results:?} after them"
            ));
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "other processes live in real time")]
fn now() -> Instant {
    Instant::now()
}

fn refusal(status: u16, retry_after: Option<&str>, message: &str) -> Response {
    let body = json!({ "type": "error", "error": { "type": "scripted_error", "message": message } }).to_string();
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.parse().unwrap());
    }
    response
}
