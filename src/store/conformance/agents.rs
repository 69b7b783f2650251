//! Agents, revisions and the files promised for them.

use super::cases;
use super::fixture::{Subject, agent_write, name, owner, present};
use crate::domain::{AgentState, Answer, AuditEntry, Decision, WaitingFor};
use crate::error::{ErrorKind, Result};
use crate::store::{AgentKey, Ending, Submit, SyncChanges, Written};
use std::time::Duration;

cases!(
    an_agent_is_found_by_handle_and_by_name,
    agents_are_listed_by_name_in_pages,
    a_write_against_another_revision_is_a_conflict_and_changes_nothing,
    a_write_promises_its_file_until_it_is_confirmed,
    a_file_of_no_agent_is_promised_with_its_audit_entry,
    a_change_of_an_agent_moves_the_files_state_along,
    a_deleted_agent_keeps_its_runs_and_its_handle_is_never_used_again,
    a_paused_agent_takes_no_run_and_no_sync_or_change_resumes_it,
    what_is_queued_of_a_paused_agent_is_held_back_and_holds_up_nobody,
    a_pause_outlasts_the_agents_file,
    a_pause_can_be_lifted_while_the_agents_file_is_gone,
    the_time_that_a_pause_holds_a_run_counts_for_no_timeout,
);

async fn an_agent_is_found_by_handle_and_by_name(case: Subject) -> Result<()> {
    let created = case.agent("reader").await?;
    let write = agent_write("reader", "r1", None)?;
    assert_eq!((&created.definition, &created.file), (&write.definition, &write.file));
    assert_eq!((created.revision.as_str(), created.problem.as_deref()), ("r1", None));
    assert_eq!((created.created_at, created.updated_at), (case.now(), case.now()));
    assert_eq!(case.store.agent(&AgentKey::Id(created.id)).await?.as_ref(), Some(&created));
    assert_eq!(case.store.agent(&AgentKey::Name(name("reader")?)).await?, Some(created));
    assert_eq!(case.store.agent(&AgentKey::Name(name("nobody")?)).await?, None);
    Ok(())
}

async fn agents_are_listed_by_name_in_pages(case: Subject) -> Result<()> {
    for called in ["c", "a", "b"] {
        case.agent(called).await?;
    }
    let names = |rows: Vec<crate::store::AgentRow>| -> Vec<String> {
        rows.iter().map(|row| row.definition.name.to_string()).collect()
    };
    assert_eq!(names(case.store.agents(None, 2).await?), ["a", "b"]);
    assert_eq!(names(case.store.agents(Some(&name("b")?), 2).await?), ["c"]);
    Ok(())
}

async fn a_write_against_another_revision_is_a_conflict_and_changes_nothing(case: Subject) -> Result<()> {
    let first = case.agent("reader").await?;
    for (revision, expected) in [("r2", None), ("r2", Some("r0"))] {
        let write = agent_write("reader", revision, expected)?;
        let refused = case.store.agent_write(write, case.entry("agent.update")).await;
        assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    }
    let write = agent_write("nobody", "r2", Some("r1"))?;
    let refused = case.store.agent_write(write, case.entry("agent.update")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    assert_eq!(case.store.agents(None, 10).await?, vec![first.clone()]);
    assert_eq!(case.store.pending_files().await?.len(), 1);

    case.advance(5);
    let write = agent_write("reader", "r2", Some("r1"))?;
    let second = case.store.agent_write(write, case.entry("agent.update")).await?;
    assert_eq!((second.id, second.revision.as_str()), (first.id, "r2"));
    assert_eq!((second.created_at, second.updated_at), (first.created_at, case.now()));
    Ok(())
}

async fn a_write_promises_its_file_until_it_is_confirmed(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    case.store.agent_write(agent_write("reader", "r2", Some("r1"))?, case.entry("agent.update")).await?;
    assert!(case.store.agent_delete(&name("reader")?, Some("r2"), case.entry("agent.delete")).await?);
    let pending = case.store.pending_files().await?;
    let promised: Vec<_> = pending.iter().map(|file| (file.bytes.as_deref(), file.replaces.as_deref())).collect();
    let (first, second) = (b"reader r1".as_slice(), b"reader r2".as_slice());
    assert_eq!(promised, [(Some(first), None), (Some(second), Some("r1")), (None, Some("r2"))]);
    assert!(pending.iter().all(|file| file.file == agent.file));
    for file in &pending {
        case.store.file_written(file.id).await?;
    }
    assert_eq!(case.store.pending_files().await?, []);
    Ok(())
}

async fn a_file_of_no_agent_is_promised_with_its_audit_entry(case: Subject) -> Result<()> {
    let before = case.actions().await?.len();
    case.store.file_promise("variables.yml", b"A: 1".to_vec(), Some("h1"), case.entry("variable.set")).await?;
    let pending = case.store.pending_files().await?;
    let promised = present(pending.first(), "the promise")?;
    assert_eq!((promised.file.as_str(), promised.bytes.as_deref()), ("variables.yml", Some(b"A: 1".as_slice())));
    assert_eq!(promised.replaces.as_deref(), Some("h1"));
    assert_eq!(case.actions().await?.len(), before + 1);
    case.store.file_written(promised.id).await?;
    assert!(case.store.pending_files().await?.is_empty());
    Ok(())
}

async fn a_change_of_an_agent_moves_the_files_state_along(case: Subject) -> Result<()> {
    let leading_to =
        |state: Option<&str>| AuditEntry { config_revision: state.map(str::to_owned), ..case.entry("agent.update") };
    case.store.agent_write(agent_write("reader", "r1", None)?, leading_to(None)).await?;
    assert_eq!(case.store.config_revision().await?, None);
    case.store.agent_write(agent_write("reader", "r2", Some("r1"))?, leading_to(Some("s2"))).await?;
    assert_eq!(case.store.config_revision().await?.as_deref(), Some("s2"));
    assert!(case.store.agent_write(agent_write("reader", "r3", Some("r1"))?, leading_to(Some("s3"))).await.is_err());
    assert_eq!(case.store.config_revision().await?.as_deref(), Some("s2"));
    assert!(case.store.agent_delete(&name("reader")?, Some("r2"), leading_to(Some("s4"))).await?);
    assert_eq!(case.store.config_revision().await?.as_deref(), Some("s4"));
    Ok(())
}

async fn a_deleted_agent_keeps_its_runs_and_its_handle_is_never_used_again(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let run = case.submit(&agent).await?.run;
    assert!(case.store.agent_delete(&name("reader")?, Some("r2"), case.entry("agent.delete")).await?);
    assert!(!case.store.agent_delete(&name("reader")?, Some("r2"), case.entry("agent.delete")).await?);
    assert_eq!(case.store.agent(&AgentKey::Id(agent.id)).await?, None);
    let refused = case.submit(&agent).await;
    assert_eq!(refused.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound));

    assert_eq!(case.run(run.id).await?.agent.name, agent.definition.name);
    let claim = case.claim("a").await?;
    assert_eq!((claim.run.id, &claim.definition), (run.id, &agent.definition));
    let again = case.agent("reader").await?;
    assert!(again.id > agent.id);
    present(case.store.agent(&AgentKey::Id(again.id)).await?, "the new agent")?;
    Ok(())
}

async fn a_paused_agent_takes_no_run_and_no_sync_or_change_resumes_it(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let paused = case.store.agent_pause(&name("reader")?, true, case.entry("agent.pause")).await?;
    assert_eq!((paused.paused_at, paused.state()), (Some(case.now()), AgentState::Paused));
    let since = case.now();
    case.advance(1_000);
    let again = case.store.agent_pause(&name("reader")?, true, case.entry("agent.pause")).await?;
    assert_eq!(again.paused_at, Some(since), "it was paused before");
    let refused = case.submit(&agent).await.map(|_| ()).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Conflict));
    case.store.agent_write(agent_write("reader", "r2", Some("r1"))?, case.entry("agent.update")).await?;
    let put = vec![agent_write("reader", "r3", None)?];
    let changes = SyncChanges { put, config_revision: "config-2".to_owned(), ..SyncChanges::default() };
    case.store.apply_sync(changes, case.entry("environment.sync")).await?;
    let key = AgentKey::Name(name("reader")?);
    let synced = present(case.store.agent(&key).await?, "the agent")?;
    assert_eq!((synced.revision.as_str(), synced.state()), ("r3", AgentState::Paused));
    let resumed = case.store.agent_pause(&name("reader")?, false, case.entry("agent.resume")).await?;
    assert_eq!(resumed.state(), AgentState::Ok);
    case.submit(&resumed).await?;
    let nobody = case.store.agent_pause(&name("nobody")?, true, case.entry("agent.pause")).await;
    assert_eq!(nobody.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    Ok(())
}

async fn what_is_queued_of_a_paused_agent_is_held_back_and_holds_up_nobody(case: Subject) -> Result<()> {
    let (held, free) = (case.agent("held").await?, case.agent("free").await?);
    let first = case.submit(&held).await?.run.id;
    case.advance(1);
    let second = case.submit(&free).await?.run.id;
    case.store.agent_pause(&name("held")?, true, case.entry("agent.pause")).await?;
    assert_eq!(case.store.live_runs().await?, 1, "nothing can be done about the other");
    assert_eq!(case.store.runs_under_way().await?, 2);
    assert_eq!((case.run(first).await?.agent_paused, case.run(second).await?.agent_paused), (true, false));
    let claimed: Vec<_> = case.store.claim(&owner("a"), 5).await?.into_iter().map(|claim| claim.run.id).collect();
    assert_eq!(claimed, [second]);
    let reserved = Submit { reserved_for: Some(owner("a")), queue_limit: 1, ..case.submission(&free)? };
    assert!(case.store.submit(reserved).await?.claim.is_some(), "it is first in the queue");
    case.store.agent_pause(&name("held")?, false, case.entry("agent.resume")).await?;
    assert!(!case.run(first).await?.agent_paused);
    assert_eq!(case.claim("a").await?.run.id, first);
    Ok(())
}

async fn a_pause_outlasts_the_agents_file(case: Subject) -> Result<()> {
    let held = case.agent("held").await?;
    let run = case.submit(&held).await?.run.id;
    case.store.agent_pause(&name("held")?, true, case.entry("agent.pause")).await?;
    let since = case.now();
    case.advance(1_000);
    let gone =
        SyncChanges { delete: vec![name("held")?], config_revision: "config-2".to_owned(), ..SyncChanges::default() };
    case.store.apply_sync(gone, case.entry("environment.sync")).await?;
    let key = AgentKey::Name(name("held")?);
    assert!(case.store.agent(&key).await?.is_none());
    assert!(case.store.claim(&owner("a"), 5).await?.is_empty(), "what it holds stays held");
    for key in [&key, &AgentKey::Id(held.id)] {
        let former = present(case.store.former_agent(key).await?, "what is left of it")?;
        assert_eq!((former.last.id, former.last.paused_at, former.unended), (held.id, Some(since), 1));
        assert_eq!(former.last.definition, held.definition);
    }
    assert!(case.run(run).await?.agent_paused);
    let put = vec![agent_write("held", "r2", None)?];
    let back = SyncChanges { put, config_revision: "config-3".to_owned(), ..SyncChanges::default() };
    case.store.apply_sync(back, case.entry("environment.sync")).await?;
    let again = present(case.store.agent(&key).await?, "the agent")?;
    assert_eq!((again.id, again.paused_at, again.revision.as_str()), (held.id, Some(since), "r2"));
    assert!(case.store.claim(&owner("a"), 5).await?.is_empty());
    let refused = case.store.agent_delete(&name("held")?, None, case.entry("agent.delete")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Conflict), "its run would wait for ever");
    case.store.agent_pause(&name("held")?, false, case.entry("agent.resume")).await?;
    let claim = case.claim("a").await?;
    assert_eq!(claim.run.id, run);
    case.store.agent_pause(&name("held")?, true, case.entry("agent.pause")).await?;
    let refused = case.store.agent_delete(&name("held")?, None, case.entry("agent.delete")).await;
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(ErrorKind::Conflict),
        "it would be held once it is handed back"
    );
    assert_eq!(case.store.finish(&claim.grant, Ending::Cancelled).await?, Written::Done);
    assert!(case.store.agent_delete(&name("held")?, None, case.entry("agent.delete")).await?, "it holds nothing");
    let fresh = case.agent("held").await?;
    assert!(fresh.id > held.id && fresh.paused_at.is_none());
    assert_eq!(case.store.former_agent(&AgentKey::Id(fresh.id)).await?, None, "it is there");
    Ok(())
}

async fn a_pause_can_be_lifted_while_the_agents_file_is_gone(case: Subject) -> Result<()> {
    let held = case.agent("held").await?;
    let run = case.submit(&held).await?.run.id;
    case.store.agent_pause(&name("held")?, true, case.entry("agent.pause")).await?;
    let gone =
        SyncChanges { delete: vec![name("held")?], config_revision: "config-2".to_owned(), ..SyncChanges::default() };
    case.store.apply_sync(gone, case.entry("environment.sync")).await?;
    let again = case.store.agent_pause(&name("held")?, true, case.entry("agent.pause")).await;
    assert_eq!(again.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    let before = case.actions().await?.len();
    let resumed = case.store.agent_pause(&name("held")?, false, case.entry("agent.resume")).await?;
    assert_eq!((resumed.id, resumed.state()), (held.id, AgentState::Error), "it can't be run");
    assert_eq!(case.actions().await?.len(), before + 1);
    let claim = case.claim("a").await?;
    assert_eq!((claim.run.id, &claim.definition), (run, &held.definition));
    let again = case.store.agent_pause(&name("held")?, false, case.entry("agent.resume")).await;
    assert_eq!(again.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound), "nothing is paused");
    let former = present(case.store.former_agent(&AgentKey::Name(name("held")?)).await?, "what is left of it")?;
    assert_eq!((former.last.paused_at, former.unended), (None, 1));
    Ok(())
}

async fn the_time_that_a_pause_holds_a_run_counts_for_no_timeout(case: Subject) -> Result<()> {
    let agent = case.agent("held").await?;
    case.submit(&agent).await?;
    let claim = case.claim("a").await?;
    case.advance(1);
    let fresh = case.submit(&agent).await?.run.id;
    let pause = async |paused| case.store.agent_pause(&name("held")?, paused, case.entry("agent.pause")).await;
    // Nobody works on it, for whatever reason: once it has begun, its time doesn't go on.
    assert_eq!(case.store.release(&claim.grant).await?, Written::Done);
    case.advance(1_000);
    pause(true).await?;
    case.advance(50_000);
    pause(true).await?;
    case.advance(40_000);
    pause(false).await?;
    let again = case.claim("a").await?;
    assert_eq!((again.run.id, again.deadline), (claim.run.id, claim.deadline + Duration::from_millis(91_000)));
    assert_eq!(case.store.park(&again.grant, WaitingFor::Provider, &[]).await?, Written::Done);
    pause(true).await?;
    case.advance(5_000);
    let resume = Answer { decision: Decision::Retry, result: None };
    case.store.answer(claim.run.id, None, resume, case.entry("run.respond")).await?;
    case.advance(2_000);
    pause(false).await?;
    case.advance(3_000);
    let last = case.claim("a").await?;
    assert_eq!((last.run.id, last.deadline), (claim.run.id, claim.deadline + Duration::from_millis(101_000)));
    // One that hadn't begun has all of its time.
    let first = case.claim("a").await?;
    assert_eq!((first.run.id, first.deadline), (fresh, case.now() + Duration::from_millis(60_000)));
    Ok(())
}
