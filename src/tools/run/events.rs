//! `run_events`: the stored events of a run, in order. Following them live is the act `Subscribe`, over REST by the same address.

use super::find;
use crate::domain::{Event, Scope};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The run's id, or the unique beginning of it.
    pub run: String,
    /// Only events after this sequence number.
    #[schemars(range(min = 0))]
    pub after: Option<i64>,
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<Event>>("run_events", Scope::RunsRead)
        .describe(
            "List the events of a run",
            "Lists what happened to a run, in order: queued, started, steps, waiting, ended.",
        )
        .environment(EnvironmentUse::OfRun)
        .rest(Method::Get, "/runs/{run}/events")
        .cli("run events", &["run"])
}

pub async fn events(call: Call, input: Input) -> Result<Page<Event>> {
    let run = find(&call, &input.run).await?;
    let of = format!("run_events {}", run.id);
    let limit = page::limit(input.limit)?;
    let after: Option<i64> = page::position(&of, input.cursor.as_deref())?;
    let after = after.or(input.after).unwrap_or(0);
    let events = call.environment()?.store.events_after(run.id, after, limit + 1).await?;
    Ok(page::page(&of, events, limit, |event: &Event| event.seq))
}
