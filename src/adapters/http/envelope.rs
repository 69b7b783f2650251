//! The outermost layer: every request gets a number and counts as somebody being here; every error becomes a problem document.

use super::{Doors, cors};
use crate::adapters::rest::Problem;
use crate::error::Error;
use crate::net::RequestId;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Without randomness the request still gets an answer, and the time tells it apart well enough.
fn numbered(doors: &Doors) -> RequestId {
    RequestId::new(getrandom::u64().unwrap_or_else(|_| doors.station.clock.now().as_millis().unsigned_abs()))
}

pub(super) async fn number_and_render(State(doors): State<Doors>, mut request: Request, next: Next) -> Response {
    let active = doors.activity.enter();
    let id = numbered(&doors);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if is_bare_refusal(&response) {
        let error = Error::invalid_input("this route doesn't take that method")
            .hint("the `Allow` header lists those that it does");
        let mut before = std::mem::take(response.headers_mut());
        response = Problem::with_status(error, StatusCode::METHOD_NOT_ALLOWED).into_response();
        let kept = [ALLOW].into_iter().chain(cors::SHARING);
        response.headers_mut().extend(kept.filter_map(|name| Some((name.clone(), before.remove(name)?))));
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = problem.render(id.as_str()).into();
        response.headers_mut().insert(CONTENT_TYPE, Problem::MEDIA_TYPE);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.map(|body| active.during(body))
}

/// The router says no to a method without a word, and so does the MCP endpoint. The router adds the `Allow` header after every layer;
/// the endpoint has added its own.
fn is_bare_refusal(response: &Response) -> bool {
    response.status() == StatusCode::METHOD_NOT_ALLOWED
        && !response.headers().contains_key(CONTENT_TYPE)
        && response.extensions().get::<Problem>().is_none()
}

/// What a panic is answered with; its text goes to the log.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("no text"), "a request panicked");
    Problem::from(Error::internal("something broke while this was answered").hint("the log has the cause"))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error_that_doesn_t_tell_its_text() {
        let response = panicked(Box::new("secret".to_owned()));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let document = String::from_utf8(response.extensions().get::<Problem>().unwrap().render("r1")).unwrap();
        assert!(document.contains("\"internal\"") && document.contains("r1") && !document.contains("secret"));
    }
}
