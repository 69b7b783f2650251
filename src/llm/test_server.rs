//! A provider's server for tests: raw HTTP/1.1 over TCP, one scripted answer per connection. With it a clock that only waits when asked
//! to wait long, and a sink that remembers.

use super::body::{Assembly, Body, BodyFault};
use super::turn::{FailedAttempt, TurnReply, TurnSink};
use crate::clock::{Clock, ManualClock, Sleep};
use crate::domain::Timestamp;
use crate::lifecycle::Tasks;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What `assembly` makes of an answer that comes in pieces of `size` bytes, and what it tells meanwhile.
pub(super) fn read_in_pieces<A: Assembly>(
    assembly: A,
    text: &str,
    size: usize,
) -> (Result<TurnReply, BodyFault>, Transcript) {
    let (mut body, mut sink) = (Body::new(assembly), Transcript::default());
    for piece in text.as_bytes().chunks(size) {
        match body.push(piece, &mut sink) {
            Ok(true) => break,
            Ok(false) => {}
            Err(fault) => return (Err(fault), sink),
        }
    }
    (body.finish(&mut sink), sink)
}

/// What a sink was told.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    pub(super) deltas: Vec<String>,
    pub(super) restarts: usize,
    pub(super) failed: Vec<FailedAttempt>,
}

impl TurnSink for Transcript {
    fn text(&mut self, delta: &str) {
        self.deltas.push(delta.to_owned());
    }

    fn failed(&mut self, attempt: &FailedAttempt) {
        self.failed.push(attempt.clone());
    }

    fn restarted(&mut self) {
        self.restarts += 1;
        self.deltas.clear();
    }
}

/// One scripted answer.
pub(super) enum Answer {
    /// These bytes, then the connection is closed.
    Bytes(String),
    /// Nothing, with the connection held open.
    Silence,
}

/// A complete answer with a length.
pub(super) fn whole(status: &str, headers: &str, body: &str) -> Answer {
    Answer::Bytes(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// A chunked event stream that breaks off after `body`, without the last chunk.
pub(super) fn broken(body: &str) -> Answer {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    Answer::Bytes(format!("{head}{:x}\r\n{body}\r\n", body.len()))
}

/// The server; it stops with the test's runtime.
pub(super) struct Server {
    pub(super) url: String,
    /// The requests, as they came.
    pub(super) requests: mpsc::UnboundedReceiver<String>,
}

impl Server {
    /// Answers the n-th connection with the n-th answer.
    pub(super) async fn answering(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, requests) = mpsc::unbounded_channel();
        Tasks::new().spawn("test server", async move {
            let mut held = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                seen.send(request(&mut connection).await).unwrap();
                match answer {
                    Answer::Silence => held.push(connection),
                    Answer::Bytes(text) => {
                        connection.write_all(text.as_bytes()).await.unwrap();
                        connection.shutdown().await.unwrap();
                    }
                }
            }
            std::future::pending::<()>().await;
        });
        Self { url, requests }
    }
}

async fn request(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if read == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}

/// Waits of up to two minutes pass at once and are written down; longer ones end when a test moves the time.
#[derive(Debug)]
pub(super) struct HastyClock {
    time: Arc<ManualClock>,
    waits: Mutex<Vec<Duration>>,
}

impl HastyClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { time: ManualClock::at(Timestamp::from_millis(0)), waits: Mutex::default() })
    }

    pub(super) fn advance(&self, duration: Duration) {
        self.time.advance(duration);
    }

    pub(super) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }
}

impl Clock for HastyClock {
    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let wait = at.since(self.now());
        if wait <= Duration::from_secs(121) {
            self.waits.lock().unwrap().push(wait);
            self.time.advance(wait);
        }
        self.time.sleep_until(at)
    }
}
