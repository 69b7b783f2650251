//! After a crash or a kill: runs that an earlier owner held go back to the queue, under an epoch that shuts the earlier owner out.

use crate::clock::{ClockExt, SharedClock};
use crate::lifecycle::Tasks;
use crate::store::Owner;
use crate::tools::{Environment, Station};
use std::time::Duration;

/// How long a store that couldn't free them is left alone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Frees the runs of every environment. A store that fails keeps neither the others nor the start waiting: it is asked again until it can.
pub(super) async fn take_over(station: &Station, owner: &Owner, tasks: &Tasks) {
    for environment in station.environments.all() {
        if !is_taken_over(&environment, owner).await {
            let (owner, clock, ended) = (owner.clone(), SharedClock::clone(&station.clock), tasks.soft().clone());
            tasks.spawn("recovery", async move {
                let again = async || {
                    clock.sleep(PATIENCE).await;
                    is_taken_over(&environment, &owner).await
                };
                while let Some(false) = ended.run_until_cancelled(again()).await {}
            });
        }
    }
}

async fn is_taken_over(environment: &Environment, owner: &Owner) -> bool {
    match environment.store.take_over(owner).await {
        Ok(0) => {}
        Ok(runs) => tracing::info!(environment = %environment.name, runs, "runs of an earlier owner go on"),
        Err(error) => {
            tracing::error!(environment = %environment.name, ?error, "runs of an earlier owner can't be freed yet");
            return false;
        }
    }
    true
}
