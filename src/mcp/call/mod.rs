//! Calling MCP servers: JSON-level connections of our own, over stdio and streamable HTTP, in both protocol eras.
//!
//! Params and results pass as raw JSON: a typed client would drop fields that it doesn't know and rewrite numbers. What belongs here is
//! how bytes travel and how a request finds its answer; which servers exist, their restarts and their tools are in `gateway/`.
//!
//! - `connection` is what callers hold: one request in, one raw result out, with a deadline, cancellation and progress.
//! - `stdio` and `http` carry messages; `table` holds the requests of a stdio connection until they are written and answered; `lines`,
//!   `message` and `object` read and write them.
//! - `era` finds out which protocol a server speaks; `listen` hears from it without having asked.
//!
//! A new transport is a variant of `connection::Link` with its file beside `stdio.rs`.

mod connection;
mod era;
mod error;
mod header;
mod http;
mod lines;
mod listen;
mod message;
mod object;
mod progress;
mod signals;
mod stdio;
mod table;

pub use connection::{ConnectError, Connection, RequestOptions, Setup};
pub use era::{Era, Protocol};
pub use error::{CallError, RpcError};
pub use http::HttpTarget;
pub use object::{RawObject, raw};
pub use progress::Progress;

/// The largest message that is read from a server, in bytes: one line on stdio, one body or one event over HTTP.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
