//! `mcp_server_list`: the attached servers of an environment, by name.

use super::{McpServer, all};
use crate::domain::{Name, Scope};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, Method, ToolSpec};
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
    ToolSpec::new::<Input, Page<McpServer>>("mcp_server_list", Scope::McpServersRead)
        .describe(
            "List MCP servers",
            "Lists the attached MCP servers of an environment with their states and problems.",
        )
        .rest(Method::Get, "/mcp-servers")
        .cli("mcp-server list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<McpServer>> {
    let environment = call.environment()?;
    let of = format!("mcp_server_list {}", environment.name);
    let limit = page::limit(input.limit)?;
    let after: Option<Name> = page::position(&of, input.cursor.as_deref())?;
    let servers = all(environment).await?.into_iter();
    let servers = servers.filter(|server| after.as_ref().is_none_or(|after| server.name > *after));
    Ok(page::page(&of, servers.collect(), limit, |server: &McpServer| server.name.clone()))
}
