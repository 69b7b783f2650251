//! `user_get`: one user with its roles.

use super::{UserView, find, view};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The user's name, or its number; by number also a deleted one.
    pub user: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, UserView>("user_get", Scope::UsersRead)
        .describe("Show a user", "Shows a user with its roles.")
        .environment(EnvironmentUse::None)
        .rest(Method::Get, "/users/{user}")
        .cli("user get", &["user"])
}

pub async fn get(call: Call, input: Input) -> Result<UserView> {
    find(&call, &input.user).await.map(view)
}
