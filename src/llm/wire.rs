//! One request to a provider and its answer, under a limit of silence. What is in them is the dialects' business.

use super::body::{Assembly, Body, BodyFault};
use super::error::{Failure, Fault, ProviderError, Retry, shown};
use super::retry::{RetryBudget, allowed};
use super::turn::{TurnReply, TurnRequest};
use super::{ProviderConfig, ProviderErrorKind, TurnSink, defaults};
use crate::clock::{ClockExt, SharedClock};
use crate::failpoint::Failpoint;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The largest error report that is read, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;
/// The largest list of models that is read, in bytes.
const MAX_MODEL_LIST: usize = 8 << 20;
/// A list of models that only serves a hint must not keep the error waiting longer.
const HINT_PATIENCE: Duration = Duration::from_secs(5);
/// Model ids named in a hint.
const HINTED_MODELS: usize = 8;

/// As many tools are allowed everywhere.
const MANY_TOOLS: usize = 128;
/// What the dialects call the limit of output, in refusals of it.
const OUTPUT_LIMITS: [&str; 4] = ["max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"];

/// How a dialect carries the key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Credential {
    /// `Authorization: Bearer`.
    Bearer,
    /// `x-api-key`.
    ApiKey,
    /// `x-goog-api-key`.
    GoogApiKey,
}

/// A configured provider as the wire sees it.
pub(super) struct Endpoint {
    name: String,
    base_url: String,
    /// What stands behind a `?` in the configured address, such as Azure's `api-version`: every request has it behind its path.
    query: Option<String>,
    /// What every request carries, or why the configuration can't be sent.
    headers: Result<HeaderMap, String>,
    /// Texts that must not appear in any message.
    secrets: Vec<SecretString>,
    timeout: Duration,
    http: reqwest::Client,
    clock: SharedClock,
    budget: Arc<RetryBudget>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).field("address", &self.address()).finish_non_exhaustive()
    }
}

/// One request, the same for every attempt.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) model: &'a str,
    /// How many tools it offers.
    pub(super) tools: usize,
    pub(super) path: &'a str,
    /// Where the provider lists its models, for the error of one that isn't there.
    pub(super) models: &'static str,
    pub(super) body: Bytes,
}

impl Endpoint {
    pub(super) fn new(
        config: ProviderConfig,
        http: reqwest::Client,
        clock: SharedClock,
        credential: Credential,
        own_headers: &[(&'static str, &'static str)],
    ) -> Self {
        let base_url = config.base_url.as_deref().unwrap_or_else(|| defaults::base_url(config.api));
        let (base_url, query) = split_query(base_url);
        Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            query: query.map(str::to_owned),
            headers: headers(&config, credential, own_headers),
            secrets: secrets(&config),
            budget: config.retries,
            name: config.name,
            timeout: config.timeout,
            http,
            clock,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// The call for a turn, of which the dialect has made `body`.
    pub(super) fn call<'a>(
        &self,
        request: &'a TurnRequest,
        path: &'a str,
        models: &'static str,
        body: serde_json::Result<Vec<u8>>,
    ) -> Result<Call<'a>, ProviderError> {
        let body = body.map_err(|cause| self.unwritable(&request.model, &cause))?;
        Ok(Call { model: &request.model, tools: request.tools.len(), path, models, body: body.into() })
    }

    /// One attempt, from the request to the complete reply.
    pub(super) async fn once<A: Assembly>(
        &self,
        call: &Call<'_>,
        assembly: A,
        sink: &mut dyn TurnSink,
    ) -> Result<TurnReply, Failure> {
        let request = self.http.post(self.url(call.path)).header(CONTENT_TYPE, "application/json");
        let sent = self.send(call.model, request.body(call.body.clone())).await;
        let mut response = sent.map_err(|failure| about_tools(failure, call.tools))?;
        let mut body = Body::new(assembly);
        loop {
            let chunk = match self.clock.timeout(self.timeout, response.chunk()).await {
                None => return Err(self.silence(call.model)),
                Some(Err(cause)) => {
                    return Err(self.cut(call.model, &format!("the answer broke off: {}", causes(cause))));
                }
                Some(Ok(None)) => break,
                Some(Ok(Some(chunk))) => chunk,
            };
            if body.push(&chunk, sink).map_err(|fault| self.unusable(call.model, fault))? {
                break;
            }
        }
        body.finish(sink).map_err(|fault| self.unusable(call.model, fault))
    }

    /// The ids of `GET {path}`: `{"data":[{"id"}]}` as OpenAI and Anthropic have it, else `{"models":[{"name"}]}`, Google's with
    /// `models/` before the id. Some servers send both.
    pub(super) async fn models(&self, path: &str) -> Result<Vec<String>, ProviderError> {
        #[derive(Deserialize)]
        struct List {
            data: Option<Vec<Model>>,
            models: Option<Vec<Model>>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: Option<String>,
            name: Option<String>,
        }
        let mut response = self.send("-", self.http.get(self.url(path))).await.map_err(|failure| failure.error)?;
        let malformed = |what: &str| self.error("-", None, ProviderErrorKind::Malformed, what);
        let (text, is_whole) = self.text(&mut response, MAX_MODEL_LIST).await;
        if !is_whole {
            return Err(malformed("the list of models broke off, or is too large"));
        }
        let list: List = serde_json::from_str(&text)
            .map_err(|cause| malformed(&format!("the list of models is not what the dialect says: {cause}")))?;
        let Some(models) = list.data.or(list.models) else {
            return Err(malformed(
                "the list of models is not what the dialect says: it has neither `data` nor `models`",
            ));
        };
        let bare = |id: String| id.strip_prefix("models/").map_or_else(|| id.clone(), str::to_owned);
        Ok(models.into_iter().filter_map(|model| model.id.or(model.name)).map(bare).collect())
    }

    /// Adds to a "no such model" the ids that there are, nearest first. Failing to get them in time changes nothing.
    pub(super) async fn with_known_models(
        &self,
        mut error: ProviderError,
        path: &str,
        cancel: &CancellationToken,
    ) -> ProviderError {
        if error.kind != ProviderErrorKind::NotFound {
            return error;
        }
        let listed = self.clock.timeout(HINT_PATIENCE, cancel.run_until_cancelled(self.models(path))).await;
        if let Some(Some(Ok(mut models))) = listed
            && !models.is_empty()
        {
            if models.contains(&error.model) {
                let (name, model) = (&self.name, &error.model);
                error.hint = Some(format!(
                    "provider `{name}` lists `{model}`, so it is the address or the dialect: check `providers.{name}.base_url` and \
                     `providers.{name}.api`"
                ));
                return error;
            }
            models.sort_by_key(|id| std::cmp::Reverse(common_prefix(id, &error.model)));
            models.truncate(HINTED_MODELS);
            let models = models.iter().map(|id| shown(id)).collect::<Vec<_>>().join(", ");
            error.hint = Some(format!("provider `{}` offers, among others: {models}", self.name));
        }
        error
    }

    /// Sends and returns a response with a success status.
    async fn send(&self, model: &str, request: RequestBuilder) -> Result<Response, Failure> {
        let headers = match &self.headers {
            Ok(headers) => headers.clone(),
            Err(reason) => return Err(final_failure(self.error(model, None, ProviderErrorKind::BadRequest, reason))),
        };
        Failpoint::ModelRequest.reach(|| {
            let values = self.secrets.iter().map(ExposeSecret::expose_secret).collect::<Vec<_>>();
            format!("{model} {values:?}")
        });
        match self.clock.timeout(self.timeout, request.headers(headers).send()).await {
            None => Err(self.silence(model)),
            Some(Err(cause)) => Err(self.unreachable(model, cause)),
            Some(Ok(response)) if response.status().is_success() => Ok(response),
            Some(Ok(response)) => Err(self.refused(model, response).await),
        }
    }

    async fn refused(&self, model: &str, mut response: Response) -> Failure {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // Its beginning has what counts.
        let (body, _) = self.text(&mut response, MAX_ERROR_BODY).await;
        let fault = Fault::parse(&body);
        let kind = fault.kind(Some(status));
        let mut error = self.error(model, Some(status), kind, &fault.message);
        if (300..400).contains(&status) {
            error.hint = Some(format!("{} redirects, which is not followed: correct the base_url", self.address()));
        } else if fault.message.contains("reasoning_effort") {
            error.hint = Some(format!(
                "this model can't use tools over Chat Completions: set `providers.{}.api` to openai_responses, or choose another model",
                self.name
            ));
        } else if kind == ProviderErrorKind::BadRequest && OUTPUT_LIMITS.iter().any(|name| fault.message.contains(name))
        {
            error.hint = Some(format!("set `providers.{}.max_output_tokens` to what this model allows", self.name));
        }
        about_window(&mut error, &fault);
        Failure { error, retry: allowed(kind, Some(&headers), fault.wait, self.clock.now()) }
    }

    /// A body as text, up to `limit` bytes, and whether that is all of it: it may be longer, break off or fall silent.
    async fn text(&self, response: &mut Response, limit: usize) -> (String, bool) {
        let mut bytes = Vec::new();
        let is_whole = loop {
            match self.clock.timeout(self.timeout, response.chunk()).await {
                Some(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
                Some(Ok(None)) => break true,
                Some(Err(_)) | None => break false,
            }
            if bytes.len() > limit {
                bytes.truncate(limit);
                break false;
            }
        };
        (String::from_utf8_lossy(&bytes).into_owned(), is_whole)
    }

    fn unusable(&self, model: &str, fault: BodyFault) -> Failure {
        match fault {
            BodyFault::Cut => self.cut(model, "the answer ended before its end marker"),
            BodyFault::Malformed(what) => final_failure(self.error(model, None, ProviderErrorKind::Malformed, &what)),
            BodyFault::Reported(fault) => {
                let kind = fault.kind(None);
                let mut error = self.error(model, None, kind, &fault.message);
                about_window(&mut error, &fault);
                Failure { error, retry: allowed(kind, None, fault.wait, self.clock.now()) }
            }
        }
    }

    fn cut(&self, model: &str, reason: &str) -> Failure {
        Failure { error: self.error(model, None, ProviderErrorKind::CutStream, reason), retry: Retry::Backoff }
    }

    fn silence(&self, model: &str) -> Failure {
        let reason = format!("nothing came for {} s", self.timeout.as_secs_f64());
        Failure { error: self.error(model, None, ProviderErrorKind::Timeout, &reason), retry: Retry::Backoff }
    }

    fn unreachable(&self, model: &str, cause: reqwest::Error) -> Failure {
        if cause.is_builder() {
            let reason = format!("the request can't be built: {}", causes(cause));
            let mut error = self.error(model, None, ProviderErrorKind::BadRequest, &reason);
            error.hint = Some(format!("check `providers.{}.base_url`", self.name));
            return final_failure(error);
        }
        let reason = format!("no answer from {}: {}", self.address(), causes(cause));
        Failure { error: self.error(model, None, ProviderErrorKind::Connection, &reason), retry: Retry::Backoff }
    }

    /// The error of a request that never left, because it can't be written as JSON.
    fn unwritable(&self, model: &str, cause: &serde_json::Error) -> ProviderError {
        let reason = format!("the request can't be written as JSON: {cause}");
        self.error(model, None, ProviderErrorKind::BadRequest, &reason)
    }

    /// An error in this provider's name, without its secrets.
    pub(super) fn error(
        &self,
        model: &str,
        status: Option<u16>,
        kind: ProviderErrorKind,
        reason: &str,
    ) -> ProviderError {
        let status_text = status.map(|status| format!(" answered {status}")).unwrap_or_default();
        let reason = self.without_secrets(reason);
        ProviderError {
            provider: self.name.clone(),
            model: model.to_owned(),
            status,
            kind,
            message: format!("provider `{}`, model `{model}`{status_text}: {reason}", self.name),
            hint: self.hint(kind),
        }
    }

    fn hint(&self, kind: ProviderErrorKind) -> Option<String> {
        let name = &self.name;
        match kind {
            ProviderErrorKind::Auth => Some(match defaults::key_variables(name) {
                Some(variables) => format!(
                    "check the key in {variables}, or in `providers.{name}.api_key` if station.yml has the provider's key or address"
                ),
                None => format!("check the key in `providers.{name}.api_key`"),
            }),
            ProviderErrorKind::Billing => Some(format!("add credit or raise the spend limit of `{name}`")),
            ProviderErrorKind::NotFound => Some(format!("check the model's id and `providers.{name}.base_url`")),
            ProviderErrorKind::ContextOverflow => {
                Some("shorten the input, or choose a model with a larger window".into())
            }
            ProviderErrorKind::RateLimited => Some("run fewer agents at once, or raise the provider's limits".into()),
            ProviderErrorKind::Connection => Some(format!("is {} up and reachable from here?", self.address())),
            ProviderErrorKind::Server | ProviderErrorKind::CutStream => {
                Some(format!("the trouble is on the side of `{name}`: run it again later, or choose another model"))
            }
            ProviderErrorKind::Malformed => {
                Some(format!("check `providers.{name}.api` and `providers.{name}.base_url`"))
            }
            ProviderErrorKind::Timeout => Some(format!("raise `providers.{name}.timeout` or the agent's `timeout`")),
            ProviderErrorKind::BadRequest | ProviderErrorKind::Cancelled => None,
        }
    }

    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "[secret]"))
    }

    fn url(&self, path: &str) -> String {
        let query = self.query.as_ref().map(|query| format!("{}{query}", if path.contains('?') { '&' } else { '?' }));
        format!("{}{path}{}", self.base_url, query.unwrap_or_default())
    }

    /// The address without user and password, for messages.
    fn address(&self) -> String {
        match reqwest::Url::parse(&self.base_url) {
            Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            Err(_) => "an address that is no URL".to_owned(),
        }
    }
}

/// An address, and the query that it ends with. A fragment is for browsers, and never sent.
pub(super) fn split_query(url: &str) -> (&str, Option<&str>) {
    let url = url.split('#').next().unwrap_or_default();
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    (address, query.filter(|query| !query.is_empty()))
}

/// `url` with its address changed, and the same query.
pub(super) fn readdressed(url: &str, change: impl FnOnce(&str) -> String) -> String {
    let (address, query) = split_query(url);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", change(address))
}

/// A refused request may have offered too many tools; what the providers say of that is often hard to read.
fn about_tools(mut failure: Failure, tools: usize) -> Failure {
    let error = &mut failure.error;
    if error.kind == ProviderErrorKind::BadRequest && error.hint.is_none() && tools > MANY_TOOLS {
        error.hint = Some(format!(
            "the request offers {tools} tools, and providers allow only so many (OpenAI has said {MANY_TOOLS}, Gemini 512): name fewer in \
             the agent's `tools`"
        ));
    }
    failure
}

/// A server that says how large its context is was started with it: the model may have room for more.
fn about_window(error: &mut ProviderError, fault: &Fault) {
    if let (ProviderErrorKind::ContextOverflow, Some((needed, size))) = (error.kind, fault.window) {
        error.hint = Some(format!(
            "the request takes {needed} tokens, and the server was started for {size}: start it with a larger context (llama-server: \
             `--ctx-size`), or shorten the input"
        ));
    }
}

fn final_failure(error: ProviderError) -> Failure {
    Failure { error, retry: Retry::Never }
}

fn headers(
    config: &ProviderConfig,
    credential: Credential,
    own: &[(&'static str, &'static str)],
) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in own {
        map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(key) = &config.api_key {
        let (name, value) = match credential {
            Credential::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            Credential::ApiKey => (HeaderName::from_static("x-api-key"), key.expose_secret().to_owned()),
            Credential::GoogApiKey => (HeaderName::from_static("x-goog-api-key"), key.expose_secret().to_owned()),
        };
        map.insert(name, sensitive(&value).ok_or("the API key has characters that no header can carry")?);
    }
    for (name, value) in &config.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok());
        let (header, mut value) = parsed.ok_or_else(|| format!("header `{}` can't be sent", shown(name)))?;
        value.set_sensitive(true);
        map.insert(header, value);
    }
    Ok(map)
}

/// A value that debug output and HTTP/2 compression tables leave out.
fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Short texts are left alone: replacing `1` or `true` would only garble messages.
fn secrets(config: &ProviderConfig) -> Vec<SecretString> {
    let headers = config.headers.iter().map(|(_, value)| SecretString::from(value.clone()));
    config.api_key.iter().cloned().chain(headers).filter(|secret| secret.expose_secret().len() >= 6).collect()
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// The chain of causes on one line, without the URL, which may hold a password.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests;
