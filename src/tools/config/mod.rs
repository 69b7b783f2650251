//! The configuration: what is in force and where it comes from, and what is wrong with its files.

pub mod check;
pub mod get;
