//! Executes one run: ask the model, make the calls it asks for, show it the results, until it answers or a limit is reached.
//!
//! What happens is decided by the journal alone. [`history`] is the journal as a conversation; a run that goes on after a crash has its
//! history read from the store, a new run begins with an empty one, and from there both take the same road: [`History::due`] says what is
//! next, and whatever is done is journaled before it leaves and when it comes back.
//!
//! - `turn` asks the model, if the `budget` allows; `issue` journals the calls that it asks for, `calls` makes them, each one a `flight`; `doubt` decides what a
//!   cut-off call means. `child` submits the calls of agents, which are runs; the executor ends when only they are left, and another goes
//!   on when the store has written their results.
//! - `journal` collects what goes into the next commit; `stop` is every way an execution can end, and writes it.
//! - `history`, `transcript`, `output` and `shown` are pure: rows to conversation, conversation to messages, an answer to a value, results
//!   to what a model is shown.
//! - `pinned` holds the tools that the run was started with; `live` tells followers what is not stored.
//!
//! A new kind of step is a variant in `history`, a way to be due, and a file that does it.

mod budget;
mod calls;
mod child;
mod doubt;
mod flight;
mod history;
mod issue;
mod journal;
mod live;
mod output;
mod pinned;
mod shown;
mod stop;
mod transcript;
mod turn;

pub(super) use stop::Signals;

use crate::config::{self, Rendered};
use crate::domain::{AgentDefinition, AuditEntry, AuditOutcome, Cause, Name, Origin, Principal, Run, RunErrorKind};
use crate::store::{Claim, Ending, Grant};
use crate::tools::model::Built;
use crate::tools::{Context, Environment, Station};
use child::ChildCall;
use futures_util::FutureExt;
use history::{Due, History};
use journal::Journal;
use live::Live;
use output::Contract;
use pinned::PinnedTools;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stop::Stop;
use tokio_util::sync::CancellationToken;

/// One attempt at a run: the claimed run with everything it needs, none of which changes while it executes.
#[derive(Debug)]
pub(super) struct Attempt {
    station: Arc<Station>,
    environment: Arc<Environment>,
    run: Run,
    definition: AgentDefinition,
    max_steps: i64,
    caller_credentials: bool,
    pinned_tools: Option<String>,
    signals: Signals,
    live: Live,
}

impl Attempt {
    /// Splits a claim into what is to be done and the right to write it down.
    pub(super) fn new(
        station: Arc<Station>,
        environment: Arc<Environment>,
        signals: Signals,
        claim: Claim,
    ) -> (Self, Grant) {
        let Claim { grant, run, definition, max_steps, deadline: _, caller_credentials, pinned_tools } = claim;
        let live = Live::new(&station, &environment, &grant);
        let attempt =
            Self { station, environment, run, definition, max_steps, caller_credentials, pinned_tools, signals, live };
        (attempt, grant)
    }

    /// The id of the request that makes step `seq`, and its idempotency key: the same for every try.
    fn key(&self, seq: i64) -> String {
        format!("{}-{seq}", self.run.id)
    }

    /// The context of the call that is step `seq`, on behalf of the agent.
    fn context(&self, seq: i64, cancel: CancellationToken) -> Context {
        let name: Name = self.environment.name.clone();
        let principal = Principal::agent(self.run.as_principal(), name.clone());
        Context {
            cause: Cause::run(self.run.id),
            environment: Some(name),
            bound: true,
            cancel,
            ..Context::new(principal, Origin::Run, self.key(seq))
        }
    }

    /// The audit entry of the call that is step `seq`, of which nothing is known but its intent.
    fn lost_call(&self, tool: String, seq: i64, reason: &str) -> AuditEntry {
        let (now, key) = (self.station.clock.now(), self.key(seq));
        AuditEntry::in_run(&self.run, now, "tool.call", tool, key, AuditOutcome::Failed).because(reason)
    }
}

/// Carries a claimed run to its end, or to the point where it has to wait or to be handed back.
pub(super) async fn execute(attempt: Attempt, grant: Grant) {
    let mut journal = Journal::new(Arc::clone(&attempt.environment.store), &grant, attempt.run.turns);
    // A panic ends this run, not the worker: the grant is still at hand to say so.
    let stopped = AssertUnwindSafe(work(&attempt, &mut journal)).catch_unwind().await;
    let stop = stopped.unwrap_or_else(|_| {
        tracing::error!(run = %attempt.run.id, "the execution of a run panicked");
        Stop::failed(RunErrorKind::Internal, "the run was ended by a fault inside Station; the log has the details")
    });
    stop::settle(&attempt, &mut journal, stop).await;
}

async fn work(attempt: &Attempt, journal: &mut Journal<'_>) -> Stop {
    match Executor::begin(attempt, journal).await {
        Ok(mut executor) => executor.work().await,
        Err(stop) => stop,
    }
}

/// A run under execution.
struct Executor<'a, 'g> {
    attempt: &'a Attempt,
    journal: &'a mut Journal<'g>,
    prompt: Rendered,
    /// What the answer has to be, if the agent says so.
    output: Option<Contract>,
    tools: PinnedTools,
    history: History,
    /// It, or a run whose call it is, may use only so much.
    limited: bool,
    /// That of the last turn.
    provider: Option<Built>,
    /// Calls of agents whose intents are about to be committed.
    children: Vec<ChildCall>,
    /// A question's intent is about to be committed.
    asks: bool,
    /// Calls off whatever is under way.
    call_off: CancellationToken,
}

impl<'a, 'g> Executor<'a, 'g> {
    /// Reads what has happened before, and pins the tools of a run that is new.
    async fn begin(attempt: &'a Attempt, journal: &'a mut Journal<'g>) -> Result<Self, Stop> {
        let store = &attempt.environment.store;
        if store.cancel_requested(attempt.run.id).await? {
            return Err(Stop::End(Ending::Cancelled));
        }
        let mut history = History::read(&store.journal_rows(attempt.run.id).await?, &attempt.run.model.id)?;
        let prompt = config::render_agent(&attempt.definition, &attempt.run.input)
            .map_err(|error| Stop::failed(RunErrorKind::Internal, stop::explain(&error)))?;
        let output = attempt.definition.output_schema.as_ref().map(Contract::new).transpose()?;
        let tools = match &attempt.pinned_tools {
            Some(pinned) => PinnedTools::parse(pinned)?,
            None => {
                let tools = attempt.signals.unless_interrupted(PinnedTools::choose(attempt)).await??;
                journal.pin(tools.to_json()?);
                tools
            }
        };
        let limit = usize::try_from(attempt.station.settings.runs.result_bytes).unwrap_or(usize::MAX);
        history.cut(limit, |name| tools.get(name).is_some_and(|tool| tool.agent.is_some()));
        let budgets = store.budgets(attempt.run.id).await?;
        budget::known(&budgets)?;
        let limited = !budgets.is_empty();
        let (provider, children, call_off) = (None, Vec::new(), CancellationToken::new());
        Ok(Self {
            attempt,
            journal,
            prompt,
            output,
            tools,
            history,
            limited,
            provider,
            children,
            asks: false,
            call_off,
        })
    }

    /// The loop.
    async fn work(&mut self) -> Stop {
        loop {
            if let Some(interrupt) = self.attempt.signals.pending() {
                return interrupt.into();
            }
            let done = match self.history.due() {
                Due::Model => self.ask_model().await,
                Due::Calls => self.call_tools().await,
                Due::End => self.conclude().await,
            };
            if let Err(stop) = done {
                return stop;
            }
        }
    }
}
