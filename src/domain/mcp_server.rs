//! An attached MCP server, as the environment's JSON files describe it.

use super::{Effect, Name, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerTransport {
    /// Compiled into Station.
    Builtin { builtin: String, args: Vec<String> },
    /// A child process that speaks MCP over its standard streams.
    Stdio { command: String, args: Vec<String>, env: BTreeMap<String, SecretText>, cwd: Option<String> },
    /// Streamable HTTP.
    Http { url: String, headers: BTreeMap<String, SecretText> },
}

impl ServerTransport {
    /// Whether the secret `name` is put into its environment or headers.
    pub fn uses_secret(&self, name: &str) -> bool {
        let texts = match self {
            Self::Builtin { .. } => return false,
            Self::Stdio { env, .. } => env,
            Self::Http { headers, .. } => headers,
        };
        texts.values().flat_map(SecretText::secrets).any(|used| used == name)
    }

    /// `builtin`, `stdio` or `http`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Builtin { .. } => "builtin",
            Self::Stdio { .. } => "stdio",
            Self::Http { .. } => "http",
        }
    }
}

/// The operator's word on one tool of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolOverride {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_world: Option<bool>,
}

/// One server with its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct McpServerDefinition {
    pub name: Name,
    /// Path of the file, relative to the home.
    pub file: String,
    pub transport: ServerTransport,
    /// What is reached, as the file says it, so without the values of its variables: the built-in's name or the command, each with its
    /// arguments, or the URL. Never environment or headers.
    pub target: Vec<String>,
    /// Milliseconds for one call; absent = the station's `runs.tool_timeout`.
    pub timeout_ms: Option<u64>,
    pub disabled: bool,
    pub tools: BTreeMap<String, ToolOverride>,
}

/// Whether a server's command may be run. Built-ins and URLs are never commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// Accepted, or nothing to accept.
    Accepted,
    /// New or changed; waits for `mcp_server_accept`.
    Pending,
}
