//! Ollama's own chat: `POST {base_url}/api/chat`, answered in lines of JSON.
//!
//! Its own rather than its copy of OpenAI's, because only here the size of the context can be asked for. Without it Ollama takes what
//! fits the machine's memory, often 4,096 tokens, and what is over is cut off the front of the conversation without a word: the system
//! text first. So the size is sent with every request, with the word that nothing may be cut; a server that knows that word refuses
//! what is too long, and for an older one the reply carries a notice once the prompt comes near.

mod request;
mod stream;

use super::names::NameMap;
use super::retry;
use super::wire::{Credential, Endpoint, readdressed};
use super::{Provider, ProviderConfig, ProviderError, ProviderErrorKind, TurnLimits, TurnReply, TurnRequest, TurnSink};
use crate::clock::SharedClock;
use async_trait::async_trait;
use serde::Serialize;
use stream::LinesAssembly;

pub(super) const DIALECT: &str = "ollama";
const MODELS: &str = "/api/tags";
/// Where Ollama listens if nobody says otherwise.
const PORT: u16 = 11434;

/// What an Ollama server is asked for beside the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OllamaOptions {
    /// Tokens of prompt and answer together (`num_ctx`).
    pub context_tokens: u32,
    /// Whether, or how much, the model thinks before it answers; absent = as the model does by itself.
    pub think: Option<Think>,
}

impl Default for OllamaOptions {
    fn default() -> Self {
        Self { context_tokens: 16_384, think: None }
    }
}

/// Thinking before the answer, on, off, or in the words that some models take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Think {
    Switch(bool),
    Level(ThinkLevel),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkLevel {
    Low,
    Medium,
    High,
}

/// The address that `OLLAMA_HOST` means, which may be a host, a host with a port, or a URL. A server that listens everywhere
/// (`0.0.0.0`) is reached over loopback.
pub fn address(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    let (scheme, rest) = host.split_once("://").map_or((None, host), |(scheme, rest)| (Some(scheme), rest));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user, server) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
    let is_v6 = server.matches(':').count() > 1 && !server.starts_with('[');
    let authority = if is_v6 { format!("[{server}]") } else { server.to_owned() };
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let (name, port) = port_at.map_or((authority.as_str(), ""), |at| (&authority[..at], &authority[at + 1..]));
    let name = match name {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        name => name,
    };
    let port = match (port, scheme) {
        ("", None) => format!(":{PORT}"),
        ("", Some(_)) => String::new(),
        (port, _) => format!(":{port}"),
    };
    format!("{}://{user}{name}{port}{path}", scheme.unwrap_or("http"))
}

/// An Ollama server.
#[derive(Debug)]
pub(super) struct Ollama {
    endpoint: Endpoint,
    options: OllamaOptions,
}

impl Ollama {
    pub(super) fn new(mut config: ProviderConfig, http: reqwest::Client, clock: SharedClock) -> Self {
        // Both spellings are in use, and so is that of its copy of OpenAI's API.
        config.base_url = config.base_url.map(|url| {
            readdressed(&url, |url| {
                let bare = url.trim_end_matches('/');
                bare.strip_suffix("/api").or_else(|| bare.strip_suffix("/v1")).unwrap_or(bare).to_owned()
            })
        });
        let options = config.ollama;
        Self { endpoint: Endpoint::new(config, http, clock, Credential::Bearer, &[]), options }
    }
}

#[async_trait]
impl Provider for Ollama {
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
        let body = request::body(request, &names, self.options);
        let call = self.endpoint.call(request, "/api/chat", MODELS, body)?;
        let fresh = || LinesAssembly::new(&names, &request.model, request.messages.len());
        match retry::exchange(&self.endpoint, &call, &fresh, sink, limits).await {
            Err(error) => Err(self.explained(error)),
            Ok(reply) => Ok(TurnReply { notice: self.notice(&reply), ..reply }),
        }
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.endpoint.models(MODELS).await
    }
}

impl Ollama {
    /// From nine tenths of the context on: whether something was cut can't be told from the answer.
    fn notice(&self, reply: &TurnReply) -> Option<String> {
        let (used, size) = (reply.usage?.input_tokens, self.options.context_tokens);
        (used * 10 >= i64::from(size) * 9).then(|| {
            format!(
                "the prompt took {used} of {size} tokens of context: an Ollama server that is not of today cuts what is over without \
                 a word; raise `providers.{}.context_tokens`",
                self.endpoint.name()
            )
        })
    }

    fn explained(&self, mut error: ProviderError) -> ProviderError {
        let name = self.endpoint.name();
        if error.kind == ProviderErrorKind::ContextOverflow {
            let size = self.options.context_tokens;
            error.hint = Some(format!("shorten the input, or raise `providers.{name}.context_tokens`, now {size}"));
        } else if error.message.contains("does not support tools") {
            error.hint =
                Some("choose a model that can use tools: `ollama show MODEL` lists what a model can do".into());
        } else if error.message.contains("does not support thinking") {
            error.hint = Some(format!("leave `providers.{name}.think` out, or choose a model that can think"));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_server::{Answer, Server, Transcript, whole};
    use super::super::{Api, Message, provider};
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_host_variable_is_read_in_every_form() {
        for (host, url) in [
            ("127.0.0.1:11434", "http://127.0.0.1:11434"),
            ("localhost", "http://localhost:11434"),
            (":8000", "http://127.0.0.1:8000"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:1234", "http://127.0.0.1:1234"),
            ("[::]:1234", "http://[::1]:1234"),
            ("::1", "http://[::1]:11434"),
            ("me:pw@127.0.0.1:9", "http://me:pw@127.0.0.1:9"),
            ("http://me:pw@127.0.0.1:9", "http://me:pw@127.0.0.1:9"),
            ("me:p@w@::1", "http://me:p@w@[::1]:11434"),
            ("http://127.0.0.1:9/", "http://127.0.0.1:9"),
            ("https://ollama.example/base", "https://ollama.example/base"),
        ] {
            assert_eq!(address(host), url, "{host}");
        }
    }

    struct Outcome {
        result: Result<TurnReply, ProviderError>,
        requests: Vec<String>,
    }

    async fn ask(base_path: &str, answers: Vec<Answer>) -> Outcome {
        let count = answers.len();
        let mut server = Server::answering(answers).await;
        let config = ProviderConfig {
            name: "here".into(),
            api: Api::Ollama,
            base_url: Some(format!("{}{base_path}", server.url)),
            api_key: None,
            headers: vec![],
            timeout: Duration::from_secs(600),
            retries: Arc::default(),
            ollama: OllamaOptions { context_tokens: 100, think: None },
        };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = TurnRequest {
            model: "qwen".into(),
            system: None,
            messages: vec![Message::User { text: "hi".into() }],
            tools: vec![],
            max_output_tokens: None,
            plan_allowed: false,
        };
        let provider = provider(config, http, ManualClock::at(Timestamp::from_millis(0)));
        let result = provider.turn(&request, &mut Transcript::default(), &TurnLimits::default()).await;
        let mut requests = Vec::new();
        for _ in 0..count {
            requests.push(server.requests.recv().await.unwrap());
        }
        Outcome { result, requests }
    }

    fn answered(prompt_tokens: u32) -> Answer {
        let last = format!(
            "{{\"message\":{{\"role\":\"assistant\",\"content\":\"hello\"}},\"done\":true,\"done_reason\":\"stop\",\
             \"prompt_eval_count\":{prompt_tokens},\"eval_count\":2}}\n"
        );
        whole("200 OK", "Content-Type: application/x-ndjson\r\n", &last)
    }

    #[tokio::test]
    async fn a_prompt_near_the_size_of_the_context_is_told() {
        for path in ["", "/api", "/v1/"] {
            let outcome = ask(path, vec![answered(89)]).await;
            assert_eq!(outcome.result.unwrap().notice, None);
            assert!(outcome.requests[0].starts_with("POST /api/chat HTTP/1.1\r\n"), "{}", outcome.requests[0]);
            assert!(outcome.requests[0].contains("\"num_ctx\":100"), "{}", outcome.requests[0]);
        }
        let notice = ask("", vec![answered(90)]).await.result.unwrap().notice.unwrap();
        assert!(notice.contains("90 of 100") && notice.contains("`providers.here.context_tokens`"), "{notice}");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_an_overflow_with_the_setting_to_raise() {
        let refusals = [
            whole("400 Bad Request", "", r#"{"error":"the input length exceeds the context length"}"#),
            whole("200 OK", "", "{\"error\":\"the input length exceeds the context length\",\"status\":400}\n"),
        ];
        for refusal in refusals {
            let error = ask("", vec![refusal]).await.result.unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::ContextOverflow, "{error}");
            assert!(error.hint.as_ref().unwrap().contains("context_tokens`, now 100"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_model_that_is_not_there_is_told_with_those_that_are() {
        let tags =
            r#"{"models":[{"name":"llama3.2:1b","model":"llama3.2:1b"},{"name":"qwen3:8b","model":"qwen3:8b"}]}"#;
        let missing = whole("404 Not Found", "", r#"{"error":"model 'qwen' not found"}"#);
        let outcome = ask("", vec![missing, whole("200 OK", "", tags)]).await;
        let error = outcome.result.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::NotFound);
        assert_eq!(error.hint.unwrap(), "provider `here` offers, among others: qwen3:8b, llama3.2:1b");
        assert!(outcome.requests[1].starts_with("GET /api/tags "), "{}", outcome.requests[1]);
    }

    #[tokio::test]
    async fn what_a_model_cannot_do_is_told_with_a_way_out() {
        for (said, hint) in
            [("does not support tools", "can use tools"), ("does not support thinking", "`providers.here.think`")]
        {
            let body = format!("{{\"error\":\"\\\"qwen\\\" {said}\"}}");
            let error = ask("", vec![whole("400 Bad Request", "", &body)]).await.result.unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::BadRequest);
            assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
        }
    }
}
