//! Calls of child agents: each is a run of its own, submitted under the step's key once the intent is committed. Its end closes the step.

use super::Executor;
use super::calls::arguments_of;
use super::history::{CallState, CallStep};
use super::issue::Try;
use super::shown::Shown;
use super::stop::{Stop, explain};
use crate::domain::{Name, ParentStep, RunId, StepStatus, ToolEffect};
use crate::error::{Error, ErrorKind, Result};
use crate::llm::ToolCall;
use crate::store::{Closed, Intent, Outcome, RunFilter};
use crate::tools::{self, Context};
use serde_json::{Value, json};
use std::collections::HashSet;

/// More calls of one run than this, ended ones among them, aren't looked for.
const MOST: u32 = 10_000;

/// A call that is to become a run.
#[derive(Debug)]
pub(super) struct ChildCall {
    step: CallStep,
    /// The call's place among those of its turn.
    at: usize,
    agent: Name,
    input: Value,
}

impl Executor<'_, '_> {
    /// The agent that a call of `tool` runs.
    pub(super) fn child(&self, tool: &str) -> Option<(Name, ToolEffect)> {
        let tool = self.tools.get(tool)?;
        Some((tool.agent.clone()?, tool.effect))
    }

    /// Journals the intent of a call of `agent`. Arguments that can't be an input are told to the model at once.
    pub(super) fn issue_child(&mut self, next: Try, call: &ToolCall, agent: Name, effect: ToolEffect) {
        let Try { at, seq, r#try, replaces } = next;
        let input = self.cut_off(at, call).map_or_else(|| arguments_of(call), Err);
        let closed = input.as_ref().err().map(|error| refused(explain(error)));
        let state = match &closed {
            Some(closed) => CallState::Done(Shown::error(closed.error.clone().unwrap_or_default())),
            None => CallState::Started,
        };
        let step = CallStep { seq, r#try, effect, state };
        if let Some(known) = self.history.call_mut(at) {
            *known = step.clone();
        }
        let intent = self.intent(seq, r#try, call, Some(effect));
        self.journal.intent(Intent { closed, replaces, ..intent });
        self.children.extend(input.ok().map(|input| ChildCall { step, at, agent, input }));
    }

    /// Takes up a call that an earlier attempt left open: if it never became a run, it does now.
    pub(super) fn take_up_child(
        &mut self,
        at: usize,
        step: CallStep,
        call: &ToolCall,
        agent: Name,
        known: &HashSet<i64>,
    ) {
        if let (false, Ok(input)) = (known.contains(&step.seq), arguments_of(call)) {
            self.children.push(ChildCall { step, at, agent, input });
        }
    }

    /// The steps whose calls are runs by now.
    pub(super) async fn known_children(&self) -> Result<HashSet<i64>, Stop> {
        if self.attempt.definition.agents.is_empty() {
            return Ok(HashSet::new());
        }
        let filter = RunFilter { parent: Some(self.attempt.run.id), limit: MOST, ..RunFilter::default() };
        let runs = self.attempt.environment.store.runs(&filter).await?;
        Ok(runs.into_iter().filter_map(|run| run.parent_step).collect())
    }

    /// Submits the runs whose intents are committed. One that is refused is told to the model.
    pub(super) async fn start_children(&mut self) -> Result<(), Stop> {
        for child in std::mem::take(&mut self.children) {
            match self.submit(&child).await {
                Ok(run) => {
                    tracing::debug!(run = %self.attempt.run.id, child = %run, agent = %child.agent, "an agent was called")
                }
                // An error that names a field is about what was asked for, and comes again however often the run is taken up.
                Err(error) if error.kind() == ErrorKind::Unavailable && error.field_name().is_none() => {
                    return Err(error.into());
                }
                Err(error) => self.refuse(&child, explain(&error)),
            }
        }
        Ok(())
    }

    async fn submit(&self, child: &ChildCall) -> Result<RunId> {
        let attempt = self.attempt;
        let (run, seq) = (attempt.run.id, child.step.seq);
        let context = Context {
            parent: Some(ParentStep { run, step: seq }),
            provider_variables: attempt.station.models.brought(run),
            ..attempt.context(seq, self.call_off.clone())
        };
        let input =
            json!({ "agent": child.agent, "input": child.input, "wait_ms": 0, "idempotency_key": attempt.key(seq) });
        let submitted = tools::call(&attempt.station, context, "agent_run", input).await?;
        let id = submitted.get("id").and_then(Value::as_str).and_then(RunId::parse);
        id.ok_or_else(|| Error::internal("a submitted run has no id"))
    }

    fn refuse(&mut self, child: &ChildCall, reason: String) {
        let CallStep { seq, r#try, .. } = child.step;
        self.journal.outcome(Outcome { seq, r#try, closed: refused(reason.clone()), audit: None });
        if let Some(step) = self.history.call_mut(child.at) {
            step.state = CallState::Done(Shown::error(reason));
        }
    }
}

fn refused(reason: String) -> Closed {
    Closed::without_result(StepStatus::Failed, Some(reason))
}
