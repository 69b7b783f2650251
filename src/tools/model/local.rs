//! Model servers of this machine, looked for where nobody has said which model to use.
//!
//! Only at loopback addresses, all at once, each for [`PATIENCE`] at most, and no prompt leaves while looking: what is asked for are lists
//! and properties. The first that can use tools is taken, in the order Ollama, llama-server, LM Studio; what was found, or that nothing
//! was, holds for [`KEPT`].

use super::access::{Source, says_where};
use super::{Chosen, Models, ProviderVariables};
use crate::clock::ClockExt;
use crate::domain::{ModelChoice, Name, Timestamp};
use crate::error::Result;
use crate::llm::defaults::{LLAMA_SERVER, LM_STUDIO, OLLAMA, ProviderDefaults};
use futures_util::future::join_all;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest that one server is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an answer, also the one that there is nobody, is believed.
const KEPT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const LARGEST: usize = 4 << 20;
/// The longest id of a model, in bytes.
const LONGEST_ID: usize = 200;
/// Of so many of Ollama's models, newest first, is it asked what they can do.
const MOST_MODELS: usize = 8;

/// Where the model servers of this machine may be: addresses without a path.
#[derive(Debug, Clone)]
pub struct LocalServers {
    /// If `OLLAMA_HOST` doesn't say otherwise.
    pub ollama: String,
    pub llama_server: String,
    pub lm_studio: String,
}

impl LocalServers {
    /// Their usual ports.
    pub fn usual() -> Self {
        let bare = |row: &ProviderDefaults| row.base_url.trim_end_matches("/v1").to_owned();
        Self { ollama: bare(&OLLAMA), llama_server: bare(&LLAMA_SERVER), lm_studio: bare(&LM_STUDIO) }
    }

    /// The address of the provider `name`, as its dialect wants it.
    pub(super) fn base_url(&self, name: &str) -> Option<String> {
        match name {
            name if name == OLLAMA.provider => Some(self.ollama.clone()),
            name if name == LLAMA_SERVER.provider => Some(format!("{}/v1", self.llama_server)),
            name if name == LM_STUDIO.provider => Some(format!("{}/v1", self.lm_studio)),
            _ => None,
        }
    }
}

/// A server that can answer, and what it answers with.
#[derive(Debug, Clone)]
struct Found {
    provider: &'static str,
    model: String,
    /// What was seen there, for people.
    seen: String,
}

/// The last look.
#[derive(Debug)]
pub(super) struct Look {
    at: Timestamp,
    /// Where Ollama was looked for.
    ollama: Option<String>,
    found: Option<Found>,
}

impl Models {
    /// The model of a server on this machine, if there is one. Whoever asks meanwhile waits for the same look.
    pub(super) async fn look(&self, environment: &Name, caller: Option<&ProviderVariables>) -> Result<Option<Chosen>> {
        let Some(servers) = self.local.as_ref().filter(|_| self.settings.models.detect) else { return Ok(None) };
        // An address that may not be asked is nothing to find; whoever names the provider is told why.
        let access = self.access(environment, OLLAMA.provider, caller).ok().flatten();
        let source = access.as_ref().map(|access| access.source);
        let ollama = access.and_then(|access| access.base_url).filter(|url| self.may_look(OLLAMA.provider, url));
        let mut last = self.last_look.lock().await;
        let now = self.clock.now();
        let fresh = last.as_ref().filter(|look| look.ollama == ollama && now.since(look.at) < KEPT);
        let found = match fresh {
            Some(look) => look.found.clone(),
            None => {
                let found = self.look_around(servers, ollama.as_deref()).await;
                *last = Some(Look { at: now, ollama, found: found.clone() });
                found
            }
        };
        Ok(found.map(|found| Chosen {
            from_caller: found.provider == OLLAMA.provider && source == Some(Source::Caller),
            model: ModelChoice {
                provider: found.provider.into(),
                id: found.model,
                reason: format!("no model is configured and no provider key is set; {}", found.seen),
            },
        }))
    }

    /// A provider whose key or address station.yml has is nothing to be found; and only this machine is asked.
    fn may_look(&self, provider: &str, url: &str) -> bool {
        let is_configured = self.settings.providers.get(provider).is_some_and(says_where);
        !is_configured && url.starts_with("http://") && crate::net::check_outbound(url).is_ok()
    }

    async fn look_around(&self, servers: &LocalServers, ollama: Option<&str>) -> Option<Found> {
        let at = |provider: &str, url: &str| self.may_look(provider, url).then(|| url.to_owned());
        let llama = at(LLAMA_SERVER.provider, &servers.llama_server);
        let studio = at(LM_STUDIO.provider, &servers.lm_studio);
        let (ollama, llama, studio) = tokio::join!(
            self.clock.timeout(PATIENCE, async { self.ollama_at(ollama?).await }),
            self.clock.timeout(PATIENCE, async { self.llama_server_at(llama.as_deref()?).await }),
            self.clock.timeout(PATIENCE, async { self.lm_studio_at(studio.as_deref()?).await }),
        );
        [ollama, llama, studio].into_iter().flatten().flatten().next()
    }

    /// The newest model that can use tools.
    async fn ollama_at(&self, base: &str) -> Option<Found> {
        let tags = self.json(self.http.get(format!("{base}/api/tags"))).await?;
        let models = tags.get("models")?.as_array()?;
        let names = models.iter().filter_map(|model| model.get("model").or_else(|| model.get("name"))?.as_str());
        let able = join_all(names.filter(|name| is_name(name)).take(MOST_MODELS).map(async |name| {
            let asked = self.http.post(format!("{base}/api/show")).header(CONTENT_TYPE, "application/json");
            let shown = self.json(asked.body(json!({ "model": name }).to_string())).await?;
            shown.get("capabilities")?.as_array()?.iter().any(|can| can == "tools").then(|| name.to_owned())
        }));
        let model = able.await.into_iter().flatten().next()?;
        let seen = format!("Ollama at {} has it, and it can use tools", host(base));
        Some(Found { provider: OLLAMA.provider, model, seen })
    }

    async fn llama_server_at(&self, base: &str) -> Option<Found> {
        // A station listens on the same port. This page is open there, while one that needs a key would be put down as a failed login;
        // a llama-server doesn't have it.
        if self.http.get(format!("{base}/healthz")).send().await.ok()?.status().is_success() {
            return None;
        }
        let props = self.json(self.http.get(format!("{base}/props"))).await?;
        let able = props.get("chat_template_caps")?.as_object()?;
        if able.get("supports_tools").and_then(Value::as_bool) == Some(false) {
            return None;
        }
        let model = self.listed(base, |_| true).await?;
        let size = props.pointer("/default_generation_settings/n_ctx").or_else(|| props.get("n_ctx"));
        let size = size.and_then(Value::as_u64).map(|size| format!(", with {size} tokens of context"));
        let seen = format!("llama-server at {} has it loaded{}", host(base), size.unwrap_or_default());
        Some(Found { provider: LLAMA_SERVER.provider, model, seen })
    }

    async fn lm_studio_at(&self, base: &str) -> Option<Found> {
        let model = self.listed(base, |id| !id.starts_with("text-embedding")).await?;
        let seen = format!("LM Studio at {} lists it first", host(base));
        Some(Found { provider: LM_STUDIO.provider, model, seen })
    }

    /// The first model of `/v1/models` that is `wanted`.
    async fn listed(&self, base: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let list = self.json(self.http.get(format!("{base}/v1/models"))).await?;
        let ids = list.get("data")?.as_array()?.iter().filter_map(|model| model.get("id")?.as_str());
        ids.filter(|id| is_name(id) && wanted(id)).map(str::to_owned).next()
    }

    /// The JSON of a good answer.
    async fn json(&self, request: RequestBuilder) -> Option<Value> {
        let mut response = request.send().await.ok()?.error_for_status().ok()?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if bytes.len() + chunk.len() > LARGEST {
                return None;
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).ok()
    }
}

/// `127.0.0.1:11434`, without the credentials that the address may have: what was found is shown to everybody who sees the run.
fn host(base: &str) -> String {
    let url = reqwest::Url::parse(base).ok();
    let shown = url.as_ref().and_then(|url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}{port}", url.host_str()?))
    });
    shown.unwrap_or_else(|| "this machine".to_owned())
}

/// An id that can be named in a run: others are no model's, whatever the server says.
fn is_name(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && !id.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{models, name};
    use super::*;
    use crate::clock::ManualClock;
    use crate::lifecycle::Tasks;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const TAGS: &str = r#"{"models":[{"name":"embed:1","model":"embed:1"},{"name":"qwen3:8b","model":"qwen3:8b"}]}"#;
    const PROPS: &str =
        r#"{"default_generation_settings":{"n_ctx":8192},"chat_template_caps":{"supports_tools":true}}"#;
    const LIST: &str = r#"{"object":"list","data":[{"id":"text-embedding-nomic"},{"id":"gemma"}]}"#;

    /// Answers by path, everything else with 404, and keeps what it was asked.
    struct Fake {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Fake {
        async fn answering(answers: &'static [(&'static str, &'static str)]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&asked);
            let tasks = Tasks::new();
            tasks.clone().spawn("fake", async move {
                while let Ok((mut connection, _)) = listener.accept().await {
                    let kept = Arc::clone(&kept);
                    tasks.spawn("connection", async move {
                        let (mut text, mut buffer) = (String::new(), [0; 2048]);
                        while !text.contains("\r\n\r\n") || (text.starts_with("POST") && !text.ends_with('}')) {
                            let read = connection.read(&mut buffer).await.unwrap();
                            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                        }
                        kept.lock().unwrap().push(text.clone());
                        let path = text.split(' ').nth(1).unwrap();
                        let found = answers.iter().find(|(known, _)| {
                            known.split_once('?').map_or(*known == path, |(at, word)| at == path && text.contains(word))
                        });
                        let (status, body) = found.map_or(("404 Not Found", "{}"), |(_, body)| ("200 OK", *body));
                        if body == "silence" {
                            return std::future::pending().await;
                        }
                        let head =
                            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                        connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                    });
                }
            });
            Self { url, asked }
        }

        fn asked(&self) -> Vec<String> {
            let lines = |text: &String| text.split(" HTTP").next().unwrap().to_owned();
            self.asked.lock().unwrap().iter().map(lines).collect()
        }
    }

    /// Models that look for these three.
    fn looking(yaml: &str, [ollama, llama_server, lm_studio]: [&Fake; 3]) -> (Models, Arc<ManualClock>) {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let servers = LocalServers {
            ollama: ollama.url.clone(),
            llama_server: llama_server.url.clone(),
            lm_studio: lm_studio.url.clone(),
        };
        let models = Models { clock: clock.clone(), ..models(yaml, &[]) }.looking_for(servers);
        (models, clock)
    }

    async fn chosen(models: &Models) -> (String, String) {
        let model = models.choose(&name("development"), None, None, None).await.unwrap().model;
        (format!("{}/{}", model.provider, model.id), model.reason)
    }

    async fn ollama() -> Fake {
        Fake::answering(&[
            ("/api/tags", TAGS),
            ("/api/show?embed:1", r#"{"capabilities":["embedding"]}"#),
            ("/api/show?qwen3:8b", r#"{"capabilities":["completion","tools"]}"#),
        ])
        .await
    }

    #[tokio::test]
    async fn the_first_local_server_that_can_use_tools_is_taken_and_the_reason_says_which() {
        let nobody = Fake::answering(&[]).await;
        let (ollama, studio) = (ollama().await, Fake::answering(&[("/v1/models", LIST)]).await);
        let toolless =
            Fake::answering(&[("/api/tags", TAGS), ("/api/show", r#"{"capabilities":["completion"]}"#)]).await;
        let llama = Fake::answering(&[("/props", PROPS), ("/v1/models", LIST)]).await;
        let deaf =
            Fake::answering(&[("/props", r#"{"chat_template_caps":{"supports_tools":false}}"#), ("/v1/models", LIST)])
                .await;
        for (servers, expected, seen) in [
            ([&ollama, &llama, &studio], "ollama/qwen3:8b", "can use tools"),
            ([&toolless, &llama, &studio], "llama-server/text-embedding-nomic", "8192 tokens of context"),
            ([&nobody, &deaf, &studio], "lm-studio/gemma", "lists it first"),
            ([&nobody, &nobody, &nobody], "offline/rules-1", "no provider key is set"),
        ] {
            let (model, reason) = chosen(&looking("", servers).0).await;
            assert_eq!(model, expected, "{reason}");
            assert!(reason.starts_with("no model is configured and") && reason.contains(seen), "{reason}");
        }
        let paths = ollama.asked();
        assert!(
            paths.iter().all(|asked| asked == "GET /api/tags" || asked == "POST /api/show"),
            "no prompt: {paths:?}"
        );
    }

    #[tokio::test]
    async fn what_is_named_or_switched_off_is_not_looked_for() {
        let nobody = Fake::answering(&[]).await;
        let ollama = ollama().await;
        for yaml in ["models: { default: local/m }", "models: { detect: false }"] {
            let (models, _) = looking(yaml, [&ollama, &ollama, &ollama]);
            assert!(!chosen(&models).await.0.starts_with("ollama"));
        }
        let (models, _) = looking("", [&ollama, &nobody, &nobody]);
        assert!(models.choose(&name("production"), None, None, None).await.is_err());
        let (models, _) = looking("  ollama: { base_url: 'http://127.0.0.1:1' }", [&ollama, &nobody, &nobody]);
        assert_eq!(chosen(&models).await.0, "offline/rules-1");
        assert_eq!(ollama.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn a_station_on_the_port_of_llama_server_is_left_alone() {
        let (nobody, station) =
            (Fake::answering(&[]).await, Fake::answering(&[("/healthz", "{}"), ("/props", PROPS)]).await);
        assert_eq!(chosen(&looking("", [&nobody, &station, &nobody]).0).await.0, "offline/rules-1");
        assert_eq!(station.asked(), ["GET /healthz"]);
    }

    #[tokio::test]
    async fn a_server_that_is_silent_costs_three_tenths_of_a_second_and_the_next_one_is_taken() {
        let silent = Fake::answering(&[("/api/tags", "silence"), ("/healthz", "silence")]).await;
        let studio = Fake::answering(&[("/v1/models", LIST)]).await;
        let (models, clock) = looking("", [&silent, &silent, &studio]);
        let time = async {
            while silent.asked().len() < 2 || studio.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            // The third has answered before its time is up.
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            clock.advance(PATIENCE);
        };
        let (found, ()) = tokio::join!(chosen(&models), time);
        assert_eq!(found.0, "lm-studio/gemma", "{found:?}");
    }

    #[tokio::test]
    async fn what_was_seen_holds_for_a_short_while() {
        let (nobody, ollama) = (Fake::answering(&[]).await, ollama().await);
        let (models, clock) = looking("", [&ollama, &nobody, &nobody]);
        for (wait, looks) in [(0, 1), (9_999, 1), (1, 2)] {
            clock.advance(Duration::from_millis(wait));
            assert_eq!(chosen(&models).await.0, "ollama/qwen3:8b");
            let tags = ollama.asked().into_iter().filter(|asked| asked == "GET /api/tags").count();
            assert_eq!(tags, looks);
        }
    }

    #[tokio::test]
    async fn the_provider_that_was_found_is_the_one_that_the_run_gets() {
        let nobody = Fake::answering(&[]).await;
        let (ollama, llama) = (ollama().await, Fake::answering(&[("/props", PROPS), ("/v1/models", LIST)]).await);
        for servers in [[&ollama, &nobody, &nobody], [&nobody, &llama, &nobody]] {
            let (models, _) = looking("", servers);
            let development = name("development");
            let choice = models.choose(&development, None, None, None).await.unwrap();
            let run = crate::domain::RunId::new(
                Timestamp::from_millis(0),
                crate::domain::EnvironmentNumber::new(1).unwrap(),
                1,
            );
            let built = models.provider_for(&development, run, &choice.model, choice.from_caller, None);
            let provider = built.unwrap().unwrap().provider;
            let server = if provider.name() == "ollama" { &ollama } else { &llama };
            let shown = format!("{provider:?}");
            assert!(shown.contains(&server.url), "{shown}");
        }
    }

    #[test]
    fn what_was_found_is_told_without_the_credentials_of_its_address() {
        for (base, shown) in [
            ("http://127.0.0.1:11434", "127.0.0.1:11434"),
            ("http://s3cr3t@127.0.0.1:11434", "127.0.0.1:11434"),
            ("http://me:s3cr3t@[::1]:11434/base?key=s3cr3t", "[::1]:11434"),
            ("s3cr3t", "this machine"),
        ] {
            assert_eq!(host(base), shown);
        }
    }
}
