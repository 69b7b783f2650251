//! `variable_set`: writes one variable into `variables.yml`; the rest of the file stays as its author left it.

use super::{Variable, all, change, may_change_users_of, of_files};
use crate::config;
use crate::domain::{Effect, Scope};
use crate::error::{Error, Result};
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Letters, digits and `_`, no digit first.
    pub name: String,
    /// Any text, at most 128 KiB. It is kept in the clear, in a file that belongs into git: secrets don't go here.
    pub value: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Variable>("variable_set", Scope::VariablesWrite)
        .describe(
            "Set a variable",
            "Writes a plain variable into the environment's variables.yml and takes the files up: servers that use it start again with the new value, so that changing one that a command uses needs the right to let commands run. Not for secrets.",
        )
        .changes(Effect::Write, true)
        .rest(Method::Post, "/variables")
        .cli("variable set", &["name", "value"])
}

pub async fn set(call: Call, input: Input) -> Result<Variable> {
    let environment = call.environment()?;
    config::check_variable(&input.name, &input.value)?;
    let _one_at_a_time = environment.files.lock().await;
    may_change_users_of(&call, &input.name).await?;
    let variables = match change(&call, &input.name, Some(&input.value)).await? {
        Some(looked) => of_files(&call, looked.files())?,
        None => all(&call).await?,
    };
    let found = variables.into_iter().find(|variable| variable.name == input.name);
    found.ok_or_else(|| Error::conflict(format!("`{}` was removed from variables.yml again meanwhile", input.name)))
}
