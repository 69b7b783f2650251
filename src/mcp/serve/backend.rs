//! The seam between the protocol and whoever has the tools.

use async_trait::async_trait;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ProgressSink;
use crate::domain::{Name, Principal};

/// A JSON object with its keys in the order they were written.
pub type JsonObject = serde_json::Map<String, Value>;

/// Whoever has the tools. One backend serves every connection at once.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The tools that this caller may see, in any order: listings are sorted by name before they leave.
    async fn list_tools(&self, caller: &Caller) -> Result<Vec<ToolListing>, Fault>;

    /// Makes one call. A tool that ran and failed is an outcome with `is_error`; a [`Fault`] says that there was nothing to run.
    /// When `call.cancel` fires, nobody waits for the outcome any longer.
    async fn call_tool(&self, caller: &Caller, call: ToolCall) -> Result<ToolOutcome, Fault>;

    /// What a client's model is told about this server as a whole; empty for nothing.
    fn instructions(&self, caller: &Caller) -> String;

    /// Changes whenever some caller's list of tools may have changed. The value means nothing.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// How the message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A byte stream with one JSON message per line.
    Stdio,
    /// Streamable HTTP.
    Http,
}

/// Which tools a connection shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolSet {
    /// The small set that fits any model's context.
    #[default]
    Default,
    /// Every tool the principal may use.
    All,
}

/// Who makes a request and over which connection. Built anew for each request, so that a role which changes holds from the next one on.
#[derive(Debug, Clone)]
pub struct Caller {
    pub transport: Transport,
    /// The environment that the connection is bound to; `None` = the caller may name one.
    pub environment: Option<Name>,
    pub principal: Principal,
    /// The protocol version of this request, such as `2025-11-25`.
    pub protocol_version: String,
    pub tools: ToolSet,
    /// Names this request in logs, audit rows and internal errors.
    pub request_id: String,
}

/// A tool as `tools/list` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolListing {
    pub name: String,
    pub title: String,
    pub description: String,
    /// JSON Schema 2020-12 with `type: object` at its root.
    pub input_schema: JsonObject,
    /// When there is one, every outcome without `is_error` carries `structured` that conforms to it.
    pub output_schema: Option<JsonObject>,
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

/// One `tools/call`.
#[derive(Debug)]
pub struct ToolCall {
    pub name: String,
    /// A JSON object; `{}` where the client sent none.
    pub arguments: Box<RawValue>,
    /// The request's `_meta`, era keys and progress token included.
    pub meta: JsonObject,
    /// There when the client asked for progress.
    pub progress: Option<ProgressSink>,
    /// Fires when the client takes the request back, or its connection is gone.
    pub cancel: CancellationToken,
}

/// What a call came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolOutcome {
    /// The machine-readable result. Its JSON is repeated in a text block, for clients that read only those.
    pub structured: Option<Value>,
    /// Words for the model, in a text block of their own; empty for none.
    pub text: String,
    pub is_error: bool,
    /// The result's `_meta`, for instance `io.station/error`.
    pub meta: Option<JsonObject>,
}

/// Why a request was not carried out. These become JSON-RPC errors, which clients show to people rather than to models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The caller sees no tool of this name (-32602).
    UnknownTool(String),
    /// The request can't be understood; the text says why (-32602).
    InvalidParams(String),
    /// Something broke here; the text is the request id, under which the log has the cause (-32603).
    Internal(String),
}
