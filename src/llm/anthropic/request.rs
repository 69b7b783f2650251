//! A turn as a Messages body.

use super::super::names::{NameMap, replaced};
use super::super::schema::{Target, cleaned};
use super::super::{Message, ToolCall, ToolDefinition, ToolResult, TurnRequest, defaults};
use super::DIALECT;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    cache_control: CacheControl,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    messages: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    stream: bool,
}

/// Keeps what was sent up to the last block that can be kept, so that the next turn, which begins with it, costs a tenth for that part.
/// What is too short to be kept isn't, without a word.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum CacheControl {
    Ephemeral,
}

#[derive(Serialize)]
#[serde(tag = "role", content = "content", rename_all = "snake_case")]
enum Entry<'a> {
    User(Vec<Block<'a>>),
    Assistant(Content<'a>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    /// What the provider itself sent, in its own bytes.
    Native(&'a RawValue),
    Blocks(Vec<Block<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ToolUse {
        id: String,
        name: Cow<'a, str>,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: String,
        content: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

/// Writes the body.
pub(super) fn body(request: &TurnRequest, names: &NameMap) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body {
        model: &request.model,
        max_tokens: request.max_output_tokens.unwrap_or(defaults::ANTHROPIC_MAX_TOKENS),
        cache_control: CacheControl::Ephemeral,
        system: request.system.as_deref().filter(|text| !text.is_empty()),
        messages: entries(request, names)?,
        tools: request.tools.iter().map(|tool| tool_entry(tool, names)).collect(),
        stream: true,
    })
}

/// Everything between two assistant turns is one user message, results first, as the API demands. Empty texts are refused and left out.
fn entries<'a>(request: &'a TurnRequest, names: &'a NameMap) -> serde_json::Result<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    let mut user: Vec<Block<'a>> = Vec::new();
    // Calls that go back in the provider's own bytes have its ids, whatever these look like.
    let mut own_ids = false;
    for message in &request.messages {
        match message {
            Message::User { text } => user.extend(text_block(text)),
            Message::ToolResults(results) => user.extend(results.iter().map(|result| result_block(result, own_ids))),
            Message::Assistant { text, calls, native } => {
                let content = match native.as_ref().and_then(|native| native.for_model(DIALECT, &request.model)) {
                    Some(blocks) => Content::Native(blocks),
                    None => Content::Blocks(blocks(text, calls, names)?),
                };
                own_ids = matches!(content, Content::Native(_));
                if matches!(&content, Content::Blocks(blocks) if blocks.is_empty()) {
                    continue;
                }
                if !user.is_empty() {
                    entries.push(Entry::User(std::mem::take(&mut user)));
                }
                entries.push(Entry::Assistant(content));
            }
        }
    }
    if !user.is_empty() {
        entries.push(Entry::User(user));
    }
    Ok(entries)
}

fn text_block(text: &str) -> Option<Block<'_>> {
    (!text.trim().is_empty()).then_some(Block::Text { text })
}

/// An assistant turn of another provider or model, in this dialect's blocks.
fn blocks<'a>(text: &'a str, calls: &'a [ToolCall], names: &'a NameMap) -> serde_json::Result<Vec<Block<'a>>> {
    let mut blocks: Vec<_> = text_block(text).into_iter().collect();
    for call in calls {
        let input = call.arguments_as_object()?;
        blocks.push(Block::ToolUse { id: replaced(&call.id), name: names.wire(&call.name), input });
    }
    Ok(blocks)
}

fn result_block(result: &ToolResult, own_id: bool) -> Block<'_> {
    let tool_use_id = if own_id { result.call_id.clone() } else { replaced(&result.call_id) };
    Block::ToolResult { tool_use_id, content: &result.content, is_error: result.is_error }
}

fn tool_entry(tool: &ToolDefinition, names: &NameMap) -> Value {
    let mut entry = json!({ "name": names.wire(&tool.name) });
    if let Some(description) = &tool.description {
        entry["description"] = json!(description);
    }
    entry["input_schema"] = cleaned(&tool.input_schema, Target::Anthropic);
    entry
}

#[cfg(test)]
mod tests {
    use super::super::super::Native;
    use super::*;

    const BLOCKS: &str = r#"[{"type":"thinking","thinking":"caf\u00e9 ","signature":"Er/+=="}, {"type":"redacted_thinking","data":"x"},{"type":"tool_use","id":"list:0","name":"f","input":{"n":1.0}}]"#;

    fn request(native_model: &str) -> TurnRequest {
        let native = Native {
            provider: DIALECT.into(),
            model: native_model.into(),
            blocks: RawValue::from_string(BLOCKS.into()).unwrap(),
        };
        let call =
            |id: &str, arguments: &str| ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into() };
        let result =
            |id: &str, is_error| ToolResult { call_id: id.into(), name: "f".into(), content: "r".into(), is_error };
        TurnRequest {
            model: "m".into(),
            system: Some("s".into()),
            messages: vec![
                Message::User { text: "q".into() },
                Message::Assistant {
                    text: String::new(),
                    calls: vec![call("list:0", r#"{"n":1.0}"#), call("t|2", "{\"n\":")],
                    native: Some(native),
                },
                Message::ToolResults(vec![result("list:0", false), result("t|2", true)]),
                Message::User { text: "more".into() },
            ],
            tools: vec![],
            max_output_tokens: None,
            plan_allowed: false,
        }
    }

    #[test]
    fn native_blocks_go_back_byte_for_byte_and_in_place() {
        let bytes = body(&request("m"), &NameMap::default()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(&format!(r#"{{"role":"assistant","content":{BLOCKS}}}"#)), "{text}");
    }

    #[test]
    fn blocks_of_another_model_are_left_out_and_the_calls_written_anew() {
        let body: Value = serde_json::from_slice(&body(&request("other"), &NameMap::default()).unwrap()).unwrap();
        assert_eq!(
            body["messages"][1]["content"],
            json!([
                { "type": "tool_use", "id": "list_0", "name": "f", "input": { "n": 1.0 } },
                { "type": "tool_use", "id": "t_2", "name": "f", "input": { "INVALID_JSON": "{\"n\":" } },
            ])
        );
        let ids =
            body["messages"][2]["content"].as_array().unwrap().iter().filter_map(|block| block.get("tool_use_id"));
        assert_eq!(ids.collect::<Vec<_>>(), ["list_0", "t_2"]);
    }

    #[test]
    fn all_results_of_a_turn_stand_first_in_one_user_message() {
        let body: Value = serde_json::from_slice(&body(&request("m"), &NameMap::default()).unwrap()).unwrap();
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
        assert_eq!(
            body["messages"][2],
            json!({ "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "list:0", "content": "r" },
                { "type": "tool_result", "tool_use_id": "t|2", "content": "r", "is_error": true },
                { "type": "text", "text": "more" } ] })
        );
        assert_eq!(body["max_tokens"], 32_000);
        assert_eq!(body["cache_control"], json!({ "type": "ephemeral" }));
        assert!(body.get("tools").is_none());
    }
}
