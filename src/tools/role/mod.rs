//! Roles of users, by environment.

pub mod set;
