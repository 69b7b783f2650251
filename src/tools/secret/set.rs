//! `secret_set`: keeps a value under a name, encrypted. A person's act: a model that knew the value would have to be trusted with it.

use super::{LONGEST, SecretValue, SecretView, check_name, view, words};
use crate::domain::{Effect, EnvironmentKind, Scope};
use crate::error::{Error, Result};
use crate::redact::SHORTEST;
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// As `{{ secret.NAME }}` refers to it: letters, digits and `_`.
    pub name: String,
    /// 1 byte to 64 KiB of text; outside of development 8 bytes at least.
    pub value: SecretValue,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, SecretView>("secret_set", Scope::SecretsWrite)
        .describe(
            "Set a secret",
            "Keeps a value under a name, encrypted, or a new version of it. Servers that use it are started again. Nobody can read it back.",
        )
        .changes(Effect::Destructive, false)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Post, "/secrets")
        .cli("secret set", &["name"])
}

pub async fn set(call: Call, input: Input) -> Result<SecretView> {
    let environment = call.environment()?;
    check_name(&input.name)?;
    let SecretValue(value) = input.value;
    // Neither a variable of a process nor a header can carry it. A line break can be meant: keys in PEM have them.
    if value.expose_secret().contains('\0') {
        return Err(Error::invalid_input("the value has a NUL character, which neither a process nor a header takes")
            .hint("leave it out; binary keys are kept as base64 or hexadecimal")
            .field("value"));
    }
    let length = value.expose_secret().len();
    if length > LONGEST {
        return Err(Error::invalid_input(format!("the value has {length} bytes, and a secret has {LONGEST} at most"))
            .hint("keep a large secret in a file of its own")
            .field("value"));
    }
    let kind = call.station.settings.kind(&environment.name);
    if length < SHORTEST && kind != EnvironmentKind::Development {
        return Err(Error::invalid_input(format!(
            "the value has {length} bytes: one of less than {SHORTEST} can't be taken out of logs and answers"
        ))
        .hint(format!(
            "use a longer value; only environments of the kind `development` take a shorter one, and `{}` is none",
            environment.name
        ))
        .field("value"));
    }
    if length >= SHORTEST
        && (value.expose_secret().trim().is_empty() || words::is_own(&call.station, value.expose_secret()))
    {
        return Err(Error::invalid_input(
            "the value is part of a word that Station itself uses, or nothing but white space: taking it out of logs and answers would make \
             them unreadable",
        )
        .hint("use a value that nobody could guess")
        .field("value"));
    }
    let row = environment.secrets.set(&input.name, value, call.audit(&input.name)).await?;
    environment.gateway.secret_changed(&input.name);
    Ok(view(environment, row))
}
