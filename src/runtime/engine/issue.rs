//! Issuing calls: what the model asks for is found, validated and authorized, and its intent is journaled.

use super::Executor;
use super::flight::Flight;
use super::history::{CallState, CallStep};
use super::shown::Shown;
use super::stop::explain;
use crate::domain::{ASK_USER, StepKind, StepStatus, ToolEffect, nearest};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{Catalog, CatalogTool};
use crate::llm::{Finish, ToolCall};
use crate::store::{Closed, Intent, Outcome};
use crate::tools::Context;
use crate::tools::attached::{self, Permitted};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Updates of a call that wait for a follower; more are left out.
const PROGRESS_QUEUE: usize = 16;

/// One try of a call.
pub(super) struct Try {
    /// The call's place among those of its turn.
    pub(super) at: usize,
    pub(super) seq: i64,
    pub(super) r#try: i64,
    /// How the try before it ended, if that isn't written down yet.
    pub(super) replaces: Option<Outcome>,
}

/// Calls to be made again, in order.
pub(super) type Again = VecDeque<(Try, ToolCall)>;

impl Executor<'_, '_> {
    /// Issues calls until `limit` of them can leave: first those to be made again, then those that were never issued.
    pub(super) async fn issue_due(&mut self, catalog: &Catalog, again: &mut Again, limit: usize) -> Vec<Flight> {
        let mut flights = Vec::new();
        while flights.len() < limit
            && let Some((next, call)) = again.pop_front().or_else(|| self.begin_unissued())
        {
            flights.extend(self.issue(catalog, next, &call).await);
        }
        flights
    }

    fn begin_unissued(&mut self) -> Option<(Try, ToolCall)> {
        let (at, call) = self.unissued()?;
        Some((Try { at, seq: self.history.begin_call(), r#try: 1, replaces: None }, call))
    }

    /// The first call of the last turn that was never issued, with its place among them.
    pub(super) fn unissued(&self) -> Option<(usize, ToolCall)> {
        let (turn, reply) = self.history.replied()?;
        let at = turn.calls.len();
        Some((at, reply.tool_calls.get(at)?.clone()))
    }

    /// Journals the intent of a call. One that can't be made is closed in the same breath, with what the model is told.
    async fn issue(&mut self, catalog: &Catalog, next: Try, call: &ToolCall) -> Option<Flight> {
        if let Some((agent, effect)) = self.child(&call.name) {
            self.issue_child(next, call, agent, effect);
            return None;
        }
        if let Some(tool) = self.tools.get(ASK_USER).filter(|tool| tool.name == call.name) {
            let checked = || attached::check(&tool.name, &tool.input_schema, &call.arguments).err();
            let (fault, effect) = (self.cut_off(next.at, call).or_else(checked), tool.effect);
            self.issue_question(next, call, effect, fault.as_ref().map(explain));
            return None;
        }
        let Try { at, seq, r#try, replaces } = next;
        let (progress, updates) = mpsc::channel(PROGRESS_QUEUE);
        let context = Context { progress: Some(progress), ..self.attempt.context(seq, self.call_off.clone()) };
        let effect = self.tools.get(&call.name).map(|tool| tool.effect);
        let permitted = match self.cut_off(at, call) {
            Some(error) => Err(error),
            None => self.permit(catalog, context, call).await,
        };
        let (flight, refused, audit) = match permitted {
            Ok(permitted) => {
                let audit = permitted.intent();
                let effect = effect.unwrap_or_default();
                (Some(Flight { at, seq, r#try, effect, retried: false, permitted, progress: updates }), None, audit)
            }
            Err(error) => {
                let status = match error.kind() {
                    ErrorKind::PermissionDenied => StepStatus::Denied,
                    _ => StepStatus::Failed,
                };
                (None, Some(Closed::without_result(status, Some(explain(&error)))), None)
            }
        };
        let state = match &refused {
            Some(closed) => CallState::Done(Shown::error(closed.error.clone().unwrap_or_default())),
            None => CallState::Started,
        };
        if let Some(step) = self.history.call_mut(at) {
            *step = CallStep { seq, r#try, effect: effect.unwrap_or_default(), state };
        }
        let intent = self.intent(seq, r#try, call, effect);
        self.journal.intent(Intent { closed: refused, replaces, audit, ..intent });
        flight
    }

    /// Journals a question. It has no flight: whoever answers it writes its result.
    fn issue_question(&mut self, next: Try, call: &ToolCall, effect: ToolEffect, fault: Option<String>) {
        let Try { at, seq, r#try, replaces } = next;
        let state = fault.clone().map_or(CallState::Started, |fault| CallState::Done(Shown::error(fault)));
        if let Some(step) = self.history.call_mut(at) {
            *step = CallStep { seq, r#try, effect, state };
        }
        let closed = fault.map(|fault| Closed::without_result(StepStatus::Failed, Some(fault)));
        let intent = self.intent(seq, r#try, call, Some(effect));
        self.journal.intent(Intent { closed, replaces, ..intent });
        self.asks = true;
    }

    pub(super) fn intent(&self, seq: i64, r#try: i64, call: &ToolCall, effect: Option<ToolEffect>) -> Intent {
        let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| Value::String(call.arguments.clone()));
        Intent {
            seq,
            turn: self.history.turn(),
            kind: StepKind::Tool,
            r#try,
            name: call.name.clone(),
            effect,
            idempotency_key: Some(self.attempt.key(seq)),
            arguments: Some(arguments),
            call_id: Some(call.id.clone()),
            closed: None,
            replaces: None,
            audit: None,
        }
    }

    /// Finds, validates and authorizes what the model asks for. The errors are written for the model.
    async fn permit(&self, catalog: &Catalog, context: Context, call: &ToolCall) -> Result<Permitted> {
        let pinned = self.tools.get(&call.name).ok_or_else(|| self.unknown(&call.name))?;
        let gone = || self.attempt.environment.gateway.missing(&call.name);
        let live = catalog.find(&call.name).ok_or_else(gone)?;
        if !pinned.is_same(live) {
            tracing::warn!(run = %self.attempt.run.id, tool = call.name, "the tool's definition has changed since the run was started");
        }
        // The model only knows the schema that the run is pinned to.
        let tool = Arc::new(CatalogTool { input_schema: pinned.input_schema.clone(), ..live.clone() });
        let arguments = attached::validate(&tool, &call.arguments)?;
        let (station, environment) = (&self.attempt.station, &self.attempt.environment);
        let revision = self.attempt.run.config_revision.clone();
        attached::permit(station, context, environment, revision, tool, arguments).await
    }

    /// The call with which an answer ended at its limit, in the middle of it.
    pub(super) fn cut_off(&self, at: usize, call: &ToolCall) -> Option<Error> {
        let (_, reply) = self.history.replied()?;
        let is_last = reply.finish == Finish::Length && at + 1 == reply.tool_calls.len();
        let is_half = !call.arguments.trim().is_empty() && serde_json::from_str::<IgnoredAny>(&call.arguments).is_err();
        (is_last && is_half).then(|| {
            let name = call.name.escape_debug();
            Error::invalid_input(format!(
                "the call of `{name}` was cut off at the limit of an answer, and was not made"
            ))
            .hint("do it in smaller pieces, in a call for each")
        })
    }

    fn unknown(&self, name: &str) -> Error {
        let error = Error::not_found(format!("there is no tool `{}`", name.escape_debug()));
        match nearest(name, self.tools.names()) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint("use only the tools that you were given"),
        }
    }

    /// The same call once more: a new try with the same key, in the place of the one that ended as `replaces` says.
    pub(super) fn again(&mut self, flight: Flight, replaces: Outcome) -> Option<Flight> {
        let call = self.history.replied().and_then(|(_, reply)| reply.tool_calls.get(flight.at)).cloned()?;
        let flight = Flight { r#try: flight.r#try + 1, retried: true, ..flight };
        let intent = self.intent(flight.seq, flight.r#try, &call, Some(flight.effect));
        self.journal.intent(Intent { replaces: Some(replaces), audit: flight.permitted.intent(), ..intent });
        if let Some(step) = self.history.call_mut(flight.at) {
            *step = flight.step();
        }
        Some(flight)
    }
}
