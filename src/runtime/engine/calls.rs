//! The tool calls of a turn: each is journaled before it leaves, made beside the others, and its result kept when it comes.

use super::Executor;
use super::doubt::{self, Acted, Verdict};
use super::flight::{Flight, Landed};
use super::history::{CallState, CallStep};
use super::shown::{Shown, cut};
use super::stop::{Interrupt, Stop, explain};
use super::turn::closed;
use crate::clock::ClockExt;
use crate::domain::{AuditEntry, AuditOutcome, Name, RunErrorKind, StepStatus, WaitingFor};
use crate::error::Error;
use crate::gateway::{Catalog, may_match};
use crate::llm::ToolCall;
use crate::store::{Closed, Outcome};
use crate::tools::attached::FIRST_START;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::time::Duration;

/// Calls of one turn that are under way at the same time.
const AT_ONCE: usize = 16;

/// How long calls that were called off may take to let go.
const LET_GO: Duration = Duration::from_secs(2);

/// What a call is told that was cut off with the process that made it.
const CUT_OFF: &str = "cut off by a restart";

/// A step whose outcome nobody knows, for whoever is asked.
struct Doubt {
    seq: i64,
    audit: AuditEntry,
}

impl Executor<'_, '_> {
    /// Brings every call of the last turn to a result, or stops.
    pub(super) async fn call_tools(&mut self) -> Result<(), Stop> {
        self.within_limit()?;
        let catalog = self.catalog().await?;
        let mut doubts = Vec::new();
        let mut flights = self.take_up(&catalog, &mut doubts).await?;
        flights.extend(self.issue_new(&catalog).await);
        self.journal.flush().await?;
        self.fly(flights, &mut doubts).await?;
        if doubts.is_empty() {
            return Ok(());
        }
        let (in_doubt, audit) = doubts.into_iter().map(|doubt| (doubt.seq, doubt.audit)).unzip();
        Err(Stop::Park { waiting_for: WaitingFor::InDoubt, in_doubt, audit })
    }

    /// The tools as they are now. Before a server is waited for, the model's answer is made safe: it has been paid for.
    async fn catalog(&mut self) -> Result<Catalog, Stop> {
        let gateway = &self.job.environment.gateway;
        let known = gateway.catalog(Duration::ZERO).await;
        let asked = self.history.replied().map(|(_, reply)| reply.tool_calls.as_slice()).unwrap_or_default();
        let is_missing = |call: &ToolCall| self.tools.get(&call.name).is_some() && known.find(&call.name).is_none();
        let missing: Vec<&str> = asked.iter().filter(|call| is_missing(call)).map(|call| call.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(known);
        }
        self.journal.flush().await?;
        let matters = |server: &Name| missing.iter().any(|name| may_match(name, server.as_str()));
        Ok(self.job.signals.unless_interrupted(gateway.catalog_for(FIRST_START, matters)).await?)
    }

    /// Calls whose results the model could never be shown aren't made.
    fn within_limit(&self) -> Result<(), Stop> {
        let Some((turn, reply)) = self.history.replied() else { return Ok(()) };
        if !turn.calls.is_empty() || self.history.turn() < self.job.max_steps {
            return Ok(());
        }
        let asked: Vec<String> = reply.tool_calls.iter().map(|call| format!("`{}`", call.name)).collect();
        Err(Stop::failed(
            RunErrorKind::StepLimit,
            format!(
                "the run reached its limit of {} turns (`max_steps`), and the model still asked for {}; raise `max_steps` in the \
                 agent's file, or `runs.max_steps` in station.yml",
                self.job.max_steps,
                asked.join(", ")
            ),
        ))
    }

    /// Goes on with calls that an earlier execution left open.
    async fn take_up(&mut self, catalog: &Catalog, doubts: &mut Vec<Doubt>) -> Result<Vec<Flight>, Stop> {
        let Some((turn, reply)) = self.history.replied() else { return Ok(Vec::new()) };
        let open: Vec<(usize, CallStep, ToolCall)> = turn
            .calls
            .iter()
            .zip(&reply.tool_calls)
            .enumerate()
            .filter(|(_, (step, _))| !matches!(step.state, CallState::Done(_)))
            .map(|(at, (step, call))| (at, step.clone(), call.clone()))
            .collect();
        let mut flights = Vec::new();
        for (at, step, call) in open {
            let verdict = match step.state {
                CallState::ToRetry => Verdict::Again,
                CallState::InDoubt => Verdict::Ask,
                CallState::Started | CallState::Done(_) => {
                    Verdict::on(step.effect, self.job.definition.on_in_doubt, false)
                }
            };
            let name = call.name.clone();
            let audit = |outcome| self.job.audit("tool.call", name, self.job.key(step.seq), outcome);
            let audit = failed(audit(AuditOutcome::Failed), CUT_OFF);
            match verdict {
                Verdict::Again => {
                    if step.state == CallState::Started {
                        self.close(&step, closed(StepStatus::Failed, Some(CUT_OFF.into()), None), Some(audit));
                    }
                    flights.extend(self.issue(catalog, at, step.seq, step.r#try + 1, &call).await);
                }
                verdict => self.decide(verdict, at, &step, CUT_OFF, audit, doubts)?,
            }
        }
        Ok(flights)
    }

    /// Makes the calls, and keeps each result when it comes. The last one waits for the intent of the next model call.
    async fn fly(&mut self, flights: Vec<Flight>, doubts: &mut Vec<Doubt>) -> Result<(), Stop> {
        let mut waiting = VecDeque::from(flights);
        let mut aloft = FuturesUnordered::new();
        let interrupted = self.job.signals.interrupted();
        tokio::pin!(interrupted);
        loop {
            while aloft.len() < AT_ONCE
                && let Some(flight) = waiting.pop_front()
            {
                let key = self.job.key(flight.seq);
                aloft.push(flight.fly(key, self.job.live.clone()));
            }
            let landed = tokio::select! {
                biased;
                landed = aloft.next() => landed,
                interrupt = &mut interrupted => return Err(self.let_go(interrupt, aloft).await),
            };
            let Some(landed) = landed else { return Ok(()) };
            waiting.extend(self.land(landed, doubts)?);
            if !(aloft.is_empty() && waiting.is_empty()) {
                self.journal.flush().await?;
            }
        }
    }

    /// Keeps a result. A call that is made again is given back.
    fn land(&mut self, landed: Landed, doubts: &mut Vec<Doubt>) -> Result<Option<Flight>, Stop> {
        let Landed { flight, result } = landed;
        let step = flight.step();
        let error = match result {
            Ok(result) => {
                let audit = flight.permitted.audit(AuditOutcome::Done);
                self.keep(flight.at, &step, &result, audit)?;
                return Ok(None);
            }
            Err(error) => error,
        };
        let reason = explain(&error);
        let audit = failed(flight.permitted.audit(AuditOutcome::Failed), &reason);
        let verdict = match Acted::by(&error) {
            Acted::Known => Verdict::Tell,
            Acted::Unknown => Verdict::on(flight.effect, self.job.definition.on_in_doubt, flight.retried),
        };
        if verdict != Verdict::Again {
            self.decide(verdict, flight.at, &step, &reason, audit, doubts)?;
            return Ok(None);
        }
        self.close(&step, closed(StepStatus::Failed, Some(reason), None), Some(audit));
        Ok(self.again(flight))
    }

    /// A result: kept whole, and shown to the model as far as it fits.
    fn keep(&mut self, at: usize, step: &CallStep, result: &RawValue, audit: AuditEntry) -> Result<(), Stop> {
        let result: Value = serde_json::from_str(result.get())
            .map_err(|cause| Error::internal("a tool's result can't be read as JSON").source(cause))?;
        let mut shown = Shown::result(&result);
        let limit = usize::try_from(self.job.station.settings.runs.result_bytes).unwrap_or(usize::MAX);
        let cut = cut(&shown.content, limit);
        let truncated = cut.is_some();
        let closed =
            Closed { result: Some(result), shown: cut.clone(), truncated, ..closed(StepStatus::Completed, None, None) };
        if let Some(cut) = cut {
            shown.content = cut;
        }
        self.close(step, closed, Some(audit));
        if let Some(step) = self.history.call_mut(at) {
            step.state = CallState::Done(shown);
        }
        Ok(())
    }

    /// Acts on a verdict other than making the call again.
    fn decide(
        &mut self,
        verdict: Verdict,
        at: usize,
        step: &CallStep,
        reason: &str,
        audit: AuditEntry,
        doubts: &mut Vec<Doubt>,
    ) -> Result<(), Stop> {
        let (status, told) = match verdict {
            Verdict::Tell | Verdict::Again => (StepStatus::Failed, reason.to_owned()),
            Verdict::Skip => (StepStatus::Skipped, doubt::unknown(reason)),
            Verdict::Fail => (StepStatus::InDoubt, doubt::unknown(reason)),
            Verdict::Ask => {
                self.close(step, closed(StepStatus::InDoubt, Some(reason.to_owned()), None), None);
                doubts.push(Doubt { seq: step.seq, audit });
                return Ok(());
            }
        };
        self.close(step, closed(status, Some(reason.to_owned()), None), Some(audit));
        if verdict == Verdict::Fail {
            let message = format!("step {}: {told}; the agent's `retry.on_in_doubt` is `fail`", step.seq);
            return Err(Stop::failed(RunErrorKind::Tool, message));
        }
        if let Some(step) = self.history.call_mut(at) {
            step.state = CallState::Done(Shown::error(told));
        }
        Ok(())
    }

    fn close(&mut self, step: &CallStep, closed: Closed, audit: Option<AuditEntry>) {
        self.journal.outcome(Outcome { seq: step.seq, r#try: step.r#try, closed }, audit);
    }

    /// Calls off what is under way. What comes back meanwhile is kept; the rest is closed, unless somebody else will go on with it.
    async fn let_go(
        &mut self,
        interrupt: Interrupt,
        mut aloft: FuturesUnordered<impl Future<Output = Landed>>,
    ) -> Stop {
        self.call_off.cancel();
        let over = self.job.station.clock.sleep(LET_GO);
        tokio::pin!(over);
        loop {
            let landed = tokio::select! {
                biased;
                landed = aloft.next() => landed,
                () = &mut over => None,
            };
            let Some(Landed { flight, result }) = landed else { break };
            if let Ok(result) = result {
                let audit = flight.permitted.audit(AuditOutcome::Done);
                if let Err(stop) = self.keep(flight.at, &flight.step(), &result, audit) {
                    return stop;
                }
            }
        }
        match interrupt {
            Interrupt::Cancelled => self.close_open_calls("called off: the run was cancelled"),
            Interrupt::TimedOut => self.close_open_calls("called off: the run's timeout was reached"),
            Interrupt::Draining => {}
        }
        interrupt.into()
    }

    /// The run ends with calls that have no result. What such a call may have changed stays unknown for good.
    fn close_open_calls(&mut self, reason: &str) {
        let Some((turn, reply)) = self.history.replied() else { return };
        let calls = turn.calls.iter().zip(&reply.tool_calls);
        let open = calls.filter(|(step, _)| step.state == CallState::Started);
        let open: Vec<(CallStep, String)> = open.map(|(step, call)| (step.clone(), call.name.clone())).collect();
        for (step, name) in open {
            let status = if step.effect.is_repeatable() { StepStatus::Failed } else { StepStatus::InDoubt };
            let audit = self.job.audit("tool.call", name, self.job.key(step.seq), AuditOutcome::Failed);
            self.close(&step, closed(status, Some(reason.into()), None), Some(failed(audit, reason)));
        }
    }
}

fn failed(entry: AuditEntry, reason: &str) -> AuditEntry {
    AuditEntry { reason: Some(reason.to_owned()), ..entry }
}
