//! `run_cancel`: ends a run.

use super::find;
use super::wait::wait_for;
use crate::domain::{Effect, Run, Scope};
use crate::error::Result;
use crate::store::Cancelled;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The run's id, or the unique beginning of it.
    pub run: String,
}

/// How long to wait for the executor to let go, so that the answer can show the end.
const LET_GO: Duration = Duration::from_secs(5);

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Run>("run_cancel", Scope::RunsCancel)
        .describe("Cancel a run", "Ends a run that is queued, running or waiting, and the runs that it has called. A run that has ended stays as it is.")
        .changes(Effect::Destructive, true)
        .environment(EnvironmentUse::OfRun)
        .exposure(Exposure::Default)
        .rest(Method::Post, "/runs/{run}/cancel")
        .cli("run cancel", &["run"])
}

pub async fn cancel(call: Call, input: Input) -> Result<Run> {
    let run = find(&call, &input.run).await?;
    let (store, station) = (&call.environment()?.store, &call.station);
    let cancelled = store.cancel(run.id, call.audit(run.id)).await?;
    // What it had called is cancelled with it, and what waited for it goes on.
    for called_off in store.called_off().await? {
        station.admission.cancel(called_off);
    }
    station.admission.wake();
    match cancelled {
        Cancelled::Done(run) => {
            station.models.forget(run.id);
            Ok(run)
        }
        Cancelled::Already(run) => Ok(run),
        Cancelled::Requested(run) => wait_for(&call, run.id, LET_GO).await,
    }
}
