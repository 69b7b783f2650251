//! Calling a tool of an attached server.

use super::attach::Live;
use super::catalog::{CatalogTool, find_tool};
use super::state::{Snapshot, Waiter, unavailable, unreadable};
use super::{Gateway, mirror};
use crate::clock::ClockExt;
use crate::domain::{McpServerDefinition, Name, ServerTransport, Timestamp};
use crate::error::{Error, Result};
use crate::failpoint::Failpoint;
use crate::mcp::call::{Connection, Era, Progress, RawObject, RequestOptions};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Where a server finds the key under which a repeated call is the same call.
const IDEMPOTENCY_KEY: &str = "io.station/idempotency-key";

/// How a tool is called.
#[derive(Debug, Default)]
pub struct CallOptions {
    /// Sent as `_meta["io.station/idempotency-key"]`.
    pub idempotency_key: Option<String>,
    /// The caller's own `_meta`, an object; passed on but for its progress token.
    pub meta: Option<Box<RawValue>>,
    /// For everything, waiting for a starting server included. Absent: the server's own, else the station's.
    pub timeout: Option<Duration>,
    /// Withdraws the call, also at the server.
    pub cancel: CancellationToken,
    /// Receives progress, in order, before the result. A full channel loses some.
    pub progress: Option<mpsc::Sender<Progress>>,
}

/// A tool, its server, and how to wait for that.
struct Found {
    tool: Arc<CatalogTool>,
    definition: Arc<McpServerDefinition>,
    waiter: Waiter,
    /// While it lives, a server that is replaced or removed goes on for this call.
    under_way: TaskTrackerToken,
}

impl Gateway {
    /// Calls the tool with the full name `tool`. `arguments` is an object and reaches the server as it is; the result is the server's
    /// `CallToolResult` as it is, also when that says `isError`.
    pub async fn call(&self, tool: &str, arguments: Box<RawValue>, options: CallOptions) -> Result<Box<RawValue>> {
        let clock = &self.shared.deps.clock;
        let began = clock.now();
        let cancelled = || Error::cancelled(format!("the call of `{tool}` was cancelled"));
        let wait = options.timeout.unwrap_or(self.shared.deps.tool_timeout);
        let found = tokio::select! {
            biased;
            () = options.cancel.cancelled() => return Err(not_sent(cancelled())),
            found = self.find(tool, began + wait) => found.map_err(not_sent)?,
        };
        let Found { tool: known, definition, waiter, under_way: _until_answered } = found;
        let own = definition.timeout_ms.map(Duration::from_millis);
        let timeout = options.timeout.or(own).unwrap_or(self.shared.deps.tool_timeout);
        let ready = clock.timeout(self.left(began, timeout), waiter.ready());
        let live = tokio::select! {
            biased;
            () = options.cancel.cancelled() => return Err(not_sent(cancelled())),
            live = ready => live.unwrap_or_else(|| Err(not_ready(&known, timeout))).map_err(not_sent)?,
        };
        let left = self.left(began, timeout);
        match live {
            Live::Builtin(builtin) => {
                let work = clock.timeout(left, builtin.call(&known.tool, arguments));
                tokio::select! {
                    biased;
                    outcome = work => outcome.ok_or_else(|| too_slow(tool, timeout))?,
                    () = options.cancel.cancelled() => Err(cancelled()),
                }
            }
            Live::Connection(connection) => {
                let request = RequestOptions {
                    timeout: Some(left),
                    name: Some(known.tool.clone()),
                    headers: mirrored(&connection, &definition, &known, &arguments),
                    cancel: options.cancel.clone(),
                    progress: options.progress.clone(),
                };
                let outcome = connection.request("tools/call", params(&known.tool, arguments, &options), request).await;
                let result = outcome.map_err(|error| error.into_error(known.server.as_str(), &known.tool))?;
                Failpoint::ToolResult.reach(|| result.get().to_owned());
                complete(&known, result)
            }
        }
    }

    fn left(&self, began: Timestamp, timeout: Duration) -> Duration {
        timeout.saturating_sub(self.shared.deps.clock.now().since(began))
    }

    /// Looks the name up in the table. A name that isn't there yet may belong to a server in its first start; as soon as that one has told
    /// its tools, the others aren't waited for any more.
    async fn find(&self, name: &str, until: Timestamp) -> Result<Found> {
        let mut alarm = self.shared.deps.clock.sleep_until(until);
        loop {
            // Before the look into the table, so that nothing can change unnoticed between the look and the wait.
            let starting = self.starting();
            if let Some(found) = self.lookup(name) {
                return Ok(found);
            }
            if starting.is_empty() {
                return Err(self.missing(name));
            }
            let changes =
                starting.into_iter().map(|mut server| Box::pin(async move { server.changed().await.is_ok() }));
            tokio::select! {
                () = &mut alarm => return Err(self.missing(name)),
                _ = futures_util::future::select_all(changes) => {}
            }
        }
    }

    fn starting(&self) -> Vec<watch::Receiver<Snapshot>> {
        let servers = self.servers();
        let mut snapshots: Vec<_> = servers.attached.values().map(|server| server.snapshot.clone()).collect();
        snapshots.retain_mut(|snapshot| snapshot.borrow_and_update().is_first_start());
        snapshots
    }

    /// Why there is no tool `name`: its server's trouble, or else what may have been meant.
    pub fn missing(&self, name: &str) -> Error {
        if let Some(error) = self.idle_server_of(name) {
            return error;
        }
        let (shown, environment) = (name.escape_debug(), &self.shared.environment);
        let error = Error::not_found(format!("no tool `{shown}` in environment `{environment}`"));
        let near = self.known().near(name);
        match near.first() {
            Some(first) => error.hint(format!("did you mean `{first}`?")).details(json!({ "candidates": near })),
            None => error.hint(format!("`stn tool list -e {environment}` shows what there is")),
        }
    }

    fn lookup(&self, name: &str) -> Option<Found> {
        let servers = self.servers();
        servers.attached.values().find_map(|server| {
            let tool = find_tool(&server.snapshot.borrow().tools, name).cloned()?;
            let waiter = server.waiter(&self.shared.environment);
            Some(Found { tool, definition: server.definition(), waiter, under_way: server.calls.token() })
        })
    }

    /// The tools of a server that never ran are unknown; a name that begins like one of its tools most likely means it, and what keeps the
    /// server from running is the reason.
    fn idle_server_of(&self, name: &str) -> Option<Error> {
        let servers = self.servers();
        let is_meant = |server: &Name| name.strip_prefix(server.as_str()).is_some_and(|rest| rest.starts_with("__"));
        let mut meant = servers.attached.iter().filter(|(server, _)| is_meant(server));
        let idle = meant.find_map(|(server, attached)| {
            let snapshot = attached.snapshot.borrow();
            (snapshot.tools.is_empty() && !snapshot.is_ready())
                .then(|| unavailable(&self.shared.environment, server, &snapshot))
        });
        let is_attached = |server: &Name| servers.attached.contains_key(server);
        let mut broken = servers.broken.iter().filter(|(server, _)| is_meant(server) && !is_attached(server));
        idle.or_else(|| broken.next().map(|(server, problem)| unreadable(&self.shared.environment, server, problem)))
    }
}

/// The server never saw the call, so that nobody has to wonder what became of it.
fn not_sent(error: Error) -> Error {
    if error.report().details.is_some() { error } else { error.details(json!({ "acted": false })) }
}

fn not_ready(tool: &CatalogTool, timeout: Duration) -> Error {
    let seconds = timeout.as_secs_f64();
    Error::timeout(format!("the server `{}` was not ready within {seconds} s", tool.server))
}

fn too_slow(tool: &str, timeout: Duration) -> Error {
    Error::timeout(format!("`{tool}` gave no result within {} s", timeout.as_secs_f64()))
}

fn params(tool: &str, arguments: Box<RawValue>, options: &CallOptions) -> RawObject {
    let meta = options.meta.as_ref().and_then(|meta| RawObject::parse(meta.get()).ok());
    let mut meta = meta.unwrap_or_default();
    if let Some(key) = &options.idempotency_key {
        meta = meta.with(IDEMPOTENCY_KEY, &key.as_str().into());
    }
    let mut params = RawObject::new().with("name", &tool.into());
    params.set("arguments", arguments);
    params.set("_meta", meta.to_raw());
    params
}

/// The headers that mirror arguments, where somebody reads them.
fn mirrored(
    connection: &Connection,
    server: &McpServerDefinition,
    tool: &CatalogTool,
    arguments: &RawValue,
) -> Vec<(String, String)> {
    let is_http = matches!(server.transport, ServerTransport::Http { .. });
    if !is_http || connection.protocol().era == Era::Legacy || !tool.definition.get().contains("x-mcp-header") {
        return Vec::new();
    }
    let arguments: Value = serde_json::from_str(arguments.get()).unwrap_or_default();
    mirror::headers(&tool.input_schema, &arguments)
}

/// Refuses a result that isn't final: what it asks for was never offered to the server.
fn complete(tool: &CatalogTool, result: Box<RawValue>) -> Result<Box<RawValue>> {
    if !result.get().contains("\"resultType\"") {
        return Ok(result);
    }
    match RawObject::parse(result.get()).ok().and_then(|result| result.text("resultType")) {
        Some(kind) if kind != "complete" => {
            let details = json!({ "resultType": kind });
            let message = format!("server `{}`, `{}`: the result is of type `{kind}`", tool.server, tool.tool);
            Err(Error::unavailable(message).details(details).hint("the server asks for what this client doesn't offer"))
        }
        _ => Ok(result),
    }
}
