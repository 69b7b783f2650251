use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::{FutureExt, StreamExt};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Desk, LEGACY, initialize, initialized, modern, principal, request};
use crate::clock::{ManualClock, SharedClock, SystemClock};
use crate::domain::Timestamp;
use crate::lifecycle::Tasks;
use crate::mcp::serve::{HttpSeed, HttpService, ToolSet, http_service};

fn serve(desk: &Arc<Desk>) -> HttpService {
    http_service(desk.clone(), seed(SystemClock::shared()))
}

fn seed(clock: SharedClock) -> HttpSeed {
    HttpSeed {
        environment: None,
        tools: ToolSet::Default,
        clock,
        tasks: crate::lifecycle::Tasks::new(),
        cancel: CancellationToken::new(),
    }
}

/// A POST of `message` by `who`, as a client of its version sends it.
fn post(who: &str, message: &Value) -> Request<Body> {
    let mut request = raw(who, "POST", &message.to_string());
    let params = &message["params"];
    let version = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
    let headers =
        [("mcp-protocol-version", version), ("mcp-method", &message["method"]), ("mcp-name", &params["name"])];
    if version.is_string() {
        for (name, value) in headers {
            if let Some(value) = value.as_str() {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
        }
    }
    request
}

fn raw(who: &str, method: &str, body: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/mcp")
        .header("host", "localhost:8080")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .extension(principal(who))
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

async fn send(service: &HttpService, request: Request<Body>) -> Response<Body> {
    service.clone().oneshot(request).await.unwrap()
}

/// All messages of a response, whether it is JSON or an event stream.
async fn messages(response: Response<Body>) -> Vec<Value> {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    if let Ok(message) = serde_json::from_str(&text) {
        return vec![message];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect()
}

async fn open(service: &HttpService, who: &str, version: &str) -> String {
    let response = send(service, post(who, &initialize(version))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    assert_eq!(messages(response).await[0]["result"]["protocolVersion"], version);
    let told = send(service, with(post(who, &initialized()), "mcp-session-id", &session)).await;
    assert_eq!(told.status(), StatusCode::ACCEPTED);
    session
}

#[tokio::test]
async fn every_version_with_a_handshake_gets_a_session() {
    let service = serve(&Desk::new());
    for version in LEGACY {
        let session = open(&service, "alice", version).await;
        let call = request(1, "tools/call", &json!({ "name": "echo", "arguments": { "x": 1 } }));
        let response = send(&service, with(post("alice", &call), "mcp-session-id", &session)).await;
        let said = messages(response).await;
        assert_eq!(said.last().unwrap()["result"]["structuredContent"]["version"], version);
    }
}

#[tokio::test]
async fn a_request_without_a_session_is_answered_as_json() {
    let service = serve(&Desk::new());
    let response = send(&service, post("bob", &modern(1, "tools/call", json!({ "name": "echo" })))).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let said = messages(response).await;
    assert_eq!(said[0]["result"]["structuredContent"]["principal"], "bob");
    assert_eq!(said[0]["result"]["resultType"], "complete");
    let unknown = send(&service, post("bob", &modern(1, "no/such", json!({})))).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn progress_turns_the_answer_into_a_stream() {
    let call = modern(1, "tools/call", json!({ "name": "count", "_meta": { "progressToken": 5 } }));
    let response = send(&serve(&Desk::new()), post("alice", &call)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let said = messages(response).await;
    assert_eq!(said.len(), 51);
    for (note, step) in said.iter().zip(1..=50) {
        assert_eq!(note["params"]["progress"].as_f64(), Some(f64::from(step)));
    }
    assert_eq!(said[50]["result"]["content"][0]["text"], "counted");
}

#[tokio::test]
async fn a_session_whose_opener_leaves_before_the_answer_is_closed() {
    let service = serve(&Desk::new());
    // Wherever the opening stands when its caller leaves.
    for polls in 0..100 {
        let mut opening = Box::pin(send(&service, post("alice", &initialize("2025-11-25"))));
        let mut opened = None;
        for poll in 0..=polls {
            if poll > 0 {
                tokio::task::yield_now().await;
            }
            opened = opening.as_mut().now_or_never();
            if opened.is_some() {
                break;
            }
        }
        drop(opening);
        let is_answered = opened.is_some();
        settled().await;
        assert_eq!(service.open_sessions(), usize::from(is_answered), "after {polls} polls");
        // An answer that nobody takes any more is none.
        drop(opened);
        settled().await;
        assert_eq!(service.open_sessions(), 0, "after {polls} polls");
        if is_answered {
            assert!(polls > 0, "nobody has left before the answer");
            return;
        }
    }
    panic!("the session was never opened");
}

/// Lets everything happen that can.
async fn settled() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_session_that_nobody_uses_after_it_was_opened_ends_after_a_minute() {
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let service = http_service(Desk::new(), seed(clock.clone()));
    let used = open(&service, "alice", "2025-11-25").await;
    // Its id was sent, which doesn't say that it came.
    let unheard = send(&service, post("alice", &initialize("2025-11-25"))).await;
    let id = unheard.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    messages(unheard).await;
    clock.advance(Duration::from_millis(59_999));
    settled().await;
    assert_eq!(service.open_sessions(), 2);
    clock.advance(Duration::from_millis(1));
    settled().await;
    assert_eq!(service.open_sessions(), 1);
    let call = || post("alice", &request(1, "tools/call", &json!({ "name": "echo" })));
    assert_eq!(send(&service, with(call(), "mcp-session-id", &id)).await.status(), StatusCode::NOT_FOUND);
    clock.advance(Duration::from_secs(3600));
    settled().await;
    assert_eq!(send(&service, with(call(), "mcp-session-id", &used)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_whose_session_ends_meanwhile_is_answered_or_told_that_there_is_none() {
    let service = serve(&Desk::new());
    let mut told = Vec::new();
    // Wherever the request stands when the session ends.
    for polls in 0..30 {
        let session = open(&service, "alice", "2025-11-25").await;
        let call = post("alice", &request(1, "tools/call", &json!({ "name": "echo" })));
        let mut asking = Box::pin(send(&service, with(call, "mcp-session-id", &session)));
        let mut answered = None;
        for _ in 0..polls {
            answered = asking.as_mut().now_or_never();
            if answered.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let ended = send(&service, with(raw("alice", "DELETE", ""), "mcp-session-id", &session)).await;
        assert_eq!(ended.status(), StatusCode::ACCEPTED);
        let answer = match answered {
            Some(answer) => answer,
            None => asking.await,
        };
        told.push(answer.status().as_u16());
    }
    assert!(told.iter().all(|status| [200, 404].contains(status)), "{told:?}");
    assert!(told.starts_with(&[404]) && told.ends_with(&[200]), "{told:?}");
}

#[tokio::test]
async fn a_session_is_there_for_the_principal_that_opened_it_alone() {
    let service = serve(&Desk::new());
    let session = open(&service, "alice", "2025-11-25").await;
    let call = || post("bob", &request(1, "tools/call", &json!({ "name": "echo" })));
    let theft = send(&service, with(call(), "mcp-session-id", &session)).await;
    assert_eq!(theft.status(), StatusCode::NOT_FOUND);
    for method in ["GET", "DELETE"] {
        let theft = send(&service, with(raw("bob", method, ""), "mcp-session-id", &session)).await;
        assert_eq!(theft.status(), StatusCode::NOT_FOUND, "{method}");
    }
    // An `initialize` under a version without sessions must not reach alice's session either: it opens one of bob's.
    let sneaky = with(post("bob", &initialize("2026-07-28")), "mcp-protocol-version", "2026-07-28");
    let own = send(&service, with(sneaky, "mcp-session-id", &session)).await;
    assert_ne!(own.headers()["mcp-session-id"], session.as_str());

    let unknown = send(&service, with(call(), "mcp-session-id", "nobody")).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let closed = send(&service, with(raw("alice", "DELETE", ""), "mcp-session-id", &session)).await;
    assert!(closed.status().is_success());
    let late = post("alice", &request(2, "ping", &json!({})));
    assert_eq!(send(&service, with(late, "mcp-session-id", &session)).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_request_without_a_principal_is_refused() {
    let mut request = post("alice", &initialize("2025-11-25"));
    request.extensions_mut().clear();
    assert_eq!(send(&serve(&Desk::new()), request).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_waited_for_a_minute() {
    let manual = ManualClock::at(Timestamp::from_millis(0));
    let service = http_service(Desk::new(), seed(manual.clone()));
    let mut request = post("alice", &initialize("2025-11-25"));
    *request.body_mut() =
        Body::from_stream(futures_util::stream::pending::<Result<String, std::convert::Infallible>>());
    let (refused, ()) = tokio::join!(send(&service, request), async { manual.advance(Duration::from_secs(60)) });
    assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(messages(refused).await[0]["error"]["code"], -32600);
}

#[tokio::test]
async fn a_body_that_is_no_message_is_a_bad_request() {
    let service = serve(&Desk::new());
    for (body, code, id) in [
        ("{no", -32700, Value::Null),
        (r#"{"jsonrpc":"2.0","id":4,"method":"ping","params":"\ud800"}"#, -32600, json!(4)),
    ] {
        let response = send(&service, raw("alice", "POST", body)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let answer = messages(response).await.remove(0);
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id));
    }
    let plain = with(raw("alice", "POST", "{}"), "content-type", "text/plain");
    assert_eq!(send(&service, plain).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let desk = Desk::new();
    let service = serve(&desk);
    let call = post("alice", &modern(1, "tools/call", json!({ "name": "hang" })));
    let waiting = send(&service, call);
    tokio::select! {
        _ = waiting => panic!("nobody answers this"),
        () = desk.hanging.notified() => {}
    }
    desk.cancelled.notified().await;
    assert_eq!(desk.cancels.load(Ordering::Acquire), 1);
}

#[tokio::test]
async fn a_cancelled_request_of_a_session_reaches_the_backend_and_ends_its_stream() {
    let desk = Desk::new();
    let service = serve(&desk);
    let session = open(&service, "alice", "2025-06-18").await;
    let call = request("slow", "tools/call", &json!({ "name": "hang" }));
    let response = send(&service, with(post("alice", &call), "mcp-session-id", &session)).await;
    desk.hanging.notified().await;
    let params = json!({ "requestId": "slow" });
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
    let told = send(&service, with(post("alice", &cancel), "mcp-session-id", &session)).await;
    assert_eq!(told.status(), StatusCode::ACCEPTED);
    desk.cancelled.notified().await;
    assert_eq!(messages(response).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_session_hears_of_changes_on_its_own_stream_until_it_is_closed() {
    let desk = Desk::new();
    let service = serve(&desk);
    let session = open(&service, "alice", "2025-11-25").await;
    let stream = send(&service, with(raw("alice", "GET", ""), "mcp-session-id", &session)).await;
    let mut stream = stream.into_body().into_data_stream();
    while desk.changes.receiver_count() < 1 {
        tokio::task::yield_now().await;
    }
    desk.changes.send_modify(|generation| *generation += 1);
    let mut heard = String::new();
    while !heard.contains("notifications/tools/list_changed") {
        heard.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    send(&service, with(raw("alice", "DELETE", ""), "mcp-session-id", &session)).await;
    while desk.changes.receiver_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stopping_the_station_ends_a_subscription() {
    let desk = Desk::new();
    let seed = seed(SystemClock::shared());
    let stop = seed.cancel.clone();
    let service = http_service(desk.clone(), seed);
    let wish = modern("s", "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }));
    let response = send(&service, post("alice", &wish)).await;
    Tasks::new().spawn("stop", async move { stop.cancel() });
    let said = messages(response).await;
    assert_eq!(said[0]["method"], "notifications/subscriptions/acknowledged");
}
