//! The journal: intents, outcomes, and what a resumed executor reads.

use super::cases;
use super::fixture::{Subject, begins, closed, ends, model_call, outcome, present, tool_call, usage};
use crate::domain::{Answer, Decision, EventType, StepStatus, Usage};
use crate::error::{ErrorKind, Result};
use crate::store::{Closed, Intent, JournalBatch, NativeBlocks, Outcome, Written};
use serde_json::json;

cases!(
    an_intent_stands_in_the_journal_before_its_outcome,
    an_outcome_ends_its_step_and_moves_the_counters,
    a_resumed_executor_reads_back_what_was_journaled,
    a_step_closed_at_once_is_told_as_begun_and_ended,
    the_first_outcome_of_a_step_stays,
    a_replaced_try_ends_with_the_intent_of_the_next,
    a_call_that_never_left_is_kept_as_one_to_retry,
    a_batch_with_a_fault_leaves_nothing_behind,
    long_texts_stay_out_of_events,
    steps_are_listed_after_a_position,
);

async fn an_intent_stands_in_the_journal_before_its_outcome(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![model_call(1), tool_call(2, 1)])).await?, Written::Done);
    let steps = case.store.steps(claim.run.id, None, 10).await?;
    assert_eq!(
        steps.iter().map(|step| (step.seq, step.status)).collect::<Vec<_>>(),
        [(1, StepStatus::Started), (2, StepStatus::Started)]
    );
    assert_eq!(steps[1].arguments, tool_call(2, 1).arguments);
    assert_eq!((steps[1].started_at, steps[1].ended_at, steps[1].duration_ms), (case.now(), None, None));
    let run = case.run(claim.run.id).await?;
    assert_eq!((run.steps, run.turns, run.usage), (2, 1, Usage::default()));
    Ok(())
}

async fn an_outcome_ends_its_step_and_moves_the_counters(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![model_call(1)])).await?, Written::Done);
    case.advance(250);
    let answered = Closed { usage: Some(usage(5)), ..closed(StepStatus::Completed, json!({ "text": "hi" })) };
    let next = JournalBatch { turns: 2, ..begins(vec![tool_call(2, 1), model_call(3)]) };
    let batch = JournalBatch { outcomes: vec![outcome(1, 1, answered)], ..next };
    assert_eq!(case.store.journal(&claim.grant, batch).await?, Written::Done);
    let failed = Closed { error: Some("no".to_owned()), ..closed(StepStatus::Failed, json!(null)) };
    let answered = Closed { usage: Some(usage(7)), ..closed(StepStatus::Completed, json!("bye")) };
    let batch = JournalBatch { turns: 2, ..ends(vec![outcome(2, 1, failed), outcome(3, 1, answered)]) };
    assert_eq!(case.store.journal(&claim.grant, batch).await?, Written::Done);

    let steps = case.store.steps(claim.run.id, None, 10).await?;
    assert_eq!(
        (steps[0].status, steps[0].duration_ms, steps[0].usage),
        (StepStatus::Completed, Some(250), Some(usage(5)))
    );
    assert_eq!((steps[1].status, steps[1].error.as_deref()), (StepStatus::Failed, Some("no")));
    assert_eq!((&steps[1].result, steps[1].usage), (&Some(json!(null)), None));
    let run = case.run(claim.run.id).await?;
    let mut total = usage(5);
    total += usage(7);
    assert_eq!((run.steps, run.turns, run.usage), (3, 2, total));
    use EventType::*;
    assert_eq!(
        case.event_types(claim.run.id).await?,
        [
            RunQueued,
            RunStarted,
            StepStarted,
            StepCompleted,
            UsageUpdated,
            StepStarted,
            StepStarted,
            StepFailed,
            StepCompleted,
            UsageUpdated
        ]
    );
    let told = case.store.events_after(claim.run.id, 9, 1).await?;
    assert_eq!(told[0].data, json!({ "usage": total }));
    Ok(())
}

async fn a_resumed_executor_reads_back_what_was_journaled(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![model_call(1), tool_call(2, 1)])).await?, Written::Done);
    let native = NativeBlocks { dialect: "anthropic".to_owned(), json: "[ {\"b\":1.0,  \"a\":1e3} ]".to_owned() };
    let answered =
        Closed { native: Some(native.clone()), ..closed(StepStatus::Completed, json!({ "z": 1, "a": [2.5] })) };
    let shown =
        Closed { shown: Some("part".to_owned()), truncated: true, ..closed(StepStatus::Completed, json!("whole")) };
    let batch = ends(vec![outcome(1, 1, answered), outcome(2, 1, shown)]);
    assert_eq!(case.store.journal(&claim.grant, batch).await?, Written::Done);
    assert_eq!(case.store.release(&claim.grant).await?, Written::Done);

    let rows = case.store.journal_rows(claim.run.id).await?;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].native, Some(native), "byte for byte");
    let result = present(rows[0].step.result.as_ref(), "the result")?;
    assert_eq!(result.to_string(), r#"{"z":1,"a":[2.5]}"#, "the order of properties is kept");
    let (call, asked) = (&rows[1], tool_call(2, 1));
    assert_eq!(call.effect, asked.effect);
    assert_eq!((&call.step.arguments, &call.step.idempotency_key), (&asked.arguments, &asked.idempotency_key));
    assert_eq!((call.shown.as_deref(), call.step.truncated), (Some("part"), true));
    assert_eq!((&call.step.result, &call.answer), (&Some(json!("whole")), &None));
    assert_eq!(case.store.journal_rows(case.new_id()?).await?.len(), 0);
    Ok(())
}

async fn a_step_closed_at_once_is_told_as_begun_and_ended(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let denied = Closed { error: Some("not allowed".to_owned()), ..closed(StepStatus::Denied, json!("denied")) };
    let intent = Intent { closed: Some(denied), ..tool_call(1, 1) };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![intent])).await?, Written::Done);
    let step = present(case.store.steps(claim.run.id, None, 1).await?.pop(), "the step")?;
    assert_eq!((step.status, step.ended_at), (StepStatus::Denied, Some(case.now())));
    assert_eq!((step.arguments, step.result), (tool_call(1, 1).arguments, Some(json!("denied"))));
    let types = case.event_types(claim.run.id).await?;
    assert_eq!(types[2..], [EventType::StepStarted, EventType::StepFailed]);
    Ok(())
}

async fn the_first_outcome_of_a_step_stays(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![model_call(1)])).await?, Written::Done);
    for text in ["first", "second"] {
        let answered = Closed { usage: Some(usage(5)), ..closed(StepStatus::Completed, json!(text)) };
        assert_eq!(case.store.journal(&claim.grant, ends(vec![outcome(1, 1, answered)])).await?, Written::Done);
    }
    let step = present(case.store.steps(claim.run.id, None, 1).await?.pop(), "the step")?;
    assert_eq!(step.result, Some(json!("first")));
    assert_eq!(case.run(claim.run.id).await?.usage, usage(5));
    Ok(())
}

async fn a_replaced_try_ends_with_the_intent_of_the_next(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
    let lost = outcome(1, 1, Closed::without_result(StepStatus::Failed, Some("cut off".to_owned())));
    let replaces = Some(Outcome { audit: Some(case.entry("tool.lost")), ..lost });
    let audit = Some(case.entry("tool.again"));
    let again = Intent { replaces, audit, ..tool_call(1, 2) };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![again])).await?, Written::Done);
    let steps = case.store.steps(claim.run.id, None, 10).await?;
    let states: Vec<_> = steps.iter().map(|step| (step.r#try, step.status, step.error.as_deref())).collect();
    assert_eq!(states, [(1, StepStatus::Failed, Some("cut off")), (2, StepStatus::Started, None)]);
    assert_eq!(case.actions().await?.split_off(2), ["tool.lost", "tool.again"]);
    Ok(())
}

async fn a_call_that_never_left_is_kept_as_one_to_retry(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
    let unsent = Closed { to_retry: true, ..Closed::without_result(StepStatus::Failed, Some("not sent".to_owned())) };
    assert_eq!(case.store.journal(&claim.grant, ends(vec![outcome(1, 1, unsent)])).await?, Written::Done);
    let row = present(case.store.journal_rows(claim.run.id).await?.pop(), "the step")?;
    assert_eq!(row.step.status, StepStatus::Failed);
    assert_eq!(row.answer, Some(Answer { decision: Decision::Retry, result: None }));
    Ok(())
}

async fn a_batch_with_a_fault_leaves_nothing_behind(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let before = (case.event_types(claim.run.id).await?, case.actions().await?);
    let audited = |r#try| Intent { audit: Some(case.entry("tool.call")), ..tool_call(1, r#try) };
    let unknown = outcome(9, 1, closed(StepStatus::Completed, json!("?")));
    let never_begun = JournalBatch { outcomes: vec![unknown.clone()], ..begins(vec![audited(1)]) };
    let twice = begins(vec![audited(1), audited(1)]);
    let replaces_nothing = begins(vec![audited(1), Intent { replaces: Some(unknown), ..audited(2) }]);
    for batch in [never_begun, twice, replaces_nothing] {
        let answer = case.store.journal(&claim.grant, batch).await.map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::Internal));
    }
    assert_eq!(case.store.steps(claim.run.id, None, 10).await?, []);
    assert_eq!((case.event_types(claim.run.id).await?, case.actions().await?), before);
    assert_eq!(case.run(claim.run.id).await?, claim.run);
    Ok(())
}

async fn long_texts_stay_out_of_events(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let long = json!("x".repeat(4_096));
    let intent = Intent { arguments: Some(long.clone()), ..tool_call(1, 1) };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![intent])).await?, Written::Done);
    let short = closed(StepStatus::Completed, json!("ok"));
    assert_eq!(case.store.journal(&claim.grant, ends(vec![outcome(1, 1, short)])).await?, Written::Done);
    let events = case.store.events_after(claim.run.id, 2, 10).await?;
    assert_eq!(events[0].data["step"]["arguments"], json!(null));
    assert_eq!(events[1].data["step"]["result"], json!("ok"));
    let step = present(case.store.steps(claim.run.id, None, 1).await?.pop(), "the step")?;
    assert_eq!(step.arguments, Some(long));
    Ok(())
}

async fn steps_are_listed_after_a_position(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let intents = vec![tool_call(2, 1), tool_call(1, 2), tool_call(1, 1)];
    assert_eq!(case.store.journal(&claim.grant, begins(intents)).await?, Written::Done);
    let positions = async |after, limit| {
        let steps = case.store.steps(claim.run.id, after, limit).await?;
        Ok::<_, crate::error::Error>(steps.iter().map(|step| (step.seq, step.r#try)).collect::<Vec<_>>())
    };
    assert_eq!(positions(None, 10).await?, [(1, 1), (1, 2), (2, 1)]);
    assert_eq!(positions(Some((1, 1)), 1).await?, [(1, 2)]);
    assert_eq!(positions(Some((1, 2)), 10).await?, [(2, 1)]);
    Ok(())
}
