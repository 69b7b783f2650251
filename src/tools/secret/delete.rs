//! `secret_delete`: forgets a secret. What refers to it stops working, and says so.

use super::names::Names;
use super::{check_name, missing};
use crate::domain::{Effect, Scope};
use crate::error::Result;
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The secret's name.
    pub name: String,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    pub deleted: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("secret_delete", Scope::SecretsWrite)
        .describe("Delete a secret", "Forgets a secret. Servers and providers that refer to it stop working.")
        .changes(Effect::Destructive, true)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Delete, "/secrets/{name}")
        .cli("secret delete", &["name"])
}

pub async fn delete(call: Call, input: Input) -> Result<Output> {
    let environment = call.environment()?;
    check_name(&input.name)?;
    let names = Names::of(environment).await?;
    if !environment.secrets.delete(&input.name, call.audit(&input.name)).await? {
        return Err(missing(&call, &input.name));
    }
    environment.gateway.secret_changed(&input.name);
    names.free(environment);
    Ok(Output { deleted: input.name })
}
