//! The one outbound HTTP client: pooled, no redirects, no delay for small packets.

use crate::error::{Error, Result};
use std::time::Duration;

/// Builds the client that every provider and every attached server over HTTP shares.
///
/// Redirects are refused: a credential must not follow one, and neither models nor MCP servers need them. There is no overall timeout
/// here: deadlines belong to the call, and a stream may be long.
pub fn http_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("stn/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(60))
        .build()
        .map_err(|cause| Error::internal("the HTTP client can't be set up").source(cause))
}
