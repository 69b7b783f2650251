//! `run_steps`: the journal of a run, in order.

use super::find;
use crate::domain::{Scope, Step};
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
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<Step>>("run_steps", Scope::RunsRead)
        .describe(
            "List the steps of a run",
            "Lists a run's journal: each model and tool call with arguments, result, duration and usage.",
        )
        .environment(EnvironmentUse::OfRun)
        .rest(Method::Get, "/runs/{run}/steps")
        .cli("run steps", &["run"])
}

pub async fn steps(call: Call, input: Input) -> Result<Page<Step>> {
    let run = find(&call, &input.run).await?;
    let of = format!("run_steps {}", run.id);
    let limit = page::limit(input.limit)?;
    let after: Option<(i64, i64)> = page::position(&of, input.cursor.as_deref())?;
    let steps = call.environment()?.store.steps(run.id, after, limit + 1).await?;
    Ok(page::page(&of, steps, limit, |step: &Step| (step.seq, step.r#try)))
}
