//! The part of a run that moves, loaded, changed and saved within one operation. Every change of status goes through
//! `turn_to`, and every stored event through `emit`.

use super::column::Json;
use super::transaction::Tx;
use crate::domain::{Event, EventType, ParentStep, RunErrorKind, RunId, RunStatus, Timestamp, Usage, WaitingFor};
use crate::error::{Error, Result};
use crate::store::Grant;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde_json::Value;

#[derive(Debug, Clone)]
pub(super) struct RunState {
    pub(super) id: RunId,
    status: RunStatus,
    pub(super) waiting_for: Option<WaitingFor>,
    pub(super) error_kind: Option<RunErrorKind>,
    /// The call that it is.
    pub(super) parent: Option<ParentStep>,
    pub(super) epoch: i64,
    pub(super) owner: Option<String>,
    pub(super) attempt: i64,
    pub(super) keep_attempt: bool,
    pub(super) cancel_requested: bool,
    pub(super) turns: i64,
    pub(super) steps: i64,
    pub(super) usage: Usage,
    event_seq: i64,
    pub(super) waited_ms: i64,
    /// Up to when the time that its calls waited for people is counted in that.
    pub(super) given_until: Option<Timestamp>,
    /// Queued: since when the pause of its agent holds it, or, once it has begun, since when nobody works on it.
    pub(super) parked_at: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
}

impl RunState {
    pub(super) fn load(conn: &Connection, id: RunId) -> Result<Option<Self>> {
        let mut statement = conn.prepare_cached("SELECT * FROM runs WHERE id = ?1")?;
        Ok(statement.query_row([id], from_row).optional()?)
    }

    /// The run, if the grant still holds it: it executes, under the grant's epoch.
    pub(super) fn held(conn: &Connection, grant: &Grant) -> Result<Option<Self>> {
        let state = Self::load(conn, grant.run_id)?;
        Ok(state.filter(|state| state.executes() && state.epoch == grant.epoch))
    }

    /// A running run that waits for others is in nobody's hands.
    pub(super) fn executes(&self) -> bool {
        self.status == RunStatus::Running && self.waiting_for.is_none()
    }

    pub(super) fn status(&self) -> RunStatus {
        self.status
    }

    /// Changes the status, along the transitions that exist.
    pub(super) fn turn_to(&mut self, next: RunStatus) -> Result<()> {
        if !self.status.may_become(next) {
            let (from, to) = (self.status.as_str(), next.as_str());
            return Err(Error::internal(format!("run `{}` can't go from `{from}` to `{to}`", self.id)));
        }
        self.status = next;
        Ok(())
    }

    /// Stores an event and tells it after the commit.
    pub(super) fn emit(&mut self, tx: &mut Tx<'_>, r#type: EventType, data: Value) -> Result<()> {
        self.event_seq += 1;
        let event = Event { run_id: self.id, epoch: self.epoch, seq: self.event_seq, r#type, at: tx.now, data };
        tx.conn
            .prepare_cached("INSERT INTO events (run_id, seq, epoch, type, at, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute((event.run_id, event.seq, event.epoch, event.r#type, event.at, Json(&event.data)))?;
        tx.publish(event);
        Ok(())
    }

    /// Saves what a transition can change.
    pub(super) fn save(&self, tx: &Tx<'_>) -> Result<()> {
        tx.conn
            .prepare_cached(
                "UPDATE runs SET status = :status, waiting_for = :waiting_for, error_kind = :error_kind, epoch = :epoch,
                     owner = :owner, attempt = :attempt, keep_attempt = :keep_attempt,
                     cancel_requested = :cancel_requested, event_seq = :event_seq, waited_ms = :waited_ms,
                     given_until = :given_until, parked_at = :parked_at, started_at = :started_at, ended_at = :ended_at
                 WHERE id = :id",
            )?
            .execute(named_params! {
                ":id": self.id,
                ":status": self.status,
                ":waiting_for": self.waiting_for,
                ":error_kind": self.error_kind,
                ":epoch": self.epoch,
                ":owner": self.owner,
                ":attempt": self.attempt,
                ":keep_attempt": self.keep_attempt,
                ":cancel_requested": self.cancel_requested,
                ":event_seq": self.event_seq,
                ":waited_ms": self.waited_ms,
                ":given_until": self.given_until,
                ":parked_at": self.parked_at,
                ":started_at": self.started_at,
                ":ended_at": self.ended_at,
            })?;
        Ok(())
    }

    /// Saves the counters that work moves while the status stays; no index is touched.
    pub(super) fn save_progress(&self, tx: &Tx<'_>) -> Result<()> {
        tx.conn
            .prepare_cached(
                "UPDATE runs SET turns = :turns, steps = :steps, input_tokens = :input_tokens,
                     cached_input_tokens = :cached_input_tokens, output_tokens = :output_tokens,
                     reasoning_tokens = :reasoning_tokens, cost_microusd = :cost_microusd, event_seq = :event_seq
                 WHERE id = :id",
            )?
            .execute(named_params! {
                ":id": self.id,
                ":turns": self.turns,
                ":steps": self.steps,
                ":input_tokens": self.usage.input_tokens,
                ":cached_input_tokens": self.usage.cached_input_tokens,
                ":output_tokens": self.usage.output_tokens,
                ":reasoning_tokens": self.usage.reasoning_tokens,
                ":cost_microusd": self.usage.cost_microusd,
                ":event_seq": self.event_seq,
            })?;
        Ok(())
    }
}

/// The usage columns of a run.
pub(super) fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        input_tokens: row.get("input_tokens")?,
        cached_input_tokens: row.get("cached_input_tokens")?,
        output_tokens: row.get("output_tokens")?,
        reasoning_tokens: row.get("reasoning_tokens")?,
        cost_microusd: row.get("cost_microusd")?,
    })
}

fn parent(row: &Row<'_>) -> rusqlite::Result<Option<ParentStep>> {
    let (run, step): (Option<RunId>, Option<i64>) = (row.get("parent_run_id")?, row.get("parent_step")?);
    Ok(run.zip(step).map(|(run, step)| ParentStep { run, step }))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<RunState> {
    Ok(RunState {
        id: row.get("id")?,
        status: row.get("status")?,
        waiting_for: row.get("waiting_for")?,
        error_kind: row.get("error_kind")?,
        parent: parent(row)?,
        epoch: row.get("epoch")?,
        owner: row.get("owner")?,
        attempt: row.get("attempt")?,
        keep_attempt: row.get("keep_attempt")?,
        cancel_requested: row.get("cancel_requested")?,
        turns: row.get("turns")?,
        steps: row.get("steps")?,
        usage: usage(row)?,
        event_seq: row.get("event_seq")?,
        waited_ms: row.get("waited_ms")?,
        given_until: row.get("given_until")?,
        parked_at: row.get("parked_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}
