//! The only reader of time. Everything that waits, times out or stamps takes a [`Clock`]; tests move a [`ManualClock`] by hand.

use crate::domain::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// A future that is boxed because clocks are used as trait objects.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wall-clock time for records and deadlines.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now, in unix milliseconds; never goes backwards within a process.
    fn now(&self) -> Timestamp;

    /// Resolves once [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Timestamp) -> Sleep;
}

/// How clocks are passed around.
pub type SharedClock = Arc<dyn Clock>;

/// What every clock can do besides telling the time.
pub trait ClockExt {
    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// `Some(output)` when `future` is ready within `limit`, else `None` with the future dropped.
    fn timeout<F: Future>(&self, limit: Duration, future: F) -> impl Future<Output = Option<F::Output>>;
}

impl<C: Clock + ?Sized> ClockExt for C {
    fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    fn timeout<F: Future>(&self, limit: Duration, future: F) -> impl Future<Output = Option<F::Output>> {
        let alarm = self.sleep(limit);
        async move {
            tokio::select! {
                biased;
                output = future => Some(output),
                () = alarm => None,
            }
        }
    }
}

/// The time of the machine.
#[derive(Debug)]
pub struct SystemClock {
    latest: std::sync::atomic::AtomicI64,
}

impl SystemClock {
    /// The clock that a real station runs by.
    pub fn shared() -> SharedClock {
        Arc::new(Self { latest: std::sync::atomic::AtomicI64::new(0) })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads time")]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let before = self.latest.fetch_max(wall, std::sync::atomic::Ordering::AcqRel);
        Timestamp::from_millis(wall.max(before))
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let left = at.since(self.now());
        #[expect(clippy::disallowed_methods, reason = "this is the one place that waits for time")]
        Box::pin(tokio::time::sleep(left))
    }
}

/// A clock that a test moves. Sleepers wake in the order of their deadlines.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<ManualState>,
}

#[derive(Debug)]
struct ManualState {
    now: Timestamp,
    next: u64,
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
}

impl ManualClock {
    /// A clock that stands at `now` until [`ManualClock::advance`] is called.
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(ManualState { now, next: 0, sleepers: BTreeMap::new() }) })
    }

    /// Moves time forward by `duration` and wakes whoever is due.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.now + duration;
        state.now = now;
        let later = state.sleepers.split_off(&(now + Duration::from_millis(1), 0));
        for sleeper in std::mem::replace(&mut state.sleepers, later).into_values() {
            let _gone = sleeper.send(());
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if at <= state.now {
            return Box::pin(std::future::ready(()));
        }
        let (wake, woken) = oneshot::channel();
        let ticket = state.next;
        state.next += 1;
        state.sleepers.insert((at, ticket), wake);
        Box::pin(async move {
            let _closed = woken.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_only_those_who_are_due() {
        let clock = ManualClock::at(Timestamp::from_millis(1_000));
        let early = clock.sleep(Duration::from_secs(1));
        let mut late = clock.sleep(Duration::from_secs(2));
        clock.advance(Duration::from_millis(1_500));
        early.await;
        assert!(futures_util::future::poll_immediate(&mut late).await.is_none());
        clock.advance(Duration::from_millis(500));
        late.await;
        assert_eq!(clock.now(), Timestamp::from_millis(3_000));
    }

    #[tokio::test]
    async fn a_timeout_gives_nothing_when_time_runs_out_first() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let waiting = clock.timeout(Duration::from_secs(1), std::future::pending::<()>());
        clock.advance(Duration::from_secs(1));
        assert_eq!(waiting.await, None);
    }
}
