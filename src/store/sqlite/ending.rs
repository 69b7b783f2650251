//! How runs end: by their executor, or by a cancel. Whoever ends one closes what is open in it and leaves an audit row.

use super::column::Json;
use super::run_state::RunState;
use super::transaction::Tx;
use super::{children, journal, park, runs, steps};
use crate::domain::{
    AGENT_PREFIX, ASK_USER, AuditEntry, AuditOutcome, EventType, Name, Run, RunErrorKind, RunId, RunStatus, StepKind,
    StepStatus,
};
use crate::error::{Error, Result};
use crate::store::{Cancelled, Closed, Ending, Grant, JournalRow, Written};
use serde_json::json;

/// Ends a run as its executor says, also if a cancel was asked for meanwhile.
pub(super) fn finish(tx: &mut Tx<'_>, environment: &Name, grant: &Grant, ending: Ending) -> Result<Written> {
    let Some(state) = RunState::held(tx.conn, grant)? else { return Ok(Written::Stale) };
    end(tx, environment, state, ending)?;
    Ok(Written::Done)
}

/// Brings a run to its terminal status.
pub(super) fn end(tx: &mut Tx<'_>, environment: &Name, mut state: RunState, ending: Ending) -> Result<()> {
    let run = runs::get(tx.conn, environment, state.id)?
        .ok_or_else(|| Error::internal(format!("run `{}` vanished while it was ended", state.id)))?;
    close_steps(tx, &mut state, &run, &ending)?;
    tx.audit(ended(tx, &run, &ending))?;
    park::count_wait(tx, &mut state)?;
    state.owner = None;
    state.waiting_for = None;
    state.ended_at = Some(tx.now);
    match &ending {
        Ending::Completed { output } => {
            state.turn_to(RunStatus::Completed)?;
            tx.conn
                .prepare_cached("UPDATE run_texts SET output = ?2 WHERE run_id = ?1")?
                .execute((state.id, Json(output)))?;
            state.emit(tx, EventType::RunCompleted, json!({ "status": state.status() }))?;
        }
        Ending::Failed { kind, message } => {
            state.turn_to(RunStatus::Failed)?;
            state.error_kind = Some(*kind);
            tx.conn
                .prepare_cached("UPDATE run_texts SET error = ?2 WHERE run_id = ?1")?
                .execute((state.id, message))?;
            let data = json!({ "status": state.status(), "error_kind": kind, "error": message });
            state.emit(tx, EventType::RunFailed, data)?;
        }
        Ending::Cancelled => {
            state.turn_to(RunStatus::Cancelled)?;
            state.emit(tx, EventType::RunCancelled, json!({ "status": state.status() }))?;
        }
    }
    state.save(tx)?;
    children::cancel_below(tx, environment, state.id)?;
    children::ended(tx, &run, state.parent, &ending)
}

/// The entry of a run's end.
fn ended(tx: &Tx<'_>, run: &Run, ending: &Ending) -> AuditEntry {
    let entry = |outcome| {
        let id = run.id.to_string();
        AuditEntry::in_run(run, tx.now, "agent.run", id.clone(), id, outcome)
    };
    match ending {
        Ending::Completed { .. } => entry(AuditOutcome::Done),
        Ending::Failed { message, .. } => entry(AuditOutcome::Failed).because(message),
        Ending::Cancelled => entry(AuditOutcome::Failed).because("cancelled"),
    }
}

/// Closes the steps that have no outcome. What a call may have changed that nobody waits for any more stays unknown for good.
fn close_steps(tx: &mut Tx<'_>, state: &mut RunState, run: &Run, ending: &Ending) -> Result<()> {
    let reason = match ending {
        Ending::Cancelled => "called off: the run was cancelled",
        Ending::Failed { kind: RunErrorKind::Timeout, .. } => "called off: the run's timeout was reached",
        Ending::Failed { .. } | Ending::Completed { .. } => "called off: the run had ended",
    };
    for row in steps::open(tx.conn, state.id)? {
        close_step(tx, state, run, &row, reason)?;
    }
    tx.conn
        .prepare_cached(
            "UPDATE steps SET waiting_for = NULL, ended_at = coalesce(ended_at, ?2)
             WHERE run_id = ?1 AND waiting_for IS NOT NULL",
        )?
        .execute((state.id, tx.now))?;
    Ok(())
}

fn close_step(tx: &mut Tx<'_>, state: &mut RunState, run: &Run, row: &JournalRow, reason: &str) -> Result<()> {
    let step = &row.step;
    // A call of another run leaves that run's own entries, and a question changes nothing.
    let is_call = step.kind == StepKind::Tool && !step.name.starts_with(AGENT_PREFIX) && step.name != ASK_USER;
    let is_unknown = is_call && !row.effect.unwrap_or_default().is_repeatable();
    let status = if is_unknown { StepStatus::InDoubt } else { StepStatus::Failed };
    let closed = Closed::without_result(status, Some(reason.to_owned()));
    journal::close(tx, state, step.seq, step.r#try, &closed)?;
    if is_call {
        let key = step.idempotency_key.clone().unwrap_or_else(|| run.id.to_string());
        let entry = AuditEntry::in_run(run, tx.now, "tool.call", step.name.clone(), key, AuditOutcome::Failed);
        tx.audit(entry.because(reason))?;
    }
    Ok(())
}

/// Cancels a run that nobody executes, or leaves word for its executor.
pub(super) fn cancel(tx: &mut Tx<'_>, environment: &Name, id: RunId, audit: AuditEntry) -> Result<Cancelled> {
    let missing = || Error::not_found(format!("run `{id}` doesn't exist")).hint("list the runs with `stn run list`");
    let mut state = RunState::load(tx.conn, id)?.ok_or_else(missing)?;
    let reached = match state.status() {
        status if status.is_terminal() => Cancelled::Already,
        _ if state.executes() => {
            state.cancel_requested = true;
            state.save(tx)?;
            tx.audit(audit)?;
            children::cancel_below(tx, environment, id)?;
            Cancelled::Requested
        }
        _ => {
            tx.audit(audit)?;
            end(tx, environment, state, Ending::Cancelled)?;
            Cancelled::Done
        }
    };
    Ok(reached(runs::get(tx.conn, environment, id)?.ok_or_else(missing)?))
}
