//! Two executors that believe they hold the same run: only the later epoch can write.

use super::cases;
use super::fixture::{Subject, begins, closed, ends, model_call, outcome, owner, stolen, tool_call};
use crate::domain::{RunStatus, StepStatus, WaitingFor};
use crate::error::Result;
use crate::store::{Claim, Ending, Grant, Intent, JournalBatch, Outcome, Written};
use serde_json::json;

cases!(
    a_zombie_is_refused_everywhere,
    two_interleaved_grants_leave_only_the_later_ones_work,
    a_grant_of_the_future_or_of_no_run_is_refused,
);

/// A run that `a` lost to `b` in the middle of step 1.
async fn lost_and_found(case: &Subject) -> Result<(Grant, Claim)> {
    let zombie = case.running().await?;
    assert_eq!(case.store.journal(&zombie.grant, begins(vec![model_call(1)])).await?, Written::Done);
    assert_eq!(case.store.take_over(&owner("b")).await?, 1);
    let heir = case.claim("b").await?;
    Ok((stolen(&zombie.grant), heir))
}

async fn refused_everywhere(case: &Subject, zombie: &Grant) -> Result<()> {
    let audit = || Some(case.entry("zombie"));
    let said = outcome(1, 1, closed(StepStatus::Completed, json!("from the grave")));
    let batch = JournalBatch {
        outcomes: vec![Outcome { audit: audit(), ..said }],
        ..begins(vec![Intent { audit: audit(), ..tool_call(7, 1) }])
    };
    assert_eq!(case.store.journal(zombie, batch).await?, Written::Stale);
    assert_eq!(case.store.park(zombie, WaitingFor::InDoubt, &[1]).await?, Written::Stale);
    assert_eq!(case.store.release(zombie).await?, Written::Stale);
    assert_eq!(case.store.finish(zombie, Ending::Cancelled).await?, Written::Stale);
    assert!(!case.actions().await?.contains(&"zombie".to_owned()));
    Ok(())
}

async fn a_zombie_is_refused_everywhere(case: Subject) -> Result<()> {
    let (zombie, heir) = lost_and_found(&case).await?;
    let before = (case.run(zombie.run_id).await?, case.store.steps(zombie.run_id, None, 10).await?);
    let events = case.event_types(zombie.run_id).await?;
    refused_everywhere(&case, &zombie).await?;
    assert_eq!((case.run(zombie.run_id).await?, case.store.steps(zombie.run_id, None, 10).await?), before);
    assert_eq!(case.event_types(zombie.run_id).await?, events);

    // Nor does it come back when its heir has parked, given back or ended the run.
    assert_eq!(case.store.park(&heir.grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    refused_everywhere(&case, &zombie).await?;
    let retry = crate::domain::Answer { decision: crate::domain::Decision::Retry, result: None };
    case.store.answer(zombie.run_id, None, retry, case.entry("run.respond")).await?;
    refused_everywhere(&case, &zombie).await?;
    let last = case.claim("c").await?;
    let done = Ending::Completed { output: json!("done") };
    assert_eq!(case.store.finish(&last.grant, done).await?, Written::Done);
    refused_everywhere(&case, &zombie).await?;
    refused_everywhere(&case, &last.grant).await?;
    assert_eq!(case.run(zombie.run_id).await?.output, Some(json!("done")));
    Ok(())
}

async fn two_interleaved_grants_leave_only_the_later_ones_work(case: Subject) -> Result<()> {
    let (zombie, heir) = lost_and_found(&case).await?;
    let mut done = 0;
    for seq in 2..6 {
        let mine = case.store.journal(&heir.grant, begins(vec![tool_call(seq, 1)]));
        let theirs = case.store.journal(&zombie, begins(vec![tool_call(seq + 100, 1)]));
        let (mine, theirs) = futures_util::future::join(mine, theirs).await;
        assert_eq!((mine?, theirs?), (Written::Done, Written::Stale));
        let text = |text: &str| ends(vec![outcome(seq, 1, closed(StepStatus::Completed, json!(text)))]);
        assert_eq!(case.store.journal(&zombie, text("theirs")).await?, Written::Stale);
        assert_eq!(case.store.journal(&heir.grant, text("mine")).await?, Written::Done);
        done += 1;
    }
    let steps = case.store.steps(heir.run.id, None, 100).await?;
    assert_eq!(steps.len(), done + 1);
    assert!(steps[1..].iter().all(|step| step.result == Some(json!("mine"))), "{steps:?}");
    let epochs: Vec<_> = case.store.events_after(heir.run.id, 0, 100).await?.iter().map(|event| event.epoch).collect();
    assert!(epochs.is_sorted() && epochs.contains(&zombie.epoch) && epochs.ends_with(&[heir.grant.epoch]));
    Ok(())
}

async fn a_grant_of_the_future_or_of_no_run_is_refused(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    refused_everywhere(&case, &Grant { run_id: claim.run.id, epoch: claim.grant.epoch + 1 }).await?;
    refused_everywhere(&case, &Grant { run_id: case.new_id()?, epoch: 1 }).await?;
    assert_eq!(case.run(claim.run.id).await?.status, RunStatus::Running);
    Ok(())
}
