//! How runs end: by their executor, or by a cancel.

use super::column::Json;
use super::run_state::RunState;
use super::runs;
use super::transaction::Tx;
use crate::domain::{AuditEntry, EventType, Name, RunId, RunStatus};
use crate::error::{Error, Result};
use crate::store::{Cancelled, Ending, Grant, Written};
use serde_json::json;

/// Ends a run as its executor says, also if a cancel was asked for meanwhile.
pub(super) fn finish(tx: &mut Tx<'_>, grant: &Grant, ending: Ending, audit: AuditEntry) -> Result<Written> {
    let Some(state) = RunState::held(tx.conn, grant)? else { return Ok(Written::Stale) };
    end(tx, state, ending)?;
    tx.audit(audit)?;
    Ok(Written::Done)
}

/// Brings a run to its terminal status.
pub(super) fn end(tx: &mut Tx<'_>, mut state: RunState, ending: Ending) -> Result<()> {
    state.owner = None;
    state.waiting_for = None;
    state.parked_at = None;
    state.ended_at = Some(tx.now);
    match ending {
        Ending::Completed { output } => {
            state.turn_to(RunStatus::Completed)?;
            tx.conn
                .prepare_cached("UPDATE run_texts SET output = ?2 WHERE run_id = ?1")?
                .execute((state.id, Json(output)))?;
            state.emit(tx, EventType::RunCompleted, json!({ "status": state.status() }))?;
        }
        Ending::Failed { kind, message } => {
            state.turn_to(RunStatus::Failed)?;
            state.error_kind = Some(kind);
            tx.conn
                .prepare_cached("UPDATE run_texts SET error = ?2 WHERE run_id = ?1")?
                .execute((state.id, &message))?;
            let data = json!({ "status": state.status(), "error_kind": kind, "error": message });
            state.emit(tx, EventType::RunFailed, data)?;
        }
        Ending::Cancelled => {
            state.turn_to(RunStatus::Cancelled)?;
            state.emit(tx, EventType::RunCancelled, json!({ "status": state.status() }))?;
        }
    }
    state.save(tx)
}

/// Cancels a run that nobody executes, or leaves word for its executor.
pub(super) fn cancel(tx: &mut Tx<'_>, environment: &Name, id: RunId, audit: AuditEntry) -> Result<Cancelled> {
    let missing = || Error::not_found(format!("run `{id}` doesn't exist")).hint("list the runs with `stn run list`");
    let mut state = RunState::load(tx.conn, id)?.ok_or_else(missing)?;
    let reached = match state.status() {
        status if status.is_terminal() => Cancelled::Already,
        RunStatus::Running => {
            state.cancel_requested = true;
            state.save(tx)?;
            tx.audit(audit)?;
            Cancelled::Requested
        }
        _ => {
            end(tx, state, Ending::Cancelled)?;
            tx.audit(audit)?;
            Cancelled::Done
        }
    };
    Ok(reached(runs::get(tx.conn, environment, id)?.ok_or_else(missing)?))
}
