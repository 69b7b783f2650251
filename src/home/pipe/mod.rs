//! `stn stdio`: a pipe between an MCP client's stdio and the owner of the home, which knows lines. Because it remembers the session and
//! the requests in flight, the owner can be restarted under a client that doesn't notice, and closing the client ends no run.
//!
//! Lines pass unchanged, save for a key on each `agent_run`. Nothing else is ever written to the client. JSON-RPC batches (MCP 2025-03-26
//! alone has them) pass as well, but are not answered or sent again when their owner goes.
//!
//! `line.rs` reads lines, `envelope.rs` reads and edits a message, `session.rs` decides, with what `kept.rs` keeps for the next owner and
//! in the words of `words.rs`, `connector.rs` reaches the owner; here the bytes move. What the messages mean to Station belongs to
//! `adapters/mcp`.

mod connector;
mod envelope;
mod kept;
mod line;
mod session;
mod words;

pub use connector::{Connector, OwnerConnector, PROTOCOL, StdioOptions};

use crate::clock::{ClockExt, SharedClock, Sleep};
use crate::error::{Error, ErrorKind, Result};
use bytes::BytesMut;
use line::{Line, Lines};
use session::{Fate, GivenUp, Session};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// How long answers are waited for after the client has closed its end, or the owner has stopped reading.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// How many connections in a row may end without a word from the owner.
const MOST_SILENT: u32 = 4;

/// The wait before the second silent connection; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// While this much waits to be written in one direction, nothing more is read for it.
const HIGH_WATER: usize = 64 * 1024;

/// Carries lines until the client closes `stdin` or `stdout`. `stdout` is flushed only at the end, so it must not hold lines back
/// (tokio's `Stdout` doesn't).
pub async fn run<R, W, C>(stdin: R, stdout: W, mut connector: C, clock: &SharedClock) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    C: Connector,
{
    let mut pipe = Pipe {
        client: Lines::new(stdin),
        client_ended: false,
        stdout,
        to_client: BytesMut::new(),
        session: Session::default(),
    };
    let mut opening = BytesMut::new();
    let mut silent = 0;
    // Also for a client that has closed its end already: whoever starts the pipe learns why it can't be used.
    let mut stream = connect(&mut connector, &mut silent, clock).await?;
    loop {
        match pipe.carry(stream, opening, clock).await {
            Carried::Finished => return pipe.finish(clock).await,
            Carried::Lost { heard } => silent = if heard { 0 } else { silent + 1 },
        }
        let told = pipe.session.lost();
        pipe.tell(&told);
        // No owner is started for a client that has gone.
        stream = match pipe.meanwhile(connect(&mut connector, &mut silent, clock)).await {
            None => return pipe.finish(clock).await,
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                pipe.finish(clock).await?;
                return Err(error);
            }
        };
        opening = BytesMut::new();
        push_all(&mut opening, &pipe.session.replay());
        pipe.tell(pipe.session.news().as_slice());
    }
}

/// The client's side, which outlives connections.
struct Pipe<R, W> {
    client: Lines<R>,
    client_ended: bool,
    stdout: W,
    /// Not yet written to the client; may begin in the middle of a line.
    to_client: BytesMut,
    session: Session,
}

/// How a connection ended.
enum Carried {
    /// There is nothing more to do for the client.
    Finished,
    /// The owner went away; `heard` if it had said anything.
    Lost { heard: bool },
}

/// One connection to an owner.
struct Connection<S> {
    from: Lines<tokio::io::ReadHalf<S>>,
    into: tokio::io::WriteHalf<S>,
    to_owner: BytesMut,
    heard: bool,
    state: State,
}

enum State {
    Open,
    /// Our direction is closed, because the client has closed its own; answers are still coming, even to lines that were no requests. The
    /// owner ends the stream after the last one.
    HalfClosed,
    /// The owner takes no more lines; what it has written may still be read.
    Broken,
}

impl<R, W> Pipe<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Moves lines both ways over one connection. Every branch may be dropped half-way without losing or doubling a byte.
    async fn carry<S: AsyncRead + AsyncWrite>(&mut self, stream: S, opening: BytesMut, clock: &SharedClock) -> Carried {
        let (from, into) = tokio::io::split(stream);
        let mut owner =
            Connection { from: Lines::new(from), into, to_owner: opening, heard: false, state: State::Open };
        let mut patience: Option<Sleep> = None;
        loop {
            owner.close_if_done(self).await;
            let open = matches!(owner.state, State::Open);
            if patience.is_none() && (self.client_ended || !open) {
                patience = Some(clock.sleep(DRAIN_WITHIN));
            }
            let listening = open && !self.client_ended && self.session.is_ready();
            let room = self.to_client.len() < HIGH_WATER;
            tokio::select! {
                line = self.client.next(), if listening && room && owner.to_owner.len() < HIGH_WATER => {
                    self.on_client(line, &mut owner.to_owner);
                }
                line = owner.from.next(), if room => {
                    if !self.on_owner(line, &mut owner) {
                        return Carried::Lost { heard: owner.heard };
                    }
                }
                written = owner.into.write_buf(&mut owner.to_owner), if open && !owner.to_owner.is_empty() => {
                    if !matches!(written, Ok(1..)) {
                        owner.state = State::Broken;
                    }
                }
                written = self.stdout.write_buf(&mut self.to_client), if !self.to_client.is_empty() => {
                    if !matches!(written, Ok(1..)) {
                        self.client_ended = true;
                        self.to_client.clear();
                        return Carried::Finished;
                    }
                }
                () = async { if let Some(sleep) = &mut patience { sleep.await } }, if patience.is_some() => {
                    return if self.client_ended { Carried::Finished } else { Carried::Lost { heard: owner.heard } };
                }
            }
        }
    }

    /// A line of the client, or the end of its stream; an error of the stream is its end.
    fn on_client(&mut self, line: io::Result<Option<Line>>, to_owner: &mut BytesMut) {
        match line {
            Ok(Some(Line::Whole(line) | Line::Cut(line))) => {
                // What isn't UTF-8 isn't JSON; the owner says so.
                match std::str::from_utf8(&line).map_or(Fate::Pass, |line| self.session.client_says(line)) {
                    Fate::Pass => push(to_owner, &line),
                    Fate::Replace(edited) => push(to_owner, edited.as_bytes()),
                    Fate::Drop => {}
                }
            }
            Ok(Some(Line::TooLong(beginning))) => {
                let answer = self.session.too_long(&beginning, false);
                self.tell(answer.as_slice());
            }
            Ok(None) | Err(_) => self.client_ended = true,
        }
    }

    /// A line of the owner; false when there will be no more. A line that was cut by its end is dropped: it has no meaning.
    fn on_owner<S>(&mut self, line: io::Result<Option<Line>>, owner: &mut Connection<S>) -> bool {
        match line {
            Ok(Some(Line::Whole(line))) => {
                let fate = std::str::from_utf8(&line).map_or(Fate::Pass, |line| self.session.owner_says(line));
                if fate == Fate::Pass {
                    push(&mut self.to_client, &line);
                }
                push_all(&mut owner.to_owner, &self.session.released());
            }
            Ok(Some(Line::TooLong(beginning))) => {
                let answer = self.session.too_long(&beginning, true);
                self.tell(answer.as_slice());
            }
            Ok(Some(Line::Cut(_)) | None) | Err(_) => return false,
        }
        owner.heard = true;
        true
    }

    fn tell(&mut self, lines: &[String]) {
        push_all(&mut self.to_client, lines);
    }

    /// Does `work` while the client goes on getting what waits for it; `None` when it closes its end first.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        while !self.client_ended {
            tokio::select! {
                output = &mut work => return Some(output),
                () = self.client.closed() => self.client_ended = true,
                written = self.stdout.write_buf(&mut self.to_client), if !self.to_client.is_empty() => {
                    self.client_ended = !matches!(written, Ok(1..));
                }
            }
        }
        None
    }

    /// Answers what is unanswered, and writes what is left, if the client still takes it. A client that has closed its end is no error.
    async fn finish(&mut self, clock: &SharedClock) -> Result<()> {
        let told = self.session.give_up(if self.client_ended { GivenUp::ClientClosed } else { GivenUp::NoOwner });
        self.tell(&told);
        let writing = async {
            self.stdout.write_all_buf(&mut self.to_client).await?;
            self.stdout.flush().await
        };
        match clock.timeout(DRAIN_WITHIN, writing).await {
            Some(Err(cause)) if cause.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::internal("can't write to the client").source(cause))
            }
            _ => Ok(()),
        }
    }
}

/// A connection to an owner, after a wait for each one before it that ended in silence.
async fn connect<C: Connector>(connector: &mut C, silent: &mut u32, clock: &SharedClock) -> Result<C::Stream> {
    let mut gone = gone();
    while *silent < MOST_SILENT {
        if *silent > 0 {
            clock.sleep(FIRST_WAIT * 2_u32.pow(*silent - 1)).await;
        }
        match connector.connect().await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                tracing::warn!(%error, "can't reach the station");
                gone = error;
                *silent += 1;
            }
            connected => return connected,
        }
    }
    Err(gone)
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    /// Closes our direction once the client has closed its own and all it said is through.
    async fn close_if_done<R, W>(&mut self, pipe: &Pipe<R, W>) {
        let through = self.to_owner.is_empty() && pipe.session.is_ready();
        if pipe.client_ended && through && matches!(self.state, State::Open) {
            let _already_gone = self.into.shutdown().await;
            self.state = State::HalfClosed;
        }
    }
}

fn push(buffer: &mut BytesMut, line: &[u8]) {
    buffer.reserve(line.len() + 1);
    buffer.extend_from_slice(line);
    buffer.extend_from_slice(b"\n");
}

fn push_all(buffer: &mut BytesMut, lines: &[String]) {
    for line in lines {
        push(buffer, line.as_bytes());
    }
}

fn gone() -> Error {
    Error::unavailable("the station went away and doesn't come back").hint("run `stn serve` to see why")
}

#[cfg(test)]
mod tests;
