//! Attached MCP servers: what is configured, what runs, and whose command may run.

pub mod accept;
pub mod get;
pub mod list;

use super::context::{Call, Environment};
use crate::domain::{CommandState, Name, Scope, ServerTransport, nearest};
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
    /// The command or the built-in's name, with its arguments, or the URL; as the file says it, without the values of its variables.
    pub target: Vec<String>,
    /// What would be run, for a person who may accept it, where one server is asked for; null in lists and for everybody else.
    pub command: Option<ServerCommand>,
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

/// What is run, with the values of its variables: all that `mcp_server_accept` accepts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServerCommand {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Below the home, if relative; null = the environment's workspace.
    pub cwd: Option<String>,
    /// The names of the variables that it is given.
    pub env: Vec<String>,
}

impl ServerCommand {
    fn of(transport: &ServerTransport) -> Option<Self> {
        let ServerTransport::Stdio { command, args, env, cwd } = transport else { return None };
        let argv = std::iter::once(command).chain(args).cloned().collect();
        Some(Self { argv, cwd: cwd.clone(), env: env.keys().cloned().collect() })
    }
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

/// One server, with its command for a person who may accept it; `not_found` with the name that was probably meant.
pub async fn find(call: &Call, name: &str) -> Result<McpServer> {
    let environment = call.environment()?;
    let servers = all(environment).await?;
    let names: Vec<String> = servers.iter().map(|server| server.name.to_string()).collect();
    let found = servers.into_iter().find(|server| server.name == *name).ok_or_else(|| {
        let message =
            format!("MCP server `{}` doesn't exist in environment `{}`", name.escape_debug(), environment.name);
        let error = Error::not_found(message).field("server");
        match nearest(name, names.iter().map(String::as_str)) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint(format!(
                "`stn mcp-server list -e {0}` shows what there is; `stn sync {0}` takes up new files",
                environment.name
            )),
        }
    })?;
    // A model may not accept in anybody's name: what variables hold would only travel to its provider.
    let shows = !call.ctx.by_model() && call.station.allows(&call.ctx.principal, Scope::McpServersExec, environment);
    let command = if shows { command(environment, &found.name) } else { None };
    Ok(McpServer { command, ..found })
}

fn command(environment: &Environment, name: &Name) -> Option<ServerCommand> {
    let status = environment.gateway.status().into_iter().find(|status| status.name == *name)?;
    ServerCommand::of(&status.definition.ok()?.transport)
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
        target: definition.map(|definition| definition.target.clone()).unwrap_or_default(),
        command: None,
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
        command: None,
        state: status.state,
        problem: status.problem,
        command_state: CommandState::Pending,
        command_hash: None,
        protocol_version: None,
        tools: status.tools,
    })
}
