use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::domain::Timestamp;
use crate::mcp::call::{Era, MESSAGE_LIMIT};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// The server's side of a connection: what it heard, and what it says.
struct Peer {
    heard: tokio::io::Lines<BufReader<tokio::io::ReadHalf<DuplexStream>>>,
    says: tokio::io::WriteHalf<DuplexStream>,
}

impl Peer {
    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.heard.next_line().await.unwrap().expect("the client is gone")).unwrap()
    }

    async fn say(&mut self, line: &str) {
        self.says.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn answer(&mut self, to: &Value, result: Value) {
        self.say(&json!({ "jsonrpc": "2.0", "id": to["id"], "result": result }).to_string()).await;
    }

    async fn refuse(&mut self, to: &Value, code: i64) {
        let error = json!({ "code": code, "message": "no" });
        self.say(&json!({ "jsonrpc": "2.0", "id": to["id"], "error": error }).to_string()).await;
    }

    /// Makes the handshake of a legacy server.
    async fn greet(&mut self) {
        let discover = self.hear().await;
        assert_eq!(discover["method"], "server/discover");
        self.refuse(&discover, -32601).await;
        let initialize = self.hear().await;
        assert_eq!(initialize["params"]["protocolVersion"], "2025-11-25");
        self.answer(&initialize, json!({ "protocolVersion": "2025-06-18", "capabilities": {} })).await;
        assert_eq!(self.hear().await["method"], "notifications/initialized");
    }
}

fn pair() -> (DuplexStream, Peer) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (reader, says) = tokio::io::split(theirs);
    (ours, Peer { heard: BufReader::new(reader).lines(), says })
}

fn setup(clock: SharedClock) -> Setup {
    Setup {
        clock,
        tasks: Tasks::new(),
        remembered: None,
        timeout: Duration::from_secs(30),
        cancel: CancellationToken::new(),
    }
}

async fn open(ours: DuplexStream, setup: &Setup) -> Result<Connection, ConnectError> {
    let (reader, writer) = tokio::io::split(ours);
    Connection::over(reader, writer, setup).await
}

async fn legacy(setup: &Setup) -> (Connection, Peer) {
    let (ours, mut peer) = pair();
    let (connection, ()) = tokio::join!(open(ours, setup), peer.greet());
    (connection.unwrap(), peer)
}

fn params(json: &str) -> RawObject {
    RawObject::parse(json).unwrap()
}

#[tokio::test]
async fn a_server_that_refuses_discovery_is_initialized() {
    let (connection, _peer) = legacy(&setup(SystemClock::shared())).await;
    assert_eq!(connection.protocol(), Protocol { era: Era::Legacy, version: "2025-06-18".into() });
}

#[tokio::test]
async fn a_modern_server_needs_no_handshake_and_gets_its_meta_on_every_request() {
    let (ours, mut peer) = pair();
    let setup = setup(SystemClock::shared());
    let server = async {
        let discover = peer.hear().await;
        peer.answer(&discover, json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } })).await;
        let call = peer.hear().await;
        peer.answer(&call, json!({})).await;
        call
    };
    let client = async {
        let connection = open(ours, &setup).await.unwrap();
        assert_eq!(connection.protocol(), Protocol::modern());
        let params = params(r#"{"_meta":{"com.x/y":1.0,"progressToken":"theirs"}}"#);
        connection.request("tools/list", params, RequestOptions::default()).await.unwrap();
    };
    let (call, ()) = tokio::join!(server, client);
    let meta = call["params"]["_meta"].as_object().unwrap();
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
    assert_eq!(meta["com.x/y"], 1.0);
    assert!(!meta.contains_key("progressToken"), "a caller's own token must not pass");
}

#[tokio::test]
async fn a_remembered_era_saves_the_discovery() {
    let (ours, mut peer) = pair();
    let setup = Setup { remembered: Some(Protocol::legacy()), ..setup(SystemClock::shared()) };
    let server = async {
        let first = peer.hear().await;
        assert_eq!(first["method"], "initialize");
        peer.answer(&first, json!({ "protocolVersion": "2024-11-05" })).await;
    };
    let (connection, ()) = tokio::join!(open(ours, &setup), server);
    assert_eq!(connection.unwrap().protocol().version, "2024-11-05");
}

#[tokio::test]
async fn a_server_silent_on_discovery_is_initialized_when_patience_ends() {
    let (ours, mut peer) = pair();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let setup = setup(clock.clone());
    let server = async {
        peer.hear().await;
        clock.advance(Duration::from_secs(10));
        let initialize = peer.hear().await;
        assert_eq!(initialize["method"], "initialize");
        peer.answer(&initialize, json!({ "protocolVersion": "2025-11-25" })).await;
    };
    let (connection, ()) = tokio::join!(open(ours, &setup), server);
    assert_eq!(connection.unwrap().protocol(), Protocol::legacy());
}

#[tokio::test]
async fn a_server_that_ends_at_discovery_should_be_retried_with_initialize() {
    let (ours, mut peer) = pair();
    let setup = setup(SystemClock::shared());
    let server = async {
        peer.hear().await;
        drop(peer);
    };
    let (connection, ()) = tokio::join!(open(ours, &setup), server);
    assert_eq!(connection.unwrap_err().retry_as, Some(Protocol::legacy()));
}

#[tokio::test]
async fn answers_find_their_callers_in_any_order_and_byte_for_byte() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let arguments = r#"{"name":"t","arguments":{"z":1.0,"a":123456789012345678901234567890,"s":"\ud800"}}"#;
    let server = async {
        let line = peer.heard.next_line().await.unwrap().unwrap();
        assert!(line.ends_with(&format!(r#""params":{arguments}}}"#)), "{line}");
        let first: u64 = line.split(r#""id":"#).nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        let second = peer.hear().await;
        peer.answer(&second, json!("second")).await;
        peer.say(&format!(r#"{{"result":{{"z": 1e400, "a":-0.0}},"id":{first}}}"#)).await;
    };
    let one = connection.request("tools/call", params(arguments), RequestOptions::default());
    let two = connection.request("tools/call", RawObject::new(), RequestOptions::default());
    let (one, two, ()) = tokio::join!(one, two, server);
    assert_eq!(one.unwrap().get(), r#"{"z": 1e400, "a":-0.0}"#);
    assert_eq!(two.unwrap().get(), r#""second""#);
}

#[tokio::test]
async fn progress_reaches_the_caller_that_asked_before_the_answer_does() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let (listener, mut progress) = mpsc::channel(16);
    let options = RequestOptions { progress: Some(listener), ..RequestOptions::default() };
    let server = async {
        let call = peer.hear().await;
        let token = &call["params"]["_meta"]["progressToken"];
        for step in 1..=10 {
            let told = json!({ "progressToken": token, "progress": step, "total": 10 });
            peer.say(&json!({ "method": "notifications/progress", "params": told }).to_string()).await;
        }
        let stray = json!({ "progressToken": 4711, "progress": 99 });
        peer.say(&json!({ "method": "notifications/progress", "params": stray }).to_string()).await;
        peer.answer(&call, json!({})).await;
    };
    let (result, ()) = tokio::join!(connection.request("tools/call", RawObject::new(), options), server);
    result.unwrap();
    let mut steps = Vec::new();
    while let Ok(told) = progress.try_recv() {
        steps.push(told.progress);
    }
    assert_eq!(steps, (1..=10).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cancelled_call_tells_the_server_its_own_id_and_the_connection_lives_on() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let cancel = CancellationToken::new();
    let options = RequestOptions { cancel: cancel.clone(), ..RequestOptions::default() };
    let server = async {
        let call = peer.hear().await;
        cancel.cancel();
        let told = peer.hear().await;
        assert_eq!(told["method"], "notifications/cancelled");
        assert_eq!(told["params"]["requestId"], call["id"]);
        // The answer that was on its way comes too late and is nobody's.
        peer.answer(&call, json!({})).await;
    };
    let (outcome, ()) = tokio::join!(connection.request("tools/call", RawObject::new(), options), server);
    assert!(matches!(outcome, Err(CallError::Cancelled)));
    let next = async {
        let call = peer.hear().await;
        peer.answer(&call, json!("fine")).await;
    };
    let (outcome, ()) =
        tokio::join!(connection.request("tools/list", RawObject::new(), RequestOptions::default()), next);
    assert_eq!(outcome.unwrap().get(), r#""fine""#);
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_and_is_withdrawn() {
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let (connection, mut peer) = legacy(&setup(clock.clone())).await;
    let options = RequestOptions { timeout: Some(Duration::from_secs(5)), ..RequestOptions::default() };
    let server = async {
        peer.hear().await;
        clock.advance(Duration::from_secs(5));
        assert_eq!(peer.hear().await["method"], "notifications/cancelled");
    };
    let (outcome, ()) = tokio::join!(connection.request("tools/call", RawObject::new(), options), server);
    assert!(matches!(outcome, Err(CallError::TimedOut(limit)) if limit == Duration::from_secs(5)));
}

#[tokio::test]
async fn a_server_that_asks_is_answered_and_one_that_ends_fails_its_calls() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let mut changes = connection.tools_changed();
    changes.mark_unchanged();
    let server = async {
        peer.hear().await;
        peer.say("this line is no message").await;
        peer.say(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
        assert_eq!(peer.hear().await, json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
        peer.say(r#"{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{}}"#).await;
        assert_eq!(peer.hear().await["error"]["code"], -32601);
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
        changes.changed().await.unwrap();
        drop(peer);
    };
    let (outcome, ()) =
        tokio::join!(connection.request("tools/call", RawObject::new(), RequestOptions::default()), server);
    assert!(matches!(outcome, Err(CallError::Closed(_))), "{outcome:?}");
    connection.ended().cancelled().await;
    let late = connection.request("tools/call", RawObject::new(), RequestOptions::default()).await;
    assert!(matches!(late, Err(CallError::Unreachable(_))));
}

#[tokio::test]
async fn an_answer_past_the_limit_fails_its_call_alone() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let server = async {
        let (large, small) = (peer.hear().await, peer.hear().await);
        peer.answer(&large, json!("x".repeat(MESSAGE_LIMIT))).await;
        peer.answer(&small, json!(1)).await;
    };
    let large = connection.request("tools/call", RawObject::new(), RequestOptions::default());
    let small = connection.request("tools/call", RawObject::new(), RequestOptions::default());
    let (large, small, ()) = tokio::join!(large, small, server);
    assert!(matches!(large, Err(CallError::TooLarge { .. })), "{large:?}");
    assert!(small.is_ok());
}

#[tokio::test]
async fn a_modern_server_that_announces_changes_is_listened_to() {
    let (ours, mut peer) = pair();
    let setup = setup(SystemClock::shared());
    let server = async {
        let discover = peer.hear().await;
        let capabilities = json!({ "tools": { "listChanged": true } });
        peer.answer(&discover, json!({ "supportedVersions": ["2026-07-28"], "capabilities": capabilities })).await;
        let listen = peer.hear().await;
        assert_eq!(listen["method"], "subscriptions/listen");
        assert_eq!(listen["params"]["notifications"], json!({ "toolsListChanged": true }));
    };
    let (connection, ()) = tokio::join!(open(ours, &setup), server);
    let mut changes = connection.unwrap().tools_changed();
    peer.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}"#).await;
    changes.changed().await.unwrap();
}

fn was_never_sent(error: CallError) -> bool {
    error.into_error("slow", "t").report().details == Some(json!({ "acted": false }))
}

#[tokio::test]
async fn a_server_that_was_slow_is_spared_the_calls_that_nobody_waits_for_and_hears_what_was_withdrawn() {
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let (connection, mut peer) = legacy(&setup(clock.clone())).await;
    let call = |text: String| {
        let options = RequestOptions { timeout: Some(Duration::from_secs(5)), ..RequestOptions::default() };
        connection.request("tools/call", RawObject::new().with("name", &text.into()), options)
    };
    // More than the stream holds: what comes behind it has to wait.
    let large = call("x".repeat(100_000));
    let small = futures_util::future::join_all((0..1_000).map(|number| call(number.to_string())));
    let in_time = async {
        peer.say(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(5));
    };
    let (large, small, ()) = tokio::join!(large, small, in_time);
    assert!(!was_never_sent(large.unwrap_err()), "the server has the beginning of it");
    assert!(small.into_iter().all(|outcome| was_never_sent(outcome.unwrap_err())));
    let server = async {
        let (large, mut others) = (peer.hear().await, Vec::new());
        loop {
            let message = peer.hear().await;
            if message["params"]["name"] == "new" {
                peer.answer(&message, json!("fine")).await;
                return (large, others);
            }
            others.push(message);
        }
    };
    let (answer, (large, others)) = tokio::join!(call("new".into()), server);
    assert_eq!(answer.unwrap().get(), r#""fine""#);
    assert_eq!(others.len(), 2, "{others:?}");
    assert_eq!(others[0], json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
    assert_eq!(others[1]["method"], "notifications/cancelled");
    assert_eq!(others[1]["params"]["requestId"], large["id"]);
}

#[tokio::test]
async fn an_answer_that_has_come_counts_although_the_call_is_cancelled_in_the_same_moment() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let mut changes = connection.tools_changed();
    let cancel = CancellationToken::new();
    let options = RequestOptions { cancel: cancel.clone(), ..RequestOptions::default() };
    let mut request = std::pin::pin!(connection.request("tools/call", RawObject::new(), options));
    assert!(futures_util::future::poll_immediate(&mut request).await.is_none());
    let call = peer.hear().await;
    peer.answer(&call, json!("done")).await;
    peer.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
    // Read in order: the answer is there.
    changes.changed().await.unwrap();
    cancel.cancel();
    assert_eq!(request.await.unwrap().get(), r#""done""#);
}

#[tokio::test]
async fn a_call_that_is_cancelled_already_is_not_made() {
    let (connection, mut peer) = legacy(&setup(SystemClock::shared())).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let options = RequestOptions { cancel, ..RequestOptions::default() };
    let refused = connection.request("tools/call", RawObject::new(), options).await.unwrap_err();
    assert!(was_never_sent(refused));
    let next = connection.request("tools/list", RawObject::new(), RequestOptions::default());
    let server = async {
        let heard = peer.hear().await;
        assert_eq!(heard["method"], "tools/list");
        peer.answer(&heard, json!({})).await;
    };
    let (outcome, ()) = tokio::join!(next, server);
    outcome.unwrap();
}
