//! Reaching one server: starting or connecting to it, asking for its tools.

use super::builtin::Builtin;
use super::{GatewayDeps, Shared};
use crate::domain::{McpServerDefinition, SecretText, ServerTransport};
use crate::error::{Error, Result};
use crate::failpoint::Failpoint;
use crate::mcp::call::{CallError, ConnectError, Connection, HttpTarget, Protocol, RawObject, RequestOptions, Setup};
use crate::process::CommandSpec;
use crate::secrets::Values;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For each step of a handshake; the first start of an `npx` command downloads the server within it.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// For one page of `tools/list`.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds on a list that doesn't end.
const MAX_PAGES: usize = 200;
const MAX_TOOLS: usize = 10_000;

/// A server that can be called. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Live {
    Connection(Connection),
    Builtin(Builtin),
}

impl Live {
    pub(super) fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Connection(connection) => Some(connection.protocol()),
            Self::Builtin(_) => None,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Connection(connection) => connection.pid(),
            Self::Builtin(_) => None,
        }
    }

    /// Resolves when the server is of no more use, with the reason. A built-in never ends.
    pub(super) async fn ended(&self) -> String {
        match self {
            Self::Connection(connection) => {
                connection.ended().cancelled().await;
                connection.end_reason().unwrap_or("the connection has ended").to_owned()
            }
            Self::Builtin(_) => std::future::pending().await,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Self::Connection(connection) if connection.ended().is_cancelled())
    }

    pub(super) async fn close(&self) {
        if let Self::Connection(connection) = self {
            connection.close().await;
        }
    }

    /// The definitions of all tools.
    pub(super) async fn tools(&self) -> Result<Vec<Box<RawValue>>, CallError> {
        match self {
            Self::Connection(connection) => list_tools(connection).await,
            Self::Builtin(builtin) => Ok(builtin.tools()),
        }
    }
}

/// Starts or connects to a server. `remembered` is what it spoke last time. When `cancel` fires, whatever was started is gone before this
/// returns.
pub(super) async fn reach(
    shared: &Shared,
    definition: &McpServerDefinition,
    remembered: Option<Protocol>,
    cancel: &CancellationToken,
) -> Result<Live> {
    let deps = &shared.deps;
    let mut setup = Setup {
        clock: deps.clock.clone(),
        tasks: deps.tasks.clone(),
        remembered,
        timeout: START_TIMEOUT,
        cancel: cancel.clone(),
    };
    match &definition.transport {
        ServerTransport::Builtin { builtin, args } => start_builtin(deps, builtin.clone(), args.clone()).await,
        ServerTransport::Http { url, headers } => {
            let target =
                HttpTarget { url: url.clone(), headers: resolved(deps, definition, headers, Values::fill_header)? };
            let connected = Connection::to_url(&target, deps.http.clone(), &setup).await;
            connected.map(Live::Connection).map_err(|failed| not_reached(definition, failed))
        }
        ServerTransport::Stdio { .. } => {
            let mut connected = run(shared, definition, &setup).await?;
            if let Err(ConnectError { retry_as: Some(protocol), .. }) = connected {
                setup.remembered = Some(protocol);
                connected = run(shared, definition, &setup).await?;
            }
            connected.map(Live::Connection).map_err(|failed| not_reached(definition, failed))
        }
    }
}

fn not_reached(definition: &McpServerDefinition, failed: ConnectError) -> Error {
    failed.error.into_error(definition.name.as_str(), "connect")
}

/// Starts a built-in off the async threads: it opens directories.
async fn start_builtin(deps: &GatewayDeps, name: String, args: Vec<String>) -> Result<Live> {
    let (home, workspace) = (deps.home.clone(), deps.workspace.clone());
    let started = tokio::task::spawn_blocking(move || Builtin::start(&name, &args, &home, &workspace)).await;
    started.map_err(|cause| Error::internal("a built-in server can't be started").source(cause))?.map(Live::Builtin)
}

/// Starts the child and makes the handshake. The outer error is one that a second try can't help.
async fn run(
    shared: &Shared,
    definition: &McpServerDefinition,
    setup: &Setup,
) -> Result<Result<Connection, ConnectError>> {
    let command = command(&shared.deps, definition)?;
    Failpoint::ServerStart.reach(|| format!("{} {:?} {:?}", command.program, command.args, command.env));
    let child = shared.deps.spawner.spawn(&command, &setup.tasks).await?;
    Ok(Connection::to_child(child, setup).await)
}

/// The child's directory: its `cwd` (below the home if relative), else the environment's workspace.
fn command(deps: &GatewayDeps, definition: &McpServerDefinition) -> Result<CommandSpec> {
    let ServerTransport::Stdio { command, args, env, cwd } = &definition.transport else {
        return Ok(CommandSpec::default());
    };
    let cwd: Option<PathBuf> = match cwd {
        Some(cwd) => Some(deps.home.join(cwd)),
        None => deps.workspace.is_dir().then(|| deps.workspace.clone()),
    };
    let env = resolved(deps, definition, env, Values::fill)?;
    let redactor = deps.redactor.clone();
    Ok(CommandSpec { program: command.clone(), args: args.clone(), env, cwd, redactor })
}

/// The last hop: `texts` with the values of their secrets. One that is missing is named with its file and the command that sets it.
fn resolved(
    deps: &GatewayDeps,
    definition: &McpServerDefinition,
    texts: &BTreeMap<String, SecretText>,
    fill: impl Fn(&Values, &SecretText, &dyn fmt::Display) -> Result<SecretString>,
) -> Result<BTreeMap<String, String>> {
    let needed_by = format!("server `{}` ({})", definition.name, definition.file);
    let filled = texts.iter().map(|(name, text)| {
        let value = fill(&deps.secrets, text, &needed_by).map_err(with_fix)?;
        Ok((name.clone(), value.expose_secret().to_owned()))
    });
    filled.collect()
}

/// The error with its hint in the message, which is all that is shown of a server that can't be reached.
fn with_fix(error: Error) -> Error {
    let fix = error.hint_text().map(|hint| format!(": {hint}")).unwrap_or_default();
    Error::new(error.kind(), format!("{}{fix}", error.message()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    tools: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Merges all pages. A cursor that comes twice ends the list, since it would never end by itself.
async fn list_tools(connection: &Connection) -> Result<Vec<Box<RawValue>>, CallError> {
    let (mut tools, mut seen, mut params) = (Vec::new(), BTreeSet::new(), RawObject::new());
    for _ in 0..MAX_PAGES {
        let options = RequestOptions { timeout: Some(LIST_TIMEOUT), ..RequestOptions::default() };
        let result = match connection.request("tools/list", params, options).await {
            // A server without tools may not know the method.
            Err(CallError::Rpc(error)) if error.code == -32601 && seen.is_empty() => return Ok(tools),
            outcome => outcome?,
        };
        let page: Page = serde_json::from_str(result.get()).map_err(|cause| CallError::Malformed(cause.to_string()))?;
        tools.extend(page.tools);
        let Some(cursor) = page.next_cursor.filter(|cursor| !cursor.is_empty() && tools.len() < MAX_TOOLS) else {
            break;
        };
        if !seen.insert(cursor.clone()) {
            tracing::warn!("a server's list of tools repeats itself; what came before counts");
            break;
        }
        params = RawObject::new().with("cursor", &cursor.into());
    }
    tools.truncate(MAX_TOOLS);
    Ok(tools)
}
