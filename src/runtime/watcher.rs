//! Takes the files of an environment up soon after they were saved, as a sync does.
//!
//! Directories are watched, never single files: an editor replaces a file by another of the same name. Of an environment that is its
//! directory, `agents/`, and those in which lies what their links lead to or through; its `workspace/` belongs to agents. Whatever happens
//! is only a hint that something may be different: what is different is what a look at the files finds, so that a hint too many costs a
//! look and nothing else.

mod links;

use crate::clock::{ClockExt, SharedClock};
use crate::config::FileProblem;
use crate::domain::{AuditEntry, Name};
use crate::lifecycle::Tasks;
use crate::tools::environment::sync;
use crate::tools::{Environment, Station};
use links::Trails;
use notify::{Config, Event, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// So long nothing more has to happen before the files are read: an editor's save is several steps, a checkout is hundreds.
const QUIET: Duration = Duration::from_millis(300);

/// Files that never come to rest are read all the same after this time.
const AT_MOST: Duration = Duration::from_secs(3);

/// How often directories are looked through where the system tells nothing.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// What the station's own looks are called in the audit.
const REQUEST: &str = "watch";

/// Watches the files of every environment until `tasks` end. What changes from the moment of the call on is taken up.
pub fn watch(station: &Arc<Station>, tasks: &Tasks) {
    let environments = station.environments.all();
    let changed: BTreeMap<Name, Arc<Notify>> =
        environments.iter().map(|environment| (environment.name.clone(), Arc::default())).collect();
    let root = station.home.environments_dir();
    let hints = Arc::new(Hints { root: root.clone(), changed: changed.clone(), trails: Mutex::default() });
    let eyes = Arc::new(Eyes::open(&hints));
    eyes.look_at(&root);
    for environment in environments {
        let Some(changed) = changed.get(&environment.name).cloned() else { continue };
        let (name, directory) = (environment.name.clone(), station.home.environment_dir(&environment.name));
        let (eyes, hints, also) = (Arc::clone(&eyes), Arc::clone(&hints), BTreeSet::new());
        let mut folder = Folder { name, directory, changed, eyes, hints, also };
        folder.look();
        let (station, ended) = (Arc::clone(station), tasks.soft().clone());
        tasks.spawn("file watcher", async move { folder.follow(&station, &environment, &ended).await });
    }
}

/// One environment's directory.
struct Folder {
    name: Name,
    directory: PathBuf,
    changed: Arc<Notify>,
    eyes: Arc<Eyes>,
    hints: Arc<Hints>,
    /// What is watched beside `directory`.
    also: BTreeSet<PathBuf>,
}

impl Folder {
    /// Has it watched as it is now: it may have been replaced by another of the same name.
    fn look(&mut self) {
        self.eyes.look_at(&self.directory);
        let trails = Trails::of(&self.directory);
        let mut also = trails.directories();
        also.retain(|directory| *directory != self.directory && *directory != self.hints.root);
        self.hints.follow(&self.name, trails);
        self.also.difference(&also).for_each(|directory| self.eyes.leave(directory));
        also.iter().for_each(|directory| self.eyes.look_at(directory));
        self.also = also;
    }

    async fn follow(&mut self, station: &Arc<Station>, environment: &Arc<Environment>, ended: &CancellationToken) {
        let changed = Arc::clone(&self.changed);
        let next = async || {
            changed.notified().await;
            quiet(&station.clock, &changed).await;
        };
        while ended.run_until_cancelled(next()).await.is_some() {
            // Before the files are read, so that nothing is missed between.
            self.look();
            take_up(station, environment).await;
        }
    }
}

/// Ready once nothing more has happened for a while.
async fn quiet(clock: &SharedClock, changed: &Notify) {
    let at_most = clock.now() + AT_MOST;
    loop {
        let left = at_most.since(clock.now()).min(QUIET);
        if left.is_zero() || clock.timeout(left, changed.notified()).await.is_none() {
            return;
        }
    }
}

async fn take_up(station: &Arc<Station>, environment: &Arc<Environment>) {
    let name = &environment.name;
    let known = environment.problems.get();
    let before = environment.store.config_revision().await.ok().flatten();
    let audit = AuditEntry::by_the_station(station.clock.now(), "environment.sync", name, REQUEST);
    match sync::take_up(station, environment, audit).await {
        Ok(looked) => {
            let is_new = |problem: &&FileProblem| !known.contains(problem);
            looked.problems().iter().filter(is_new).for_each(|problem| {
                tracing::warn!(environment = %name, hint = problem.hint, "{problem}");
            });
            if before.as_deref() != Some(looked.revision()) {
                tracing::info!(environment = %name, revision = looked.revision(), "changed files were taken up");
            }
        }
        Err(error) => tracing::error!(environment = %name, ?error, "changed files were not taken up"),
    }
}

/// Whatever tells that files have changed.
struct Eyes(Mutex<Box<dyn Watcher + Send>>);

impl Eyes {
    /// The system's own way to tell, else looking through the directories now and then.
    fn open(hints: &Arc<Hints>) -> Self {
        let told = || {
            let hints = Arc::clone(hints);
            move |event| hints.take(event)
        };
        let own: notify::Result<Box<dyn Watcher + Send>> =
            RecommendedWatcher::new(told(), Config::default()).map(|watcher| Box::new(watcher) as _);
        let watcher = own.or_else(|error| {
            tracing::warn!(%error, every = ?POLL_EVERY, "the system doesn't tell when files change: they are looked at now and then");
            let config = Config::default().with_poll_interval(POLL_EVERY);
            PollWatcher::new(told(), config).map(|watcher| Box::new(watcher) as _)
        });
        Self(Mutex::new(watcher.unwrap_or_else(|error| {
            tracing::error!(%error, "files aren't watched: `stn sync` takes them up");
            Box::new(notify::NullWatcher)
        })))
    }

    fn leave(&self, directory: &Path) {
        let _may_be_gone = self.0.lock().unwrap_or_else(PoisonError::into_inner).unwatch(directory);
    }

    /// Watches what is in `directory`, not below. One that isn't there is told of by the one above it, once it is.
    fn look_at(&self, directory: &Path) {
        let mut watcher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _was_not_watched = watcher.unwatch(directory);
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive)
            && directory.exists()
        {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "a directory can't be watched: `stn sync` takes its files up");
        }
    }
}

/// Tells whom a change concerns.
struct Hints {
    /// The directory with the environments.
    root: PathBuf,
    changed: BTreeMap<Name, Arc<Notify>>,
    /// Of environments that were looked at.
    trails: Mutex<BTreeMap<Name, Trails>>,
}

impl Hints {
    fn follow(&self, environment: &Name, trails: Trails) {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner).insert(environment.clone(), trails);
    }

    fn take(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.all(),
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) => event.paths.iter().for_each(|path| self.path(path)),
            Err(error) => {
                tracing::warn!(%error, "a change of files was missed: all of them are looked at");
                self.all();
            }
        }
    }

    fn all(&self) {
        self.changed.values().for_each(|changed| changed.notify_one());
    }

    fn path(&self, path: &Path) {
        for (environment, trails) in &*self.trails.lock().unwrap_or_else(PoisonError::into_inner) {
            let is_prompt = path.parent() == trails.agents.as_deref() && path.parent().is_some() && is_prompt(path);
            if is_prompt || trails.paths.contains(path) {
                self.changed.get(environment).into_iter().for_each(|changed| changed.notify_one());
            }
        }
        let Some(inside) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else { return };
        let mut parts = inside.splitn(2, '/');
        let (environment, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match self.changed.get(environment) {
            Some(changed) if matters(rest) => changed.notify_one(),
            Some(_) => {}
            None if Name::new(environment).is_ok() && path.is_dir() => {
                tracing::warn!(
                    environment,
                    "a new directory in environments/ becomes one when the station is started again"
                );
            }
            None => {}
        }
    }
}

/// Whether what an environment says can change with this path in its directory. Editors' own files don't count.
fn matters(path: &str) -> bool {
    match path.strip_prefix("agents/") {
        Some(file) => !file.contains('/') && is_prompt(Path::new(file)),
        None if path.contains('/') => false,
        None => matches!(path, "" | "agents" | "variables.yml") || has_ending(Path::new(path), ".json"),
    }
}

fn is_prompt(path: &Path) -> bool {
    has_ending(path, ".prompt")
}

fn has_ending(path: &Path, ending: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(ending) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;
    use std::pin::pin;
    use std::task::Poll;

    #[test]
    fn only_what_an_environment_is_made_of_matters() {
        for path in ["", "agents", "variables.yml", "servers.json", "agents/hello.prompt", "agents/Two Words.prompt"] {
            assert!(matters(path), "{path}");
        }
        for path in [
            "workspace",
            "workspace/a.json",
            "agents/.hello.prompt.swp",
            "agents/4913",
            "agents/hello.prompt~",
            "agents/.hello.prompt.stn-new",
            "agents/old/hello.prompt",
            ".#servers.json",
            ".variables.yml.stn-new",
            "notes.md",
        ] {
            assert!(!matters(path), "{path}");
        }
    }

    #[tokio::test]
    async fn files_are_read_once_they_rest_and_no_later_than_three_seconds_after_the_first_change() {
        let manual = ManualClock::at(Timestamp::from_millis(1_000));
        let clock: SharedClock = manual.clone();
        let changed = Notify::new();
        let mut resting = pin!(quiet(&clock, &changed));
        for _ in 0..9 {
            assert!(futures_util::poll!(&mut resting).is_pending());
            manual.advance(Duration::from_millis(299));
            changed.notify_one();
        }
        assert!(futures_util::poll!(&mut resting).is_pending(), "2.7 s, and never at rest");
        manual.advance(Duration::from_millis(300));
        assert_eq!(futures_util::poll!(&mut resting), Poll::Ready(()), "at rest");

        let mut restless = pin!(quiet(&clock, &changed));
        let mut waited = Duration::ZERO;
        while futures_util::poll!(&mut restless).is_pending() {
            manual.advance(Duration::from_millis(250));
            waited += Duration::from_millis(250);
            changed.notify_one();
        }
        assert_eq!(waited, AT_MOST);
    }
}
