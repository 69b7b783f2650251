//! The stdio transport: one JSON message per line, many requests at once, and the life of the child behind them.

use super::MESSAGE_LIMIT;
use super::connection::Exchange;
use super::error::CallError;
use super::lines::{BoundedLines, Line};
use super::message::{self, Incoming};
use super::signals::Signals;
use super::table::RequestTable;
use crate::clock::{ClockExt, SharedClock};
use crate::lifecycle::Tasks;
use crate::process::{ChildProcess, StderrTail};
use serde_json::value::RawValue;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the last answers, the exit status and the last words on stderr are waited for once a child has begun to end. Callers wait
/// along; it is used up only where the child lives on without its pipes, or something it started still holds them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How many answers to a server's own requests wait for it to read them. One that asks more before it has read them gets no more.
const ASIDES: usize = 256;

/// A connection over a pair of byte streams.
#[derive(Debug)]
pub(super) struct Pipe {
    wire: Arc<Wire>,
    pid: Option<u32>,
    stderr: StderrTail,
    closing: CancellationToken,
    gone: CancellationToken,
}

#[derive(Debug)]
struct Wire {
    table: RequestTable,
    /// What goes to the server besides requests and their withdrawals, and before them.
    asides: mpsc::Sender<String>,
    signals: Arc<Signals>,
}

impl Pipe {
    /// Speaks to `child`. The child's whole group ends with the pipe.
    pub(super) fn to_child(
        mut child: ChildProcess,
        signals: Arc<Signals>,
        clock: &SharedClock,
        tasks: &Tasks,
    ) -> Result<Self, CallError> {
        let (Some(stdin), Some(stdout)) = (child.take_stdin(), child.take_stdout()) else {
            return Err(CallError::Unreachable("the child has no standard streams".to_owned()));
        };
        let (pid, stderr) = (Some(child.pid()), child.stderr());
        let (pipe, halves) = Self::start(stdout, stdin, pid, stderr, signals, tasks);
        let life = Life { wire: pipe.wire.clone(), closing: pipe.closing.clone(), halves, clock: clock.clone() };
        let gone = pipe.gone.clone();
        tasks.spawn("mcp child", async move {
            life.follow(child).await;
            gone.cancel();
        });
        Ok(pipe)
    }

    /// Speaks over two streams that nobody else watches.
    pub(super) fn over<R, W>(reader: R, writer: W, signals: Arc<Signals>, tasks: &Tasks) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (pipe, halves) = Self::start(reader, writer, None, StderrTail::none(), signals, tasks);
        let (wire, closing, gone) = (pipe.wire.clone(), pipe.closing.clone(), pipe.gone.clone());
        tasks.spawn("mcp pipe", async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = halves.either_ended() => {}
            }
            closing.cancel();
            wire.end("the server closed the connection");
            gone.cancel();
        });
        pipe
    }

    fn start<R, W>(
        reader: R,
        writer: W,
        pid: Option<u32>,
        stderr: StderrTail,
        signals: Arc<Signals>,
        tasks: &Tasks,
    ) -> (Self, Halves)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (asides, waiting) = mpsc::channel(ASIDES);
        let wire = Arc::new(Wire { table: RequestTable::default(), asides, signals });
        let pipe =
            Self { wire: wire.clone(), pid, stderr, closing: CancellationToken::new(), gone: CancellationToken::new() };
        let read_ended = CancellationToken::new();
        let (gone, ended, heard) = (pipe.gone.clone(), read_ended.clone(), wire.clone());
        tasks.spawn("mcp reader", async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = read(BoundedLines::new(reader, MESSAGE_LIMIT), &heard) => {}
            }
            ended.cancel();
        });
        let write_ended = CancellationToken::new();
        let (closing, ended) = (pipe.closing.clone(), write_ended.clone());
        tasks.spawn("mcp writer", async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = write(writer, waiting, &wire.table) => ended.cancel(),
            }
        });
        (pipe, Halves { read_ended, write_ended })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub(super) fn stderr(&self) -> &StderrTail {
        &self.stderr
    }

    /// Sends a request and waits for its answer. Dropping the future withdraws the request: one that the server hasn't been sent yet
    /// isn't sent any more.
    pub(super) async fn exchange(&self, exchange: Exchange<'_>) -> Result<Box<RawValue>, CallError> {
        let table = &self.wire.table;
        let _withdraw = Withdraw { table, id: exchange.id };
        let answer = table.open(exchange)?;
        answer.await.unwrap_or_else(|_| Err(CallError::Closed("the connection has ended".to_owned())))
    }

    /// Sends something that has no answer.
    pub(super) async fn tell(&self, line: String) {
        let _ended = self.wire.asides.send(line).await;
    }

    /// Closes the input and returns when the child's whole group is gone.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.gone.cancelled().await;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// The two directions of a pipe, each of which can end by the server's doing.
struct Halves {
    read_ended: CancellationToken,
    write_ended: CancellationToken,
}

impl Halves {
    async fn either_ended(&self) {
        tokio::select! {
            () = self.read_ended.cancelled() => {}
            () = self.write_ended.cancelled() => {}
        }
    }
}

/// Withdraws a request whose caller went away before the answer came.
struct Withdraw<'a> {
    table: &'a RequestTable,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.table.withdraw(self.id);
    }
}

impl Wire {
    fn end(&self, reason: &str) {
        self.table.end(reason);
        self.signals.end(reason);
    }

    fn receive(&self, text: &str) {
        match message::parse(text) {
            Ok(messages) => messages.into_iter().for_each(|message| self.handle(message)),
            // Servers that print to stdout are common; what isn't a message is skipped.
            Err(cause) => tracing::debug!(%cause, "a line from a server is not a message"),
        }
    }

    fn handle(&self, message: Incoming) {
        match message {
            Incoming::Answer { id: Some(id), outcome } => self.table.answer(id, outcome),
            Incoming::Answer { id: None, outcome } => tracing::debug!(?outcome, "a server sent an answer to nothing"),
            Incoming::Request { id, method } => {
                let _full_or_ended = self.asides.try_send(message::answer(&id, &method));
            }
            Incoming::Notification { method, params: Some(params) } if method == "notifications/progress" => {
                self.table.progress(&params);
            }
            Incoming::Notification { method, .. } => self.signals.notified(&method),
        }
    }

    fn too_long(&self, head: &[u8], tail: &[u8]) {
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        match message::guess_id(&head, &tail) {
            Some(id) => self.table.finish(id, Err(CallError::TooLarge { limit: MESSAGE_LIMIT })),
            None => tracing::warn!(limit = MESSAGE_LIMIT, "a line from a server is too long and belongs to no request"),
        }
    }
}

async fn read<R: AsyncRead + Unpin>(mut lines: BoundedLines<R>, wire: &Wire) {
    while let Ok(Some(line)) = lines.next().await {
        match line {
            Line::Whole(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {}
            Line::Whole(bytes) => wire.receive(&String::from_utf8_lossy(&bytes)),
            Line::TooLong { head, tail } => wire.too_long(&head, &tail),
        }
    }
}

/// Writes until the other side stops reading.
async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut asides: mpsc::Receiver<String>, table: &RequestTable) {
    loop {
        let mut line = tokio::select! {
            biased;
            Some(line) = asides.recv() => line,
            line = table.next_line() => line,
        };
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// Watches a child from its start to the end of its group.
struct Life {
    wire: Arc<Wire>,
    closing: CancellationToken,
    halves: Halves,
    clock: SharedClock,
}

impl Life {
    async fn follow(&self, mut child: ChildProcess) {
        let asked = tokio::select! {
            () = self.closing.cancelled() => true,
            () = self.halves.either_ended() => false,
            _ = child.exited() => false,
        };
        if asked {
            self.wire.end("the connection was closed");
        } else {
            let words = self.clock.timeout(LAST_WORDS, self.last_words(&mut child));
            let status = self.closing.run_until_cancelled(words).await.flatten().flatten();
            self.wire.end(&obituary(status, &child.stderr()));
        }
        self.closing.cancel();
        child.terminate(&self.clock).await;
    }

    async fn last_words(&self, child: &mut ChildProcess) -> Option<ExitStatus> {
        let status = child.exited().await.ok();
        child.stderr_ended().await;
        self.halves.read_ended.cancelled().await;
        status
    }
}

fn obituary(status: Option<ExitStatus>, stderr: &StderrTail) -> String {
    let end = match status {
        Some(status) => format!("the server ended ({status})"),
        None => "the server closed its output".to_owned(),
    };
    match stderr.last_lines(5) {
        words if words.is_empty() => end,
        words => format!("{end}; it last said: {words}"),
    }
}

#[cfg(test)]
mod tests;
