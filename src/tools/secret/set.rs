//! `secret_set`: keeps a value under a name, encrypted. A person's act: a model that knew the value would have to be trusted with it.

use super::names::Names;
use super::{LONGEST, SecretValue, SecretView, check_name, view, words};
use crate::domain::{Effect, EnvironmentKind, Scope, counted};
use crate::error::{Error, Result};
use crate::redact::{SHORTEST, repeats_itself, texts_of};
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
            "Keeps a value under a name, encrypted, or a new version of it. Servers that use it are started again if it is another value. Nobody can read it back.",
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
    let bytes = counted(length, "byte");
    if !(1..=LONGEST).contains(&length) {
        return Err(Error::invalid_input(format!("the value has {bytes}, and a secret has 1 to {LONGEST}"))
            .hint("keep a large secret in a file of its own; `stn secret delete` forgets one")
            .field("value"));
    }
    let kind = call.station.settings.kind(&environment.name);
    if length < SHORTEST && kind != EnvironmentKind::Development {
        return Err(Error::invalid_input(format!(
            "the value has {bytes}: one of less than {SHORTEST} can't be taken out of logs and answers"
        ))
        .hint(format!(
            "use a longer value; only environments of the kind `development` take a shorter one, and `{}` is none",
            environment.name
        ))
        .field("value"));
    }
    fit_to_be_looked_for(&call, value.expose_secret())?;
    let names = Names::of(environment).await?.and_secret(&input.name);
    if let Some(name) = names.holding(value.expose_secret()) {
        return Err(Error::invalid_input(format!(
            "the value, or a line of it, is part of {name}: taking it out of logs and answers would break what is called so"
        ))
        .hint("use a value that nobody could guess")
        .field("value"));
    }
    let (row, is_another) = environment.secrets.set(&input.name, value, call.audit(&input.name)).await?;
    if is_another {
        environment.gateway.secret_changed(&input.name);
        names.free(environment);
    }
    Ok(view(environment, row))
}

/// A value is taken out of whatever leaves; one that would take the station's own words along, or very long to be found, is refused.
fn fit_to_be_looked_for(call: &Call, value: &str) -> Result<()> {
    let refused = |why: &str| Error::invalid_input(why).hint("use a value that nobody could guess").field("value");
    let mut looked_for = texts_of(value).into_iter().filter(|text| text.len() >= SHORTEST);
    if (value.len() >= SHORTEST && value.trim().is_empty()) || looked_for.any(|text| words::is_own(&call.station, text))
    {
        return Err(refused(
            "the value, or a line of it, is part of a word that Station itself uses, or nothing but white space: taking it out of logs and \
             answers would make them unreadable",
        ));
    }
    if texts_of(value).into_iter().any(repeats_itself) {
        return Err(refused(
            "the value, or a line of it, repeats its beginning: looking for it in logs and answers would take too long",
        ));
    }
    Ok(())
}
