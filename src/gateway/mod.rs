//! The gateway: the MCP servers attached to one environment, their tools under full names, and calls to them.
//!
//! Here belongs which servers run, how they are kept running, and what their tools are called and do. How messages travel is in
//! `mcp/call`; who may call what, approvals, pins and audit are decided above, in `tools/`. Servers that are compiled in are in `builtin/`.
//!
//! - `server` is the life of one server, `state` what that shows, `attach` how it is reached, `cache` what is remembered of it.
//! - `catalog`, `names` and `effects` turn definitions into tools; `identity` tells whether a command is still the same.

mod attach;
pub mod builtin;
mod cache;
mod call;
mod catalog;
mod effects;
mod identity;
mod mirror;
mod names;
mod server;
mod state;
#[cfg(test)]
mod tests;

pub use call::CallOptions;
pub use catalog::{Catalog, CatalogTool, UnmatchedPattern};
pub use identity::command_hash;
pub use names::{full_name, may_match};
pub use state::{ServerState, ServerStatus};

use crate::clock::{ClockExt, SharedClock};
use crate::config::FileProblem;
use crate::domain::{CommandState, McpServerDefinition, Name};
use crate::lifecycle::Tasks;
use crate::process::Spawner;
use crate::redact::Redactor;
use crate::secrets::Values;
use cache::Cache;
use server::{Attached, Leaving};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a gateway needs from outside.
#[derive(Debug, Clone)]
pub struct GatewayDeps {
    pub clock: SharedClock,
    pub tasks: Tasks,
    pub http: reqwest::Client,
    pub spawner: Spawner,
    /// What servers say passes it before it is kept or shown.
    pub redactor: Redactor,
    /// Without this, servers are only known: a short command has no time for them.
    pub starts_servers: bool,
    /// Tool definitions are kept in `<cache_dir>/<environment>/<server>.json`.
    pub cache_dir: PathBuf,
    /// The station's home, which built-ins never reach into.
    pub home: PathBuf,
    /// The environment's workspace: the part of the home that built-ins do reach, and the directory of children without a `cwd`.
    pub workspace: PathBuf,
    /// The secrets that servers refer to.
    pub secrets: Values,
    /// For a call whose server has no `timeout` of its own.
    pub tool_timeout: Duration,
}

/// The attached servers of one environment. Cheap to clone. [`Gateway::close`] comes before [`Tasks::stop`], which only kills.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    servers: Arc<Mutex<Servers>>,
}

/// What the lives of all servers use.
#[derive(Debug)]
struct Shared {
    environment: Name,
    deps: GatewayDeps,
    cache: Cache,
}

#[derive(Debug, Default)]
struct Servers {
    attached: BTreeMap<Name, Attached>,
    /// Those whose definition can't be read now; one that is attached all the same goes on as it was.
    broken: BTreeMap<Name, FileProblem>,
    leaving: Vec<Leaving>,
    closed: bool,
}

impl Gateway {
    /// A gateway without servers.
    pub fn new(environment: Name, deps: GatewayDeps) -> Self {
        let cache = Cache::new(&deps.cache_dir, &environment);
        let shared = Shared { environment, deps, cache };
        Self { shared: Arc::new(shared), servers: Arc::default() }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `servers` the attached ones: starts new ones in the background, ends those that are missing, replaces those that are reached in
    /// another way or not any more, and leaves the rest running, with what else their definitions say. No call that is under way is cut off:
    /// whoever ends, ends after its last one. Those of `broken` are shown with what is wrong with their definition. Returns at once.
    pub fn apply(&self, servers: Vec<(McpServerDefinition, CommandState)>, broken: BTreeMap<Name, FileProblem>) {
        let mut state = self.servers();
        if state.closed {
            return;
        }
        state.broken = broken;
        let mut before = std::mem::take(&mut state.attached);
        for (definition, command) in servers {
            let name = definition.name.clone();
            let attached = match before.remove(&name) {
                Some(same) if same.redefine(&definition, command) => same,
                changed => {
                    let predecessor = changed.and_then(|old| state.send_away(old, &self.shared));
                    Attached::start(&self.shared, definition, command, predecessor)
                }
            };
            state.attached.insert(name, attached);
        }
        for old in before.into_values() {
            state.send_away(old, &self.shared);
        }
    }

    /// The secret `name` was set or deleted: servers that use it are started again, so that their next call is made with what it is now.
    pub fn secret_changed(&self, name: &str) {
        let mut state = self.servers();
        if state.closed {
            return;
        }
        for (server, old) in std::mem::take(&mut state.attached) {
            let definition = old.definition();
            let attached = if definition.transport.uses_secret(name) {
                let command = old.command;
                let predecessor = state.send_away(old, &self.shared);
                Attached::start(&self.shared, (*definition).clone(), command, predecessor)
            } else {
                old
            };
            state.attached.insert(server, attached);
        }
    }

    /// Every server, by name.
    pub fn status(&self) -> Vec<ServerStatus> {
        let servers = self.servers();
        let broken = servers.broken.iter().map(|(name, problem)| (name.clone(), ServerStatus::broken(name, problem)));
        let mut all: BTreeMap<Name, ServerStatus> = broken.collect();
        for (name, server) in &servers.attached {
            let mut status = server.status();
            status.problem = status.problem.or_else(|| all.remove(name)?.problem);
            all.insert(name.clone(), status);
        }
        all.into_values().collect()
    }

    /// The tools known now. Servers in their first start are waited for, all at once and no longer than `wait`; one that hasn't answered in
    /// this life contributes what it said in an earlier one.
    pub async fn catalog(&self, wait: Duration) -> Catalog {
        self.catalog_for(wait, |_| true).await
    }

    /// The same, where only servers that `matters` accepts are waited for: one that hangs must not delay those who don't need it.
    pub async fn catalog_for(&self, wait: Duration, matters: impl Fn(&Name) -> bool) -> Catalog {
        let starting: Vec<_> = {
            let servers = self.servers();
            let relevant = servers.attached.iter().filter(|(name, _)| matters(name));
            let snapshots = relevant.map(|(_, server)| server.snapshot.clone());
            snapshots.filter(|snapshot| snapshot.borrow().is_first_start()).collect()
        };
        let started = futures_util::future::join_all(starting.into_iter().map(|mut snapshot| async move {
            let _stopped = snapshot.wait_for(|now| !now.is_first_start()).await;
        }));
        let _in_time = self.shared.deps.clock.timeout(wait, started).await;
        self.known()
    }

    /// [`Gateway::catalog`] without waiting.
    fn known(&self) -> Catalog {
        let servers = self.servers();
        let tools = servers.attached.values().flat_map(|server| server.snapshot.borrow().tools.as_ref().clone());
        Catalog::new(tools.collect())
    }

    /// Ends every server and returns when all their processes are gone. Nothing can be attached afterwards.
    pub async fn close(&self) {
        let leaving: Vec<_> = {
            let mut servers = self.servers();
            servers.closed = true;
            let attached = std::mem::take(&mut servers.attached);
            for server in attached.into_values() {
                servers.send_away(server, &self.shared);
            }
            std::mem::take(&mut servers.leaving)
        };
        futures_util::future::join_all(leaving.into_iter().map(Leaving::end)).await;
    }
}

impl Servers {
    /// Lets a server go. What fires when it is gone, where its successor has to wait for that.
    fn send_away(&mut self, server: Attached, shared: &Shared) -> Option<CancellationToken> {
        let (leaving, predecessor) = server.leave(&shared.deps.tasks);
        self.leaving.retain(|before| !before.is_gone());
        self.leaving.push(leaving);
        predecessor
    }
}
