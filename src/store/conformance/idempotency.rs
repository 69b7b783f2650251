//! Submits under an idempotency key.

use super::cases;
use super::fixture::{Subject, owner, present, principal};
use crate::error::{ErrorKind, Result};
use crate::store::{AgentRow, Submit};
use serde_json::json;

cases!(
    the_same_key_answers_with_the_first_run,
    the_same_key_with_another_input_is_a_conflict,
    a_key_belongs_to_one_principal_and_one_agent,
    submits_that_race_under_one_key_make_one_run,
);

fn keyed(case: &Subject, agent: &AgentRow) -> Result<Submit> {
    Ok(Submit { idempotency_key: Some("once".to_owned()), queue_limit: 1, ..case.submission(agent)? })
}

async fn the_same_key_answers_with_the_first_run(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let first = case.store.submit(keyed(&case, &agent)?).await?;
    let recorded = case.actions().await?;
    // Neither a full queue nor a reservation changes that.
    let again = Submit { reserved_for: Some(owner("a")), ..keyed(&case, &agent)? };
    let second = case.store.submit(again).await?;
    assert!(!first.existing && second.existing && second.claim.is_none());
    assert_eq!(second.run, first.run);
    assert_eq!(case.store.live_runs().await?, 1);
    assert_eq!(case.actions().await?, recorded, "nothing was done, so nothing is recorded");
    Ok(())
}

async fn the_same_key_with_another_input_is_a_conflict(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let first = case.store.submit(keyed(&case, &agent)?).await?;
    let other = Submit { input: json!({ "userInput": "bye" }), ..keyed(&case, &agent)? };
    let refused = case.store.submit(other).await.map(|_| ());
    assert_eq!(refused.as_ref().map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let error = present(refused.err(), "the conflict")?;
    assert!(error.message().contains(&first.run.id.to_string()), "{error}");
    Ok(())
}

async fn a_key_belongs_to_one_principal_and_one_agent(case: Subject) -> Result<()> {
    let (one, two) = (case.agent("one").await?, case.agent("two").await?);
    let roomy = |submit: Submit| Submit { queue_limit: 10, ..submit };
    case.store.submit(roomy(keyed(&case, &one)?)).await?;
    let for_other_agent = case.store.submit(roomy(keyed(&case, &two)?)).await?;
    let by_other = Submit { principal: principal("bob"), ..roomy(keyed(&case, &one)?) };
    let by_other = case.store.submit(by_other).await?;
    assert!(!for_other_agent.existing && !by_other.existing);
    assert_eq!(case.store.live_runs().await?, 3);
    Ok(())
}

async fn submits_that_race_under_one_key_make_one_run(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let submits = (0..16).map(|_| Ok(case.store.submit(keyed(&case, &agent)?))).collect::<Result<Vec<_>>>()?;
    let answers = futures_util::future::join_all(submits).await.into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(answers.iter().filter(|answer| !answer.existing).count(), 1);
    assert!(answers.iter().all(|answer| answer.run.id == answers[0].run.id));
    Ok(())
}
