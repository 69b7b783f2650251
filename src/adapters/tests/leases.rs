//! What is under way when a key is ended or changed.

use super::keys::{ask, key, open};
use crate::adapters::testing::{Coming, TestStation, send_body};
use axum::body::Body;
use futures_util::{FutureExt, stream};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::oneshot;

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");

/// A request whose body is held back until the sender gives it.
fn held_back<'a>(
    test: &'a TestStation,
    secret: &str,
    line: &'a str,
) -> (oneshot::Sender<String>, impl Future<Output = Coming> + 'a) {
    let (body, sent) = oneshot::channel();
    let bearer = format!("Bearer {secret}");
    let chunks = stream::once(async move { Ok::<String, Infallible>(sent.await.unwrap()) });
    let answering = async move {
        let headers = [
            ("host", "127.0.0.1:8080"),
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2026-07-28"),
            ACCEPT,
        ];
        send_body(&test.routers.tcp, line, &headers, Body::from_stream(chunks)).await
    };
    (body, answering)
}

/// Lets everything else go on until nothing does.
async fn settle(test: &TestStation) {
    for _ in 0..5 {
        assert_eq!(test.send("GET /api/v1/api-keys", None).await.status, 200);
    }
}

#[tokio::test]
async fn a_request_whose_body_comes_after_its_key_was_deleted_does_nothing() {
    let test = TestStation::new().await;
    let heir = json!({ "name": "heir", "expires_in": "365d" });
    let tool = json!({ "name": "agent_create", "arguments": { "name": "heir", "prompt": "b" } });
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    let mut params = tool;
    params["_meta"] = meta;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    for (line, text) in [("POST /api/v1/api-keys", heir), ("POST /mcp", call)] {
        let (id, secret) = key(&test, json!({ "name": "doomed" })).await;
        let (body, answering) = held_back(&test, &secret, line);
        let mut answering = Box::pin(answering);
        assert!(answering.as_mut().now_or_never().is_none());
        settle(&test).await;
        assert!(answering.as_mut().now_or_never().is_none(), "it waits for its body");
        assert_eq!(test.send(&format!("DELETE /api/v1/api-keys/{id}"), None).await.status, 200);
        body.send(text.to_string()).unwrap();
        let refused = answering.await.read().await;
        assert_eq!(refused.status, 401, "{line}: {refused:?}");
        assert!(refused.header("www-authenticate").contains("invalid_token") && refused.text.contains("was deleted"));
    }
    settle(&test).await;
    assert!(!test.send("GET /api/v1/api-keys", None).await.text.contains("heir"));
    assert!(!test.send("GET /api/v1/agents", None).await.text.contains("heir"));
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let denied = rows.iter().filter(|row| row.entry.reason.as_deref() == Some("unauthenticated: deleted key"));
    assert_eq!(denied.count(), 2);
}

#[tokio::test]
async fn an_act_that_finds_its_key_ended_says_so_itself_and_leaves_one_row() {
    let test = TestStation::new().await;
    let (id, secret) = key(&test, json!({ "name": "doomed" })).await;
    let others = test.deps.station.giving.lock().await;
    let (path, heir) = (format!("DELETE /api/v1/api-keys/{id}"), json!({ "name": "heir", "expires_in": "1d" }));
    let mut deleting = Box::pin(test.send(&path, None));
    let mut giving = Box::pin(ask(&test, &secret, "POST /api/v1/api-keys", Some(heir)));
    // Both wait until nobody else gives or takes, the one that ends the key before the other.
    for _ in 0..3 {
        assert!(deleting.as_mut().now_or_never().is_none());
        settle(&test).await;
    }
    for _ in 0..3 {
        assert!(giving.as_mut().now_or_never().is_none());
        settle(&test).await;
    }
    drop(others);
    assert_eq!(deleting.await.status, 200);
    let refused = giving.await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(
        refused.text.contains("nothing was changed") && refused.header("www-authenticate").contains("invalid_token")
    );
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let of_request = rows.iter().filter(|row| row.entry.request_id == refused.header("x-request-id"));
    let said: Vec<_> = of_request.map(|row| (row.entry.action.as_str(), row.entry.reason.as_deref())).collect();
    assert_eq!(said, [("api_key.create", Some("the key of the giver isn't taken any more"))]);
}

#[tokio::test]
async fn an_answer_that_is_still_coming_when_its_key_ends_or_changes_is_not_given() {
    let test = TestStation::new().await;
    let agent = json!({ "name": "slow", "prompt": "Be brief." });
    assert_eq!(test.send("POST /api/v1/agents", Some(agent)).await.status, 201);
    let run = test.send("POST /api/v1/agents/slow/queue", Some(json!({ "input": "go" }))).await.json();
    let line = format!("POST /api/v1/runs/{}/wait", run["id"].as_str().unwrap());
    let (id, secret) = key(&test, json!({ "name": "waiter" })).await;
    let path = format!("/api/v1/api-keys/{id}");
    for (change, status) in [(Some(json!({ "role": "viewer" })), 409), (None, 401)] {
        let mut waiting = Box::pin(ask(&test, &secret, &line, Some(json!({ "wait_ms": 60_000 }))));
        assert!(waiting.as_mut().now_or_never().is_none());
        settle(&test).await;
        assert!(waiting.as_mut().now_or_never().is_none(), "it waits for the run");
        let changed = match change {
            Some(change) => test.send(&format!("PATCH {path}"), Some(change)).await,
            None => test.send(&format!("DELETE {path}"), None).await,
        };
        assert_eq!(changed.status, 200);
        let ended = async {
            loop {
                settle(&test).await;
                test.clock.advance(Duration::from_secs(1));
            }
        };
        let answer: Value = tokio::select! {
            answer = &mut waiting => { assert_eq!(answer.status, status, "{answer:?}"); answer.json() }
            () = ended => unreachable!(),
        };
        assert!(answer["output"].is_null() && answer["hint"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn a_key_that_deletes_itself_is_told_so() {
    let test = TestStation::new().await;
    let (id, secret) = key(&test, json!({ "name": "last" })).await;
    let deleted = ask(&test, &secret, &format!("DELETE /api/v1/api-keys/{id}"), None).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "deleted": id })));
    assert_eq!(ask(&test, &secret, "GET /api/v1/agents", None).await.status, 401);
}

#[tokio::test]
async fn what_is_open_goes_on_under_another_name_and_ends_with_other_rights() {
    let test = TestStation::new().await;
    let (id, secret) = key(&test, json!({ "name": "before" })).await;
    let params =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let opened = open(&test, &secret, "POST /mcp", &[ACCEPT], Some(initialize)).await.read().await;
    let session = opened.header("mcp-session-id").to_owned();
    let of_session = [ACCEPT, ("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(open(&test, &secret, "POST /mcp", &of_session, Some(ready)).await.read().await.status, 202);
    let mut stream = open(&test, &secret, "GET /mcp", &of_session, None).await;
    let list = Some(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }));
    let change = async |change: Value| {
        assert_eq!(test.send(&format!("PATCH /api/v1/api-keys/{id}"), Some(change)).await.status, 200);
        settle(&test).await;
    };
    change(json!({ "name": "after" })).await;
    while let Some(piece) = stream.piece().now_or_never() {
        assert!(piece.is_some(), "the stream has ended");
    }
    assert_eq!(open(&test, &secret, "POST /mcp", &of_session, list.clone()).await.read().await.status, 200);
    change(json!({ "role": "viewer" })).await;
    while stream.piece().await.is_some() {}
    assert_eq!(open(&test, &secret, "POST /mcp", &of_session, list).await.read().await.status, 404);
}
