//! OpenAI Responses: `POST {base_url}/responses`, without anything kept at the provider (`store: false`).
//!
//! `request` writes the body, `stream` puts the answer together. What the model thought comes encrypted; every output item goes back as
//! the very JSON text that came, in its order: a call without the reasoning before it is refused, and so is reasoning without what
//! followed it.

mod request;
mod stream;

use super::names::NameMap;
use super::retry;
use super::wire::{Credential, Endpoint};
use super::{Provider, ProviderConfig, ProviderError, TurnLimits, TurnReply, TurnRequest, TurnSink};
use crate::clock::SharedClock;
use async_trait::async_trait;
use stream::ResponseAssembly;

const DIALECT: &str = "openai_responses";
const MODELS: &str = "/models";

/// A server that speaks Responses.
#[derive(Debug)]
pub(super) struct OpenaiResponses {
    endpoint: Endpoint,
}

impl OpenaiResponses {
    pub(super) fn new(config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Self {
        Self { endpoint: Endpoint::new(config, http, clock, Credential::Bearer, &[]) }
    }
}

#[async_trait]
impl Provider for OpenaiResponses {
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
        let call = self.endpoint.call(request, "/responses", MODELS, body)?;
        let fresh = || ResponseAssembly::new(&names, &request.model, request.messages.len());
        retry::exchange(&self.endpoint, &call, &fresh, sink, limits).await
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.endpoint.models(MODELS).await
    }
}
