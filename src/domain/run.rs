//! A run: one execution of an agent.

use super::{AgentId, Cause, Name, Origin, PrincipalKind, PrincipalRef, Request, RunId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `queued -> running -> completed | failed | cancelled`, and `running -> input_required -> queued` when somebody has to answer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Queued,
    Running,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
}

impl RunStatus {
    /// A terminal status never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The transitions that exist. Draining and a lost owner hand a run back to `queued`.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Cancelled),
            Self::Running => {
                matches!(next, Self::Queued | Self::InputRequired | Self::Completed | Self::Failed | Self::Cancelled)
            }
            Self::InputRequired => matches!(next, Self::Queued | Self::Cancelled),
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a run without a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    Approval,
    Question,
    /// A tool call was cut off, and nobody can tell whether it happened.
    InDoubt,
    Budget,
    /// The provider key that the run was started with is gone.
    Provider,
    Child,
    Timer,
}

/// Why a run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunErrorKind {
    Timeout,
    StepLimit,
    Budget,
    Provider,
    Tool,
    OutputSchema,
    Lost,
    Internal,
}

/// The call of another run's that a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentStep {
    pub run: RunId,
    /// The `seq` of the step there.
    pub step: i64,
}

/// The agent a run executes, pinned to one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentRef {
    pub id: AgentId,
    pub name: Name,
    /// Content hash of the definition.
    pub revision: String,
}

/// The model a run is pinned to, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelChoice {
    pub provider: String,
    pub id: String,
    pub reason: String,
}

/// What model calls consumed. Tokens; money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    /// Null as long as no call was made whose price was known: nothing is guessed.
    pub cost_microusd: Option<i64>,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        let sum = i64::saturating_add;
        self.input_tokens = sum(self.input_tokens, other.input_tokens);
        self.cached_input_tokens = sum(self.cached_input_tokens, other.cached_input_tokens);
        self.output_tokens = sum(self.output_tokens, other.output_tokens);
        self.reasoning_tokens = sum(self.reasoning_tokens, other.reasoning_tokens);
        self.cost_microusd = match (self.cost_microusd, other.cost_microusd) {
            (Some(mine), Some(more)) => Some(mine.saturating_add(more)),
            (mine, more) => mine.or(more),
        };
    }
}

/// One execution of an agent, as every door shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub id: RunId,
    pub environment: Name,
    pub agent: AgentRef,
    pub status: RunStatus,
    pub waiting_for: Option<WaitingFor>,
    /// It is queued, and nobody takes it: its agent is paused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub agent_paused: bool,
    pub input: Value,
    pub output: Option<Value>,
    pub error: Option<String>,
    pub error_kind: Option<RunErrorKind>,
    pub model: ModelChoice,
    pub origin: Origin,
    pub cause: Cause,
    pub principal: PrincipalRef,
    /// What it asks, while it is `input_required`; while it waits for a `child`, what the runs below it ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Request>,
    /// The run that called the agent as a tool.
    pub parent_run_id: Option<RunId>,
    /// The step of the parent whose call this is.
    #[serde(default)]
    pub parent_step: Option<i64>,
    /// Runs that this one has called.
    #[serde(default)]
    pub children: i64,
    /// The n-th try of this run, from 1; 0 while it has never been claimed.
    pub attempt: i64,
    /// Rounds of the loop so far.
    pub turns: i64,
    /// Journal rows so far.
    pub steps: i64,
    pub usage: Usage,
    /// The files' state that the run was started under.
    pub config_revision: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_false(is: &bool) -> bool {
    !*is
}

impl Run {
    /// Whether a person has to answer before it goes on: the run itself, or one below it that it waits for.
    pub fn needs_an_answer(&self) -> bool {
        self.status == RunStatus::InputRequired || !self.requests.is_empty()
    }

    /// The agent, as whoever acts in this run.
    pub fn as_principal(&self) -> PrincipalRef {
        let AgentRef { id, name, .. } = &self.agent;
        PrincipalRef { kind: PrincipalKind::Agent, id: id.to_string(), name: name.to_string() }
    }
}

/// How a tool call in doubt is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Call again, with the same idempotency key.
    Retry,
    /// Tell the model that the call's outcome is unknown and go on.
    Skip,
    /// Take the given result for the call's.
    Result,
}

/// A person's answer to a parked run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    pub decision: Decision,
    /// With `result`: the text that the tool is taken to have returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_status_never_changes() {
        use RunStatus::{Cancelled, Completed, Failed, InputRequired, Queued, Running};
        for status in [Completed, Failed, Cancelled] {
            for next in [Queued, Running, InputRequired, Completed, Failed, Cancelled] {
                assert!(!status.may_become(next));
            }
        }
        assert!(InputRequired.may_become(Queued) && !InputRequired.may_become(Running));
    }
}
