//! Sharing answers with the pages of other origins, which browsers keep from them without a word of ours: those of `http.allowed_origins`,
//! and no other (Fetch, 3.3 "CORS protocol"). Cookies and the like are never asked for: who is calling says the key alone.

use super::Doors;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What the routes take between them; which of them takes what, it says itself.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");

/// The headers that a page may send, besides those that begin with `mcp-`.
const TAKEN: [&str; 4] = ["accept", "authorization", "content-type", "last-event-id"];

/// What a page may read of an answer, besides its body and what every page may.
const SHOWN: HeaderValue =
    HeaderValue::from_static("Location, Mcp-Session-Id, Retry-After, WWW-Authenticate, X-Request-Id");

/// For how many seconds a browser needn't ask again.
const GOOD_FOR: HeaderValue = HeaderValue::from_static("600");

/// The headers by which an answer is shared.
pub(super) const SHARING: [HeaderName; 3] = [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, VARY];

/// Answers the question whether a listed page may ask, which comes without a key, and lets the page read what it is answered.
pub(super) async fn share(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).filter(|origin| doors.0.guard.lists(origin)).cloned();
    let Some(origin) = origin else { return next.run(request).await };
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match is_preflight {
        true => (StatusCode::NO_CONTENT, permitted(request.headers())).into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    response
}

/// What may be sent, of what was asked for.
fn permitted(asked: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_MAX_AGE, GOOD_FOR),
        (VARY, HeaderValue::from_static("Access-Control-Request-Headers")),
    ]);
    let named = asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|names| names.to_str().ok());
    let named = named.flat_map(|names| names.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let taken = named.filter(|name| TAKEN.contains(&name.as_str()) || name.starts_with("mcp-"));
    if let Ok(taken) = HeaderValue::from_str(&taken.collect::<Vec<_>>().join(", ")) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, taken);
    }
    headers
}
