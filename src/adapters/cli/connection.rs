//! HTTP to a station: to a remote one with a key, or to the owner of the home over its socket.

use super::request::Request;
use crate::error::{Error, ErrorKind, ErrorReport, Result};
use crate::home::{ApiKey, LocalClient};
use crate::net::{OUTBOUND_HINT, check_outbound};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::error::Error as StdError;
use std::sync::Arc;

/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

const WHERE_KEYS_ARE: &str =
    "`stn api-key list` on its machine shows the ids of its keys, `stn status` the file of its local one";

/// A station elsewhere: `--url` with `--key`.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) base: Url,
    pub(super) key: Option<Arc<ApiKey>>,
    pub(super) http: reqwest::Client,
}

/// A way to a station. Each request is a connection of its own or one of a pool: there is nothing to close.
#[derive(Debug, Clone)]
pub(super) enum Connection {
    Remote(Remote),
    Local(LocalClient),
}

/// An answer whose body is still coming.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: BoxStream<'static, Result<Bytes>>,
    /// What to do if it says that the key is missing or wrong. Only a remote station asks for one.
    about_key: Option<String>,
}

/// The cause of an error that stands for a broken connection: whether the request arrived, nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(Box<dyn StdError + Send + Sync>);

/// Whether `error` says that the connection broke before the answer was whole. An error that the station answered with is none of those,
/// whatever its kind.
pub(super) fn is_lost(error: &Error) -> bool {
    StdError::source(error).is_some_and(|cause| cause.is::<Broken>())
}

/// Whether `error` may be that of an owner that ends while another starts.
pub(super) fn passes(error: &Error) -> bool {
    is_lost(error) || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

impl Connection {
    /// Sends `request`. The error of a connection that broke is told by [`is_lost`].
    pub(super) async fn send(&self, request: &Request) -> Result<Answer> {
        match self {
            Self::Remote(remote) => remote.send(request).await,
            Self::Local(client) => local(client, request).await,
        }
    }

    /// The process that owns the home, where that is known.
    pub(super) fn owner(&self) -> Option<u32> {
        match self {
            Self::Remote(_) => None,
            Self::Local(client) => Some(client.owner().pid),
        }
    }
}

impl Remote {
    /// A client of the station at `url`. What is no key isn't sent anywhere.
    pub(super) fn new(url: &str, key: Option<&str>, http: reqwest::Client) -> Result<Self> {
        let wrong = |reason: String| {
            Error::invalid_input(format!("`{url}` is not the address of a station: {reason}"))
                .hint("write it like `https://station.example.org`")
                .field("url")
        };
        let base = Url::parse(url).map_err(|cause| wrong(cause.to_string()))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("it carries a user or a password".into()).hint("give the key with `--key` or STN_KEY"));
        }
        if let Some(route) =
            ["/api/v1", "/mcp"].into_iter().find(|route| base.path().trim_end_matches('/').ends_with(route))
        {
            let hint = format!("leave out `{route}`: the command adds the route that it needs");
            return Err(wrong("it names a route of the station".into()).hint(hint));
        }
        check_outbound(url).map_err(|reason| wrong(reason).hint(OUTBOUND_HINT))?;
        let key = key.map(ApiKey::parse).transpose().map_err(|error| error.hint(about_text(&base)).field("key"))?;
        Ok(Self { base, key: key.map(Arc::new), http })
    }

    async fn send(&self, request: &Request) -> Result<Answer> {
        let mut builder = self.http.request(request.method(), request.url(&self.base)?);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(key) = &self.key {
            builder = builder.bearer_auth(key.reveal().expose_secret());
        }
        if let Some(body) = request.payload()? {
            builder = builder.header("content-type", "application/json").body(body);
        }
        let response = builder.send().await.map_err(|cause| self.unreachable(cause))?;
        let status = response.status().as_u16();
        let broken = |cause| {
            let error = Error::unavailable("the connection to the station broke").hint("try again");
            error.source(Broken(Box::new(cause)))
        };
        let about_key = (status == 401).then(|| self.about_key());
        Ok(Answer { status, body: response.bytes_stream().map_err(broken).boxed(), about_key })
    }

    /// What to do about a key that this station doesn't take.
    fn about_key(&self) -> String {
        let at = shown(&self.base);
        match &self.key {
            None => format!("give a key of the station at `{at}` with `--key` or STN_KEY: {WHERE_KEYS_ARE}"),
            Some(key) => {
                let id = key.id();
                format!("a key belongs to the one station that made it, and `{id}` is none of `{at}`: {WHERE_KEYS_ARE}")
            }
        }
    }

    fn unreachable(&self, cause: reqwest::Error) -> Error {
        let mut reason: &dyn std::error::Error = &cause;
        while let Some(deeper) = reason.source() {
            reason = deeper;
        }
        Error::unavailable(format!("can't reach the station at `{}`: {reason}", self.base))
            .hint("check --url or STN_URL, and that the station is running")
            .source(Broken(Box::new(cause)))
    }
}

/// What to do about a text that is no key.
fn about_text(base: &Url) -> String {
    format!(
        "what `--key` or STN_KEY gives is no key, or not a whole one: it looks like `stn_key_<id>_<secret>`. For the \
         station at `{}`, {WHERE_KEYS_ARE}",
        shown(base)
    )
}

fn shown(base: &Url) -> &str {
    base.as_str().trim_end_matches('/')
}

async fn local(client: &LocalClient, request: &Request) -> Result<Answer> {
    // Only path and query of the address are sent; the host is the socket.
    let base = Url::parse("http://localhost").map_err(|cause| Error::internal("no base address").source(cause))?;
    let url = request.url(&base)?;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = request.payload()?;
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    let body = body.unwrap_or_default();
    let response = client.request(request.method(), &path, &headers, body).await.map_err(lost)?;
    Ok(Answer { status: response.status.as_u16(), body: response.body.map_err(lost).boxed(), about_key: None })
}

/// Over the socket every status is an answer, so that `unavailable` says that the owner has gone.
fn lost(error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let marked = Error::unavailable(error.message()).hint(error.hint_text().unwrap_or("try again"));
    marked.source(Broken(Box::new(error)))
}

impl Answer {
    /// The answer if its status is 2xx, else the error that its body reports.
    pub(super) async fn success(mut self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let (status, about_key) = (self.status, self.about_key.take());
        let body = self.bytes().await?;
        let error = reported(status, &body);
        // The station speaks to those who write requests; here the key is a flag. What has become of a key it says itself.
        let speaks_of_header = error.hint_text().is_some_and(|hint| hint.contains("Authorization"));
        Err(match about_key.filter(|_| speaks_of_header) {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    /// The JSON of the body.
    pub(super) async fn json(self) -> Result<Value> {
        let body = self.success().await?.bytes().await?;
        serde_json::from_slice(&body).map_err(|cause| {
            Error::unavailable("the answer is not JSON: this doesn't look like a station")
                .hint("check --url or STN_URL")
                .source(cause)
        })
    }

    async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.body.next().await {
            whole.extend_from_slice(&piece?);
            if whole.len() > ANSWER_BYTES {
                return Err(Error::payload_too_large(format!("the answer is longer than {ANSWER_BYTES} bytes")));
            }
        }
        Ok(whole)
    }
}

/// The error in a problem document (RFC 9457); of something else, what the status says.
fn reported(status: u16, body: &[u8]) -> Error {
    if let Ok(report) = serde_json::from_slice::<ErrorReport>(body) {
        return Error::from(report);
    }
    let kind = match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        413 => ErrorKind::PayloadTooLarge,
        429 => ErrorKind::RateLimited,
        504 => ErrorKind::Timeout,
        400..500 => ErrorKind::InvalidInput,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the answer is HTTP {status}, and doesn't look like a station's"))
        .hint("check --url or STN_URL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn remote(url: &str) -> Result<Remote> {
        Remote::new(url, None, crate::net::http_client().unwrap())
    }

    #[test]
    fn a_station_is_reached_over_https_or_on_this_machine_and_its_address_carries_no_credentials() {
        for good in [
            "https://station",
            "https://192.0.2.1/base",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost",
        ] {
            assert!(remote(good).is_ok(), "{good}");
        }
        for (wrong, reason, fix) in [
            ("station", "relative URL", "write it like"),
            ("ftp://station", "no http or https URL", "use https"),
            ("http://station", "plain http to another machine", "use https"),
            ("http://192.0.2.1:8080", "plain http to another machine", "use https"),
            ("https://user:key@station", "a user or a password", "`--key`"),
        ] {
            let error = remote(wrong).unwrap_err();
            assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidInput, Some("url")), "{wrong}");
            assert!(error.message().contains(&format!("`{wrong}`")) && error.message().contains(reason), "{error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains(fix)), "{error}");
        }
    }

    #[test]
    fn a_problem_document_becomes_the_error_it_was() {
        let document = json!({
            "type": "urn:station:error:not_found", "title": "Not found", "status": 404, "detail": "agent `x` doesn't exist",
            "kind": "not_found", "message": "agent `x` doesn't exist", "hint": "stn agent list", "field": "agent",
            "details": null, "request_id": "r1"
        });
        let error = reported(404, document.to_string().as_bytes());
        assert_eq!((error.kind(), error.hint_text()), (ErrorKind::NotFound, Some("stn agent list")));
        assert_eq!(error.report().request_id.as_deref(), Some("r1"));
        assert_eq!(reported(502, b"<html>").kind(), ErrorKind::Unavailable);
        assert!(!is_lost(&reported(503, document.to_string().as_bytes())));
        assert_eq!(reported(401, b"").kind(), ErrorKind::Unauthenticated);
    }

    /// What is said of a 401 of the station at `http://localhost/base/` that came with `hint`.
    async fn unauthenticated(key: Option<&str>, hint: &str) -> Error {
        let remote = Remote::new("http://localhost/base/", key, crate::net::http_client().unwrap()).unwrap();
        let report =
            serde_json::to_vec(&Error::unauthenticated("the key is not valid here").hint(hint).report()).unwrap();
        let body = futures_util::stream::once(async { Ok(Bytes::from(report)) }).boxed();
        let answer = Answer { status: 401, body, about_key: Some(remote.about_key()) };
        answer.success().await.err().unwrap()
    }

    #[tokio::test]
    async fn whose_key_isn_t_taken_is_told_which_station_that_was_and_how_to_find_its_keys() {
        let key = ApiKey::generate().unwrap();
        let text = key.reveal();
        let header = "send `Authorization: Bearer <key>`";
        for (given, told) in [
            (None, "give a key of the station at `http://localhost/base` with `--key` or STN_KEY"),
            (Some(text.expose_secret()), "a key belongs to the one station that made it"),
        ] {
            let error = unauthenticated(given, header).await;
            let hint = error.hint_text().unwrap();
            assert_eq!(error.message(), "the key is not valid here");
            assert!(hint.contains(told) && hint.contains("`http://localhost/base`"), "{hint}");
            assert!(hint.contains("`stn api-key list`") && !hint.contains("Authorization"), "{hint}");
            assert_eq!(hint.contains(key.id()), told.starts_with("a key belongs"), "{hint}");
        }
        let deleted = unauthenticated(Some(text.expose_secret()), "an admin can make another one").await;
        assert_eq!(deleted.hint_text(), Some("an admin can make another one"));
    }

    #[test]
    fn what_is_no_key_is_told_so_before_anything_is_sent_and_is_not_repeated() {
        let key = ApiKey::generate().unwrap().reveal();
        let (whole, long) = (key.expose_secret(), "k".repeat(100_000));
        for wrong in [&whole[..40], &whole.replacen('_', "\n", 1), &format!("{whole}\n{whole}"), &long, "Bearer", ""] {
            let refused = Remote::new("http://localhost/base/", Some(wrong), crate::net::http_client().unwrap());
            let error = refused.unwrap_err();
            assert_eq!((error.kind(), error.field_name()), (ErrorKind::Unauthenticated, Some("key")), "{error}");
            let hint = error.hint_text().unwrap();
            assert!(hint.contains("`stn_key_<id>_<secret>`") && hint.contains("`http://localhost/base`"), "{hint}");
            assert!(
                !format!("{error:?}").contains(&whole[8..30]) && !format!("{error:?}").contains("kkk"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn an_owner_that_is_gone_is_a_lost_connection_and_a_refusal_is_not() {
        let gone = lost(Error::unavailable("the station has ended").hint("try again"));
        assert_eq!((gone.message(), gone.hint_text()), ("the station has ended", Some("try again")));
        assert!(is_lost(&gone) && !is_lost(&lost(Error::permission_denied("not yours"))));
    }
}
