//! The places for connections over TCP, and who gives one up when they are all taken.
//!
//! Nobody needs a key to connect, and a cheap request now and then keeps a connection. So whoever has shown no key on theirs has it only as
//! long as nobody else comes: of those the one on which nothing has been under way for the longest time is closed for a newcomer. It
//! doesn't matter who connects from where, because behind a proxy everybody comes from one address.

use super::activity::Activity;
use crate::clock::{ClockExt, SharedClock};
use crate::domain::Timestamp;
use crate::lifecycle::Tasks;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// When to look again for somebody to close, while a newcomer waits.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// All places. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    guests: HashMap<u64, Guest>,
    latest: u64,
}

/// Who has a place. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Guest(Arc<Standing>);

#[derive(Debug)]
struct Standing {
    activity: Activity,
    is_known: AtomicBool,
    gives_up: CancellationToken,
}

impl Guest {
    pub(super) fn new(activity: Activity) -> Self {
        Self(Arc::new(Standing { activity, is_known: AtomicBool::new(false), gives_up: CancellationToken::new() }))
    }

    /// A key was shown on this connection, and taken: it keeps its place.
    pub(super) fn stays(&self) {
        self.0.is_known.store(true, Ordering::Release);
    }

    /// Done when the place is another's.
    pub(super) async fn gives_up(&self) {
        self.0.gives_up.cancelled().await;
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// Since when nothing is under way, if the place can be another's.
    fn could_leave(&self) -> Option<Timestamp> {
        let is_settled = self.0.is_known.load(Ordering::Acquire) || self.0.gives_up.is_cancelled();
        (!is_settled).then(|| self.0.activity.idle_since()).flatten()
    }
}

/// A place, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    taken: Arc<Mutex<Taken>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).guests.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), taken: Arc::default() }
    }

    pub(super) fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// A place for `guest`, once there is one; `None` after the soft signal. Only one at a time may wait for it.
    pub(super) async fn take(&self, guest: &Guest, tasks: &Tasks, clock: &SharedClock) -> Option<Place> {
        loop {
            if self.are_taken() {
                self.make_room();
            }
            tokio::select! {
                biased;
                () = tasks.soft().cancelled() => return None,
                permit = Arc::clone(&self.free).acquire_owned() => return Some(self.seat(guest, permit.ok()?)),
                // Nobody could leave just now, as it seems.
                () = clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }

    fn seat(&self, guest: &Guest, permit: OwnedSemaphorePermit) -> Place {
        let mut taken = lock(&self.taken);
        taken.latest += 1;
        let number = taken.latest;
        taken.guests.insert(number, guest.clone());
        Place { number, taken: Arc::clone(&self.taken), _permit: permit }
    }

    /// Closes the connection that can best be done without, if there is any.
    pub(super) fn make_room(&self) {
        let taken = lock(&self.taken);
        let idle = taken.guests.iter().filter_map(|(number, guest)| Some((guest.could_leave()?, number, guest)));
        if let Some((_, _, guest)) = idle.min_by_key(|(since, number, _)| (*since, **number)) {
            guest.0.gives_up.cancel();
        }
    }
}
