//! Runs and who executes them: claim, release, take over.

use super::run_state::RunState;
use super::transaction::Tx;
use super::{agents, ending, park, runs};
use crate::domain::{AgentDefinition, AgentId, EventType, Name, RunErrorKind, RunId, RunStatus, Timestamp};
use crate::error::{Error, Result};
use crate::store::{Claim, Ending, Grant, Owner, Written};
use rusqlite::{Connection, OptionalExtension};
use serde_json::json;
use std::time::Duration;

/// Submits and claims ask these each time; of the runs, all read the index of queued ones alone. What is queued of a paused agent
/// doesn't count: it waits for somebody, not for a worker. To look each run's agent up takes ten times as long as to count, so it is asked
/// first whether any is paused.
pub(super) const ANY_PAUSED: &str = "SELECT EXISTS (SELECT 1 FROM agents WHERE paused_at IS NOT NULL)
                                         OR EXISTS (SELECT 1 FROM paused_without_file)";
pub(super) const ALL: &str = "SELECT count(*) FROM runs WHERE status = 'queued'";
pub(super) const LENGTH: &str = "SELECT count(*) FROM runs
                                 WHERE status = 'queued'
                                 AND agent_id NOT IN (SELECT id FROM agents WHERE paused_at IS NOT NULL)
                                 AND agent_id NOT IN (SELECT agent_id FROM paused_without_file)";
pub(super) const OLDEST: &str = "SELECT id FROM runs
                                 WHERE status = 'queued'
                                 AND agent_id NOT IN (SELECT id FROM agents WHERE paused_at IS NOT NULL)
                                 AND agent_id NOT IN (SELECT agent_id FROM paused_without_file)
                                 ORDER BY parent_run_id IS NULL, created_at, id LIMIT ?1";

/// Runs that are queued for a worker.
pub(super) fn length(conn: &Connection) -> Result<i64> {
    let any_paused: bool = conn.prepare_cached(ANY_PAUSED)?.query_row([], |row| row.get(0))?;
    let counting = if any_paused { LENGTH } else { ALL };
    Ok(conn.prepare_cached(counting)?.query_row([], |row| row.get(0))?)
}

/// Takes up to `want` queued runs, oldest first, and before them those that others wait for: a tree is brought to its end before the next
/// one is begun, and no caller's time passes while its call stands behind strangers. None while the audit file is behind: their first intent would be refused.
pub(super) fn claim(tx: &mut Tx<'_>, environment: &Name, owner: &Owner, want: u32) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    if tx.audit_is_behind() {
        return Ok(claims);
    }
    let next: Vec<RunId> =
        tx.conn.prepare_cached(OLDEST)?.query_map([want], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in next {
        if let Some(state) = RunState::load(tx.conn, id)? {
            claims.extend(claim_one(tx, environment, state, owner)?);
        }
    }
    Ok(claims)
}

/// Puts a queued run into the hands of `owner`. `None`: its definition can't be read any more, and it has failed.
pub(super) fn claim_one(
    tx: &mut Tx<'_>,
    environment: &Name,
    mut state: RunState,
    owner: &Owner,
) -> Result<Option<Claim>> {
    let first = state.started_at.is_none();
    state.turn_to(RunStatus::Running)?;
    park::count_wait(tx, &mut state)?;
    state.epoch += 1;
    state.attempt += i64::from(!state.keep_attempt);
    state.keep_attempt = false;
    state.owner = Some(owner.0.clone());
    let started_at = *state.started_at.get_or_insert(tx.now);
    let kind = if first { EventType::RunStarted } else { EventType::RunResumed };
    state.emit(tx, kind, json!({ "status": state.status(), "attempt": state.attempt }))?;
    state.save(tx)?;
    let run = runs::get(tx.conn, environment, state.id)?
        .ok_or_else(|| Error::internal("a run vanished while it was claimed"))?;
    let Some(definition) = readable_definition(tx.conn, run.agent.id, &run.agent.revision) else {
        // Left in the queue, it would stop every run behind it.
        let message = format!("revision `{}` of agent `{}` can't be read", run.agent.revision, run.agent.name);
        ending::end(tx, environment, state, Ending::Failed { kind: RunErrorKind::Internal, message })?;
        return Ok(None);
    };
    let limits = limits(tx.conn, state.id)?;
    Ok(Some(Claim {
        grant: Grant { run_id: state.id, epoch: state.epoch },
        run,
        definition,
        max_steps: limits.max_steps,
        deadline: deadline(started_at, limits.timeout_ms, state.waited_ms),
        caller_credentials: limits.caller_credentials,
        pinned_tools: limits.pinned_tools,
    }))
}

fn readable_definition(conn: &Connection, agent: i64, revision: &str) -> Option<AgentDefinition> {
    agents::definition(conn, agent, revision)
        .inspect_err(|error| tracing::error!(agent, revision, ?error, "a revision can't be read"))
        .ok()
        .flatten()
}

fn deadline(started_at: Timestamp, timeout_ms: i64, waited_ms: i64) -> Timestamp {
    let allowed = timeout_ms.saturating_add(waited_ms).max(0);
    started_at + Duration::from_millis(allowed.unsigned_abs())
}

/// What was fixed at the submit and the executor needs.
struct Limits {
    max_steps: i64,
    timeout_ms: i64,
    caller_credentials: bool,
    pinned_tools: Option<String>,
}

fn limits(conn: &Connection, id: RunId) -> Result<Limits> {
    let mut statement = conn.prepare_cached(
        "SELECT r.max_steps, r.timeout_ms, r.caller_credentials, t.pinned_tools
         FROM runs r JOIN run_texts t ON t.run_id = r.id WHERE r.id = ?1",
    )?;
    Ok(statement.query_row([id], |row| {
        Ok(Limits {
            max_steps: row.get(0)?,
            timeout_ms: row.get(1)?,
            caller_credentials: row.get(2)?,
            pinned_tools: row.get(3)?,
        })
    })?)
}

/// Hands a run back within the same attempt.
pub(super) fn release(tx: &mut Tx<'_>, environment: &Name, grant: &Grant) -> Result<Written> {
    let Some(mut state) = RunState::held(tx.conn, grant)? else { return Ok(Written::Stale) };
    if state.cancel_requested {
        ending::end(tx, environment, state, Ending::Cancelled)?;
        return Ok(Written::Stale);
    }
    state.keep_attempt = true;
    requeue(tx, &mut state)?;
    Ok(Written::Done)
}

/// Back to the queue, out of anybody's hands. Nobody works on it from now on.
pub(super) fn requeue(tx: &Tx<'_>, state: &mut RunState) -> Result<()> {
    requeue_since(tx, state, tx.now)
}

fn requeue_since(tx: &Tx<'_>, state: &mut RunState, since: Timestamp) -> Result<()> {
    state.turn_to(RunStatus::Queued)?;
    state.owner = None;
    state.waiting_for = None;
    state.parked_at = Some(since);
    state.save(tx)
}

/// What is queued of an agent is held from now on.
pub(super) fn hold(tx: &Tx<'_>, agent: AgentId) -> Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE runs SET parked_at = ?2 WHERE agent_id = ?1 AND status = 'queued' AND parked_at IS NULL",
        )?
        .execute((agent, tx.now))?;
    Ok(())
}

/// What is queued of an agent isn't held any more; the time that it was counts for nobody.
pub(super) fn let_go(tx: &Tx<'_>, agent: AgentId) -> Result<()> {
    let held: Vec<RunId> = tx
        .conn
        .prepare_cached(
            "SELECT id FROM runs WHERE agent_id = ?1 AND status = 'queued' AND parked_at IS NOT NULL ORDER BY created_at, id",
        )?
        .query_map([agent], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for run in held {
        let Some(mut state) = RunState::load(tx.conn, run)? else { continue };
        park::count_wait(tx, &mut state)?;
        // One that has begun goes on waiting, for a worker.
        state.parked_at = state.started_at.map(|_| tx.now);
        state.save(tx)?;
    }
    Ok(())
}

/// Frees what other incarnations held; what waits for others goes on waiting. Their epoch is over, so that whatever is left of them can write nothing more.
pub(super) fn take_over(tx: &mut Tx<'_>, environment: &Name, owner: &Owner) -> Result<u64> {
    let left: Vec<RunId> = tx
        .conn
        .prepare_cached("SELECT id FROM runs WHERE status = 'running' AND waiting_for IS NULL AND owner IS NOT ?1 ORDER BY created_at, id")?
        .query_map([&owner.0], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    stop_callers_time(tx)?;
    let mut freed = 0;
    for id in left {
        let Some(mut state) = RunState::load(tx.conn, id)? else { continue };
        state.epoch += 1;
        if state.cancel_requested {
            ending::end(tx, environment, state, Ending::Cancelled)?;
        } else {
            // What was done after its last event is lost, and then nobody worked on it.
            let since = last_event(tx.conn, id)?.unwrap_or(tx.now);
            requeue_since(tx, &mut state, since)?;
            freed += 1;
        }
    }
    Ok(freed)
}

fn last_event(conn: &Connection, run: RunId) -> Result<Option<Timestamp>> {
    let mut statement = conn.prepare_cached("SELECT at FROM events WHERE run_id = ?1 ORDER BY seq DESC LIMIT 1")?;
    Ok(statement.query_row([run], |row| row.get(0)).optional()?)
}

/// Whoever waits for a call that hasn't begun has lost time too while nobody owned the home. How long that was isn't known, so that all
/// of the time in the queue is given.
fn stop_callers_time(tx: &Tx<'_>) -> Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE runs SET parked_at = created_at
             WHERE status = 'queued' AND parent_run_id IS NOT NULL AND parked_at IS NULL",
        )?
        .execute([])?;
    Ok(())
}
