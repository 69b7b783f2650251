//! `mcp_server_get`: one attached server.

use super::{McpServer, find};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The server's name.
    pub server: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, McpServer>("mcp_server_get", Scope::McpServersRead)
        .describe(
            "Get an MCP server",
            "Shows one attached MCP server: what it runs, whether it is up, what is wrong with it.",
        )
        .rest(Method::Get, "/mcp-servers/{server}")
        .cli("mcp-server get", &["server"])
}

pub async fn get(call: Call, input: Input) -> Result<McpServer> {
    find(&call, &input.server).await
}
