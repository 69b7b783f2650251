//! A step: one row of a run's journal.

use super::{Effect, RunId, Timestamp, Usage, WaitingFor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A model call, a tool call, or a wait for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    Model,
    Tool,
    Wait,
}

/// `started` is the intent: committed before the call leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Started,
    Completed,
    Failed,
    Denied,
    Skipped,
    InDoubt,
}

/// One row of the journal, as every door shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub run_id: RunId,
    /// Position in the run, from 1.
    pub seq: i64,
    /// Round of the loop, from 1.
    pub turn: i64,
    pub kind: StepKind,
    pub status: StepStatus,
    /// The n-th time this very call was made, from 1.
    pub r#try: i64,
    /// The tool, or `provider/model`.
    pub name: String,
    pub effect: Option<Effect>,
    pub idempotency_key: Option<String>,
    pub waiting_for: Option<WaitingFor>,
    pub arguments: Option<Value>,
    pub result: Option<Value>,
    /// The model was shown only a part of the result.
    pub truncated: bool,
    pub error: Option<String>,
    /// Of a model call; null too where its provider reported none.
    pub usage: Option<Usage>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
}
