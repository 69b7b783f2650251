//! The streamable HTTP transport: one POST per message, answered by JSON or by a stream of events; sessions in the legacy era.

use super::MESSAGE_LIMIT;
use super::connection::{Answer, Exchange};
use super::era::{Agreement, Era};
use super::error::CallError;
use super::header::mirrored;
use super::message::{self, Incoming};
use super::progress::Progress;
use super::signals::Signals;
use crate::clock::{ClockExt, SharedClock};
use crate::lifecycle::Tasks;
use crate::net::sse::SseDecoder;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
const EVENT_STREAM: &str = "text/event-stream";
/// How much of the body of a refusal is read.
const REFUSAL_LIMIT: usize = 64 * 1024;
/// How long the end of a session may take; it is a courtesy.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where a server is.
#[derive(Clone)]
pub struct HttpTarget {
    pub url: String,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for HttpTarget {
    /// Values of headers may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.headers.keys().collect::<Vec<_>>();
        f.debug_struct("HttpTarget").field("url", &self.url).field("headers", &names).finish()
    }
}

/// A server's endpoint. In which session a message goes there is part of what was agreed with the server.
#[derive(Debug)]
pub(super) struct Endpoint {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    signals: Arc<Signals>,
    tasks: Tasks,
}

impl Endpoint {
    pub(super) fn new(
        target: &HttpTarget,
        http: reqwest::Client,
        signals: Arc<Signals>,
        tasks: Tasks,
    ) -> Result<Self, CallError> {
        let wrong = |what: String| CallError::Unreachable(what);
        let url = Url::parse(&target.url).map_err(|cause| wrong(format!("`{}` is not a URL: {cause}", target.url)))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &target.headers {
            let key = HeaderName::try_from(name).map_err(|_| wrong(format!("`{name}` can't be a header's name")))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| wrong(format!("the header `{name}` can't have this value")))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(Self { http, url, headers, signals, tasks })
    }

    /// Sends a request and reads its answer. Dropping the future closes the stream, which withdraws a modern request; a legacy server is
    /// told in so many words.
    pub(super) async fn exchange(self: &Arc<Self>, exchange: Exchange<'_>) -> Result<Answer, CallError> {
        let legacy = exchange.agreed.filter(|agreed| agreed.protocol.era == Era::Legacy);
        let mut withdraw =
            Withdraw { endpoint: self, id: exchange.id, agreed: legacy.filter(|_| exchange.cancellable) };
        let outcome = self.answer_of(exchange).await;
        withdraw.agreed = None;
        outcome
    }

    async fn answer_of(self: &Arc<Self>, exchange: Exchange<'_>) -> Result<Answer, CallError> {
        let mut headers = self.standing_headers(exchange.agreed);
        if exchange.agreed.is_some_and(|agreed| agreed.protocol.era == Era::Modern) {
            mirror(&exchange, &mut headers);
        }
        exchange.sent.set(true);
        let response = known(exchange.agreed, self.post(headers, exchange.body).await?)?;
        let response = accepted(response).await?;
        let session = response.headers().get(SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let inbox = Inbox {
            endpoint: self,
            id: Some(exchange.id),
            progress: exchange.progress,
            agreed: exchange.agreed.cloned(),
        };
        Ok(Answer { result: inbox.read(response).await?, session })
    }

    /// Sends a message that has no answer. What the server makes of it isn't waited for beyond its status.
    pub(super) async fn tell(&self, agreed: Option<&Agreement>, body: String) {
        match self.post(self.standing_headers(agreed), body).await {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => tracing::debug!(status = %response.status(), "a server refused a notification"),
            Err(cause) => tracing::debug!(%cause, "a notification didn't reach its server"),
        }
    }

    /// Opens the stream on which a legacy server speaks unasked, and reads it to its end. An answer that is no stream is an error of its
    /// status.
    pub(super) async fn listen(self: &Arc<Self>, agreed: &Agreement) -> Result<(), CallError> {
        let headers = self.standing_headers(Some(agreed));
        let request = self.http.get(self.url.clone()).headers(headers).header(ACCEPT, EVENT_STREAM);
        let response = known(Some(agreed), request.send().await.map_err(|cause| self.failed(&cause))?)?;
        if !response.status().is_success() || !is_event_stream(&response) {
            return Err(CallError::Status { status: response.status().as_u16(), body: String::new() });
        }
        let inbox = Inbox { endpoint: self, id: None, progress: None, agreed: Some(agreed.clone()) };
        inbox.read(response).await.map(drop)
    }

    /// Ends the session, if there is one.
    pub(super) async fn close(&self, agreed: Option<&Agreement>, clock: &SharedClock) {
        let Some(agreed) = agreed.filter(|agreed| agreed.session.is_some()) else { return };
        let farewell = self.http.delete(self.url.clone()).headers(self.standing_headers(Some(agreed))).send();
        let _courtesy = clock.timeout(FAREWELL, farewell).await;
    }

    async fn post(&self, headers: HeaderMap, body: String) -> Result<Response, CallError> {
        let request = self
            .http
            .post(self.url.clone())
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .body(body);
        request.send().await.map_err(|cause| self.failed(&cause))
    }

    fn standing_headers(&self, agreed: Option<&Agreement>) -> HeaderMap {
        let mut headers = self.headers.clone();
        let Some(agreed) = agreed else { return headers };
        if let Ok(version) = HeaderValue::from_str(&agreed.protocol.version) {
            headers.insert(VERSION, version);
        }
        if let Some(session) = agreed.session.as_deref().and_then(|session| HeaderValue::from_str(session).ok()) {
            headers.insert(SESSION, session);
        }
        headers
    }

    /// A server that can't be connected to ends the connection, so that its holder goes over to trying again.
    fn failed(&self, cause: &reqwest::Error) -> CallError {
        let mut told = "the request failed".to_owned();
        let mut deeper = cause.source();
        while let Some(reason) = deeper {
            told = format!("{told}: {reason}");
            deeper = reason.source();
        }
        if cause.is_connect() {
            self.signals.end(&told);
            return CallError::Unreachable(told);
        }
        CallError::Closed(told)
    }
}

/// The headers by which intermediaries route modern requests.
fn mirror(exchange: &Exchange<'_>, headers: &mut HeaderMap) {
    headers.insert("mcp-method", mirrored(exchange.method));
    if let Some(name) = exchange.name {
        headers.insert("mcp-name", mirrored(name));
    }
    for (name, value) in exchange.headers {
        if let Ok(name) = HeaderName::try_from(name) {
            headers.insert(name, mirrored(value));
        }
    }
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with(EVENT_STREAM)
}

/// Refuses the answer of a server that doesn't know the session any more.
fn known(agreed: Option<&Agreement>, response: Response) -> Result<Response, CallError> {
    match agreed.and_then(|agreed| agreed.session.clone()) {
        Some(session) if response.status() == StatusCode::NOT_FOUND => Err(CallError::SessionLost { session }),
        _ => Ok(response),
    }
}

/// Passes a success on; of anything else, reads the JSON-RPC error, or the beginning of whatever the body is.
async fn accepted(response: Response) -> Result<Response, CallError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = body(response, REFUSAL_LIMIT).await.unwrap_or_default();
    if let Ok(messages) = message::parse(&body)
        && let Some(Incoming::Answer { outcome: Err(error), .. }) = messages.into_iter().next()
    {
        return Err(CallError::Rpc(error));
    }
    let body = body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    Err(CallError::Status { status: status.as_u16(), body })
}

async fn body(mut response: Response, limit: usize) -> Result<String, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| cut())? {
        if bytes.len() + chunk.len() > limit {
            return Err(CallError::TooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cut() -> CallError {
    CallError::Closed("the server closed the stream before it had answered".to_owned())
}

/// Reads what comes back on one stream.
struct Inbox<'a> {
    endpoint: &'a Arc<Endpoint>,
    /// The request whose answer ends the reading; a listening stream has none.
    id: Option<u64>,
    progress: Option<mpsc::Sender<Progress>>,
    agreed: Option<Agreement>,
}

impl Inbox<'_> {
    async fn read(&self, mut response: Response) -> Result<Box<RawValue>, CallError> {
        if !is_event_stream(&response) {
            return self.take(&body(response, MESSAGE_LIMIT).await?).unwrap_or_else(|| Err(cut()));
        }
        let mut decoder = SseDecoder::new(MESSAGE_LIMIT);
        while let Some(chunk) = response.chunk().await.map_err(|_| cut())? {
            let events = decoder.push(&chunk).map_err(|large| CallError::TooLarge { limit: large.limit })?;
            for event in events {
                // An event without data only carries an id for resumption.
                if event.data.is_empty() || !matches!(event.event.as_str(), "" | "message") {
                    continue;
                }
                if let Some(outcome) = self.take(&event.data) {
                    return outcome;
                }
            }
        }
        Err(cut())
    }

    /// Handles one message, or a batch; gives the outcome when the answer is among them.
    fn take(&self, text: &str) -> Option<Result<Box<RawValue>, CallError>> {
        let messages = match message::parse(text) {
            Ok(messages) => messages,
            Err(cause) => return Some(Err(CallError::Malformed(cause.to_string()))),
        };
        let mut answer = None;
        for message in messages {
            match message {
                // An error without an id on our own stream can only mean our request.
                Incoming::Answer { id, outcome } if id == self.id || (id.is_none() && outcome.is_err()) => {
                    answer = Some(outcome.map_err(CallError::Rpc));
                }
                Incoming::Answer { .. } => {}
                Incoming::Request { id, method } => self.reply(message::answer(&id, &method)),
                Incoming::Notification { method, params: Some(params) } if method == "notifications/progress" => {
                    self.progress(&params);
                }
                Incoming::Notification { method, .. } => self.endpoint.signals.notified(&method),
            }
        }
        answer
    }

    fn progress(&self, params: &RawValue) {
        if let (Some(listener), Some((id, progress))) = (&self.progress, Progress::read(params))
            && Some(id) == self.id
        {
            let _slow_or_gone = listener.try_send(progress);
        }
    }

    /// Answers a server's own request by a POST of its own, while the stream is read on.
    fn reply(&self, body: String) {
        let (endpoint, agreed) = (self.endpoint.clone(), self.agreed.clone());
        self.endpoint.tasks.spawn("mcp reply", async move { endpoint.tell(agreed.as_ref(), body).await });
    }
}

/// Tells a legacy server that nobody waits for its answer any more.
struct Withdraw<'a> {
    endpoint: &'a Arc<Endpoint>,
    id: u64,
    /// `None` once there is nothing to withdraw.
    agreed: Option<&'a Agreement>,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if let Some(agreed) = self.agreed {
            let (endpoint, agreed, body) = (self.endpoint.clone(), agreed.clone(), message::cancelled(self.id));
            self.endpoint.tasks.spawn("mcp cancel", async move { endpoint.tell(Some(&agreed), body).await });
        }
    }
}

#[cfg(test)]
mod tests;
