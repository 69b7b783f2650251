//! The local socket.

use crate::adapters::http::serve_socket;
use crate::adapters::testing::{TestStation, send};
use crate::clock::{SharedClock, SystemClock};
use crate::home::{LocalListener, OwnerLock, OwnerMode, attach};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::test]
async fn whoever_gets_to_the_socket_is_the_local_owner() {
    let test = TestStation::new().await;
    let handshake = send(&test.routers.socket, "GET /local/handshake", &[], None).await.read().await;
    assert_eq!(handshake.json(), json!({ "version": "1.2.3", "schema": 7, "pid": 42, "mode": "serve" }));
    let agent = json!({ "name": "hello", "prompt": "Say hello." });
    assert_eq!(send(&test.routers.socket, "POST /api/v1/agents", &[], Some(agent)).await.read().await.status, 201);
    let run = Some(json!({ "input": "x" }));
    let queued = send(&test.routers.socket, "POST /api/v1/agents/hello/queue", &[("x-station-origin", "cli")], run)
        .await
        .read()
        .await;
    assert_eq!((&queued.json()["origin"], &queued.json()["principal"]["kind"]), (&json!("cli"), &json!("local_owner")));
}

#[tokio::test]
async fn over_tcp_the_headers_of_the_socket_mean_nothing() {
    let test = TestStation::new().await;
    let agent = json!({ "name": "hello", "prompt": "Say hello." });
    test.send("POST /api/v1/agents", Some(agent)).await;
    let headers = [("x-station-origin", "cli"), ("x-station-provider-variables", "{\"OPENAI_API_KEY\":\"k\"}")];
    let queued =
        test.open("POST /api/v1/agents/hello/queue", &headers, Some(json!({ "input": "x" }))).await.read().await;
    assert_eq!((&queued.json()["origin"], &queued.json()["model"]["provider"]), (&json!("rest"), &json!("offline")));
    assert_eq!(test.send("POST /local/drain", None).await.status, 404);
    assert!(!test.deps.drain.is_cancelled());
}

#[tokio::test]
async fn provider_keys_of_a_local_caller_count_for_its_runs() {
    let test = TestStation::new().await;
    let agent = json!({ "name": "hello", "prompt": "Say hello." });
    send(&test.routers.socket, "POST /api/v1/agents", &[], Some(agent)).await;
    let headers = [("x-station-provider-variables", "{\"OPENAI_API_KEY\":\"k\"}")];
    let queued =
        send(&test.routers.socket, "POST /api/v1/agents/hello/queue", &headers, Some(json!({ "input": "x" }))).await;
    assert_eq!(queued.read().await.json()["model"]["provider"], "openai");
}

#[tokio::test]
async fn the_model_that_is_shown_to_a_local_caller_is_the_one_that_its_run_would_get() {
    let test = TestStation::new().await;
    let keys = [("x-station-provider-variables", "{\"OPENAI_API_KEY\":\"k\"}")];
    for (path, model) in [
        ("/status", "/environments/0/model"),
        ("/environments", "/items/0/model"),
        ("/environments/development", "/model"),
    ] {
        let line = format!("GET /api/v1{path}");
        let shown = send(&test.routers.socket, &line, &keys, None).await.read().await.json();
        let shown = shown.pointer(model).unwrap();
        assert_eq!(
            (&shown["provider"], &shown["reason"]),
            (&json!("openai"), &json!("OPENAI_API_KEY is set")),
            "{path}"
        );
        let without = send(&test.routers.socket, &line, &[], None).await.read().await.json();
        assert_eq!(without.pointer(model).unwrap()["provider"], "offline", "{path}");
    }
}

#[tokio::test]
async fn a_successor_may_ask_for_the_home() {
    let test = TestStation::new().await;
    assert_eq!(send(&test.routers.socket, "POST /local/drain", &[], None).await.read().await.status, 202);
    assert!(test.deps.drain.is_cancelled());
}

#[tokio::test]
async fn a_request_that_asks_for_no_session_is_told_how() {
    let test = TestStation::new().await;
    let answered = send(&test.routers.socket, "GET /local/stdio", &[], None).await.read().await;
    assert_eq!(answered.status, 426);
    let nowhere = send(&test.routers.socket, "GET /local/stdio?environment=nowhere", &[], None).await.read().await;
    assert_eq!(nowhere.status, 404);
}

#[tokio::test]
async fn a_session_over_the_socket_speaks_mcp_and_counts_until_it_ends() {
    let test = TestStation::new().await;
    let home = &test.deps.station.home;
    let lock = OwnerLock::try_acquire(home, OwnerMode::Serve, test.deps.station.started_at).unwrap().unwrap();
    let listener = LocalListener::bind(home, &lock).unwrap();
    let (tasks, clock) = (test.deps.tasks.clone(), SystemClock::shared());
    tasks.spawn("socket", serve_socket(listener, test.routers.socket.clone(), tasks.clone(), Arc::clone(&clock)));
    let client = attach(home, 7, &clock).await.unwrap().unwrap();
    let stream = client.upgrade("/local/stdio?environment=staging&role=viewer", "stn-stdio", &[]).await.unwrap();
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    let params =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let mut ask = async |message: Value| {
        writer.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        if message.get("id").is_none() {
            return Value::Null;
        }
        serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap()
    };
    let opened = ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })).await;
    assert!(opened["result"]["instructions"].as_str().unwrap().contains("`staging`"));
    ask(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    let listed = ask(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).await;
    let names: Vec<&str> =
        listed["result"]["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"agent_list") && !names.contains(&"agent_run"));
    assert_eq!(test.deps.activity.idle_since(), None);
    tasks.stop(&(clock as SharedClock), std::time::Duration::from_secs(5)).await;
    assert!(test.deps.activity.idle_since().is_some());
}
