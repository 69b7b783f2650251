//! Runs that give their worker back and wait.

use super::cases;
use super::fixture::{Subject, begins, owner, present, tool_call};
use crate::domain::{
    Answer, AuditOutcome, Decision, EventType, QUESTION_EXPIRY, RunId, RunStatus, StepStatus, UNANSWERED, WaitingFor,
};
use crate::error::{ErrorKind, Result};
use crate::store::{Intent, Written};
use serde_json::json;
use std::time::Duration;

cases!(
    a_parked_run_holds_no_worker_and_says_what_it_waits_for,
    the_time_parked_does_not_count,
    a_run_that_waits_for_its_provider_goes_on_when_told,
    only_an_open_step_can_be_in_doubt,
    only_the_newest_try_of_a_call_is_in_doubt,
    a_settled_step_is_not_in_doubt_again,
    a_question_stays_open_until_its_answer_is_its_result,
    a_question_that_nobody_answers_expires_and_its_run_goes_on,
    what_is_no_question_never_expires,
);

async fn a_parked_run_holds_no_worker_and_says_what_it_waits_for(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let id = claim.run.id;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1), tool_call(2, 1)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[2]).await?, Written::Done);
    let run = case.run(id).await?;
    assert_eq!((run.status, run.waiting_for), (RunStatus::InputRequired, Some(WaitingFor::InDoubt)));
    assert_eq!(case.store.live_runs().await?, 0);
    assert_eq!(case.store.claim(&owner("b"), 5).await?.len(), 0);
    let steps = case.store.steps(id, None, 10).await?;
    assert_eq!(steps[0].status, StepStatus::Started);
    assert_eq!((steps[1].status, steps[1].waiting_for), (StepStatus::InDoubt, Some(WaitingFor::InDoubt)));
    let types = case.event_types(id).await?;
    assert_eq!(types[types.len() - 2..], [EventType::RunWaiting, EventType::RequestOpened]);
    let opened = present(case.store.events_after(id, types.len() as i64 - 1, 1).await?.pop(), "the event")?;
    assert_eq!(opened.data, json!({ "waiting_for": "in_doubt", "steps": [2] }));
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[2]).await?, Written::Stale);
    Ok(())
}

async fn the_time_parked_does_not_count(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    for pause in [90_000, 5_000] {
        let held = if pause == 90_000 { claim.grant.epoch } else { claim.grant.epoch + 1 };
        let grant = crate::store::Grant { run_id: claim.run.id, epoch: held };
        assert_eq!(case.store.park(&grant, WaitingFor::Provider, &[]).await?, Written::Done);
        case.advance(pause);
        let resume = Answer { decision: Decision::Retry, result: None };
        case.store.answer(claim.run.id, None, resume, case.entry("run.respond")).await?;
        // Nor does the time until a worker goes on.
        case.advance(1_000);
        case.claim("b").await?;
    }
    let last = crate::store::Grant { run_id: claim.run.id, epoch: claim.grant.epoch + 2 };
    assert_eq!(case.store.release(&last).await?, Written::Done);
    assert_eq!(case.claim("c").await?.deadline, claim.deadline + Duration::from_millis(97_000));
    Ok(())
}

async fn a_run_that_waits_for_its_provider_goes_on_when_told(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let id = claim.run.id;
    assert_eq!(case.store.park(&claim.grant, WaitingFor::Provider, &[]).await?, Written::Done);
    let skip = Answer { decision: Decision::Skip, result: None };
    let refused = case.store.answer(id, None, skip, case.entry("run.respond")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let go_on = Answer { decision: Decision::Retry, result: None };
    let run = case.store.answer(id, None, go_on.clone(), case.entry("run.respond")).await?;
    assert_eq!((run.status, run.waiting_for), (RunStatus::Queued, None));
    assert_eq!(case.event_types(id).await?.last(), Some(&EventType::RequestAnswered));
    let twice = case.store.answer(id, None, go_on, case.entry("run.respond")).await;
    assert_eq!(twice.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let again = case.claim("b").await?;
    assert_eq!((again.grant.epoch, again.run.attempt), (2, 2));
    Ok(())
}

async fn only_an_open_step_can_be_in_doubt(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let refused = case.store.park(&claim.grant, WaitingFor::InDoubt, &[1]).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Internal));
    assert_eq!(case.run(claim.run.id).await?.status, RunStatus::Running);
    Ok(())
}

async fn only_the_newest_try_of_a_call_is_in_doubt(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
    assert_eq!(case.store.take_over(&owner("b")).await?, 1);
    let heir = case.claim("b").await?;
    assert_eq!(case.store.journal(&heir.grant, begins(vec![tool_call(1, 2)])).await?, Written::Done);
    assert_eq!(case.store.park(&heir.grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    let statuses: Vec<_> = case.store.steps(claim.run.id, None, 10).await?.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [StepStatus::Started, StepStatus::InDoubt]);
    Ok(())
}

async fn a_settled_step_is_not_in_doubt_again(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    let retry = Answer { decision: Decision::Retry, result: None };
    case.store.answer(claim.run.id, Some(1), retry, case.entry("run.respond")).await?;
    let again = case.claim("b").await?;
    let refused = case.store.park(&again.grant, WaitingFor::InDoubt, &[1]).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Internal));
    Ok(())
}

/// A run that asks in the steps 1 and 2.
async fn asking(case: &Subject) -> Result<RunId> {
    let claim = case.running().await?;
    let ask = |seq| Intent {
        name: "ask_user".into(),
        arguments: Some(json!({ "question": format!("{seq}?"), "choices": ["yes", "no"] })),
        ..tool_call(seq, 1)
    };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![ask(1), ask(2)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::Question, &[1, 2]).await?, Written::Done);
    Ok(claim.run.id)
}

fn yes() -> Answer {
    Answer { decision: Decision::Result, result: Some("yes".to_owned()) }
}

async fn a_question_stays_open_until_its_answer_is_its_result(case: Subject) -> Result<()> {
    let id = asking(&case).await?;
    let run = case.run(id).await?;
    let asked: Vec<_> = run.requests.iter().map(|request| (request.step, request.question.clone())).collect();
    assert_eq!(asked, [(Some(1), Some("1?".to_owned())), (Some(2), Some("2?".to_owned()))]);
    assert_eq!(case.store.requests(None, 10).await?, run.requests);
    let first = &run.requests[0];
    let rest = case.store.requests(Some((first.opened_at, id, 1)), 10).await?;
    assert_eq!(rest, run.requests[1..]);
    for (step, answer) in
        [(None, yes()), (Some(3), yes()), (Some(1), Answer { decision: Decision::Skip, result: None })]
    {
        let refused = case.store.answer(id, step, answer, case.entry("run.respond")).await;
        assert_eq!(refused.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::Conflict), "{step:?}");
    }
    let half = case.store.answer(id, Some(2), yes(), case.entry("run.respond")).await?;
    assert_eq!((half.status, half.requests.len()), (RunStatus::InputRequired, 1));
    let whole = case.store.answer(id, None, yes(), case.entry("run.respond")).await?;
    assert_eq!((whole.status, whole.requests.len()), (RunStatus::Queued, 0));
    let steps = case.store.steps(id, None, 10).await?;
    assert!(steps.iter().all(|step| step.status == StepStatus::Completed && step.waiting_for.is_none()), "{steps:?}");
    assert_eq!(case.store.requests(None, 10).await?, []);
    Ok(())
}

async fn a_question_that_nobody_answers_expires_and_its_run_goes_on(case: Subject) -> Result<()> {
    let id = asking(&case).await?;
    let expires_at = case.now() + QUESTION_EXPIRY;
    assert!(case.run(id).await?.requests.iter().all(|request| request.expires_at == Some(expires_at)));
    case.advance(u64::try_from(QUESTION_EXPIRY.as_millis()).unwrap_or_default() - 1);
    case.store.answer(id, Some(1), yes(), case.entry("run.respond")).await?;
    assert_eq!(case.store.unanswered(case.now()).await?, []);
    assert!(!case.store.expire(id).await?, "there is time");
    case.advance(1);
    assert_eq!(case.store.unanswered(case.now()).await?, [id]);
    let late = case.store.answer(id, Some(2), yes(), case.entry("run.respond")).await;
    let late = late.err().map(|error| (error.kind(), error.message().contains("expired")));
    assert_eq!(late, Some((ErrorKind::Conflict, true)), "also before anybody has told the run");
    assert!(case.store.expire(id).await?);
    assert!(!case.store.expire(id).await?);
    let run = case.run(id).await?;
    assert_eq!((run.status, run.waiting_for, run.requests.len()), (RunStatus::Queued, None, 0));
    let steps = case.store.steps(id, None, 10).await?;
    assert_eq!((steps[0].status, steps[1].status), (StepStatus::Completed, StepStatus::Failed));
    assert_eq!((steps[1].error.as_deref(), steps[1].waiting_for), (Some(UNANSWERED), None));
    assert_eq!(steps[1].ended_at, Some(case.now()));
    let told = present(case.store.events_after(id, 0, 100).await?.pop(), "the event")?;
    assert_eq!(told.r#type, EventType::RequestExpired);
    assert_eq!(told.data, json!({ "waiting_for": "question", "steps": [2] }));
    let entry = present(case.store.audit_after(0, 100).await?.pop(), "the entry")?.entry;
    assert_eq!((entry.action.as_str(), entry.outcome), ("request.expire", AuditOutcome::Done));
    assert_eq!(entry.target, Some(id.to_string()));
    assert_eq!((case.store.unanswered(case.now()).await?, case.store.requests(None, 10).await?), (vec![], vec![]));
    let claim = case.claim("b").await?;
    assert_eq!(claim.deadline, present(claim.run.started_at, "the start")? + QUESTION_EXPIRY + Duration::from_secs(60));
    Ok(())
}

async fn what_is_no_question_never_expires(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    let requests = case.run(claim.run.id).await?.requests;
    assert_eq!((requests.len(), requests[0].expires_at), (1, None));
    case.advance(u64::MAX >> 24);
    assert_eq!(case.store.unanswered(case.now()).await?, []);
    assert!(!case.store.expire(claim.run.id).await?);
    let skip = Answer { decision: Decision::Skip, result: None };
    case.store.answer(claim.run.id, None, skip, case.entry("run.respond")).await?;
    Ok(())
}
