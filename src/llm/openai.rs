//! OpenAI, in the dialect that suits the model: its own API answers for reasoning models over Responses, for the others over Chat
//! Completions. At any other address it is Chat Completions, which is what compatible servers speak.

use super::openai_chat::OpenaiChat;
use super::openai_responses::OpenaiResponses;
use super::{Provider, ProviderConfig, ProviderError, TurnLimits, TurnReply, TurnRequest, TurnSink, defaults};
use crate::clock::SharedClock;
use async_trait::async_trait;

/// OpenAI or a server that is like it.
#[derive(Debug)]
pub(super) struct Openai {
    chat: OpenaiChat,
    responses: OpenaiResponses,
}

impl Openai {
    pub(super) fn new(config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Self {
        Self {
            chat: OpenaiChat::new(config.clone(), http.clone(), clock.clone()),
            responses: OpenaiResponses::new(config, http, clock),
        }
    }

    fn for_model(&self, model: &str) -> &dyn Provider {
        match self.chat.is_official() && defaults::wants_responses(model) {
            true => &self.responses,
            false => &self.chat,
        }
    }
}

#[async_trait]
impl Provider for Openai {
    fn name(&self) -> &str {
        self.chat.name()
    }

    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        limits: &TurnLimits,
    ) -> Result<TurnReply, ProviderError> {
        self.for_model(&request.model).turn(request, sink, limits).await
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.chat.models().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Api, OllamaOptions};
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn only_openais_own_api_is_asked_over_responses_and_only_for_reasoning_models() {
        let dialect = |base_url: Option<&str>, model: &str| {
            let config = ProviderConfig {
                name: "openai".into(),
                api: Api::Openai,
                base_url: base_url.map(str::to_owned),
                api_key: None,
                headers: vec![],
                timeout: Duration::from_secs(1),
                retries: Arc::default(),
                ollama: OllamaOptions::default(),
            };
            let openai = Openai::new(config, reqwest::Client::new(), crate::clock::SystemClock::shared());
            let chosen = format!("{:?}", openai.for_model(model));
            chosen.split(' ').next().unwrap().to_owned()
        };
        for (base_url, model, expected) in [
            (None, "gpt-5.4-mini", "OpenaiResponses"),
            (Some("https://api.openai.com/v1/"), "o3", "OpenaiResponses"),
            (None, "gpt-4o-mini", "OpenaiChat"),
            (Some("http://127.0.0.1:8080/v1"), "gpt-5.4-mini", "OpenaiChat"),
            (Some("https://gate.example/v1"), "o3", "OpenaiChat"),
        ] {
            assert_eq!(dialect(base_url, model), expected, "{base_url:?} {model}");
        }
    }
}
