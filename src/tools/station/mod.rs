//! The station itself.

pub mod status;
