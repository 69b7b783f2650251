//! The Model Context Protocol, ignorant of agents and runs.
//!
//! What belongs here is protocol: framing, eras, sessions, progress, cancellation. What a tool *is* and what calling it does stays behind
//! the seams that this room defines.

pub mod call;
pub mod serve;
