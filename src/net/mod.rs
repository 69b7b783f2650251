//! Bytes to and from the outside: the one outbound HTTP client and where it may go, server-sent events, and the checks every
//! listener makes.
//!
//! No protocol of ours lives here; MCP is in `mcp/`, model providers in `llm/`, routes in `adapters/`.

mod client;
mod guard;
mod outbound;
pub mod sse;
#[cfg(test)]
pub(crate) mod testing;

pub use client::http_client;
pub use guard::Guard;
pub use outbound::{OUTBOUND_HINT, check_outbound, without_credentials};
