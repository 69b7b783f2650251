//! What parked runs ask.

use super::column::Json;
use crate::domain::{Name, QUESTION_EXPIRY, Question, Request, RunId, Timestamp, WaitingFor};
use crate::error::Result;
use rusqlite::{Connection, Row};
use serde_json::Value;

/// The runs that the run `?1` has called, and all below them.
pub(super) const BELOW: &str = "WITH RECURSIVE below (id) AS (
                                    SELECT id FROM runs WHERE parent_run_id = ?1
                                    UNION ALL
                                    SELECT r.id FROM runs r JOIN below ON r.parent_run_id = below.id
                                )";

/// A run that waits for something outside of its journal has no step here, and counts as its step 0.
const SELECT: &str = "SELECT r.id, r.agent_name, r.waiting_for, r.parked_at, s.seq, s.name, t.arguments FROM runs r
                      LEFT JOIN steps s ON s.run_id = r.id AND s.waiting_for IS NOT NULL
                      LEFT JOIN step_texts t ON t.run_id = s.run_id AND t.seq = s.seq AND t.try = s.try
                      WHERE r.status = 'input_required'";

/// The oldest first.
pub(super) fn list(
    conn: &Connection,
    environment: &Name,
    after: Option<(Timestamp, RunId, i64)>,
    limit: u32,
) -> Result<Vec<Request>> {
    let (at, run, step) = match after {
        Some((at, run, step)) => (at, run.to_string(), step),
        None => (Timestamp::from_millis(0), String::new(), 0),
    };
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT} AND (r.parked_at, r.id, coalesce(s.seq, 0)) > (?1, ?2, ?3)
         ORDER BY r.parked_at, r.id, coalesce(s.seq, 0) LIMIT ?4"
    ))?;
    let rows = statement.query_map((at, run, step, limit), |row| from_row(row, environment))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Those of one run.
pub(super) fn of(conn: &Connection, environment: &Name, run: RunId) -> rusqlite::Result<Vec<Request>> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} AND r.id = ?1 ORDER BY s.seq"))?;
    let rows = statement.query_map([run], |row| from_row(row, environment))?;
    rows.collect()
}

/// Those of all runs below one, the oldest first.
pub(super) fn below(conn: &Connection, environment: &Name, run: RunId) -> rusqlite::Result<Vec<Request>> {
    let mut statement = conn.prepare_cached(&format!(
        "{BELOW} {SELECT} AND r.id IN (SELECT id FROM below) ORDER BY r.parked_at, r.id, coalesce(s.seq, 0)"
    ))?;
    let rows = statement.query_map([run], |row| from_row(row, environment))?;
    rows.collect()
}

fn from_row(row: &Row<'_>, environment: &Name) -> rusqlite::Result<Request> {
    let (run_id, waiting_for, step): (RunId, WaitingFor, Option<i64>) = (row.get(0)?, row.get(2)?, row.get(4)?);
    let arguments: Option<Json<Value>> = row.get(6)?;
    let asked = arguments.filter(|_| waiting_for == WaitingFor::Question).and_then(|Json(asked)| question(asked));
    let opened_at: Timestamp = row.get(3)?;
    let (question, choices) = asked.map(|asked| (asked.question, asked.choices)).unzip();
    let choices: Vec<String> = choices.unwrap_or_default();
    let answer_with = match Request::offers_a_decision(&choices) {
        true => Request::answer_command(run_id, step),
        false => Request::command(run_id, waiting_for, step),
    };
    Ok(Request {
        run_id,
        environment: environment.clone(),
        agent: row.get(1)?,
        waiting_for,
        step,
        tool: row.get(5)?,
        question,
        choices,
        opened_at,
        expires_at: (waiting_for == WaitingFor::Question).then_some(opened_at + QUESTION_EXPIRY),
        answer_with,
    })
}

/// What the arguments of a call of `ask_user` ask; they were checked before the call was journaled.
fn question(arguments: Value) -> Option<Question> {
    serde_json::from_value(arguments).ok()
}
