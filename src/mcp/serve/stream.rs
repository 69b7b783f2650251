//! MCP over one byte stream: a client's stdin and stdout, however they got here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rmcp::service::{ServerInitializeError, serve_server_with_ct};
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::handler::{Door, Handler};
use super::lines::{Lines, QUEUE, write_lines};
use super::{Backend, ToolSet};
use crate::domain::{Name, Principal};
use crate::error::{Error, Result};

/// What is settled before the first byte of a stream is read.
#[derive(Debug, Clone)]
pub struct StdioSeed {
    /// Who is at the other end.
    pub principal: Principal,
    /// The environment that the connection is bound to.
    pub environment: Option<Name>,
    pub tools: ToolSet,
    /// Ends the session.
    pub cancel: CancellationToken,
}

/// Serves one session over `io`, one JSON message per line of at most [`super::MAX_MESSAGE_BYTES`], until the peer closes its end.
/// Requests that are still open then have 5 s to be answered before they are cancelled.
pub async fn serve_stream<S>(backend: Arc<dyn Backend>, seed: StdioSeed, io: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = split(io);
    let (out, queue) = mpsc::channel(QUEUE);
    let closed = seed.cancel.child_token();
    let _closes = closed.clone().drop_guard();
    let handler = Handler {
        backend,
        environment: seed.environment,
        tools: seed.tools,
        door: Door::Stream { principal: Box::new(seed.principal), closed: closed.clone() },
        stop: seed.cancel,
        announcing: AtomicBool::new(false),
    };
    let write = async {
        if let Err(error) = write_lines(writer, queue).await {
            tracing::debug!(%error, "the client has stopped reading");
            closed.cancel();
        }
    };
    let (served, ()) = tokio::join!(serve(handler, Lines::new(reader, out), closed.clone()), write);
    served
}

async fn serve<R>(handler: Handler, lines: Lines<R>, closed: CancellationToken) -> Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    let failed = |cause: &dyn std::fmt::Display| Error::internal(format!("the MCP session broke: {cause}"));
    let running = match serve_server_with_ct(handler, lines, closed.clone()).await {
        Ok(running) => running,
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let ended = running.waiting().await.map_err(|error| failed(&error));
    // Whatever rmcp left running for this peer ends here, announcements among it.
    closed.cancel();
    ended.map(|_reason| ())
}
