//! `run_wait`: waits until a run has ended, or somebody has to answer it or a run that it waits for.

use super::activity::activity;
use super::find;
use crate::clock::ClockExt;
use crate::domain::{Event, EventType, Origin, Run, RunId, Scope};
use crate::error::{Error, Result};
use crate::events::Followed;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, Progress, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The run's id, or the unique beginning of it.
    pub run: String,
    /// How long to wait, in milliseconds; 45000 without it.
    #[schemars(range(max = 3_600_000))]
    pub wait_ms: Option<u64>,
}

/// The wait of a caller that doesn't say.
const DEFAULT_WAIT_MS: u64 = 45_000;

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Run>("run_wait", Scope::RunsRead)
        .describe(
            "Wait for a run",
            "Waits until a run has ended, or needs an answer, itself or in a run that it has called, at most wait_ms, and returns it as it is then.",
        )
        .environment(EnvironmentUse::OfRun)
        .exposure(Exposure::Default)
        .deadline(Duration::from_secs(3_660))
        .rest(Method::Post, "/runs/{run}/wait")
        .cli("run wait", &["run"])
}

pub async fn wait(call: Call, input: Input) -> Result<Run> {
    let run = find(&call, &input.run).await?;
    wait_for(&call, run.id, Duration::from_millis(input.wait_ms.unwrap_or(DEFAULT_WAIT_MS))).await
}

/// The run as it is when it has ended, needs an answer, or `limit` is over. Progress goes to whoever listens.
pub async fn wait_for(call: &Call, id: RunId, limit: Duration) -> Result<Run> {
    let mut follower = call.station.events.follow(id);
    let alarm = call.station.clock.sleep(limit);
    tokio::pin!(alarm);
    let stopping = stopping(call);
    tokio::pin!(stopping);
    let mut run = read(call, id).await?;
    while !is_settled(&run) {
        tokio::select! {
            biased;
            followed = follower.next() => match followed {
                Followed::Event(event) => {
                    report(call, &event);
                    if !may_settle(event.r#type) {
                        continue;
                    }
                }
                Followed::Lagged => {}
            },
            () = call.ctx.cancel.cancelled() => return Err(Error::cancelled("the request was cancelled; the run goes on")),
            () = &mut alarm => return read(call, id).await,
            () = &mut stopping => return read(call, id).await,
        }
        run = read(call, id).await?;
    }
    Ok(run)
}

/// A station that stops answers with the run as it is, for waiting requests hold it up. A client of `stn stdio` is not told: the pipe asks
/// the next owner in its name.
async fn stopping(call: &Call) {
    match call.ctx.origin {
        Origin::McpStdio => std::future::pending().await,
        _ => call.station.tasks.soft().cancelled().await,
    }
}

fn is_settled(run: &Run) -> bool {
    run.status.is_terminal() || run.needs_an_answer()
}

/// After any other event the run is as unsettled as before, and needn't be read.
fn may_settle(event: EventType) -> bool {
    event.is_terminal() || event == EventType::RunWaiting
}

async fn read(call: &Call, id: RunId) -> Result<Run> {
    let run = call.environment()?.store.run(id).await?;
    run.ok_or_else(|| Error::internal(format!("run `{id}` vanished")))
}

/// Stored events count up, so their number is the progress.
fn report(call: &Call, event: &Event) {
    if event.r#type.is_transient() {
        return;
    }
    let Some(message) = activity(event) else { return };
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 events")]
    let progress = event.seq as f64;
    call.ctx.report(Progress { progress, total: None, message: Some(message) });
}
