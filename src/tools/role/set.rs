//! `role_set`: gives a user a role, or takes it away.

use crate::domain::{AuditEntry, Effect, InvalidName, Name, Principal, Role, Roles, Scope};
use crate::error::{Error, Result};
use crate::tools::giving::Giving;
use crate::tools::input::given;
use crate::tools::user::{UserView, find_living, view};
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The user's name, or its number.
    pub user: String,
    /// Where: an environment, or `*` for every one that has no role of its own, and for the station as a whole.
    pub environment: String,
    /// viewer, developer, operator or admin; null takes the role away.
    #[serde(default, deserialize_with = "given")]
    pub role: Option<Option<Role>>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, UserView>("role_set", Scope::UsersWrite)
        .describe(
            "Set a user's role",
            "Gives a user a role in one environment or (`*`) everywhere, or takes it away. In an environment with a role of its own, that one counts and no other.",
        )
        .changes(Effect::Write, true)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Patch, "/users/{user}/roles")
        .cli("role set", &["user", "environment", "role"])
}

pub async fn set(call: Call, input: Input) -> Result<UserView> {
    let Some(role) = input.role else {
        return Err(Error::invalid_input("`role` is missing")
            .hint("give one of viewer, developer, operator and admin, or null (`--unset role`) to take the role away")
            .field("role"));
    };
    let giving = Giving::begin(&call).await?;
    let user = find_living(&call, &input.user).await?;
    let environment = match input.environment.as_str() {
        Roles::EVERYWHERE => None,
        text => {
            let invalid = |invalid: InvalidName| Error::invalid_input(invalid.to_string()).field("environment");
            let name = Name::new(text).map_err(|error| invalid(error).hint("give an environment's name, or `*`"))?;
            Some(giving.environment(&name, user.name.as_str()).await?)
        }
    };
    let mut roles = user.roles.clone();
    roles.set(environment.as_ref(), role);
    let then = Principal::new(call.ctx.principal.who.clone(), roles.grant());
    let before = Principal::new(call.ctx.principal.who.clone(), user.roles.grant());
    giving.within_own_rights(Some(&before), &then, user.name.as_str()).await?;
    let details = json!({ "environment": input.environment, "role": role });
    let audit = AuditEntry { details: Some(details), ..call.audit(&user.name) };
    call.station.control.role_set(user.id, environment.as_ref(), role, audit).await.map(view)
}
