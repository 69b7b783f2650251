//! `agent_delete`: forgets an agent and removes its file. Its runs stay readable.

use super::{Handle, changed_by_hand, changes, find};
use crate::config;
use crate::domain::{Effect, Name, Scope};
use crate::error::Result;
use crate::store::AgentRow;
use crate::tools::{Call, Method, ToolSpec, files};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub agent: Handle,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    pub deleted: Name,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("agent_delete", Scope::AgentsWrite)
        .describe("Delete an agent", "Removes an agent and its prompt file. Its runs stay readable.")
        .changes(Effect::Destructive, true)
        .rest(Method::Delete, "/agents/{agent}")
        .cli("agent delete", &["agent"])
}

pub async fn delete(call: Call, input: Input) -> Result<Output> {
    let environment = call.environment()?;
    let _one_at_a_time = environment.files.lock().await;
    let row = find(&call, &input.agent).await?;
    files::finish(&call.station.home, environment, Some(&row.file)).await?;
    let found = files::read(&call.station.home, environment, &row.file).await?;
    if found.as_ref().is_some_and(|bytes| !is_known(&row, bytes)) {
        return Err(changed_by_hand(&row, environment));
    }
    let name = &row.definition.name;
    let audit = changes(&call, name, &row.file, Some(&row.revision), None).await?;
    let replaces = found.as_deref().map(config::revision_of);
    let prepared = files::prepare(&call.station.home, environment, &row.file, None).await?;
    environment.store.agent_delete(name, replaces.as_deref(), audit).await?;
    files::keep(&call.station.home, environment, prepared).await?;
    Ok(Output { deleted: row.definition.name })
}

/// The file is what the last sync or change saw, or broken in the very way that the last sync saw.
fn is_known(row: &AgentRow, bytes: &[u8]) -> bool {
    let broken = || config::parse_prompt(&row.definition.name, &row.file, bytes).err().map(|fault| fault.to_string());
    config::revision_of(bytes) == row.revision || (row.problem.is_some() && broken() == row.problem)
}
