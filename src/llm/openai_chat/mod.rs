//! OpenAI Chat Completions: `POST {base_url}/chat/completions`, of OpenAI itself and of every server that speaks the dialect.
//!
//! `request` writes the body, `stream` puts the answer together. Towards api.openai.com the limit is `max_completion_tokens`, and
//! `reasoning_effort: none` goes with tools, without which its models refuse them here; other servers get the older `max_tokens` and no
//! effort, which not all of them know.

mod request;
mod stream;

use super::names::NameMap;
use super::retry;
use super::wire::{Credential, Endpoint};
use super::{Provider, ProviderConfig, ProviderError, TurnLimits, TurnReply, TurnRequest, TurnSink};
use crate::clock::SharedClock;
use async_trait::async_trait;
use stream::ChatAssembly;

pub(super) const DIALECT: &str = "openai_chat";
const MODELS: &str = "/models";

/// A server that speaks Chat Completions.
#[derive(Debug)]
pub(super) struct OpenaiChat {
    endpoint: Endpoint,
    official: bool,
}

impl OpenaiChat {
    pub(super) fn new(config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Self {
        let endpoint = Endpoint::new(config, http, clock, Credential::Bearer, &[]);
        let host = reqwest::Url::parse(endpoint.base_url()).ok();
        let official = host.as_ref().and_then(|url| url.host_str()) == Some("api.openai.com");
        Self { endpoint, official }
    }

    /// Is it OpenAI's own API?
    pub(super) fn is_official(&self) -> bool {
        self.official
    }
}

#[async_trait]
impl Provider for OpenaiChat {
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
        let body = request::body(request, &names, self.official);
        let call = self.endpoint.call(request, "/chat/completions", MODELS, body)?;
        let fresh = || ChatAssembly::new(&names, &request.model, request.messages.len());
        retry::exchange(&self.endpoint, &call, &fresh, sink, limits).await
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.endpoint.models(MODELS).await
    }
}
