//! Language-model providers behind one trait: a turn goes out, text and tool calls come back.
//!
//! Here belong the wire dialects (`openai_responses/`, `openai_chat/`, `anthropic/`, `gemini/`, `ollama/`; `openai` chooses between the
//! first two), what they share (`wire` sends and reads, `retry` decides whether and when to try again, `body` turns bytes into events, `schema` and `names` fit tools to a dialect, `error` names failures), the
//! `offline/` rules for whoever has no key, and the one dated table of model ids (`defaults`). Agents, runs, journals and prices don't
//! belong here: a turn is a pure question and answer, and whoever asks keeps the history.
//!
//! What holds for every dialect:
//! - Requests stream (as events, Ollama's as lines of JSON); a plain JSON body is accepted in its place. A stream that ends before it
//!   says so, by its end marker or by the model's reason to end, is an error, never a short answer.
//! - Whether tools are called is decided by the presence of calls, never by the stop reason alone.
//! - A call's arguments are carried as they came, malformed JSON included; [`ToolCall::arguments`] is text for that reason.
//! - Blocks that only the provider understands (thinking, signatures) travel as [`Native`], byte for byte.
//! - Every key is a sensitive header and is cut out of error messages.
//! - Whoever builds a provider puts [`Redacted`] before it, which no secret passes in either direction.
//!
//! A new dialect is a folder with a `request` (history to body) and a `stream` (events to reply, an [`body::Assembly`]), a struct that
//! implements [`Provider`], a variant of [`Api`], and a row in [`defaults`].

mod anthropic;
mod body;
mod counts;
pub mod defaults;
mod error;
mod gemini;
mod names;
pub mod offline;
pub mod ollama;
mod openai;
mod openai_chat;
mod openai_responses;
mod redacted;
mod retry;
mod schema;
#[cfg(test)]
mod test_server;
mod turn;
mod wire;

use crate::clock::SharedClock;
use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use error::{ProviderError, ProviderErrorKind};
pub use ollama::{OllamaOptions, Think, ThinkLevel};
pub use redacted::Redacted;
pub use retry::RetryBudget;
pub use turn::{
    FailedAttempt, Finish, Message, Native, ToolCall, ToolDefinition, ToolResult, TurnLimits, TurnReply, TurnRequest,
    TurnSink,
};

/// Somebody who answers turns.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    /// The name it was configured under, such as `openai`.
    fn name(&self) -> &str;

    /// Whether there is a model that can make a plan. Fixed rules can't.
    fn plans(&self) -> bool {
        true
    }

    /// Asks for one turn. Text arrives at `sink` while it is written; the reply holds all of it again.
    ///
    /// Failed attempts are repeated inside (see `retry`), within `limits`. Dropping the future ends the request.
    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        limits: &TurnLimits,
    ) -> Result<TurnReply, ProviderError>;

    /// The model ids that the provider offers, in its own order.
    async fn models(&self) -> Result<Vec<String>, ProviderError>;
}

/// The wire dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// OpenAI, in the one of its two dialects that suits the model (see `openai`).
    Openai,
    /// OpenAI Responses.
    OpenaiResponses,
    /// OpenAI Chat Completions, of OpenAI or of any server that speaks it.
    OpenaiChat,
    /// Anthropic Messages.
    Anthropic,
    /// Google's Gemini API, `generateContent`.
    Gemini,
    /// Ollama's own chat.
    Ollama,
    /// The rules in [`offline`]: no network, no model.
    Offline,
}

impl Api {
    /// The one that stands for all dialects of the same vendor.
    pub fn of_vendor(self) -> Self {
        match self {
            Self::OpenaiResponses | Self::OpenaiChat => Self::Openai,
            other => other,
        }
    }
}

/// How to reach a provider.
#[derive(Clone)]
pub struct ProviderConfig {
    /// The name that messages and records use.
    pub name: String,
    pub api: Api,
    /// Absent = the dialect's own address in [`defaults`]. For OpenAI's dialects it includes the version, as in
    /// `http://127.0.0.1:8080/v1`; for Gemini it may end in `/v1` or `/v1beta`.
    pub base_url: Option<String>,
    /// Absent = no credential is sent, which local servers accept.
    pub api_key: Option<SecretString>,
    /// Sent with every request, after and over our own; their values are treated as secrets.
    pub headers: Vec<(String, String)>,
    /// The longest silence: until the answer begins, and between two pieces of it. The turn as a whole is bound by
    /// [`TurnLimits::deadline`].
    pub timeout: Duration,
    /// Shared by all that are built for the same provider.
    pub retries: Arc<RetryBudget>,
    /// Of an Ollama server; no other is told.
    pub ollama: OllamaOptions,
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig").field("name", &self.name).field("api", &self.api).finish_non_exhaustive()
    }
}

/// Builds a provider. What is wrong with the configuration (an address, a header) is told by the first request.
pub fn provider(config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Arc<dyn Provider> {
    match config.api {
        Api::Openai => Arc::new(openai::Openai::new(config, http, clock)),
        Api::OpenaiResponses => Arc::new(openai_responses::OpenaiResponses::new(config, http, clock)),
        Api::OpenaiChat => Arc::new(openai_chat::OpenaiChat::new(config, http, clock)),
        Api::Anthropic => Arc::new(anthropic::Anthropic::new(config, http, clock)),
        Api::Gemini => Arc::new(gemini::Gemini::new(config, http, clock)),
        Api::Ollama => Arc::new(ollama::Ollama::new(config, http, clock)),
        Api::Offline => Arc::new(offline::Offline::new(config.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_never_shows_its_secrets() {
        let config = ProviderConfig {
            name: "p".into(),
            api: Api::OpenaiChat,
            base_url: Some("http://user:pass@localhost".into()),
            api_key: Some("sk-secret".into()),
            headers: vec![("X-Token".into(), "sk-header".into())],
            timeout: Duration::from_secs(1),
            retries: Arc::default(),
            ollama: OllamaOptions::default(),
        };
        let provider = provider(config.clone(), reqwest::Client::new(), crate::clock::SystemClock::shared());
        let shown = format!("{config:?} {provider:?}");
        for secret in ["sk-secret", "sk-header", "pass"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
