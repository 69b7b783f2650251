//! The one integration binary. Each file is a subject; behaviour goes through a door.
#![expect(unreachable_pub, reason = "a test binary exports nothing; `pub` says what `support` offers")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how a test fails")]

mod support;

mod agents;
mod attached;
mod authorization;
mod bad_input;
mod canary;
mod config;
mod conformance;
mod coverage;
mod directories;
mod doors;
mod files;
mod filesystem;
mod first_run;
mod following;
mod go_station;
mod keys;
mod mcp;
mod owners;
mod parity;
mod pauses;
mod providers;
mod questions;
mod recovery;
mod rest;
mod secrets;
mod shown;
mod thinking;
mod tidy;
mod variables;
mod watching;
