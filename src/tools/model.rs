//! Which model a run gets, and why; and the provider that answers for it.
//!
//! The order: the call's `model`, the agent's, the environment's, the station's default, a provider key among the variables that the
//! environment lets in, and in environments for development a
//! model server of this machine, and the `offline` rules where there is none. Never a silent choice: the reason is part of the run.

mod access;
mod known;
mod local;

use crate::clock::SharedClock;
use crate::config::{self, ProviderApi, ProviderSettings, Settings, ThinkSetting};
use crate::domain::{EnvironmentKind, ModelChoice, Name, RunId, Usage};
use crate::error::{Error, Result};
use crate::llm::{
    self, Api, OllamaOptions, Provider, ProviderConfig, RetryBudget, Think, ThinkLevel, defaults, defaults::OFFLINE,
};
use crate::redact::{Redactor, scope_of};
use crate::secrets::Values;
use crate::tools::Table;
use access::{Access, Source};
pub use local::LocalServers;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The variables that carry provider keys and addresses. In environments for development they count wherever they are set; elsewhere only
/// those that the environment names under `variables_from_process`.
pub const PROVIDER_VARIABLES: [&str; 8] = [
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_BASE_URL",
    "OLLAMA_HOST",
];

/// How long a provider may be silent during a model call, without `providers.<name>.timeout`. How long the call may take in all is the run's
/// matter.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(600);

/// How the names of models begin, and whose they are.
const FAMILIES: [(&str, &str); 7] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
];

/// What is called like OpenAI's own, but runs on anybody's server, often on this machine: a prompt that was meant for that must not leave.
const OPEN_WEIGHTS: &str = "gpt-oss";

/// Provider variables by name; their values are never printed.
#[derive(Debug, Clone, Default)]
pub struct ProviderVariables(BTreeMap<String, SecretString>);

impl ProviderVariables {
    /// Keeps those of [`PROVIDER_VARIABLES`] that are set and not empty.
    pub fn from_map(variables: &BTreeMap<String, String>) -> Self {
        let kept = PROVIDER_VARIABLES.iter().filter_map(|name| {
            let value = variables.get(*name).filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), SecretString::from(value.clone())))
        });
        Self(kept.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    fn only(&self, allowed: impl Fn(&str) -> bool) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| allowed(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }
}

/// A provider's name and its address, absent = the dialect's own.
type Place = (String, Option<String>);

/// A provider, with what it shows to its server.
#[derive(Debug, Clone)]
pub struct Built {
    pub provider: Arc<dyn Provider>,
    /// Absent for one that was given.
    shown: Option<Shown>,
}

/// What of a provider may change while a run is under way.
#[derive(Clone)]
struct Shown {
    base_url: Option<String>,
    api_key: Option<SecretString>,
    headers: Vec<(String, SecretString)>,
}

impl Shown {
    fn of(config: &ProviderConfig) -> Self {
        let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        Self { base_url: config.base_url.clone(), api_key: config.api_key.clone(), headers }
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        let keys = [self, other].map(|shown| shown.api_key.as_ref().map(|key| key.expose_secret()));
        let same = |(one, other): (&(String, SecretString), &(String, SecretString))| {
            one.0 == other.0 && one.1.expose_secret() == other.1.expose_secret()
        };
        self.base_url == other.base_url
            && keys[0] == keys[1]
            && self.headers.len() == other.headers.len()
            && self.headers.iter().zip(&other.headers).all(same)
    }
}

/// Tells nothing of what it holds.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// Chooses models and builds their providers.
#[derive(Debug)]
pub struct Models {
    settings: Arc<Settings>,
    process: ProviderVariables,
    http: reqwest::Client,
    clock: SharedClock,
    /// Keys that came with a local call, for the runs it started; memory only.
    brought: Mutex<HashMap<RunId, Arc<ProviderVariables>>>,
    /// Held while a run is answered: of several answers at once only the one that is accepted may leave its keys.
    pub answering: tokio::sync::Mutex<()>,
    /// Providers that whoever embeds the station brought along; they win over configured ones.
    given: HashMap<String, Arc<dyn Provider>>,
    /// The secrets that `station.yml` refers to, by environment.
    secrets: BTreeMap<Name, Values>,
    /// Where to look for model servers of this machine; absent = nowhere.
    local: Option<LocalServers>,
    last_look: tokio::sync::Mutex<Option<local::Look>>,
    /// A provider is built for every run, and what is down is down for all of them.
    retries: Mutex<HashMap<Place, Arc<RetryBudget>>>,
    redactor: Redactor,
    /// What answers call by name. A key that is part of one of these is no secret: servers that want none are given such a word.
    words: Vec<String>,
}

/// A choice, and whether it stands on variables that the caller brought along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub model: ModelChoice,
    pub from_caller: bool,
}

impl Models {
    pub fn new(settings: Arc<Settings>, process: ProviderVariables, http: reqwest::Client, clock: SharedClock) -> Self {
        Self {
            settings,
            process,
            http,
            clock,
            brought: Mutex::default(),
            answering: tokio::sync::Mutex::default(),
            given: HashMap::new(),
            secrets: BTreeMap::new(),
            local: None,
            last_look: tokio::sync::Mutex::default(),
            retries: Mutex::default(),
            redactor: Redactor::default(),
            words: Vec::new(),
        }
    }

    /// Where references to secrets in `station.yml` are looked up, by environment.
    #[must_use]
    pub fn with_secrets(mut self, secrets: BTreeMap<Name, Values>) -> Self {
        self.secrets = secrets;
        self
    }

    /// Makes all keys known to `redactor`, those that are there and those that come, and puts it before every provider. Not those that are
    /// part of a word of `table` or of a name in `station.yml`.
    #[must_use]
    pub fn behind(mut self, redactor: Redactor, table: &Table) -> Self {
        self.redactor = redactor;
        self.words = known::words(&self.settings, table);
        self.make_known();
        self
    }

    /// Lets `provider` answer for every model `name/...`: the seam for programs that embed the station, and for tests.
    #[must_use]
    pub fn with_provider(mut self, name: &str, provider: Arc<dyn Provider>) -> Self {
        self.given.insert(name.to_owned(), provider);
        self
    }

    /// Looks for model servers of this machine where nobody has said which model to use.
    #[must_use]
    pub fn looking_for(self, servers: LocalServers) -> Self {
        Self { local: Some(servers), ..self }
    }

    /// Chooses for a run that is about to be submitted. `unavailable` names the fix when there is nothing to choose.
    pub async fn choose(
        &self,
        environment: &Name,
        asked: Option<&str>,
        agent: Option<&str>,
        caller: Option<&ProviderVariables>,
    ) -> Result<Chosen> {
        match (asked, agent) {
            (Some(asked), _) => self.named(environment, asked, "the call asked for it".to_owned(), caller),
            (None, Some(agent)) => {
                let name = self.full_name(environment, agent, caller).await?;
                self.named(environment, &name, "the agent names it".to_owned(), caller)
            }
            (None, None) => self.usual(environment, caller).await,
        }
    }

    /// What a run gets for which neither its call nor its agent names a model.
    async fn usual(&self, environment: &Name, caller: Option<&ProviderVariables>) -> Result<Chosen> {
        let named = [
            (self.environment_model(environment), format!("default of environment `{environment}`")),
            (self.settings.models.default.as_deref(), "default of the station".to_owned()),
        ];
        if let Some((name, reason)) = named.into_iter().find_map(|(name, reason)| name.map(|name| (name, reason))) {
            return self.named(environment, name, reason, caller);
        }
        if let Some((row, key, source)) = self.detect(environment, caller)? {
            let model =
                ModelChoice { provider: row.provider.into(), id: row.model.into(), reason: format!("{key} is set") };
            return Ok(Chosen { model, from_caller: source == Source::Caller });
        }
        if self.settings.kind(environment) == EnvironmentKind::Development {
            if let Some(found) = self.look(environment, caller).await? {
                return Ok(found);
            }
            let reason = self.undetected(environment, caller);
            return Ok(Chosen {
                model: ModelChoice { provider: OFFLINE.provider.into(), id: OFFLINE.model.into(), reason },
                from_caller: false,
            });
        }
        Err(Error::unavailable(format!("environment `{environment}` has no model")).hint(format!(
            "set `environments.{environment}.model` in station.yml, or name a provider key under \
             `environments.{environment}.variables_from_process`"
        )))
    }

    /// What a run of `caller`, with the keys it brings, would get in `environment` now, as `station_status` shows it.
    pub async fn describe(&self, environment: &Name, caller: Option<&ProviderVariables>) -> Result<ModelChoice> {
        self.usual(environment, caller).await.map(|chosen| chosen.model)
    }

    /// What one call of `model` cost, if `models.prices` has a price for it.
    pub fn cost_microusd(&self, model: &ModelChoice, usage: &Usage) -> Option<i64> {
        let price = self.settings.models.prices.get(&format!("{}/{}", model.provider, model.id))?;
        Some(price.cost_microusd(usage))
    }

    /// Whether it is known what calls of `model` cost. The offline rules cost nothing.
    pub fn has_price(&self, model: &ModelChoice) -> bool {
        let is_offline = || {
            !self.given.contains_key(&model.provider) && self.api(&model.provider).is_ok_and(|api| api == Api::Offline)
        };
        self.settings.models.prices.contains_key(&format!("{}/{}", model.provider, model.id)) || is_offline()
    }

    /// The most tokens that one answer of `model` may have; `None` = what its server allows.
    pub fn max_output_tokens(&self, model: &ModelChoice) -> Option<u32> {
        let said = self.settings.providers.get(&model.provider).and_then(|settings| settings.max_output_tokens);
        let wants_to_be_told = || self.api(&model.provider).is_ok_and(|api| api == Api::Anthropic);
        said.or_else(|| wants_to_be_told().then_some(defaults::ANTHROPIC_MAX_TOKENS))
    }

    /// Keeps what the caller brought, for as long as the run lives in this process.
    pub fn remember(&self, run: RunId, variables: Arc<ProviderVariables>) {
        self.make_variables_known(&variables);
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).insert(run, variables);
    }

    /// What the caller of this run brought, for the runs that it calls.
    pub fn brought(&self, run: RunId) -> Option<Arc<ProviderVariables>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    /// Drops what the caller of this run brought.
    pub fn forget(&self, run: RunId) {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// The provider that the run is pinned to, with the key as it is now: `before`, which has learned what its server takes, unless key,
    /// headers or address have changed. `Ok(None)`: the key that it was started with is gone, and the station has none of its own.
    pub fn provider_for(
        &self,
        environment: &Name,
        run: RunId,
        choice: &ModelChoice,
        from_caller: bool,
        before: Option<&Built>,
    ) -> Result<Option<Built>> {
        let brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned();
        // Nobody's word is no way to go on either: without the caller's address the default one would be somebody else's server.
        let is_gone = |access: &Access| access.source == Source::Nobody;
        if from_caller && self.access(environment, &choice.provider, brought.as_deref())?.as_ref().is_none_or(is_gone) {
            return Ok(None);
        }
        self.build(environment, &choice.provider, brought.as_deref(), before).map(Some)
    }

    /// The whole name of a model that an agent names without its provider, as files of the Go Station do: by its family, else as one of
    /// the provider that the environment's other agents use.
    async fn full_name(&self, environment: &Name, name: &str, caller: Option<&ProviderVariables>) -> Result<String> {
        if name.contains('/') {
            return Ok(name.to_owned());
        }
        let family = FAMILIES.iter().find(|(family, _)| name.starts_with(family) && !name.starts_with(OPEN_WEIGHTS));
        if let Some((_, provider)) = family {
            return Ok(format!("{provider}/{name}"));
        }
        let other = self.usual(environment, caller).await.ok().map(|chosen| chosen.model.provider);
        match other.filter(|provider| provider != OFFLINE.provider) {
            Some(provider) => Ok(format!("{provider}/{name}")),
            None => Err(Error::invalid_input(format!(
                "model `{}` names no provider, and environment `{environment}` has none to look in",
                name.escape_debug()
            ))
            .hint("write `provider/model`, such as `openai/gpt-5.4-mini`")
            .field("model")),
        }
    }

    fn environment_model(&self, environment: &Name) -> Option<&str> {
        self.settings.environments.get(environment).and_then(|settings| settings.model.as_deref())
    }

    fn named(
        &self,
        environment: &Name,
        name: &str,
        reason: String,
        caller: Option<&ProviderVariables>,
    ) -> Result<Chosen> {
        let (provider, id) = config::split_model(name).ok_or_else(|| {
            Error::invalid_input(format!("model `{}` names no provider and model", name.escape_debug()))
                .hint("write `provider/model`, such as `openai/gpt-5.4-mini`")
                .field("model")
        })?;
        self.build(environment, provider, caller, None)?;
        if !self.given.contains_key(provider) && self.api(provider)? == Api::Offline && id != OFFLINE.model {
            return Err(Error::invalid_input(format!("model `{}` doesn't exist", name.escape_debug()))
                .hint(format!("the only model of provider `{provider}` is `{provider}/{}`", OFFLINE.model))
                .field("model"));
        }
        let from_caller =
            self.access(environment, provider, caller)?.is_some_and(|access| access.source == Source::Caller);
        Ok(Chosen { model: ModelChoice { provider: provider.into(), id: id.into(), reason }, from_caller })
    }

    /// The dialect that provider `name` speaks.
    fn api(&self, name: &str) -> Result<Api> {
        match (self.settings.providers.get(name), defaults::of_provider(name)) {
            (Some(settings), _) => Ok(dialect(settings.api)),
            (None, Some(row)) => Ok(row.api),
            (None, None) => Err(self.unknown_provider(name)),
        }
    }

    fn build(
        &self,
        environment: &Name,
        name: &str,
        caller: Option<&ProviderVariables>,
        before: Option<&Built>,
    ) -> Result<Built> {
        if let Some(given) = self.given.get(name) {
            return Ok(Built { provider: self.redacted(environment, Arc::clone(given)), shown: None });
        }
        let config = self.config(environment, name, caller)?;
        let shown = Some(Shown::of(&config));
        if let Some(same) = before.filter(|before| before.shown == shown) {
            return Ok(same.clone());
        }
        self.make_key_known(environment, &config);
        let provider = llm::provider(config, self.http.clone(), Arc::clone(&self.clock));
        Ok(Built { provider: self.redacted(environment, provider), shown })
    }

    /// What the provider is built with.
    fn config(&self, environment: &Name, name: &str, caller: Option<&ProviderVariables>) -> Result<ProviderConfig> {
        let (api, settings) = (self.api(name)?, self.settings.providers.get(name));
        let access = self.access(environment, name, caller)?;
        if access.is_none() && api != Api::Offline {
            let error = Error::unavailable(format!("provider `{name}` has no API key in environment `{environment}`"))
                .field("model");
            return Err(match defaults::key_variables(name) {
                // Elsewhere a variable that is set may be the one that isn't let in.
                Some(keys) if self.settings.kind(environment) != EnvironmentKind::Development => error.hint(format!(
                    "set `providers.{name}.api_key` in station.yml, or name {keys} under \
                     `environments.{environment}.variables_from_process` and set it"
                )),
                Some(keys) => error.hint(format!("set {keys}, or `providers.{name}.api_key` in station.yml")),
                None => error.hint(format!(
                    "set `providers.{name}.api_key` in station.yml, or `base_url` alone for a server that wants no key"
                )),
            });
        }
        let headers = match settings {
            Some(settings) if access.as_ref().is_none_or(Access::takes_headers) => {
                self.headers(environment, name, settings)?
            }
            Some(settings) if !settings.headers.is_empty() => {
                tracing::warn!(
                    provider = name,
                    "`providers.{name}.headers` isn't sent to an address that a variable names; give it as `providers.{name}.base_url`"
                );
                Vec::new()
            }
            _ => Vec::new(),
        };
        let (api_key, base_url) = access.map(|access| (access.api_key, access.base_url)).unwrap_or_default();
        Ok(ProviderConfig {
            name: name.to_owned(),
            api,
            retries: self.retries(name, base_url.as_deref()),
            base_url,
            api_key,
            headers,
            timeout: settings.and_then(|settings| settings.timeout_ms).map_or(PROVIDER_TIMEOUT, Duration::from_millis),
            ollama: settings.map(ollama_options).unwrap_or_default(),
        })
    }

    fn redacted(&self, environment: &Name, provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
        Arc::new(llm::Redacted::new(self.redactor.within(&scope_of(environment)), provider))
    }

    /// The retries that all calls to one provider at one address share.
    fn retries(&self, name: &str, base_url: Option<&str>) -> Arc<RetryBudget> {
        let place = (name.to_owned(), base_url.map(str::to_owned));
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(retries.entry(place).or_default())
    }

    fn unknown_provider(&self, name: &str) -> Error {
        let configured = self.settings.providers.keys().map(String::as_str);
        let known: Vec<&str> = defaults::TABLE.iter().map(|row| row.provider).chain(configured).collect();
        Error::invalid_input(format!("provider `{}` is not known", name.escape_debug()))
            .hint(format!("use one of {}, or add it under `providers` in station.yml", known.join(", ")))
            .field("model")
    }
}

fn dialect(api: ProviderApi) -> Api {
    match api {
        ProviderApi::Openai => Api::Openai,
        ProviderApi::OpenaiResponses => Api::OpenaiResponses,
        ProviderApi::Gemini => Api::Gemini,
        ProviderApi::OpenaiChat => Api::OpenaiChat,
        ProviderApi::Anthropic => Api::Anthropic,
        ProviderApi::Ollama => Api::Ollama,
        ProviderApi::Offline => Api::Offline,
    }
}

fn ollama_options(settings: &ProviderSettings) -> OllamaOptions {
    let usual = OllamaOptions::default();
    OllamaOptions {
        context_tokens: settings.context_tokens.unwrap_or(usual.context_tokens),
        think: settings.think.map(|think| match think {
            ThinkSetting::On => Think::Switch(true),
            ThinkSetting::Off => Think::Switch(false),
            ThinkSetting::Low => Think::Level(ThinkLevel::Low),
            ThinkSetting::Medium => Think::Level(ThinkLevel::Medium),
            ThinkSetting::High => Think::Level(ThinkLevel::High),
        }),
    }
}

#[cfg(test)]
mod tests;
