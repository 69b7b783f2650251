//! Who may run and until when: one tracker for every task, a soft signal (take no new work), a hard one (drop what you hold).

use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{ClockExt, SharedClock};

/// Spawns every task of the process and stops them in order. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    pub fn new() -> Self {
        Self { tracker: TaskTracker::new(), soft: CancellationToken::new(), hard: CancellationToken::new() }
    }

    /// Runs `task` until it ends by itself or the hard signal drops it. A panic ends that task alone and is logged.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hard = self.hard.clone();
        let guarded = async move {
            tokio::select! {
                biased;
                () = hard.cancelled() => tracing::debug!(task = name, "dropped at shutdown"),
                () = task => {}
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the place that owns every task")]
        let handle = tokio::spawn(self.tracker.track_future(guarded));
        // A second, tracked task only reads how the first one ended.
        #[expect(clippy::disallowed_methods, reason = "this is the place that owns every task")]
        let _watcher = tokio::spawn(self.tracker.track_future(async move {
            if let Err(ended) = handle.await
                && ended.is_panic()
            {
                tracing::error!(task = name, "a task panicked");
            }
        }));
    }

    /// Cancelled when no new work may be taken.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when what is held must be dropped.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Asks for an orderly end: soft signal, up to `grace` for tasks to finish, then the hard signal.
    pub async fn stop(&self, clock: &SharedClock, grace: Duration) {
        self.soft.cancel();
        self.tracker.close();
        if clock.timeout(grace, self.tracker.wait()).await.is_none() {
            self.hard.cancel();
            self.tracker.wait().await;
        }
    }
}
