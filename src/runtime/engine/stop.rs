//! Every way an execution can stop, what stops it from outside, and how the stop is written down.

use super::Attempt;
use super::journal::Journal;
use super::shown::bounded;
use crate::clock::{ClockExt, SharedClock};
use crate::domain::{RunErrorKind, Timestamp, WaitingFor};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Ending, Written};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a draining station lets a call finish whose result would otherwise be lost: a new owner waits 10 s in all, and the attached
/// servers need their part of it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(4);

/// How long a store that refuses a write is left alone before it is asked again.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// Why an execution stops.
#[derive(Debug)]
pub(super) enum Stop {
    End(Ending),
    /// Somebody has to do something first. The steps are those that it is about.
    Park {
        waiting_for: WaitingFor,
        steps: Vec<i64>,
    },
    /// The calls that are left are runs; a worker goes on when they have ended.
    Wait,
    /// Another worker goes on.
    Release,
    /// The same, but the store can't take anything new at the moment.
    Later,
    /// The run has moved on without this executor.
    Stale,
}

impl Stop {
    pub(super) fn failed(kind: RunErrorKind, message: impl Into<String>) -> Self {
        Self::End(Ending::Failed { kind, message: message.into() })
    }
}

/// An error of the house itself. One that passes hands the run back; any other ends it.
impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::Unavailable {
            tracing::warn!(?error, "a run is handed back");
            return Self::Later;
        }
        tracing::error!(?error, "a run can't go on");
        Self::failed(RunErrorKind::Internal, explain(&error))
    }
}

/// An error's message with its hint, for the `error` of a run or a step.
pub(super) fn explain(error: &Error) -> String {
    let message = bounded(error.message().to_owned());
    match error.hint_text() {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

/// What ends an execution from outside.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Signals {
    pub(in crate::runtime) clock: SharedClock,
    /// Of the whole run.
    pub(in crate::runtime) deadline: Timestamp,
    pub(in crate::runtime) cancel: CancellationToken,
    /// Runs are to be handed back.
    pub(in crate::runtime) drain: CancellationToken,
}

/// Which of the signals it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    Cancelled,
    TimedOut,
    Draining,
}

impl From<Interrupt> for Stop {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Self::End(Ending::Cancelled),
            Interrupt::TimedOut => Self::failed(
                RunErrorKind::Timeout,
                "the run didn't end within its timeout; raise `timeout` in the agent's file, or `runs.timeout` in station.yml",
            ),
            Interrupt::Draining => Self::Release,
        }
    }
}

impl Signals {
    /// The signal that is there already: looked at between two steps.
    pub(super) fn pending(&self) -> Option<Interrupt> {
        if self.cancel.is_cancelled() {
            Some(Interrupt::Cancelled)
        } else if self.clock.now() >= self.deadline {
            Some(Interrupt::TimedOut)
        } else {
            self.drain.is_cancelled().then_some(Interrupt::Draining)
        }
    }

    /// The signal that ends a call under way. A drain waits a while for the call first.
    pub(super) async fn interrupted(&self) -> Interrupt {
        let drained = async {
            self.drain.cancelled().await;
            self.clock.sleep(DRAIN_PATIENCE).await;
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Interrupt::Cancelled,
            () = self.clock.sleep_until(self.deadline) => Interrupt::TimedOut,
            () = drained => Interrupt::Draining,
        }
    }

    /// The output of `work`, unless a signal comes first and drops it.
    pub(super) async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            output = work => Ok(output),
            interrupt = self.interrupted() => Err(interrupt),
        }
    }
}

/// Writes the stop down, with what had come back before it. A store that can't be written is asked again for as long as the process
/// lives: a run must not stay `running` without anybody who runs it. What the store will never take is given up, and fails the run.
pub(super) async fn settle(attempt: &Attempt, journal: &mut Journal<'_>, mut stop: Stop) {
    let clock = &attempt.station.clock;
    if matches!(stop, Stop::Later) {
        clock.sleep(STORE_PATIENCE).await;
    }
    while let Err(error) = write(attempt, journal, &stop).await {
        tracing::error!(run = %attempt.run.id, ?error, "the end of a run can't be written; it is tried again");
        if error.kind() != ErrorKind::Unavailable {
            journal.give_up_outcomes();
            stop = Stop::failed(RunErrorKind::Internal, explain(&error));
        }
        clock.sleep(STORE_PATIENCE).await;
    }
}

async fn write(attempt: &Attempt, journal: &mut Journal<'_>, stop: &Stop) -> Result<()> {
    if matches!(stop, Stop::Stale) || journal.flush_outcomes().await? == Written::Stale {
        return left_behind(attempt).await;
    }
    let (store, grant) = (&attempt.environment.store, journal.grant());
    let written = match stop {
        Stop::End(ending) => store.finish(grant, ending.clone()).await?,
        Stop::Park { waiting_for, steps } => store.park(grant, *waiting_for, steps).await?,
        Stop::Wait => store.wait_for_children(grant).await?,
        Stop::Release | Stop::Later => store.release(grant).await?,
        Stop::Stale => Written::Stale,
    };
    match (written, stop) {
        (Written::Stale, _) => return left_behind(attempt).await,
        (Written::Done, Stop::End(_)) => attempt.station.models.forget(attempt.run.id),
        (Written::Done, _) => {}
    }
    Ok(())
}

/// The run is in other hands, or has ended meanwhile (a cancel that a drain met); then its caller's keys aren't needed any more.
async fn left_behind(attempt: &Attempt) -> Result<()> {
    tracing::debug!(run = %attempt.run.id, "the run went on without this executor");
    let run = attempt.environment.store.run(attempt.run.id).await?;
    if run.is_none_or(|run| run.status.is_terminal()) {
        attempt.station.models.forget(attempt.run.id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::sync::Arc;

    fn signals() -> (Arc<ManualClock>, Signals) {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let deadline = Timestamp::from_millis(60_000);
        let (cancel, drain) = (CancellationToken::new(), CancellationToken::new());
        (Arc::clone(&clock), Signals { clock, deadline, cancel, drain })
    }

    #[tokio::test]
    async fn a_drain_ends_a_run_between_steps_at_once_and_a_call_after_a_while() {
        let (clock, signals) = signals();
        signals.drain.cancel();
        assert_eq!(signals.pending(), Some(Interrupt::Draining));
        let call = signals.unless_interrupted(std::future::pending::<()>());
        tokio::pin!(call);
        assert!(futures_util::poll!(&mut call).is_pending());
        clock.advance(DRAIN_PATIENCE);
        assert_eq!(call.await, Err(Interrupt::Draining));
    }

    #[tokio::test]
    async fn a_cancel_counts_more_than_a_deadline_that_has_passed() {
        let (clock, signals) = signals();
        clock.advance(Duration::from_secs(61));
        assert_eq!(signals.pending(), Some(Interrupt::TimedOut));
        signals.cancel.cancel();
        assert_eq!(signals.pending(), Some(Interrupt::Cancelled));
        assert_eq!(signals.interrupted().await, Interrupt::Cancelled);
    }
}
