//! Streamable HTTP: what stands between the listener and rmcp.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};
use rmcp::model::ProtocolVersion;
use rmcp::transport::streamable_http_server::{
    SessionId, SessionManager, StreamableHttpServerConfig, StreamableHttpService,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::handler::{Door, Handler};
use super::session::{self, Busy, Fate, Sessions};
use super::{Backend, MAX_MESSAGE_BYTES, ToolSet, envelope};
use crate::clock::{ClockExt, SharedClock};
use crate::domain::{Name, Principal, PrincipalRef};
use crate::lifecycle::Tasks;

/// How long a client may take for the body of a request.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// How long a session may go unused at first. A client goes on at once (`notifications/initialized`); of one that left while the answer
/// was on the wire, nothing tells that it never came.
const USED_WITHIN: Duration = Duration::from_secs(60);

/// What one mount point serves.
#[derive(Debug, Clone)]
pub struct HttpSeed {
    /// The environment that the path is bound to.
    pub environment: Option<Name>,
    pub tools: ToolSet,
    pub clock: SharedClock,
    /// What watches over sessions belongs to these.
    pub tasks: Tasks,
    /// Ends all sessions and streams.
    pub cancel: CancellationToken,
}

/// For how long the principal of a request may be here.
pub trait Stay: Send + Sync {
    /// Whether it may be here now, with the rights that it came with.
    fn lasts(&self) -> BoxFuture<'_, bool>;

    /// Done when it may not be here any more.
    fn ended(&self) -> BoxFuture<'static, ()>;
}

/// Put into a request's extensions by whoever let it in. A request whose body has come is refused with 401 if its principal may not be here
/// any more, and a session that it opens ends then.
#[derive(Clone)]
pub struct Leave(Arc<dyn Stay>);

impl std::fmt::Debug for Leave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leave").finish_non_exhaustive()
    }
}

impl Leave {
    pub fn new(stay: impl Stay + 'static) -> Self {
        Self(Arc::new(stay))
    }

    /// Whether the principal may be here now: a body may have taken its time.
    pub async fn lasts(&self) -> bool {
        self.0.lasts().await
    }
}

/// In the extensions of a response, for whoever let its request in: why it says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// The session is another principal's. It is told that there is none.
    OfAnother,
    /// The principal may not be here any more, as was found when the body had come.
    Ended,
}

/// A tower service for `Router::route_service`. The layers before it put the [`Principal`] of each request into its extensions (a request
/// without one is refused with 401) and its [`crate::net::RequestId`], and on TCP they have looked at `Host` and `Origin` ([`crate::net::Guard`]).
pub fn http_service(backend: Arc<dyn Backend>, seed: HttpSeed) -> HttpService {
    let sessions = Arc::new(Sessions::default());
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_MESSAGE_BYTES)
        .with_cancellation_token(seed.cancel.clone());
    let handlers = {
        let sessions = sessions.clone();
        move || {
            Ok(Handler {
                backend: backend.clone(),
                environment: seed.environment.clone(),
                tools: seed.tools,
                door: Door::Http { sessions: sessions.clone() },
                stop: seed.cancel.clone(),
                announcing: AtomicBool::new(false),
            })
        }
    };
    HttpService {
        rmcp: StreamableHttpService::new(handlers, sessions.clone(), config),
        sessions,
        clock: seed.clock,
        tasks: seed.tasks,
    }
}

/// One MCP endpoint over HTTP. Cheap to clone; all clones share their sessions.
#[derive(Clone)]
pub struct HttpService {
    rmcp: StreamableHttpService<Handler, Sessions>,
    sessions: Arc<Sessions>,
    clock: SharedClock,
    tasks: Tasks,
}

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpService").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

impl tower::Service<Request<Body>> for HttpService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await.unwrap_or_else(|refused| refused)) })
    }
}

impl HttpService {
    async fn answer(&self, mut request: Request<Body>) -> Result<Response<Body>, Response<Body>> {
        let Some(principal) = request.extensions().get::<Principal>() else {
            return Err(refused(StatusCode::UNAUTHORIZED, "Unauthorized: nobody has said who is calling"));
        };
        let (who, leave) = (principal.who.clone(), request.extensions().get::<Leave>().cloned());
        if is_modern(request.headers()) {
            // These versions have no sessions. The header must not reach rmcp, which might still look one up for an `initialize`.
            request.headers_mut().remove(session::HEADER);
        }
        let named = session::id_in(request.headers()).map(SessionId::from);
        let busy = match &named {
            Some(id) => Some(self.sessions.uses(id, &who).ok_or_else(|| self.not_theirs(id))?),
            None => None,
        };
        let said_json = claims_json(request.headers());
        let request = self.receive(request).await?;
        if named.is_none() && envelope::initializes(request.body()) {
            return self.open(request, said_json, who, leave).await;
        }
        let response = self.exchange(request, said_json).await?;
        // rmcp says that of a session that ends while it is asked.
        let has_ended = named.is_some() && response.status() == StatusCode::INTERNAL_SERVER_ERROR;
        if has_ended {
            return Err(ended());
        }
        Ok(response.map(|body| Body::new(Answer { body, busy, taken: None })))
    }

    /// The session doesn't exist, or isn't theirs who name it.
    fn not_theirs(&self, id: &SessionId) -> Response<Body> {
        let mut response = ended();
        if self.sessions.is_owned(id) {
            response.extensions_mut().insert(TurnedAway::OfAnother);
        }
        response
    }

    /// Begins a session. That is gone through with even if whoever asks leaves meanwhile, because a session that is half begun would be
    /// nobody's. It is closed if nobody takes the answer, for nobody knows it then.
    async fn open(
        &self,
        request: Request<Bytes>,
        said_json: bool,
        who: PrincipalRef,
        leave: Option<Leave>,
    ) -> Result<Response<Body>, Response<Body>> {
        let (answer, answered) = oneshot::channel();
        let service = self.clone();
        self.tasks.spawn("mcp initialize", async move {
            let response = match service.exchange(request, said_json).await {
                Ok(response) => Ok(service.bind(response, &who, leave).await),
                refused => refused,
            };
            let _left_meanwhile = answer.send(response);
        });
        let broken =
            |_| refused(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error: no session could be opened");
        answered.await.map_err(broken)?
    }

    /// Waits for the body. Whoever may not be here any more when it has come is refused.
    async fn receive(&self, request: Request<Body>) -> Result<Request<Bytes>, Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = self.read(body).await?;
        if let Some(leave) = parts.extensions.get::<Leave>()
            && !leave.lasts().await
        {
            let mut response = refused(StatusCode::UNAUTHORIZED, "Unauthorized: the key isn't taken any more");
            response.extensions_mut().insert(TurnedAway::Ended);
            return Err(response);
        }
        Ok(Request::from_parts(parts, body))
    }

    /// Lets rmcp answer, except where it calls a body that can't be read a wrong media type.
    async fn exchange(&self, request: Request<Bytes>, said_json: bool) -> Result<Response<Body>, Response<Body>> {
        let body = request.body().clone();
        let response = self.rmcp.handle(request.map(Full::new)).await;
        if said_json && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Err(malformed(&body));
        }
        Ok(response.map(Body::new))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Response<Body>> {
        let reading = Limited::new(body, MAX_MESSAGE_BYTES).collect();
        match self.clock.timeout(BODY_WITHIN, reading).await {
            Some(Ok(collected)) => Ok(collected.to_bytes()),
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("Payload Too Large: the body is longer than {MAX_MESSAGE_BYTES} bytes");
                Err(refused(StatusCode::PAYLOAD_TOO_LARGE, &message))
            }
            Some(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "Bad Request: the body broke off")),
            None => {
                let message = format!("Request Timeout: the body didn't arrive within {} s", BODY_WITHIN.as_secs());
                Err(refused(StatusCode::REQUEST_TIMEOUT, &message))
            }
        }
    }

    /// Notes whose session the response has opened, and has it watched.
    async fn bind(&self, response: Response<Body>, who: &PrincipalRef, leave: Option<Leave>) -> Response<Body> {
        let opened = session::id_in(response.headers()).map(SessionId::from);
        let Some((id, fate)) = opened.and_then(|id| Some((id.clone(), self.sessions.fate(&id)?))) else {
            return response;
        };
        let oldest = self.sessions.bind(&id, who);
        let (taken, is_taken) = oneshot::channel();
        let (service, stopping) = (self.clone(), self.tasks.soft().clone());
        self.tasks.spawn("mcp session", async move {
            let Fate { closed, used } = fate;
            let unknown = service.stays_unknown(is_taken, used);
            let left = async { leave.map_or_else(|| pending().boxed(), |leave| leave.0.ended()).await };
            tokio::select! {
                () = closed.cancelled() => {}
                () = stopping.cancelled() => {}
                () = left => service.close(&id).await,
                () = unknown => service.close(&id).await,
            }
        });
        if let Some(oldest) = oldest {
            self.close(&oldest).await;
        }
        response.map(|body| Body::new(Answer { body, busy: None, taken: Some(taken) }))
    }

    /// Done once it is clear that nobody knows of a session: the answer that has its id was given up, or nobody has used it in time.
    async fn stays_unknown(&self, is_taken: oneshot::Receiver<()>, used: CancellationToken) {
        let given_up = async {
            if is_taken.await.is_ok() {
                pending().await
            }
        };
        tokio::select! {
            biased;
            in_time = self.clock.timeout(USED_WITHIN, used.cancelled()) => if in_time.is_some() { pending().await },
            () = given_up => {}
        }
    }

    async fn close(&self, id: &SessionId) {
        if let Err(error) = self.sessions.close_session(id).await {
            tracing::warn!(%error, "a session could not be closed");
        }
    }
}

/// An answer of a session.
struct Answer {
    body: Body,
    /// The session's, until the answer is over.
    #[expect(dead_code, reason = "held, and not looked at")]
    busy: Option<Busy>,
    /// Of an `initialize`: tells when it is being sent, and is dropped if that never happens.
    taken: Option<oneshot::Sender<()>>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(Some(Ok(_))))
            && let Some(taken) = self.taken.take()
        {
            let _closed_meanwhile = taken.send(());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
impl HttpService {
    pub(super) fn open_sessions(&self) -> usize {
        self.sessions.count()
    }
}

/// Whether the request speaks a version without sessions. Versions are dates, so they compare as text.
fn is_modern(headers: &HeaderMap) -> bool {
    let version = headers.get("mcp-protocol-version").and_then(|value| value.to_str().ok());
    version.is_some_and(|version| version >= ProtocolVersion::NO_INITIALIZE.as_str())
}

fn claims_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// An error below the protocol, as a JSON-RPC error that answers no request (MCP 2025-11-25, "Sending Messages to the Server").
fn refused(status: StatusCode, message: &str) -> Response<Body> {
    (status, axum::Json(envelope::unidentified(message))).into_response()
}

fn ended() -> Response<Body> {
    refused(StatusCode::NOT_FOUND, "Not Found: the session has ended; initialize a new one")
}

fn malformed(body: &[u8]) -> Response<Body> {
    match envelope::refusal(body) {
        Some(answer) => (StatusCode::BAD_REQUEST, axum::Json(answer)).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}
