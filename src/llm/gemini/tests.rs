//! Attempts against a scripted server: addresses, refused schemas, and waits that the body names.

use super::super::test_server::{Answer, HastyClock, Server, Transcript, whole};
use super::super::{Api, Message, Native, OllamaOptions, ToolCall, ToolDefinition, ToolResult, provider};
use super::*;
use crate::clock::ManualClock;
use crate::domain::{Effect, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const GOOD: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hello"}]},"finishReason":"STOP"}]}"#;
/// The API's own words.
const REFUSED: &str = r#"{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"const\" at 'tools[0].function_declarations[1].parameters': Cannot find field.","status":"INVALID_ARGUMENT"}}"#;

fn good() -> Answer {
    whole("200 OK", "", GOOD)
}

fn refused(body: &str) -> Answer {
    whole("400 Bad Request", "", body)
}

fn question() -> TurnRequest {
    let tool = |name: &str| ToolDefinition {
        name: name.into(),
        description: None,
        input_schema: json!({ "type": "object", "properties": { "a": { "const": "x" } } }),
        effect: Effect::Read,
    };
    TurnRequest {
        model: "models/m 1".into(),
        system: None,
        messages: vec![Message::User { text: "hi".into() }],
        tools: vec![tool("f"), tool("g")],
        max_output_tokens: None,
        plan_allowed: false,
    }
}

struct Outcome {
    turns: Vec<Result<TurnReply, ProviderError>>,
    requests: Vec<String>,
    waits: Vec<Duration>,
}

impl Outcome {
    /// How the schemas of `f` and `g` went out in each request.
    fn schemas(&self) -> Vec<[&str; 2]> {
        let forms = |request: &String| {
            let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
            [0, 1].map(|place| {
                let declared = &body["tools"][0]["functionDeclarations"][place];
                if declared.get("parameters").is_some() { "plain" } else { "full" }
            })
        };
        self.requests.iter().map(forms).collect()
    }
}

/// Asks as often as given, with one provider, as a run does.
async fn ask(path: &str, times: usize, answers: Vec<Answer>) -> Outcome {
    let clock = HastyClock::new();
    let (turns, requests) = ask_by(clock.clone(), path, times, answers).await;
    Outcome { turns, requests, waits: clock.waits() }
}

async fn ask_by(
    clock: SharedClock,
    path: &str,
    times: usize,
    answers: Vec<Answer>,
) -> (Vec<Result<TurnReply, ProviderError>>, Vec<String>) {
    ask_with(clock, path, &vec![question(); times], answers).await
}

/// Asks these, one after the other.
async fn ask_with(
    clock: SharedClock,
    path: &str,
    questions: &[TurnRequest],
    answers: Vec<Answer>,
) -> (Vec<Result<TurnReply, ProviderError>>, Vec<String>) {
    let mut server = Server::answering(answers).await;
    let config = ProviderConfig {
        name: "gemini".into(),
        api: Api::Gemini,
        base_url: Some(format!("{}{path}", server.url)),
        api_key: Some("AIza-very-secret".into()),
        headers: vec![],
        timeout: Duration::from_secs(600),
        retries: Arc::default(),
        ollama: OllamaOptions::default(),
    };
    let gemini = provider(config, reqwest::Client::builder().no_proxy().build().unwrap(), clock);
    let mut turns = Vec::new();
    for question in questions {
        turns.push(gemini.turn(question, &mut Transcript::default(), &TurnLimits::default()).await);
    }
    // Each was there before its answer.
    let requests = std::iter::from_fn(|| server.requests.try_recv().ok()).collect();
    (turns, requests)
}

#[tokio::test]
async fn the_address_says_the_version_and_the_key_has_its_own_header() {
    for (path, version) in [("", "/v1"), ("/", "/v1"), ("/v1", "/v1"), ("/v1beta/", "/v1beta"), ("/gate", "/gate/v1")] {
        let outcome = ask(path, 1, vec![good()]).await;
        assert_eq!(outcome.turns[0].as_ref().unwrap().text, "hello");
        let request = &outcome.requests[0];
        let line = format!("POST {version}/models/m%201:streamGenerateContent?alt=sse HTTP/1.1\r\n");
        assert!(request.starts_with(&line), "{path}: {request}");
        assert!(request.contains("x-goog-api-key: AIza-very-secret\r\n"), "{request}");
    }
}

#[tokio::test]
async fn a_refused_schema_goes_out_once_more_plain_and_stays_so() {
    let outcome = ask("", 2, vec![refused(REFUSED), good(), good()]).await;
    assert_eq!(outcome.schemas(), [["full", "full"], ["full", "plain"], ["full", "plain"]]);
    let replies: Vec<_> = outcome.turns.into_iter().map(Result::unwrap).collect();
    assert_eq!(replies[0].notice.as_deref(), Some("Gemini refused the input schema of `g`; a plainer one was sent"));
    assert_eq!(replies[1].notice, None);
    let attempts: Vec<u32> = replies.iter().map(|reply| reply.wire_attempts).collect();
    assert_eq!(attempts, [2, 1], "every request counts");
}

/// A conversation in which the model has called `f` and signed that, and is given the result.
fn signed() -> TurnRequest {
    let parts = r#"[{"functionCall":{"id":"g1","name":"f","args":{}},"thoughtSignature":"Er/+=="}]"#;
    let native = Native {
        provider: DIALECT.into(),
        model: "m".into(),
        blocks: serde_json::value::RawValue::from_string(parts.into()).unwrap(),
    };
    let call = ToolCall { id: "g1".into(), name: "f".into(), arguments: "{}".into() };
    let result = ToolResult { call_id: "g1".into(), name: "f".into(), content: "r".into(), is_error: false };
    let mut request = TurnRequest { model: "m".into(), ..question() };
    request.messages.extend([
        Message::Assistant { text: String::new(), calls: vec![call], native: Some(native) },
        Message::ToolResults(vec![result]),
    ]);
    request
}

#[tokio::test]
async fn a_signature_that_gemini_does_not_know_is_sent_once_more_and_then_left_out() {
    let corrupted =
        || refused(r#"{"error":{"code":400,"message":"Corrupted thought signature.","status":"INVALID_ARGUMENT"}}"#);
    let is_signed = |requests: &[String]| -> Vec<bool> {
        requests.iter().map(|request| request.contains(r#""thoughtSignature":"Er/+==""#)).collect()
    };
    let (turns, requests) = ask_with(HastyClock::new(), "", &[signed()], vec![corrupted(), good()]).await;
    assert_eq!(is_signed(&requests), [true, true]);
    let reply = turns[0].as_ref().unwrap();
    assert_eq!((reply.notice.as_deref(), reply.wire_attempts), (None, 2));

    // What is signed after that counts again.
    let mut later = signed();
    later.messages.extend(signed().messages.split_off(1));
    let answers = vec![corrupted(), corrupted(), good(), good()];
    let (turns, requests) = ask_with(HastyClock::new(), "", &[signed(), later], answers).await;
    assert_eq!(is_signed(&requests), [true, true, false, true]);
    assert!(requests[2].contains("skip_thought_signature_validator") && !requests[2].contains(r#""id":"g1""#));
    assert_eq!(requests[3].matches("skip_thought_signature_validator").count(), 1);
    assert_eq!(requests[3].matches("Er/+==").count(), 1);
    let notice = turns[0].as_ref().unwrap().notice.as_deref().unwrap();
    assert!(notice.contains("signature"), "{notice}");

    let answers = vec![corrupted(), corrupted(), corrupted()];
    let (turns, _) = ask_with(HastyClock::new(), "", &[signed()], answers).await;
    assert_eq!(turns[0].as_ref().unwrap_err().kind, ProviderErrorKind::BadRequest, "it ends");
}

#[test]
fn only_the_end_of_a_path_is_a_version() {
    for (url, versioned_url) in [
        ("https://v2proxy.example", "https://v2proxy.example/v1"),
        ("https://v1.example:8443/", "https://v1.example:8443/v1"),
        ("https://gate.example/v1beta", "https://gate.example/v1beta"),
        ("https://gate.example/gemini", "https://gate.example/gemini/v1"),
    ] {
        assert_eq!(versioned(url), versioned_url);
    }
}

#[tokio::test]
async fn a_refusal_that_names_no_tool_makes_all_of_them_plain() {
    let vague = r#"{"error":{"code":400,"message":"The specified schema produces a constraint that has too many states","status":"INVALID_ARGUMENT"}}"#;
    let outcome = ask("", 1, vec![refused(vague), good()]).await;
    assert_eq!(outcome.schemas(), [["full", "full"], ["plain", "plain"]]);
}

#[tokio::test]
async fn a_schema_that_is_refused_even_so_is_named_and_nothing_else_is_tried() {
    let outcome = ask("", 1, vec![refused(REFUSED), refused(REFUSED)]).await;
    let error = outcome.turns[0].as_ref().unwrap_err();
    assert_eq!((error.kind, error.status), (ProviderErrorKind::BadRequest, Some(400)));
    assert!(error.hint.as_ref().unwrap().contains("`g`"), "{error:?}");
    let other = r#"{"error":{"code":400,"message":"Please ensure that function call turn comes immediately after a user turn","status":"INVALID_ARGUMENT"}}"#;
    let outcome = ask("", 1, vec![refused(other)]).await;
    assert_eq!(outcome.turns[0].as_ref().unwrap_err().hint, None);
}

#[tokio::test]
async fn the_wait_that_the_body_names_is_kept_and_a_daily_quota_is_not_waited_for() {
    let exhausted = |quota: &str| {
        let details = json!([{ "violations": [{ "quotaId": quota }] }, { "retryDelay": "13s" }]);
        let error = json!({ "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota", "details": details });
        whole("429 Too Many Requests", "", &json!({ "error": error }).to_string())
    };
    let outcome = ask("", 1, vec![exhausted("RequestsPerMinute"), good()]).await;
    assert_eq!(outcome.turns[0].as_ref().unwrap().wire_attempts, 2);
    assert!((13_000..=13_250).contains(&outcome.waits[0].as_millis()), "{:?}", outcome.waits);
    let outcome = ask("", 1, vec![exhausted("RequestsPerDay")]).await;
    assert_eq!(outcome.turns[0].as_ref().unwrap_err().kind, ProviderErrorKind::Billing);
    assert!(outcome.waits.is_empty());
}

#[tokio::test]
async fn an_unknown_model_is_answered_with_those_there_are() {
    let missing = r#"{"error":{"code":404,"message":"models/m is not found for API version v1","status":"NOT_FOUND"}}"#;
    let list = r#"{"models":[{"name":"models/gemini-3.8-flash"},{"name":"models/m-2"}]}"#;
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let answers = vec![whole("404 Not Found", "", missing), whole("200 OK", "", list)];
    let (turns, requests) = ask_by(clock, "", 1, answers).await;
    let hint = turns[0].as_ref().unwrap_err().hint.clone().unwrap();
    assert_eq!(hint, "provider `gemini` offers, among others: m-2, gemini-3.8-flash");
    assert!(requests[1].starts_with("GET /v1/models?pageSize=1000 "), "{}", requests[1]);
}
