//! The pipe between a client and owners that come and go, over in-memory streams.

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::domain::Timestamp;
use serde_json::Value;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Hands out what a test has prepared; nothing left = unavailable.
struct Prepared(mpsc::UnboundedReceiver<Result<DuplexStream>>);

impl Connector for Prepared {
    type Stream = DuplexStream;

    async fn connect(&mut self) -> Result<DuplexStream> {
        self.0.recv().await.unwrap_or_else(|| Err(Error::unavailable("no owner")))
    }
}

/// One end of a stream of lines, as the client and the owner have it.
struct End {
    lines: Lines<tokio::io::ReadHalf<DuplexStream>>,
    writer: tokio::io::WriteHalf<DuplexStream>,
}

impl End {
    fn new(stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { lines: Lines::new(reader), writer }
    }

    async fn send(&mut self, line: &str) {
        self.writer.write_all(line.as_bytes()).await.unwrap();
        self.writer.write_all(b"\n").await.unwrap();
    }

    async fn text(&mut self) -> String {
        match self.lines.next().await.unwrap() {
            Some(Line::Whole(line)) => String::from_utf8(line).unwrap(),
            other => panic!("expected a line, got {other:?}"),
        }
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    async fn answer(&mut self, request: &Value) {
        let reply = serde_json::json!({ "jsonrpc": "2.0", "id": request["id"], "result": { "by": "owner" } });
        self.send(&reply.to_string()).await;
    }
}

struct Stage {
    client: End,
    owners: mpsc::UnboundedSender<Result<DuplexStream>>,
}

impl Stage {
    /// The next owner, who is connected to when the one before has gone.
    fn owner(&self) -> End {
        let (theirs, ours) = duplex(64 * 1024);
        self.owners.send(Ok(theirs)).unwrap();
        End::new(ours)
    }

    /// A client and an owner with an open session.
    async fn open(&mut self) -> End {
        let mut owner = self.owner();
        self.client.send(INITIALIZE).await;
        let request = owner.json().await;
        owner.answer(&request).await;
        assert_eq!(self.client.json().await["id"], 0);
        self.client.send(INITIALIZED).await;
        assert_eq!(owner.text().await, INITIALIZED);
        owner
    }

    /// The next owner, after it was told the session.
    async fn reopen(&mut self) -> End {
        let mut owner = self.owner();
        let replayed = owner.json().await;
        assert_eq!(
            (&replayed["method"], &replayed["params"]["protocolVersion"]),
            (&"initialize".into(), &"2025-11-25".into())
        );
        owner.answer(&replayed).await;
        assert_eq!(owner.text().await, INITIALIZED);
        owner
    }
}

/// Runs `play` against a pipe; returns how the pipe ended.
async fn staged<F: Future<Output = Option<End>>>(clock: SharedClock, play: impl FnOnce(Stage) -> F) -> Result<()> {
    let (client, ours) = duplex(64 * 1024);
    let (owners, prepared) = mpsc::unbounded_channel();
    let (stdin, stdout) = tokio::io::split(ours);
    let piping = run(stdin, stdout, Prepared(prepared), &clock);
    let (ended, _kept) = tokio::join!(piping, play(Stage { client: End::new(client), owners }));
    ended
}

#[tokio::test]
async fn lines_pass_unchanged_both_ways() {
    let odd = "{ \"jsonrpc\":\"2.0\",\"id\":1.0 ,\"method\":\"x/y\",\"params\":{\"z\":1e400,\"é\":[ ]}}\r";
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        let mut owner = stage.open().await;
        for line in [odd, "not json at all", ""] {
            stage.client.send(line).await;
            assert_eq!(owner.text().await, line);
            owner.send(line).await;
            assert_eq!(stage.client.text().await, line);
        }
        None
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_restart_of_the_owner_keeps_the_session_and_the_run() {
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        let mut owner = stage.open().await;
        let run = r#"{"jsonrpc":"2.0","id":"run","method":"tools/call","params":{"name":"agent_run","arguments":{"agent":"hello"}}}"#;
        stage.client.send(run).await;
        stage.client.send(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"agent_delete"}}"#).await;
        let first = owner.json().await;
        let key = first["params"]["_meta"]["io.station/idempotency-key"].clone();
        assert_eq!(key.as_str().unwrap().len(), 32);
        assert_eq!(owner.json().await["id"], 7);
        owner.writer.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"run\",\"resu").await.unwrap();
        drop(owner);

        let lost = stage.client.json().await;
        assert_eq!((&lost["id"], &lost["error"]["code"]), (&7.into(), &(-32603).into()));
        let mut owner = stage.reopen().await;
        let again = owner.json().await;
        assert_eq!(again, first);
        owner.answer(&again).await;
        assert_eq!(stage.client.json().await["method"], "notifications/tools/list_changed");
        assert_eq!(stage.client.json().await["id"], "run");

        stage.client.send(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#).await;
        let ping = owner.json().await;
        owner.answer(&ping).await;
        assert_eq!(stage.client.json().await["id"], 8);
        None
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn answers_in_flight_arrive_after_the_client_has_closed_its_end() {
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        let mut owner = stage.open().await;
        stage.client.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
        stage.client.writer.shutdown().await.unwrap();
        let request = owner.json().await;
        assert_eq!(owner.lines.next().await.unwrap(), None, "our direction is closed");
        owner.answer(&request).await;
        assert_eq!(stage.client.json().await["id"], 1);
        None
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn what_the_owner_says_to_a_last_line_without_meaning_arrives() {
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        let mut owner = stage.owner();
        stage.client.send("garbage").await;
        stage.client.writer.shutdown().await.unwrap();
        assert_eq!(owner.text().await, "garbage");
        assert_eq!(owner.lines.next().await.unwrap(), None, "our direction is closed");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        owner.send(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#).await;
        drop(owner);
        assert_eq!(stage.client.json().await["error"]["code"], -32700);
        assert_eq!(stage.client.lines.next().await.unwrap(), None);
        None
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_closing_client_waits_five_seconds_for_answers_and_no_longer() {
    let manual = ManualClock::at(Timestamp::from_millis(0));
    let clock: SharedClock = manual.clone();
    let ended = staged(clock, |mut stage| async move {
        let mut owner = stage.open().await;
        stage.client.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
        stage.client.writer.shutdown().await.unwrap();
        owner.json().await;
        assert_eq!(owner.lines.next().await.unwrap(), None);
        manual.advance(DRAIN_WITHIN);
        assert_eq!(stage.client.json().await["error"]["code"], -32603);
        Some(owner)
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn an_owner_that_does_not_come_back_leaves_no_request_without_an_answer() {
    let manual = ManualClock::at(Timestamp::from_millis(0));
    let clock: SharedClock = manual.clone();
    let ended = staged(clock, |mut stage| async move {
        let mut owner = stage.open().await;
        stage.client.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"agent_run"}}"#).await;
        owner.json().await;
        let Stage { mut client, owners } = stage;
        drop(owners);
        drop(owner);
        let mut answer = Box::pin(client.json());
        loop {
            if let Some(answer) = futures_util::future::poll_immediate(&mut answer).await {
                assert_eq!((&answer["id"], &answer["error"]["code"]), (&1.into(), &(-32603).into()));
                break;
            }
            manual.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        drop(answer);
        assert_eq!(client.lines.next().await.unwrap(), None, "it is told once");
        None
    });
    assert_eq!(ended.await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_owner_that_is_slow_to_answer_is_tried_again() {
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        drop(stage.open().await);
        stage.owners.send(Err(Error::timeout("the owner doesn't answer"))).unwrap();
        let owner = stage.reopen().await;
        assert_eq!(stage.client.json().await["method"], "notifications/tools/list_changed");
        drop(stage.client);
        Some(owner)
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn neither_side_can_block_the_other() {
    // Both send far more than the streams hold before either reads.
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        let owner = stage.open().await;
        let line =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":"{}"}}"#, "x".repeat(100_000));
        let flood = |mut writer: tokio::io::WriteHalf<DuplexStream>, line: String| async move {
            for _ in 0..20 {
                writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
            writer
        };
        let drain = |mut lines: Lines<tokio::io::ReadHalf<DuplexStream>>| async move {
            for _ in 0..20 {
                assert!(matches!(lines.next().await.unwrap(), Some(Line::Whole(_))));
            }
            lines
        };
        let (up, down, _, _) = tokio::join!(
            flood(stage.client.writer, line.clone()),
            flood(owner.writer, line),
            drain(owner.lines),
            drain(stage.client.lines)
        );
        drop((up, down));
        None
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn no_owner_is_sought_for_a_client_that_has_gone() {
    let ended = staged(SystemClock::shared(), |mut stage| async move {
        let owner = stage.open().await;
        let Stage { client, owners } = stage;
        drop(owner);
        drop(client);
        // The connector would wait for ever; what was said before the end would still be delivered.
        owners.closed().await;
        None
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_says_so_also_to_a_client_that_has_closed_its_end() {
    let ended = staged(SystemClock::shared(), |stage| async move {
        let Stage { client, owners } = stage;
        drop(client);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        owners.send(Err(Error::conflict("the key is another one"))).expect("the owner is still sought");
        None
    });
    assert_eq!(ended.await.unwrap_err().kind(), ErrorKind::Conflict);
}
