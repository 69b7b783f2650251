//! `tool_get`: one attached tool with its schema.

use super::{AttachedTool, all};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// `<server>__<tool>`.
    pub tool: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, AttachedTool>("tool_get", Scope::ToolsRead)
        .describe(
            "Get an attached tool",
            "Shows one tool of an attached MCP server: description, effect, input schema.",
        )
        .rest(Method::Get, "/tools/{tool}")
        .cli("tool get", &["tool"])
}

pub async fn get(call: Call, input: Input) -> Result<AttachedTool> {
    let mut tools = all(&call).await?.into_iter();
    let gateway = &call.environment()?.gateway;
    tools.find(|tool| tool.name == input.tool).ok_or_else(|| gateway.missing(&input.tool).field("tool"))
}
