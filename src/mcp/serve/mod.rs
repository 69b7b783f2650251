//! Serving MCP: one [`Backend`] behind stdio sessions ([`serve_stream`]) and behind streamable HTTP ([`http_service`]), in every protocol
//! version from 2024-11-05 to 2026-07-28.
//!
//! rmcp speaks the protocol; this room decides what it may not: who is calling, whose session it is, how progress is ordered, and what a
//! message that isn't one is answered. Nothing here knows what the tools are. A new protocol method is a method of `handler::Handler`; what
//! it needs from Station becomes a method of [`Backend`]; what is written to the wire is built in `wire`.

mod backend;
mod envelope;
mod handler;
mod http;
mod lines;
mod progress;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use backend::{Backend, Caller, Fault, JsonObject, ToolCall, ToolListing, ToolOutcome, ToolSet, Transport};
pub use http::{HttpSeed, HttpService, Leave, Stay, TurnedAway, http_service};
pub use progress::{Progress, ProgressSink};
pub use stream::{StdioSeed, serve_stream};

/// The longest message taken from a peer, in bytes: a line on stdio, a request body over HTTP.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
