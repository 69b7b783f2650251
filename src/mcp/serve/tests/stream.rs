use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio_util::sync::CancellationToken;

use super::{Desk, LEGACY, initialize, initialized, modern, principal, request};
use crate::clock::{ClockExt, SystemClock};
use crate::domain::Name;
use crate::lifecycle::Tasks;
use crate::mcp::serve::{StdioSeed, ToolSet, serve_stream};

/// The client's end of a stdio session.
struct Client {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Client {
    fn new(desk: &Arc<Desk>) -> Self {
        let (ours, theirs) = duplex(1024);
        let seed = StdioSeed {
            principal: principal("alice"),
            environment: Some(Name::new("staging").unwrap()),
            tools: ToolSet::Default,
            cancel: CancellationToken::new(),
        };
        let (stop, ended) = (seed.cancel.clone(), CancellationToken::new());
        let (desk, end) = (desk.clone(), ended.clone());
        Tasks::new().spawn("mcp_stdio", async move {
            serve_stream(desk, seed, theirs).await.unwrap();
            end.cancel();
        });
        let (reader, writer) = split(ours);
        Self { reader: BufReader::new(reader), writer, stop, ended }
    }

    async fn legacy(desk: &Arc<Desk>, version: &str) -> (Self, Value) {
        let mut client = Self::new(desk);
        let welcome = client.ask(initialize(version)).await;
        client.tell(&initialized()).await;
        (client, welcome)
    }

    async fn tell(&mut self, message: &Value) {
        self.write(&message.to_string()).await;
    }

    async fn write(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        let read = SystemClock::shared().timeout(Duration::from_secs(20), self.reader.read_line(&mut line)).await;
        assert_ne!(read.expect("the server is silent").unwrap(), 0, "the server has hung up");
        serde_json::from_str(&line).unwrap()
    }

    async fn end(&self) {
        let ended = SystemClock::shared().timeout(Duration::from_secs(20), self.ended.cancelled()).await;
        assert!(ended.is_some(), "the session goes on");
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.tell(&message).await;
        self.hear().await
    }
}

#[tokio::test]
async fn every_version_with_a_handshake_is_spoken_as_asked() {
    for version in LEGACY {
        let (mut client, welcome) = Client::legacy(&Desk::new(), version).await;
        let welcome = &welcome["result"];
        assert_eq!(welcome["protocolVersion"], version);
        assert_eq!(welcome["serverInfo"]["name"], "station");
        assert_eq!(welcome["serverInfo"]["title"], "Station");
        assert_eq!(welcome["instructions"], "Hello, alice.");
        assert_eq!(welcome["capabilities"]["tools"]["listChanged"], true);

        let list = client.ask(request("l", "tools/list", &json!({}))).await;
        let names: Vec<_> = list["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["count", "echo", "hang"]);
        assert!(list["result"].get("resultType").is_none() && list["result"].get("ttlMs").is_none());

        let params = json!({ "name": "echo", "arguments": { "b": 1, "a": 2.5 }, "_meta": { "vendor": "x" } });
        let said = &client.ask(request("c", "tools/call", &params)).await["result"];
        let expected = json!({
            "arguments": { "b": 1, "a": 2.5 },
            "principal": "alice",
            "environment": "staging",
            "version": version,
            "meta": "x",
        });
        assert_eq!(said["structuredContent"], expected);
        assert_eq!(said["content"], json!([{ "type": "text", "text": expected.to_string() }]));
        assert_eq!(client.ask(request("p", "ping", &json!({}))).await["result"], json!({}));
        assert_eq!(
            client.ask(request("s", "logging/setLevel", &json!({ "level": "info" }))).await["result"],
            json!({})
        );
    }
}

#[tokio::test]
async fn an_unknown_version_is_answered_with_the_newest_that_has_a_handshake() {
    let (_, welcome) = Client::legacy(&Desk::new(), "2026-07-28").await;
    assert_eq!(welcome["result"]["protocolVersion"], "2025-11-25");
}

#[tokio::test]
async fn the_version_without_a_handshake_is_discovered_and_called() {
    let mut client = Client::new(&Desk::new());
    let found = &client.ask(modern(1, "server/discover", json!({}))).await["result"];
    assert_eq!(found["supportedVersions"].as_array().unwrap().len(), 5);
    assert_eq!(found["cacheScope"], "private");
    assert_eq!(found["instructions"], "Hello, alice.");

    let list = &client.ask(modern(2, "tools/list", json!({}))).await["result"];
    assert_eq!((&list["resultType"], &list["cacheScope"]), (&json!("complete"), &json!("private")));
    assert!(list["ttlMs"].is_u64());

    let called = client.ask(modern(3, "tools/call", json!({ "name": "echo", "arguments": {} }))).await;
    assert_eq!(called["result"]["structuredContent"]["version"], "2026-07-28");
    assert_eq!(called["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "station");
    for removed in ["ping", "logging/setLevel", "initialize"] {
        assert_eq!(client.ask(modern(4, removed, json!({}))).await["error"]["code"], -32601, "{removed}");
    }
    assert_eq!(client.ask(modern(4, "logging/setLevel", json!({ "level": "info" }))).await["error"]["code"], -32601);
    assert_eq!(client.ask(request(5, "tools/list", &json!({}))).await["error"]["code"], -32602);
}

#[tokio::test]
async fn progress_grows_and_ends_before_the_result() {
    let (mut client, _) = Client::legacy(&Desk::new(), "2025-11-25").await;
    client.tell(&request(1, "tools/call", &json!({ "name": "count", "_meta": { "progressToken": "t" } }))).await;
    for step in 1..=50 {
        let note = client.hear().await;
        assert_eq!(note["method"], "notifications/progress");
        assert_eq!(note["params"]["progressToken"], "t");
        assert_eq!(note["params"]["progress"].as_f64(), Some(f64::from(step)));
    }
    assert_eq!(client.hear().await["result"]["content"][0]["text"], "counted");
    let quiet = client.ask(request(2, "tools/call", &json!({ "name": "count" }))).await;
    assert_eq!(quiet["id"], 2, "nobody asked for progress this time");
}

#[tokio::test]
async fn a_cancelled_request_reaches_the_backend_and_is_not_answered() {
    let desk = Desk::new();
    let (mut client, _) = Client::legacy(&desk, "2025-06-18").await;
    client.tell(&request(7, "tools/call", &json!({ "name": "hang" }))).await;
    desk.hanging.notified().await;
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
    client.tell(&cancelled).await;
    desk.cancelled.notified().await;
    assert_eq!(client.ask(request(8, "ping", &json!({}))).await["id"], 8);
}

#[tokio::test]
async fn a_malformed_line_is_answered_and_the_connection_goes_on() {
    let mut client = Client::new(&Desk::new());
    for bad in ["{not json", "{\"jsonrpc\":\"2.0\",\"id\":1,"] {
        client.write(bad).await;
        let answer = client.hear().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32700)), "{bad}");
        assert!(answer.as_object().unwrap().contains_key("id"));
    }
    assert_eq!(client.ask(initialize("2025-11-25")).await["result"]["protocolVersion"], "2025-11-25");
    let lone = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"\ud800"}}"#;
    client.write(lone).await;
    let answer = client.hear().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(9), &json!(-32600)));
    let bad_params = client.ask(request(10, "tools/call", &json!({ "name": 5 }))).await;
    assert_eq!(bad_params["error"]["code"], -32602);
}

#[tokio::test]
async fn faults_are_protocol_errors_and_failed_tools_are_results() {
    let (mut client, _) = Client::legacy(&Desk::new(), "2025-11-25").await;
    let unknown = client.ask(request(1, "tools/call", &json!({ "name": "nothing" }))).await;
    assert_eq!(unknown["error"], json!({ "code": -32602, "message": "Unknown tool: nothing" }));
    for name in ["break", "panic"] {
        let broken = client.ask(request(2, "tools/call", &json!({ "name": name }))).await;
        assert_eq!(broken["error"]["code"], -32603, "{name}");
        assert_eq!(broken["error"]["data"]["request_id"].as_str().map(str::len), Some(16));
    }
    let failed = &client.ask(request(3, "tools/call", &json!({ "name": "fail" }))).await["result"];
    assert_eq!((&failed["isError"], &failed["content"][0]["text"]), (&json!(true), &json!("it failed")));
    assert_eq!(failed["_meta"]["io.station/error"]["kind"], "conflict");
    let resource = client.ask(request(4, "resources/read", &json!({ "uri": "test://x" }))).await;
    assert_eq!(resource["error"]["code"], -32002);
    assert_eq!(client.ask(request(5, "no/such", &json!({}))).await["error"]["code"], -32601);
    assert_eq!(client.ask(request(6, "tools/list", &json!({ "cursor": "x" }))).await["error"]["code"], -32602);
}

#[tokio::test]
async fn both_eras_hear_that_the_tools_have_changed() {
    let desk = Desk::new();
    let (mut legacy, _) = Client::legacy(&desk, "2025-03-26").await;
    let mut modern_client = Client::new(&desk);
    let wish = json!({ "notifications": { "toolsListChanged": true, "promptsListChanged": true } });
    let accepted = modern_client.ask(modern("sub", "subscriptions/listen", wish)).await;
    assert_eq!(accepted["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(accepted["params"]["notifications"], json!({ "toolsListChanged": true }));
    // Both watch once a later request of theirs has been answered and they are counted as receivers.
    legacy.ask(request(1, "ping", &json!({}))).await;
    while desk.changes.receiver_count() < 2 {
        tokio::task::yield_now().await;
    }
    desk.changes.send_modify(|generation| *generation += 1);
    assert_eq!(legacy.hear().await["method"], "notifications/tools/list_changed");
    let note = modern_client.hear().await;
    assert_eq!(note["method"], "notifications/tools/list_changed");
    assert_eq!(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
}

#[tokio::test]
async fn the_session_ends_with_its_input_and_leaves_nobody_watching() {
    let desk = Desk::new();
    let (mut client, _) = Client::legacy(&desk, "2025-11-25").await;
    client.tell(&request(1, "tools/call", &json!({ "name": "echo" }))).await;
    client.writer.shutdown().await.unwrap();
    assert_eq!(client.hear().await["id"], 1, "what was asked before the end is answered");
    client.end().await;
    while desk.changes.receiver_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stopping_the_station_cancels_what_is_open_and_ends_the_session() {
    let desk = Desk::new();
    let (mut client, _) = Client::legacy(&desk, "2025-11-25").await;
    client.tell(&request(1, "tools/call", &json!({ "name": "hang" }))).await;
    desk.hanging.notified().await;
    client.stop.cancel();
    desk.cancelled.notified().await;
    client.end().await;
}
