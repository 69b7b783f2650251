//! Audit rows commit with the act, and not without it.

use super::cases;
use super::fixture::{Subject, agent_write, begins, closed, ends, name, outcome, tool_call};
use crate::domain::{Answer, AuditEntry, AuditOutcome, Decision, StepStatus, WaitingFor};
use crate::error::Result;
use crate::store::{Ending, Intent, Outcome, Submit, SyncChanges, Written};
use serde_json::json;

cases!(
    every_act_leaves_its_entry,
    an_act_that_is_refused_leaves_none,
    an_entry_is_read_back_as_it_was_written,
    entries_are_read_in_order_and_in_pages,
);

async fn every_act_leaves_its_entry(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    case.store.agent_write(agent_write("reader", "r2", Some("r1"))?, case.entry("agent.update")).await?;
    case.store.apply_sync(SyncChanges::default(), case.entry("environment.sync")).await?;
    case.submit(&agent).await?;
    let claim = case.claim("a").await?;
    let intent = Intent { audit: Some(case.entry("tool.intent")), ..tool_call(1, 1) };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![intent])).await?, Written::Done);
    let done = outcome(1, 1, closed(StepStatus::Completed, json!("done")));
    let batch = ends(vec![Outcome { audit: Some(case.entry("tool.call")), ..done }]);
    for _ in 0..2 {
        // Reported again, it is the same outcome, and one entry.
        assert_eq!(case.store.journal(&claim.grant, batch.clone()).await?, Written::Done);
    }
    case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
    assert_eq!(case.store.finish(&claim.grant, Ending::Cancelled).await?, Written::Done);
    assert!(case.store.agent_delete(&name("reader")?, Some("r2"), case.entry("agent.delete")).await?);
    case.store.file_promise("variables.yml", Vec::new(), None, case.entry("variable.set")).await?;
    case.store.audit_intent(case.entry("tool.begun")).await?;
    case.store.audit(case.entry("tool.denied")).await?;
    assert_eq!(
        case.actions().await?,
        [
            "agent.create",
            "agent.update",
            "environment.sync",
            "agent.run",
            "tool.intent",
            "tool.call",
            "run.cancel",
            "agent.run",
            "agent.delete",
            "variable.set",
            "tool.begun",
            "tool.denied"
        ]
    );
    Ok(())
}

async fn an_act_that_is_refused_leaves_none(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let recorded = case.actions().await?;
    assert!(case.store.agent_write(agent_write("reader", "r2", None)?, case.entry("no")).await.is_err());
    let full = Submit { queue_limit: 0, audit: case.entry("no"), ..case.submission(&agent)? };
    assert!(case.store.submit(full).await.is_err());
    let nobody = name("nobody")?;
    assert!(!case.store.agent_delete(&nobody, None, case.entry("no")).await?);
    assert!(case.store.server_accept(&nobody, "argv", case.entry("no")).await.is_err());
    let id = case.new_id()?;
    assert!(case.store.cancel(id, case.entry("no")).await.is_err());
    let skip = Answer { decision: Decision::Skip, result: None };
    assert!(case.store.answer(id, None, skip, case.entry("no")).await.is_err());
    case.submit(&agent).await?;
    let claim = case.claim("a").await?;
    assert!(case.store.park(&claim.grant, WaitingFor::InDoubt, &[3]).await.is_err());
    assert_eq!(case.actions().await?[..], [&recorded[..], &["agent.run".to_owned()]].concat());
    Ok(())
}

async fn an_entry_is_read_back_as_it_was_written(case: Subject) -> Result<()> {
    let full = AuditEntry {
        target: Some("files__write".to_owned()),
        outcome: AuditOutcome::Denied,
        reason: Some("permission_denied: no".to_owned()),
        details: Some(json!({ "z": 1, "a": [true, null, 1.5] })),
        ..case.entry("tool.call")
    };
    let bare = AuditEntry { environment: None, config_revision: None, details: None, ..case.entry("login") };
    case.store.audit(full.clone()).await?;
    case.store.audit(bare.clone()).await?;
    let rows = case.store.audit_after(0, 10).await?;
    assert_eq!(rows.into_iter().map(|row| row.entry).collect::<Vec<_>>(), [full, bare]);
    Ok(())
}

async fn entries_are_read_in_order_and_in_pages(case: Subject) -> Result<()> {
    for number in 0..5 {
        case.store.audit(case.entry(&format!("act.{number}"))).await?;
    }
    let page = case.store.audit_after(0, 2).await?;
    assert_eq!(page.iter().map(|row| row.entry.action.as_str()).collect::<Vec<_>>(), ["act.0", "act.1"]);
    let rest = case.store.audit_after(page[1].seq, 10).await?;
    assert_eq!(rest.iter().map(|row| row.entry.action.as_str()).collect::<Vec<_>>(), ["act.2", "act.3", "act.4"]);
    assert!(page.iter().chain(&rest).map(|row| row.seq).is_sorted_by(|a, b| a < b));
    Ok(())
}
