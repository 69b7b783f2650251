//! Claim, release, take over.

use super::cases;
use super::fixture::{Subject, agent_write, begins, model_call, owner, stolen, tool_call};
use crate::domain::{EventType, ParentStep, RunStatus};
use crate::error::Result;
use crate::store::{Intent, JournalBatch, Submit, Written};
use std::time::Duration;

cases!(
    the_oldest_runs_are_claimed_first_and_each_once,
    a_claim_is_pinned_to_what_the_run_was_submitted_with,
    a_released_run_goes_on_within_the_same_attempt,
    a_new_owner_takes_over_what_others_left_running,
    runs_that_others_wait_for_are_claimed_first,
    the_deadline_counts_the_time_in_somebodys_hands,
    what_passed_between_two_owners_counts_for_no_timeout,
);

async fn the_oldest_runs_are_claimed_first_and_each_once(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let mut ids = Vec::new();
    for _ in 0..5 {
        case.advance(1);
        ids.push(case.submit(&agent).await?.run.id);
    }
    let (a, b) = (owner("a"), owner("b"));
    let (first, second) = futures_util::future::join(case.store.claim(&a, 2), case.store.claim(&b, 2)).await;
    let mut claimed: Vec<_> = first?.into_iter().chain(second?).map(|claim| claim.run.id).collect();
    claimed.sort();
    assert_eq!(claimed, ids[..4]);
    assert_eq!(case.store.claim(&a, 2).await?.len(), 1);
    assert_eq!(case.store.claim(&a, 2).await?.len(), 0);
    assert_eq!(case.store.live_runs().await?, 5);
    Ok(())
}

async fn a_claim_is_pinned_to_what_the_run_was_submitted_with(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let submit = Submit { max_steps: 3, caller_credentials: true, ..case.submission(&agent)? };
    case.store.submit(submit).await?;
    case.store.agent_write(agent_write("reader", "r2", Some("r1"))?, case.entry("agent.update")).await?;
    let claim = case.claim("a").await?;
    assert_eq!(claim.definition, agent.definition);
    assert_eq!((claim.max_steps, claim.caller_credentials, claim.pinned_tools), (3, true, None));
    assert_eq!((claim.grant.epoch, claim.run.attempt, claim.run.status), (1, 1, RunStatus::Running));

    let batch = JournalBatch { pinned_tools: Some("tools".to_owned()), ..begins(vec![model_call(1)]) };
    assert_eq!(case.store.journal(&claim.grant, batch).await?, Written::Done);
    assert_eq!(case.store.release(&claim.grant).await?, Written::Done);
    let again = case.claim("b").await?;
    assert_eq!(again.pinned_tools.as_deref(), Some("tools"));
    assert_eq!(again.run.turns, 1);
    Ok(())
}

async fn a_released_run_goes_on_within_the_same_attempt(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    assert_eq!(case.store.release(&claim.grant).await?, Written::Done);
    let run = case.run(claim.run.id).await?;
    assert_eq!((run.status, run.attempt), (RunStatus::Queued, 1));
    let again = case.claim("b").await?;
    assert_eq!((again.grant.epoch, again.run.attempt), (2, 1));
    assert_eq!(case.store.release(&claim.grant).await?, Written::Stale);
    let resumed = [EventType::RunQueued, EventType::RunStarted, EventType::RunResumed];
    assert_eq!(case.event_types(claim.run.id).await?, resumed);
    Ok(())
}

async fn a_new_owner_takes_over_what_others_left_running(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    for _ in 0..3 {
        case.submit(&agent).await?;
    }
    let (left, kept) = (case.claim("old").await?, case.claim("new").await?);
    assert_eq!(case.store.take_over(&owner("new")).await?, 1);
    assert_eq!(case.run(kept.run.id).await?.status, RunStatus::Running);
    let run = case.run(left.run.id).await?;
    assert_eq!((run.status, run.attempt), (RunStatus::Queued, 1));
    let zombie = stolen(&left.grant);
    assert_eq!(case.store.journal(&zombie, begins(vec![model_call(1)])).await?, Written::Stale);
    let again = case.claim("new").await?;
    assert_eq!((again.run.id, again.run.attempt), (left.run.id, 2));
    assert!(again.grant.epoch > left.grant.epoch);
    assert_eq!(case.store.journal(&zombie, begins(vec![model_call(1)])).await?, Written::Stale);
    assert_eq!(case.store.take_over(&owner("new")).await?, 0);
    Ok(())
}

async fn runs_that_others_wait_for_are_claimed_first(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    let call = Intent { name: "agent__reader".into(), ..tool_call(1, 1) };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![call])).await?, Written::Done);
    let agent = case.agent("reader").await?;
    let stranger = case.submit(&agent).await?.run.id;
    case.advance(1);
    let parent = Some(ParentStep { run: claim.run.id, step: 1 });
    let called = case.store.submit(Submit { parent, ..case.submission(&agent)? }).await?.run.id;
    let claimed: Vec<_> = case.store.claim(&owner("b"), 2).await?.into_iter().map(|claim| claim.run.id).collect();
    assert_eq!(claimed, [called, stranger]);
    Ok(())
}

async fn the_deadline_counts_the_time_in_somebodys_hands(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    case.submit(&agent).await?;
    case.advance(30_000);
    let claim = case.claim("a").await?;
    let deadline = case.now() + Duration::from_secs(60);
    assert_eq!(claim.deadline, deadline);
    case.advance(10_000);
    assert_eq!(case.store.release(&claim.grant).await?, Written::Done);
    case.advance(600_000);
    assert_eq!(case.claim("a").await?.deadline, deadline + Duration::from_millis(600_000));
    Ok(())
}

async fn what_passed_between_two_owners_counts_for_no_timeout(case: Subject) -> Result<()> {
    let claim = case.running().await?;
    case.advance(2_000);
    assert_eq!(case.store.journal(&claim.grant, begins(vec![model_call(1)])).await?, Written::Done);
    // Killed with a call under way, whose time is lost with it.
    case.advance(600_000);
    assert_eq!(case.store.take_over(&owner("new")).await?, 1);
    case.advance(5_000);
    assert_eq!(case.claim("new").await?.deadline, claim.deadline + Duration::from_millis(605_000));
    Ok(())
}
