//! An agent: a prompt with a model, tools and limits, kept as a file.

use super::{AgentId, Limits, Name, Timestamp, WrittenLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether an agent can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    Ok,
    /// The file no longer parses; the last good revision stays in force.
    Error,
    /// No new run is taken, and queued ones wait, until somebody resumes it.
    Paused,
}

/// What happens to a run whose tool call was cut off and can't be decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInDoubt {
    /// Park the run until somebody decides.
    #[default]
    Ask,
    Retry,
    Skip,
    Fail,
}

/// The `schedule` of a front matter, checked but not yet fired by anybody in this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleSpec {
    pub cron: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
}

/// What a `.prompt` file says. A run is pinned to the definition of one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentDefinition {
    pub name: Name,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<String>,
    /// `provider/model`; absent = the environment's default.
    pub model: Option<String>,
    /// Turns; absent = the station's default.
    pub max_steps: Option<u32>,
    /// Milliseconds for the whole run; absent = the station's default.
    pub timeout_ms: Option<u64>,
    /// The first turn only plans, without tools.
    #[serde(default)]
    pub plan: bool,
    /// Tool names, globs over them, or `__tool` where unambiguous.
    pub tools: Vec<String>,
    /// Child agents.
    pub agents: Vec<Name>,
    /// JSON Schema of the input; absent = `{ userInput: string }`.
    pub input_schema: Option<Value>,
    /// JSON Schema of the output; absent = the answer is a text.
    pub output_schema: Option<Value>,
    pub schedule: Option<ScheduleSpec>,
    /// `approval` and `retry` as written; only the parts in force are interpreted.
    pub approval: Option<Value>,
    /// Of a run with all that it calls.
    #[serde(default)]
    pub limits: Option<Limits>,
    pub retry: Option<Value>,
    pub on_in_doubt: OnInDoubt,
    /// Handlebars, with `{{role "..."}}` sections.
    pub prompt: String,
}

impl AgentDefinition {
    /// The schema that inputs are validated against.
    pub fn effective_input_schema(&self) -> Value {
        self.input_schema.clone().unwrap_or_else(Self::input_schema_of_none)
    }

    /// That of an agent whose file has none: its task.
    pub fn input_schema_of_none() -> Value {
        serde_json::json!({ "type": "object", "properties": { "userInput": { "type": "string" } }, "required": ["userInput"] })
    }
}

/// The command that lets a paused agent go on, as messages show it.
pub fn resume_command(agent: &Name, environment: &Name) -> String {
    format!("`stn agent resume {agent} -e {environment}`")
}

/// An agent, as every door shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    pub id: AgentId,
    pub name: Name,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub environment: Name,
    /// Content hash of the definition in force.
    pub revision: String,
    /// Path of the file, relative to the home.
    pub file: String,
    pub state: AgentState,
    /// With state `error`: what is wrong, with file and line.
    pub problem: Option<String>,
    pub model: Option<String>,
    pub max_steps: Option<u32>,
    pub timeout_ms: Option<u64>,
    /// The first turn only plans, without tools.
    #[serde(default)]
    pub plan: bool,
    pub tools: Vec<String>,
    pub agents: Vec<Name>,
    pub input_schema: Value,
    pub output_schema: Option<Value>,
    pub schedule: Option<ScheduleSpec>,
    pub approval: Option<Value>,
    /// What a run may use with all that it calls.
    pub limits: Option<WrittenLimits>,
    pub retry: Option<Value>,
    pub prompt: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
