//! Calls that get lost while the station lives.

use super::{Bench, Say};
use crate::domain::{OnInDoubt, RunStatus, StepStatus, WaitingFor};
use crate::tools;
use serde_json::json;

#[tokio::test]
async fn a_server_that_dies_over_a_write_parks_the_run() {
    let bench = Bench::started(vec![Say::Calls(vec![("misfits__die", "{}")])]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.status, run.waiting_for), (RunStatus::InputRequired, Some(WaitingFor::InDoubt)), "{:?}", run.error);
    let step = bench.step(run.id, 2, 1).await.step;
    assert_eq!(step.status, StepStatus::InDoubt);
    assert!(step.error.unwrap().contains("misfits"));
    let given = json!({ "run": run.id, "decision": "result", "step": 2 });
    let missing = tools::call(&bench.station, super::context(), "run_respond", given).await.unwrap_err();
    let command = format!("stn run respond {} result --result 'TEXT' --step 2", run.id);
    assert!(missing.hint_text().unwrap().ends_with(&command), "{missing}");
    bench.call("run_cancel", json!({ "run": run.id })).await;
    let late = json!({ "run": run.id, "decision": "retry" });
    let late = tools::call(&bench.station, super::context(), "run_respond", late).await.unwrap_err();
    assert!(late.message().ends_with("is `cancelled` and waits for no answer"), "{late}");
    assert!(late.hint_text().unwrap().contains(&format!("`stn run get {}`", run.id)), "{late}");
}

#[tokio::test]
async fn a_read_is_made_once_more_when_its_server_dies_over_it() {
    let bench = Bench::started(vec![Say::Calls(vec![("misfits__peek", "{}")]), Say::Text("ok")]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(bench.model.last_results()[0].content, "seen");
    let (first, second) = (bench.step(run.id, 2, 1).await.step, bench.step(run.id, 2, 2).await.step);
    assert_eq!((first.status, second.status), (StepStatus::Failed, StepStatus::Completed));
    assert_eq!(first.idempotency_key, second.idempotency_key);
}

#[tokio::test]
async fn an_agent_that_skips_doubts_is_told_that_nobody_knows() {
    let bench = Bench::new(vec![Say::Calls(vec![("misfits__die", "{}")]), Say::Text("so be it")]);
    bench.agent(|agent| agent.on_in_doubt = OnInDoubt::Skip).await;
    bench.start().await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.status, RunStatus::Completed);
    let told = bench.model.last_results().remove(0);
    assert!(told.is_error && told.content.contains("outcome of this call is unknown"), "{}", told.content);
    assert_eq!(bench.step(run, 2, 1).await.step.status, StepStatus::Skipped);
}
