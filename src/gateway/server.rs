//! The life of one attached server: started in the background, listed, watched, started again when it ends.

use super::Shared;
use super::attach::{Live, reach};
use super::state::{Phase, ServerStatus, Snapshot, Waiter};
use crate::clock::ClockExt;
use crate::domain::{CommandState, McpServerDefinition, Name, Timestamp};
use crate::error::Result;
use crate::lifecycle::Tasks;
use crate::mcp::call::Protocol;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A server that has lived this long has not failed at its start.
const STABLE: Duration = Duration::from_secs(60);
/// What is shown of a server whose connection ended in a panic.
const BROKE: &str = "something broke inside Station; the log has the cause";
/// Changes of a list come in bursts; the list is read once for all that come within this time.
const BURST: Duration = Duration::from_millis(100);

/// A server that is no longer attached.
#[derive(Debug)]
pub(super) struct Leaving {
    stop: CancellationToken,
    gone: CancellationToken,
}

impl Leaving {
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Ends it now, whoever calls it; resolves when it is gone.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.gone.cancelled().await;
    }
}

/// A server of the environment, whatever its state. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) command: CommandState,
    state: watch::Sender<Snapshot>,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    /// Has a token of every call that has found the server.
    pub(super) calls: TaskTracker,
    /// Starts the next try now.
    wake: Arc<Notify>,
    stop: CancellationToken,
    gone: CancellationToken,
}

impl Attached {
    /// Attaches a server and starts it in the background once `predecessor` is gone. A pending or disabled one is only shown.
    pub(super) fn start(
        shared: &Arc<Shared>,
        definition: McpServerDefinition,
        command: CommandState,
        predecessor: Option<CancellationToken>,
    ) -> Self {
        let definition = Arc::new(definition);
        let phase = match (definition.disabled, command) {
            (true, _) => Phase::Disabled,
            (false, CommandState::Pending) => Phase::Pending,
            (false, CommandState::Accepted) if !shared.deps.starts_servers => Phase::Stopped,
            (false, CommandState::Accepted) => Phase::Starting,
        };
        let runs = matches!(phase, Phase::Starting);
        let remembered = runs.then(|| shared.cache.load(&definition)).flatten();
        let (protocol, listed) = remembered.map(|known| (known.protocol, known.tools)).unzip();
        let mut first = Snapshot::first(definition.clone(), phase, listed.unwrap_or_default());
        first.protocol.clone_from(&protocol);
        let (state, snapshot) = watch::channel(first);
        let attached = Self {
            command,
            state: state.clone(),
            snapshot,
            calls: TaskTracker::new(),
            wake: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        if !runs {
            attached.gone.cancel();
            return attached;
        }
        let life = Life {
            shared: shared.clone(),
            name: definition.name.clone(),
            state,
            wake: attached.wake.clone(),
            stop: attached.stop.clone(),
        };
        let gone = attached.gone.clone().drop_guard();
        shared.deps.tasks.spawn("mcp server", async move {
            if let Some(predecessor) = predecessor {
                predecessor.cancelled().await;
            }
            life.run(protocol).await;
            drop(gone);
        });
        attached
    }

    pub(super) fn definition(&self) -> Arc<McpServerDefinition> {
        self.snapshot.borrow().definition.clone()
    }

    /// Takes over `definition` while the server runs, where that changes nothing of how it is reached and whether it is. True where it did:
    /// file, timeout and the operator's word on tools are no reason to end a process and the calls that it has.
    pub(super) fn redefine(&self, definition: &McpServerDefinition, command: CommandState) -> bool {
        let known = self.definition();
        let same =
            (&known.transport, known.disabled, self.command) == (&definition.transport, definition.disabled, command);
        if same && *known != *definition {
            self.state.send_modify(|now| now.redefine(definition.clone()));
        }
        same
    }

    /// Ends the server once the calls that it has are answered, which their timeouts bound; nobody finds it any more. Also the predecessor
    /// that a successor waits for: none where calls are under way, since new ones needn't wait for those.
    pub(super) fn leave(self, tasks: &Tasks) -> (Leaving, Option<CancellationToken>) {
        let leaving = Leaving { stop: self.stop.clone(), gone: self.gone.clone() };
        self.calls.close();
        if self.calls.is_empty() {
            let gone = self.gone.clone();
            return (leaving, Some(gone));
        }
        tasks.spawn("leaving mcp server", async move {
            self.calls.wait().await;
            drop(self);
        });
        (leaving, None)
    }

    pub(super) fn status(&self) -> ServerStatus {
        let snapshot = self.snapshot.borrow();
        ServerStatus {
            name: snapshot.definition.name.clone(),
            definition: Ok(Arc::clone(&snapshot.definition)),
            state: snapshot.state(),
            problem: snapshot.problem.clone(),
            protocol: snapshot.protocol.clone(),
            tools: snapshot.tools.len(),
            pid: match &snapshot.phase {
                Phase::Ready(live) => live.pid(),
                _ => None,
            },
        }
    }

    /// What a caller needs to wait for this server, without holding it.
    pub(super) fn waiter(&self, environment: &Name) -> Waiter {
        Waiter {
            environment: environment.clone(),
            name: self.definition().name.clone(),
            snapshot: self.snapshot.clone(),
            wake: self.wake.clone(),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How one connection to a server ended.
enum End {
    Stopped,
    Failed(String),
}

struct Life {
    shared: Arc<Shared>,
    name: Name,
    state: watch::Sender<Snapshot>,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Life {
    async fn run(&self, mut protocol: Option<Protocol>) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let began = self.now();
            // A panic ends this connection, not the server's life: callers wait for what becomes of it.
            let ended = AssertUnwindSafe(self.connect_and_serve(&mut protocol)).catch_unwind().await;
            match ended.unwrap_or_else(|_panic| self.failed_to_start(BROKE.to_owned())) {
                End::Stopped => break,
                End::Failed(problem) => {
                    let problem = self.shared.deps.redactor.string(problem);
                    failures = if self.now().since(began) >= STABLE { 1 } else { failures + 1 };
                    self.log_failure(&problem);
                    self.state.send_modify(|now| {
                        now.phase = Phase::Failed;
                        now.problem = Some(problem);
                    });
                    self.pause(failures).await;
                }
            }
        }
        self.state.send_modify(|now| now.phase = Phase::Stopped);
    }

    /// What is in force now.
    fn definition(&self) -> Arc<McpServerDefinition> {
        self.state.borrow().definition.clone()
    }

    fn now(&self) -> Timestamp {
        self.shared.deps.clock.now()
    }

    async fn pause(&self, failures: u32) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.wake.notified() => {}
            () = self.shared.deps.clock.sleep(backoff(failures, jitter())) => {}
        }
    }

    /// One line per change of state, however often it fails.
    fn log_failure(&self, problem: &str) {
        let known = self.state.borrow().problem.as_deref() == Some(problem);
        if !known {
            tracing::warn!(environment = %self.shared.environment, server = %self.name, problem, "an attached server is not available");
        }
    }

    /// Reaches the server, then keeps its list current until it ends or is no longer wanted. Nothing of it is left when this returns.
    async fn connect_and_serve(&self, protocol: &mut Option<Protocol>) -> End {
        self.state.send_modify(|now| {
            now.phase = Phase::Starting;
            now.tries += 1;
        });
        let reached = reach(&self.shared, &self.definition(), protocol.clone(), &self.stop).await;
        if self.stop.is_cancelled() {
            if let Ok(live) = reached {
                live.close().await;
            }
            return End::Stopped;
        }
        let live = match reached {
            Ok(live) => live,
            Err(error) => return self.failed_to_start(error.message().to_owned()),
        };
        protocol.clone_from(&live.protocol());
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopped,
            reason = live.ended() => End::Failed(reason),
            problem = self.serve(&live) => self.failed_to_start(problem),
        };
        live.close().await;
        end
    }

    fn failed_to_start(&self, problem: String) -> End {
        self.state.send_modify(|now| now.failed_tries += 1);
        End::Failed(problem)
    }

    /// Lists the tools, then again whenever they may have changed. Returns only when the first list fails.
    async fn serve(&self, live: &Live) -> String {
        let mut changes = match live {
            Live::Connection(connection) => Some(connection.tools_changed()),
            Live::Builtin(_) => None,
        };
        if let Err(error) = self.list(live).await {
            return error.message().to_owned();
        }
        tracing::info!(environment = %self.shared.environment, server = %self.name, "an attached server is ready");
        while let Some(changes) = &mut changes {
            if changes.changed().await.is_err() {
                break;
            }
            self.shared.deps.clock.sleep(BURST).await;
            changes.mark_unchanged();
            if let Err(error) = self.list(live).await {
                tracing::warn!(server = %self.name, %error, "the tools can't be listed again; the known ones stay");
            }
        }
        std::future::pending().await
    }

    async fn list(&self, live: &Live) -> Result<()> {
        let listed = live.tools().await;
        let definitions = listed.map_err(|error| error.into_error(self.name.as_str(), "tools/list"))?;
        // What a server says of its tools is kept, shown to models and to clients.
        let redactor = &self.shared.deps.redactor;
        let definitions: Vec<_> = definitions.into_iter().map(|definition| redactor.raw(definition)).collect();
        if let Live::Connection(connection) = live {
            // Before the tools are shown: whoever has seen them finds them after a restart too.
            self.shared.cache.store(&self.definition(), connection.protocol(), definitions.clone()).await;
        }
        let mut left_out = None;
        self.state.send_modify(|now| {
            now.ready(live, definitions);
            left_out.clone_from(&now.problem);
        });
        if let Some(problem) = left_out {
            tracing::warn!(environment = %self.shared.environment, server = %self.name, problem, "tools are left out");
        }
        Ok(())
    }
}

/// The pause before the next try: doubling from half a second to a minute, and shortened by up to a half so that servers that failed
/// together don't come back together. `jitter` is any number.
fn backoff(failures: u32, jitter: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    full.mul_f64(1.0 - f64::from(jitter) / f64::from(u32::MAX) / 2.0)
}

/// A random number; without randomness, the longest pause is as good as any.
fn jitter() -> u32 {
    getrandom::u32().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_never_go_under_half() {
        assert_eq!(backoff(1, 0), Duration::from_millis(500));
        assert_eq!(backoff(1, u32::MAX), Duration::from_millis(250));
        assert_eq!(backoff(3, 0), Duration::from_secs(2));
        assert_eq!(backoff(40, 0), Duration::from_secs(60));
        assert_eq!(backoff(u32::MAX, u32::MAX), Duration::from_secs(30));
    }
}
