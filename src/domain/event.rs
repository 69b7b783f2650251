//! Run events: what followers of a run are told, in order.

use super::{RunId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! event_types {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// The kinds of run events. SSE `event:` lines and webhooks use the same names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum EventType { $(#[serde(rename = $text)] $variant),+ }

        impl EventType {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

event_types! {
    RunQueued = "run.queued",
    RunStarted = "run.started",
    RunWaiting = "run.waiting",
    RunResumed = "run.resumed",
    RunRewound = "run.rewound",
    RunCompleted = "run.completed",
    RunFailed = "run.failed",
    RunCancelled = "run.cancelled",
    StepStarted = "step.started",
    StepProgress = "step.progress",
    StepCompleted = "step.completed",
    StepFailed = "step.failed",
    ModelDelta = "model.delta",
    RequestOpened = "request.opened",
    RequestAnswered = "request.answered",
    RequestExpired = "request.expired",
    UsageUpdated = "usage.updated",
}

impl EventType {
    /// The last event of a run.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::RunCompleted | Self::RunFailed | Self::RunCancelled)
    }

    /// Live only: told to whoever listens, never stored.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::ModelDelta | Self::StepProgress)
    }
}

/// One event. `seq` goes on over epochs; `epoch-seq` is the SSE id. A transient event carries 0: only stored ones are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    pub run_id: RunId,
    pub epoch: i64,
    pub seq: i64,
    pub r#type: EventType,
    pub at: Timestamp,
    pub data: Value,
}
