//! Reading runs and their events.

use super::column::Json;
use super::{queue, requests, run_state};
use crate::domain::{AgentRef, Event, ModelChoice, Name, PrincipalRef, Run, RunId, RunStatus, Timestamp, WaitingFor};
use crate::error::Result;
use crate::store::RunFilter;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row};

const SELECT: &str = "SELECT r.*, t.input, t.output, t.error,
                             (SELECT count(*) FROM runs c WHERE c.parent_run_id = r.id) AS children,
                             r.status = 'queued' AND (
                                 r.agent_id IN (SELECT id FROM agents WHERE paused_at IS NOT NULL)
                                 OR r.agent_id IN (SELECT agent_id FROM paused_without_file)
                             ) AS agent_paused
                      FROM runs r JOIN run_texts t ON t.run_id = r.id";

pub(super) fn get(conn: &Connection, environment: &Name, id: RunId) -> Result<Option<Run>> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE r.id = ?1"))?;
    let run = statement.query_row([id], |row| from_row(row, environment)).optional()?;
    run.map(|run| with_requests(conn, environment, run)).transpose()
}

/// Ids that begin with `prefix`, oldest first.
pub(super) fn by_prefix(conn: &Connection, prefix: &str, limit: u32) -> Result<Vec<RunId>> {
    if !prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
        return Ok(Vec::new());
    }
    // `~` sorts after every character of an id.
    let mut statement =
        conn.prepare_cached("SELECT id FROM runs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT ?2")?;
    let rows = statement.query_map((prefix, limit), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Newest first.
pub(super) fn list(conn: &Connection, environment: &Name, filter: &RunFilter) -> Result<Vec<Run>> {
    let mut sql = format!("{SELECT} WHERE true");
    let mut values: Vec<&dyn ToSql> = Vec::new();
    if let Some(agent) = &filter.agent {
        sql.push_str(" AND r.agent_id = ?");
        values.push(agent);
    }
    if let Some(parent) = &filter.parent {
        sql.push_str(" AND r.parent_run_id = ?");
        values.push(parent);
    }
    if !filter.statuses.is_empty() {
        let places = vec!["?"; filter.statuses.len()].join(", ");
        sql.push_str(&format!(" AND r.status IN ({places})"));
        values.extend(filter.statuses.iter().map(|status| status as &dyn ToSql));
    }
    if let Some((created_at, id)) = &filter.before {
        sql.push_str(" AND (r.created_at, r.id) < (?, ?)");
        values.extend([created_at as &dyn ToSql, id]);
    }
    sql.push_str(" ORDER BY r.created_at DESC, r.id DESC LIMIT ?");
    values.push(&filter.limit);
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(&values[..], |row| from_row(row, environment))?;
    rows.map(|run| with_requests(conn, environment, run?)).collect()
}

/// Runs that are queued or execute.
pub(super) fn live(conn: &Connection) -> Result<u64> {
    let running: i64 = conn
        .prepare_cached("SELECT count(*) FROM runs WHERE status = 'running' AND waiting_for IS NULL")?
        .query_row([], |row| row.get(0))?;
    Ok((queue::length(conn)? + running).unsigned_abs())
}

/// Runs that are queued or running, whatever they wait for. Each half reads an index of its own.
pub(super) fn under_way(conn: &Connection) -> Result<u64> {
    let count: i64 = conn
        .prepare_cached(
            "SELECT (SELECT count(*) FROM runs WHERE status = 'queued') + (SELECT count(*) FROM runs WHERE status = 'running')",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn cancel_requested(conn: &Connection, id: RunId) -> Result<bool> {
    let mut statement = conn.prepare_cached("SELECT cancel_requested FROM runs WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// Stored events after `seq`, in order.
pub(super) fn events_after(conn: &Connection, run: RunId, seq: i64, limit: u32) -> Result<Vec<Event>> {
    let mut statement =
        conn.prepare_cached("SELECT * FROM events WHERE run_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?;
    let rows = statement.query_map((run, seq, limit), event_from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn event_from_row(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        run_id: row.get("run_id")?,
        epoch: row.get("epoch")?,
        seq: row.get("seq")?,
        r#type: row.get("type")?,
        at: row.get("at")?,
        data: row.get::<_, Json<_>>("data")?.0,
    })
}

/// The run with what it asks, if it does, or what those below it ask that it waits for.
fn with_requests(conn: &Connection, environment: &Name, mut run: Run) -> Result<Run> {
    run.requests = match (run.status, run.waiting_for) {
        (RunStatus::InputRequired, _) => requests::of(conn, environment, run.id)?,
        (RunStatus::Running, Some(WaitingFor::Child)) => requests::below(conn, environment, run.id)?,
        _ => Vec::new(),
    };
    Ok(run)
}

fn from_row(row: &Row<'_>, environment: &Name) -> rusqlite::Result<Run> {
    let started_at: Option<Timestamp> = row.get("started_at")?;
    let ended_at: Option<Timestamp> = row.get("ended_at")?;
    Ok(Run {
        id: row.get("id")?,
        environment: environment.clone(),
        agent: AgentRef { id: row.get("agent_id")?, name: row.get("agent_name")?, revision: row.get("revision")? },
        status: row.get("status")?,
        waiting_for: row.get("waiting_for")?,
        agent_paused: row.get("agent_paused")?,
        input: row.get::<_, Json<_>>("input")?.0,
        output: row.get::<_, Option<Json<_>>>("output")?.map(|output| output.0),
        error: row.get("error")?,
        error_kind: row.get("error_kind")?,
        model: ModelChoice {
            provider: row.get("model_provider")?,
            id: row.get("model_id")?,
            reason: row.get("model_reason")?,
        },
        origin: row.get("origin")?,
        cause: row.get::<_, Json<_>>("cause")?.0,
        principal: PrincipalRef {
            kind: row.get("principal_kind")?,
            id: row.get("principal_id")?,
            name: row.get("principal_name")?,
        },
        requests: Vec::new(),
        parent_run_id: row.get("parent_run_id")?,
        parent_step: row.get("parent_step")?,
        children: row.get("children")?,
        attempt: row.get("attempt")?,
        turns: row.get("turns")?,
        steps: row.get("steps")?,
        usage: run_state::usage(row)?,
        config_revision: row.get("config_revision")?,
        created_at: row.get("created_at")?,
        started_at,
        ended_at,
        duration_ms: started_at.zip(ended_at).map(|(started, ended)| ended.millis_since(started)),
    })
}
