//! Requests: what parked runs ask people. `run_respond` answers them.

pub mod list;
