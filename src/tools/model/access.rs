//! Where a provider's key and address come from.
//!
//! Both come from one source: `station.yml`, the process, or the caller. An address from one place and a key from another would send the
//! key to a host that it was never meant for. Nor do the headers of `station.yml`, which often are keys, go to an address of somebody else.

use super::{Models, ProviderVariables};
use crate::config::{ProviderSettings, SecretOr};
use crate::domain::{EnvironmentKind, Name};
use crate::error::{Error, Result};
use crate::llm::defaults::{self, OLLAMA, ProviderDefaults};
use crate::llm::{self, Api};
use crate::net::{OUTBOUND_HINT, check_outbound};
use crate::secrets::Values;
use secrecy::{ExposeSecret, SecretString};

/// Who gives key and address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Settings,
    Process,
    Caller,
    /// No one: the address of a server that wants no key is the usual one.
    Nobody,
}

/// A provider's key and address.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) source: Source,
    /// Absent = no credential is sent.
    pub(super) api_key: Option<SecretString>,
    /// Absent = the dialect's own address.
    pub(super) base_url: Option<String>,
}

impl Access {
    /// Whether the headers of `station.yml` may go there: nobody but that file, or the dialect, has named the host.
    pub(super) fn takes_headers(&self) -> bool {
        self.base_url.is_none() || matches!(self.source, Source::Settings | Source::Nobody)
    }
}

impl Models {
    /// Key and address of provider `name` in `environment`: from `station.yml` if that names either, else from the first whose variables
    /// have the key. `None` where nobody has one.
    pub(super) fn access(
        &self,
        environment: &Name,
        name: &str,
        caller: Option<&ProviderVariables>,
    ) -> Result<Option<Access>> {
        let settings = self.settings.providers.get(name);
        if let Some(settings) = settings.filter(|settings| says_where(settings)) {
            return self.of_settings(environment, name, settings).map(Some);
        }
        let dialect = settings
            .map_or_else(|| defaults::of_provider(name).map(|row| row.api), |own| Some(super::dialect(own.api)));
        if dialect == Some(Api::Ollama) {
            return self.ollama(environment, caller).map(Some);
        }
        if let Some(row) = defaults::of_provider(name)
            && defaults::is_local(row)
            && dialect == Some(row.api)
        {
            return Ok(Some(self.nobodys(row.provider)));
        }
        Ok(self.by_variables(environment, name, caller)?.map(|(_, access)| access))
    }

    /// The first provider whose key is among the variables, with the key's name.
    pub(super) fn detect(
        &self,
        environment: &Name,
        caller: Option<&ProviderVariables>,
    ) -> Result<Option<(&'static ProviderDefaults, &'static str, Source)>> {
        let is_configured = |name: &str| self.settings.providers.get(name).is_some_and(says_where);
        let rows = defaults::TABLE.iter().filter(|row| self.settings.models.detect && !is_configured(row.provider));
        for row in rows {
            if let Some((key, access)) = self.by_variables(environment, row.provider, caller)? {
                return Ok(Some((row, key, access.source)));
            }
        }
        Ok(None)
    }

    /// Why [`Models::detect`] finds nothing.
    pub(super) fn undetected(&self, environment: &Name, caller: Option<&ProviderVariables>) -> String {
        let is_set = |variable: &str| {
            let sources = std::iter::once(&self.process).chain(caller);
            sources.into_iter().any(|variables| self.allowed(environment, variables).get(variable).is_some())
        };
        let set = defaults::TABLE.iter().flat_map(|row| row.key_variables).find(|key| is_set(key));
        match set {
            None if !self.settings.models.detect => "no model is configured, and `models.detect` is off".to_owned(),
            None => "no model is configured and no provider key is set, such as OPENAI_API_KEY or ANTHROPIC_API_KEY"
                .to_owned(),
            Some(key) if self.settings.models.detect => {
                format!("no model is configured, and {key} isn't used: station.yml has its provider's key or address")
            }
            Some(key) => format!("no model is configured, and {key} isn't looked at: `models.detect` is off"),
        }
    }

    fn of_settings(&self, environment: &Name, name: &str, settings: &ProviderSettings) -> Result<Access> {
        let api_key = match &settings.api_key {
            None => None,
            Some(SecretOr::Plain(key)) => Some(key.clone()),
            Some(SecretOr::Reference(secret)) => {
                Some(self.secret(environment, secret, &format!("providers.{name}.api_key"))?)
            }
        };
        Ok(Access { source: Source::Settings, api_key, base_url: settings.base_url.clone() })
    }

    /// The headers that station.yml adds to every request.
    pub(super) fn headers(
        &self,
        environment: &Name,
        provider: &str,
        settings: &ProviderSettings,
    ) -> Result<Vec<(String, String)>> {
        let header = |(name, value): (&String, &SecretOr)| {
            let value = match value {
                SecretOr::Plain(value) => value.clone(),
                SecretOr::Reference(secret) => {
                    self.secret(environment, secret, &format!("providers.{provider}.headers.{name}"))?
                }
            };
            Ok((name.clone(), value.expose_secret().to_owned()))
        };
        settings.headers.iter().map(header).collect()
    }

    /// The last hop, which is always a header: the secret of the run's environment that `key` of station.yml refers to.
    fn secret(&self, environment: &Name, secret: &str, key: &str) -> Result<SecretString> {
        let needed_by = format!("`{key}` of station.yml");
        match self.secrets.get(environment) {
            Some(values) => values.get_for_header(secret, &needed_by),
            None => Values::none(environment.clone()).get(secret, &needed_by),
        }
    }

    /// Key and address that the provider's variables hold, and the name of the one with the key.
    fn by_variables(
        &self,
        environment: &Name,
        name: &str,
        caller: Option<&ProviderVariables>,
    ) -> Result<Option<(&'static str, Access)>> {
        // A name that station.yml gives to another vendor says nothing about whose key the variable holds.
        let settings = self.settings.providers.get(name);
        let same_vendor =
            |row: &&ProviderDefaults| settings.is_none_or(|own| super::dialect(own.api).of_vendor() == row.api);
        let Some(row) = defaults::of_provider(name).filter(same_vendor) else { return Ok(None) };
        let sources = [(Source::Process, Some(&self.process)), (Source::Caller, caller)];
        for (source, variables) in sources {
            let Some(all) = variables else { continue };
            let variables = self.allowed(environment, all);
            let found = row.key_variables.iter().find_map(|variable| Some((*variable, variables.get(variable)?)));
            let Some((variable, key)) = found else { continue };
            if let Some(address) = row.base_url_variable
                && all.get(address).is_some()
                && variables.get(address).is_none()
            {
                return Err(torn_apart(environment, name, variable, address));
            }
            let base_url = row.base_url_variable.and_then(|variable| variables.get(variable));
            let base_url = base_url.map(|url| url.expose_secret().to_owned());
            if let (Some(variable), Some(url)) = (row.base_url_variable, &base_url) {
                check_outbound(url)
                    .map_err(|reason| Error::unavailable(format!("{variable}: {reason}")).hint(OUTBOUND_HINT))?;
            }
            return Ok(Some((variable, Access { source, api_key: Some(key.clone()), base_url })));
        }
        Ok(None)
    }

    /// Where the Ollama server is: `OLLAMA_HOST` of the process, else of the caller, else this machine. It wants no key.
    fn ollama(&self, environment: &Name, caller: Option<&ProviderVariables>) -> Result<Access> {
        let variable = OLLAMA.base_url_variable.unwrap_or_default();
        for (source, variables) in [(Source::Process, Some(&self.process)), (Source::Caller, caller)] {
            let variables = variables.map(|variables| self.allowed(environment, variables));
            let Some(host) = variables.as_ref().and_then(|variables| variables.get(variable)) else { continue };
            let url = llm::ollama::address(host.expose_secret());
            check_outbound(&url)
                .map_err(|reason| Error::unavailable(format!("{variable}: {reason}")).hint(OUTBOUND_HINT))?;
            return Ok(Access { source, api_key: None, base_url: Some(url) });
        }
        Ok(self.nobodys(OLLAMA.provider))
    }

    /// A server on this machine, where it usually is.
    fn nobodys(&self, provider: &str) -> Access {
        let base_url = self.local.as_ref().and_then(|servers| servers.base_url(provider));
        let usual = || defaults::of_provider(provider).map(|row| row.base_url.to_owned());
        Access { source: Source::Nobody, api_key: None, base_url: base_url.or_else(usual) }
    }

    /// Those of `variables` that `environment` lets in.
    fn allowed(&self, environment: &Name, variables: &ProviderVariables) -> ProviderVariables {
        let named =
            self.settings.environments.get(environment).map(|settings| settings.variables_from_process.as_slice());
        let all = self.settings.kind(environment) == EnvironmentKind::Development;
        variables.only(|variable| all || named.is_some_and(|named| named.iter().any(|name| name == variable)))
    }
}

/// The environment lets in a key without the address that is set beside it, and for which it may be.
fn torn_apart(environment: &Name, provider: &str, key: &str, address: &str) -> Error {
    Error::unavailable(format!(
        "environment `{environment}` lets in {key}, but not {address}, which is set beside it: the key may be for that address only"
    ))
    .hint(format!(
        "name both {key} and {address} under `environments.{environment}.variables_from_process`, or set `providers.{provider}.api_key` \
         in station.yml"
    ))
}

/// Whether station.yml names the provider's key or its address.
pub(super) fn says_where(settings: &ProviderSettings) -> bool {
    settings.api_key.is_some() || settings.base_url.is_some()
}
