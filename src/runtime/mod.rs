//! What acts without being asked: workers that claim queued runs, and the engine that carries each one to its end.
//!
//! - `worker` decides how many runs execute at once, claims them, and is the [`Admission`](crate::tools::Admission) that tools see.
//! - `recovery` frees what an earlier owner of the home left in flight.
//! - `watcher` takes files up when they were saved.
//! - `engine/` executes one run: the loop of model and tool calls, journaled step by step.
//!
//! Nothing here is called by a door or a tool, and no SQL is written here: rules that a transaction must keep belong to `store/`, what
//! somebody asks for belongs to `tools/`. A new actor (a scheduler, an outbox) is a file here, started by [`start`].

mod engine;
mod recovery;
#[cfg(test)]
mod tests;
mod watcher;
mod worker;

pub use watcher::watch;
pub use worker::Workers;

use crate::lifecycle::Tasks;
use crate::tools::Station;
use std::sync::Arc;

/// Puts the workers to work: takes over what an earlier owner left behind, then claims whatever is queued, until `tasks` end.
///
/// To be called once, when the environments' servers have been attached: a run that goes on looks for its tools at once. Until then,
/// whatever is submitted is queued.
pub async fn start(station: &Arc<Station>, workers: &Arc<Workers>, tasks: &Tasks) {
    workers.attach(station, tasks);
    recovery::take_over(station, workers.owner(), tasks).await;
    tasks.spawn("workers", Arc::clone(workers).claim_loop());
}
