//! One station per home: where its files lie, how an empty one is filled, who owns it, and how everybody else reaches the owner.
//!
//! Exactly one process owns a home: it holds [`OwnerLock`], opens the stores and listens on the local socket ([`LocalListener`]).
//! Everybody else is a client of that socket: [`attach()`] when an owner is there, [`attach_or_spawn`] when one must be, and
//! [`attach_or_own`] for a short command that may open the home itself. `stn stdio` is a client too ([`pipe`]).
//!
//! What does not belong here: the routes behind the socket (`adapters/`), settings and sample files (`config/`), and anything that
//! opens a store. A new path of the home is an accessor in `layout.rs`; a new way in is a function beside `attach.rs`.

mod api_key;
mod attach;
mod background;
mod cache;
mod client;
mod filesystem;
mod first_use;
mod layout;
mod local_key;
mod lock;
mod peer;
pub mod pipe;
mod private;
mod process_tree;
mod reaper;
mod socket;
mod variables;

#[cfg(test)]
mod testing;

pub use api_key::{ApiKey, KeyProof};
pub use attach::{Door, Handshake, attach, attach_or_own, take_over};
pub use background::{Handover, MayStart, SpawnOwner, attach_or_spawn, own_in_background};
pub use cache::keep_in_cache;
pub use client::{LocalBody, LocalClient, LocalResponse, LocalStream};
pub use first_use::create;
pub use layout::{Home, Layout};
pub use local_key::LocalKey;
pub use lock::{OwnerInfo, OwnerLock, OwnerMode, read_owner};
pub use peer::{PeerCheck, Refusal};
pub use private::{place_private, read_checked, read_private, refuse_exposed};
pub use reaper::Subreaper;
pub use socket::LocalListener;
pub use variables::Variables;

use crate::error::{Error, ErrorKind};
use std::io;
use std::path::Path;

/// The exit code of a station whose configuration or keys can't be used (`EX_CONFIG` of sysexits).
pub const EXIT_MISCONFIGURED: u8 = 78;

/// An error that ends the process with exit code 78; the command line reads the code from `details.exit_code`.
pub fn misconfigured(message: impl Into<String>) -> Error {
    Error::invalid_input(message).details(serde_json::json!({ "exit_code": EXIT_MISCONFIGURED }))
}

/// A failed operation on a path: "can't `action` `path`: reason".
fn failed(action: &str, path: &Path, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("can't {action} `{}`: {cause}", path.display())).source(cause)
}
