//! MCP: the tools of the station behind the protocol that `mcp::serve` speaks. `backend.rs` answers it, `listing.rs` is what a tool looks
//! like to a client, `outcome.rs` what an answer does, `endpoints.rs` the mount points over HTTP. Stdio sessions come in by `local.rs`.
//!
//! The protocol itself belongs to `mcp/serve`; a new tool needs nothing here.

mod backend;
mod endpoints;
mod listing;
mod outcome;

pub(super) use backend::StationBackend;
pub(super) use endpoints::routes;
