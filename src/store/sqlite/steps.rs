//! Reading the journal.

use super::column::Json;
use crate::domain::{Effect, RunId, Step, Timestamp, ToolEffect, Usage};
use crate::error::Result;
use crate::store::{JournalRow, NativeBlocks};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::{Value, json};

const SELECT: &str = "SELECT s.*, t.arguments, t.result, t.shown, t.native_dialect, t.native FROM steps s
                      LEFT JOIN step_texts t ON t.run_id = s.run_id AND t.seq = s.seq AND t.try = s.try";

/// Arguments and results over this size stay out of events: a follower who wants them reads the step.
const EVENT_TEXT_BYTES: usize = 2 * 1024;

/// The whole journal of a run, by `(seq, try)`.
pub(super) fn journal(conn: &Connection, run: RunId) -> Result<Vec<JournalRow>> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE s.run_id = ?1 ORDER BY s.seq, s.try"))?;
    let rows = statement.query_map([run], journal_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The steps without an outcome: their calls were about to leave.
pub(super) fn open(conn: &Connection, run: RunId) -> Result<Vec<JournalRow>> {
    let mut statement =
        conn.prepare_cached(&format!("{SELECT} WHERE s.run_id = ?1 AND s.status = 'started' ORDER BY s.seq, s.try"))?;
    let rows = statement.query_map([run], journal_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Steps after a position, by `(seq, try)`.
pub(super) fn list(conn: &Connection, run: RunId, after: Option<(i64, i64)>, limit: u32) -> Result<Vec<Step>> {
    let (seq, r#try) = after.unwrap_or((0, 0));
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT} WHERE s.run_id = ?1 AND (s.seq, s.try) > (?2, ?3) ORDER BY s.seq, s.try LIMIT ?4"
    ))?;
    let rows = statement.query_map((run, seq, r#try, limit), step)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn get(conn: &Connection, run: RunId, seq: i64, r#try: i64) -> Result<Option<Step>> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE s.run_id = ?1 AND s.seq = ?2 AND s.try = ?3"))?;
    Ok(statement.query_row((run, seq, r#try), step).optional()?)
}

/// What an event about a step carries.
pub(super) fn event_data(mut step: Step) -> Value {
    step.arguments = step.arguments.filter(fits_an_event);
    step.result = step.result.filter(fits_an_event);
    json!({ "step": step })
}

fn fits_an_event(value: &Value) -> bool {
    value.to_string().len() <= EVENT_TEXT_BYTES
}

fn journal_row(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    let dialect: Option<String> = row.get("native_dialect")?;
    let native: Option<String> = row.get("native")?;
    Ok(JournalRow {
        step: step(row)?,
        effect: effect(row)?,
        shown: row.get("shown")?,
        native: dialect.zip(native).map(|(dialect, json)| NativeBlocks { dialect, json }),
        answer: row.get::<_, Option<Json<_>>>("answer")?.map(|answer| answer.0),
    })
}

fn step(row: &Row<'_>) -> rusqlite::Result<Step> {
    let started_at: Timestamp = row.get("started_at")?;
    let ended_at: Option<Timestamp> = row.get("ended_at")?;
    Ok(Step {
        run_id: row.get("run_id")?,
        seq: row.get("seq")?,
        turn: row.get("turn")?,
        kind: row.get("kind")?,
        status: row.get("status")?,
        r#try: row.get("try")?,
        name: row.get("name")?,
        effect: row.get("effect")?,
        idempotency_key: row.get("idempotency_key")?,
        waiting_for: row.get("waiting_for")?,
        arguments: row.get::<_, Option<Json<_>>>("arguments")?.map(|arguments| arguments.0),
        result: row.get::<_, Option<Json<_>>>("result")?.map(|result| result.0),
        truncated: row.get("truncated")?,
        error: row.get("error")?,
        usage: usage(row)?,
        started_at,
        ended_at,
        duration_ms: ended_at.map(|ended| ended.millis_since(started_at)),
    })
}

fn effect(row: &Row<'_>) -> rusqlite::Result<Option<ToolEffect>> {
    let Some(effect) = row.get::<_, Option<Effect>>("effect")? else { return Ok(None) };
    Ok(Some(ToolEffect {
        effect,
        idempotent: row.get("idempotent")?,
        open_world: row.get("open_world")?,
        trusted: row.get("trusted")?,
    }))
}

fn usage(row: &Row<'_>) -> rusqlite::Result<Option<Usage>> {
    let Some(input_tokens) = row.get("input_tokens")? else { return Ok(None) };
    Ok(Some(Usage {
        input_tokens,
        cached_input_tokens: row.get("cached_input_tokens")?,
        output_tokens: row.get("output_tokens")?,
        reasoning_tokens: row.get("reasoning_tokens")?,
        cost_microusd: row.get("cost_microusd")?,
    }))
}
