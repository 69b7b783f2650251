//! `run_respond`: settles what a parked run waits for. For people only: a model never answers for one.

use super::find;
use crate::domain::{Answer, Decision, Effect, Run, Scope, WaitingFor};
use crate::error::{Error, Result};
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The run's id, or the unique beginning of it.
    pub run: String,
    /// `retry` calls again with the same idempotency key, `skip` tells the model that the outcome is unknown, `result` takes `result` for it.
    pub decision: Decision,
    /// The step in doubt; without it, every one that is.
    #[schemars(range(min = 1))]
    pub step: Option<i64>,
    /// With `result`: what the call is taken to have returned.
    pub result: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Run>("run_respond", Scope::RunsRespond)
        .describe(
            "Answer a waiting run",
            "Settles a tool call that was cut off and that nobody could decide: retry it, skip it, or give its result.",
        )
        .changes(Effect::Write, false)
        .environment(EnvironmentUse::OfRun)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Post, "/runs/{run}/respond")
        .cli("run respond", &["run", "decision"])
}

pub async fn respond(call: Call, input: Input) -> Result<Run> {
    let answer = match (input.decision, input.result) {
        (Decision::Result, None) => {
            return Err(Error::invalid_input("`result` is missing")
                .hint("with the decision `result`, say what the call returned")
                .field("result"));
        }
        (Decision::Retry | Decision::Skip, Some(_)) => {
            let message = "`result` goes with the decision `result` only";
            return Err(Error::invalid_input(message).field("result"));
        }
        (decision, result) => Answer { decision, result },
    };
    let _one_at_a_time = call.station.models.answering.lock().await;
    let run = find(&call, &input.run).await?;
    let brought = call.ctx.provider_variables.as_ref().filter(|_| run.waiting_for == Some(WaitingFor::Provider));
    if let Some(brought) = brought {
        // Before the commit: from then on a worker may take the run up, and would miss them.
        call.station.models.remember(run.id, Arc::clone(brought));
    }
    let answered = call.environment()?.store.answer(run.id, input.step, answer, call.audit(run.id)).await;
    if brought.is_some() && answered.is_err() {
        call.station.models.forget(run.id);
    }
    let run = answered?;
    call.station.admission.wake();
    Ok(run)
}
