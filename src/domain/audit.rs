//! Audit entries: who did what to what, with which outcome. Written in the transaction that does the thing.

use super::{Cause, Name, Origin, Principal, PrincipalRef, Run, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How an audited act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was begun; a later entry tells the end (a tool call's intent).
    Started,
    Done,
    Failed,
    Denied,
}

/// One entry. `seq` is given by the store; arguments and results are never part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub principal: PrincipalRef,
    pub origin: Origin,
    pub cause: Cause,
    /// `<noun>.<verb>`, such as `agent.run`.
    pub action: String,
    /// What it was done to: an agent's name, a run's id, a tool's name.
    pub target: Option<String>,
    pub environment: Option<Name>,
    pub outcome: AuditOutcome,
    /// With `denied` and `failed`: the error's kind and message.
    pub reason: Option<String>,
    pub request_id: String,
    /// The files' state that the act was done under.
    pub config_revision: Option<String>,
    /// Small structured facts: revisions, hashes, step numbers.
    pub details: Option<Value>,
}

impl AuditEntry {
    /// What `run` itself does: the agent acts, in its run. `request_id` is the run's id, or its step's idempotency key.
    pub fn in_run(
        run: &Run,
        at: Timestamp,
        action: &str,
        target: String,
        request_id: String,
        outcome: AuditOutcome,
    ) -> Self {
        Self {
            at,
            principal: run.as_principal(),
            origin: Origin::Run,
            cause: Cause::run(run.id),
            action: action.to_owned(),
            target: Some(target),
            environment: Some(run.environment.clone()),
            outcome,
            reason: None,
            request_id,
            config_revision: run.config_revision.clone(),
            details: None,
        }
    }

    /// What the station does by itself to `environment`, on behalf of the home's owner: whoever started the process. `request` says on which
    /// occasion.
    pub fn by_the_station(at: Timestamp, action: &str, environment: &Name, request: &str) -> Self {
        Self {
            at,
            principal: Principal::local_owner().who,
            origin: Origin::Cli,
            cause: Cause::call(),
            action: action.to_owned(),
            target: Some(environment.to_string()),
            environment: Some(environment.clone()),
            outcome: AuditOutcome::Done,
            reason: None,
            request_id: request.to_owned(),
            config_revision: None,
            details: None,
        }
    }

    /// The same entry with the reason of a `denied` or `failed`.
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}
