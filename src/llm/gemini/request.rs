//! A turn as a `generateContent` body.

use super::super::names::NameMap;
use super::super::schema::{Target, cleaned, plain};
use super::super::{Message, ToolCall, ToolDefinition, ToolResult, TurnRequest};
use super::DIALECT;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What stands in for the signature of a call that Gemini didn't make.
const NOT_SIGNED: &str = "skip_thought_signature_validator";

/// What refusals have taught.
pub(super) struct Learned<'a> {
    /// The tools, by our names, whose schemas get the plainest form.
    pub(super) plain: &'a BTreeSet<String>,
    /// How many messages, from the first, go back without Gemini's signatures.
    pub(super) unsigned: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Value>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<Value>,
}

#[derive(Serialize)]
struct Content<'a> {
    role: &'static str,
    parts: Parts<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parts<'a> {
    /// What the provider itself sent, in its own bytes.
    Native(&'a RawValue),
    Written(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Part<'a> {
    Text(&'a str),
    FunctionResponse(Response<'a>),
    #[serde(untagged)]
    Call(Call<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    function_call: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'static str>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: Cow<'a, str>,
    args: Box<RawValue>,
}

#[derive(Serialize)]
struct Response<'a> {
    /// As the call had it; without one the order decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: Cow<'a, str>,
    response: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<'a> {
    Output(&'a str),
    Error(&'a str),
}

/// Writes the body.
pub(super) fn body(request: &TurnRequest, names: &NameMap, learned: &Learned<'_>) -> serde_json::Result<Vec<u8>> {
    let system = request.system.as_deref().filter(|text| !text.is_empty());
    let declarations: Vec<Value> = request.tools.iter().map(|tool| declaration(tool, names, learned)).collect();
    serde_json::to_vec(&Body {
        system_instruction: system.map(|text| json!({ "parts": [{ "text": text }] })),
        contents: contents(request, names, learned.unsigned)?,
        tools: if declarations.is_empty() { vec![] } else { vec![json!({ "functionDeclarations": declarations })] },
        generation_config: request.max_output_tokens.map(|most| json!({ "maxOutputTokens": most })),
    })
}

/// All results of a turn are one content, in the order of the calls. Empty texts are refused and left out.
fn contents<'a>(request: &'a TurnRequest, names: &'a NameMap, unsigned: usize) -> serde_json::Result<Vec<Content<'a>>> {
    let mut contents = Vec::new();
    // The ids that Gemini gave to the calls of the turn before.
    let mut given: Vec<(&str, Option<String>)> = Vec::new();
    for (position, message) in request.messages.iter().enumerate() {
        let (role, parts) = match message {
            Message::User { text } => ("user", Parts::Written(text_part(text).into_iter().collect())),
            Message::ToolResults(results) => {
                ("user", Parts::Written(results.iter().map(|result| result_part(result, names, &given)).collect()))
            }
            Message::Assistant { text, calls, native } => {
                let native = native.as_ref().filter(|_| position >= unsigned);
                let native = native.and_then(|native| native.for_model(DIALECT, &request.model));
                let ids = native.map(call_ids).unwrap_or_default();
                let ids = ids.into_iter().chain(std::iter::repeat(None));
                given = calls.iter().map(|call| call.id.as_str()).zip(ids).collect();
                let parts = match native {
                    Some(parts) => Parts::Native(parts),
                    None => Parts::Written(parts(text, calls, names)?),
                };
                ("model", parts)
            }
        };
        if !matches!(&parts, Parts::Written(parts) if parts.is_empty()) {
            contents.push(Content { role, parts });
        }
    }
    Ok(contents)
}

fn text_part(text: &str) -> Option<Part<'_>> {
    (!text.trim().is_empty()).then_some(Part::Text(text))
}

/// A turn of another provider or model, in this dialect's parts. The first call of a turn has to be signed.
fn parts<'a>(text: &'a str, calls: &'a [ToolCall], names: &'a NameMap) -> serde_json::Result<Vec<Part<'a>>> {
    let mut parts: Vec<_> = text_part(text).into_iter().collect();
    for (place, call) in calls.iter().enumerate() {
        let function_call = Function { name: names.wire(&call.name), args: call.arguments_as_object()? };
        parts.push(Part::Call(Call { function_call, thought_signature: (place == 0).then_some(NOT_SIGNED) }));
    }
    Ok(parts)
}

fn result_part<'a>(result: &'a ToolResult, names: &'a NameMap, given: &[(&str, Option<String>)]) -> Part<'a> {
    let id = given.iter().find(|(call, _)| *call == result.call_id).and_then(|(_, id)| id.clone());
    let response = match result.is_error {
        true => Outcome::Error(&result.content),
        false => Outcome::Output(&result.content),
    };
    Part::FunctionResponse(Response { id, name: names.wire(&result.name), response })
}

/// The ids of the calls among these parts, where they have one.
fn call_ids(parts: &RawValue) -> Vec<Option<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        function_call: Option<Call>,
    }
    #[derive(Deserialize)]
    struct Call {
        id: Option<String>,
    }
    let parts: Vec<Part> = serde_json::from_str(parts.get()).unwrap_or_default();
    let calls = parts.into_iter().filter_map(|part| part.function_call);
    calls.map(|call| call.id.filter(|id| !id.is_empty())).collect()
}

fn declaration(tool: &ToolDefinition, names: &NameMap, learned: &Learned<'_>) -> Value {
    let mut declaration = json!({ "name": names.wire(&tool.name) });
    if let Some(description) = &tool.description {
        declaration["description"] = json!(description);
    }
    match learned.plain.contains(&tool.name) {
        false => declaration["parametersJsonSchema"] = cleaned(&tool.input_schema, Target::Gemini),
        true => {
            if let Some(parameters) = plain(&tool.input_schema) {
                declaration["parameters"] = parameters;
            }
        }
    }
    declaration
}

#[cfg(test)]
mod tests {
    use super::super::super::Native;
    use super::*;
    use crate::domain::Effect;

    const PARTS: &str = r#"[ {"text":"caf\u00e9 "},{"functionCall":{"id":"g1","name":"f","args":{"n":1.0}}, "thoughtSignature":"Er/+=="},{"functionCall":{"name":"f"}},{"text":"","thoughtSignature":"x"}]"#;

    fn request(native_model: &str) -> TurnRequest {
        let native = Native {
            provider: DIALECT.into(),
            model: native_model.into(),
            blocks: RawValue::from_string(PARTS.into()).unwrap(),
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
                    text: "café ".into(),
                    calls: vec![call("g1", r#"{"n":1.0}"#), call("call_1_1", "{\"n\":")],
                    native: Some(native),
                },
                Message::ToolResults(vec![result("g1", false), result("call_1_1", true)]),
                Message::User { text: "more".into() },
            ],
            tools: vec![],
            max_output_tokens: None,
            plan_allowed: false,
        }
    }

    fn text(request: &TurnRequest, plain: &[&str]) -> String {
        let plain = plain.iter().map(|name| (*name).to_owned()).collect();
        let names = NameMap::new(request.tools.iter().map(|tool| tool.name.as_str()));
        String::from_utf8(body(request, &names, &Learned { plain: &plain, unsigned: 0 }).unwrap()).unwrap()
    }

    fn written(request: &TurnRequest, plain: &[&str]) -> Value {
        serde_json::from_str(&text(request, plain)).unwrap()
    }

    #[test]
    fn native_parts_go_back_byte_for_byte_and_in_place() {
        let text = text(&request("m"), &[]);
        assert!(text.contains(&format!(r#"{{"role":"model","parts":{PARTS}}}"#)), "{text}");
    }

    #[test]
    fn all_results_of_a_turn_are_one_content_and_have_the_ids_that_were_given() {
        let body = written(&request("m"), &[]);
        let result = |response: Value| json!({ "functionResponse": response });
        assert_eq!(
            body["contents"][2],
            json!({ "role": "user", "parts": [
                result(json!({ "id": "g1", "name": "f", "response": { "output": "r" } })),
                result(json!({ "name": "f", "response": { "error": "r" } })),
            ] })
        );
        assert_eq!(body["contents"][3], json!({ "role": "user", "parts": [{ "text": "more" }] }));
        assert_eq!(body["systemInstruction"], json!({ "parts": [{ "text": "s" }] }));
        assert!(body.get("tools").is_none() && body.get("generationConfig").is_none());
    }

    #[test]
    fn parts_of_another_model_are_left_out_and_the_first_call_says_that_it_is_not_signed() {
        let body = written(&request("other"), &[]);
        assert_eq!(
            body["contents"][1]["parts"],
            json!([
                { "text": "café " },
                { "functionCall": { "name": "f", "args": { "n": 1.0 } }, "thoughtSignature": NOT_SIGNED },
                { "functionCall": { "name": "f", "args": { "INVALID_JSON": "{\"n\":" } } },
            ])
        );
        assert!(body["contents"][2]["parts"][0]["functionResponse"].get("id").is_none());
    }

    #[test]
    fn schemas_go_out_as_json_schema_or_plain() {
        let tool = |name: &str, input_schema: Value| ToolDefinition {
            name: name.into(),
            description: None,
            input_schema,
            effect: Effect::Read,
        };
        let schema =
            json!({ "$schema": "x", "type": "object", "properties": { "a": { "type": "string", "format": "uri" } } });
        let tools = vec![tool("7.f", schema.clone()), tool("g", schema), tool("h", json!({ "type": "object" }))];
        let request = TurnRequest { tools, max_output_tokens: Some(9), ..request("m") };
        let body = written(&request, &["g", "h"]);
        assert_eq!(
            body["tools"],
            json!([{ "functionDeclarations": [
                { "name": "_7_f", "parametersJsonSchema": { "type": "object", "properties": { "a": { "type": "string" } } } },
                { "name": "g", "parameters": { "type": "OBJECT", "properties": { "a": { "type": "STRING" } } } },
                { "name": "h" } ] }])
        );
        assert_eq!(body["generationConfig"], json!({ "maxOutputTokens": 9 }));
    }
}
