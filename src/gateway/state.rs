//! How an attached server is: what its life tells, what is shown of it, and waiting for it.

use super::attach::Live;
use super::catalog::{CatalogTool, read_tools};
use super::effects::Speaker;
use crate::config::FileProblem;
use crate::domain::{McpServerDefinition, Name, ServerTransport};
use crate::error::{Error, Result};
use crate::mcp::call::Protocol;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// What an attached server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Its command waits for a person's acceptance.
    Pending,
    Starting,
    Ready,
    /// Its definition can't be read, or the last try failed; then it is tried again from time to time, and at the next call.
    Error,
    Disabled,
    Stopped,
}

/// An attached server as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    pub name: Name,
    /// With its variables filled in: not to be shown whole. In force, or why there is none.
    pub definition: Result<Arc<McpServerDefinition>, FileProblem>,
    pub state: ServerState,
    /// Why it isn't ready, with the last lines of its stderr; of a ready one, which of its tools are left out, and why.
    pub problem: Option<String>,
    /// What it spoke when it was last reached.
    pub protocol: Option<Protocol>,
    /// Number of tools known.
    pub tools: usize,
    /// Of the child, while one runs.
    pub pid: Option<u32>,
}

impl ServerStatus {
    /// A server whose definition can't be read.
    pub(super) fn broken(name: &Name, problem: &FileProblem) -> Self {
        Self {
            name: name.clone(),
            definition: Err(problem.clone()),
            state: ServerState::Error,
            problem: Some(problem.to_string()),
            protocol: None,
            tools: 0,
            pid: None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Pending,
    Disabled,
    Starting,
    Ready(Live),
    /// Waiting for the next try.
    Failed,
    Stopped,
}

/// All that is known of a server at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// What is in force. A change of what doesn't concern how the server is reached replaces it while the server runs.
    pub(super) definition: Arc<McpServerDefinition>,
    pub(super) phase: Phase,
    /// What its tools are, from its last answer, or from the cache.
    listed: Arc<Vec<Box<RawValue>>>,
    /// The same as `definition` has them; sorted by full name.
    pub(super) tools: Arc<Vec<Arc<CatalogTool>>>,
    pub(super) problem: Option<String>,
    pub(super) protocol: Option<Protocol>,
    /// Tries begun.
    pub(super) tries: u64,
    /// Tries that didn't get as far as a list of tools.
    pub(super) failed_tries: u64,
}

impl Snapshot {
    /// A server before its first start, or without one; `listed` is what is remembered of it.
    pub(super) fn first(definition: Arc<McpServerDefinition>, phase: Phase, listed: Vec<Box<RawValue>>) -> Self {
        let mut first = Self {
            definition,
            phase,
            listed: Arc::new(listed),
            tools: Arc::default(),
            problem: None,
            protocol: None,
            tries: 0,
            failed_tries: 0,
        };
        // What is left out is told once the server is there: a problem without one would look as if it had failed.
        let _untold = first.read();
        first
    }

    /// The server has told its tools, and can be called.
    pub(super) fn ready(&mut self, live: &Live, listed: Vec<Box<RawValue>>) {
        self.listed = Arc::new(listed);
        self.protocol = live.protocol();
        self.phase = Phase::Ready(live.clone());
        self.problem = self.read();
    }

    /// Another definition of the same server is in force.
    pub(super) fn redefine(&mut self, definition: McpServerDefinition) {
        self.definition = Arc::new(definition);
        let left_out = self.read();
        if self.is_ready() {
            self.problem = left_out;
        }
    }

    /// Reads the tools, and returns which of them are left out, and why.
    fn read(&mut self) -> Option<String> {
        let speaker = match self.definition.transport {
            ServerTransport::Builtin { .. } => Speaker::Builtin,
            ServerTransport::Stdio { .. } | ServerTransport::Http { .. } => Speaker::Server,
        };
        let read = read_tools(&self.definition, speaker, &self.listed);
        self.tools = Arc::new(read.tools);
        read.problem
    }

    /// Still in its first start: it may yet bring tools that nobody knows.
    pub(super) fn is_first_start(&self) -> bool {
        matches!(self.phase, Phase::Starting) && self.tries <= 1
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    pub(super) fn state(&self) -> ServerState {
        match self.phase {
            Phase::Pending => ServerState::Pending,
            Phase::Disabled => ServerState::Disabled,
            // A server in a crash loop would look as if it were well every other time.
            Phase::Starting if self.problem.is_some() => ServerState::Error,
            Phase::Starting => ServerState::Starting,
            Phase::Ready(_) => ServerState::Ready,
            Phase::Failed => ServerState::Error,
            Phase::Stopped => ServerState::Stopped,
        }
    }
}

/// Waits for a server to become callable.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) environment: Name,
    pub(super) name: Name,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) wake: Arc<Notify>,
}

impl Waiter {
    /// The server when it is ready. One that is between two tries is tried at once, and one try is waited for.
    pub(super) async fn ready(mut self) -> Result<Live> {
        let failed_before = self.snapshot.borrow().failed_tries;
        loop {
            let snapshot = self.snapshot.borrow_and_update().clone();
            match snapshot.phase {
                Phase::Ready(live) if !live.is_ended() => return Ok(live),
                Phase::Failed if snapshot.failed_tries > failed_before => {
                    return Err(unavailable(&self.environment, &self.name, &snapshot));
                }
                Phase::Failed => self.wake.notify_one(),
                Phase::Pending | Phase::Disabled | Phase::Stopped => {
                    return Err(unavailable(&self.environment, &self.name, &snapshot));
                }
                Phase::Ready(_) | Phase::Starting => {}
            }
            if self.snapshot.changed().await.is_err() {
                return Err(unavailable(&self.environment, &self.name, &snapshot_of(&self.snapshot)));
            }
        }
    }
}

/// The answer to a call of a server that can't take it.
pub(super) fn unavailable(environment: &Name, name: &Name, snapshot: &Snapshot) -> Error {
    match snapshot.phase {
        Phase::Pending => Error::unavailable(format!("the command of the server `{name}` has not been accepted"))
            .hint(format!("`stn mcp-server accept {name} -e {environment}`")),
        Phase::Disabled => {
            Error::unavailable(format!("the server `{name}` is disabled")).hint("take `disabled` out of its definition")
        }
        _ => {
            let starting = matches!(snapshot.phase, Phase::Starting);
            let otherwise = if starting { "it is still starting" } else { "it has been stopped" };
            let problem = snapshot.problem.as_deref().unwrap_or(otherwise);
            Error::unavailable(format!("the server `{name}` is not available: {problem}"))
        }
    }
}

/// The answer to a call of a server whose definition can't be read.
pub(super) fn unreadable(environment: &Name, server: &Name, problem: &FileProblem) -> Error {
    let fix = problem.hint.clone().unwrap_or_else(|| format!("correct {}", problem.file));
    Error::unavailable(format!("the server `{server}` is not available: {problem}"))
        .hint(format!("{fix}; then `stn sync {environment}`"))
}

fn snapshot_of(snapshot: &watch::Receiver<Snapshot>) -> Snapshot {
    snapshot.borrow().clone()
}
