//! Google's Gemini API: `POST {base_url}/models/{model}:streamGenerateContent?alt=sse`, with the version in the address: `v1`, which is
//! also taken where the address names none, or `v1beta`.
//!
//! `request` writes the body, `stream` puts the answer together. A model's turn goes back as the very JSON text of its parts: signatures
//! of what it thought stand on them, and must come back where they stood.
//!
//! Schemas go out as JSON Schema. If Gemini refuses a tool's, that tool's goes out again in a plainer form, and the person is told. The
//! same with signatures that it doesn't know (again): first the request goes out once more, then without them.

mod request;
mod stream;

use super::names::NameMap;
use super::retry;
use super::wire::{Credential, Endpoint, readdressed};
use super::{Provider, ProviderConfig, ProviderError, ProviderErrorKind, TurnLimits, TurnReply, TurnRequest, TurnSink};
use crate::clock::SharedClock;
use async_trait::async_trait;
use request::Learned;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use stream::ContentAssembly;

const DIALECT: &str = "gemini";
const MODELS: &str = "/models?pageSize=1000";
/// Of Google's own client.
const VERSION: &str = "v1";

/// A server that speaks Gemini's `generateContent`.
#[derive(Debug)]
pub(super) struct Gemini {
    endpoint: Endpoint,
    /// Tools whose schemas were refused, by our names; a run asks with the same tools again and again.
    refused: Mutex<BTreeSet<String>>,
    /// How many messages of the conversation go back unsigned.
    unsigned: AtomicUsize,
}

impl Gemini {
    pub(super) fn new(mut config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Self {
        config.base_url = config.base_url.map(|url| readdressed(&url, versioned));
        let endpoint = Endpoint::new(config, http, clock, Credential::GoogApiKey, &[]);
        Self { endpoint, refused: Mutex::default(), unsigned: AtomicUsize::default() }
    }

    async fn ask(
        &self,
        request: &TurnRequest,
        names: &NameMap,
        sink: &mut dyn TurnSink,
        limits: &TurnLimits,
        attempts: &AtomicU32,
    ) -> Result<TurnReply, ProviderError> {
        let learned = Learned { plain: &self.refused(), unsigned: self.unsigned.load(Ordering::Relaxed) };
        let body = request::body(request, names, &learned);
        let path = format!("/models/{}:streamGenerateContent?alt=sse", in_path(&request.model));
        let call = self.endpoint.call(request, &path, MODELS, body)?;
        let fresh = || {
            attempts.fetch_add(1, Ordering::Relaxed);
            ContentAssembly::new(names, &request.model, request.messages.len())
        };
        retry::exchange(&self.endpoint, &call, &fresh, sink, limits).await
    }

    fn refused(&self) -> BTreeSet<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on everything that was said up to here goes back unsigned. `false`: it did already.
    fn leave_out_signatures(&self, request: &TurnRequest) -> bool {
        let said = request.messages.len();
        self.unsigned.fetch_max(said, Ordering::Relaxed) < said
    }

    /// Takes note of the tools whose schemas were refused. `None`: nothing to be done about it that hasn't been done.
    fn learn(&self, error: &ProviderError, request: &TurnRequest) -> Option<Vec<String>> {
        let named = refused_tools(error, request)?;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = named.into_iter().filter(|name| refused.insert(name.clone())).collect();
        (!new.is_empty()).then_some(new)
    }
}

#[async_trait]
impl Provider for Gemini {
    fn name(&self) -> &str {
        self.endpoint.name()
    }

    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        limits: &TurnLimits,
    ) -> Result<TurnReply, ProviderError> {
        let names = NameMap::new(request.tools.iter().map(|tool| tool.name.as_str()));
        let (mut notice, attempts, mut is_repeated) = (None, AtomicU32::new(0), false);
        // Ends, since every round but one needs a tool that wasn't simplified yet, or signatures that were still there.
        loop {
            let error = match self.ask(request, &names, sink, limits, &attempts).await {
                Ok(reply) => {
                    let wire_attempts = attempts.load(Ordering::Relaxed);
                    return Ok(TurnReply { notice: reply.notice.or(notice), wire_attempts, ..reply });
                }
                Err(error) => error,
            };
            if is_about_signatures(&error) && !std::mem::replace(&mut is_repeated, true) {
                tracing::warn!(reason = %error.message, "Gemini doesn't know a signature of its own; the request goes out once more");
                continue;
            }
            if is_about_signatures(&error) && self.leave_out_signatures(request) {
                tracing::warn!(reason = %error.message, "Gemini doesn't know a signature of its own; they are left out");
                notice = Some("Gemini didn't take back what it had signed before; the conversation was sent without its signatures".to_owned());
                continue;
            }
            let Some(tools) = self.learn(&error, request) else {
                return Err(blaming_schemas(error, request));
            };
            tracing::warn!(?tools, reason = %error.message, "Gemini refuses the schemas of these tools; plainer ones are sent");
            let tools = quoted(&tools);
            notice = Some(format!("Gemini refused the input schema of {tools}; a plainer one was sent"));
        }
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.endpoint.models(MODELS).await
    }
}

/// A signature came back that this key, model or route doesn't know. One that is missing is another matter.
fn is_about_signatures(error: &ProviderError) -> bool {
    let message = error.message.to_lowercase();
    let names_one =
        ["thought signature", "thought_signature", "thoughtsignature"].iter().any(|name| message.contains(name));
    let is_wrong = ["invalid", "not valid", "corrupt"].iter().any(|word| message.contains(word));
    error.status == Some(400) && names_one && is_wrong
}

/// The tools that a refusal is about: those it names by their places, else all. `None` if it isn't about schemas.
fn refused_tools(error: &ProviderError, request: &TurnRequest) -> Option<Vec<String>> {
    const ABOUT_TOOLS: [&str; 3] = ["function_declarations", "functiondeclarations", "function declaration"];
    let message = error.message.to_lowercase();
    let about_tools = ABOUT_TOOLS.iter().any(|word| message.contains(word)) || message.contains("schema");
    if error.kind != ProviderErrorKind::BadRequest || error.status != Some(400) || !about_tools {
        return None;
    }
    let places = ["function_declarations[", "functiondeclarations["]
        .iter()
        .flat_map(|word| message.split(word).skip(1))
        .filter_map(|rest| rest.split(']').next()?.parse::<usize>().ok());
    let named: BTreeSet<&str> =
        places.filter_map(|place| request.tools.get(place)).map(|tool| tool.name.as_str()).collect();
    let all = || request.tools.iter().map(|tool| tool.name.clone()).collect();
    Some(if named.is_empty() { all() } else { named.into_iter().map(str::to_owned).collect() })
}

/// A refusal that stays names the tools.
fn blaming_schemas(mut error: ProviderError, request: &TurnRequest) -> ProviderError {
    if let Some(tools) = refused_tools(&error, request).filter(|tools| !tools.is_empty()) {
        error.hint = Some(format!(
            "Gemini doesn't take the input schema of {}, not even in its plainest form: leave it out of the agent's `tools`",
            quoted(&tools)
        ));
    }
    error
}

fn quoted(tools: &[String]) -> String {
    tools.iter().map(|tool| format!("`{tool}`")).collect::<Vec<_>>().join(", ")
}

/// The address with a version at its end.
fn versioned(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let last = path.rsplit_once('/').map_or("", |(_, last)| last);
    let is_version = last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_version { url.to_owned() } else { format!("{url}/{VERSION}") }
}

/// A model's id as part of a path. Lists have it with a prefix, which is part of the path already.
fn in_path(model: &str) -> String {
    let bare = model.strip_prefix("models/").unwrap_or(model);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    bare.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests;
