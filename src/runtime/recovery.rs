//! After a crash or a kill: runs that an earlier owner held go back to the queue, under an epoch that shuts the earlier owner out.

use crate::store::Owner;
use crate::tools::Station;

/// Frees the runs of every environment. One store that fails doesn't keep the others from going on.
pub(super) async fn take_over(station: &Station, owner: &Owner) {
    for environment in station.environments.all() {
        match environment.store.take_over(owner).await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(environment = %environment.name, runs, "runs of an earlier owner go on"),
            Err(error) => {
                tracing::error!(environment = %environment.name, ?error, "runs of an earlier owner can't be freed")
            }
        }
    }
}
