//! `mcp_server_accept`: lets a server's command run. A person's decision: attaching a command is running code.

use super::{McpServer, find, unreadable};
use crate::domain::{Effect, Scope};
use crate::error::{Error, Result};
use crate::tools::environment::sync::{attach, look};
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The server's name.
    pub server: String,
    /// The `command_hash` that was shown; if the command has changed since, it is not accepted.
    pub command_hash: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, McpServer>("mcp_server_accept", Scope::McpServersExec)
        .describe(
            "Accept an MCP server's command",
            "Allows the command of an attached server to run, exactly as shown.",
        )
        .changes(Effect::Destructive, true)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Post, "/mcp-servers/{server}/accept")
        .cli("mcp-server accept", &["server"])
}

pub async fn accept(call: Call, input: Input) -> Result<McpServer> {
    let environment = call.environment()?;
    let server = find(&call, &input.server).await?;
    if server.transport.is_none() {
        return Err(unreadable(&server).field("server"));
    }
    if server.command_hash.is_none() {
        let message = format!("MCP server `{}` is no command: there is nothing to accept", server.name);
        return Err(Error::conflict(message).field("server"));
    }
    let _one_at_a_time = environment.files.lock().await;
    let audit = call.audit(&server.name);
    environment.store.server_accept(&server.name, &input.command_hash, audit).await?;
    attach(environment, &look(&call.station, environment).await?).await?;
    find(&call, &input.server).await
}
