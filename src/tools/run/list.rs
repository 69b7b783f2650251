//! `run_list`: the runs of an environment, newest first.

use super::find;
use crate::domain::{AgentId, Run, RunId, RunStatus, Scope, Timestamp};
use crate::error::Result;
use crate::store::RunFilter;
use crate::tools::agent::{self, Handle};
use crate::tools::page::{self, Page};
use crate::tools::{Call, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only runs of this agent, also where its file is gone.
    pub agent: Option<Handle>,
    /// Only runs in this status.
    pub status: Option<RunStatus>,
    /// Only runs that this run has called; its id, or the unique beginning of it.
    pub parent: Option<String>,
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<Run>>("run_list", Scope::RunsRead)
        .describe(
            "List runs",
            "Lists the runs of an environment, newest first; of one agent, in one status or called by one run if you like.",
        )
        .exposure(Exposure::Default)
        .rest(Method::Get, "/runs")
        .cli("run list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<Run>> {
    let environment = call.environment()?;
    let agent = match &input.agent {
        Some(handle) => Some(with_runs(&call, handle).await?),
        None => None,
    };
    let parent = match &input.parent {
        Some(parent) => Some(find(&call, parent).await?.id),
        None => None,
    };
    let status = input.status.map(RunStatus::as_str).unwrap_or("*");
    let of = format!("run_list {} {agent:?} {parent:?} {status}", environment.name);
    let limit = page::limit(input.limit)?;
    let before: Option<(i64, RunId)> = page::position(&of, input.cursor.as_deref())?;
    let filter = RunFilter {
        agent,
        parent,
        statuses: input.status.into_iter().collect(),
        before: before.map(|(at, id)| (Timestamp::from_millis(at), id)),
        limit: limit + 1,
    };
    let runs = environment.store.runs(&filter).await?;
    Ok(page::page(&of, runs, limit, |run: &Run| (run.created_at.as_millis(), run.id)))
}

/// The agent whose runs are meant. They outlive its file.
async fn with_runs(call: &Call, handle: &Handle) -> Result<AgentId> {
    match agent::find(call, handle).await {
        Ok(row) => Ok(row.id),
        Err(error) => match agent::former(call, handle).await? {
            Some(former) => Ok(former.last.id),
            None => Err(error),
        },
    }
}
