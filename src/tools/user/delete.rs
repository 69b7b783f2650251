//! `user_delete`: nobody comes as this user any more.

use super::find_living;
use crate::domain::{AuditEntry, Effect, Name, Scope};
use crate::error::Result;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The user's name, or its number.
    pub user: String,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    pub deleted: Name,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("user_delete", Scope::UsersWrite)
        .describe("Delete a user", "Deletes a user and all of its keys. What it did stays in the audit.")
        .changes(Effect::Destructive, true)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Delete, "/users/{user}")
        .cli("user delete", &["user"])
}

pub async fn delete(call: Call, input: Input) -> Result<Output> {
    let _nobody_gives_meanwhile = call.station.giving.lock().await;
    let user = find_living(&call, &input.user).await?;
    let keys = call.station.control.api_keys(Some(user.id), None, u32::MAX).await?;
    let ended: Vec<_> = keys.iter().map(|key| &key.id).collect();
    let audit = AuditEntry { details: Some(json!({ "keys": ended })), ..call.audit(&user.name) };
    call.station.control.user_delete(user.id, audit).await?;
    Ok(Output { deleted: user.name })
}
