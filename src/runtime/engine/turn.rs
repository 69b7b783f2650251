//! Asking the model, and what its answer ends.

use super::history::{Asking, PLAN, Reply};
use super::live::Deltas;
use super::output::with_notice;
use super::shown::bounded;
use super::stop::{Stop, explain};
use super::{Executor, transcript};
use crate::domain::{CauseKind, Origin, RunErrorKind, StepKind, StepStatus, Usage, WaitingFor, counted};
use crate::failpoint::Failpoint;
use crate::llm::{Finish, Provider, ProviderError, ProviderErrorKind, TurnLimits, TurnReply, TurnRequest};
use crate::store::{Closed, Ending, Intent, Outcome};
use serde_json::Value;
use std::sync::Arc;
use tracing::Instrument;

/// Where no limit of ours was the reason.
const CUT_OFF: &str = "the answer was cut off at the end of what the model may write or hold";
/// No failure: an agent may have been told to be silent where there is nothing to say, and models are after their tools have done it all.
/// Whoever asks again pays again, and may have done twice what was done.
const SAID_NOTHING: &str = "the model ended its answer without saying anything";

impl Executor<'_, '_> {
    /// Makes the next model call. Its outcome waits for the intents that follow from it.
    pub(super) async fn ask_model(&mut self) -> Result<(), Stop> {
        Failpoint::RunTurn.reach(|| format!("{:?} {:?}", self.prompt, self.history));
        let provider = self.provider()?;
        self.within_planned()?;
        self.within_budget().await?;
        let asking = self.history.begin_model(self.attempt.definition.plan && provider.plans());
        self.journal_asking(asking);
        self.journal.flush().await?;
        let reply = self.ask(&*provider, asking).await?;
        let run = &self.attempt.run;
        let cost = |usage: &Usage| self.attempt.station.models.cost_microusd(&run.model, usage);
        let usage = reply.usage.map(|usage| Usage { cost_microusd: cost(&usage), ..usage });
        let mut reply = Reply::from(reply);
        if asking.plan && !reply.tool_calls.is_empty() {
            // None was offered. What is left is the text; the provider's own blocks would ask for the calls' results.
            reply.tool_calls.clear();
            reply.native = None;
        }
        if reply.notice.is_none() && (reply.tool_calls.is_empty() || reply.finish == Finish::Length) {
            reply.notice = self.ended_early(&reply, usage.map_or(0, |usage| usage.output_tokens));
        }
        let closed = Closed {
            result: Some(reply.to_result()?),
            native: reply.native_blocks(),
            usage,
            ..Closed::without_result(StepStatus::Completed, None)
        };
        self.journal.outcome(Outcome { seq: asking.seq, r#try: asking.r#try, closed, audit: None });
        self.history.reply(reply);
        self.counted(usage).await
    }

    /// The plan took the only turn.
    fn within_planned(&self) -> Result<(), Stop> {
        let planned = self.history.replied().is_some_and(|(turn, _)| turn.model.plan);
        if !planned || self.history.turn() < self.attempt.max_steps {
            return Ok(());
        }
        Err(Stop::failed(
            RunErrorKind::StepLimit,
            "the plan took the only turn that `max_steps` allows; raise `max_steps` or leave out `plan`".to_owned(),
        ))
    }

    /// The model has answered without asking for anything more: the run is over, unless its answer has to be repaired. That takes a turn
    /// more, also beyond `max_steps`.
    pub(super) async fn conclude(&mut self) -> Result<(), Stop> {
        let Some((_, reply)) = self.history.replied() else {
            return Err(Stop::failed(RunErrorKind::Internal, "the run has no answer, though the model has given one"));
        };
        let empty = reply.text.trim().is_empty();
        let notice = reply.notice.clone();
        let output = match (&reply.finish, &self.output) {
            (Finish::Length, _) if empty => Err(Stop::failed(
                RunErrorKind::Provider,
                format!("model `{}` said nothing: {}", self.model_name(), reply.notice.as_deref().unwrap_or(CUT_OFF)),
            )),
            (Finish::Refusal, _) if empty => {
                let why = reply.notice.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                let declined = format!("model `{}` declined to answer{why}", self.model_name());
                Err(Stop::failed(RunErrorKind::Provider, declined))
            }
            (Finish::Other(word), _) if empty => {
                let word = bounded(word.escape_debug().to_string());
                let why = reply.notice.as_deref().filter(|why| !why.contains(&word));
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                let ended = format!(
                    "model `{}` said nothing: its provider ended the answer with `{word}`{why}",
                    self.model_name()
                );
                Err(Stop::failed(RunErrorKind::Provider, ended))
            }
            (_, None) => Ok(Value::String(reply.text.clone())),
            (_, Some(contract)) => match contract.judge(&reply.text) {
                Ok(value) => Ok(value),
                Err(_) if self.history.answers() == 1 => return self.ask_model().await,
                Err(wrong) => Err(Stop::failed(
                    RunErrorKind::OutputSchema,
                    format!(
                        "the answer doesn't fit the agent's `output.schema`, also after it was asked for again: {}",
                        with_notice(wrong, notice.as_deref())
                    ),
                )),
            },
        };
        Err(output.map_or_else(|stop| stop, |output| Stop::End(Ending::Completed { output })))
    }

    pub(super) fn model_name(&self) -> String {
        let model = &self.attempt.run.model;
        format!("{}/{}", model.provider, model.id)
    }

    /// The provider that the run is pinned to. Asked for anew with every turn: its key may have been replaced, or taken away.
    fn provider(&mut self) -> Result<Arc<dyn Provider>, Stop> {
        let attempt = self.attempt;
        let found = attempt.station.models.provider_for(
            &attempt.environment.name,
            attempt.run.id,
            &attempt.run.model,
            attempt.caller_credentials,
            self.provider.as_ref(),
        );
        let built = found
            .map_err(|error| Stop::failed(RunErrorKind::Provider, explain(&error)))?
            .ok_or_else(|| Stop::Park { waiting_for: WaitingFor::Provider, steps: Vec::new() })?;
        Ok(Arc::clone(&self.provider.insert(built).provider))
    }

    fn journal_asking(&mut self, asking: Asking) {
        let replaces = asking.lost.map(|lost| {
            let closed = Closed::without_result(StepStatus::Failed, Some("cut off by a restart".into()));
            Outcome { seq: asking.seq, r#try: lost, closed, audit: None }
        });
        let intent = Intent {
            seq: asking.seq,
            turn: asking.turn,
            kind: StepKind::Model,
            r#try: asking.r#try,
            name: if asking.plan { PLAN.to_owned() } else { self.model_name() },
            effect: None,
            idempotency_key: None,
            arguments: None,
            call_id: None,
            closed: None,
            replaces,
            audit: None,
        };
        self.journal.intent(intent);
    }

    async fn ask(&mut self, provider: &dyn Provider, asking: Asking) -> Result<TurnReply, Stop> {
        let request = TurnRequest {
            model: self.attempt.run.model.id.clone(),
            system: self.system(),
            messages: transcript::messages(&self.prompt, &self.history, &self.tools, self.output.as_ref()),
            tools: if asking.plan { Vec::new() } else { self.tools.definitions() },
            max_output_tokens: self.max_output_tokens(),
            plan_allowed: plan_allowed(self.attempt.run.cause.kind, self.attempt.run.origin),
        };
        let signals = &self.attempt.signals;
        let limits = TurnLimits { deadline: Some(signals.deadline), cancel: self.call_off.clone() };
        let mut deltas = Deltas::new(self.attempt.live.clone(), asking.seq);
        // What the provider's room logs is about a call of some run: of which is known here.
        let span = tracing::warn_span!("model_call", run = %self.attempt.run.id, step = asking.seq);
        let asked = provider.turn(&request, &mut deltas, &limits).instrument(span);
        let answered = signals.unless_interrupted(asked).await;
        deltas.finish();
        match answered {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.failed(asking, &error)),
            Err(interrupt) => Err(interrupt.into()),
        }
    }

    fn max_output_tokens(&self) -> Option<u32> {
        self.attempt.station.models.max_output_tokens(&self.attempt.run.model)
    }

    /// What a person should know of an answer of `tokens` that isn't whole, or has nothing in it.
    fn ended_early(&self, reply: &Reply, tokens: i64) -> Option<String> {
        match &reply.finish {
            Finish::Length => Some(match self.max_output_tokens().filter(|most| tokens >= i64::from(*most)) {
                Some(most) => {
                    let (provider, tokens) = (&self.attempt.run.model.provider, counted(most, "token"));
                    format!(
                        "the answer was cut off after {tokens}: `providers.{provider}.max_output_tokens` allows no more"
                    )
                }
                None => CUT_OFF.to_owned(),
            }),
            Finish::Refusal => Some("the model, or its provider's filter, ended the answer early".to_owned()),
            Finish::Other(word) => {
                let word = bounded(word.escape_debug().to_string());
                Some(format!("the answer may not be whole: the provider ended it with `{word}`"))
            }
            Finish::Stop | Finish::ToolCalls if reply.text.trim().is_empty() => Some(SAID_NOTHING.to_owned()),
            Finish::Stop | Finish::ToolCalls => None,
        }
    }

    fn system(&self) -> Option<String> {
        let own = self.prompt.system.as_deref();
        self.output.as_ref().map(|contract| contract.told(own)).or_else(|| own.map(str::to_owned))
    }

    fn failed(&mut self, asking: Asking, error: &ProviderError) -> Stop {
        // The provider minds the run's deadline too, and may notice it first.
        if let (ProviderErrorKind::Timeout | ProviderErrorKind::Cancelled, Some(interrupt)) =
            (error.kind, self.attempt.signals.pending())
        {
            return interrupt.into();
        }
        let message = describe(error);
        let closed = Closed::without_result(StepStatus::Failed, Some(message.clone()));
        self.journal.outcome(Outcome { seq: asking.seq, r#try: asking.r#try, closed, audit: None });
        Stop::failed(RunErrorKind::Provider, message)
    }
}

/// Only what a person typed themselves may command the offline rules.
fn plan_allowed(cause: CauseKind, origin: Origin) -> bool {
    cause == CauseKind::Call && !matches!(origin, Origin::Schedule | Origin::Trigger | Origin::Run)
}

/// The message names provider, model and reason; what it may lack is added.
fn describe(error: &ProviderError) -> String {
    let mut text = bounded(error.message.clone());
    if let Some(status) = error.status.map(|status| status.to_string()).filter(|status| !text.contains(status)) {
        text.push_str(&format!(" (HTTP status {status})"));
    }
    if !text.contains(&error.provider) {
        text = format!("provider `{}`: {text}", error.provider);
    }
    match &error.hint {
        // It may have words of the provider too.
        Some(hint) => format!("{text}; {}", bounded(hint.clone())),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_asked_for_at_a_door_may_command_a_plan() {
        use CauseKind::{Agent, Call, Retry, Schedule, Trigger};
        let doors = [Origin::Cli, Origin::McpStdio, Origin::McpHttp, Origin::Rest, Origin::Ws, Origin::Ssh];
        let others = [Origin::Schedule, Origin::Trigger, Origin::Run];
        for cause in [Call, Schedule, Trigger, Agent, Retry] {
            for origin in doors {
                assert_eq!(plan_allowed(cause, origin), cause == Call, "{cause:?} {origin:?}");
            }
            for origin in others {
                assert!(!plan_allowed(cause, origin), "{cause:?} {origin:?}");
            }
        }
    }

    #[test]
    fn a_providers_error_is_told_with_provider_status_and_hint() {
        let error = ProviderError {
            provider: "acme".into(),
            model: "m".into(),
            status: Some(401),
            kind: ProviderErrorKind::Auth,
            message: "the key is wrong".into(),
            hint: Some("set ACME_KEY".into()),
        };
        assert_eq!(describe(&error), "provider `acme`: the key is wrong (HTTP status 401); set ACME_KEY");
        let told = ProviderError { message: "acme refused `m` with 401".into(), hint: None, ..error };
        assert_eq!(describe(&told), "acme refused `m` with 401");
    }
}
