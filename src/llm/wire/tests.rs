//! Attempts against a scripted server: what is tried again, what is given up, and what is told.

use super::*;
use crate::clock::ManualClock;
use crate::domain::{Effect, Timestamp};
use crate::llm::test_server::{Answer, HastyClock, Server, Transcript, broken, whole};
use crate::llm::{Api, Message, OllamaOptions, Provider, ToolDefinition, TurnLimits, TurnRequest, provider};
use crate::net::testing::DeafPort;
use std::sync::Arc;
use tokio::sync::mpsc;

const GOOD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const HALF: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\n";

fn good() -> Answer {
    whole("200 OK", "Content-Type: text/event-stream\r\n", GOOD)
}

fn config(url: &str, api: Api) -> ProviderConfig {
    ProviderConfig {
        name: "local".into(),
        api,
        base_url: Some(url.to_owned()),
        api_key: Some(SecretString::from("sk-very-secret")),
        headers: vec![("X-Team".into(), "blué".into())],
        timeout: Duration::from_secs(600),
        retries: Arc::default(),
        ollama: OllamaOptions::default(),
    }
}

fn connect(url: &str, api: Api, clock: SharedClock) -> Arc<dyn Provider> {
    // The machine's proxy must not see the test.
    provider(config(url, api), reqwest::Client::builder().no_proxy().build().unwrap(), clock)
}

fn question() -> TurnRequest {
    TurnRequest {
        model: "m-1".into(),
        system: None,
        messages: vec![Message::User { text: "hi".into() }],
        tools: vec![],
        max_output_tokens: None,
        plan_allowed: false,
    }
}

struct Outcome {
    result: Result<TurnReply, ProviderError>,
    sink: Transcript,
    waits: Vec<Duration>,
    requests: mpsc::UnboundedReceiver<String>,
}

async fn ask(answers: Vec<Answer>) -> Outcome {
    let clock = HastyClock::new();
    let server = Server::answering(answers).await;
    let provider = connect(&server.url, Api::OpenaiChat, clock.clone());
    let mut sink = Transcript::default();
    let result = provider.turn(&question(), &mut sink, &TurnLimits::default()).await;
    Outcome { result, sink, waits: clock.waits(), requests: server.requests }
}

#[tokio::test]
async fn the_query_of_an_address_stands_behind_the_path_of_every_request() {
    for (api, base, line) in [
        (Api::OpenaiChat, "/v1/?api-version=1", "POST /v1/chat/completions?api-version=1 HTTP/1.1"),
        (Api::OpenaiChat, "/v1?", "POST /v1/chat/completions HTTP/1.1"),
        (Api::OpenaiChat, "/v1#part", "POST /v1/chat/completions HTTP/1.1"),
        (Api::Anthropic, "?a=b#c", "POST /v1/messages?a=b HTTP/1.1"),
        (Api::Gemini, "/v1beta?a=b", "POST /v1beta/models/m-1:streamGenerateContent?alt=sse&a=b HTTP/1.1"),
        (Api::Gemini, "?a=b", "POST /v1/models/m-1:streamGenerateContent?alt=sse&a=b HTTP/1.1"),
        (Api::Ollama, "/api?a=b", "POST /api/chat?a=b HTTP/1.1"),
    ] {
        let mut server = Server::answering(vec![whole("402 Payment Required", "", "{}")]).await;
        let provider = connect(&format!("{}{base}", server.url), api, HastyClock::new());
        let turn = provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await;
        assert_eq!(turn.unwrap_err().kind, ProviderErrorKind::Billing);
        let request = server.requests.recv().await.unwrap();
        assert_eq!(request.lines().next(), Some(line), "{base}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_as_the_provider_says() {
    let limited = whole("429 Too Many Requests", "Retry-After: 7\r\n", r#"{"error":{"message":"slow down"}}"#);
    let mut outcome = ask(vec![limited, good()]).await;
    let reply = outcome.result.unwrap();
    assert_eq!((reply.text.as_str(), reply.wire_attempts), ("hello", 2));
    assert_eq!(outcome.waits.len(), 1);
    assert!((7_000..=7_250).contains(&outcome.waits[0].as_millis()), "{:?}", outcome.waits);
    assert_eq!(outcome.sink.restarts, 0, "nothing had been shown");
    let [failed] = &outcome.sink.failed[..] else { panic!("{:?}", outcome.sink.failed) };
    assert_eq!((failed.attempt, failed.most, failed.wait.as_millis()), (1, 4, outcome.waits[0].as_millis()));
    assert!(failed.error.message.contains("answered 429: slow down"), "{}", failed.error);
    let first = outcome.requests.recv().await.unwrap();
    assert!(first.starts_with("POST /chat/completions HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("authorization: Bearer sk-very-secret\r\n") && first.contains("x-team: blué\r\n"));
    let second = outcome.requests.recv().await.unwrap();
    let body = |request: &str| request.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(&first), body(&second));
}

#[tokio::test]
async fn a_failing_server_is_given_up_on_after_four_attempts() {
    let failing = || whole("500 Internal Server Error", "", r#"{"error":{"message":"exploded"}}"#);
    let outcome = ask(vec![failing(), failing(), failing(), failing()]).await;
    let error = outcome.result.unwrap_err();
    assert_eq!((error.kind, error.status), (ProviderErrorKind::Server, Some(500)));
    assert_eq!(error.to_string(), "provider `local`, model `m-1` answered 500: exploded (after 4 attempts)");
    assert_eq!(outcome.waits.len(), 3);
}

#[tokio::test]
async fn a_stream_that_breaks_after_output_is_asked_again_and_the_sink_is_told() {
    let outcome = ask(vec![broken(HALF), whole("200 OK", "", HALF), good()]).await;
    let reply = outcome.result.unwrap();
    assert_eq!((reply.text.as_str(), reply.wire_attempts), ("hello", 3));
    assert_eq!(outcome.sink.restarts, 2);
    assert_eq!(outcome.sink.deltas.concat(), "hello");
}

#[tokio::test]
async fn refusals_are_final_and_tell_no_secret() {
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-very-secret","code":"invalid_api_key"}}"#;
    let error = ask(vec![whole("401 Unauthorized", "", body)]).await.result.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Auth);
    assert!(error.message.contains("provider `local`") && error.message.contains("401"));
    assert!(!format!("{error:?}").contains("sk-very-secret"));
    assert!(error.hint.unwrap().contains("providers.local.api_key"));
}

#[tokio::test]
async fn money_is_not_waited_for() {
    let body = r#"{"error":{"message":"no credit","code":"insufficient_quota"}}"#;
    let outcome = ask(vec![whole("429 Too Many Requests", "Retry-After: 1\r\n", body)]).await;
    assert_eq!(outcome.result.unwrap_err().kind, ProviderErrorKind::Billing);
    assert!(outcome.waits.is_empty());
}

#[tokio::test]
async fn an_unknown_model_is_answered_with_those_there_are() {
    let missing = whole("404 Not Found", "", r#"{"error":{"message":"no such model","code":"model_not_found"}}"#);
    let list = whole("200 OK", "", r#"{"data":[{"id":"z"},{"id":"m-2"}]}"#);
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let server = Server::answering(vec![missing, list]).await;
    let provider = connect(&server.url, Api::OpenaiChat, clock);
    let turn = provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await;
    assert_eq!(turn.unwrap_err().hint.unwrap(), "provider `local` offers, among others: m-2, z");
}

#[tokio::test]
async fn ids_of_models_are_told_on_one_line_and_not_at_any_length() {
    let missing = whole("404 Not Found", "", r#"{"error":{"message":"no such model","code":"model_not_found"}}"#);
    let ids = serde_json::json!({ "data": [{ "id": "\u{1b}[31mred\nline" }, { "id": "x".repeat(300_000) }] });
    let server = Server::answering(vec![missing, whole("200 OK", "", &ids.to_string())]).await;
    let provider = connect(&server.url, Api::OpenaiChat, ManualClock::at(Timestamp::from_millis(0)));
    let turn = provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await;
    let hint = turn.unwrap_err().hint.unwrap();
    assert!(hint.len() < 1_000 && hint.contains("[31mred line") && hint.contains("xxx…"), "{} bytes", hint.len());
    assert!(!hint.contains(char::is_control), "{hint:?}");
}

#[tokio::test]
async fn a_model_that_the_provider_lists_and_does_not_find_is_asked_for_in_the_wrong_place() {
    let missing = whole("404 Not Found", "", r#"{"error":{"message":"404 page not found"}}"#);
    let list = whole("200 OK", "", r#"{"data":[{"id":"m-1"},{"id":"m-2"}]}"#);
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let server = Server::answering(vec![missing, list]).await;
    let provider = connect(&server.url, Api::OpenaiChat, clock);
    let turn = provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await;
    let hint = turn.unwrap_err().hint.unwrap();
    assert!(hint.contains("`providers.local.api`") && hint.contains("`providers.local.base_url`"), "{hint}");
    assert!(hint.contains("`m-1`") && !hint.contains("m-2"), "{hint}");
}

#[tokio::test]
async fn a_report_of_an_error_that_is_too_long_still_counts_as_far_as_it_is_read() {
    let long = "x".repeat(70 << 10);
    let code_first = format!(r#"{{"error":{{"code":"insufficient_quota","message":"{long}"}}}}"#);
    let limited = || whole("429 Too Many Requests", "", &code_first);
    let error = ask(vec![limited(), limited(), limited(), limited()]).await.result.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Billing, "{error}");
    let text = format!("the prompt is too long: {long}");
    let error = ask(vec![whole("400 Bad Request", "", &text)]).await.result.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::ContextOverflow, "{error}");
    assert!(error.message.contains("too long: xxx"), "{error}");
}

#[tokio::test]
async fn the_last_event_counts_without_the_empty_line_after_it_if_it_is_whole() {
    for end in ["data: [DONE]\n", "data: [DONE]"] {
        let outcome = ask(vec![whole("200 OK", "", &GOOD.replace("data: [DONE]\n\n", end)), good()]).await;
        let reply = outcome.result.unwrap();
        assert_eq!((reply.text.as_str(), reply.wire_attempts), ("hello", 1), "{end:?}");
    }
    for half in ["data: [DO", "data: {\"choices\":[{\"index\":0,\"del"] {
        let outcome = ask(vec![whole("200 OK", "", &format!("{HALF}{half}")), good()]).await;
        assert_eq!(outcome.result.unwrap().wire_attempts, 2, "{half:?}");
    }
    let outcome = ask(vec![broken(&GOOD.replace("data: [DONE]\n\n", "data: [DONE]\n")), good()]).await;
    assert_eq!(outcome.result.unwrap().wire_attempts, 2, "the connection was lost");
}

#[tokio::test]
async fn whoever_refuses_many_tools_is_told_of_with_their_number() {
    let refused = || {
        let told = r#"{"error":{"message":"Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 129 instead.","type":"invalid_request_error","code":"array_above_max_length"}}"#;
        whole("400 Bad Request", "", told)
    };
    let tool = |number: usize| ToolDefinition {
        name: format!("t{number}"),
        description: None,
        input_schema: serde_json::json!({ "type": "object" }),
        effect: Effect::Read,
    };
    for (count, hinted) in [(129, true), (128, false)] {
        let server = Server::answering(vec![refused()]).await;
        let provider = connect(&server.url, Api::OpenaiChat, HastyClock::new());
        let question = TurnRequest { tools: (0..count).map(tool).collect(), ..question() };
        let error = provider.turn(&question, &mut Transcript::default(), &TurnLimits::default()).await.unwrap_err();
        let hint = error.hint.unwrap_or_default();
        assert_eq!(hint.contains("129 tools") && hint.contains("`tools`"), hinted, "{hint}");
    }
}

#[tokio::test]
async fn an_overflow_of_a_server_that_says_its_context_is_told_with_both_numbers_and_the_option() {
    let told = r#"{"error":{"code":400,"type":"exceed_context_size_error","message":"the request exceeds the available context size","n_prompt_tokens":9000,"n_ctx":8192}}"#;
    let in_stream = whole("200 OK", "Content-Type: text/event-stream\r\n", &format!("data: {told}\n\n"));
    for answer in [whole("400 Bad Request", "", told), in_stream] {
        let error = ask(vec![answer]).await.result.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::ContextOverflow);
        let hint = error.hint.unwrap();
        assert!(["9000", "8192", "`--ctx-size`"].iter().all(|part| hint.contains(part)), "{hint}");
    }
    let told = r#"{"error":{"message":"prompt is too long","type":"invalid_request_error"}}"#;
    let hint = ask(vec![whole("400 Bad Request", "", told)]).await.result.unwrap_err().hint.unwrap();
    assert!(hint.contains("larger window"), "{hint}");
}

#[tokio::test]
async fn a_refused_limit_of_output_is_told_with_its_key() {
    let told = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for m-1"}}"#;
    let error = ask(vec![whole("400 Bad Request", "", told)]).await.result.unwrap_err();
    assert!(error.hint.as_ref().unwrap().contains("`providers.local.max_output_tokens`"), "{error:?}");
}

#[tokio::test]
async fn providers_that_share_their_retries_stop_beating_a_server_that_is_down() {
    let clock = HastyClock::new();
    let down = || whole("503 Service Unavailable", "", "{}");
    let server = Server::answering((0..200).map(|_| down()).collect()).await;
    let retries = Arc::default();
    let mut attempts = Vec::new();
    for _ in 0..20 {
        let config = ProviderConfig { retries: Arc::clone(&retries), ..config(&server.url, Api::OpenaiChat) };
        let provider = provider(config, reqwest::Client::builder().no_proxy().build().unwrap(), clock.clone());
        let limits = TurnLimits::default();
        let error = provider.turn(&question(), &mut Transcript::default(), &limits).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Server);
        attempts.push(error.message.contains("(after 4 attempts)"));
    }
    assert!(attempts[0] && !attempts[19], "{attempts:?}");
}

#[tokio::test]
async fn a_wait_that_the_provider_names_is_no_beating_and_takes_nothing_from_the_shared_retries() {
    let clock = HastyClock::new();
    let limited = || whole("429 Too Many Requests", "Retry-After-Ms: 1\r\n", r#"{"error":{"message":"slow down"}}"#);
    let down = || whole("503 Service Unavailable", "", "{}");
    let answers = (0..30).flat_map(|_| [limited(), good()]).chain((0..200).map(|_| down()));
    let server = Server::answering(answers.collect()).await;
    let retries = Arc::default();
    let ask = async || {
        let config = ProviderConfig { retries: Arc::clone(&retries), ..config(&server.url, Api::OpenaiChat) };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let provider = provider(config, http, clock.clone());
        provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await
    };
    for run in 0..30 {
        assert_eq!(ask().await.unwrap().wire_attempts, 2, "run {run}");
    }
    let mut refused = None;
    for _ in 0..20 {
        refused = Some(ask().await.unwrap_err()).filter(|error| !error.message.contains("4 attempts"));
    }
    let error = refused.unwrap();
    assert!(error.message.contains("no retry is left"), "{error}");
    assert!(error.hint.unwrap().contains("many calls to `local`"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let moved = whole("308 Permanent Redirect", "Location: http://127.0.0.1:1/\r\n", "");
    let server = Server::answering(vec![moved]).await;
    let config = ProviderConfig {
        name: "local".into(),
        api: Api::OpenaiChat,
        base_url: Some(server.url),
        api_key: None,
        headers: vec![],
        timeout: Duration::from_secs(600),
        retries: Arc::default(),
        ollama: OllamaOptions::default(),
    };
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let provider = provider(config, http, HastyClock::new());
    let error = provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ProviderErrorKind::BadRequest, Some(308)));
    assert!(error.hint.unwrap().contains("base_url"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_connection_error() {
    let clock = HastyClock::new();
    let deaf = DeafPort::new();
    let url = format!("http://user:hunter2secret@{}", deaf.address());
    let provider = connect(&url, Api::Anthropic, clock.clone());
    let error = provider.turn(&question(), &mut Transcript::default(), &TurnLimits::default()).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Connection);
    assert_eq!(clock.waits().len(), 3);
    assert!(!format!("{error:?}").contains("hunter2secret"));
}

#[tokio::test]
async fn cancelling_ends_the_turn_while_the_provider_thinks() {
    let mut server = Server::answering(vec![Answer::Silence]).await;
    let provider = connect(&server.url, Api::Anthropic, HastyClock::new());
    let limits = TurnLimits { deadline: None, cancel: CancellationToken::new() };
    let (mut sink, question) = (Transcript::default(), question());
    let cancel = async {
        let request = server.requests.recv().await.unwrap();
        limits.cancel.cancel();
        request
    };
    let (result, request) = tokio::join!(provider.turn(&question, &mut sink, &limits), cancel);
    assert_eq!(result.unwrap_err().kind, ProviderErrorKind::Cancelled);
    assert!(request.starts_with("POST /v1/messages "), "{request}");
    assert!(request.contains("x-api-key: sk-very-secret\r\n") && request.contains("anthropic-version: 2023-06-01\r\n"));
}

#[tokio::test]
async fn the_deadline_ends_the_turn_while_the_provider_thinks() {
    let clock = ManualClock::at(Timestamp::from_millis(1_000));
    let mut server = Server::answering(vec![Answer::Silence]).await;
    let provider = connect(&server.url, Api::OpenaiChat, clock.clone());
    let limits = TurnLimits { deadline: Some(Timestamp::from_millis(31_000)), cancel: CancellationToken::new() };
    let (mut sink, question) = (Transcript::default(), question());
    let pass = async {
        server.requests.recv().await.unwrap();
        clock.advance(Duration::from_secs(30));
    };
    let (result, ()) = tokio::join!(provider.turn(&question, &mut sink, &limits), pass);
    let error = result.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Timeout);
    assert!(error.message.contains("deadline"));
}

#[tokio::test]
async fn silence_is_an_attempt_that_failed() {
    let clock = HastyClock::new();
    let mut server = Server::answering(vec![Answer::Silence, good()]).await;
    let provider = connect(&server.url, Api::OpenaiChat, clock.clone());
    let (mut sink, question, limits) = (Transcript::default(), question(), TurnLimits::default());
    let pass = async {
        server.requests.recv().await.unwrap();
        clock.advance(Duration::from_secs(600));
    };
    let (result, ()) = tokio::join!(provider.turn(&question, &mut sink, &limits), pass);
    assert_eq!(result.unwrap().wire_attempts, 2);
    assert_eq!(clock.waits().len(), 1);
}
