//! What a station keeps. One control store, and one store per environment, so that nothing crosses environments by construction.
//!
//! [`Store`] and [`ControlStore`] are domain-level: each method is one whole business transaction, and no SQL, connection or
//! transaction handle leaks out. Audit entries travel with the act and commit with it; events are published after their commit. While the
//! lines that are derived from audit rows can't be written, whatever begins or changes something is refused with `unavailable`, and what
//! has happened is still recorded: outcomes, parks, releases, cancels, ends, and entries by themselves.
//! `journal.rs` is what executors and submits give and get, `principals.rs` who may act.
//! [`sqlite`] is the implementation, and the only folder with SQL; `conformance/` is the suite that every implementation has to pass.
//!
//! A new table: a migration in `sqlite/migrations/` with every column commented, a file `sqlite/<nouns>.rs`, methods here, and cases in
//! `conformance/`.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod journal;
mod principals;
mod redacted;
pub mod sqlite;

pub use journal::{
    Ancestor, Cancelled, Claim, Closed, Ending, Grant, Intent, JournalBatch, JournalRow, NativeBlocks, Outcome, Owner,
    RunFilter, Submit, Submitted, Written,
};
pub use principals::{KeyChange, NewKey, PrincipalStore, UserChange, UserHandle};
pub use redacted::Redacted;

use crate::domain::{
    AgentDefinition, AgentId, AgentState, Answer, AuditEntry, Budget, CommandState, EnvironmentNumber, Event, Name,
    PrincipalRef, Request, Run, RunId, Step, Timestamp, WaitingFor,
};
use crate::error::Result;
use async_trait::async_trait;
use serde_json::Value;
use std::fmt;

/// An environment as the control store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    pub name: Name,
    pub number: EnvironmentNumber,
    pub created_at: Timestamp,
}

/// What concerns the station as a whole.
#[async_trait]
pub trait ControlStore: PrincipalStore {
    /// All environments, by name.
    async fn environments(&self) -> Result<Vec<EnvironmentRow>>;

    /// Gives `name` the next number, which is never used again. `conflict` when the name is taken.
    async fn environment_create(&self, name: &Name, audit: AuditEntry) -> Result<EnvironmentRow>;

    /// Records an act that belongs to no environment (a failed login, a denial).
    async fn audit(&self, entry: AuditEntry) -> Result<()>;

    /// Audit rows after `seq`, oldest first.
    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>>;
}

/// An audit entry with its position in its store.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    pub seq: i64,
    pub entry: AuditEntry,
}

/// By handle or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentKey {
    Id(AgentId),
    Name(Name),
}

/// An agent with the revision in force.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRow {
    pub id: AgentId,
    pub revision: String,
    /// Relative to the home.
    pub file: String,
    /// Set while the file doesn't parse; `revision` is then the last good one.
    pub problem: Option<String>,
    /// Since when no run of it is taken.
    pub paused_at: Option<Timestamp>,
    pub definition: AgentDefinition,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl AgentRow {
    /// Whether it can be run. A pause counts more than a broken file, whose last good revision could be.
    pub fn state(&self) -> AgentState {
        match (self.paused_at, &self.problem) {
            (Some(_), _) => AgentState::Paused,
            (None, Some(_)) => AgentState::Error,
            (None, None) => AgentState::Ok,
        }
    }
}

/// What is left of an agent whose file is gone, or that was deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct FormerAgent {
    /// As it was last, with what became of it as its problem. Paused: what is queued of it is held.
    pub last: AgentRow,
    /// Its runs that haven't ended.
    pub unended: i64,
}

/// A new revision of an agent, or a new agent.
#[derive(Debug, Clone)]
pub struct AgentWrite {
    pub definition: AgentDefinition,
    /// Content hash of `bytes`.
    pub revision: String,
    pub bytes: Vec<u8>,
    pub file: String,
    /// `None`: the agent must not exist. `Some(revision)`: it must be at that revision. Else `conflict`.
    pub expected: Option<String>,
}

/// A file that was promised by a committed row and not yet confirmed. `bytes` is `None` for a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingFile {
    pub id: i64,
    pub file: String,
    pub bytes: Option<Vec<u8>>,
    /// The content that the change was made against: the hash of the file it replaces, if there was one.
    pub replaces: Option<String>,
}

/// What a sync changes, in one transaction.
#[derive(Debug, Clone, Default)]
pub struct SyncChanges {
    /// New and changed agents. `expected` is ignored: the files lead.
    pub put: Vec<AgentWrite>,
    /// Agents whose files are gone. Their runs stay.
    pub delete: Vec<Name>,
    /// Agents whose file doesn't parse, with the reason. The revision in force stays.
    pub broken: Vec<(Name, String)>,
    /// All servers of the environment, replacing those known.
    pub servers: Vec<ServerPut>,
    pub config_revision: String,
}

/// One server of a sync.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPut {
    pub name: Name,
    pub file: String,
    /// Content hash of the definition as written, before variables are filled in.
    pub hash: String,
    /// Hash of what is run (the argv, its directory and the names of its variables), if the server is a command.
    pub command_hash: Option<String>,
    /// Accept the command without asking (the environment says so).
    pub auto_accept: bool,
}

/// A known server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerRow {
    pub name: Name,
    pub file: String,
    pub hash: String,
    pub command_hash: Option<String>,
    pub command_state: CommandState,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A data key, wrapped by the home's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyRow {
    /// From 1.
    pub generation: u32,
    pub wrapped: Vec<u8>,
    /// Names the home's key that wraps it.
    pub kek_id: String,
    /// It seals; every other only opens.
    pub is_active: bool,
}

/// A secret, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Never reused.
    pub id: i64,
    pub name: String,
    /// From 1.
    pub version: i64,
    /// Of the data key that it is sealed under.
    pub generation: u32,
    pub record: Vec<u8>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Seals a value for the record with this id and version.
pub type Seal = Box<dyn FnOnce(i64, i64) -> Result<Vec<u8>> + Send>;

/// One environment's own store: agents, servers, runs, steps, events, audit.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Agents after `after`, by name.
    async fn agents(&self, after: Option<&Name>, limit: u32) -> Result<Vec<AgentRow>>;

    async fn agent(&self, key: &AgentKey) -> Result<Option<AgentRow>>;

    /// The agent that was there once, and is not any more; of several of one name the last.
    async fn former_agent(&self, key: &AgentKey) -> Result<Option<FormerAgent>>;

    /// Row first: commits the revision and promises the file (see [`Store::pending_files`]). The files' state that the entry names, if any,
    /// becomes the one that is in force.
    async fn agent_write(&self, write: AgentWrite, audit: AuditEntry) -> Result<AgentRow>;

    /// Forgets the agent and promises that its file goes, if its content still has the hash `replaces`. Its runs stay. `false` when there
    /// was none. The files' state that the entry names, if any, becomes the one that is in force.
    async fn agent_delete(&self, name: &Name, replaces: Option<&str>, audit: AuditEntry) -> Result<bool>;

    /// Promises that `file` will have `bytes`, if its content still has the hash `replaces`.
    async fn file_promise(&self, file: &str, bytes: Vec<u8>, replaces: Option<&str>, audit: AuditEntry) -> Result<()>;

    /// Pauses the agent, or resumes it: whatever the files say, and until the opposite is asked for. While it is paused, submits of it answer
    /// `conflict`, and what is queued isn't claimed. Of an agent whose file is gone a pause can be lifted, so that what it holds goes on.
    /// `not_found` without such an agent.
    async fn agent_pause(&self, name: &Name, paused: bool, audit: AuditEntry) -> Result<AgentRow>;

    /// Promised files that nobody has confirmed: what a start has to finish.
    async fn pending_files(&self) -> Result<Vec<PendingFile>>;

    /// The file is on the disk as promised.
    async fn file_written(&self, id: i64) -> Result<()>;

    /// Applies a sync in one transaction.
    async fn apply_sync(&self, changes: SyncChanges, audit: AuditEntry) -> Result<()>;

    /// The `config_revision` of the last sync.
    async fn config_revision(&self) -> Result<Option<String>>;

    /// All servers, by name.
    async fn servers(&self) -> Result<Vec<ServerRow>>;

    /// Accepts the command whose hash was shown. `conflict` if it has changed meanwhile, `not_found` without such a server.
    async fn server_accept(&self, name: &Name, command_hash: &str, audit: AuditEntry) -> Result<ServerRow>;

    /// All data keys, by generation.
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>>;

    /// Adds a data key, which takes the place of the active one. `conflict` unless its generation is the latest.
    async fn data_key_add(&self, key: DataKeyRow) -> Result<()>;

    /// Secrets after `after`, by name.
    async fn secrets(&self, after: Option<&str>, limit: u32) -> Result<Vec<SecretRow>>;

    /// Puts a new version of a secret in the place of the one before, sealed for its place under the active data key, which has to be of
    /// `generation`. `unavailable` when that key is another, or has sealed all that one may.
    async fn secret_put(&self, name: &str, generation: u32, seal: Seal, audit: AuditEntry) -> Result<SecretRow>;

    /// Forgets a secret. `false`, and no entry, when there was none.
    async fn secret_delete(&self, name: &str, audit: AuditEntry) -> Result<bool>;

    /// The run that this principal has submitted to this agent under `key`, if any; `conflict` where that was with another input.
    async fn submitted(
        &self,
        principal: &PrincipalRef,
        agent: AgentId,
        key: &str,
        input: &Value,
    ) -> Result<Option<Run>>;

    /// Queues a run, or inserts it already claimed when a worker is reserved. One that is there under its key is answered as it is.
    async fn submit(&self, submit: Submit) -> Result<Submitted>;

    /// Takes up to `want` queued runs of agents that aren't paused: those that others wait for, then the rest, oldest first. Each gets the
    /// next epoch. None while audit lines can't be written.
    async fn claim(&self, owner: &Owner, want: u32) -> Result<Vec<Claim>>;

    /// The whole journal of a run, by `(seq, try)`.
    async fn journal_rows(&self, run: RunId) -> Result<Vec<JournalRow>>;

    /// Commits results and intents together, with their audit entries. An outcome that is reported again changes nothing.
    ///
    /// While audit lines can't be written, the outcomes of a batch with intents are committed all the same, and the answer is
    /// `unavailable`: nothing new may leave. The whole batch can be given again later.
    async fn journal(&self, grant: &Grant, batch: JournalBatch) -> Result<Written>;

    /// Gives the worker back until somebody answers. `steps` are those that it is about: open calls, which are marked as in doubt, or are
    /// questions and stay open (see [`WaitingFor`]). Whoever waits for the run, however far above, is told by an event of its own. A run
    /// whose cancel was asked for is cancelled instead, and the answer is `Stale`.
    async fn park(&self, grant: &Grant, waiting_for: WaitingFor, steps: &[i64]) -> Result<Written>;

    /// Gives the worker back until every open step of the run has its outcome: each is the call of another run, whose end closes the step
    /// with what came of it, in the transaction of that end, and queues this run within the same attempt when it was the last. A run whose
    /// calls have all ended meanwhile is queued at once; one whose cancel was asked for is cancelled instead, and the answer is `Stale`.
    async fn wait_for_children(&self, grant: &Grant) -> Result<Written>;

    /// The run and the runs whose calls led to it, the first one first. Empty without such a run.
    async fn lineage(&self, run: RunId) -> Result<Vec<Ancestor>>;

    /// The limits of the run and of those whose calls led to it, as far as they have any, the first one first, each with what is used up in
    /// the whole tree below: what the runs' finished model calls took, whatever has become of the runs.
    async fn budgets(&self, run: RunId) -> Result<Vec<Budget>>;

    /// Runs that wait for others and whose timeout has passed at `now`. The time in which one below waits for a person doesn't count.
    async fn overdue(&self, now: Timestamp) -> Result<Vec<RunId>>;

    /// Ends a run that [`Store::overdue`] has named. `false`: it is overdue no more.
    async fn time_out(&self, run: RunId) -> Result<bool>;

    /// Runs that execute though they were called off: their executors have to be told.
    async fn called_off(&self) -> Result<Vec<RunId>>;

    /// Settles the step `seq` of a parked run (every step in doubt when `None`), and queues the run again once none is left.
    /// `conflict` when the run isn't waiting for that. A question is settled by `result` alone, each by itself. A run that waits for something else than steps in doubt, such as `provider`, goes on
    /// with `retry` and no `seq`.
    async fn answer(&self, run: RunId, seq: Option<i64>, answer: Answer, audit: AuditEntry) -> Result<Run>;

    /// Runs whose questions have expired at `now`, and that nobody has told so.
    async fn unanswered(&self, now: Timestamp) -> Result<Vec<RunId>>;

    /// Closes the questions of a run that [`Store::unanswered`] has named as failed, with [`crate::domain::UNANSWERED`] for the model, tells
    /// of it, and queues the run again. From the moment of the expiry on, an answer is a `conflict`. `false`: nothing of it has expired.
    async fn expire(&self, run: RunId) -> Result<bool>;

    /// What runs wait for somebody to answer, the oldest first, after a position of `(opened_at, run, step)`.
    async fn requests(&self, after: Option<(Timestamp, RunId, i64)>, limit: u32) -> Result<Vec<Request>>;

    /// Hands a run back to the queue within the same attempt (draining). A run whose cancel was asked for is cancelled instead, and the
    /// answer is `Stale`.
    async fn release(&self, grant: &Grant) -> Result<Written>;

    /// Ends a run. However a run ends, here or where a cancel is carried out, its steps without an outcome are closed with it (in doubt,
    /// unless they were safe to repeat), an entry `agent.run` says how it ended, what it had called and has not ended is cancelled with all
    /// below it (see [`Store::called_off`]), and the step whose call it was gets its outcome.
    async fn finish(&self, grant: &Grant, ending: Ending) -> Result<Written>;

    /// Cancels a run with all that it has called, or asks its executor to. `not_found` without such a run.
    async fn cancel(&self, run: RunId, audit: AuditEntry) -> Result<Cancelled>;

    /// Was a cancel asked for while it ran?
    async fn cancel_requested(&self, run: RunId) -> Result<bool>;

    /// A new owner: every run that another incarnation left executing goes back to the queue under the next epoch, or is cancelled if that
    /// was asked for. Returns how many were queued.
    async fn take_over(&self, owner: &Owner) -> Result<u64>;

    /// Runs that are queued or execute: what keeps an idle owner alive. What is queued of a paused agent isn't counted.
    async fn live_runs(&self) -> Result<u64>;

    /// Runs whose status is `queued` or `running`, whatever they wait for.
    async fn runs_under_way(&self) -> Result<u64>;

    async fn run(&self, id: RunId) -> Result<Option<Run>>;

    /// Ids that begin with `prefix` (lower-case hex and hyphens), at most `limit`.
    async fn runs_by_prefix(&self, prefix: &str, limit: u32) -> Result<Vec<RunId>>;

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>>;

    /// Steps after `after` by `(seq, try)`, as doors show them.
    async fn steps(&self, run: RunId, after: Option<(i64, i64)>, limit: u32) -> Result<Vec<Step>>;

    /// Stored events after `seq`, in order.
    async fn events_after(&self, run: RunId, seq: i64, limit: u32) -> Result<Vec<Event>>;

    /// Records what is about to be done outside of the store. `unavailable`, and nothing recorded, while audit lines can't be written.
    async fn audit_intent(&self, entry: AuditEntry) -> Result<()>;

    /// Records a denial, or how an act ended that writes nothing else.
    async fn audit(&self, entry: AuditEntry) -> Result<()>;

    /// Audit rows after `seq`, oldest first.
    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>>;
}
