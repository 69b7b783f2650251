//! `user_create`: somebody whom keys can belong to.

use super::{UserView, check_display_name, view};
use crate::domain::{Effect, Name, Scope};
use crate::error::Result;
use crate::tools::{Call, EnvironmentUse, Exposure, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Lower-case letters, digits, `-` and `_`.
    pub name: Name,
    /// A name for people, on one line, 200 characters at most.
    pub display_name: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, UserView>("user_create", Scope::UsersWrite)
        .describe("Create a user", "Creates a user, who may do nothing until a role is given to them.")
        .changes(Effect::Write, false)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest_created("/users", 201, "/users/{name}")
        .cli("user create", &["name"])
}

pub async fn create(call: Call, input: Input) -> Result<UserView> {
    check_display_name(input.display_name.as_deref())?;
    let audit = call.audit(&input.name);
    call.station.control.user_create(&input.name, input.display_name, audit).await.map(view)
}
