//! Attached MCP servers: what is configured, what runs, and whose command may run.

pub mod accept;
pub mod get;
pub mod list;

use super::context::{Call, Environment};
use crate::domain::{CommandState, Name, nearest};
use crate::error::{Error, Result};
use crate::gateway::{ServerState, ServerStatus};
use crate::store::ServerRow;
use schemars::JsonSchema;
use serde::Serialize;

/// An attached server, as every door shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct McpServer {
    pub name: Name,
    pub environment: Name,
    /// Relative to the home.
    pub file: String,
    /// `builtin`, `stdio` or `http`.
    pub transport: Option<&'static str>,
    /// The command with its arguments, the built-in's name, or the URL.
    pub target: Vec<String>,
    /// `stopped` also where nothing is started: in a short command.
    pub state: ServerState,
    pub problem: Option<String>,
    /// `pending` until somebody has accepted the command.
    pub command_state: CommandState,
    /// Hash of the command as configured now: what `mcp_server_accept` accepts.
    pub command_hash: Option<String>,
    /// The protocol version spoken with it.
    pub protocol_version: Option<String>,
    pub tools: usize,
}

/// Every server of the environment: rows of the store joined with what the gateway knows, by name.
pub async fn all(environment: &Environment) -> Result<Vec<McpServer>> {
    let statuses = environment.gateway.status();
    let rows = environment.store.servers().await?;
    Ok(rows.into_iter().map(|row| view(environment, row, &statuses)).collect())
}

/// One server; `not_found` with the name that was probably meant.
pub async fn find(call: &Call, name: &str) -> Result<McpServer> {
    let environment = call.environment()?;
    let servers = all(environment).await?;
    let names: Vec<String> = servers.iter().map(|server| server.name.to_string()).collect();
    servers.into_iter().find(|server| server.name == *name).ok_or_else(|| {
        let message =
            format!("MCP server `{}` doesn't exist in environment `{}`", name.escape_debug(), environment.name);
        let error = Error::not_found(message).field("server");
        match nearest(name, names.iter().map(String::as_str)) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint("`stn mcp-server list` shows what there is; `stn sync` takes up new files"),
        }
    })
}

fn view(environment: &Environment, row: ServerRow, statuses: &[ServerStatus]) -> McpServer {
    let status = statuses.iter().find(|status| status.name == row.name);
    McpServer {
        environment: environment.name.clone(),
        file: row.file,
        transport: status.map(|status| status.definition.transport.kind()),
        target: status.map(|status| status.definition.transport.target()).unwrap_or_default(),
        state: status.map_or(ServerState::Stopped, |status| status.state),
        problem: status.and_then(|status| status.problem.clone()),
        command_state: row.command_state,
        command_hash: row.command_hash,
        protocol_version: status.and_then(|status| status.protocol.as_ref()).map(|protocol| protocol.version.clone()),
        tools: status.map_or(0, |status| status.tools),
        name: row.name,
    }
}
