//! `station_status`: what runs here, for whom, with which models and servers.

use crate::domain::{Scope, Timestamp};
use crate::error::Result;
use crate::tools::environment::{EnvironmentView, view};
use crate::tools::mcp_server::{self, McpServer};
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

/// The station at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    pub version: &'static str,
    /// How this process owns the home: `serve`, `background` or `command`.
    pub mode: &'static str,
    /// Null for who doesn't administrate the station, like the next two.
    pub pid: Option<u32>,
    pub home: Option<String>,
    /// Where the key for HTTP is.
    pub local_key_file: Option<String>,
    /// The address that HTTP is served on, if it is.
    pub http_listen: Option<String>,
    pub started_at: Timestamp,
    /// What to do so that station.yml is in force, if it was changed after this process had read it.
    pub station_yml_changed: Option<String>,
    /// Those that the caller may read, or the one that was asked for.
    pub environments: Vec<EnvironmentView>,
    pub mcp_servers: Vec<McpServer>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Status>("station_status", Scope::StationRead)
        .describe(
            "Station status",
            "Shows the station at a glance: version, owner, environments with their models, attached servers.",
        )
        .environment(EnvironmentUse::Optional)
        .exposure(Exposure::Default)
        .rest(Method::Get, "/status")
        .cli("status", &[])
}

pub async fn status(call: Call, _: Input) -> Result<Status> {
    let station = &call.station;
    let (mut environments, mut servers) = (Vec::new(), Vec::new());
    for environment in call.environments(Scope::StationRead) {
        environments.push(view(&call, &environment).await?);
        servers.extend(mcp_server::all(&environment).await?);
    }
    let is_admin = call.ctx.principal.may(Scope::StationAdmin, None);
    let path = |path: &Path| is_admin.then(|| path.display().to_string());
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        mode: station.mode,
        pid: is_admin.then(std::process::id),
        home: path(station.home.root()),
        local_key_file: path(&station.home.local_key()),
        http_listen: station.http_listen.get().map(ToString::to_string),
        started_at: station.started_at,
        station_yml_changed: station.station_yml_changed(&call.ctx.principal).await,
        environments,
        mcp_servers: servers,
    })
}
