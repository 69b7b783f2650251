//! A run as the store is told of it: submitted, claimed, journaled under a fencing epoch, ended, looked for.

use crate::domain::{
    AgentDefinition, AgentId, Answer, AuditEntry, Cause, Limits, ModelChoice, Name, Origin, ParentStep, PrincipalRef,
    Run, RunErrorKind, RunId, RunStatus, Step, StepKind, StepStatus, Timestamp, ToolEffect, Usage,
};
use serde_json::Value;

/// Who executes: one incarnation of an owner process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(pub String);

/// The right to write a run's journal: the run, and the epoch it was claimed under. Not `Clone`: exactly one executor holds it.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    pub run_id: RunId,
    pub epoch: i64,
}

/// Whether a fenced write happened. `Stale`: the run has moved on under a later epoch, or has ended; the executor must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    Done,
    Stale,
}

/// A run to be.
#[derive(Debug, Clone)]
pub struct Submit {
    pub id: RunId,
    pub agent_id: AgentId,
    pub revision: String,
    pub model: ModelChoice,
    pub input: Value,
    pub origin: Origin,
    pub cause: Cause,
    pub principal: PrincipalRef,
    /// The call of another run's that it is. That run has to be waiting for it.
    pub parent: Option<ParentStep>,
    /// Turns.
    pub max_steps: i64,
    pub timeout_ms: i64,
    /// Of it with all that it calls.
    pub limits: Limits,
    /// Names a submit of this principal and agent; the same key again answers with the first run, and with `conflict` if the input differs.
    pub idempotency_key: Option<String>,
    pub config_revision: Option<String>,
    /// Provider variables came with the call and live in memory only; resumed without them, the run waits for `provider`.
    pub caller_credentials: bool,
    /// With a worker at hand and nothing queued before it, the run is inserted already claimed.
    pub reserved_for: Option<Owner>,
    /// More queued runs than this answer `rate_limited`, unless somebody's call waits for this one.
    pub queue_limit: i64,
    pub audit: AuditEntry,
}

/// The outcome of a submit.
#[derive(Debug)]
pub struct Submitted {
    pub run: Run,
    /// The run existed already under this idempotency key.
    pub existing: bool,
    /// With a reservation that was used.
    pub claim: Option<Claim>,
}

/// A run in the hands of an executor, with everything it is pinned to.
#[derive(Debug)]
pub struct Claim {
    pub grant: Grant,
    pub run: Run,
    pub definition: AgentDefinition,
    pub max_steps: i64,
    /// The run's deadline, counted from its first start; waiting for a person, or for a worker to go on, doesn't count.
    pub deadline: Timestamp,
    pub caller_credentials: bool,
    /// The pinned tools: what the run was started with, as the engine wrote it with its first journal batch.
    pub pinned_tools: Option<String>,
}

/// A call that is about to leave.
#[derive(Debug, Clone)]
pub struct Intent {
    pub seq: i64,
    pub turn: i64,
    pub kind: StepKind,
    pub r#try: i64,
    pub name: String,
    pub effect: Option<ToolEffect>,
    pub idempotency_key: Option<String>,
    pub arguments: Option<Value>,
    /// The provider's id of the tool call.
    pub call_id: Option<String>,
    /// Does the model know this call as failed before it left (denied, unknown tool, bad arguments)? Then the step is closed at once.
    pub closed: Option<Closed>,
    /// The try that this one replaces. It is closed with this intent or not at all: else its call would count as failed for good.
    pub replaces: Option<Outcome>,
    pub audit: Option<AuditEntry>,
}

/// How a step ended.
#[derive(Debug, Clone)]
pub struct Closed {
    pub status: StepStatus,
    /// Kept whole.
    pub result: Option<Value>,
    /// What the model is shown, where that differs from `result`.
    pub shown: Option<String>,
    pub truncated: bool,
    pub error: Option<String>,
    pub usage: Option<Usage>,
    /// The provider's own blocks, byte for byte, with the dialect that made them.
    pub native: Option<NativeBlocks>,
    /// The call never left, and whoever goes on makes it: the step counts as answered with `retry`.
    pub to_retry: bool,
}

impl Closed {
    /// A step that ended without a result.
    pub fn without_result(status: StepStatus, error: Option<String>) -> Self {
        Self { status, result: None, shown: None, truncated: false, error, usage: None, native: None, to_retry: false }
    }
}

/// A provider's own content blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeBlocks {
    pub dialect: String,
    pub json: String,
}

/// The end of a step that was begun by an [`Intent`].
#[derive(Debug, Clone)]
pub struct Outcome {
    pub seq: i64,
    pub r#try: i64,
    pub closed: Closed,
    /// Written only where this outcome ends the step, however often it is reported.
    pub audit: Option<AuditEntry>,
}

/// One commit of the executor: results that arrived, intents that are about to leave.
#[derive(Debug, Clone, Default)]
pub struct JournalBatch {
    pub outcomes: Vec<Outcome>,
    pub intents: Vec<Intent>,
    /// The run's turn counter after this batch.
    pub turns: i64,
    /// With the first batch of a run.
    pub pinned_tools: Option<String>,
}

/// A journal row as the executor needs it to go on.
#[derive(Debug, Clone)]
pub struct JournalRow {
    pub step: Step,
    pub effect: Option<ToolEffect>,
    pub shown: Option<String>,
    pub native: Option<NativeBlocks>,
    /// How a person settled this step, if it was in doubt.
    pub answer: Option<Answer>,
}

/// How a run ends.
#[derive(Debug, Clone)]
pub enum Ending {
    Completed { output: Value },
    Failed { kind: RunErrorKind, message: String },
    Cancelled,
}

/// What became of a cancel.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// It was not running; it is cancelled now.
    Done(Run),
    /// It is running; the request is recorded, and its executor has to be told.
    Requested(Run),
    /// It had ended before.
    Already(Run),
}

/// A run in the chain of calls that leads to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    pub run: RunId,
    pub agent_id: AgentId,
    pub agent: Name,
    /// It was started with keys that its caller brought.
    pub caller_credentials: bool,
}

/// Which runs. Newest first, by `(created_at, id)`.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub agent: Option<AgentId>,
    /// Only what this run has called.
    pub parent: Option<RunId>,
    pub statuses: Vec<RunStatus>,
    /// Only runs older than this position.
    pub before: Option<(Timestamp, RunId)>,
    pub limit: u32,
}
