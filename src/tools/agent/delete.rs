//! `agent_delete`: forgets an agent and removes its file. Its runs stay readable.

use super::{Handle, files, find};
use crate::domain::{Effect, Name, Scope};
use crate::error::Result;
use crate::tools::{Call, Method, ToolSpec};
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
    let (name, file) = (row.definition.name, row.file);
    environment.store.agent_delete(&name, call.audit(&name)).await?;
    files::finish(&call.station.home, &*environment.store, Some(&file)).await?;
    Ok(Output { deleted: name })
}
