//! `user_update`: the name for people, and whether the user's keys are taken.

use super::{UserView, check_display_name, find_living, view};
use crate::domain::{AuditEntry, Effect, Principal, Scope, UserState};
use crate::error::Result;
use crate::store::UserChange;
use crate::tools::giving::Giving;
use crate::tools::input::given;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Absent leaves a field as it is, null removes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The user's name, or its number.
    pub user: String,
    /// A name for people, on one line, 200 characters at most.
    #[serde(default, deserialize_with = "given")]
    pub display_name: Option<Option<String>>,
    /// `suspended`: none of its keys is taken until it is `active` again.
    pub state: Option<UserState>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, UserView>("user_update", Scope::UsersWrite)
        .describe("Update a user", "Changes a user's name for people, suspends it, or makes it active again.")
        .changes(Effect::Write, true)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Patch, "/users/{user}")
        .cli("user update", &["user"])
}

pub async fn update(call: Call, input: Input) -> Result<UserView> {
    check_display_name(input.display_name.as_ref().and_then(|name| name.as_deref()))?;
    let giving = Giving::begin(&call).await?;
    let user = find_living(&call, &input.user).await?;
    if input.state == Some(UserState::Active) {
        let then = Principal::new(call.ctx.principal.who.clone(), user.roles.grant());
        giving.within_own_rights(None, &then, user.name.as_str()).await?;
    }
    let audit = AuditEntry { details: Some(told(&input)), ..call.audit(&user.name) };
    let change = UserChange { display_name: input.display_name, state: input.state };
    call.station.control.user_update(user.id, change, audit).await.map(view)
}

/// What was asked for, as the audit tells it: only fields that were given.
fn told(input: &Input) -> Value {
    let display_name = input.display_name.as_ref().map(|name| ("display_name", json!(name)));
    let state = input.state.map(|state| ("state", json!(state)));
    let fields = display_name.into_iter().chain(state).map(|(field, value)| (field.to_owned(), value));
    Value::Object(fields.collect())
}
