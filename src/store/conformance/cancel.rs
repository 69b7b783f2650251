//! Cancels and ends.

use super::cases;
use super::fixture::{Subject, begins, model_call, owner, tool_call};
use crate::domain::{
    AuditOutcome, Effect, EventType, Origin, RunErrorKind, RunStatus, StepStatus, ToolEffect, WaitingFor,
};
use crate::error::{ErrorKind, Result};
use crate::store::{Cancelled, Ending, Intent, Written};
use serde_json::json;

cases!(
    a_run_ends_as_its_executor_says,
    a_queued_run_is_cancelled_at_once,
    a_parked_run_is_cancelled_at_once,
    a_running_run_is_asked_to_stop,
    whatever_ends_a_run_closes_its_steps_and_leaves_its_entry,
    an_accepted_cancel_is_never_lost,
    a_run_that_has_ended_stays_as_it_is,
);

async fn a_run_ends_as_its_executor_says(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let failed = Ending::Failed { kind: RunErrorKind::StepLimit, message: "8 turns".to_owned() };
    let endings = [
        (Ending::Completed { output: json!({ "z": 1 }) }, RunStatus::Completed, EventType::RunCompleted),
        (failed, RunStatus::Failed, EventType::RunFailed),
        (Ending::Cancelled, RunStatus::Cancelled, EventType::RunCancelled),
    ];
    for (ending, status, event) in endings {
        case.submit(&agent).await?;
        let claim = case.claim("a").await?;
        case.advance(1_500);
        assert_eq!(case.store.finish(&claim.grant, ending).await?, Written::Done);
        let run = case.run(claim.run.id).await?;
        assert_eq!((run.status, run.ended_at, run.duration_ms), (status, Some(case.now()), Some(1_500)));
        assert_eq!(run.output, (status == RunStatus::Completed).then(|| json!({ "z": 1 })));
        let failure = (status == RunStatus::Failed).then(|| (RunErrorKind::StepLimit, "8 turns".to_owned()));
        assert_eq!(run.error_kind.zip(run.error), failure);
        assert_eq!(case.event_types(run.id).await?.last(), Some(&event));
        assert_eq!(case.store.live_runs().await?, 0);
    }
    Ok(())
}

async fn a_queued_run_is_cancelled_at_once(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let id = case.submit(&agent).await?.run.id;
    let answer = case.store.cancel(id, case.entry("run.cancel")).await?;
    assert!(matches!(answer, Cancelled::Done(run) if run.status == RunStatus::Cancelled && run.duration_ms.is_none()));
    assert_eq!(case.event_types(id).await?, [EventType::RunQueued, EventType::RunCancelled]);
    assert_eq!(case.store.claim(&owner("a"), 1).await?.len(), 0);
    let unknown = case.store.cancel(case.new_id()?, case.entry("run.cancel")).await;
    assert_eq!(unknown.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    Ok(())
}

async fn a_parked_run_is_cancelled_at_once(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    let answer = case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
    assert!(matches!(answer, Cancelled::Done(run) if run.status == RunStatus::Cancelled && run.waiting_for.is_none()));
    Ok(())
}

async fn a_running_run_is_asked_to_stop(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let id = claim.run.id;
    assert!(!case.store.cancel_requested(id).await?);
    let answer = case.store.cancel(id, case.entry("run.cancel")).await?;
    assert!(matches!(answer, Cancelled::Requested(run) if run.status == RunStatus::Running));
    assert!(case.store.cancel_requested(id).await?);
    // What it had reached by then is the executor's to say.
    let done = Ending::Completed { output: json!("done") };
    assert_eq!(case.store.finish(&claim.grant, done).await?, Written::Done);
    assert_eq!(case.run(id).await?.status, RunStatus::Completed);
    Ok(())
}

async fn whatever_ends_a_run_closes_its_steps_and_leaves_its_entry(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    for way in ["finish", "park", "release", "take_over", "queued", "parked"] {
        case.submit(&agent).await?;
        let claim = case.claim("a").await?;
        let (id, seen) = (claim.run.id, case.store.audit_after(0, 1_000).await?.len());
        let read = ToolEffect { effect: Effect::Read, idempotent: true, open_world: false, trusted: true };
        let read = Intent { effect: Some(read), ..tool_call(3, 1) };
        let open = begins(vec![model_call(1), tool_call(2, 1), read]);
        assert_eq!(case.store.journal(&claim.grant, open).await?, Written::Done);
        match way {
            "queued" => assert_eq!(case.store.release(&claim.grant).await?, Written::Done),
            "parked" => assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[2]).await?, Written::Done),
            _ => {}
        }
        case.store.cancel(id, case.entry("run.cancel")).await?;
        match way {
            "finish" => assert_eq!(case.store.finish(&claim.grant, Ending::Cancelled).await?, Written::Done),
            "park" => assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[2]).await?, Written::Stale),
            "release" => assert_eq!(case.store.release(&claim.grant).await?, Written::Stale),
            "take_over" => assert_eq!(case.store.take_over(&owner("b")).await?, 0),
            _ => {}
        }
        let steps = case.store.steps(id, None, 10).await?;
        let statuses: Vec<_> = steps.iter().map(|step| step.status).collect();
        assert_eq!(statuses, [StepStatus::Failed, StepStatus::InDoubt, StepStatus::Failed], "{way}");
        assert!(steps.iter().all(|step| step.waiting_for.is_none() && step.ended_at.is_some()), "{way}: {steps:?}");
        let entries: Vec<_> =
            case.store.audit_after(0, 1_000).await?.into_iter().skip(seen).map(|row| row.entry).collect();
        let calls = entries.iter().filter(|entry| entry.action == "tool.call");
        let keys: Vec<_> = calls.map(|entry| (entry.outcome, entry.request_id.as_str())).collect();
        let (write, read) = ((AuditOutcome::Failed, "key-2"), (AuditOutcome::Failed, "key-3"));
        // Of a step that was parked, its executor has told.
        assert_eq!(keys, if way == "parked" { vec![read] } else { vec![write, read] }, "{way}");
        let ended: Vec<_> = entries.iter().filter(|entry| entry.action == "agent.run").collect();
        assert_eq!(ended.len(), 1, "{way}");
        assert_eq!((ended[0].outcome, ended[0].reason.as_deref()), (AuditOutcome::Failed, Some("cancelled")));
        assert_eq!((ended[0].origin, ended[0].target.clone()), (Origin::Run, Some(id.to_string())));
    }
    Ok(())
}

async fn an_accepted_cancel_is_never_lost(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    for way in ["park", "release", "take_over"] {
        case.submit(&agent).await?;
        let claim = case.claim("a").await?;
        case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
        match way {
            "park" => {
                let parked = case.store.park(&claim.grant, WaitingFor::Provider, &[]).await?;
                assert_eq!(parked, Written::Stale);
            }
            "release" => assert_eq!(case.store.release(&claim.grant).await?, Written::Stale),
            _ => assert_eq!(case.store.take_over(&owner("b")).await?, 0),
        }
        assert_eq!(case.run(claim.run.id).await?.status, RunStatus::Cancelled, "{way}");
        assert_eq!(case.event_types(claim.run.id).await?.last(), Some(&EventType::RunCancelled));
    }
    Ok(())
}

async fn a_run_that_has_ended_stays_as_it_is(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let done = || Ending::Completed { output: json!("done") };
    assert_eq!(case.store.finish(&claim.grant, done()).await?, Written::Done);
    let (before, recorded) = (case.run(claim.run.id).await?, case.actions().await?);
    case.advance(10);
    let answer = case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
    assert!(matches!(answer, Cancelled::Already(run) if run == before));
    assert_eq!(case.store.finish(&claim.grant, Ending::Cancelled).await?, Written::Stale);
    assert_eq!(case.store.take_over(&owner("b")).await?, 0);
    assert_eq!(case.run(claim.run.id).await?, before);
    assert_eq!(case.actions().await?, recorded);
    Ok(())
}
