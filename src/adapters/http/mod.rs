//! HTTP: the routers of the doors put together, what stands before every route, and the listeners.
//!
//! From the outside in: `envelope.rs` numbers every request and renders every error, a panic becomes one of those, `net::Guard` looks at
//! `Host` and `Origin`, `cors.rs` lets listed pages ask and read, `auth.rs` says who is calling, and `source.rs` from where. Over the local
//! socket the listener has checked the peer already, so that `local.rs` takes the place of the last three. Routes belong to `rest/`, `mcp/`
//! and `local.rs`.

mod activity;
mod auth;
mod cors;
mod envelope;
mod health;
mod keys;
mod listen;
mod places;
mod source;
mod wire;

pub use activity::{Active, Activity};
pub use listen::{serve_socket, serve_tcp};

#[cfg(test)]
pub(super) use listen::serve_at_most;

pub(super) use auth::Arrival;

use super::{local, mcp, rest};
use crate::domain::Name;
use crate::home::{Handshake, LocalKey};
use crate::lifecycle::Tasks;
use crate::net::Guard;
use crate::tools::{Station, Throttle};
use axum::Router;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use keys::Uses;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

/// How often a minute a source without a key of this station may fail to log in, and a principal ask with a key that isn't taken, or for
/// another's session. A key that is right is never held back: 256 random bits need no help against guessing, and a neighbour on the same
/// address must not lock the owner out.
const MOST_FAILURES: u32 = 100;

/// What `app` gives the doors.
#[derive(Debug, Clone)]
pub struct Deps {
    pub station: Arc<Station>,
    pub key: LocalKey,
    pub tasks: Tasks,
    pub activity: Activity,
    /// Fired when a successor asks for the home.
    pub drain: CancellationToken,
    /// What the owner answers to those who come over the socket.
    pub handshake: Handshake,
}

/// The same, with what the doors add. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Doors(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deps: Deps,
    guard: Guard,
    /// Of sources; whoever else comes from there is counted with them.
    failures: Throttle<IpAddr>,
    /// Of principals whose key was shown, so that nobody without one hides what is tried with it.
    known_failures: Throttle<String>,
    uses: Uses,
}

impl std::ops::Deref for Doors {
    type Target = Deps;

    fn deref(&self) -> &Deps {
        &self.0.deps
    }
}

impl Doors {
    pub(super) fn new(deps: Deps) -> Self {
        let http = &deps.station.settings.http;
        let guard = Guard::new(&http.allowed_hosts, &http.allowed_origins);
        let (failures, known_failures) = (Throttle::new(MOST_FAILURES), Throttle::new(MOST_FAILURES));
        Self(Arc::new(Shared { deps, guard, failures, known_failures, uses: Uses::default() }))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.station.ready.is_cancelled()
    }

    /// Fires when streams should end.
    pub(super) fn stopping(&self) -> &CancellationToken {
        self.tasks.soft()
    }

    pub(super) fn default_environment(&self) -> &Name {
        &self.station.default_environment
    }
}

/// The routers of one station, which share their MCP sessions and their count of open requests.
#[derive(Debug, Clone)]
pub struct Routers {
    /// For TCP: asks for the key, looks at `Host` and `Origin`.
    pub tcp: Router,
    /// For the local socket, whose listener has checked the peer.
    pub socket: Router,
}

/// Puts the routers together.
pub fn routers(deps: Deps) -> Routers {
    let doors = Doors::new(deps);
    let common = Router::new().merge(health::routes(&doors)).merge(rest::routes(&doors)).merge(mcp::routes(&doors));
    let unknown = {
        let doors = doors.clone();
        async move |uri: Uri| rest::unknown_route(&doors.station, uri.path())
    };
    let tcp = common
        .clone()
        .fallback(unknown.clone())
        .layer(from_fn_with_state(doors.clone(), auth::require_key))
        .layer(from_fn_with_state(doors.clone(), cors::share))
        .layer(from_fn_with_state(doors.clone(), auth::admit));
    let socket = common.merge(local::routes(&doors)).fallback(unknown).layer(from_fn(local::as_local_owner));
    let finish = |router: Router| {
        router
            .layer(CatchPanicLayer::custom(envelope::panicked))
            .layer(from_fn_with_state(doors.clone(), envelope::number_and_render))
    };
    Routers { tcp: finish(tcp), socket: finish(socket) }
}
