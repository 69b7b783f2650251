//! `user_list`: the users, by name.

use super::{UserView, view};
use crate::domain::{Name, Scope};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec};
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
    ToolSpec::new::<Input, Page<UserView>>("user_list", Scope::UsersRead)
        .describe("List users", "Lists the users with their roles, by name.")
        .environment(EnvironmentUse::None)
        .rest(Method::Get, "/users")
        .cli("user list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<UserView>> {
    let limit = page::limit(input.limit)?;
    let after: Option<Name> = page::position("user_list", input.cursor.as_deref())?;
    let users = call.station.control.users(after.as_ref(), limit + 1).await?;
    let users = users.into_iter().map(view).collect();
    Ok(page::page("user_list", users, limit, |user: &UserView| user.name.clone()))
}
