//! `variable_delete`: removes one variable from `variables.yml`.

use super::{all, change, may_change_users_of};
use crate::domain::{Effect, Scope, nearest};
use crate::error::{Error, Result};
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    pub deleted: String,
    /// The servers that ask for it still, by name: those that name no default can't be attached any more.
    pub used_by: BTreeSet<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("variable_delete", Scope::VariablesWrite)
        .describe(
            "Delete a variable",
            "Removes a plain variable from the environment's variables.yml and takes the files up. Names the servers that ask for it still.",
        )
        .changes(Effect::Destructive, true)
        .rest(Method::Delete, "/variables/{name}")
        .cli("variable delete", &["name"])
}

pub async fn delete(call: Call, input: Input) -> Result<Output> {
    let environment = call.environment()?;
    let _one_at_a_time = environment.files.lock().await;
    let before = all(&call).await?;
    let Some(variable) = before.iter().find(|variable| variable.name == input.name && variable.in_file) else {
        let names = before.iter().filter(|variable| variable.in_file).map(|variable| variable.name.as_str());
        let message = format!("variables.yml of `{}` has no `{}`", environment.name, input.name.escape_debug());
        let hint = match nearest(&input.name, names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("`stn variable list -e {}` shows what there is", environment.name),
        };
        return Err(Error::not_found(message).hint(hint).field("name"));
    };
    may_change_users_of(&call, &input.name).await?;
    change(&call, &input.name, None).await?;
    Ok(Output { deleted: input.name.clone(), used_by: variable.used_by.clone() })
}
