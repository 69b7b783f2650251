//! Reading a request's JSON body.

use super::Problem;
use crate::clock::{ClockExt, SharedClock};
use crate::error::Error;
use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest body. It leaves room for tools to say themselves that a field is too long.
pub(super) const MAX_BODY_BYTES: usize = 10 * 1024 * 1024 + 512 * 1024;

/// How long a client may take to send it.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// The fields of the body; none when there is no body.
pub(super) async fn fields(
    headers: &HeaderMap,
    body: Body,
    clock: &SharedClock,
) -> Result<Map<String, Value>, Problem> {
    if announced(headers).is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_long());
    }
    let reading = Limited::new(body, MAX_BODY_BYTES).collect();
    let Some(read) = clock.timeout(BODY_WITHIN, reading).await else {
        let error = Error::timeout(format!("the body didn't arrive within {} s", BODY_WITHIN.as_secs()));
        return Err(Problem::with_status(error, StatusCode::REQUEST_TIMEOUT));
    };
    let bytes = read.map_err(|cause| match cause.is::<LengthLimitError>() {
        true => too_long(),
        false => Error::invalid_input("the body broke off").into(),
    })?;
    parse(headers, &bytes.to_bytes())
}

fn parse(headers: &HeaderMap, bytes: &Bytes) -> Result<Map<String, Value>, Problem> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    if !is_json(headers) {
        let given =
            headers.get(CONTENT_TYPE).map_or("no content type".into(), |given| format!("content type {given:?}"));
        let error =
            Error::not_acceptable(format!("the body has {given}")).hint("send `Content-Type: application/json`");
        return Err(Problem::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::invalid_input("the body must be a JSON object").into()),
        Err(cause) => Err(Error::invalid_input(format!("the body is not valid JSON: {cause}")).into()),
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn too_long() -> Problem {
    Error::payload_too_large(format!("the body is longer than {MAX_BODY_BYTES} bytes")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;
    use axum::http::HeaderValue;
    use axum::response::IntoResponse;

    async fn status_of(content_type: &'static str, body: impl Into<Body>) -> u16 {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let clock: SharedClock = ManualClock::at(Timestamp::from_millis(0));
        match fields(&headers, body.into(), &clock).await {
            Ok(_) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    #[tokio::test]
    async fn a_body_is_a_json_object_of_bounded_length_or_nothing() {
        assert_eq!(status_of("application/json; charset=utf-8", "{\"a\":1}").await, 200);
        assert_eq!(status_of("application/merge-patch+json", "{}").await, 200);
        assert_eq!(status_of("text/plain", "").await, 200);
        assert_eq!(status_of("application/x-www-form-urlencoded", "a=1").await, 415);
        assert_eq!(status_of("application/json", "[]").await, 400);
        assert_eq!(status_of("application/json", "{").await, 400);
        assert_eq!(status_of("application/json", vec![b' '; MAX_BODY_BYTES + 1]).await, 413);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let manual = ManualClock::at(Timestamp::from_millis(0));
        let clock: SharedClock = manual.clone();
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let headers = HeaderMap::new();
        let reading = fields(&headers, endless, &clock);
        let (read, ()) = tokio::join!(reading, async { manual.advance(BODY_WITHIN) });
        assert_eq!(read.unwrap_err().into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
