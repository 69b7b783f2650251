//! `tool_list`: the tools of the attached servers, by name.

use super::{AttachedTool, all};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only tools of this server.
    pub server: Option<String>,
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<AttachedTool>>("tool_list", Scope::ToolsRead)
        .describe("List attached tools", "Lists the tools of the attached MCP servers, as agents can use them.")
        .exposure(Exposure::Default)
        .rest(Method::Get, "/tools")
        .cli("tool list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<AttachedTool>> {
    let of = format!("tool_list {} {:?}", call.environment()?.name, input.server);
    let limit = page::limit(input.limit)?;
    let after: Option<String> = page::position(&of, input.cursor.as_deref())?;
    let tools = all(&call).await?.into_iter();
    let tools = tools
        .filter(|tool| input.server.as_ref().is_none_or(|server| tool.server == server.as_str()))
        .filter(|tool| after.as_ref().is_none_or(|after| tool.name > *after));
    Ok(page::page(&of, tools.collect(), limit, |tool: &AttachedTool| tool.name.clone()))
}
