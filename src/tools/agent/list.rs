//! `agent_list`: the agents of an environment, by name.

use super::view;
use crate::domain::{Agent, Name, Scope};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<Agent>>("agent_list", Scope::AgentsRead)
        .describe("List agents", "Lists the agents of an environment, by name.")
        .exposure(Exposure::Default)
        .rest(Method::Get, "/agents")
        .cli("agent list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<Agent>> {
    let environment = call.environment()?;
    let of = format!("agent_list {}", environment.name);
    let limit = page::limit(input.limit)?;
    let after: Option<Name> = page::position(&of, input.cursor.as_deref())?;
    let rows = environment.store.agents(after.as_ref(), limit + 1).await?;
    let agents = rows.into_iter().map(|row| view(row, environment)).collect();
    Ok(page::page(&of, agents, limit, |agent: &Agent| agent.name.clone()))
}
