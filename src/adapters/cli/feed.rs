//! The live events of a run, over as many connections as it takes.

use super::connection;
use super::request::Request;
use super::target::Target;
use crate::clock::ClockExt;
use crate::domain::{Event, EventType, RunId};
use crate::error::{Error, Result};
use crate::net::sse::SseDecoder;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::VecDeque;
use std::time::Duration;

/// The longest event that is read, in bytes.
const EVENT_BYTES: usize = 16 * 1024 * 1024;

/// How many connections in a row may break without a word.
const MOST_SILENT: u32 = 6;

/// The wait before the second of them; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A station says something every 15 s. A connection without a word for three times as long is dead, whatever the network says.
const SILENCE: Duration = Duration::from_secs(45);

/// A reader of a run's events, from the first one. When the owner goes away (it may be restarting), it connects again, which starts an
/// owner if need be, and goes on after the last event it has seen.
pub(super) struct Feed<'a> {
    target: &'a Target,
    run: RunId,
    stream: Option<Stream>,
    /// `epoch-seq` of the last stored event.
    last: Option<String>,
    ready: VecDeque<Event>,
    silent: u32,
    /// Why the last connection broke, or couldn't be made.
    cause: Option<Error>,
}

struct Stream {
    body: BoxStream<'static, Result<Bytes>>,
    decoder: SseDecoder,
}

impl<'a> Feed<'a> {
    pub(super) fn new(target: &'a Target, run: RunId) -> Self {
        Self { target, run, stream: None, last: None, ready: VecDeque::new(), silent: 0, cause: None }
    }

    /// The next event. `None` when the run has ended and all was told. May be dropped and called again without losing anything.
    pub(super) async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if let Some(stream) = &mut self.stream {
                match self.target.clock.timeout(SILENCE, stream.body.next()).await {
                    Some(Some(Ok(piece))) => self.take(&piece)?,
                    Some(Some(Err(cause))) => self.lost(cause),
                    Some(None) => self.lost(Error::unavailable("the station closed the connection")),
                    None => self.lost(said_nothing()),
                }
                continue;
            }
            if self.silent >= MOST_SILENT {
                return Err(self.given_up());
            }
            if self.silent > 0 {
                self.target.clock.sleep(FIRST_WAIT * 2_u32.pow(self.silent - 1)).await;
            }
            let opened = self.target.clock.timeout(SILENCE, self.open()).await;
            // Counted only now: whoever drops this while a connection is being made has had none that broke.
            self.silent += 1;
            match opened.unwrap_or_else(|| Err(said_nothing())) {
                Ok(Some(stream)) => self.stream = Some(stream),
                Ok(None) => return Ok(None),
                // An owner that is just ending answers nobody; its successor will.
                Err(error) if connection::passes(&error) => self.lost(error),
                Err(error) => return Err(error),
            }
        }
    }

    fn lost(&mut self, cause: Error) {
        self.stream = None;
        self.cause = Some(cause);
    }

    fn given_up(&mut self) -> Error {
        let cause = self.cause.take().unwrap_or_else(said_nothing);
        Error::unavailable(format!("the events of run `{}` break off again and again: {cause}", self.run))
            .hint(format!("`stn run get {}` shows how far it is", self.run))
            .source(cause)
    }

    async fn open(&self) -> Result<Option<Stream>> {
        let connection = self.target.connect().await?;
        let request = Request::events(&self.run.to_string(), self.last.as_deref());
        let answer = connection.send(&request).await?.success().await?;
        // 204: this reader has seen the run's last event.
        let is_over = answer.status == 204;
        Ok((!is_over).then(|| Stream { body: answer.body, decoder: SseDecoder::new(EVENT_BYTES) }))
    }

    fn take(&mut self, piece: &[u8]) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        // Whoever keeps a connection alive is there; but only what tells something new makes the next one due at once.
        self.silent = self.silent.min(1);
        let received = stream.decoder.push(piece);
        for event in received.map_err(|cause| Error::payload_too_large(cause.to_string()).source(cause))? {
            self.silent = 0;
            self.last = event.id.or(self.last.take());
            // A newer station may know events that this program doesn't; they are no reason to stop.
            if EventType::parse(&event.event).is_none() {
                continue;
            }
            let event: Event = serde_json::from_str(&event.data)
                .map_err(|cause| Error::unavailable("an event of the run can't be read").source(cause))?;
            self.ready.push_back(event);
        }
        Ok(())
    }
}

fn said_nothing() -> Error {
    Error::timeout(format!("the station said nothing for {} s", SILENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::super::connection::Remote;
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;
    use crate::error::ErrorKind;
    use crate::home::ApiKey;
    use crate::tools::Table;
    use secrecy::ExposeSecret;
    use serde_json::json;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const RUN: &str = "0195f3a3-c000-8001-8000-000000000001";

    fn frame(id: &str, seq: i64, kind: &str) -> String {
        let data =
            json!({ "run_id": RUN, "epoch": 1, "seq": seq, "type": kind, "at": "2026-01-01T00:00:00Z", "data": {} });
        format!("event: {kind}\nid: {id}\ndata: {data}\n\n")
    }

    /// Answers one connection after the other, and returns the requests' heads. A body is cut off at its end.
    async fn serve(listener: TcpListener, answers: Vec<String>) -> Vec<String> {
        let mut heads = Vec::new();
        for answer in answers {
            heads.push(serve_one(&listener, &answer).await.0);
        }
        heads
    }

    /// Answers one connection, and returns its request's head and itself.
    async fn serve_one(listener: &TcpListener, answer: &str) -> (String, TcpStream) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        (String::from_utf8(head).unwrap().to_ascii_lowercase(), stream)
    }

    fn cut_off(events: &str) -> String {
        // One byte of the length never comes.
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{events}",
            events.len() + 1
        )
    }

    async fn station() -> (TcpListener, Target, Arc<ManualClock>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = ApiKey::generate().unwrap().reveal();
        let remote = Remote::new(&url, Some(key.expose_secret()), crate::net::http_client().unwrap()).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let target = Target::remote(remote, Arc::new(Table::new(Vec::new())), None, clock.clone());
        (listener, target, clock)
    }

    const OVER: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    #[tokio::test]
    async fn a_feed_that_breaks_goes_on_after_its_last_event_and_skips_what_it_does_not_know() {
        let (listener, target, _clock) = station().await;
        let newer = "event: run.teleported\nid: 1-2\ndata: {}\n\n";
        let answers = vec![
            cut_off(&format!("{}{newer}", frame("1-1", 1, "run.queued"))),
            cut_off(&frame("1-3", 3, "run.started")),
            OVER.to_owned(),
        ];
        let reading = async {
            let mut feed = Feed::new(&target, RunId::parse(RUN).unwrap());
            let mut seen = Vec::new();
            while let Some(event) = feed.next().await.unwrap() {
                seen.push(event.seq);
            }
            seen
        };
        let (heads, seen) = tokio::join!(serve(listener, answers), reading);
        assert_eq!(seen, [1, 3]);
        assert!(heads[0].contains("authorization: bearer stn_key_") && !heads[0].contains("last-event-id"));
        assert!(heads[1].contains("last-event-id: 1-2"), "{}", heads[1]);
        assert!(heads[2].contains("last-event-id: 1-3"), "{}", heads[2]);
    }

    #[tokio::test]
    async fn a_connection_without_a_word_is_left_for_another() {
        let (listener, target, clock) = station().await;
        let mut feed = Feed::new(&target, RunId::parse(RUN).unwrap());
        let answer = cut_off(&frame("1-1", 1, "run.queued"));
        let (first, _half_open) = tokio::join!(feed.next(), serve_one(&listener, &answer));
        assert_eq!(first.unwrap().unwrap().seq, 1);
        {
            let mut next = std::pin::pin!(feed.next());
            assert!(futures_util::future::poll_immediate(&mut next).await.is_none());
            clock.advance(SILENCE);
            let (next, heads) = tokio::join!(next, serve(listener, vec![OVER.to_owned()]));
            assert!(next.unwrap().is_none());
            assert!(heads[0].contains("last-event-id: 1-1"), "{}", heads[0]);
        }
        assert!(feed.cause.is_some_and(|cause| cause.message().contains("nothing for 45 s")));
    }

    #[tokio::test]
    async fn a_connection_that_was_kept_alive_counts_as_heard_and_the_next_one_waits_a_moment() {
        let (_listener, target, _clock) = station().await;
        let mut feed = Feed::new(&target, RunId::parse(RUN).unwrap());
        feed.silent = MOST_SILENT - 1;
        let body = futures_util::stream::iter([Ok(Bytes::from_static(b": keep-alive\n\n"))]).boxed();
        feed.stream = Some(Stream { body, decoder: SseDecoder::new(EVENT_BYTES) });
        assert!(futures_util::future::poll_immediate(feed.next()).await.is_none());
        assert_eq!((feed.silent, feed.stream.is_none()), (1, true));
    }

    #[tokio::test]
    async fn a_feed_that_is_dropped_while_it_connects_is_not_given_up_for_that() {
        let (listener, target, clock) = station().await;
        let mut feed = Feed::new(&target, RunId::parse(RUN).unwrap());
        for _ in 0..2 * MOST_SILENT {
            let mut next = std::pin::pin!(feed.next());
            assert!(futures_util::future::poll_immediate(&mut next).await.is_none());
            clock.advance(SILENCE / 2);
            // By now it doesn't wait for its turn any more.
            assert!(futures_util::future::poll_immediate(&mut next).await.is_none());
        }
        let answering = async {
            loop {
                // Those that were dropped end without a request.
                let (mut stream, _) = listener.accept().await.unwrap();
                if stream.read_u8().await.is_ok() {
                    stream.write_all(cut_off(&frame("1-1", 1, "run.queued")).as_bytes()).await.unwrap();
                    return stream;
                }
            }
        };
        let (first, _stream) = tokio::join!(feed.next(), answering);
        assert_eq!(first.unwrap().unwrap().seq, 1);
    }

    #[tokio::test]
    async fn a_feed_that_is_given_up_says_what_ended_it() {
        let (_listener, target, _clock) = station().await;
        let mut feed = Feed::new(&target, RunId::parse(RUN).unwrap());
        feed.silent = MOST_SILENT;
        feed.lost(Error::timeout("process 7 doesn't answer"));
        let error = feed.next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().ends_with("again and again: process 7 doesn't answer"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
