//! The doors. A door parses what came in, builds an act with a `Context`, hands it to `tools::dispatch`, and renders the answer. No SQL and
//! no rules live here: whatever two doors would have to agree on belongs to `tools/`.
//!
//! `http/` puts the routers together and serves them; `rest/` and `mcp/` are what they carry, `local.rs` what only the local socket does.
//! A new door is a file or a folder here, a case of `domain::Origin`, and, if it speaks HTTP, one line in `http::routers`.

pub mod cli;
pub mod http;
mod local;
mod mcp;
mod rest;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
