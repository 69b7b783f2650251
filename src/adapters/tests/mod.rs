//! The doors as their callers see them: whole requests through the routers, over a real store.

mod connections;
mod door;
mod events;
mod giving;
mod keys;
mod leases;
mod local;
mod mcp;
mod places;
mod tools;
mod variables;
