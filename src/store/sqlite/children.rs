//! Runs that are calls of others: who waits for whom, and how an end travels up and down.

use super::run_state::RunState;
use super::transaction::Tx;
use super::{ending, journal, queue, requests, steps};
use crate::domain::{
    EventType, Name, ParentStep, Run, RunErrorKind, RunId, RunStatus, StepStatus, Timestamp, WaitingFor,
};
use crate::error::{Error, Result};
use crate::store::{Ancestor, Closed, Ending, Grant, Written};
use rusqlite::Connection;
use serde_json::{Value, json};

/// Refuses a call that nobody waits for any more: its run has ended, or was called off, or has the outcome already.
pub(super) fn expect_caller(tx: &Tx<'_>, parent: ParentStep) -> Result<()> {
    let gone = |why: &str| Error::conflict(format!("run `{}` doesn't wait for this run: {why}", parent.run));
    let state = RunState::load(tx.conn, parent.run)?.ok_or_else(|| gone("it doesn't exist"))?;
    if state.status() != RunStatus::Running || state.cancel_requested {
        return Err(gone("it is over"));
    }
    let is_open = steps::open(tx.conn, parent.run)?.iter().any(|row| row.step.seq == parent.step);
    if is_open { Ok(()) } else { Err(gone("the step has its outcome")) }
}

/// Gives the worker back until the calls that are other runs have ended.
pub(super) fn wait(tx: &mut Tx<'_>, environment: &Name, grant: &Grant) -> Result<Written> {
    let Some(mut state) = RunState::held(tx.conn, grant)? else { return Ok(Written::Stale) };
    if state.cancel_requested {
        ending::end(tx, environment, state, Ending::Cancelled)?;
        return Ok(Written::Stale);
    }
    let open = steps::open(tx.conn, state.id)?;
    if open.is_empty() {
        state.keep_attempt = true;
        queue::requeue(tx, &mut state)?;
        return Ok(Written::Done);
    }
    let live = live(tx.conn, state.id)?;
    if let Some(lost) = open.iter().find(|row| !live.iter().any(|child| child.step == Some(row.step.seq))) {
        return Err(Error::internal(format!("step {} of run `{}` waits for no run", lost.step.seq, state.id)));
    }
    state.owner = None;
    state.waiting_for = Some(WaitingFor::Child);
    tell_of_waiting(tx, environment, &mut state, &live)?;
    Ok(Written::Done)
}

/// Tells what a run waits for: the runs that it has called, and what is asked below it.
fn tell_of_waiting(tx: &mut Tx<'_>, environment: &Name, state: &mut RunState, live: &[Live]) -> Result<()> {
    let children: Vec<Value> =
        live.iter().map(|child| json!({ "run": child.id, "agent": child.agent, "step": child.step })).collect();
    let mut data = json!({ "status": state.status(), "waiting_for": state.waiting_for, "children": children });
    let asked = requests::below(tx.conn, environment, state.id)?;
    if !asked.is_empty() {
        data["requests"] = json!(asked);
    }
    state.emit(tx, EventType::RunWaiting, data)?;
    state.save(tx)
}

/// A run has begun to wait for a person. Those that wait for it, however far above, are told: whoever follows one of them looks there alone.
pub(super) fn tell_above(tx: &mut Tx<'_>, environment: &Name, run: &RunState) -> Result<()> {
    let mut next = run.parent;
    while let Some(parent) = next {
        let Some(mut state) = RunState::load(tx.conn, parent.run)? else { return Ok(()) };
        if state.waiting_for == Some(WaitingFor::Child) {
            let live = live(tx.conn, state.id)?;
            tell_of_waiting(tx, environment, &mut state, &live)?;
        }
        next = state.parent;
    }
    Ok(())
}

/// A call that hasn't ended.
struct Live {
    id: RunId,
    agent: Name,
    step: Option<i64>,
}

fn live(conn: &Connection, parent: RunId) -> Result<Vec<Live>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, agent_name, parent_step FROM runs
         WHERE parent_run_id = ?1 AND status IN ('queued', 'running', 'input_required') ORDER BY created_at, id",
    )?;
    let rows =
        statement.query_map([parent], |row| Ok(Live { id: row.get(0)?, agent: row.get(1)?, step: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A run has ended: the step whose call it was gets its outcome, and the run that waited for it goes on if it was the last.
pub(super) fn ended(tx: &mut Tx<'_>, run: &Run, parent: Option<ParentStep>, ending: &Ending) -> Result<()> {
    let Some(parent) = parent else { return Ok(()) };
    let Some(mut state) = RunState::load(tx.conn, parent.run)?.filter(|state| !state.status().is_terminal()) else {
        return Ok(());
    };
    let open = steps::open(tx.conn, parent.run)?;
    let Some(call) = open.iter().find(|row| row.step.seq == parent.step) else { return Ok(()) };
    journal::close(tx, &mut state, call.step.seq, call.step.r#try, &outcome(run, ending))?;
    state.save_progress(tx)?;
    if open.len() == 1 && state.waiting_for == Some(WaitingFor::Child) {
        state.keep_attempt = true;
        queue::requeue(tx, &mut state)?;
    }
    Ok(())
}

/// What a call comes to, in the form in which a tool answers.
fn outcome(run: &Run, ending: &Ending) -> Closed {
    let (id, agent) = (run.id, &run.agent.name);
    let failed = |reason: String| Closed::without_result(StepStatus::Failed, Some(reason));
    match ending {
        Ending::Completed { output } => {
            let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
            let mut result = json!({ "content": [{ "type": "text", "text": text }], "isError": false });
            if output.is_object() {
                result["structuredContent"] = output.clone();
            }
            result["_meta"] = json!({ "io.station/run": id });
            Closed { result: Some(result), ..Closed::without_result(StepStatus::Completed, None) }
        }
        Ending::Failed { kind, message } => {
            let kind = serde_json::to_value(kind).unwrap_or_default();
            failed(format!("agent `{agent}` failed ({}) in run {id}: {message}", kind.as_str().unwrap_or_default()))
        }
        Ending::Cancelled => failed(format!("run {id} of agent `{agent}` was cancelled")),
    }
}

/// Cancels whatever `run` has called and has not ended, with all below it. What executes is asked to stop.
pub(super) fn cancel_below(tx: &mut Tx<'_>, environment: &Name, run: RunId) -> Result<()> {
    for child in live(tx.conn, run)? {
        let Some(mut state) = RunState::load(tx.conn, child.id)? else { continue };
        if state.executes() {
            state.cancel_requested = true;
            state.save(tx)?;
            cancel_below(tx, environment, child.id)?;
        } else {
            ending::end(tx, environment, state, Ending::Cancelled)?;
        }
    }
    Ok(())
}

/// Nobody's time runs while a person or a worker that goes on is waited for, or a pause holds a run: what passed since `since` is given to those too that wait for the run. What two of their
/// calls waited for at the same time is given once.
pub(super) fn give_time(tx: &Tx<'_>, run: &RunState, since: Timestamp) -> Result<()> {
    let mut next = run.parent;
    while let Some(parent) = next {
        let Some(mut state) = RunState::load(tx.conn, parent.run)? else { return Ok(()) };
        if state.waiting_for != Some(WaitingFor::Child) {
            return Ok(());
        }
        let from = state.given_until.map_or(since, |until| until.max(since));
        state.waited_ms += tx.now.millis_since(from).max(0);
        state.given_until = Some(tx.now);
        state.save(tx)?;
        next = state.parent;
    }
    Ok(())
}

/// The run and those whose calls led to it, the first one first.
pub(super) fn lineage(conn: &Connection, run: RunId) -> Result<Vec<Ancestor>> {
    let mut statement = conn.prepare_cached(
        "WITH RECURSIVE up (id, parent, depth) AS (
             SELECT id, parent_run_id, 0 FROM runs WHERE id = ?1
             UNION ALL
             SELECT r.id, r.parent_run_id, depth + 1 FROM runs r JOIN up ON r.id = up.parent
         )
         SELECT r.id, r.agent_id, r.agent_name, r.caller_credentials FROM up JOIN runs r ON r.id = up.id ORDER BY depth DESC",
    )?;
    let rows = statement.query_map([run], |row| {
        Ok(Ancestor { run: row.get(0)?, agent_id: row.get(1)?, agent: row.get(2)?, caller_credentials: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Those that wait for others beyond their time, where nobody below waits for a person, for a worker that goes on, or is held by a pause.
pub(super) fn overdue(conn: &Connection, now: Timestamp) -> Result<Vec<RunId>> {
    let mut late = conn.prepare_cached(
        "SELECT id FROM runs WHERE status = 'running' AND waiting_for = 'child' AND started_at + timeout_ms + waited_ms <= ?1
         ORDER BY created_at, id",
    )?;
    let late: Vec<RunId> = late.query_map([now], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut overdue = Vec::new();
    for run in late {
        if !waits_for_somebody(conn, run)? {
            overdue.push(run);
        }
    }
    Ok(overdue)
}

fn waits_for_somebody(conn: &Connection, run: RunId) -> Result<bool> {
    let mut statement = conn.prepare_cached(&format!(
        "{} SELECT EXISTS (SELECT 1 FROM runs WHERE id IN (SELECT id FROM below)
                           AND (status = 'input_required' OR (status = 'queued' AND parked_at IS NOT NULL)))",
        requests::BELOW
    ))?;
    Ok(statement.query_row([run], |row| row.get(0))?)
}

/// Ends an overdue run, if it still is.
pub(super) fn time_out(tx: &mut Tx<'_>, environment: &Name, run: RunId) -> Result<bool> {
    let is_overdue = overdue(tx.conn, tx.now)?.contains(&run);
    let Some(state) = RunState::load(tx.conn, run)?.filter(|_| is_overdue) else { return Ok(false) };
    let message = "the run didn't end within its timeout, while it waited for the agents that it had called; raise `timeout` in the \
                   agent's file, or `runs.timeout` in station.yml";
    let ending = Ending::Failed { kind: RunErrorKind::Timeout, message: message.to_owned() };
    ending::end(tx, environment, state, ending)?;
    Ok(true)
}

/// Runs that execute though somebody has cancelled them.
pub(super) fn called_off(conn: &Connection) -> Result<Vec<RunId>> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM runs WHERE status = 'running' AND owner IS NOT NULL AND cancel_requested ORDER BY created_at, id",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
