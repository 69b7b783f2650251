//! Workers: how many runs execute at once, which queued run is next, and the way to a run that executes.

use super::engine::{self, Attempt};
use crate::clock::ClockExt;
use crate::domain::RunId;
use crate::error::Result;
use crate::lifecycle::Tasks;
use crate::store::{Claim, Owner};
use crate::tools::{Admission, Environment, Reservation, Station};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Queues are looked at this often even if nobody said that something was queued.
const POLL: Duration = Duration::from_secs(1);

/// The runs that execute, by run and epoch: a run that was handed back may be claimed again before its first executor is gone.
type Running = Arc<Mutex<HashMap<(RunId, i64), CancellationToken>>>;

/// Executes runs, at most a fixed number at once.
#[derive(Debug)]
pub struct Workers {
    owner: Owner,
    permits: Arc<Semaphore>,
    wake: Arc<Notify>,
    running: Running,
    seat: OnceLock<Seat>,
}

/// Where the workers work. The station holds its workers, so they must not hold it.
#[derive(Debug)]
struct Seat {
    station: Weak<Station>,
    tasks: Tasks,
}

impl Workers {
    /// Workers for `limit` runs at once. They begin with [`super::start`]; until then nothing is reserved or claimed.
    ///
    /// `owner` names this process among all that ever owned the home.
    pub fn new(limit: u32, owner: Owner) -> Arc<Self> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            owner,
            permits: Arc::new(Semaphore::new(limit)),
            wake: Arc::default(),
            running: Running::default(),
            seat: OnceLock::new(),
        })
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Runs that execute at this moment.
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn attach(&self, station: &Arc<Station>, tasks: &Tasks) {
        let seat = Seat { station: Arc::downgrade(station), tasks: tasks.clone() };
        if self.seat.set(seat).is_err() {
            tracing::error!("the workers were started twice; they stay with the first station");
        }
    }

    /// Claims until the station drains or is gone.
    pub(super) async fn claim_loop(self: Arc<Self>) {
        let Some(seat) = self.seat.get() else { return };
        let mut turn = 0_usize;
        loop {
            let Some(station) = seat.station.upgrade() else { return };
            if seat.tasks.soft().is_cancelled() {
                return;
            }
            self.keep_time(&station).await;
            self.claim_all(&station, turn).await;
            turn = turn.wrapping_add(1);
            let poll = station.clock.sleep(POLL);
            drop(station);
            tokio::select! {
                () = seat.tasks.soft().cancelled() => return,
                () = self.wake.notified() => {}
                () = poll => {}
            }
        }
    }

    /// Does what is due to runs that nobody executes.
    async fn keep_time(&self, station: &Arc<Station>) {
        for environment in station.environments.all() {
            if let Err(error) = self.end_overdue_in(station, &environment).await {
                tracing::error!(environment = %environment.name, ?error, "runs that are overdue can't be ended");
            }
            if let Err(error) = expire_questions(station, &environment).await {
                tracing::error!(environment = %environment.name, ?error, "questions that nobody answered can't be closed");
            }
        }
    }

    /// Ends the runs that have waited for others beyond their timeout.
    async fn end_overdue_in(&self, station: &Station, environment: &Environment) -> Result<()> {
        for run in environment.store.overdue(station.clock.now()).await? {
            if environment.store.time_out(run).await? {
                station.models.forget(run);
                stop_called_off(self, environment).await;
            }
        }
        Ok(())
    }

    /// Goes round the environments, beginning with another one each time, until no worker or no queued run is left.
    async fn claim_all(&self, station: &Arc<Station>, turn: usize) {
        let mut environments = station.environments.all();
        if environments.is_empty() {
            return;
        }
        let first = turn % environments.len();
        environments.rotate_left(first);
        loop {
            let share = (self.permits.available_permits() / environments.len()).max(1);
            let mut claimed = 0;
            for environment in &environments {
                claimed += self.claim_share(environment, share).await;
            }
            if claimed == 0 {
                return;
            }
        }
    }

    /// Claims up to `share` runs of one environment and starts them.
    async fn claim_share(&self, environment: &Arc<Environment>, share: usize) -> usize {
        if !self.has_queued(environment).await {
            return 0;
        }
        let permit = || Arc::clone(&self.permits).try_acquire_owned().ok();
        let mut permits: Vec<OwnedSemaphorePermit> = std::iter::from_fn(permit).take(share).collect();
        let Ok(want @ 1..) = u32::try_from(permits.len()) else { return 0 };
        let claims = environment.store.claim(&self.owner, want).await.unwrap_or_else(|error| {
            tracing::error!(environment = %environment.name, ?error, "queued runs can't be claimed");
            Vec::new()
        });
        let claimed = claims.len();
        for claim in claims {
            if let Some(permit) = permits.pop() {
                self.start(environment, self.reservation(permit), claim);
            }
        }
        claimed
    }

    /// Whether more runs are live than execute here. An idle station thus neither writes nor holds a permit that a submit could reserve.
    async fn has_queued(&self, environment: &Environment) -> bool {
        let here = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.keys().filter(|(run, _)| run.environment() == environment.number).count()
        };
        environment.store.live_runs().await.map_or(true, |live| live > u64::try_from(here).unwrap_or(u64::MAX))
    }

    /// A permit that wakes the claim loop when it is given back.
    fn reservation(&self, permit: OwnedSemaphorePermit) -> Reservation {
        let wake = Arc::clone(&self.wake);
        Reservation::new(self.owner.clone(), move || {
            drop(permit);
            wake.notify_one();
        })
    }
}

impl Admission for Workers {
    fn reserve(&self) -> Option<Reservation> {
        let seat = self.seat.get().filter(|seat| !seat.tasks.soft().is_cancelled())?;
        seat.station.upgrade()?;
        Some(self.reservation(Arc::clone(&self.permits).try_acquire_owned().ok()?))
    }

    fn start(&self, environment: &Arc<Environment>, reservation: Reservation, claim: Claim) {
        let seat = self.seat.get().and_then(|seat| Some((seat.station.upgrade()?, &seat.tasks)));
        let Some((station, tasks)) = seat else {
            tracing::error!(run = %claim.run.id, "a run was claimed before the workers were started; the next owner takes it over");
            return;
        };
        let registered = Registered::new(&self.running, &claim);
        let signals = engine::Signals {
            clock: Arc::clone(&station.clock),
            deadline: claim.deadline,
            cancel: registered.cancel.clone(),
            drain: tasks.soft().clone(),
        };
        let (workers, environment, calls_agents) =
            (Arc::clone(&station.admission), Arc::clone(environment), !claim.definition.agents.is_empty());
        let (attempt, grant) = Attempt::new(station, Arc::clone(&environment), signals, claim);
        tasks.spawn("run", async move {
            engine::execute(attempt, grant).await;
            if calls_agents {
                stop_called_off(&*workers, &environment).await;
            }
            // In this order: the worker that is given back looks for queued runs, and must not count this one any more.
            drop(registered);
            drop(reservation);
        });
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    fn cancel(&self, run: RunId) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, cancel) in running.iter().filter(|((id, _), _)| *id == run) {
            cancel.cancel();
        }
    }
}

/// Lets runs go on whose questions nobody has answered in time.
async fn expire_questions(station: &Station, environment: &Environment) -> Result<()> {
    for run in environment.store.unanswered(station.clock.now()).await? {
        if environment.store.expire(run).await? {
            tracing::info!(%run, environment = %environment.name, "a question expired unanswered, and its run goes on");
        }
    }
    Ok(())
}

/// Tells those that execute what was cancelled with the run that had called it.
async fn stop_called_off(workers: &dyn Admission, environment: &Environment) {
    match environment.store.called_off().await {
        Ok(runs) => runs.into_iter().for_each(|run| workers.cancel(run)),
        Err(error) => tracing::error!(environment = %environment.name, ?error, "cancelled runs can't be told to stop"),
    }
}

/// A run's place among those that execute, for as long as it does.
struct Registered {
    running: Running,
    key: (RunId, i64),
    cancel: CancellationToken,
}

impl Registered {
    fn new(running: &Running, claim: &Claim) -> Self {
        let (key, cancel) = ((claim.run.id, claim.grant.epoch), CancellationToken::new());
        running.lock().unwrap_or_else(PoisonError::into_inner).insert(key, cancel.clone());
        Self { running: Arc::clone(running), key, cancel }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
