use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::domain::Timestamp;
use crate::mcp::call::{Connection, RawObject, RequestOptions, Setup};
use crate::net::testing::DeafPort;
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One request as a server saw it.
#[derive(Debug, Clone)]
struct Seen {
    verb: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Seen {
    fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Status line, further headers, body.
type Said = (&'static str, Vec<(&'static str, String)>, String);

/// In place of a status line: nothing is said at all.
const SILENCE: &str = "";

/// A server on a port of its own that answers by `script` and keeps what it saw.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(tasks: &Tasks, script: impl Fn(&Seen) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (seen, script, within) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script), tasks.clone());
        let log = seen.clone();
        tasks.spawn("fake server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log) = (script.clone(), log.clone());
                within.spawn("fake connection", async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = hear(&mut stream).await {
                        log.lock().unwrap().push(request.clone());
                        let (status, headers, body) = script(&request);
                        if status == SILENCE {
                            return std::future::pending().await;
                        }
                        let headers: String =
                            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                        if stream.write_all((head + &body).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn connect(&self, tasks: &Tasks) -> Result<Connection, crate::mcp::call::ConnectError> {
        self.connect_by(SystemClock::shared(), tasks).await
    }

    async fn connect_by(
        &self,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Result<Connection, crate::mcp::call::ConnectError> {
        let target = HttpTarget { url: self.url.clone(), headers: [("x-key".into(), "k".into())].into() };
        let setup = Setup {
            clock,
            tasks: tasks.clone(),
            remembered: None,
            timeout: Duration::from_secs(10),
            cancel: tokio_util::sync::CancellationToken::new(),
        };
        Connection::to_url(&target, crate::net::http_client().unwrap(), &setup).await
    }
}

async fn hear(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|&count| count > 0)?;
    let verb = line.split(' ').next()?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { verb, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn as_json(body: String) -> Said {
    ("200 OK", vec![("Content-Type", "application/json".into())], body)
}

fn result(request: &Seen, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.body["id"])
}

const MODERN: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#;
const LEGACY: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}}}"#;

#[tokio::test]
async fn a_modern_request_carries_its_headers_and_reads_an_event_stream() {
    let tasks = Tasks::new();
    let server = Server::start(&tasks, |request| match request.rpc() {
        "server/discover" => as_json(result(request, MODERN)),
        _ => {
            let token = &request.body["params"]["_meta"]["progressToken"];
            let progress =
                json!({ "method": "notifications/progress", "params": { "progressToken": token, "progress": 1 } });
            let answer = result(request, r#"{"n":1.0}"#);
            let body = format!(": hi\n\nid: 1\ndata:\n\nvendor: x\ndata: {progress}\n\ndata: {answer}\n\n");
            ("200 OK", vec![("Content-Type", "text/event-stream; charset=utf-8".into())], body)
        }
    })
    .await;
    let connection = server.connect(&tasks).await.unwrap();
    let (listener, mut progress) = mpsc::channel(4);
    let options = RequestOptions {
        progress: Some(listener),
        name: Some("wetter_ü".into()),
        headers: vec![("Mcp-Param-City".into(), "Köln".into())],
        ..RequestOptions::default()
    };
    let answer = connection.request("tools/call", RawObject::new(), options).await.unwrap();
    assert_eq!(answer.get(), r#"{"n":1.0}"#);
    assert_eq!(progress.recv().await.unwrap().progress, 1.0);
    let call = server.seen().pop().unwrap();
    assert_eq!(call.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(call.header("mcp-method"), Some("tools/call"));
    assert!(call.header("mcp-name").unwrap().starts_with("=?base64?"));
    assert!(call.header("mcp-param-city").unwrap().starts_with("=?base64?"));
    assert_eq!(call.header("x-key"), Some("k"));
    assert_eq!(call.header("mcp-session-id"), None);
}

#[tokio::test]
async fn a_lost_session_is_renewed_once_and_the_call_made_again() {
    let tasks = Tasks::new();
    let sessions = Mutex::new(0);
    let server = Server::start(&tasks, move |request| match request.rpc() {
        "server/discover" => ("400 Bad Request", vec![], r#"{"error":{"code":-32000,"message":"no session"}}"#.into()),
        "initialize" => {
            *sessions.lock().unwrap() += 1;
            let (status, mut headers, body) = as_json(result(request, LEGACY));
            headers.push(("Mcp-Session-Id", format!("s{}", sessions.lock().unwrap())));
            (status, headers, body)
        }
        "notifications/initialized" => ("202 Accepted", vec![], String::new()),
        _ if request.verb == "DELETE" => ("200 OK", vec![], String::new()),
        _ if request.header("mcp-session-id") == Some("s1") => ("404 Not Found", vec![], String::new()),
        _ => as_json(result(request, r#""fine""#)),
    })
    .await;
    let connection = server.connect(&tasks).await.unwrap();
    let one = connection.request("tools/call", RawObject::new(), RequestOptions::default());
    let two = connection.request("tools/call", RawObject::new(), RequestOptions::default());
    let (one, two) = tokio::join!(one, two);
    assert_eq!((one.unwrap().get(), two.unwrap().get()), (r#""fine""#, r#""fine""#));
    connection.close().await;
    let seen = server.seen();
    assert_eq!(seen.iter().filter(|request| request.rpc() == "initialize").count(), 2, "one renewal for both calls");
    let last = seen.last().unwrap();
    assert_eq!((last.verb.as_str(), last.header("mcp-session-id")), ("DELETE", Some("s2")));
    assert_eq!(last.header("mcp-protocol-version"), Some("2025-06-18"));
}

#[tokio::test]
async fn one_deadline_covers_a_call_and_the_renewal_before_it_and_the_next_caller_renews_again() {
    let tasks = Tasks::new();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let (slow, sessions) = (clock.clone(), Mutex::new(0));
    let server = Server::start(&tasks, move |request| match request.rpc() {
        "server/discover" => ("400 Bad Request", vec![], r#"{"error":{"code":-32000,"message":"no session"}}"#.into()),
        "initialize" => {
            let mut sessions = sessions.lock().unwrap();
            *sessions += 1;
            // The first renewal takes too long.
            if *sessions == 2 {
                slow.advance(Duration::from_secs(3));
                return ("503 Service Unavailable", vec![], String::new());
            }
            let (status, mut headers, body) = as_json(result(request, LEGACY));
            headers.push(("Mcp-Session-Id", format!("s{sessions}")));
            (status, headers, body)
        }
        "notifications/initialized" => ("202 Accepted", vec![], String::new()),
        _ if request.header("mcp-session-id") == Some("s1") => {
            slow.advance(Duration::from_secs(3));
            ("404 Not Found", vec![], String::new())
        }
        _ => as_json(result(request, r#""fine""#)),
    })
    .await;
    let connection = server.connect_by(clock, &tasks).await.unwrap();
    let five_seconds = || RequestOptions { timeout: Some(Duration::from_secs(5)), ..RequestOptions::default() };
    let late = connection.request("tools/call", RawObject::new(), five_seconds()).await;
    let late = late.unwrap_err().into_error("server", "tool");
    assert_eq!(late.kind(), crate::error::ErrorKind::Timeout);
    assert_eq!(late.report().details, Some(json!({ "acted": false })), "a server without the session hasn't acted");
    let next = connection.request("tools/call", RawObject::new(), five_seconds()).await;
    assert_eq!(next.unwrap().get(), r#""fine""#);
}

/// A legacy server whose sessions are `s1`, `s2`, ...: a new one for each `initialize`, of which only the newest is known.
struct Sessions {
    made: Mutex<usize>,
    capabilities: &'static str,
}

impl Sessions {
    fn new(capabilities: &'static str) -> Self {
        Self { made: Mutex::new(0), capabilities }
    }

    fn newest(&self) -> String {
        format!("s{}", self.made.lock().unwrap())
    }

    /// What the newest server of them says to `request`, before which it may have been started again.
    fn say(&self, request: &Seen) -> Said {
        match request.rpc() {
            "server/discover" => {
                ("400 Bad Request", vec![], r#"{"error":{"code":-32000,"message":"no session"}}"#.into())
            }
            "initialize" => {
                *self.made.lock().unwrap() += 1;
                let capabilities = self.capabilities;
                let body = format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{capabilities}}}"#);
                let (status, mut headers, body) = as_json(result(request, &body));
                headers.push(("Mcp-Session-Id", self.newest()));
                (status, headers, body)
            }
            _ if request.header("mcp-session-id") != Some(&self.newest()) => ("404 Not Found", vec![], String::new()),
            "notifications/initialized" => ("202 Accepted", vec![], String::new()),
            _ => as_json(result(request, r#""fine""#)),
        }
    }

    fn restart(&self) {
        *self.made.lock().unwrap() += 1;
    }
}

#[tokio::test]
async fn a_renewal_that_is_given_up_halfway_is_made_from_its_beginning_by_the_next_caller() {
    let tasks = Tasks::new();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let (slow, sessions, lost) = (clock.clone(), Sessions::new("{}"), Mutex::new(false));
    let server = Server::start(&tasks, move |request| {
        let session = request.header("mcp-session-id").unwrap_or_default();
        match (request.rpc(), session) {
            ("tools/call", "s1") if !std::mem::replace(&mut *lost.lock().unwrap(), true) => {
                ("404 Not Found", vec![], String::new())
            }
            ("notifications/initialized", "s2") => {
                slow.advance(Duration::from_secs(3));
                (SILENCE, vec![], String::new())
            }
            (_, "s2") => {
                let body = r#"{"error":{"code":-32600,"message":"before initialization was complete"}}"#;
                ("400 Bad Request", vec![], body.into())
            }
            _ => sessions.say(request),
        }
    })
    .await;
    let connection = server.connect_by(clock, &tasks).await.unwrap();
    let three_seconds = || RequestOptions { timeout: Some(Duration::from_secs(3)), ..RequestOptions::default() };
    let late = connection.request("tools/call", RawObject::new(), three_seconds()).await.unwrap_err();
    let late = late.into_error("server", "tool");
    assert_eq!(late.kind(), crate::error::ErrorKind::Timeout);
    assert_eq!(late.report().details, Some(json!({ "acted": false })));
    let next = connection.request("tools/call", RawObject::new(), three_seconds()).await;
    assert_eq!(next.unwrap().get(), r#""fine""#);
    assert_eq!(server.seen().last().unwrap().header("mcp-session-id"), Some("s3"));
}

#[tokio::test]
async fn a_renewal_that_fails_means_that_the_call_was_not_made() {
    let tasks = Tasks::new();
    let (sessions, refused) = (Arc::new(Sessions::new("{}")), Arc::new(Mutex::new(false)));
    let (script, refuses) = (sessions.clone(), refused.clone());
    let server = Server::start(&tasks, move |request| match request.rpc() {
        "initialize" if *refuses.lock().unwrap() => ("503 Service Unavailable", vec![], "starting".into()),
        _ => script.say(request),
    })
    .await;
    let connection = server.connect(&tasks).await.unwrap();
    sessions.restart();
    *refused.lock().unwrap() = true;
    let error = connection.request("tools/call", RawObject::new(), RequestOptions::default()).await.unwrap_err();
    let error = error.into_error("server", "tool");
    assert_eq!(error.report().details, Some(json!({ "acted": false })));
    assert!(error.message().contains("session") && error.message().contains("503"), "{error}");
}

#[tokio::test]
async fn a_legacy_server_that_was_started_again_is_listened_to_in_its_new_session() {
    let tasks = Tasks::new();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let sessions = Arc::new(Sessions::new(r#"{"tools":{"listChanged":true}}"#));
    let (script, (told, mut listens)) = (sessions.clone(), mpsc::unbounded_channel());
    let server = Server::start(&tasks, move |request| {
        let said = script.say(request);
        if request.verb != "GET" {
            return said;
        }
        told.send((request.header("mcp-session-id").unwrap().to_owned(), said.0)).unwrap();
        if said.0 != "200 OK" {
            return said;
        }
        // The stream breaks off, as it does when the server ends.
        ("200 OK", vec![("Content-Type", "text/event-stream".into())], ":\n\n".into())
    })
    .await;
    let connection = server.connect_by(clock.clone(), &tasks).await.unwrap();
    let time_passes = async {
        loop {
            clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    let restarted = async {
        assert_eq!(listens.recv().await.unwrap(), ("s1".to_owned(), "200 OK"));
        sessions.restart();
        let mut changes = connection.tools_changed();
        while listens.recv().await.unwrap() != ("s1".to_owned(), "404 Not Found") {}
        // Whoever holds the connection asks for the list when it may have changed.
        changes.changed().await.unwrap();
        connection.request("tools/list", RawObject::new(), RequestOptions::default()).await.unwrap();
        while listens.recv().await.unwrap() != ("s3".to_owned(), "200 OK") {}
    };
    tokio::select! {
        () = restarted => {}
        () = time_passes => unreachable!(),
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_the_answer_is_an_error() {
    let tasks = Tasks::new();
    let server = Server::start(&tasks, |request| match request.rpc() {
        "server/discover" => as_json(result(request, MODERN)),
        _ => ("200 OK", vec![("Content-Type", "text/event-stream".into())], ": nothing\n\n".into()),
    })
    .await;
    let connection = server.connect(&tasks).await.unwrap();
    let outcome = connection.request("tools/call", RawObject::new(), RequestOptions::default()).await;
    assert!(matches!(outcome, Err(CallError::Closed(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_refused_credential_is_not_taken_for_an_old_server() {
    let tasks = Tasks::new();
    let server = Server::start(&tasks, |_| ("401 Unauthorized", vec![], "who are you?".into())).await;
    let refused = server.connect(&tasks).await.unwrap_err();
    assert!(matches!(refused.error, CallError::Status { status: 401, .. }), "{refused}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_cancelled_legacy_call_is_withdrawn_by_a_message() {
    let tasks = Tasks::new();
    let cancel = tokio_util::sync::CancellationToken::new();
    let (told, mut withdrawn) = mpsc::unbounded_channel();
    let trigger = cancel.clone();
    let server = Server::start(&tasks, move |request| match request.rpc() {
        "initialize" => as_json(result(request, LEGACY)),
        "tools/call" => {
            trigger.cancel();
            // An answer that says nothing: the stream just stays without one.
            ("200 OK", vec![("Content-Type", "text/event-stream".into())], ":\n\n".repeat(10))
        }
        "notifications/cancelled" => {
            told.send(request.body["params"]["requestId"].clone()).unwrap();
            ("202 Accepted", vec![], String::new())
        }
        "notifications/initialized" => ("202 Accepted", vec![], String::new()),
        _ => ("404 Not Found", vec![], String::new()),
    })
    .await;
    let connection = server.connect(&tasks).await.unwrap();
    let options = RequestOptions { cancel, ..RequestOptions::default() };
    let outcome = connection.request("tools/call", RawObject::new(), options).await;
    assert!(matches!(outcome, Err(CallError::Cancelled)), "{outcome:?}");
    let call = server.seen().into_iter().find(|request| request.rpc() == "tools/call").unwrap();
    assert_eq!(withdrawn.recv().await.unwrap(), call.body["id"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_connection() {
    let tasks = Tasks::new();
    let deaf = DeafPort::new();
    let url = format!("http://{}/mcp", deaf.address());
    let server = Server { url, seen: Arc::default() };
    let refused = server.connect(&tasks).await.unwrap_err();
    assert!(matches!(refused.error, CallError::Unreachable(_)), "{refused}");
}
