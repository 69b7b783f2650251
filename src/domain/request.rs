//! A request: what a parked run asks a person.

use super::{Name, RunId, Timestamp, WaitingFor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a question waits for its answer: over a weekend.
pub const QUESTION_EXPIRY: Duration = Duration::from_secs(72 * 3600);

/// What the model is told of a question that has expired.
pub const UNANSWERED: &str = "nobody has answered within 72 hours, and the question has expired; go on without the answer, or end and say what you need to know";

/// What a model asks with `ask_user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    pub question: String,
    /// The only answers that it takes, if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// One open request, as every door shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub run_id: RunId,
    pub environment: Name,
    /// The agent's name.
    pub agent: Name,
    pub waiting_for: WaitingFor,
    /// The step that it is about.
    pub step: Option<i64>,
    /// The tool of that step.
    pub tool: Option<String>,
    pub question: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    pub opened_at: Timestamp,
    /// When a question expires: its run then goes on without the answer. Everything else waits until somebody decides.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// The command that answers it.
    pub answer_with: String,
}

impl Request {
    /// The command that answers a request of `run`, about `step` if it says which.
    pub fn command(run: RunId, waiting_for: WaitingFor, step: Option<i64>) -> String {
        let which = step.map(|step| format!(" --step {step}")).unwrap_or_default();
        match waiting_for {
            WaitingFor::Question => format!("stn run respond {run} 'TEXT'{which}"),
            // Pasted as it stands it decides nothing.
            WaitingFor::InDoubt => format!("stn run respond {run} 'retry, skip or result'{which}"),
            _ => format!("stn run respond {run} retry"),
        }
    }

    /// The command that answers a question whatever the answer is: one that is the word of a decision would be taken for that.
    pub fn answer_command(run: RunId, step: Option<i64>) -> String {
        let which = step.map(|step| format!(" --step {step}")).unwrap_or_default();
        format!("stn run respond {run} --answer 'TEXT'{which}")
    }

    /// The command that says what a call in doubt is taken to have returned.
    pub fn result_command(run: RunId, step: Option<i64>) -> String {
        let which = step.map(|step| format!(" --step {step}")).unwrap_or_default();
        format!("stn run respond {run} result --result 'TEXT'{which}")
    }

    /// Whether one of `choices` is the word of a decision.
    pub fn offers_a_decision(choices: &[String]) -> bool {
        choices.iter().any(|choice| matches!(choice.as_str(), "retry" | "skip" | "result"))
    }
}
