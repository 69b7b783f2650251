//! Errors as RFC 9457 problem documents.

use crate::error::{Error, ErrorKind, ErrorReport};
use crate::mcp::serve::TurnedAway;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error on its way out. The outermost layer writes the document, because only there the request's number is known.
#[derive(Debug, Clone)]
pub(in crate::adapters) struct Problem {
    status: StatusCode,
    report: Box<ErrorReport>,
    turned_away: Option<TurnedAway>,
}

/// What is written: the members of RFC 9457, and beside them those that every door of Station gives.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    kind: ErrorKind,
    message: &'a str,
    hint: Option<&'a str>,
    field: Option<&'a str>,
    details: Option<&'a serde_json::Value>,
    request_id: &'a str,
}

impl Problem {
    pub(in crate::adapters) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

    /// A problem whose status says more than its kind does (405, 408, 415).
    pub(in crate::adapters) fn with_status(error: Error, status: StatusCode) -> Self {
        Self { status, report: Box::new(error.report()), turned_away: None }
    }

    /// Tells whoever let the request in.
    pub(in crate::adapters) fn turned_away(self, why: TurnedAway) -> Self {
        Self { turned_away: Some(why), ..self }
    }

    /// The document.
    pub(in crate::adapters) fn render(&self, request_id: &str) -> Vec<u8> {
        let report = &self.report;
        let document = Document {
            r#type: format!("urn:station:error:{}", report.kind),
            title: title(report.kind),
            status: self.status.as_u16(),
            detail: &report.message,
            kind: report.kind,
            message: &report.message,
            hint: report.hint.as_deref(),
            field: report.field.as_deref(),
            details: report.details.as_ref(),
            request_id,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = status(error.kind());
        Self::with_status(error, status)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.report.kind == ErrorKind::RateLimited {
            let told = self.report.details.as_ref().and_then(|details| details["retry_after_ms"].as_u64());
            let seconds = told.map_or(1, |ms| ms.div_ceil(1000));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(why) = self.turned_away {
            response.extensions_mut().insert(why);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The table of `crate::error`. `cancelled` has no status of its own: it reaches only callers that have gone, or a station that stops.
const fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable | ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn title(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "Invalid input",
        ErrorKind::Unauthenticated => "Unauthenticated",
        ErrorKind::PermissionDenied => "Permission denied",
        ErrorKind::NotFound => "Not found",
        ErrorKind::NotAcceptable => "Not acceptable",
        ErrorKind::Conflict => "Conflict",
        ErrorKind::PayloadTooLarge => "Payload too large",
        ErrorKind::RateLimited => "Rate limited",
        ErrorKind::Unavailable => "Unavailable",
        ErrorKind::Timeout => "Timeout",
        ErrorKind::Cancelled => "Cancelled",
        ErrorKind::Internal => "Internal error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_problem_is_rfc_9457_and_reads_back_as_the_error_it_was() {
        let error = Error::not_found("agent `x` doesn't exist").hint("did you mean `y`?").field("agent");
        let report = error.report();
        let problem = Problem::from(error);
        assert_eq!(problem.status, StatusCode::NOT_FOUND);
        let document: Value = serde_json::from_slice(&problem.render("r1")).unwrap();
        let rfc = json!(["urn:station:error:not_found", "Not found", 404, "agent `x` doesn't exist"]);
        assert_eq!(json!([document["type"], document["title"], document["status"], document["detail"]]), rfc);
        let back: ErrorReport = serde_json::from_value(document).unwrap();
        assert_eq!(back, ErrorReport { request_id: Some("r1".into()), ..report });
    }

    #[test]
    fn whoever_is_held_back_is_told_for_how_long() {
        let response = Problem::from(Error::rate_limited("the queue is full")).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let told = Error::rate_limited("too often").details(json!({ "retry_after_ms": 41_500 }));
        assert_eq!(Problem::from(told).into_response().headers()[RETRY_AFTER], "42");
    }
}
