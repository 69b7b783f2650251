//! What callers hold: one request in, one raw result out.

use super::era::{Agreement, Protocol};
use super::error::CallError;
use super::http::{Endpoint, HttpTarget};
use super::listen;
use super::message;
use super::object::RawObject;
use super::progress::Progress;
use super::signals::Signals;
use super::stdio::Pipe;
use crate::clock::{ClockExt, SharedClock, Sleep};
use crate::lifecycle::Tasks;
use crate::process::ChildProcess;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What every connection needs to be made.
#[derive(Debug, Clone)]
pub struct Setup {
    pub clock: SharedClock,
    pub tasks: Tasks,
    /// What the server spoke last time.
    pub remembered: Option<Protocol>,
    /// For each step of the handshake.
    pub timeout: Duration,
    /// Gives the handshake up.
    pub cancel: CancellationToken,
}

/// How a connection couldn't be made.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ConnectError {
    pub error: CallError,
    /// Some servers end themselves at a first message that isn't `initialize`. Then the next try should start from this.
    pub retry_as: Option<Protocol>,
}

/// How one request is made.
#[derive(Debug, Default)]
pub struct RequestOptions {
    /// For the answer, however much progress comes before it. `None` waits for as long as the connection lives.
    pub timeout: Option<Duration>,
    /// Withdraws the request: `notifications/cancelled` on stdio, closing the stream over HTTP.
    pub cancel: CancellationToken,
    /// Asks the server for progress, which arrives here in order and before the answer. A full channel loses some.
    pub progress: Option<mpsc::Sender<Progress>>,
    /// What the request is about, for the `Mcp-Name` header: a tool's or prompt's name, a resource's URI.
    pub name: Option<String>,
    /// Further headers that mirror arguments (`Mcp-Param-*`), used in the modern era over HTTP.
    pub headers: Vec<(String, String)>,
}

/// One request on its way through a transport.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) id: u64,
    pub(super) method: &'a str,
    pub(super) body: String,
    /// `None` during the handshake.
    pub(super) agreed: Option<&'a Agreement>,
    pub(super) progress: Option<mpsc::Sender<Progress>>,
    pub(super) name: Option<&'a str>,
    pub(super) headers: &'a [(String, String)],
    pub(super) cancellable: bool,
    pub(super) sent: Sent,
}

/// Whether a request was handed to where its server reads: until then the server can't have acted on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(super) fn set(&self, sent: bool) {
        self.0.store(sent, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Box<RawValue>,
    /// The session that an HTTP server named beside it.
    pub(super) session: Option<String>,
}

#[derive(Debug)]
pub(super) enum Link {
    Stdio(Pipe),
    Http(Arc<Endpoint>),
}

/// A connection whose handshake is done. Cheap to clone; ends when the server does or by [`Connection::close`].
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) link: Link,
    pub(super) signals: Arc<Signals>,
    pub(super) clock: SharedClock,
    agreed: watch::Sender<Option<Agreement>>,
    next_id: AtomicU64,
    renewing: tokio::sync::Mutex<()>,
}

impl Connection {
    /// Connects to a child over its standard streams. The child ends with the connection, also when this fails.
    pub async fn to_child(child: ChildProcess, setup: &Setup) -> Result<Self, ConnectError> {
        let signals = Arc::new(Signals::default());
        let pipe = Pipe::to_child(child, signals.clone(), &setup.clock, &setup.tasks)
            .map_err(|error| ConnectError { error, retry_as: None })?;
        Self::open(Link::Stdio(pipe), signals, setup).await
    }

    /// Connects over two byte streams.
    pub async fn over<R, W>(reader: R, writer: W, setup: &Setup) -> Result<Self, ConnectError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let signals = Arc::new(Signals::default());
        let pipe = Pipe::over(reader, writer, signals.clone(), &setup.tasks);
        Self::open(Link::Stdio(pipe), signals, setup).await
    }

    /// Connects over streamable HTTP.
    pub async fn to_url(target: &HttpTarget, http: reqwest::Client, setup: &Setup) -> Result<Self, ConnectError> {
        let signals = Arc::new(Signals::default());
        let endpoint = Endpoint::new(target, http, signals.clone(), setup.tasks.clone())
            .map_err(|error| ConnectError { error, retry_as: None })?;
        Self::open(Link::Http(Arc::new(endpoint)), signals, setup).await
    }

    async fn open(link: Link, signals: Arc<Signals>, setup: &Setup) -> Result<Self, ConnectError> {
        let inner = Arc::new(Inner {
            link,
            signals,
            clock: setup.clock.clone(),
            agreed: watch::Sender::new(None),
            next_id: AtomicU64::new(1),
            renewing: tokio::sync::Mutex::new(()),
        });
        let agreed = tokio::select! {
            biased;
            () = setup.cancel.cancelled() => Err(ConnectError { error: CallError::Cancelled, retry_as: None }),
            agreed = inner.agree(setup.remembered.as_ref(), setup.timeout) => agreed,
        };
        match agreed {
            Ok(agreement) => {
                let tells_changes = agreement.tells_changes;
                inner.agreed.send_replace(Some(agreement));
                if tells_changes {
                    setup.tasks.spawn("mcp listen", listen::follow(inner.clone()));
                }
                Ok(Self { inner })
            }
            Err(mut failed) => {
                failed.error = inner.with_last_words(failed.error);
                inner.close().await;
                Err(failed)
            }
        }
    }

    /// What the server speaks; worth remembering for the next connection.
    pub fn protocol(&self) -> Protocol {
        self.inner.agreed().map_or_else(Protocol::legacy, |agreed| agreed.protocol)
    }

    /// The process id of the child, if there is one.
    pub fn pid(&self) -> Option<u32> {
        match &self.inner.link {
            Link::Stdio(pipe) => pipe.pid(),
            Link::Http(_) => None,
        }
    }

    /// Changes whenever the server says that its list of tools may have changed.
    pub fn tools_changed(&self) -> watch::Receiver<u64> {
        self.inner.signals.tools_changed()
    }

    /// Cancelled when the connection is of no more use.
    pub fn ended(&self) -> &CancellationToken {
        self.inner.signals.ended()
    }

    /// Why it ended.
    pub fn end_reason(&self) -> Option<&str> {
        self.inner.signals.reason()
    }

    /// Makes one request. `_meta` gets the keys that the protocol asks for; nothing else of `params` and of the result is touched. An HTTP
    /// session that the server has forgotten is renewed once, since a server that doesn't know the session hasn't acted.
    pub async fn request(
        &self,
        method: &str,
        params: RawObject,
        options: RequestOptions,
    ) -> Result<Box<RawValue>, CallError> {
        let (inner, sent) = (&self.inner, Sent::default());
        let answered = async {
            match inner.send(inner.agreed().as_ref(), method, params.clone(), &options, &sent).await {
                Err(CallError::SessionLost { session }) => {
                    sent.set(false);
                    inner.renew(&session).await?;
                    inner.send(inner.agreed().as_ref(), method, params, &options, &sent).await
                }
                outcome => outcome,
            }
        };
        match inner.limited(&options, answered).await {
            Err(given_up @ (CallError::TimedOut(_) | CallError::Cancelled)) if !sent.is_set() => {
                Err(CallError::NotSent(Box::new(given_up)))
            }
            outcome => outcome.map(|answer| answer.result),
        }
    }

    /// Ends the connection and, on stdio, the child with its whole process group; returns when they are gone.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

impl Inner {
    fn agreed(&self) -> Option<Agreement> {
        self.agreed.borrow().clone()
    }

    /// What is in force, and what takes its place; `None` until the first handshake is done.
    pub(super) fn agreements(&self) -> watch::Receiver<Option<Agreement>> {
        self.agreed.subscribe()
    }

    fn is_in_session(&self, id: &str) -> bool {
        self.agreed.borrow().as_ref().and_then(|agreed| agreed.session.as_deref()) == Some(id)
    }

    /// Gives `work` up when its caller does, and when its time is up. What is there by then counts.
    pub(super) async fn limited<T>(
        &self,
        options: &RequestOptions,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let limit = options.timeout.unwrap_or(Duration::MAX);
        let alarm: Sleep =
            options.timeout.map_or_else(|| Box::pin(std::future::pending()) as Sleep, |limit| self.clock.sleep(limit));
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = options.cancel.cancelled() => Err(CallError::Cancelled),
            () = alarm => Err(CallError::TimedOut(limit)),
        }
    }

    /// One request under `agreed`, within the limits of `options`.
    pub(super) async fn ask(
        &self,
        agreed: &Agreement,
        method: &str,
        params: RawObject,
        options: &RequestOptions,
    ) -> Result<Box<RawValue>, CallError> {
        let sent = Sent::default();
        let answered = self.send(Some(agreed), method, params, options, &sent);
        self.limited(options, answered).await.map(|answer| answer.result)
    }

    /// One request under `agreed`, which is `None` during the handshake. Its limits are the caller's affair, but nothing is begun whose
    /// caller is gone already.
    pub(super) async fn send(
        &self,
        agreed: Option<&Agreement>,
        method: &str,
        mut params: RawObject,
        options: &RequestOptions,
        sent: &Sent,
    ) -> Result<Answer, CallError> {
        if options.cancel.is_cancelled() {
            return Err(CallError::Cancelled);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        stamp(&mut params, agreed, options.progress.is_some().then_some(id));
        let exchange = Exchange {
            id,
            method,
            body: message::request(id, method, &params),
            agreed,
            progress: options.progress.clone(),
            name: options.name.as_deref(),
            headers: &options.headers,
            cancellable: !matches!(method, "initialize" | "server/discover"),
            sent: sent.clone(),
        };
        match &self.link {
            Link::Stdio(pipe) => pipe.exchange(exchange).await.map(|result| Answer { result, session: None }),
            Link::Http(endpoint) => endpoint.exchange(exchange).await,
        }
    }

    /// Tells the server something that has no answer.
    pub(super) async fn tell(&self, agreed: &Agreement, method: &str) {
        let line = message::notification(method, &RawObject::new());
        match &self.link {
            Link::Stdio(pipe) => pipe.tell(line).await,
            Link::Http(endpoint) => endpoint.tell(Some(agreed), line).await,
        }
    }

    /// Makes a new session in place of `lost`, unless another caller has done so meanwhile. Until the handshake is done `lost` stays, so
    /// that a renewal that is given up is made by the next caller, from its beginning.
    async fn renew(&self, lost: &str) -> Result<(), CallError> {
        let _one_at_a_time = self.renewing.lock().await;
        if !self.is_in_session(lost) {
            return Ok(());
        }
        let agreement = self.initialize(None).await.map_err(|error| {
            CallError::Unreachable(format!("the server ended the session, and no new one could be made: {error}"))
        })?;
        self.agreed.send_replace(Some(agreement));
        self.signals.tools_may_have_changed();
        Ok(())
    }

    /// A server that didn't answer may have said why on stderr.
    fn with_last_words(&self, error: CallError) -> CallError {
        match (&self.link, &error) {
            (Link::Stdio(pipe), CallError::TimedOut(_)) => match pipe.stderr().last_lines(5) {
                words if words.is_empty() => error,
                words => CallError::Closed(format!("{error}; it last said: {words}")),
            },
            _ => error,
        }
    }

    async fn close(&self) {
        self.signals.end("the connection was closed");
        match &self.link {
            Link::Stdio(pipe) => pipe.close().await,
            Link::Http(endpoint) => endpoint.close(self.agreed().as_ref(), &self.clock).await,
        }
    }
}

/// Sets what the protocol wants in `_meta`. A caller's own progress token never passes: tokens of two callers could be the same.
fn stamp(params: &mut RawObject, agreed: Option<&Agreement>, progress_token: Option<u64>) {
    let mut meta = params.get("_meta").and_then(|meta| RawObject::parse(meta.get()).ok()).unwrap_or_default();
    meta.remove("progressToken");
    if let Some(token) = progress_token {
        meta = meta.with("progressToken", &token.into());
    }
    if let Some(agreed) = agreed {
        agreed.protocol.stamp(&mut meta);
    }
    if meta.is_empty() {
        params.remove("_meta");
    } else {
        params.set("_meta", meta.to_raw());
    }
}

#[cfg(test)]
mod tests;
