//! `api_key_delete`: a key is not taken any more, from the next request on.

use super::find_living;
use crate::domain::{Effect, Scope};
use crate::error::Result;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The key's id, or its name if no other key has it.
    pub key: String,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The key's id.
    pub deleted: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("api_key_delete", Scope::KeysWrite)
        .describe("Delete an API key", "Ends an API key: its next request is refused, and its open streams are closed.")
        .changes(Effect::Destructive, true)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Delete, "/api-keys/{key}")
        .cli("api-key delete", &["key"])
}

pub async fn delete(call: Call, input: Input) -> Result<Output> {
    let _nobody_gives_meanwhile = call.station.giving.lock().await;
    let key = find_living(&call, &input.key).await?;
    call.station.control.api_key_delete(&key.id, call.audit(&key.id)).await?;
    Ok(Output { deleted: key.id })
}
