//! Steps in doubt, and how people settle them.

use super::cases;
use super::fixture::{Subject, begins, closed, ends, outcome, present, tool_call};
use crate::domain::{Answer, Decision, EventType, RunId, RunStatus, StepStatus, WaitingFor};
use crate::error::{ErrorKind, Result};
use crate::store::{Closed, Written};
use serde_json::json;

cases!(
    a_skipped_step_is_skipped_and_the_run_goes_on,
    a_given_result_is_taken_for_the_calls,
    what_cut_off_a_call_is_told_as_long_as_nobody_has_given_its_result,
    a_step_to_be_retried_stays_in_doubt_and_gets_another_try,
    the_run_goes_on_once_no_step_is_left_in_doubt,
    all_steps_are_settled_at_once_without_a_position,
    an_answer_to_something_else_is_a_conflict,
);

fn answer(decision: Decision) -> Answer {
    let result = (decision == Decision::Result).then(|| "42 bytes written".to_owned());
    Answer { decision, result }
}

/// A run parked with the steps 1 and 2, of which `doubts` are in doubt.
async fn parked(case: &Subject, doubts: &[i64]) -> Result<RunId> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1), tool_call(2, 1)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, doubts).await?, Written::Done);
    Ok(claim.run.id)
}

async fn a_skipped_step_is_skipped_and_the_run_goes_on(case: Subject) -> Result<()> {
    let id = parked(&case, &[1]).await?;
    let run = case.store.answer(id, Some(1), answer(Decision::Skip), case.entry("run.respond")).await?;
    assert_eq!((run.status, run.waiting_for), (RunStatus::Queued, None));
    let rows = case.store.journal_rows(id).await?;
    assert_eq!((rows[0].step.status, rows[0].step.ended_at), (StepStatus::Skipped, Some(case.now())));
    assert_eq!(rows[0].answer, Some(answer(Decision::Skip)));
    assert_eq!(case.event_types(id).await?.last(), Some(&EventType::RequestAnswered));
    Ok(())
}

async fn a_given_result_is_taken_for_the_calls(case: Subject) -> Result<()> {
    let id = parked(&case, &[1]).await?;
    let nothing = Answer { decision: Decision::Result, result: None };
    let refused = case.store.answer(id, Some(1), nothing, case.entry("run.respond")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    case.store.answer(id, Some(1), answer(Decision::Result), case.entry("run.respond")).await?;
    let row = &case.store.journal_rows(id).await?[0];
    assert_eq!(row.step.status, StepStatus::Completed);
    let given = json!({ "content": [{ "type": "text", "text": "42 bytes written" }], "isError": false });
    assert_eq!((&row.step.result, row.shown.as_deref()), (&Some(given), Some("42 bytes written")));
    assert_eq!(row.step.arguments, tool_call(1, 1).arguments);
    Ok(())
}

async fn what_cut_off_a_call_is_told_as_long_as_nobody_has_given_its_result(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let id = claim.run.id;
    let calls = [1, 2, 3].map(|seq| tool_call(seq, 1)).into();
    assert_eq!(case.store.journal(&claim.grant, begins(calls)).await?, Written::Done);
    let cut_off = || Closed::without_result(StepStatus::InDoubt, Some("cut off by a restart".to_owned()));
    let lost = [1, 2, 3].map(|seq| outcome(seq, 1, cut_off())).into();
    assert_eq!(case.store.journal(&claim.grant, ends(lost)).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[1, 2, 3]).await?, Written::Done);
    for (seq, decision) in [(1, Decision::Retry), (2, Decision::Skip), (3, Decision::Result)] {
        case.store.answer(id, Some(seq), answer(decision), case.entry("run.respond")).await?;
    }
    let steps = case.store.steps(id, None, 10).await?;
    let told: Vec<_> = steps.iter().map(|step| step.error.as_deref()).collect();
    assert_eq!(told, [Some("cut off by a restart"), Some("cut off by a restart"), None]);
    Ok(())
}

async fn a_step_to_be_retried_stays_in_doubt_and_gets_another_try(case: Subject) -> Result<()> {
    let id = parked(&case, &[1]).await?;
    let run = case.store.answer(id, Some(1), answer(Decision::Retry), case.entry("run.respond")).await?;
    assert_eq!(run.status, RunStatus::Queued);
    let row = present(case.store.journal_rows(id).await?.into_iter().next(), "the step")?;
    assert_eq!((row.step.status, row.answer), (StepStatus::InDoubt, Some(answer(Decision::Retry))));

    // The second try is cut off as well: now that one is in doubt, and the first stays settled.
    let claim = case.claim("b").await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 2)])).await?, Written::Done);
    assert_eq!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    case.store.answer(id, None, answer(Decision::Retry), case.entry("run.respond")).await?;
    let claim = case.claim("b").await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 3)])).await?, Written::Done);
    let done = ends(vec![outcome(1, 3, closed(StepStatus::Completed, json!("ok")))]);
    assert_eq!(case.store.journal(&claim.grant, done).await?, Written::Done);
    let steps = case.store.steps(id, None, 10).await?;
    let tries: Vec<_> = steps.iter().filter(|step| step.seq == 1).map(|step| (step.r#try, step.status)).collect();
    assert_eq!(tries, [(1, StepStatus::InDoubt), (2, StepStatus::InDoubt), (3, StepStatus::Completed)]);
    Ok(())
}

async fn the_run_goes_on_once_no_step_is_left_in_doubt(case: Subject) -> Result<()> {
    let id = parked(&case, &[1, 2]).await?;
    let run = case.store.answer(id, Some(2), answer(Decision::Skip), case.entry("run.respond")).await?;
    assert_eq!((run.status, run.waiting_for), (RunStatus::InputRequired, Some(WaitingFor::InDoubt)));
    assert_eq!(case.event_types(id).await?.last(), Some(&EventType::RequestAnswered), "each is told by itself");
    let again = case.store.answer(id, Some(2), answer(Decision::Skip), case.entry("run.respond")).await;
    assert_eq!(again.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let run = case.store.answer(id, Some(1), answer(Decision::Retry), case.entry("run.respond")).await?;
    assert_eq!(run.status, RunStatus::Queued);
    let answered = case.event_types(id).await?.into_iter().filter(|kind| *kind == EventType::RequestAnswered);
    assert_eq!(answered.count(), 2);
    Ok(())
}

async fn all_steps_are_settled_at_once_without_a_position(case: Subject) -> Result<()> {
    let id = parked(&case, &[1, 2]).await?;
    let run = case.store.answer(id, None, answer(Decision::Skip), case.entry("run.respond")).await?;
    assert_eq!(run.status, RunStatus::Queued);
    let steps = case.store.steps(id, None, 10).await?;
    assert!(steps.iter().all(|step| step.status == StepStatus::Skipped), "{steps:?}");
    Ok(())
}

async fn an_answer_to_something_else_is_a_conflict(case: Subject) -> Result<()> {
    let id = parked(&case, &[1]).await?;
    let recorded = case.actions().await?;
    let refused = case.store.answer(id, Some(2), answer(Decision::Skip), case.entry("run.respond")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let unknown = case.store.answer(case.new_id()?, None, answer(Decision::Skip), case.entry("run.respond")).await;
    assert_eq!(unknown.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    assert_eq!(case.actions().await?, recorded);
    assert_eq!(case.run(id).await?.status, RunStatus::InputRequired);
    Ok(())
}
