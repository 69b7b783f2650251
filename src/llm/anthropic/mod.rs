//! Anthropic Messages: `POST {base_url}/v1/messages`, version 2023-06-01, the one that proxies and local servers know too.
//!
//! `request` writes the body, `stream` puts the answer together. An assistant turn goes back as the very JSON text of its blocks: a
//! thinking block that differs in one byte from what was signed is refused.

mod request;
mod stream;

use super::names::NameMap;
use super::retry;
use super::wire::{Credential, Endpoint};
use super::{Provider, ProviderConfig, ProviderError, TurnLimits, TurnReply, TurnRequest, TurnSink};
use crate::clock::SharedClock;
use async_trait::async_trait;
use stream::MessageAssembly;

const DIALECT: &str = "anthropic";
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");
const MODELS: &str = "/v1/models?limit=1000";

/// A server that speaks Messages.
#[derive(Debug)]
pub(super) struct Anthropic {
    endpoint: Endpoint,
}

impl Anthropic {
    pub(super) fn new(mut config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Self {
        // Both spellings of the address are in use, with and without the version.
        if let Some(url) = &mut config.base_url {
            let bare = url.trim_end_matches('/').trim_end_matches("/v1").len();
            url.truncate(bare);
        }
        Self { endpoint: Endpoint::new(config, http, clock, Credential::ApiKey, &[VERSION]) }
    }
}

#[async_trait]
impl Provider for Anthropic {
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
        let body = request::body(request, &names);
        let call = self.endpoint.call(request, "/v1/messages", MODELS, body)?;
        let fresh = || MessageAssembly::new(&names, &request.model, request.messages.len());
        retry::exchange(&self.endpoint, &call, &fresh, sink, limits).await
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.endpoint.models(MODELS).await
    }
}
