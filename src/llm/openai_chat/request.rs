//! A turn as a Chat Completions body.

use super::super::names::NameMap;
use super::super::schema::{Target, cleaned};
use super::super::{Message, Native, ToolCall, ToolDefinition, ToolResult, TurnRequest, defaults};
use super::DIALECT;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Entry<'a>>,
    /// An empty list is refused, so it is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
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
        /// `null` beside calls, when nothing was said.
        content: Option<&'a str>,
        #[serde(flatten)]
        reasoning: Map<String, Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<CallEntry<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: Cow<'a, str>,
    },
}

#[derive(Serialize)]
struct CallEntry<'a> {
    id: &'a str,
    r#type: &'static str,
    function: FunctionEntry<'a>,
}

#[derive(Serialize)]
struct FunctionEntry<'a> {
    name: Cow<'a, str>,
    /// The very string that came, if it is an object: servers that read the history refuse anything else, mostly with a 500.
    arguments: Box<str>,
}

/// Writes the body. `official` = OpenAI's own API.
pub(super) fn body(request: &TurnRequest, names: &NameMap, official: bool) -> serde_json::Result<Vec<u8>> {
    let effort = official && !request.tools.is_empty() && defaults::takes_effort_none(&request.model);
    serde_json::to_vec(&Body {
        model: &request.model,
        messages: entries(request, names)?,
        tools: request.tools.iter().map(|tool| tool_entry(tool, names)).collect(),
        reasoning_effort: effort.then_some("none"),
        max_completion_tokens: request.max_output_tokens.filter(|_| official),
        max_tokens: request.max_output_tokens.filter(|_| !official),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
    })
}

fn entries<'a>(request: &'a TurnRequest, names: &'a NameMap) -> serde_json::Result<Vec<Entry<'a>>> {
    // Reasoning goes back only within the tool turn that is going on; with a new question it is void.
    let turn_start = request.messages.iter().rposition(|message| matches!(message, Message::User { .. })).unwrap_or(0);
    let mut entries: Vec<_> = request.system.iter().map(|content| Entry::System { content }).collect();
    for (position, message) in request.messages.iter().enumerate() {
        match message {
            Message::User { text } => entries.push(Entry::User { content: text }),
            Message::ToolResults(results) => entries.extend(results.iter().map(result_entry)),
            Message::Assistant { text, calls, native } => entries.push(Entry::Assistant {
                content: (!text.is_empty() || calls.is_empty()).then_some(text),
                reasoning: native
                    .as_ref()
                    .filter(|_| position > turn_start)
                    .map_or_else(Map::new, |native| reasoning(native, &request.model)),
                tool_calls: calls.iter().map(|call| call_entry(call, names)).collect::<serde_json::Result<_>>()?,
            }),
        }
    }
    Ok(entries)
}

fn reasoning(native: &Native, model: &str) -> Map<String, Value> {
    native.for_model(DIALECT, model).and_then(|blocks| serde_json::from_str(blocks.get()).ok()).unwrap_or_default()
}

fn call_entry<'a>(call: &'a ToolCall, names: &'a NameMap) -> serde_json::Result<CallEntry<'a>> {
    let function = FunctionEntry { name: names.wire(&call.name), arguments: call.arguments_as_object()?.into() };
    Ok(CallEntry { id: &call.id, r#type: "function", function })
}

fn result_entry(result: &ToolResult) -> Entry<'_> {
    Entry::Tool { tool_call_id: &result.call_id, content: result.text_that_says_so() }
}

fn tool_entry(tool: &ToolDefinition, names: &NameMap) -> Value {
    let mut function = json!({ "name": names.wire(&tool.name) });
    if let Some(description) = &tool.description {
        function["description"] = json!(description);
    }
    function["parameters"] = cleaned(&tool.input_schema, Target::OpenAi);
    json!({ "type": "function", "function": function })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Effect;
    use serde_json::value::RawValue;

    fn request(tools: Vec<ToolDefinition>) -> TurnRequest {
        let native = Native {
            provider: DIALECT.into(),
            model: "gpt-5.4-mini".into(),
            blocks: RawValue::from_string(r#"{"reasoning_content":"hm"}"#.into()).unwrap(),
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
            model: "gpt-5.4-mini".into(),
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
            tools,
            max_output_tokens: Some(100),
            plan_allowed: false,
        }
    }

    fn tool() -> ToolDefinition {
        ToolDefinition {
            name: "a.b".into(),
            description: Some("d".into()),
            input_schema: json!({}),
            effect: Effect::Read,
        }
    }

    fn written(request: &TurnRequest, official: bool) -> Value {
        let names = NameMap::new(request.tools.iter().map(|tool| tool.name.as_str()));
        serde_json::from_slice(&body(request, &names, official).unwrap()).unwrap()
    }

    #[test]
    fn the_history_is_written_in_the_dialects_terms() {
        let body = written(&request(vec![tool()]), true);
        assert_eq!(body["messages"][0], json!({ "role": "system", "content": "be brief" }));
        assert_eq!(body["messages"][2], json!({ "role": "assistant", "content": "answer" }));
        assert_eq!(
            body["messages"][4],
            json!({ "role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                { "id": "1", "type": "function", "function": { "name": "a_b", "arguments": "{ \"x\":1.0}" } },
                { "id": "2", "type": "function", "function": { "name": "a_b", "arguments": "{\"INVALID_JSON\":\"{\\\"x\\\":\"}" } } ] }),
            "servers that read the arguments of the history refuse what is no JSON"
        );
        assert_eq!(body["messages"][5], json!({ "role": "tool", "tool_call_id": "1", "content": "gone" }));
        assert_eq!(body["messages"][6]["content"], "Error: gone");
        assert_eq!(body["tools"][0]["function"]["name"], "a_b");
        assert_eq!(body["stream_options"], json!({ "include_usage": true }));
    }

    #[test]
    fn effort_none_goes_to_openai_with_tools_and_nowhere_else() {
        let with_tools = request(vec![tool()]);
        assert_eq!(written(&with_tools, true)["reasoning_effort"], "none");
        assert_eq!(written(&with_tools, true)["max_completion_tokens"], 100);
        assert!(written(&with_tools, false).get("reasoning_effort").is_none());
        assert_eq!(written(&with_tools, false)["max_tokens"], 100);
        let without = written(&request(vec![]), true);
        assert!(without.get("reasoning_effort").is_none() && without.get("tools").is_none());
    }
}
