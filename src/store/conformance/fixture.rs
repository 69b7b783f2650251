//! What the cases are made of: a store with its clock, and short ways to write down runs, steps and entries.

use super::Surroundings;
use crate::clock::Clock;
use crate::domain::{
    AgentDefinition, AgentId, AuditEntry, AuditOutcome, Cause, Effect, EnvironmentNumber, EventType, Limits,
    ModelChoice, Name, OnInDoubt, Origin, PrincipalKind, PrincipalRef, Run, RunId, StepKind, StepStatus, ToolEffect,
    Usage,
};
use crate::error::{Error, Result};
use crate::store::{
    AgentRow, AgentWrite, Claim, Closed, Grant, Intent, JournalBatch, Outcome, Owner, Store, Submit, Submitted,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment that the suite works in.
pub const ENVIRONMENT: &str = "conformance";

/// Name and number of the environment that the suite works in.
pub fn environment() -> Result<(Name, EnvironmentNumber)> {
    Ok((name(ENVIRONMENT)?, present(EnvironmentNumber::new(7), "the number")?))
}

/// The store of one case.
#[derive(Debug)]
pub(in crate::store) struct Subject {
    pub(in crate::store) store: Arc<dyn Store>,
    pub(in crate::store) surroundings: Surroundings,
    ids: AtomicU64,
}

pub(in crate::store) fn name(text: &str) -> Result<Name> {
    Name::new(text).map_err(|invalid| Error::invalid_input(invalid.to_string()))
}

/// `value`, or an error that says what was missing.
pub(in crate::store) fn present<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| Error::internal(format!("{what} is missing")))
}

pub(in crate::store) fn owner(text: &str) -> Owner {
    Owner(text.to_owned())
}

/// The same right once more, as a zombie would hold it.
pub(in crate::store) fn stolen(grant: &Grant) -> Grant {
    Grant { run_id: grant.run_id, epoch: grant.epoch }
}

impl Subject {
    pub(in crate::store) fn new(store: Arc<dyn Store>, surroundings: Surroundings) -> Self {
        Self { store, surroundings, ids: AtomicU64::new(1) }
    }

    pub(in crate::store) fn advance(&self, millis: u64) {
        self.surroundings.clock.advance(Duration::from_millis(millis));
    }

    pub(in crate::store) fn now(&self) -> crate::domain::Timestamp {
        self.surroundings.clock.now()
    }

    pub(in crate::store) fn new_id(&self) -> Result<RunId> {
        Ok(RunId::new(self.now(), environment()?.1, self.ids.fetch_add(1, Ordering::Relaxed)))
    }

    pub(in crate::store) fn entry(&self, action: &str) -> AuditEntry {
        AuditEntry {
            at: self.now(),
            principal: principal("ada"),
            origin: Origin::Cli,
            cause: Cause::call(),
            action: action.to_owned(),
            target: None,
            environment: Name::new(ENVIRONMENT).ok(),
            outcome: AuditOutcome::Done,
            reason: None,
            request_id: "request-1".to_owned(),
            config_revision: Some("config-1".to_owned()),
            details: Some(json!({ "n": 1 })),
        }
    }

    /// Creates an agent at revision `r1`.
    pub(in crate::store) async fn agent(&self, called: &str) -> Result<AgentRow> {
        self.store.agent_write(agent_write(called, "r1", None)?, self.entry("agent.create")).await
    }

    /// What submits to `agent` look like; change what the case is about.
    pub(in crate::store) fn submission(&self, agent: &AgentRow) -> Result<Submit> {
        Ok(Submit {
            id: self.new_id()?,
            agent_id: agent.id,
            revision: agent.revision.clone(),
            model: ModelChoice { provider: "offline".into(), id: "echo".into(), reason: "only one".into() },
            input: json!({ "userInput": "hello" }),
            origin: Origin::Cli,
            cause: Cause::call(),
            principal: principal("ada"),
            parent: None,
            max_steps: 8,
            timeout_ms: 60_000,
            limits: Limits::default(),
            idempotency_key: None,
            config_revision: Some("config-1".to_owned()),
            caller_credentials: false,
            reserved_for: None,
            queue_limit: 100,
            audit: self.entry("agent.run"),
        })
    }

    pub(in crate::store) async fn submit(&self, agent: &AgentRow) -> Result<Submitted> {
        self.store.submit(self.submission(agent)?).await
    }

    /// The oldest queued run, claimed for `by`.
    pub(in crate::store) async fn claim(&self, by: &str) -> Result<Claim> {
        present(self.store.claim(&owner(by), 1).await?.pop(), "a claim")
    }

    /// A fresh run in the hands of `a`.
    pub(in crate::store) async fn running(&self) -> Result<Claim> {
        let agent = self.agent("runner").await?;
        self.submit(&agent).await?;
        self.claim("a").await
    }

    pub(in crate::store) async fn run(&self, id: RunId) -> Result<Run> {
        present(self.store.run(id).await?, "the run")
    }

    /// The types of the run's stored events, whose positions have to be without gaps.
    pub(in crate::store) async fn event_types(&self, id: RunId) -> Result<Vec<EventType>> {
        let events = self.store.events_after(id, 0, 1_000).await?;
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{events:?}");
        Ok(events.into_iter().map(|event| event.r#type).collect())
    }

    /// The recorded actions, oldest first.
    pub(in crate::store) async fn actions(&self) -> Result<Vec<String>> {
        Ok(self.store.audit_after(0, 1_000).await?.into_iter().map(|row| row.entry.action).collect())
    }
}

pub(in crate::store) fn principal(id: &str) -> PrincipalRef {
    PrincipalRef { kind: PrincipalKind::User, id: id.to_owned(), name: id.to_owned() }
}

pub(in crate::store) fn agent_write(called: &str, revision: &str, expected: Option<&str>) -> Result<AgentWrite> {
    Ok(AgentWrite {
        definition: AgentDefinition {
            name: name(called)?,
            display_name: None,
            description: Some(format!("{called} at {revision}")),
            tags: vec!["ops".to_owned()],
            model: None,
            max_steps: Some(8),
            timeout_ms: None,
            plan: false,
            tools: vec!["files__*".to_owned()],
            agents: Vec::new(),
            input_schema: None,
            output_schema: None,
            schedule: None,
            approval: None,
            limits: None,
            retry: None,
            on_in_doubt: OnInDoubt::Ask,
            prompt: "{{userInput}}".to_owned(),
        },
        revision: revision.to_owned(),
        bytes: format!("{called} {revision}").into_bytes(),
        file: format!("environments/{ENVIRONMENT}/agents/{called}.prompt"),
        expected: expected.map(str::to_owned),
    })
}

/// The intent of a tool call.
pub(in crate::store) fn tool_call(seq: i64, r#try: i64) -> Intent {
    Intent {
        seq,
        turn: 1,
        kind: StepKind::Tool,
        r#try,
        name: "files__write".to_owned(),
        effect: Some(ToolEffect { effect: Effect::Write, idempotent: false, open_world: true, trusted: true }),
        idempotency_key: Some(format!("key-{seq}")),
        arguments: Some(json!({ "path": "a.txt", "z": 1, "a": 2 })),
        call_id: Some(format!("call-{seq}")),
        closed: None,
        replaces: None,
        audit: None,
    }
}

/// The intent of a model call.
pub(in crate::store) fn model_call(seq: i64) -> Intent {
    Intent {
        kind: StepKind::Model,
        name: "offline/echo".to_owned(),
        effect: None,
        arguments: None,
        call_id: None,
        ..tool_call(seq, 1)
    }
}

pub(in crate::store) fn closed(status: StepStatus, result: Value) -> Closed {
    Closed { result: Some(result), ..Closed::without_result(status, None) }
}

pub(in crate::store) fn outcome(seq: i64, r#try: i64, closed: Closed) -> Outcome {
    Outcome { seq, r#try, closed, audit: None }
}

pub(in crate::store) fn begins(intents: Vec<Intent>) -> JournalBatch {
    JournalBatch { intents, turns: 1, ..JournalBatch::default() }
}

pub(in crate::store) fn ends(outcomes: Vec<Outcome>) -> JournalBatch {
    JournalBatch { outcomes, turns: 1, ..JournalBatch::default() }
}

pub(in crate::store) fn usage(tokens: i64) -> Usage {
    Usage {
        input_tokens: tokens,
        cached_input_tokens: 1,
        output_tokens: 2 * tokens,
        reasoning_tokens: 3,
        cost_microusd: Some(10 * tokens),
    }
}

/// The handle that no agent has.
pub(in crate::store) const NO_AGENT: AgentId = 9_999;
