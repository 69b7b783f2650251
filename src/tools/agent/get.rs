//! `agent_get`: one agent, with its prompt.

use super::{Handle, find, view};
use crate::domain::{Agent, Scope};
use crate::error::Result;
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub agent: Handle,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Agent>("agent_get", Scope::AgentsRead)
        .describe("Get an agent", "Shows one agent: its prompt, model, tools, limits, revision and state.")
        .exposure(Exposure::Default)
        .rest(Method::Get, "/agents/{agent}")
        .cli("agent get", &["agent"])
}

pub async fn get(call: Call, input: Input) -> Result<Agent> {
    let row = find(&call, &input.agent).await?;
    Ok(view(row, call.environment()?))
}
