//! `api_key_update`: what a key may do, from where, and until when. Its secret stays: a new secret is a new key.

use super::{ApiKeyView, existing, expiry, find_living, networks, not_empty, once, view};
use crate::domain::{AuditEntry, Effect, KeyLimits, KeyRecord, Name, Network, Role, Scope, Timestamp};
use crate::error::Result;
use crate::store::KeyChange;
use crate::tools::giving::Giving;
use crate::tools::input::given;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Absent leaves a field as it is, null removes the limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The key's id, or its name if no other key has it.
    pub key: String,
    #[schemars(extend("type" = "string"))]
    pub name: Option<Name>,
    /// No more than this role.
    #[serde(default, deserialize_with = "given")]
    pub role: Option<Option<Role>>,
    /// Only in these environments.
    #[serde(default, deserialize_with = "given")]
    pub environments: Option<Option<Vec<Name>>>,
    /// Only these scopes.
    #[serde(default, deserialize_with = "given")]
    pub scopes: Option<Option<Vec<Scope>>>,
    /// Only from these networks, 64 at most. What counts is the address of the connection; with `http.behind_proxy`, the one
    /// that the proxy tells.
    #[serde(default, deserialize_with = "given")]
    pub sources: Option<Option<Vec<Network>>>,
    /// How long it is good from now on, such as `30d`: 365 days at most, and no longer than the key that asks for it.
    #[schemars(extend("type" = "string"))]
    pub expires_in: Option<String>,
    /// Until when it is good, instead of `expires_in`.
    #[schemars(extend("type" = "string"))]
    pub expires_at: Option<Timestamp>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, ApiKeyView>("api_key_update", Scope::KeysWrite)
        .describe(
            "Update an API key",
            "Changes what an API key may do, from where and until when, from its next request on. Null removes a limit.",
        )
        .changes(Effect::Write, true)
        .environment(EnvironmentUse::None)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Patch, "/api-keys/{key}")
        .cli("api-key update", &["key"])
}

pub async fn update(call: Call, input: Input) -> Result<ApiKeyView> {
    let giving = Giving::begin(&call).await?;
    let key = find_living(&call, &input.key).await?;
    let environments = match input.environments {
        None => key.limits.environments.clone(),
        Some(names) => existing(&giving, names, &key.id).await?,
    };
    let before = key.limits.clone();
    let limits = KeyLimits {
        role: input.role.unwrap_or(before.role),
        environments,
        scopes: input.scopes.map_or(before.scopes, |scopes| scopes.map(once)),
        sources: match input.sources {
            None => before.sources,
            Some(sources) => sources.map(networks).transpose()?,
        },
    };
    not_empty(&limits, &call.station.table)?;
    let expires_at = expiry(call.now(), input.expires_in.as_deref(), input.expires_at)?.unwrap_or(key.expires_at);
    let then = KeyRecord { limits, expires_at, name: input.name.unwrap_or_else(|| key.name.clone()), ..key.clone() };
    giving.key_within_own(Some(&key), &then, &then.id).await?;
    let KeyRecord { id, name, limits, .. } = then;
    let details = json!({
        "name": name, "role": limits.role, "environments": limits.environments, "scopes": limits.scopes,
        "sources": limits.sources, "expires_at": expires_at,
    });
    let audit = AuditEntry { details: Some(details), ..call.audit(&id) };
    call.station.control.api_key_update(&id, KeyChange { name, limits, expires_at }, audit).await.map(view)
}
