//! The tool calls of a turn: each is journaled before it leaves, made beside the others, and its result kept when it comes.

use super::Executor;
use super::doubt::{self, Acted, Verdict};
use super::flight::{Flight, Landed};
use super::history::{CallState, CallStep};
use super::issue::{Again, Try};
use super::shown::{Shown, cut};
use super::stop::{Interrupt, Stop};
use crate::domain::{ASK_USER, AuditEntry, AuditOutcome, Name, RunErrorKind, StepStatus, WaitingFor, counted};
use crate::error::Error;
use crate::gateway::{Catalog, may_match};
use crate::llm::ToolCall;
use crate::store::{Closed, Outcome};
use crate::tools::attached::{FIRST_START, read_result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::time::Duration;

/// Calls of one turn that are under way at the same time.
const AT_ONCE: usize = 16;

/// What a call is told that was cut off with the process that made it.
const CUT_OFF: &str = "cut off by a restart";

impl Executor<'_, '_> {
    /// Brings every call of the last turn to a result, or stops.
    pub(super) async fn call_tools(&mut self) -> Result<(), Stop> {
        self.within_limit()?;
        let catalog = self.catalog().await?;
        let mut in_doubt = Vec::new();
        let known = self.known_children().await?;
        let again = self.take_up(&known, &mut in_doubt)?;
        self.fly(&catalog, again, &mut in_doubt).await?;
        if !in_doubt.is_empty() {
            return Err(Stop::Park { waiting_for: WaitingFor::InDoubt, steps: in_doubt });
        }
        let questions = self.history.open_calls(ASK_USER);
        if !questions.is_empty() {
            return Err(Stop::Park { waiting_for: WaitingFor::Question, steps: questions });
        }
        if self.history.is_waiting() {
            return Err(Stop::Wait);
        }
        Ok(())
    }

    /// The tools as they are now. Before a server is waited for, the model's answer is made safe: it has been paid for.
    async fn catalog(&mut self) -> Result<Catalog, Stop> {
        let gateway = &self.attempt.environment.gateway;
        let known = gateway.catalog(Duration::ZERO).await;
        let asked = self.history.replied().map(|(_, reply)| reply.tool_calls.as_slice()).unwrap_or_default();
        let is_missing = |call: &ToolCall| self.tools.is_attached(&call.name) && known.find(&call.name).is_none();
        let missing: Vec<&str> = asked.iter().filter(|call| is_missing(call)).map(|call| call.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(known);
        }
        self.journal.flush().await?;
        let matters = |server: &Name| missing.iter().any(|name| may_match(name, server.as_str()));
        Ok(self.attempt.signals.unless_interrupted(gateway.catalog_for(FIRST_START, matters)).await?)
    }

    /// Calls whose results the model could never be shown aren't made.
    fn within_limit(&self) -> Result<(), Stop> {
        let Some((turn, reply)) = self.history.replied() else { return Ok(()) };
        if !turn.calls.is_empty() || self.history.turn() < self.attempt.max_steps {
            return Ok(());
        }
        let asked: Vec<String> = reply.tool_calls.iter().map(|call| format!("`{}`", call.name)).collect();
        Err(Stop::failed(
            RunErrorKind::StepLimit,
            format!(
                "the run reached its limit of {} (`max_steps`), and the model still asked for {}; raise `max_steps` in the \
                 agent's file, or `runs.max_steps` in station.yml",
                counted(self.attempt.max_steps, "turn"),
                asked.join(", ")
            ),
        ))
    }

    /// Decides what becomes of the calls that an earlier attempt left open, and gives those that are made again.
    fn take_up(&mut self, known: &HashSet<i64>, in_doubt: &mut Vec<i64>) -> Result<Again, Stop> {
        let mut again = Again::new();
        let Some((turn, reply)) = self.history.replied() else { return Ok(again) };
        let open: Vec<(usize, CallStep, ToolCall)> = turn
            .calls
            .iter()
            .zip(&reply.tool_calls)
            .enumerate()
            .filter(|(_, (step, _))| !matches!(step.state, CallState::Done(_)))
            .map(|(at, (step, call))| (at, step.clone(), call.clone()))
            .collect();
        for (at, step, call) in open {
            if let Some((agent, _)) = self.child(&call.name) {
                self.take_up_child(at, step, &call, agent, known);
                continue;
            }
            if call.name == ASK_USER {
                // Nobody has answered; it is asked by parking.
                continue;
            }
            let verdict = match step.state {
                CallState::ToRetry => Verdict::Again,
                CallState::InDoubt => Verdict::Ask,
                CallState::Started | CallState::Done(_) => {
                    Verdict::on(step.effect, self.attempt.definition.on_in_doubt, false)
                }
            };
            let audit = self.attempt.lost_call(call.name.clone(), step.seq, CUT_OFF);
            match verdict {
                Verdict::Again => {
                    let replaces = (step.state == CallState::Started).then(|| lost(&step, CUT_OFF, audit));
                    again.push_back((Try { at, seq: step.seq, r#try: step.r#try + 1, replaces }, call));
                }
                verdict => self.decide(verdict, at, &step, CUT_OFF, audit, in_doubt)?,
            }
        }
        Ok(again)
    }

    /// Makes the calls, and keeps each result when it comes. The last one waits for the intent of the next model call. A call is issued
    /// only when a place is free for it. Whatever stops the run from inside lets the calls land that are under way.
    async fn fly(&mut self, catalog: &Catalog, mut again: Again, in_doubt: &mut Vec<i64>) -> Result<(), Stop> {
        let mut issued = Vec::new();
        let mut aloft = FuturesUnordered::new();
        let mut stop = None;
        let interrupted = self.attempt.signals.interrupted();
        tokio::pin!(interrupted);
        loop {
            if stop.is_none() && self.attempt.signals.pending().is_none() {
                let free = AT_ONCE.saturating_sub(aloft.len() + issued.len());
                issued.extend(self.issue_due(catalog, &mut again, free).await);
            }
            if !(aloft.is_empty() && issued.is_empty() && self.children.is_empty() && !self.asks) {
                self.asks = false;
                self.commit(&mut stop, &mut issued).await?;
            }
            if stop.is_none() {
                stop = self.start_children().await.err();
            }
            for flight in issued.drain(..) {
                let key = self.attempt.key(flight.seq);
                aloft.push(flight.fly(key, self.attempt.live.clone()));
            }
            let landed = tokio::select! {
                biased;
                landed = aloft.next() => landed,
                interrupt = &mut interrupted => return Err(self.let_go(interrupt, aloft).await),
            };
            let Some(landed) = landed else { break };
            match self.land(landed, in_doubt) {
                Ok(retried) => issued.extend(retried),
                Err(inside) => stop = stop.or(Some(inside)),
            }
        }
        let is_left = !again.is_empty() || self.unissued().is_some();
        match (stop, self.attempt.signals.pending()) {
            (Some(stop), _) => Err(stop),
            (None, Some(interrupt)) if is_left => Err(interrupt.into()),
            (None, _) => Ok(()),
        }
    }

    /// Commits what has come back, with the intents of `issued`. Once there is a stop, nothing leaves any more, and what can't be written is
    /// left to the stop.
    async fn commit(&mut self, stop: &mut Option<Stop>, issued: &mut Vec<Flight>) -> Result<(), Stop> {
        if stop.is_none() {
            match self.journal.flush().await {
                Ok(()) => return Ok(()),
                // Somebody else makes these calls now.
                Err(Stop::Stale) => return Err(Stop::Stale),
                Err(refused) => *stop = Some(refused),
            }
        }
        issued.clear();
        self.children.clear();
        if let Err(error) = self.journal.flush_outcomes().await {
            tracing::debug!(run = %self.attempt.run.id, ?error, "results wait for the end of the run");
        }
        Ok(())
    }

    /// Keeps a result. A call that is made again is given back.
    fn land(&mut self, landed: Landed, in_doubt: &mut Vec<i64>) -> Result<Option<Flight>, Stop> {
        let Landed { flight, result } = landed;
        let step = flight.step();
        let error = match result {
            Ok(result) => {
                let audit = flight.permitted.audit(AuditOutcome::Done);
                self.keep(flight.at, &step, &result, audit);
                return Ok(None);
            }
            Err(error) => error,
        };
        let reason = doubt::reason(&error);
        let audit = flight.permitted.audit(AuditOutcome::Failed).because(&reason);
        let verdict = match Acted::by(&error) {
            Acted::Known => Verdict::Tell,
            Acted::Unknown => Verdict::on(flight.effect, self.attempt.definition.on_in_doubt, flight.retried),
        };
        if verdict != Verdict::Again {
            self.decide(verdict, flight.at, &step, &reason, audit, in_doubt)?;
            return Ok(None);
        }
        Ok(self.again(flight, lost(&step, &reason, audit)))
    }

    /// A result: kept whole, and shown to the model as far as it fits.
    fn keep(&mut self, at: usize, step: &CallStep, result: &RawValue, audit: AuditEntry) {
        let result = read_result(result);
        let mut shown = Shown::result(&result);
        let limit = usize::try_from(self.attempt.station.settings.runs.result_bytes).unwrap_or(usize::MAX);
        let cut = cut(&shown.content, limit);
        let truncated = cut.is_some();
        let closed = Closed {
            result: Some(result),
            shown: cut.clone(),
            truncated,
            ..Closed::without_result(StepStatus::Completed, None)
        };
        if let Some(cut) = cut {
            shown.content = cut;
        }
        self.close(step, closed, audit);
        if let Some(step) = self.history.call_mut(at) {
            step.state = CallState::Done(shown);
        }
    }

    /// Acts on a verdict other than making the call again.
    fn decide(
        &mut self,
        verdict: Verdict,
        at: usize,
        step: &CallStep,
        reason: &str,
        audit: AuditEntry,
        in_doubt: &mut Vec<i64>,
    ) -> Result<(), Stop> {
        let (status, told) = match verdict {
            Verdict::Tell | Verdict::Again => (StepStatus::Failed, reason.to_owned()),
            Verdict::Skip => (StepStatus::Skipped, doubt::unknown(reason)),
            Verdict::Fail => (StepStatus::InDoubt, doubt::unknown(reason)),
            Verdict::Ask => {
                self.close(step, Closed::without_result(StepStatus::InDoubt, Some(reason.to_owned())), audit);
                in_doubt.push(step.seq);
                return Ok(());
            }
        };
        self.close(step, Closed::without_result(status, Some(reason.to_owned())), audit);
        if verdict == Verdict::Fail {
            let message = format!("step {}: {told}; the agent's `retry.on_in_doubt` is `fail`", step.seq);
            return Err(Stop::failed(RunErrorKind::Tool, message));
        }
        if let Some(step) = self.history.call_mut(at) {
            step.state = CallState::Done(Shown::error(told));
        }
        Ok(())
    }

    fn close(&mut self, step: &CallStep, closed: Closed, audit: AuditEntry) {
        self.journal.outcome(Outcome { seq: step.seq, r#try: step.r#try, closed, audit: Some(audit) });
    }

    /// Calls off what is under way, which ends every call at once. Of one that was never sent this is certain; what else has no result is
    /// closed with the run, or by whoever goes on with it.
    async fn let_go(
        &mut self,
        interrupt: Interrupt,
        mut aloft: FuturesUnordered<impl Future<Output = Landed>>,
    ) -> Stop {
        self.call_off.cancel();
        while let Some(Landed { flight, result }) = aloft.next().await {
            let (step, audit) = (flight.step(), |outcome| flight.permitted.audit(outcome));
            match result {
                Ok(result) => self.keep(flight.at, &step, &result, audit(AuditOutcome::Done)),
                Err(error) if Acted::by(&error) == Acted::Known => {
                    let reason = doubt::reason(&error);
                    // The next attempt makes it, as if it had never been asked for before.
                    let to_retry = interrupt == Interrupt::Draining && doubt::is_unsent(&error);
                    let closed = Closed::without_result(StepStatus::Failed, Some(reason.clone()));
                    self.close(&step, Closed { to_retry, ..closed }, audit(AuditOutcome::Failed).because(reason));
                }
                Err(_) => {}
            }
        }
        interrupt.into()
    }
}

/// The arguments of a call as a value: an object, or nothing.
pub(super) fn arguments_of(call: &ToolCall) -> Result<Value, Error> {
    let invalid = |reason: String| Error::invalid_input(format!("the arguments of `{}` {reason}", call.name));
    let value: Value =
        serde_json::from_str(&call.arguments).map_err(|cause| invalid(format!("are not valid JSON: {cause}")))?;
    if value.is_object() { Ok(value) } else { Err(invalid("must be a JSON object".to_owned())) }
}

/// A try that is made again.
fn lost(step: &CallStep, reason: &str, audit: AuditEntry) -> Outcome {
    let closed = Closed::without_result(StepStatus::Failed, Some(reason.to_owned()));
    Outcome { seq: step.seq, r#try: step.r#try, closed, audit: Some(audit) }
}
