//! `api_key_list`: the keys, by name.

use super::{ApiKeyView, view};
use crate::domain::{Name, Scope};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec, user};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only keys of this user, by name or number.
    pub user: Option<String>,
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<ApiKeyView>>("api_key_list", Scope::KeysRead)
        .describe("List API keys", "Lists the API keys that are not deleted, by name; never their secrets.")
        .environment(EnvironmentUse::None)
        .rest(Method::Get, "/api-keys")
        .cli("api-key list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<ApiKeyView>> {
    let limit = page::limit(input.limit)?;
    let user = match &input.user {
        Some(text) => Some(user::find(&call, text).await?.id),
        None => None,
    };
    let of = format!("api_key_list {user:?}");
    let after: Option<(Name, String)> = page::position(&of, input.cursor.as_deref())?;
    let keys = call.station.control.api_keys(user, after, limit + 1).await?;
    let keys = keys.into_iter().map(view).collect();
    Ok(page::page(&of, keys, limit, |key: &ApiKeyView| (key.name.clone(), key.id.clone())))
}
