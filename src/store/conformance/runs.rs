//! Submitting and reading runs.

use super::cases;
use super::fixture::{NO_AGENT, Subject, environment, owner, present};
use crate::domain::{EventType, RunStatus, Timestamp};
use crate::error::{ErrorKind, Result};
use crate::events::Followed;
use crate::store::{RunFilter, Submit};

cases!(
    a_submitted_run_is_queued_with_all_it_was_given,
    a_reservation_is_used_only_with_an_empty_queue,
    a_full_queue_refuses,
    a_submit_needs_its_agent_and_revision,
    runs_are_listed_newest_first_in_pages,
    runs_are_filtered_by_agent_and_status,
    a_run_is_found_by_the_beginning_of_its_id,
    events_are_told_to_followers_once_they_are_stored,
);

async fn a_submitted_run_is_queued_with_all_it_was_given(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let submit = case.submission(&agent)?;
    let submitted = case.store.submit(submit.clone()).await?;
    assert!(!submitted.existing && submitted.claim.is_none());
    let run = submitted.run;
    assert_eq!(run, case.run(submit.id).await?);
    assert_eq!((run.environment.as_str(), run.agent.id), (environment()?.0.as_str(), agent.id));
    assert_eq!((run.agent.name, run.agent.revision), (agent.definition.name, agent.revision));
    assert_eq!((run.status, run.attempt, run.turns, run.steps), (RunStatus::Queued, 0, 0, 0));
    assert_eq!((run.input, run.model), (submit.input, submit.model));
    assert_eq!((run.principal, run.origin, run.cause), (submit.principal, submit.origin, submit.cause));
    assert_eq!((run.config_revision, run.parent_run_id), (submit.config_revision, None));
    assert_eq!((run.created_at, run.started_at, run.ended_at, run.duration_ms), (case.now(), None, None, None));
    assert_eq!((run.output, run.error, run.error_kind, run.waiting_for), (None, None, None, None));
    assert_eq!(case.event_types(run.id).await?, [EventType::RunQueued]);
    assert_eq!(case.store.live_runs().await?, 1);
    Ok(())
}

async fn a_reservation_is_used_only_with_an_empty_queue(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let reserved =
        || Ok::<_, crate::error::Error>(Submit { reserved_for: Some(owner("a")), ..case.submission(&agent)? });
    let first = case.store.submit(reserved()?).await?;
    let claim = present(first.claim, "the claim")?;
    assert_eq!((first.run.status, first.run.attempt), (RunStatus::Running, 1));
    assert_eq!((first.run.started_at, claim.grant.epoch), (Some(case.now()), 1));
    assert_eq!((claim.grant.run_id, &claim.definition), (first.run.id, &agent.definition));
    assert_eq!(case.event_types(first.run.id).await?, [EventType::RunQueued, EventType::RunStarted]);

    case.submit(&agent).await?;
    let behind = case.store.submit(reserved()?).await?;
    assert!(behind.claim.is_none());
    assert_eq!(behind.run.status, RunStatus::Queued);
    Ok(())
}

async fn a_full_queue_refuses(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let limited = || Ok::<_, crate::error::Error>(Submit { queue_limit: 2, ..case.submission(&agent)? });
    case.store.submit(limited()?).await?;
    case.store.submit(limited()?).await?;
    let refused = limited()?;
    let id = refused.id;
    let answer = case.store.submit(refused).await.map(|_| ()).map_err(|error| error.kind());
    assert_eq!(answer, Err(ErrorKind::RateLimited));
    assert_eq!(case.store.run(id).await?, None);
    case.claim("a").await?;
    case.store.submit(limited()?).await?;
    Ok(())
}

async fn a_submit_needs_its_agent_and_revision(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let no_agent = Submit { agent_id: NO_AGENT, ..case.submission(&agent)? };
    let no_revision = Submit { revision: "r9".to_owned(), ..case.submission(&agent)? };
    for submit in [no_agent, no_revision] {
        let answer = case.store.submit(submit).await.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::NotFound));
    }
    assert_eq!(case.store.live_runs().await?, 0);
    Ok(())
}

async fn runs_are_listed_newest_first_in_pages(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let mut newest_first = Vec::new();
    for pause in [0, 0, 5, 0, 5] {
        case.advance(pause);
        newest_first.insert(0, case.submit(&agent).await?.run.id);
    }
    let mut seen = Vec::new();
    let mut before: Option<(Timestamp, _)> = None;
    loop {
        let page = case.store.runs(&RunFilter { before, limit: 2, ..RunFilter::default() }).await?;
        let Some(last) = page.last() else { break };
        before = Some((last.created_at, last.id));
        seen.extend(page.iter().map(|run| run.id));
    }
    assert_eq!(seen, newest_first);
    Ok(())
}

async fn runs_are_filtered_by_agent_and_status(case: Subject) -> Result<()> {
    let (one, two) = (case.agent("one").await?, case.agent("two").await?);
    let first = case.submit(&one).await?.run.id;
    case.advance(1);
    let second = case.submit(&two).await?.run.id;
    case.claim("a").await?;
    let list = async |agent, statuses: &[RunStatus]| {
        let filter = RunFilter { agent, statuses: statuses.to_vec(), limit: 10, ..RunFilter::default() };
        Ok::<_, crate::error::Error>(case.store.runs(&filter).await?.iter().map(|run| run.id).collect::<Vec<_>>())
    };
    assert_eq!(list(Some(one.id), &[]).await?, [first]);
    assert_eq!(list(None, &[RunStatus::Queued]).await?, [second]);
    assert_eq!(list(None, &[RunStatus::Queued, RunStatus::Running]).await?, [second, first]);
    assert_eq!(list(Some(two.id), &[RunStatus::Running]).await?, []);
    Ok(())
}

async fn a_run_is_found_by_the_beginning_of_its_id(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let first = case.submit(&agent).await?.run.id;
    case.advance(100_000_000);
    let second = case.submit(&agent).await?.run.id;
    let (one, two) = (first.to_string(), second.to_string());
    let common = one.bytes().zip(two.bytes()).take_while(|(a, b)| a == b).count();
    assert_eq!(case.store.runs_by_prefix(&one[..common], 10).await?, [first, second]);
    assert_eq!(case.store.runs_by_prefix(&one[..common], 1).await?, [first]);
    assert_eq!(case.store.runs_by_prefix(&two[..common + 1], 10).await?, [second]);
    assert_eq!(case.store.runs_by_prefix(&one, 10).await?, [first]);
    assert_eq!(case.store.runs_by_prefix("%", 10).await?, []);
    Ok(())
}

async fn events_are_told_to_followers_once_they_are_stored(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let submit = case.submission(&agent)?;
    let mut follower = case.surroundings.events.follow(submit.id);
    let id = submit.id;
    case.store.submit(submit).await?;
    case.claim("a").await?;
    let stored = case.store.events_after(id, 0, 10).await?;
    assert_eq!(stored.len(), 2);
    for event in stored {
        // Whoever has the answer to an act has been told of it already.
        let told = futures_util::future::poll_immediate(std::pin::pin!(follower.next())).await;
        assert!(matches!(told, Some(Followed::Event(told)) if told == event));
    }
    assert_eq!(case.store.events_after(id, 1, 10).await?.len(), 1);
    assert_eq!(case.store.events_after(id, 0, 1).await?.len(), 1);
    Ok(())
}
