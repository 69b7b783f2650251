//! `tool_list`: the tools of the attached servers, by name.

use super::{AttachedTool, all};
use crate::domain::Scope;
use crate::error::Result;
use crate::gateway::{ServerState, full_name};
use crate::tools::page::{self, Page};
use crate::tools::{Call, Exposure, Method, ToolSpec, mcp_server};
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
    let mut tools = all(&call).await?;
    if let Some(server) = &input.server {
        tools.retain(|tool| tool.server == server.as_str());
        if tools.is_empty() {
            expect_none(&call, server).await?;
        }
    }
    tools.retain(|tool| after.as_ref().is_none_or(|after| tool.name > *after));
    Ok(page::page(&of, tools, limit, |tool: &AttachedTool| tool.name.clone()))
}

/// An error when there is a reason that no tools of `server` are known: there is no such server, or it is in trouble.
async fn expect_none(call: &Call, server: &str) -> Result<()> {
    match mcp_server::find(call, server).await?.state {
        ServerState::Error => Err(call.environment()?.gateway.missing(&full_name(server, "")).field("server")),
        _ => Ok(()),
    }
}
