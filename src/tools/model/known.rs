//! The keys that models are called with, as the redactor has to know them.

use super::{Models, ProviderVariables};
use crate::config::{SecretOr, Settings};
use crate::domain::Name;
use crate::llm::{ProviderConfig, defaults};
use crate::redact::{PROVIDERS, scope_of};
use crate::tools::Table;
use crate::tools::secret::words;
use secrecy::{ExposeSecret, SecretString};

/// A header whose name has one of these carries a credential; the values of others would be found in innocent text.
const CREDENTIALS: [&str; 7] = ["auth", "key", "token", "secret", "cookie", "password", "credential"];

impl Models {
    /// The keys of the process and of station.yml, before anything is done with them.
    pub(super) fn make_known(&self) {
        self.make_variables_known(&self.process);
        for (name, settings) in &self.settings.providers {
            if let Some(SecretOr::Plain(key)) = &settings.api_key {
                self.know(PROVIDERS, &of_key(name), key);
            }
            for (header, value) in settings.headers.iter().filter(|(header, _)| is_credential(header)) {
                if let SecretOr::Plain(value) = value {
                    self.know(PROVIDERS, &of_header(name, header), value);
                }
            }
        }
    }

    /// A word that answers have to say is none to hide: `lm-studio` as the key of the provider `lm-studio`.
    fn know(&self, scope: &str, name: &str, value: &SecretString) {
        if !self.is_in_a_word(value.expose_secret().trim()) {
            self.redactor.add(scope, name, value);
        }
    }

    /// Whether `text` is part of a word of Station's answers, or of the name of a provider, an environment or a model in `station.yml`.
    pub fn is_in_a_word(&self, text: &str) -> bool {
        self.words.iter().any(|word| word.contains(text))
    }

    /// The keys that a caller brought along. Addresses are no secrets.
    pub(super) fn make_variables_known(&self, variables: &ProviderVariables) {
        for (name, value) in variables.0.iter().filter(|(name, _)| name.ends_with("_API_KEY")) {
            self.know(PROVIDERS, name, value);
        }
    }

    /// What a provider is about to be built with, wherever it came from: in this environment, because it may be a secret of it.
    pub(super) fn make_key_known(&self, environment: &Name, config: &ProviderConfig) {
        let scope = scope_of(environment);
        if let Some(key) = &config.api_key {
            self.know(&scope, &of_key(&config.name), key);
        }
        for (header, value) in config.headers.iter().filter(|(header, _)| is_credential(header)) {
            self.know(&scope, &of_header(&config.name, header), &SecretString::from(value.clone()));
        }
    }
}

/// The words of Station's own answers, and the names that `station.yml` has: of providers, environments and models.
pub(super) fn words(settings: &Settings, table: &Table) -> Vec<String> {
    let usual = defaults::TABLE.iter().flat_map(|row| [row.provider, row.model]);
    let own = words::of(table).into_iter().chain(usual).chain(settings.providers.keys().map(String::as_str));
    let models = settings.environments.iter().flat_map(|(name, own)| [Some(name.as_str()), own.model.as_deref()]);
    let models = models.chain([settings.models.default.as_deref()]).flatten();
    own.chain(models).chain(settings.models.prices.keys().map(String::as_str)).map(str::to_owned).collect()
}

fn of_key(provider: &str) -> String {
    format!("providers.{provider}.api_key")
}

fn of_header(provider: &str, header: &str) -> String {
    format!("providers.{provider}.headers.{header}")
}

fn is_credential(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    CREDENTIALS.iter().any(|word| header.contains(word))
}
