//! Station: a self-hosted runtime for AI agents whose core is an MCP server.
//!
//! # The map
//!
//! ```text
//! domain <- error, clock, events, failpoint, redact, lifecycle <- home, net, process, telemetry
//!        <- config, store, secrets, mcp, llm <- gateway <- tools <- { runtime | adapters } <- app
//! ```
//!
//! A room imports lower layers only; rooms of one layer don't see each other (`tests/it/tidy.rs` reads the sources).
//!
//! # Read these five files first
//!
//! 1. `tools/dispatch.rs`: the one road. Everything that makes something happen goes through it.
//! 2. `tools/agent/run.rs`: a tool from end to end: input, spec, function, transaction.
//! 3. `store/mod.rs`: what is kept, as business transactions.
//! 4. `runtime/engine`: the loop of model and tool calls, journaled.
//! 5. `app.rs`: how the rooms are put together.

pub mod domain;

pub mod clock;
pub mod error;
pub mod events;
pub mod failpoint;
pub mod lifecycle;
pub mod redact;

pub mod home;
pub mod net;
pub mod process;
pub mod telemetry;

pub mod config;
pub mod llm;
pub mod mcp;
pub mod secrets;
pub mod store;

pub mod gateway;

pub mod tools;

pub mod adapters;
pub mod runtime;

pub mod app;

/// The number for what both sides of the local socket share; only equal ones work together. The stores count their migrations by themselves.
pub const SCHEMA: u32 = 1;
