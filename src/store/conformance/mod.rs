//! The suite that every implementation of [`Store`] has to pass: what the traits say in words, as cases that can go red.
//!
//! An implementation is given by a function that makes an empty store. Each case gets a store of its own, talks to it only through the
//! trait, and never waits: time moves by the suite's own clock. A new case is an async function in the file of its topic, and a line in
//! that file's `cases!`.

mod agents;
mod answers;
mod audit;
mod cancel;
mod children;
mod fencing;
pub(super) mod fixture;
mod idempotency;
mod journal;
mod model;
mod park;
mod queue;
mod runs;
mod secrets;
mod sync;

pub use fixture::{ENVIRONMENT, environment};

use crate::clock::ManualClock;
use crate::domain::Timestamp;
use crate::error::Result;
use crate::events::Events;
use crate::store::Store;
use fixture::Subject;
use std::sync::Arc;

/// What a store under test is made with. It has to read time from `clock` and publish to `events`.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub clock: Arc<ManualClock>,
    pub events: Events,
}

/// Lists a topic's cases and runs them by name.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        pub(super) async fn run(make: &impl AsyncFn() -> $crate::error::Result<$crate::store::conformance::fixture::Subject>) -> $crate::error::Result<()> {
            $($case(make().await?).await.map_err(|error| error.context(concat!(module_path!(), "::", stringify!($case))))?;)+
            Ok(())
        }
    };
}
use cases;

/// Runs the whole suite. `make` gives an empty store of the environment [`ENVIRONMENT`] (number 7, see [`environment`]) each time it is
/// called. A broken expectation panics at its place; a store's own error comes back with the name of the case.
pub async fn run_all(make: impl AsyncFn(Surroundings) -> Result<Arc<dyn Store>>) -> Result<()> {
    let make = async || {
        let surroundings = Surroundings {
            clock: ManualClock::at(Timestamp::from_millis(1_764_000_000_000)),
            events: Events::default(),
        };
        let store = make(surroundings.clone()).await?;
        Ok(Subject::new(store, surroundings))
    };
    agents::run(&make).await?;
    sync::run(&make).await?;
    runs::run(&make).await?;
    queue::run(&make).await?;
    idempotency::run(&make).await?;
    journal::run(&make).await?;
    park::run(&make).await?;
    answers::run(&make).await?;
    cancel::run(&make).await?;
    children::run(&make).await?;
    fencing::run(&make).await?;
    audit::run(&make).await?;
    secrets::run(&make).await?;
    model::run(&make).await
}
