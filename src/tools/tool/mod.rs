//! The tools of attached servers, for whoever wants to see or try them.

pub mod call;
pub mod get;
pub mod list;

use super::context::Call;
use crate::domain::{Effect, Name};
use crate::error::Result;
use crate::gateway::CatalogTool;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// How long a list waits for servers that are still starting; what is missing then comes with the next list.
const STARTING: Duration = Duration::from_secs(2);

/// An attached tool, as every door shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AttachedTool {
    /// `<server>__<tool>`.
    pub name: String,
    pub server: Name,
    /// The server's own name for it.
    pub tool: String,
    pub title: Option<String>,
    pub description: Option<String>,
    pub effect: Effect,
    pub idempotent: bool,
    pub open_world: bool,
    /// The effect was said by a trusted source, not by the server alone.
    pub effect_trusted: bool,
    pub input_schema: Value,
}

/// The environment's tools, by name. Waits a little for servers that are still starting.
pub async fn all(call: &Call) -> Result<Vec<AttachedTool>> {
    let catalog = call.environment()?.gateway.catalog(STARTING).await;
    Ok(catalog.tools.into_iter().map(|tool| view(&tool)).collect())
}

fn view(tool: &CatalogTool) -> AttachedTool {
    AttachedTool {
        name: tool.name.clone(),
        server: tool.server.clone(),
        tool: tool.tool.clone(),
        title: tool.title.clone(),
        description: tool.description.clone(),
        effect: tool.effect.effect,
        idempotent: tool.effect.idempotent,
        open_world: tool.effect.open_world,
        effect_trusted: tool.effect.trusted,
        input_schema: tool.input_schema.clone(),
    }
}
