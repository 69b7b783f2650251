//! Bytes to and from the outside: the one outbound HTTP client and where it may go, server-sent events, and what every listener does: its
//! checks, and the number that it gives each request.
//!
//! No protocol of ours lives here; MCP is in `mcp/`, model providers in `llm/`, routes in `adapters/`.

mod client;
mod guard;
mod outbound;
mod request_id;
pub mod sse;
#[cfg(test)]
pub(crate) mod testing;

pub use client::http_client;
pub use guard::{Guard, check_host, check_origin};
pub use outbound::{OUTBOUND_HINT, check_outbound, without_credentials};
pub use request_id::RequestId;
