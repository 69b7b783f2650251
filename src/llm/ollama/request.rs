//! A turn as a body of `/api/chat`.

use super::super::names::NameMap;
use super::super::schema::{Target, cleaned};
use super::super::{Message, ToolCall, ToolDefinition, TurnRequest};
use super::{DIALECT, OllamaOptions, Think};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    stream: bool,
    /// A conversation that is too long is refused, not cut. Servers that don't know the word cut all the same.
    truncate: bool,
    /// An answer that fills the context ends there; else the beginning of the conversation would give way to it.
    shift: bool,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    num_ctx: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Entry<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        content: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thinking: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<CallEntry<'a>>,
    },
    Tool {
        /// Older servers match results by name, and by order.
        tool_name: Cow<'a, str>,
        tool_call_id: &'a str,
        content: Cow<'a, str>,
    },
}

#[derive(Serialize)]
struct CallEntry<'a> {
    id: &'a str,
    function: FunctionEntry<'a>,
}

#[derive(Serialize)]
struct FunctionEntry<'a> {
    index: usize,
    name: Cow<'a, str>,
    arguments: Box<RawValue>,
}

/// What is kept of an answer beside its text and calls.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) thinking: String,
}

/// Writes the body.
pub(super) fn body(request: &TurnRequest, names: &NameMap, options: OllamaOptions) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body {
        model: &request.model,
        messages: entries(request, names)?,
        tools: request.tools.iter().map(|tool| tool_entry(tool, names)).collect(),
        think: options.think,
        stream: true,
        truncate: false,
        shift: false,
        options: Options { num_ctx: options.context_tokens, num_predict: request.max_output_tokens },
    })
}

fn entries<'a>(request: &'a TurnRequest, names: &'a NameMap) -> serde_json::Result<Vec<Entry<'a>>> {
    // Thinking goes back only within the tool turn that is going on; with a new question it is void.
    let turn_start = request.messages.iter().rposition(|message| matches!(message, Message::User { .. })).unwrap_or(0);
    let mut entries: Vec<_> = request.system.iter().map(|content| Entry::System { content }).collect();
    for (position, message) in request.messages.iter().enumerate() {
        match message {
            Message::User { text } => entries.push(Entry::User { content: text }),
            Message::ToolResults(results) => entries.extend(results.iter().map(|result| Entry::Tool {
                tool_name: names.wire(&result.name),
                tool_call_id: &result.call_id,
                content: result.text_that_says_so(),
            })),
            Message::Assistant { text, calls, native } => {
                let native = native.as_ref().filter(|_| position > turn_start);
                let kept = native.and_then(|native| native.for_model(DIALECT, &request.model));
                entries.push(Entry::Assistant {
                    content: text,
                    thinking: kept.and_then(|kept| Some(serde_json::from_str::<Kept>(kept.get()).ok()?.thinking)),
                    tool_calls: calls
                        .iter()
                        .enumerate()
                        .map(|(index, call)| call_entry(index, call, names))
                        .collect::<serde_json::Result<_>>()?,
                });
            }
        }
    }
    Ok(entries)
}

fn call_entry<'a>(index: usize, call: &'a ToolCall, names: &'a NameMap) -> serde_json::Result<CallEntry<'a>> {
    let function = FunctionEntry { index, name: names.wire(&call.name), arguments: call.arguments_as_object()? };
    Ok(CallEntry { id: &call.id, function })
}

fn tool_entry(tool: &ToolDefinition, names: &NameMap) -> Value {
    json!({ "type": "function", "function": {
        "name": names.wire(&tool.name),
        "description": tool.description.as_deref().unwrap_or_default(),
        "parameters": cleaned(&tool.input_schema, Target::OpenAi),
    } })
}

#[cfg(test)]
mod tests {
    use super::super::super::{Native, ToolResult};
    use super::super::ThinkLevel;
    use super::*;
    use crate::domain::Effect;

    fn request() -> TurnRequest {
        let native = Native {
            provider: DIALECT.into(),
            model: "qwen3".into(),
            blocks: RawValue::from_string(r#"{"thinking":"hm"}"#.into()).unwrap(),
        };
        let call =
            |id: &str, arguments: &str| ToolCall { id: id.into(), name: "a.b".into(), arguments: arguments.into() };
        let result = |id: &str, is_error| ToolResult {
            call_id: id.into(),
            name: "a.b".into(),
            content: "gone".into(),
            is_error,
        };
        TurnRequest {
            model: "qwen3".into(),
            system: Some("be brief".into()),
            messages: vec![
                Message::User { text: "old".into() },
                Message::Assistant { text: "answer".into(), calls: vec![], native: Some(native.clone()) },
                Message::User { text: "new".into() },
                Message::Assistant {
                    text: String::new(),
                    calls: vec![call("1", "{ \"x\":1.0}"), call("2", "{\"x\":")],
                    native: Some(native),
                },
                Message::ToolResults(vec![result("1", false), result("2", true)]),
            ],
            tools: vec![ToolDefinition {
                name: "a.b".into(),
                description: Some("d".into()),
                input_schema: json!({ "title": "t" }),
                effect: Effect::Read,
            }],
            max_output_tokens: Some(100),
            plan_allowed: false,
        }
    }

    fn written(options: OllamaOptions) -> (Value, String) {
        let request = request();
        let names = NameMap::new(request.tools.iter().map(|tool| tool.name.as_str()));
        let text = String::from_utf8(body(&request, &names, options).unwrap()).unwrap();
        (serde_json::from_str(&text).unwrap(), text)
    }

    #[test]
    fn the_history_is_written_in_the_dialects_terms() {
        let (body, text) = written(OllamaOptions::default());
        assert_eq!(body["messages"][0], json!({ "role": "system", "content": "be brief" }));
        assert_eq!(
            body["messages"][2],
            json!({ "role": "assistant", "content": "answer" }),
            "thinking of before is void"
        );
        assert_eq!(
            body["messages"][4],
            json!({ "role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                { "id": "1", "function": { "index": 0, "name": "a_b", "arguments": { "x": 1.0 } } },
                { "id": "2", "function": { "index": 1, "name": "a_b", "arguments": { "INVALID_JSON": "{\"x\":" } } } ] })
        );
        assert!(text.contains("{ \"x\":1.0}"), "{text}");
        assert_eq!(
            body["messages"][5],
            json!({ "role": "tool", "tool_name": "a_b", "tool_call_id": "1", "content": "gone" })
        );
        assert_eq!(body["messages"][6]["content"], "Error: gone");
        assert_eq!(
            body["tools"][0],
            json!({ "type": "function", "function": { "name": "a_b", "description": "d",
                "parameters": { "type": "object", "properties": {} } } })
        );
    }

    #[test]
    fn the_size_of_the_context_and_thinking_are_asked_for_and_nothing_may_be_cut() {
        let (body, _) = written(OllamaOptions::default());
        assert_eq!(body["options"], json!({ "num_ctx": 16384, "num_predict": 100 }));
        assert_eq!((&body["truncate"], &body["shift"], &body["stream"]), (&json!(false), &json!(false), &json!(true)));
        assert!(body.get("think").is_none());
        for (think, expected) in [(Think::Switch(false), json!(false)), (Think::Level(ThinkLevel::Low), json!("low"))] {
            assert_eq!(written(OllamaOptions { context_tokens: 4096, think: Some(think) }).0["think"], expected);
        }
    }
}
