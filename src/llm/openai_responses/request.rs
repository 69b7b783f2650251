//! A turn as a Responses body.

use super::super::names::NameMap;
use super::super::schema::{Target, cleaned, fits_strict};
use super::super::turn::is_object;
use super::super::{Message, Native, ToolCall, ToolDefinition, ToolResult, TurnRequest};
use super::DIALECT;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    input: Vec<Item<'a>>,
    /// An empty list is refused, so it is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    /// Models that don't encrypt by themselves what they thought need to be asked; without it nothing can go back.
    include: [&'static str; 1],
    store: bool,
    stream: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    /// What the provider itself sent, in its own bytes.
    Native(&'a RawValue),
    Said {
        role: &'static str,
        content: &'a str,
    },
    Call {
        r#type: &'static str,
        call_id: &'a str,
        name: Cow<'a, str>,
        /// The very string that came, if it is an object.
        arguments: Box<str>,
    },
    Output {
        r#type: &'static str,
        call_id: &'a str,
        output: Cow<'a, str>,
    },
}

/// Writes the body.
pub(super) fn body(request: &TurnRequest, names: &NameMap) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body {
        model: &request.model,
        instructions: request.system.as_deref().filter(|text| !text.is_empty()),
        input: items(request, names)?,
        tools: request.tools.iter().map(|tool| tool_entry(tool, names)).collect(),
        max_output_tokens: request.max_output_tokens,
        include: ["reasoning.encrypted_content"],
        store: false,
        stream: true,
    })
}

fn items<'a>(request: &'a TurnRequest, names: &'a NameMap) -> serde_json::Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for message in &request.messages {
        match message {
            Message::User { text } => items.push(Item::Said { role: "user", content: text }),
            Message::ToolResults(results) => items.extend(results.iter().map(result_item)),
            Message::Assistant { text, calls, native } => match own(native.as_ref(), request)? {
                Some(own) => items.extend(own.into_iter().map(Item::Native)),
                None => {
                    items.extend((!text.is_empty()).then_some(Item::Said { role: "assistant", content: text }));
                    for call in calls {
                        items.push(call_item(call, names)?);
                    }
                }
            },
        }
    }
    Ok(items)
}

/// The items of an answer that this model gave, up to the last that isn't reasoning: what was thought before the output limit and led to
/// nothing is refused. `None`, too, if a call among them has arguments that are no object: servers that read the history refuse them, and
/// without that very call what was thought before it would be refused.
fn own<'a>(native: Option<&'a Native>, request: &TurnRequest) -> serde_json::Result<Option<Vec<&'a RawValue>>> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        arguments: Cow<'a, str>,
    }
    let Some(blocks) = native.and_then(|native| native.for_model(DIALECT, &request.model)) else { return Ok(None) };
    let mut items: Vec<&RawValue> = serde_json::from_str(blocks.get())?;
    let is =
        |item: &RawValue, kind: &str| serde_json::from_str::<Kind<'_>>(item.get()).is_ok_and(|it| it.r#type == kind);
    let readable =
        |item: &RawValue| serde_json::from_str::<Call<'_>>(item.get()).is_ok_and(|it| is_object(&it.arguments));
    if items.iter().any(|item| is(item, "function_call") && !readable(item)) {
        return Ok(None);
    }
    items.truncate(items.iter().rposition(|item| !is(item, "reasoning")).map_or(0, |last| last + 1));
    Ok(Some(items))
}

fn call_item<'a>(call: &'a ToolCall, names: &'a NameMap) -> serde_json::Result<Item<'a>> {
    let arguments = call.arguments_as_object()?.into();
    Ok(Item::Call { r#type: "function_call", call_id: &call.id, name: names.wire(&call.name), arguments })
}

/// The dialect has no mark for a failed call, so the text says it.
fn result_item(result: &ToolResult) -> Item<'_> {
    Item::Output { r#type: "function_call_output", call_id: &result.call_id, output: result.text_that_says_so() }
}

fn tool_entry(tool: &ToolDefinition, names: &NameMap) -> Value {
    let parameters = cleaned(&tool.input_schema, Target::OpenAi);
    let strict = fits_strict(&parameters);
    let mut entry = json!({ "type": "function", "name": names.wire(&tool.name) });
    if let Some(description) = &tool.description {
        entry["description"] = json!(description);
    }
    entry["parameters"] = parameters;
    entry["strict"] = json!(strict);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Effect;

    const ITEMS: [&str; 3] = [
        r#"{ "type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA\u00e9/+==" }"#,
        r#"{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"hm"}]}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"a_b","arguments":"{ \"x\":1.0}"}"#,
    ];
    const REASONING: &str = r#"{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"x"}"#;

    fn request(model: &str, blocks: &str, tools: Vec<ToolDefinition>) -> TurnRequest {
        let native = Native {
            provider: DIALECT.into(),
            model: "gpt-6-sol".into(),
            blocks: RawValue::from_string(blocks.into()).unwrap(),
        };
        let call = ToolCall { id: "call_1".into(), name: "a.b".into(), arguments: r#"{ "x":1.0}"#.into() };
        let result =
            |is_error| ToolResult { call_id: "call_1".into(), name: "a.b".into(), content: "gone".into(), is_error };
        TurnRequest {
            model: model.into(),
            system: Some("be brief".into()),
            messages: vec![
                Message::User { text: "q".into() },
                Message::Assistant { text: "hm".into(), calls: vec![call], native: Some(native) },
                Message::ToolResults(vec![result(false), result(true)]),
                Message::User { text: "more".into() },
            ],
            tools,
            max_output_tokens: Some(100),
            plan_allowed: false,
        }
    }

    fn tool(name: &str, input_schema: Value) -> ToolDefinition {
        ToolDefinition { name: name.into(), description: Some("d".into()), input_schema, effect: Effect::Read }
    }

    fn text(request: &TurnRequest) -> String {
        let names = NameMap::new(request.tools.iter().map(|tool| tool.name.as_str()));
        String::from_utf8(body(request, &names).unwrap()).unwrap()
    }

    #[test]
    fn every_output_item_goes_back_byte_for_byte_and_in_its_place() {
        let text = text(&request("gpt-6-sol", &format!("[ {} ]", ITEMS.join(" , ")), vec![]));
        let question = r#"{"role":"user","content":"q"}"#;
        let output = r#"{"type":"function_call_output","call_id":"call_1","output":"gone"}"#;
        let replayed = format!("\"input\":[{question},{},{output},", ITEMS.join(","));
        assert!(text.contains(&replayed), "{text}");
        assert!(text.contains(r#""output":"Error: gone"},{"role":"user","content":"more"}]"#), "{text}");
    }

    #[test]
    fn reasoning_that_led_to_nothing_stays_here() {
        let text = text(&request("gpt-6-sol", &format!("[{},{REASONING}]", ITEMS[1]), vec![]));
        assert!(text.contains(ITEMS[1]) && !text.contains("rs_2"), "{text}");
    }

    #[test]
    fn items_of_another_model_are_left_out_and_the_calls_written_anew() {
        let native = format!("[{}]", ITEMS.join(","));
        let body: Value =
            serde_json::from_str(&text(&request("other", &native, vec![tool("a.b", json!({}))]))).unwrap();
        assert_eq!(
            body["input"].as_array().unwrap()[1..3],
            [
                json!({ "role": "assistant", "content": "hm" }),
                json!({ "type": "function_call", "call_id": "call_1", "name": "a_b", "arguments": "{ \"x\":1.0}" }),
            ]
        );
    }

    #[test]
    fn a_message_with_a_call_whose_arguments_are_no_object_goes_back_written_anew() {
        let cut = ITEMS[2].replace(r#""{ \"x\":1.0}""#, r#""{\"x\":""#);
        let mut request =
            request("gpt-6-sol", &format!("[{},{},{cut}]", ITEMS[0], ITEMS[1]), vec![tool("a.b", json!({}))]);
        let Message::Assistant { calls, .. } = &mut request.messages[1] else { panic!("no answer") };
        calls[0].arguments = "{\"x\":".into();
        let body: Value = serde_json::from_str(&text(&request)).unwrap();
        let wrapped = r#"{"INVALID_JSON":"{\"x\":"}"#;
        assert_eq!(
            body["input"].as_array().unwrap()[1..3],
            [
                json!({ "role": "assistant", "content": "hm" }),
                json!({ "type": "function_call", "call_id": "call_1", "name": "a_b", "arguments": wrapped }),
            ],
            "reasoning without the very call that followed it is refused, so it stays here"
        );
        assert_eq!(body["input"][3]["call_id"], "call_1");
    }

    #[test]
    fn nothing_is_kept_at_the_provider_and_strict_is_asked_only_where_the_schema_fits() {
        let fitting = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"], "additionalProperties": false });
        let tools = vec![tool("a.b", json!({ "type": "object" })), tool("c", fitting.clone())];
        let body: Value = serde_json::from_str(&text(&request("m", "[]", tools))).unwrap();
        assert_eq!((&body["store"], &body["stream"]), (&json!(false), &json!(true)));
        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
        assert_eq!((&body["instructions"], &body["max_output_tokens"]), (&json!("be brief"), &json!(100)));
        assert_eq!(
            body["tools"][1],
            json!({ "type": "function", "name": "c", "description": "d", "parameters": fitting, "strict": true })
        );
        assert_eq!((&body["tools"][0]["name"], &body["tools"][0]["strict"]), (&json!("a_b"), &json!(false)));
    }
}
