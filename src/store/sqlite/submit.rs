//! Submitting a run.

use super::column::Json;
use super::run_state::RunState;
use super::transaction::Tx;
use super::{children, queue, runs};
use crate::domain::{AgentId, EventType, Name, PrincipalRef, Run, RunId, counted, resume_command};
use crate::error::{Error, Result};
use crate::store::{Submit, Submitted};
use rusqlite::{Connection, OptionalExtension, named_params};
use serde_json::{Value, json};

/// Queues a run; with a reservation and nothing queued before it, claims it in the same transaction.
pub(super) fn submit(tx: &mut Tx<'_>, environment: &Name, submit: Submit) -> Result<Submitted> {
    tx.require_audit()?;
    if let Some(existing) = existing(tx, environment, &submit)? {
        return Ok(existing);
    }
    if let Some(parent) = submit.parent {
        children::expect_caller(tx, parent)?;
    }
    let queued = queue::length(tx.conn)?;
    let claimed_by = submit.reserved_for.as_ref().filter(|_| queued == 0);
    // A call of a run's isn't turned away: a worker was there for its caller, who would wait for nothing.
    if claimed_by.is_none() && submit.parent.is_none() && queued >= submit.queue_limit {
        let are = if queued == 1 { "is" } else { "are" };
        let queued = counted(queued, "run");
        return Err(Error::rate_limited(format!("{queued} {are} queued, and the limit is {}", submit.queue_limit))
            .hint("wait until some have ended, or raise `runs.queue_limit`"));
    }
    let agent_name = pinned_agent(tx, environment, &submit)?;
    insert(tx, &submit, &agent_name)?;
    let mut state = RunState::load(tx.conn, submit.id)?.ok_or_else(|| vanished(submit.id))?;
    state.emit(tx, EventType::RunQueued, json!({ "status": state.status() }))?;
    let claim = match claimed_by {
        Some(owner) => queue::claim_one(tx, environment, state, owner)?,
        None => {
            state.save_progress(tx)?;
            None
        }
    };
    tx.audit(submit.audit)?;
    let run = runs::get(tx.conn, environment, submit.id)?.ok_or_else(|| vanished(submit.id))?;
    Ok(Submitted { run, existing: false, claim })
}

fn vanished(id: RunId) -> Error {
    Error::internal(format!("run `{id}` vanished while it was written"))
}

/// The run that there is already under the key of this submit.
fn existing(tx: &Tx<'_>, environment: &Name, submit: &Submit) -> Result<Option<Submitted>> {
    let Some(key) = &submit.idempotency_key else { return Ok(None) };
    let known = submitted(tx.conn, environment, (&submit.principal, submit.agent_id, key), &submit.input)?;
    Ok(known.map(|run| Submitted { run, existing: true, claim: None }))
}

/// The run that this principal submitted to this agent under the same key.
pub(super) fn submitted(
    conn: &Connection,
    environment: &Name,
    (principal, agent, key): (&PrincipalRef, AgentId, &str),
    input: &Value,
) -> Result<Option<Run>> {
    let known: Option<RunId> = conn
        .prepare_cached(
            "SELECT id FROM runs
             WHERE principal_kind = ?1 AND principal_id = ?2 AND agent_id = ?3 AND idempotency_key = ?4",
        )?
        .query_row((principal.kind, &principal.id, agent, key), |row| row.get(0))
        .optional()?;
    let Some(id) = known else { return Ok(None) };
    let run = runs::get(conn, environment, id)?.ok_or_else(|| vanished(id))?;
    if run.input != *input {
        return Err(Error::conflict(format!("idempotency key `{key}` was used for run `{id}` with another input"))
            .hint("use a new key for a new input")
            .field("idempotency_key"));
    }
    Ok(Some(run))
}

/// The name of the agent, which has to exist together with the revision that the run is to be pinned to.
fn pinned_agent(tx: &Tx<'_>, environment: &Name, submit: &Submit) -> Result<Name> {
    let agent: Option<(Name, bool, bool)> = tx
        .conn
        .prepare_cached(
            "SELECT name, paused_at IS NOT NULL,
                    EXISTS (SELECT 1 FROM agent_revisions WHERE agent_id = agents.id AND revision = ?2)
             FROM agents WHERE id = ?1",
        )?
        .query_row((submit.agent_id, &submit.revision), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match agent {
        Some((name, true, _)) => Err(Error::conflict(format!("agent `{name}` is paused"))
            .hint(format!("{} lets it run again", resume_command(&name, environment)))
            .field("agent")),
        Some((name, false, true)) => Ok(name),
        Some((name, false, false)) => {
            Err(Error::not_found(format!("agent `{name}` never had revision `{}`", submit.revision))
                .hint("read the agent again and submit the run anew"))
        }
        None => Err(Error::not_found(format!("agent `{}` doesn't exist", submit.agent_id))
            .hint("list the agents with `stn agent list`")),
    }
}

fn insert(tx: &Tx<'_>, submit: &Submit, agent_name: &Name) -> Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT INTO runs (id, agent_id, agent_name, revision, status, model_provider, model_id, model_reason, origin,
                 cause, principal_kind, principal_id, principal_name, parent_run_id, parent_step, idempotency_key, config_revision,
                 caller_credentials, max_steps, timeout_ms, max_tokens, max_cost_microusd, epoch, attempt, keep_attempt, cancel_requested, turns, steps,
                 input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_microusd, event_seq, waited_ms,
                 created_at)
             VALUES (:id, :agent_id, :agent_name, :revision, 'queued', :model_provider, :model_id, :model_reason, :origin,
                 :cause, :principal_kind, :principal_id, :principal_name, :parent_run_id, :parent_step, :idempotency_key,
                 :config_revision, :caller_credentials, :max_steps, :timeout_ms, :max_tokens, :max_cost_microusd, 0, 0, 0, 0, 0, 0,
                 0, 0, 0, 0, NULL, 0, 0, :created_at)",
        )?
        .execute(named_params! {
            ":id": submit.id,
            ":agent_id": submit.agent_id,
            ":agent_name": agent_name,
            ":revision": submit.revision,
            ":model_provider": submit.model.provider,
            ":model_id": submit.model.id,
            ":model_reason": submit.model.reason,
            ":origin": submit.origin,
            ":cause": Json(&submit.cause),
            ":principal_kind": submit.principal.kind,
            ":principal_id": submit.principal.id,
            ":principal_name": submit.principal.name,
            ":parent_run_id": submit.parent.map(|parent| parent.run),
            ":parent_step": submit.parent.map(|parent| parent.step),
            ":idempotency_key": submit.idempotency_key,
            ":config_revision": submit.config_revision,
            ":caller_credentials": submit.caller_credentials,
            ":max_steps": submit.max_steps,
            ":timeout_ms": submit.timeout_ms,
            ":max_tokens": submit.limits.tokens,
            ":max_cost_microusd": submit.limits.cost_microusd,
            ":created_at": tx.now,
        })?;
    tx.conn
        .prepare_cached("INSERT INTO run_texts (run_id, input) VALUES (?1, ?2)")?
        .execute((submit.id, Json(&submit.input)))?;
    Ok(())
}
