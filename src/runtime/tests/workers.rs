//! How many runs execute at once, and who is next.

use super::{Bench, Say};
use crate::config::Settings;
use crate::domain::{Limits, ModelChoice, RunId, RunStatus};
use crate::store::Submit;
use crate::tools::Admission;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

#[tokio::test]
async fn a_second_run_waits_for_the_only_worker_and_gets_it() {
    let go = Arc::new(Notify::new());
    let script = vec![Say::Wait(go.clone(), "first"), Say::Text("second")];
    let bench = Bench::with_workers(script, Settings::default(), 1);
    bench.agent(|_| {}).await;
    bench.start().await;
    let first = bench.submit().await;
    bench.model.asked(1).await;
    assert!(bench.workers.reserve().is_none());
    let second = bench.submit().await;
    assert_eq!(bench.until(second, |_| true).await.status, RunStatus::Queued);
    go.notify_one();
    assert_eq!(bench.settled(first).await.output, Some(json!("first")));
    assert_eq!(bench.settled(second).await.output, Some(json!("second")));
}

#[tokio::test]
async fn a_submit_with_a_free_worker_begins_at_once_and_a_reservation_unused_is_given_back() {
    let bench = Bench::with_workers(vec![Say::Wait(Arc::default(), "")], Settings::default(), 1);
    bench.agent(|_| {}).await;
    assert!(bench.workers.reserve().is_none(), "nothing is reserved before the start");
    bench.start().await;
    drop(bench.workers.reserve());
    let run = bench.submit().await;
    let run = bench.until(run, |_| true).await;
    assert_eq!((run.status, run.attempt), (RunStatus::Running, 1));
    assert_eq!(bench.workers.running(), 1);
}

#[tokio::test]
async fn a_run_that_nobody_announced_is_found_by_looking() {
    let bench = Bench::started(vec![Say::Text("found")]).await;
    let run = queued_in_silence(&bench, Limits::default()).await;
    while bench.until(run, |_| true).await.status == RunStatus::Queued {
        bench.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.settled(run).await.output, Some(json!("found")));
}

/// A run that the store knows of, and nobody else.
pub(super) async fn queued_in_silence(bench: &Bench, limits: Limits) -> RunId {
    let (store, environment) = (&bench.environment.store, &bench.environment);
    let agent = store.agents(None, 1).await.unwrap().remove(0);
    let audit = bench.audit();
    let submit = Submit {
        id: RunId::new(bench.station.clock.now(), environment.number, 1),
        agent_id: agent.id,
        revision: agent.revision,
        model: ModelChoice { provider: "scripted".into(), id: "m".into(), reason: "test".into() },
        input: json!({ "userInput": "go" }),
        origin: audit.origin,
        cause: audit.cause.clone(),
        principal: audit.principal.clone(),
        parent: None,
        max_steps: 5,
        timeout_ms: 86_400_000,
        limits,
        idempotency_key: None,
        config_revision: None,
        caller_credentials: false,
        reserved_for: None,
        queue_limit: 10,
        audit,
    };
    store.submit(submit).await.unwrap().run.id
}
