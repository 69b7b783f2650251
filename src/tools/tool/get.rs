//! `tool_get`: one attached tool with its schema.

use super::{AttachedTool, all};
use crate::domain::{Scope, nearest};
use crate::error::{Error, Result};
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
    let tools = all(&call).await?;
    let names: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
    tools.into_iter().find(|tool| tool.name == input.tool).ok_or_else(|| {
        let error = Error::not_found(format!("tool `{}` doesn't exist", input.tool.escape_debug())).field("tool");
        match nearest(&input.tool, names.iter().map(String::as_str)) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint("`stn tool list` shows the attached tools"),
        }
    })
}
