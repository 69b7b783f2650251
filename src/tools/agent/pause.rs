//! `agent_pause`: takes no more runs of an agent, until it is resumed. Kept in the store, so that no sync forgets it.

use super::{Handle, find, view};
use crate::domain::{Agent, Effect, Scope};
use crate::error::Result;
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub agent: Handle,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Agent>("agent_pause", Scope::AgentsRun)
        .describe(
            "Pause an agent",
            "Refuses new runs of an agent, also as a child of another, until agent_resume. Queued runs wait, and no timeout goes on meanwhile; a running one goes on until it next waits for a run or a person, or the station stops.",
        )
        .changes(Effect::Write, true)
        .rest(Method::Post, "/agents/{agent}/pause")
        .cli("agent pause", &["agent"])
}

pub async fn pause(call: Call, input: Input) -> Result<Agent> {
    let environment = call.environment()?;
    let name = find(&call, &input.agent).await?.definition.name;
    let row = environment.store.agent_pause(&name, true, call.audit(&name)).await?;
    Ok(view(row, environment))
}
