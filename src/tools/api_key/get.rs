//! `api_key_get`: one key, without its secret.

use super::{ApiKeyView, find, view};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The key's id, or its name if no other key has it; by id also a deleted one.
    pub key: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, ApiKeyView>("api_key_get", Scope::KeysRead)
        .describe(
            "Show an API key",
            "Shows what an API key may do, until when, and when it was last used; never its secret.",
        )
        .environment(EnvironmentUse::None)
        .rest(Method::Get, "/api-keys/{key}")
        .cli("api-key get", &["key"])
}

pub async fn get(call: Call, input: Input) -> Result<ApiKeyView> {
    find(&call, &input.key).await.map(view)
}
