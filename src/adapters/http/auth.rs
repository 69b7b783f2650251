//! Who is calling over TCP: the bearer of a key, or nobody.

use super::keys::{self, Entered, Lease, Refused};
use super::{Doors, RequestId};
use crate::adapters::rest::{Problem, query_of};
use crate::domain::{AuditEntry, AuditOutcome, Cause, Origin, PrincipalKind, PrincipalRef};
use crate::error::{Error, ErrorKind};
use crate::mcp::serve::Leave;
use crate::tools::model::ProviderVariables;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// By which door a request came, beside its principal.
#[derive(Debug, Clone)]
pub(in crate::adapters) struct Arrival {
    pub(in crate::adapters) origin: Origin,
    /// Provider keys that a local caller brought along.
    pub(in crate::adapters) variables: Option<Arc<ProviderVariables>>,
}

/// Where a TCP connection comes from; put into its requests by the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) IpAddr);

/// Lets in what is meant for this station: see [`crate::net::Guard`].
pub(super) async fn admit(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    match doors.0.guard.admit(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Lets in who has a key.
pub(super) async fn require_key(State(doors): State<Doors>, mut request: Request, next: Next) -> Response {
    if let Err(error) = no_key_in_query(request.uri()) {
        return Problem::from(error).into_response();
    }
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let source = request.extensions().get::<Source>().map(|source| source.0);
    match keys::enter(&doors, bearer_of(request.headers()), source).await {
        Ok(Entered { principal, lease }) => {
            request.extensions_mut().insert(principal);
            request.extensions_mut().insert(Arrival { origin: Origin::Rest, variables: None });
            let Some(lease) = lease else { return next.run(request).await };
            let of_sessions = lease.clone();
            request.extensions_mut().insert(Leave::new(move || of_sessions.clone().ended().boxed()));
            until(next.run(request).await, lease)
        }
        Err(refused) => {
            let (response, entry) = refusal(&doors, &request, refused);
            if let Some(entry) = entry
                && let Err(error) = doors.station.control.audit(entry).await
            {
                tracing::error!(?error, "a failed login could not be recorded");
            }
            response
        }
    }
}

/// A stream ends when its caller may not be here any more; an answer that is whole is sent.
fn until(response: Response, lease: Lease) -> Response {
    response.map(|body| {
        if HttpBody::size_hint(&body).exact().is_some() {
            return body;
        }
        Body::from_stream(body.into_data_stream().take_until(lease.ended()))
    })
}

/// Routes for those who can't have a key, or don't know yet how to get one.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz") || path.starts_with("/.well-known/")
}

fn bearer_of(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// A key in an address ends up in logs and histories.
fn no_key_in_query(uri: &Uri) -> Result<(), Error> {
    let given = query_of(uri)?.into_iter().find(|(name, _)| matches!(name.as_str(), "token" | "access_token"));
    match given {
        None => Ok(()),
        Some((name, _)) => Err(Error::invalid_input(format!("a key doesn't belong in the address (`?{name}=`)"))
            .hint("send it as `Authorization: Bearer <key>`, and treat this one as leaked")
            .field(name)),
    }
}

/// What a request that isn't let in is answered with, and what the audit says of it unless its source has said it too often.
fn refusal(doors: &Doors, request: &Request, refused: Refused) -> (Response, Option<AuditEntry>) {
    if refused.error.kind() == ErrorKind::Unavailable {
        return (Problem::from(refused.error).into_response(), None);
    }
    let source = request.extensions().get::<Source>().map(|source| source.0);
    if let Err(wait) = doors.0.failures.fail(source, doors.station.clock.now()) {
        return (held_back(wait), None);
    }
    let challenge = match bearer_of(request.headers()) {
        None => "Bearer realm=\"station\"",
        Some(_) => "Bearer realm=\"station\", error=\"invalid_token\"",
    };
    let entry = failed_login(doors, request, &refused, source);
    let is_unknown = refused.error.kind() == ErrorKind::Unauthenticated;
    let mut response = Problem::from(refused.error).into_response();
    if is_unknown {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    (response, Some(entry))
}

fn held_back(wait: Duration) -> Response {
    let seconds = wait.as_secs().max(1);
    let error = Error::rate_limited("too many requests without a valid key from this address")
        .hint(format!("wait {seconds} s"));
    let mut response = Problem::from(error).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn failed_login(doors: &Doors, request: &Request, refused: &Refused, source: Option<IpAddr>) -> AuditEntry {
    let path = request.uri().path();
    let id = refused.key.clone().unwrap_or_else(|| "-".to_owned());
    AuditEntry {
        at: doors.station.clock.now(),
        principal: PrincipalRef { kind: PrincipalKind::ApiKey, id, name: "unknown".into() },
        origin: if path == "/mcp" || path.starts_with("/mcp/") { Origin::McpHttp } else { Origin::Rest },
        cause: Cause::call(),
        action: "station.login".into(),
        target: None,
        environment: None,
        outcome: AuditOutcome::Denied,
        reason: Some(refused.reason.to_owned()),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default(),
        config_revision: None,
        details: source.map(|source| serde_json::json!({ "source": source.to_string() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_and_well_known_routes_are_open() {
        for open in ["/healthz", "/readyz", "/.well-known/oauth-protected-resource/mcp"] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["/", "/healthz/", "/api/v1/agents", "/mcp", "/.well-known", "//healthz"] {
            assert!(!is_open(closed), "{closed}");
        }
    }

    #[test]
    fn a_bearer_is_read_whatever_the_case_of_its_scheme() {
        let with = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        assert_eq!(bearer_of(&with("bearer k")), Some("k"));
        assert_eq!(bearer_of(&with("Basic k")), None);
        assert_eq!(bearer_of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_key_in_the_address_is_refused() {
        assert!(no_key_in_query(&Uri::from_static("/api/v1/agents?limit=1&token=k")).is_err());
        assert!(no_key_in_query(&Uri::from_static("/api/v1/agents?limit=1")).is_ok());
    }
}
