//! Runs that wait for somebody, and what they are told.

use super::column::Json;
use super::run_state::RunState;
use super::transaction::Tx;
use super::{children, ending, expiry, journal, queue, requests, runs};
use crate::domain::{
    Answer, AuditEntry, Decision, EventType, Name, Request, Run, RunId, RunStatus, StepStatus, WaitingFor,
};
use crate::error::{Error, Result};
use crate::store::{Ending, Grant, Written};
use serde_json::json;

/// Takes a run out of its worker's hands until somebody answers.
pub(super) fn park(
    tx: &mut Tx<'_>,
    environment: &Name,
    grant: &Grant,
    waiting_for: WaitingFor,
    steps: &[i64],
) -> Result<Written> {
    let Some(mut state) = RunState::held(tx.conn, grant)? else { return Ok(Written::Stale) };
    if state.cancel_requested {
        // It would wait for somebody who has already said what to do.
        ending::end(tx, environment, state, Ending::Cancelled)?;
        return Ok(Written::Stale);
    }
    for seq in steps {
        match waiting_for {
            WaitingFor::Question => mark_asked(tx, state.id, *seq)?,
            _ => mark_in_doubt(tx, state.id, *seq)?,
        }
    }
    state.turn_to(RunStatus::InputRequired)?;
    state.waiting_for = Some(waiting_for);
    state.parked_at = Some(tx.now);
    state.owner = None;
    state.save(tx)?;
    let asked = match waiting_for {
        WaitingFor::Question => requests::of(tx.conn, environment, state.id)?,
        _ => Vec::new(),
    };
    let mut waiting = json!({ "status": state.status(), "waiting_for": waiting_for });
    let mut opened = json!({ "waiting_for": waiting_for, "steps": steps });
    if !asked.is_empty() {
        waiting["requests"] = json!(asked);
        opened["requests"] = json!(asked);
    }
    state.emit(tx, EventType::RunWaiting, waiting)?;
    state.emit(tx, EventType::RequestOpened, opened)?;
    state.save(tx)?;
    children::tell_above(tx, environment, &state)?;
    Ok(Written::Done)
}

/// Only the newest try of a call can be open.
fn mark_in_doubt(tx: &Tx<'_>, run: RunId, seq: i64) -> Result<()> {
    let marked = tx
        .conn
        .prepare_cached(
            "UPDATE steps SET status = 'in_doubt', waiting_for = 'in_doubt'
             WHERE run_id = ?1 AND seq = ?2 AND status IN ('started', 'in_doubt') AND answer IS NULL
               AND try = (SELECT max(try) FROM steps WHERE run_id = ?1 AND seq = ?2)",
        )?
        .execute((run, seq))?;
    if marked == 0 {
        return Err(Error::internal(format!("step {seq} of run `{run}` isn't open, so it can't be in doubt")));
    }
    Ok(())
}

/// A question stays an open call: its answer is its result.
fn mark_asked(tx: &Tx<'_>, run: RunId, seq: i64) -> Result<()> {
    let marked = tx
        .conn
        .prepare_cached(
            "UPDATE steps SET waiting_for = 'question' WHERE run_id = ?1 AND seq = ?2 AND status = 'started'",
        )?
        .execute((run, seq))?;
    if marked == 0 {
        return Err(Error::internal(format!("step {seq} of run `{run}` isn't open, so it can't ask anything")));
    }
    Ok(())
}

/// A step that somebody has to settle: in doubt, or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) seq: i64,
    pub(super) r#try: i64,
}

/// Settles what a parked run waits for, and queues it again once nothing is left.
pub(super) fn answer(
    tx: &mut Tx<'_>,
    environment: &Name,
    id: RunId,
    seq: Option<i64>,
    answer: &Answer,
    audit: AuditEntry,
) -> Result<Run> {
    tx.require_audit()?;
    let missing = || Error::not_found(format!("run `{id}` doesn't exist")).hint("list the runs with `stn run list`");
    let mut state = RunState::load(tx.conn, id)?.ok_or_else(missing)?;
    let waiting_for = state.waiting_for.filter(|_| state.status() == RunStatus::InputRequired).ok_or_else(|| {
        Error::conflict(format!("run `{id}` is `{}` and waits for no answer", state.status().as_str()))
            .hint(format!("`stn run get {id}` shows how it stands, and `stn request list` what runs wait for"))
    })?;
    if expiry::is_over(&state, tx.now) {
        return Err(Error::conflict(format!("what run `{id}` asks has expired: nobody had answered in time"))
            .hint(format!("the run goes on without the answer: `stn run get {id}` shows it")));
    }
    let open = match waiting_for {
        WaitingFor::Question => questions(tx, id)?,
        _ => doubts(tx, id)?,
    };
    let settled = match waiting_for {
        WaitingFor::InDoubt => chosen(id, &open, seq)?,
        WaitingFor::Question => asked(id, &open, seq, answer)?,
        _ => only_resumed(id, waiting_for, seq, answer)?,
    };
    for doubt in &settled {
        settle(tx, &mut state, *doubt, answer)?;
    }
    let steps: Vec<i64> = settled.iter().map(|doubt| doubt.seq).collect();
    let told = json!({ "waiting_for": waiting_for, "decision": answer.decision, "steps": steps });
    state.emit(tx, EventType::RequestAnswered, told)?;
    if open.len() == settled.len() {
        count_wait(tx, &mut state)?;
        queue::requeue(tx, &mut state)?;
    } else {
        state.save(tx)?;
    }
    tx.audit(audit)?;
    runs::get(tx.conn, environment, id)?.ok_or_else(missing)
}

/// The time that a run was parked, held by a pause, or waited for a worker to go on with it, counts for nobody's timeout. Its own doesn't go on before it has begun.
pub(super) fn count_wait(tx: &Tx<'_>, state: &mut RunState) -> Result<()> {
    let Some(since) = state.parked_at.take() else { return Ok(()) };
    let millis = tx.now.millis_since(since);
    if state.started_at.is_some() {
        state.waited_ms += millis;
    }
    children::give_time(tx, state, since)
}

fn doubts(tx: &Tx<'_>, run: RunId) -> Result<Vec<Doubt>> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT seq, try FROM steps WHERE run_id = ?1 AND status = 'in_doubt' AND answer IS NULL ORDER BY seq, try",
    )?;
    let rows = statement.query_map([run], |row| Ok(Doubt { seq: row.get(0)?, r#try: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn questions(tx: &Tx<'_>, run: RunId) -> Result<Vec<Doubt>> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT seq, try FROM steps WHERE run_id = ?1 AND status = 'started' AND waiting_for = 'question' ORDER BY seq, try",
    )?;
    let rows = statement.query_map([run], |row| Ok(Doubt { seq: row.get(0)?, r#try: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The one question that is answered.
fn asked(run: RunId, open: &[Doubt], seq: Option<i64>, answer: &Answer) -> Result<Vec<Doubt>> {
    if answer.decision != Decision::Result {
        return Err(Error::conflict(format!("run `{run}` waits for the answer to a question"))
            .hint(format!("give it: {}", Request::answer_command(run, seq)))
            .field("decision"));
    }
    let steps: Vec<i64> = open.iter().map(|question| question.seq).collect();
    match (seq, open) {
        (None, [only]) => Ok(vec![*only]),
        (None, _) => Err(Error::conflict(format!("run `{run}` asks several questions"))
            .hint(format!("say which step is answered: {steps:?}"))
            .field("step")),
        (Some(seq), _) => match open.iter().find(|question| question.seq == seq) {
            Some(question) => Ok(vec![*question]),
            None => Err(Error::conflict(format!("step {seq} of run `{run}` asks nothing"))
                .hint(format!("steps that do: {steps:?}"))
                .field("step")),
        },
    }
}

fn chosen(run: RunId, open: &[Doubt], seq: Option<i64>) -> Result<Vec<Doubt>> {
    let chosen: Vec<Doubt> = open.iter().copied().filter(|doubt| seq.is_none_or(|seq| seq == doubt.seq)).collect();
    match seq {
        Some(seq) if chosen.is_empty() => {
            let open: Vec<i64> = open.iter().map(|doubt| doubt.seq).collect();
            Err(Error::conflict(format!("step {seq} of run `{run}` isn't in doubt"))
                .hint(format!("steps in doubt: {open:?}"))
                .field("step"))
        }
        _ => Ok(chosen),
    }
}

/// What else a run can wait for is outside of its journal; when it is there, the run simply goes on.
fn only_resumed(run: RunId, waiting_for: WaitingFor, seq: Option<i64>, answer: &Answer) -> Result<Vec<Doubt>> {
    if seq.is_none() && answer.decision == Decision::Retry {
        return Ok(Vec::new());
    }
    let awaited = match waiting_for {
        WaitingFor::Provider => "the key that its model is asked with",
        WaitingFor::Budget => "more budget",
        _ => "something else",
    };
    let command = Request::command(run, waiting_for, None);
    Err(Error::conflict(format!("run `{run}` waits for {awaited}, not for a decision on a step"))
        .hint(format!("once that is there: `{command}`"))
        .field("decision"))
}

fn settle(tx: &mut Tx<'_>, state: &mut RunState, doubt: Doubt, answer: &Answer) -> Result<()> {
    let Doubt { seq, r#try } = doubt;
    // A step to be retried stays in doubt for good: nobody will ever know. What counts is the next try. Of one whose result was given,
    // nothing is wrong any more.
    let status = match answer.decision {
        Decision::Retry => StepStatus::InDoubt,
        Decision::Skip => StepStatus::Skipped,
        Decision::Result => StepStatus::Completed,
    };
    tx.conn
        .prepare_cached(
            "UPDATE steps SET status = ?4, answer = ?5, ended_at = ?6, waiting_for = NULL,
                 error = CASE ?4 WHEN 'completed' THEN NULL ELSE error END
             WHERE run_id = ?1 AND seq = ?2 AND try = ?3",
        )?
        .execute((state.id, seq, r#try, status, Json(answer), tx.now))?;
    if answer.decision == Decision::Result {
        keep_given_result(tx, state.id, doubt, answer)?;
    }
    match answer.decision {
        Decision::Retry => Ok(()),
        Decision::Skip | Decision::Result => journal::emit_step(tx, state, journal::end_event(status), seq, r#try),
    }
}

fn keep_given_result(tx: &Tx<'_>, run: RunId, doubt: Doubt, answer: &Answer) -> Result<()> {
    let text = answer.result.as_deref().ok_or_else(|| {
        Error::invalid_input("the decision `result` needs the result").hint("give the text in `result`").field("result")
    })?;
    let result = json!({ "content": [{ "type": "text", "text": text }], "isError": false });
    tx.conn
        .prepare_cached(
            "INSERT INTO step_texts (run_id, seq, try, result, shown) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET result = excluded.result, shown = excluded.shown",
        )?
        .execute((run, doubt.seq, doubt.r#try, Json(result), text))?;
    Ok(())
}
