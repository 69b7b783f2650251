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
use std::collections::BTreeMap;

/// An attached server, as every door shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct McpServer {
    pub name: Name,
    pub environment: Name,
    /// Relative to the home.
    pub file: String,
    /// `builtin`, `stdio` or `http`; null while the definition can't be read.
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
    let statuses = environment.gateway.status().into_iter();
    let mut statuses: BTreeMap<Name, ServerStatus> = statuses.map(|status| (status.name.clone(), status)).collect();
    let rows = environment.store.servers().await?.into_iter();
    let known = rows.map(|row| (statuses.remove(&row.name), row)).map(|(status, row)| view(environment, row, status));
    let mut servers: Vec<McpServer> = known.collect();
    servers.extend(statuses.into_values().filter_map(|status| never_read(environment, status)));
    servers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(servers)
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

/// The error of whoever needs a definition that can't be read.
pub fn unreadable(server: &McpServer) -> Error {
    let problem = server.problem.as_deref().unwrap_or("its definition can't be read");
    Error::unavailable(format!("MCP server `{}`: {problem}", server.name))
        .hint(format!("correct {}, then `stn sync {}`", server.file, server.environment))
}

fn view(environment: &Environment, row: ServerRow, status: Option<ServerStatus>) -> McpServer {
    let status = status.as_ref();
    let definition = status.and_then(|status| status.definition.as_ref().ok());
    McpServer {
        environment: environment.name.clone(),
        file: row.file,
        transport: definition.map(|definition| definition.transport.kind()),
        target: definition.map(|definition| definition.transport.target()).unwrap_or_default(),
        state: status.map_or(ServerState::Stopped, |status| status.state),
        problem: status.and_then(|status| status.problem.clone()),
        command_state: row.command_state,
        command_hash: row.command_hash,
        protocol_version: status.and_then(|status| status.protocol.as_ref()).map(|protocol| protocol.version.clone()),
        tools: status.map_or(0, |status| status.tools),
        name: row.name,
    }
}

/// A server that has no row, because nobody could ever read its definition.
fn never_read(environment: &Environment, status: ServerStatus) -> Option<McpServer> {
    let file = status.definition.err()?.file;
    Some(McpServer {
        name: status.name,
        environment: environment.name.clone(),
        file,
        transport: None,
        target: Vec::new(),
        state: status.state,
        problem: status.problem,
        command_state: CommandState::Pending,
        command_hash: None,
        protocol_version: None,
        tools: status.tools,
    })
}
