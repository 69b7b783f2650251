//! `config_get`: the configuration that is in force, key by key, with where each comes from; or the JSON Schema of one kind of file.

use crate::config::{self, EffectiveKey, STATION_YML};
use crate::domain::{Scope, nearest};
use crate::error::{Error, Result};
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kinds of files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    Station,
    Prompt,
    Servers,
    Variables,
}

impl FileKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Prompt => "prompt",
            Self::Servers => "servers",
            Self::Variables => "variables",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// One key or everything below it, as a dotted path: `http.listen`, `runs`; without it, all of them.
    pub key: Option<String>,
    /// The JSON Schema of this kind of file, instead of values.
    pub schema: Option<FileKind>,
}

/// The configuration in force, or a schema.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    pub keys: Vec<EffectiveKey>,
    /// What to do so that station.yml is in force, if it was changed after the station had read it.
    pub station_yml_changed: Option<String>,
    /// The schema that was asked for (draft 2020-12).
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub schema: Option<Value>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("config_get", Scope::ConfigRead)
        .describe(
            "Get the configuration",
            "Shows the settings that are in force, key by key, and whether each comes from station.yml (with its line), from an environment variable or a flag, or is the default. Credentials are not shown. With `schema` it gives the JSON Schema of station.yml, prompt, servers or variables files instead.",
        )
        .environment(EnvironmentUse::Optional)
        .rest(Method::Get, "/config")
        .cli("config get", &["key"])
}

pub async fn get(call: Call, input: Input) -> Result<Output> {
    if let Some(kind) = input.schema {
        if input.key.is_some() {
            return Err(Error::invalid_input("`key` and `schema` ask for different things")
                .hint("give one of them")
                .field("schema"));
        }
        return Ok(Output { keys: Vec::new(), station_yml_changed: None, schema: config::file_schema(kind.as_str()) });
    }
    let station = &call.station;
    let existing: Vec<_> = station.environments.all().iter().map(|environment| environment.name.clone()).collect();
    let mut keys = config::effective(&station.settings, STATION_YML, &station.default_environment, &existing);
    // Where port 0 was asked for, the one that it became.
    if let Some((address, key)) = station.http_listen.get().zip(keys.iter_mut().find(|key| key.key == "http.listen")) {
        key.value = address.to_string().into();
    }
    if let Ok(environment) = call.environment() {
        let own = format!("environments.{}.", environment.name);
        keys.retain(|key| key.key.starts_with(&own));
    }
    if let Some(asked) = &input.key {
        keys = chosen(keys, asked.trim_end_matches('.'))?;
    }
    let station_yml_changed = station.station_yml_changed(&call.ctx.principal).await;
    Ok(Output { keys, station_yml_changed, schema: None })
}

/// The key that was asked for, or all below it.
fn chosen(keys: Vec<EffectiveKey>, asked: &str) -> Result<Vec<EffectiveKey>> {
    let is_asked = |key: &str| key == asked || key.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'));
    if keys.iter().any(|key| is_asked(&key.key)) {
        return Ok(keys.into_iter().filter(|key| is_asked(&key.key)).collect());
    }
    let sections = keys.iter().flat_map(|key| key.key.match_indices('.').map(|(at, _)| &key.key[..at]));
    let guess = nearest(asked, keys.iter().map(|key| key.key.as_str()).chain(sections));
    let error = Error::not_found(format!("the configuration has no key `{}` here", asked.escape_debug())).field("key");
    Err(match guess {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint("`stn config get` shows all keys; with an environment, only those of `environments.<name>`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FILE_SCHEMAS;

    #[test]
    fn every_kind_of_file_that_has_a_schema_can_be_asked_for() {
        let kinds = [FileKind::Station, FileKind::Prompt, FileKind::Servers, FileKind::Variables].map(FileKind::as_str);
        assert_eq!(kinds, FILE_SCHEMAS.map(|(name, _)| name));
    }
}
