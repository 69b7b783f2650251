//! Questions that nobody has answered in time.

use super::run_state::RunState;
use super::transaction::Tx;
use super::{journal, park, queue};
use crate::domain::{
    AuditEntry, Cause, EventType, Name, QUESTION_EXPIRY, RunId, RunStatus, StepStatus, Timestamp, UNANSWERED,
    WaitingFor,
};
use crate::error::Result;
use crate::store::Closed;
use rusqlite::Connection;
use serde_json::json;

/// Runs whose questions have expired, those that have waited longest first.
pub(super) fn unanswered(conn: &Connection, now: Timestamp) -> Result<Vec<RunId>> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM runs WHERE status = 'input_required' AND waiting_for = 'question' AND parked_at <= ?1
         ORDER BY parked_at, id",
    )?;
    let asked_at = now.as_millis().saturating_sub(i64::try_from(QUESTION_EXPIRY.as_millis()).unwrap_or(i64::MAX));
    let rows = statement.query_map([Timestamp::from_millis(asked_at)], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The run asks something, and its time for that is over.
pub(super) fn is_over(state: &RunState, now: Timestamp) -> bool {
    let asks = state.status() == RunStatus::InputRequired && state.waiting_for == Some(WaitingFor::Question);
    asks && state.parked_at.is_some_and(|since| since + QUESTION_EXPIRY <= now)
}

/// Tells the model that nobody has answered what is still open, and queues the run.
pub(super) fn expire(tx: &mut Tx<'_>, environment: &Name, run: RunId) -> Result<bool> {
    tx.require_audit()?;
    let Some(mut state) = RunState::load(tx.conn, run)?.filter(|state| is_over(state, tx.now)) else {
        return Ok(false);
    };
    let open = park::questions(tx, run)?;
    for question in &open {
        let closed = Closed::without_result(StepStatus::Failed, Some(UNANSWERED.to_owned()));
        journal::close(tx, &mut state, question.seq, question.r#try, &closed)?;
    }
    tx.conn
        .prepare_cached("UPDATE steps SET waiting_for = NULL WHERE run_id = ?1 AND waiting_for IS NOT NULL")?
        .execute([run])?;
    let steps: Vec<i64> = open.iter().map(|question| question.seq).collect();
    park::count_wait(tx, &mut state)?;
    state.emit(tx, EventType::RequestExpired, json!({ "waiting_for": state.waiting_for, "steps": steps }))?;
    queue::requeue(tx, &mut state)?;
    tx.audit(AuditEntry {
        cause: Cause::run(run),
        target: Some(run.to_string()),
        details: Some(json!({ "steps": steps })),
        ..AuditEntry::by_the_station(tx.now, "request.expire", environment, "expiry")
    })?;
    Ok(true)
}
