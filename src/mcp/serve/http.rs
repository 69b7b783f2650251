//! Streamable HTTP: what stands between the listener and rmcp.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use rmcp::model::ProtocolVersion;
use rmcp::transport::streamable_http_server::{SessionManager, StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::handler::{Door, Handler};
use super::session::{self, Sessions};
use super::{Backend, MAX_MESSAGE_BYTES, ToolSet, envelope};
use crate::domain::{Name, Principal, PrincipalRef};

/// Names by which a machine reaches itself. A request under one of them can't have been rebound by DNS.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What one mount point serves.
#[derive(Debug, Clone, Default)]
pub struct HttpSeed {
    /// The environment that the path is bound to.
    pub environment: Option<Name>,
    pub tools: ToolSet,
    /// `Host` values that are served besides the loopback names: `example.com` with any port, or `example.com:8080`.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values that are served besides loopback origins: `https://app.example.com:443`, or `https://app.example.com:*`.
    pub allowed_origins: Vec<String>,
    /// Ends all sessions and streams.
    pub cancel: CancellationToken,
}

/// A tower service for `Router::route_service`. The layers before it put the [`Principal`] of each request into its extensions; a request
/// without one is refused with 401.
pub fn http_service(backend: Arc<dyn Backend>, seed: HttpSeed) -> HttpService {
    let sessions = Arc::new(Sessions::default());
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(LOOPBACK.into_iter().map(str::to_owned).chain(seed.allowed_hosts))
        .with_allowed_origins(loopback_origins().chain(seed.allowed_origins))
        .enforce_origin_validation()
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
    HttpService { rmcp: StreamableHttpService::new(handlers, sessions.clone(), config), sessions }
}

fn loopback_origins() -> impl Iterator<Item = String> {
    LOOPBACK.into_iter().flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:*")))
}

/// One MCP endpoint over HTTP. Cheap to clone; all clones share their sessions.
#[derive(Clone)]
pub struct HttpService {
    rmcp: StreamableHttpService<Handler, Sessions>,
    sessions: Arc<Sessions>,
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
            return Err((StatusCode::UNAUTHORIZED, "Unauthorized").into_response());
        };
        let who = principal.who.clone();
        if is_modern(request.headers()) {
            // These versions have no sessions. The header must not reach rmcp, which might still look one up for an `initialize`.
            request.headers_mut().remove(session::HEADER);
        }
        let opens = match session::id_in(request.headers()) {
            Some(id) if !self.sessions.belongs(id, &who) => {
                return Err((StatusCode::NOT_FOUND, "Not Found: Session not found").into_response());
            }
            named => named.is_none(),
        };
        let response = self.exchange(request).await?;
        if opens {
            self.bind(response.headers(), &who).await;
        }
        Ok(response)
    }

    /// Lets rmcp answer, except where it calls a body that can't be read a wrong media type.
    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, Response<Body>> {
        let said_json = claims_json(request.headers());
        let (parts, body) = request.into_parts();
        let body = read(body).await?;
        let response = self.rmcp.handle(Request::from_parts(parts, Full::new(body.clone()))).await;
        if said_json && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Err(malformed(&body));
        }
        Ok(response.map(Body::new))
    }

    /// Notes whose session this is, if the response opens one.
    async fn bind(&self, response: &HeaderMap, who: &PrincipalRef) {
        let Some(id) = session::id_in(response) else { return };
        if let Some(oldest) = self.sessions.bind(id, who)
            && let Err(error) = self.sessions.close_session(&oldest).await
        {
            tracing::warn!(%error, "a session could not be closed");
        }
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

async fn read(body: Body) -> Result<Bytes, Response<Body>> {
    let collected = Limited::new(body, MAX_MESSAGE_BYTES).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("Payload Too Large: the body is longer than {MAX_MESSAGE_BYTES} bytes");
            return (StatusCode::PAYLOAD_TOO_LARGE, message).into_response();
        }
        (StatusCode::BAD_REQUEST, "Bad Request: the body broke off").into_response()
    })
}

fn malformed(body: &[u8]) -> Response<Body> {
    match envelope::refusal(body) {
        Some(answer) => (StatusCode::BAD_REQUEST, axum::Json(answer)).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}
