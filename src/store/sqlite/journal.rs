//! Writing the journal: intents before their calls leave, outcomes when they arrive.

use super::column::Json;
use super::run_state::RunState;
use super::steps;
use super::transaction::Tx;
use crate::domain::{Answer, Decision, EventType, StepStatus};
use crate::error::{Error, Result};
use crate::failpoint::Failpoint;
use crate::store::{Closed, Grant, Intent, JournalBatch, Outcome, Written};
use rusqlite::{OptionalExtension, named_params};
use serde_json::json;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Journaled {
    Whole(Written),
    /// The audit file is behind: what had happened is recorded, and nothing new may be begun.
    OutcomesOnly,
}

/// Commits results and intents together.
pub(super) fn journal(tx: &mut Tx<'_>, grant: &Grant, batch: JournalBatch) -> Result<Journaled> {
    let Some(mut state) = RunState::held(tx.conn, grant)? else { return Ok(Journaled::Whole(Written::Stale)) };
    for outcome in &batch.outcomes {
        settle(tx, &mut state, outcome)?;
    }
    let refused = tx.audit_is_behind() && !batch.intents.is_empty();
    if !refused {
        for intent in &batch.intents {
            begin(tx, &mut state, intent)?;
        }
        state.turns = batch.turns;
        pin_tools(tx, &state, batch.pinned_tools.as_deref())?;
    }
    Failpoint::StoreJournal.reach(|| format!("{batch:?}"));
    state.save_progress(tx)?;
    Ok(if refused { Journaled::OutcomesOnly } else { Journaled::Whole(Written::Done) })
}

fn pin_tools(tx: &Tx<'_>, state: &RunState, pinned: Option<&str>) -> Result<()> {
    let Some(pinned) = pinned else { return Ok(()) };
    tx.conn.prepare_cached("UPDATE run_texts SET pinned_tools = ?2 WHERE run_id = ?1")?.execute((state.id, pinned))?;
    Ok(())
}

fn begin(tx: &mut Tx<'_>, state: &mut RunState, intent: &Intent) -> Result<()> {
    if let Some(replaced) = &intent.replaces {
        settle(tx, state, replaced)?;
    }
    let effect = intent.effect.as_ref();
    tx.conn
        .prepare_cached(
            "INSERT INTO steps (run_id, seq, try, turn, epoch, kind, status, name, effect, idempotent, open_world, trusted,
                                idempotency_key, call_id, truncated, started_at)
             VALUES (:run_id, :seq, :try, :turn, :epoch, :kind, :status, :name, :effect, :idempotent, :open_world, :trusted,
                     :idempotency_key, :call_id, 0, :started_at)",
        )?
        .execute(named_params! {
            ":run_id": state.id,
            ":seq": intent.seq,
            ":try": intent.r#try,
            ":turn": intent.turn,
            ":epoch": state.epoch,
            ":kind": intent.kind,
            ":status": StepStatus::Started,
            ":name": intent.name,
            ":effect": effect.map(|effect| effect.effect),
            ":idempotent": effect.map(|effect| effect.idempotent),
            ":open_world": effect.map(|effect| effect.open_world),
            ":trusted": effect.map(|effect| effect.trusted),
            ":idempotency_key": intent.idempotency_key,
            ":call_id": intent.call_id,
            ":started_at": tx.now,
        })?;
    if let Some(arguments) = &intent.arguments {
        tx.conn
            .prepare_cached("INSERT INTO step_texts (run_id, seq, try, arguments) VALUES (?1, ?2, ?3, ?4)")?
            .execute((state.id, intent.seq, intent.r#try, Json(arguments)))?;
    }
    state.steps += 1;
    emit_step(tx, state, EventType::StepStarted, intent.seq, intent.r#try)?;
    if let Some(audit) = &intent.audit {
        tx.audit(audit.clone())?;
    }
    match &intent.closed {
        Some(closed) => close(tx, state, intent.seq, intent.r#try, closed),
        None => Ok(()),
    }
}

/// Ends an open step. One that has ended before keeps its first outcome: the same result may be reported again after an answer got lost.
fn settle(tx: &mut Tx<'_>, state: &mut RunState, outcome: &Outcome) -> Result<()> {
    let status: Option<StepStatus> = tx
        .conn
        .prepare_cached("SELECT status FROM steps WHERE run_id = ?1 AND seq = ?2 AND try = ?3")?
        .query_row((state.id, outcome.seq, outcome.r#try), |row| row.get(0))
        .optional()?;
    match status {
        Some(StepStatus::Started) => {
            close(tx, state, outcome.seq, outcome.r#try, &outcome.closed)?;
            outcome.audit.as_ref().map_or(Ok(()), |audit| tx.audit(audit.clone()))
        }
        Some(_ended) => Ok(()),
        None => Err(Error::internal(format!(
            "step {} (try {}) of run `{}` was never begun",
            outcome.seq, outcome.r#try, state.id
        ))),
    }
}

pub(super) fn close(tx: &mut Tx<'_>, state: &mut RunState, seq: i64, r#try: i64, closed: &Closed) -> Result<()> {
    let usage = closed.usage.as_ref();
    tx.conn
        .prepare_cached(
            "UPDATE steps SET status = :status, truncated = :truncated, error = :error, input_tokens = :input_tokens,
                 cached_input_tokens = :cached_input_tokens, output_tokens = :output_tokens,
                 reasoning_tokens = :reasoning_tokens, cost_microusd = :cost_microusd, answer = :answer,
                 ended_at = :ended_at
             WHERE run_id = :run_id AND seq = :seq AND try = :try",
        )?
        .execute(named_params! {
            ":run_id": state.id,
            ":seq": seq,
            ":try": r#try,
            ":status": closed.status,
            ":truncated": closed.truncated,
            ":error": closed.error,
            ":input_tokens": usage.map(|usage| usage.input_tokens),
            ":cached_input_tokens": usage.map(|usage| usage.cached_input_tokens),
            ":output_tokens": usage.map(|usage| usage.output_tokens),
            ":reasoning_tokens": usage.map(|usage| usage.reasoning_tokens),
            ":cost_microusd": usage.map(|usage| usage.cost_microusd),
            ":answer": closed.to_retry.then_some(Json(Answer { decision: Decision::Retry, result: None })),
            ":ended_at": tx.now,
        })?;
    keep_texts(tx, state, seq, r#try, closed)?;
    emit_step(tx, state, end_event(closed.status), seq, r#try)?;
    if let Some(usage) = closed.usage {
        state.usage += usage;
        state.emit(tx, EventType::UsageUpdated, json!({ "usage": state.usage }))?;
    }
    Ok(())
}

fn keep_texts(tx: &Tx<'_>, state: &RunState, seq: i64, r#try: i64, closed: &Closed) -> Result<()> {
    if closed.result.is_none() && closed.shown.is_none() && closed.native.is_none() {
        return Ok(());
    }
    tx.conn
        .prepare_cached(
            "INSERT INTO step_texts (run_id, seq, try, result, shown, native_dialect, native)
             VALUES (:run_id, :seq, :try, :result, :shown, :native_dialect, :native)
             ON CONFLICT DO UPDATE SET result = excluded.result, shown = excluded.shown,
                 native_dialect = excluded.native_dialect, native = excluded.native",
        )?
        .execute(named_params! {
            ":run_id": state.id,
            ":seq": seq,
            ":try": r#try,
            ":result": closed.result.as_ref().map(Json),
            ":shown": closed.shown,
            ":native_dialect": closed.native.as_ref().map(|native| &native.dialect),
            ":native": closed.native.as_ref().map(|native| &native.json),
        })?;
    Ok(())
}

/// How followers are told of a step with this status.
pub(super) fn end_event(status: StepStatus) -> EventType {
    match status {
        StepStatus::Completed => EventType::StepCompleted,
        _ => EventType::StepFailed,
    }
}

/// Tells of a step as it stands in its row.
pub(super) fn emit_step(tx: &mut Tx<'_>, state: &mut RunState, r#type: EventType, seq: i64, r#try: i64) -> Result<()> {
    let step = steps::get(tx.conn, state.id, seq, r#try)?
        .ok_or_else(|| Error::internal(format!("step {seq} of run `{}` vanished while it was written", state.id)))?;
    state.emit(tx, r#type, steps::event_data(step))
}
