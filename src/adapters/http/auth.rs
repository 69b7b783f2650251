//! Who is calling over TCP: the bearer of a key, or nobody.

use super::Doors;
use super::keys::{self, Entered, Lease, Refused};
use super::places::Guest;
use super::source::{Source, counted_as, source};
use crate::adapters::rest::{Problem, query_of};
use crate::clock::ClockExt;
use crate::domain::{AuditEntry, AuditOutcome, Cause, Origin, PrincipalRef};
use crate::error::{Error, ErrorKind};
use crate::mcp::serve::{Leave, Stay, TurnedAway};
use crate::net::RequestId;
use crate::tools::NOTHING_FURTHER;
use crate::tools::model::ProviderVariables;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// By which door a request came, beside its principal.
#[derive(Debug, Clone)]
pub(in crate::adapters) struct Arrival {
    pub(in crate::adapters) origin: Origin,
    /// Provider keys that a local caller brought along.
    pub(in crate::adapters) variables: Option<Arc<ProviderVariables>>,
}

/// What of a request says who is calling, and what the audit tells of one that isn't let in.
struct Asked {
    authorization: Option<HeaderValue>,
    source: Option<IpAddr>,
    origin: Origin,
    request_id: String,
}

impl Asked {
    fn of(request: &Request, doors: &Doors) -> Result<Self, Error> {
        let (path, extensions) = (request.uri().path(), request.extensions());
        let peer = extensions.get::<Source>().map(|peer| peer.0);
        Ok(Self {
            authorization: request.headers().get(AUTHORIZATION).cloned(),
            source: source(peer, request.headers(), doors.station.settings.http.behind_proxy)?,
            origin: if path == "/mcp" || path.starts_with("/mcp/") { Origin::McpHttp } else { Origin::Rest },
            request_id: extensions.get::<RequestId>().map(RequestId::to_string).unwrap_or_default(),
        })
    }

    fn bearer(&self) -> Option<&str> {
        bearer_of(self.authorization.as_ref()?)
    }
}

fn bearer_of(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Lets in what is meant for this station: see [`crate::net::Guard`].
pub(super) async fn admit(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let Err(error) = doors.0.guard.admit(request.uri(), request.headers()) else { return next.run(request).await };
    // Of those who only ask whether the station is well, nobody wants to know who they are.
    if is_open(request.uri().path()) {
        return Problem::from(error).into_response();
    }
    match Asked::of(&request, &doors) {
        Ok(asked) => turn_away(&doors, &asked, error).await,
        Err(unsaid) => Problem::from(unsaid).into_response(),
    }
}

/// How long an answer may still take once its key's lease has ended. A request may be what ended it, such as one that deletes the key it
/// came with, and is told so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Lets in who has a key.
pub(super) async fn require_key(State(doors): State<Doors>, mut request: Request, next: Next) -> Response {
    let query = match query_of(request.uri()) {
        Ok(query) => query,
        Err(error) => return Problem::from(error).into_response(),
    };
    let well_put = no_key_in(query).and_then(|()| one_key(request.headers()));
    if is_open(request.uri().path()) {
        return match well_put {
            Ok(()) => next.run(request).await,
            Err(error) => Problem::from(error).into_response(),
        };
    }
    let asked = match Asked::of(&request, &doors) {
        Ok(asked) => asked,
        Err(error) => return Problem::from(error).into_response(),
    };
    if let Err(error) = well_put {
        return turn_away(&doors, &asked, error).await;
    }
    match keys::enter(&doors, asked.bearer(), asked.source).await {
        Ok(Entered { principal, lease }) => {
            if let Some(guest) = request.extensions().get::<Guest>() {
                guest.stays();
            }
            let who = principal.who.clone();
            request.extensions_mut().insert(principal);
            request.extensions_mut().insert(Arrival { origin: Origin::Rest, variables: None });
            let Some(lease) = lease else { return noted(&doors, &asked, &who, next.run(request).await).await };
            request.extensions_mut().insert(Leave::new(lease.clone()));
            match while_held(&doors, &lease, next.run(request)).await {
                Some(response) => until(challenged(noted(&doors, &asked, &who, response).await), &lease),
                None => left(&doors, &asked).await,
            }
        }
        Err(refused) => refuse(&doors, &asked, refused).await,
    }
}

/// The answer to somebody who was let in, who may have asked for what is another's.
async fn noted(doors: &Doors, asked: &Asked, who: &PrincipalRef, response: Response) -> Response {
    if response.extensions().get() == Some(&TurnedAway::OfAnother) {
        // Also where no further row is written, the answer is the one to an id that nobody has.
        let _held_back = record(doors, asked, who, true, "not_found: the session of another principal").await;
    }
    response
}

/// The answer, unless its caller may not be here any more before it has come. What has begun is finished all the same, if it changes
/// something, and given up if it only looks.
async fn while_held(doors: &Doors, lease: &Lease, answering: impl Future<Output = Response>) -> Option<Response> {
    let mut answering = pin!(answering);
    let answered = tokio::select! {
        biased;
        response = &mut answering => Some(response),
        () = lease.ended() => doors.station.clock.timeout(FAREWELL, answering).await,
    };
    answered.filter(|response| response.extensions().get() != Some(&TurnedAway::Ended))
}

/// An act may find that its key has been ended, and every 401 names what it wants (RFC 9110, 11.6.1).
fn challenged(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().entry(WWW_AUTHENTICATE).or_insert(HeaderValue::from_static(WRONG_KEY));
    }
    response
}

/// A stream ends when its caller may not be here any more; an answer that is whole is sent.
fn until(response: Response, lease: &Lease) -> Response {
    response.map(|body| {
        if HttpBody::size_hint(&body).exact().is_some() {
            return body;
        }
        Body::from_stream(body.into_data_stream().take_until(lease.ended()))
    })
}

/// What a request is answered with whose key was ended, or given other rights, while it was under way.
async fn left(doors: &Doors, asked: &Asked) -> Response {
    match keys::enter(doors, asked.bearer(), asked.source).await {
        Err(refused) => refuse(doors, asked, refused).await,
        Ok(_) => {
            let error = Error::conflict("what the key may do was changed while it was asking");
            Problem::from(error.hint("look whether anything was done, then ask again")).into_response()
        }
    }
}

/// Routes for those who can't have a key, or don't know yet how to get one.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz") || path.starts_with("/.well-known/")
}

/// A key in an address ends up in logs and histories.
fn no_key_in(query: Vec<(String, String)>) -> Result<(), Error> {
    let given = query.into_iter().find(|(name, _)| matches!(name.as_str(), "token" | "access_token"));
    match given {
        None => Ok(()),
        Some((name, _)) => Err(Error::invalid_input(format!("a key doesn't belong in the address (`?{name}=`)"))
            .hint("send it as `Authorization: Bearer <key>`, and treat this one as leaked")
            .field(name)),
    }
}

/// Of two keys nobody would know which one counts.
fn one_key(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get_all(AUTHORIZATION).iter().nth(1) {
        None => Ok(()),
        Some(_) => Err(Error::invalid_input("the request has more than one `Authorization` header")
            .hint("send one key")
            .field(AUTHORIZATION.as_str())),
    }
}

/// Answers a request that isn't let in. The audit tells of it unless that was said too often.
async fn refuse(doors: &Doors, asked: &Asked, refused: Refused) -> Response {
    if refused.error.kind() == ErrorKind::Unavailable {
        return Problem::from(refused.error).into_response();
    }
    if let Err(wait) = record(doors, asked, &refused.who, refused.is_proved, refused.reason).await {
        let message = match refused.is_proved {
            true => "too many requests with this key, which isn't taken here",
            false => "too many requests without a valid key from this address",
        };
        return held_back(wait, message);
    }
    let challenge = match asked.bearer() {
        None => "Bearer realm=\"station\"",
        Some(_) => WRONG_KEY,
    };
    let is_unknown = refused.error.kind() == ErrorKind::Unauthenticated;
    let mut response = Problem::from(refused.error).into_response();
    if is_unknown {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// Answers a request that is refused whatever key it has, as one of nobody who is known. It says what is wrong also when the audit hears no
/// more of it.
async fn turn_away(doors: &Doors, asked: &Asked, error: Error) -> Response {
    let reason = format!("{}: {}", error.kind(), error.message());
    let _unrecorded = record(doors, asked, &keys::unknown(None), false, &reason).await;
    Problem::from(error).into_response()
}

/// What is answered to a key that isn't taken (RFC 6750, 3).
const WRONG_KEY: &str = "Bearer realm=\"station\", error=\"invalid_token\"";

fn held_back(wait: Duration, message: &str) -> Response {
    let seconds = wait.as_secs().max(1);
    let error = Error::rate_limited(message)
        .hint(format!("wait {seconds} s"))
        .details(serde_json::json!({ "retry_after_ms": seconds * 1000 }));
    Problem::from(error).into_response()
}

/// Writes down that `who` was refused. An error is the time for which that isn't written down any more, of this source, or of `who` if that
/// is proved.
async fn record(
    doors: &Doors,
    asked: &Asked,
    who: &PrincipalRef,
    is_proved: bool,
    reason: &str,
) -> Result<(), Duration> {
    let now = doors.station.clock.now();
    let left = match is_proved {
        true => doors.0.known_failures.fail(Some(who.id.clone()), now),
        false => doors.0.failures.fail(asked.source.map(counted_as), now),
    }?;
    let further = if left == 0 { NOTHING_FURTHER } else { "" };
    let entry = AuditEntry {
        at: now,
        principal: who.clone(),
        origin: asked.origin,
        cause: Cause::call(),
        action: "station.login".into(),
        target: None,
        environment: None,
        outcome: AuditOutcome::Denied,
        reason: Some(format!("{reason}{further}")),
        request_id: asked.request_id.clone(),
        config_revision: None,
        details: asked.source.map(|source| serde_json::json!({ "source": source.to_string() })),
    };
    if let Err(error) = doors.station.control.audit(entry).await {
        tracing::error!(?error, "a failed login could not be recorded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Uri;
    use std::str::FromStr;

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
        for (value, bearer) in [("bearer k", Some("k")), ("Bearer  k ", Some("k")), ("Basic k", None), ("k", None)] {
            assert_eq!(bearer_of(&HeaderValue::from_static(value)), bearer, "{value}");
        }
    }

    #[test]
    fn a_key_in_the_address_is_refused() {
        let query = |text| query_of(&Uri::from_str(text).unwrap()).unwrap();
        assert!(no_key_in(query("/api/v1/agents?limit=1&token=k")).is_err());
        assert!(no_key_in(query("/api/v1/agents?limit=1")).is_ok());
    }
}
