//! `run_get`: one run.

use super::find;
use crate::domain::{Run, Scope};
use crate::error::Result;
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The run's id, or the unique beginning of it.
    pub run: String,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Run>("run_get", Scope::RunsRead)
        .describe("Get a run", "Shows one run: status, input, output, model, usage and times.")
        .environment(EnvironmentUse::OfRun)
        .exposure(Exposure::Default)
        .rest(Method::Get, "/runs/{run}")
        .cli("run get", &["run"])
}

pub async fn get(call: Call, input: Input) -> Result<Run> {
    find(&call, &input.run).await
}
