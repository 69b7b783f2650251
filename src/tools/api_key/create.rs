//! `api_key_create`: a new key, which is answered once and kept nowhere.

use super::{ApiKeyView, DEFAULT_LIFE, existing, expiry, networks, not_empty, once, view};
use crate::domain::{AuditEntry, Effect, KeyLimits, KeyRecord, Name, Network, Role, Scope, Timestamp};
use crate::error::Result;
use crate::home::ApiKey;
use crate::store::NewKey;
use crate::tools::giving::Giving;
use crate::tools::{Call, EnvironmentUse, Exposure, ToolSpec, user};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is for: lower-case letters, digits, `-` and `_`. Several keys may have one name.
    pub name: Name,
    /// Whose it is, by name or number; without it, the owner of the home's.
    pub user: Option<String>,
    /// No more than this role; without it, as much as its owner.
    pub role: Option<Role>,
    /// Only in these environments, and not for the station as a whole; without it, wherever its owner may.
    pub environments: Option<Vec<Name>>,
    /// Only these scopes, such as `agents:run`; without it, all of the role's.
    pub scopes: Option<Vec<Scope>>,
    /// Only from these networks, 64 at most, such as `10.0.0.0/8`; without it, from anywhere. What counts is the address of the
    /// connection; with `http.behind_proxy`, the one that the proxy tells.
    pub sources: Option<Vec<Network>>,
    /// How long it is good, such as `30d`; 90 days without it, 365 at most, and no longer than a key that makes it.
    pub expires_in: Option<String>,
    /// Until when it is good, instead of `expires_in`.
    pub expires_at: Option<Timestamp>,
}

/// The new key. `key` is shown now and never again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The key itself. Keep it: nobody can show it again.
    pub key: String,
    #[serde(flatten)]
    pub record: ApiKeyView,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("api_key_create", Scope::KeysWrite)
        .describe(
            "Create an API key",
            "Creates a key for REST, MCP over HTTP and `stn --url`. It is answered once and can't be shown again.",
        )
        .changes(Effect::Write, false)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest_created("/api-keys", 201, "/api-keys/{id}")
        .cli("api-key create", &["name"])
}

pub async fn create(call: Call, input: Input) -> Result<Output> {
    let giving = Giving::begin(&call).await?;
    let owner = match &input.user {
        Some(text) => Some(user::find_living(&call, text).await?),
        None => None,
    };
    let limits = KeyLimits {
        role: input.role,
        environments: existing(&giving, input.environments, input.name.as_str()).await?,
        scopes: input.scopes.map(once),
        sources: input.sources.map(networks).transpose()?,
    };
    not_empty(&limits, &call.station.table)?;
    let now = call.now();
    let expires_at = expiry(now, input.expires_in.as_deref(), input.expires_at)?
        .unwrap_or_else(|| giving.no_longer_than_own(now + DEFAULT_LIFE));
    let key = ApiKey::generate()?;
    let created_by = call.ctx.principal.who.clone();
    let planned = KeyRecord {
        id: key.id().to_owned(),
        name: input.name,
        owner,
        limits,
        created_at: now,
        expires_at,
        last_used_at: None,
        deleted_at: None,
        created_by,
    };
    giving.key_within_own(None, &planned, planned.name.as_str()).await?;
    let details = json!({
        "id": planned.id, "user": planned.owner.as_ref().map(|user| &user.name), "role": planned.limits.role,
        "environments": planned.limits.environments, "scopes": planned.limits.scopes,
        "sources": planned.limits.sources, "expires_at": expires_at,
    });
    let audit = AuditEntry { details: Some(details), ..call.audit(&planned.name) };
    let new = NewKey {
        id: planned.id,
        name: planned.name,
        user: planned.owner.map(|user| user.id),
        digest: key.digest(),
        limits: planned.limits,
        expires_at,
        created_by: planned.created_by,
    };
    let record = call.station.control.api_key_create(new, audit).await?;
    Ok(Output { key: key.reveal().expose_secret().to_owned(), record: view(record) })
}
