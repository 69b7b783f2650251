//! `secret_list`: the secrets of an environment, by name, without their values.

use super::{SecretView, view};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<SecretView>>("secret_list", Scope::SecretsList)
        .describe("List secrets", "Lists the names and versions of an environment's secrets. Values are never shown.")
        .rest(Method::Get, "/secrets")
        .cli("secret list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<SecretView>> {
    let environment = call.environment()?;
    let of = format!("secret_list {}", environment.name);
    let limit = page::limit(input.limit)?;
    let after: Option<String> = page::position(&of, input.cursor.as_deref())?;
    let rows = environment.secrets.list(after.as_deref(), limit + 1).await?;
    let items = rows.into_iter().map(|row| view(environment, row)).collect();
    Ok(page::page(&of, items, limit, |secret: &SecretView| secret.name.clone()))
}
