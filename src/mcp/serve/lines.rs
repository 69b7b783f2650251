//! One JSON message per line, both ways, as a transport of rmcp.
//!
//! rmcp's own drops lines it can't parse, drops lines that are too long, and ends the connection when the first message is a notification.
//! Here each of them is answered, as far as JSON-RPC allows, and the connection goes on.

use std::future::Future;
use std::io;

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, GetMeta, ProtocolVersion};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::{MAX_MESSAGE_BYTES, envelope};

/// Lines that may wait for a slow reader before whoever answers has to.
pub(super) const QUEUE: usize = 64;

/// How much of a line that is too long is kept, to find the request's id in.
const KEPT_BYTES: usize = 64 * 1024;

/// The reading end, and the way into the one queue of lines that [`write_lines`] empties.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    limit: usize,
    /// The rest of the current line is dropped: it was too long.
    skipping: bool,
    /// Whether rmcp has settled on an era. Before that it takes nothing but requests.
    opened: bool,
    /// An answer of our own that waits for room in the queue. A field, because rmcp drops `receive` whenever it has something better to do.
    refusal: Option<Vec<u8>>,
    out: Option<mpsc::Sender<Vec<u8>>>,
}

enum Read {
    Line,
    TooLong,
    End,
}

impl<R: AsyncRead + Send + Unpin> Lines<R> {
    pub(super) fn new(reader: R, out: mpsc::Sender<Vec<u8>>) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
            limit: MAX_MESSAGE_BYTES,
            skipping: false,
            opened: false,
            refusal: None,
            out: Some(out),
        }
    }

    /// Reads on until a line is whole. Nothing is lost when the future is dropped: what it took is in `self.line`.
    async fn read(&mut self) -> io::Result<Read> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(Read::End);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |at| at + 1);
            let was_skipping = self.skipping;
            if !was_skipping {
                self.line.extend_from_slice(&available[..taken]);
                self.skipping = self.line.len() > self.limit;
            }
            self.reader.consume(taken);
            let too_long = self.skipping && !was_skipping;
            if end.is_some() {
                self.skipping = false;
            }
            if too_long {
                return Ok(Read::TooLong);
            }
            if end.is_some() && !was_skipping {
                return Ok(Read::Line);
            }
        }
    }

    /// Decodes the line that was read; what can't be decoded leaves a refusal behind.
    fn decode(&mut self) -> Option<ClientJsonRpcMessage> {
        let line = std::mem::take(&mut self.line);
        let text = line.trim_ascii();
        if text.is_empty() {
            return None;
        }
        match serde_json::from_slice(text) {
            Ok(message) => self.admit(message),
            Err(error) => {
                tracing::debug!(%error, "a line is no message");
                self.refusal = envelope::refusal(text).map(|answer| as_line(&answer));
                None
            }
        }
    }

    fn admit(&mut self, message: ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
        if let ClientJsonRpcMessage::Request(request) = &message {
            self.opened |= opens(&request.request);
            return Some(message);
        }
        self.opened.then_some(message)
    }

    /// Puts the waiting refusal into the queue; `None` when nobody writes any more.
    async fn refuse(&mut self) -> Option<()> {
        if self.refusal.is_some() {
            let room = self.out.as_ref()?.reserve().await.ok()?;
            if let Some(line) = self.refusal.take() {
                room.send(line);
            }
        }
        Some(())
    }
}

/// Whether rmcp leaves its opening phase with this request.
fn opens(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => false,
        other => {
            let meta = other.get_meta();
            meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty()
                && meta.protocol_version().is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version))
        }
    }
}

fn as_line(message: &serde_json::Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

impl<R: AsyncRead + Send + Unpin> rmcp::transport::Transport<RoleServer> for Lines<R> {
    type Error = io::Error;

    fn send(&mut self, message: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let out = self.out.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            out.ok_or_else(gone)?.send(line).await.map_err(|_| gone())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            self.refuse().await?;
            match self.read().await {
                Ok(Read::Line) => {
                    if let Some(message) = self.decode() {
                        return Some(message);
                    }
                }
                Ok(Read::TooLong) => {
                    let line = std::mem::take(&mut self.line);
                    let beginning = &line[..line.len().min(KEPT_BYTES)];
                    self.refusal = Some(as_line(&envelope::too_long(beginning, self.limit)));
                }
                Ok(Read::End) => return None,
                Err(error) => {
                    tracing::debug!(%error, "the stream can't be read any more");
                    return None;
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.out = None;
        Ok(())
    }
}

/// Writes lines in the order of the queue until nobody can add any more. The only writer of its stream.
pub(super) async fn write_lines<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(line) = queue.recv().await {
        writer.write_all(&line).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::transport::Transport as _;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_refused_by_its_id_and_the_next_one_is_read() {
        let long = format!(r#"{{"jsonrpc":"2.0","id":5,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(200));
        let input = format!("{long}\n{}\n", r#"{"jsonrpc":"2.0","id":6,"method":"ping"}"#);
        let (out, mut queue) = mpsc::channel(QUEUE);
        let mut lines = Lines::new(input.as_bytes(), out);
        lines.limit = 100;
        let Some(ClientJsonRpcMessage::Request(request)) = lines.receive().await else { panic!("no request") };
        assert_eq!(request.id.to_string(), "6");
        let refused: serde_json::Value = serde_json::from_slice(&queue.recv().await.unwrap()).unwrap();
        assert_eq!((refused["id"].as_i64(), refused["error"]["code"].as_i64()), (Some(5), Some(-32600)));
        assert!(lines.receive().await.is_none());
    }

    #[tokio::test]
    async fn what_comes_before_the_first_request_does_not_end_the_connection() {
        let input = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            "\r\n\n",
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            "\n"
        );
        let (out, _queue) = mpsc::channel(QUEUE);
        let mut lines = Lines::new(input.as_bytes(), out);
        assert!(matches!(lines.receive().await, Some(ClientJsonRpcMessage::Request(_))));
    }
}
