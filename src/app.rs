//! The composition root: the only place that names concretes and puts the rooms together.

mod serve;

pub use serve::{ServeOptions, serve};

use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, FIRST_ENVIRONMENTS, STATION_YML, Settings};
use crate::domain::{AuditEntry, Name};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::gateway::{Gateway, GatewayDeps};
use crate::home::{self, Home, Layout, OwnerLock};
use crate::lifecycle::Tasks;
use crate::net;
use crate::process::Spawner;
use crate::redact::{Redactor, STATION, scope_of};
use crate::runtime::Workers;
use crate::secrets::{self, Ask, NewPassphrase, Secrets, Stretched, Unlocked};
use crate::store::sqlite::{SqliteControl, SqliteStore, refuse_foreign};
use crate::store::{self, ControlStore, EnvironmentRow, Owner, Store};
use crate::tools::environment::sync;
use crate::tools::model::{LocalServers, Models, ProviderVariables};
use crate::tools::{self, Environment, Environments, FileProblems, NoWorkers, Station};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// A home that this process owns, opened.
#[derive(Debug)]
pub struct App {
    pub station: Arc<Station>,
    pub workers: Option<Arc<Workers>>,
    pub tasks: Tasks,
    pub spawner: Spawner,
    pub lock: OwnerLock,
    /// The keys to the secrets of all environments.
    pub root: Unlocked,
}

/// What an [`App`] is made from.
#[derive(Debug)]
pub struct Parts {
    pub home: Home,
    pub settings: Settings,
    /// The process's environment, read once at start.
    pub variables: BTreeMap<String, String>,
    pub clock: SharedClock,
    pub lock: OwnerLock,
    /// Stands before the process's diagnostics already.
    pub redactor: Redactor,
    /// The keys to the secrets; `None` for a home that has no root yet, which then gets one.
    pub root: Option<Unlocked>,
    /// With workers, runs are executed here.
    pub executes: bool,
    /// Attached servers are started; else they are only known.
    pub starts_servers: bool,
}

/// The settings of `home`, from `station.yml` and the `STN_` variables. Problems name file and line.
pub fn settings(home: &Home, variables: &BTreeMap<String, String>) -> Result<Settings> {
    config::load_settings(&home.station_yml(), STATION_YML, variables)
}

/// Refuses a home with the database of another program where a store of ours would be. Nothing is changed.
pub fn refuse_foreign_stores(home: &Home) -> Result<()> {
    refuse_foreign(&home.control_db())?;
    // What can't be read is told by whoever has to open it.
    let entries = std::fs::read_dir(home.stores_dir()).into_iter().flatten().flatten();
    let mut stores = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "db"));
    stores.try_for_each(|path| refuse_foreign(&path))
}

/// Where a home has its schemas, as the sample files name it for editors; the other layout has its cache elsewhere.
const SAMPLE_SCHEMAS: (&str, &str) = ("cache/schemas/", "../data/cache/schemas/");

/// The environment that the Go Station makes and uses by itself.
const GO_DEFAULT: &str = "default";

/// Creates what an empty home lacks, with the sample agent. `true` when it was empty. `variables` may name the key that a new home gets:
/// where that can't be used, nothing is made.
pub fn first_use(home: &Home, variables: &BTreeMap<String, String>) -> Result<bool> {
    if !secrets::has_root(home) {
        refuse_foreign_stores(home)?;
    }
    secrets::check_new(home, variables)?;
    let own = config::HOME_FILES.iter().map(|file| (file.path.to_owned(), file.contents));
    let sample = config::SAMPLE_ENVIRONMENT_FILES
        .iter()
        .map(|file| (format!("environments/{}/{}", FIRST_ENVIRONMENTS[0], file.path), file.contents));
    let placed = |text: &str| match home.layout() {
        Layout::Home => text.to_owned(),
        Layout::System => text.replace(SAMPLE_SCHEMAS.0, SAMPLE_SCHEMAS.1),
    };
    let files: Vec<(String, String)> = own.chain(sample).map(|(path, text)| (path, placed(text))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    let is_new = home::create(home, &files)?;
    if is_new {
        write_schemas(home)?;
    }
    Ok(is_new)
}

/// Writes the JSON Schemas of this version into the home's cache, where editors find what the sample files name.
fn write_schemas(home: &Home) -> Result<()> {
    config::schema_texts()
        .try_for_each(|(name, text)| home::keep_in_cache(home, &config::schema_path(name), text.as_bytes()))
}

/// Gives a home without a root one: for this passphrase, or for what the environment names, or for a new key. A passphrase for a home
/// that has a root must be its own.
pub fn init_root(home: &Home, variables: &BTreeMap<String, String>, passphrase: Option<NewPassphrase>) -> Result<()> {
    if passphrase.is_none() {
        secrets::check_new(home, variables)?;
    }
    let (has_root, is_in_use) = (secrets::has_root(home), home.control_db().exists());
    match &passphrase {
        // One of before there were secrets, or one that has lost its root: its next owner sees which.
        None if has_root || is_in_use => return Ok(()),
        Some(_) if is_in_use && !has_root => {
            return Err(home::misconfigured("this home is in use already, and its secrets are not under a passphrase")
                .hint("a passphrase is chosen when a home is new: leave it out, or make another home"));
        }
        _ => {}
    }
    // Before there is anything else in it: whatever is interrupted here leaves no home that the next command would put under another key.
    home::create(home, &[])?;
    secrets::create(home, variables, passphrase).map(drop)
}

/// The keys of `home`, if it has a root, before anything else of it is opened. Stretching a passphrase takes a moment.
async fn unlock(
    home: &Home,
    variables: &BTreeMap<String, String>,
    ask: Ask,
    stretched: Option<Stretched>,
) -> Result<Option<Unlocked>> {
    let (home, variables) = (home.clone(), variables.clone());
    blocking(move || secrets::unlock(&home, &variables, ask, stretched)).await
}

/// Opens the home for one short command, whose process holds the lock. Nothing is started, and nobody executes the runs that an earlier
/// owner left: they are queued. Files are taken up first, except for a command that looks at them by itself: a dry run must find them as
/// they are.
pub async fn open_for_command(
    home: Home,
    variables: BTreeMap<String, String>,
    lock: OwnerLock,
    redactor: Redactor,
    takes_up_files: bool,
    ask: Ask,
) -> Result<App> {
    let settings = settings(&home, &variables)?;
    let root = unlock(&home, &variables, ask, None).await?;
    let clock = SystemClock::shared();
    let (executes, starts_servers) = (false, false);
    let app = open(Parts { home, settings, variables, clock, lock, redactor, root, executes, starts_servers }).await?;
    free_runs(&app.station, &Owner(random_id()?)).await;
    if takes_up_files {
        take_up_files(&app.station).await;
    } else {
        app.station.ready.cancel();
    }
    Ok(app)
}

/// Takes the runs out of the hands of owners that are gone. One store that fails doesn't stop the others.
async fn free_runs(station: &Station, owner: &Owner) {
    for environment in station.environments.all() {
        if let Err(error) = environment.store.take_over(owner).await {
            tracing::error!(environment = %environment.name, ?error, "runs of an earlier owner can't be freed");
        }
    }
}

/// Takes up what every environment's files say. One environment whose files can't be read doesn't stop the others, and one that waits,
/// such as for a slow git, doesn't hold them up.
async fn take_up_files(station: &Arc<Station>) {
    join_all(station.environments.all().iter().map(|environment| take_up(station, environment))).await;
    station.ready.cancel();
}

async fn take_up(station: &Arc<Station>, environment: &Arc<Environment>) {
    let audit = system_audit(&station.clock, "environment.sync", &environment.name);
    match sync::take_up(station, environment, audit).await {
        Ok(looked) => looked.problems().iter().for_each(|problem| {
            tracing::warn!(environment = %environment.name, hint = problem.hint, "{problem}");
        }),
        Err(error) => {
            tracing::error!(environment = %environment.name, ?error, "the environment's files were not taken up");
        }
    }
}

/// Opens the stores and puts the station together. Nothing is started yet.
pub async fn open(parts: Parts) -> Result<App> {
    let Parts { home, settings, variables, clock, lock, redactor, root, executes, starts_servers } = parts;
    let settings = Arc::new(settings);
    let tasks = Tasks::new();
    let events = Events::new(redactor.within(STATION));
    let http = net::http_client()?;
    let spawner = Spawner::start()?;
    let written = home.clone();
    if let Err(error) = blocking(move || write_schemas(&written)).await {
        tracing::warn!(?error, "the schemas for editors can't be written");
    }
    let control = open_control(&home, &clock, &redactor).await?;
    let rows = known_environments(&*control, &home, &clock).await?;
    let default_environment = default_environment(&settings, &rows)?;
    let existing: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    config::check_environments(&settings, STATION_YML, &existing)?;
    let environments = Environments::default();
    let mut opened = Vec::new();
    for row in rows {
        let store = open_store(&home, &row, &clock, &events, &redactor.within(&scope_of(&row.name))).await?;
        opened.push((row, store));
    }
    let root = match root {
        Some(root) => root,
        None => new_root(&home, &variables, &opened).await?,
    };
    let mut values = BTreeMap::new();
    for (row, store) in opened {
        let (name, kept) = (row.name.clone(), Arc::clone(&store));
        let redactor = redactor.within(&scope_of(&name));
        let secrets = Secrets::open(root.clone(), name, kept, redactor.clone()).await?;
        values.insert(row.name.clone(), secrets.values().clone());
        let deps = GatewayDeps {
            clock: Arc::clone(&clock),
            tasks: tasks.clone(),
            http: http.clone(),
            spawner: spawner.clone(),
            redactor: redactor.clone(),
            starts_servers,
            cache_dir: home.cache_dir(),
            home: home.root().to_owned(),
            workspace: home.workspace_dir(&row.name),
            secrets: secrets.values().clone(),
            tool_timeout: Duration::from_millis(settings.runs.tool_timeout_ms),
        };
        let gateway = Gateway::new(row.name.clone(), deps);
        environments.insert(Arc::new(Environment {
            name: row.name,
            number: row.number,
            store,
            gateway,
            secrets,
            redactor,
            files: Mutex::new(()),
            problems: FileProblems::default(),
        }));
    }
    let workers = if executes { Some(Workers::new(settings.runs.workers, Owner(random_id()?))) } else { None };
    let admission: Arc<dyn tools::Admission> = match &workers {
        Some(workers) => Arc::clone(workers) as Arc<dyn tools::Admission>,
        None => Arc::new(NoWorkers),
    };
    let models = Models::new(Arc::clone(&settings), ProviderVariables::from_map(&variables), http, Arc::clone(&clock));
    let table = tools::table();
    let station = Arc::new(Station {
        models: models.with_secrets(values).behind(redactor.clone(), &table).looking_for(LocalServers::usual()),
        started_at: clock.now(),
        mode: lock.info().mode.as_str(),
        table,
        process_variables: variables,
        http_listen: OnceLock::new(),
        clock,
        events,
        settings,
        home,
        control,
        admission,
        environments,
        default_environment,
        ready: CancellationToken::new(),
        giving: tokio::sync::Mutex::default(),
        denials: crate::tools::Throttle::new(crate::tools::MOST_DENIALS),
        tasks: tasks.clone(),
        spawner: spawner.clone(),
        redactor: redactor.within(STATION),
    });
    Ok(App { station, workers, tasks, spawner, lock, root })
}

/// The root of a home that has none: a new one, or one of before there were secrets.
async fn new_root(
    home: &Home,
    variables: &BTreeMap<String, String>,
    stores: &[(EnvironmentRow, Arc<dyn Store>)],
) -> Result<Unlocked> {
    for (row, store) in stores {
        secrets::refuse_without_root(&row.name, &**store).await?;
    }
    let (home, variables) = (home.clone(), variables.clone());
    blocking(move || secrets::create(&home, &variables, None)).await
}

async fn open_control(home: &Home, clock: &SharedClock, redactor: &Redactor) -> Result<Arc<dyn ControlStore>> {
    let (db, audit, clock) = (home.control_db(), home.audit_dir().join("station.jsonl"), Arc::clone(clock));
    let store = blocking(move || SqliteControl::open(&db, &audit, clock)).await?;
    Ok(Arc::new(store::Redacted::new(redactor.clone(), Arc::new(store))))
}

async fn open_store(
    home: &Home,
    row: &EnvironmentRow,
    clock: &SharedClock,
    events: &Events,
    redactor: &Redactor,
) -> Result<Arc<dyn Store>> {
    let (db, audit) = (home.data_db(&row.name), home.audit_dir().join(format!("{}.jsonl", row.name)));
    let (row, clock, events) = (row.clone(), Arc::clone(clock), events.behind(redactor.clone()));
    let open = move || SqliteStore::open(&db, &audit, (row.name, row.number), clock, events);
    Ok(Arc::new(store::Redacted::new(redactor.clone(), Arc::new(blocking(open).await?))))
}

/// The environments of the control store; a new home gets its first three, and a directory that came with git is taken up.
async fn known_environments(
    control: &dyn ControlStore,
    home: &Home,
    clock: &SharedClock,
) -> Result<Vec<EnvironmentRow>> {
    let mut rows = control.environments().await?;
    let mut wanted: Vec<Name> = if rows.is_empty() {
        FIRST_ENVIRONMENTS.iter().filter_map(|name| Name::new(name).ok()).collect()
    } else {
        Vec::new()
    };
    let directory = home.environments_dir();
    let found = blocking(move || environment_directories(&directory)).await?;
    wanted.extend(found);
    for name in wanted {
        if !rows.iter().any(|row| row.name == name) {
            let audit = system_audit(clock, "environment.create", &name);
            rows.push(control.environment_create(&name, audit).await?);
        }
    }
    let directories: Vec<_> =
        rows.iter().flat_map(|row| [home.agents_dir(&row.name), home.workspace_dir(&row.name)]).collect();
    blocking(move || {
        directories.iter().for_each(|directory| create_directory(directory));
        Ok(())
    })
    .await?;
    Ok(rows)
}

/// One that can't be made stops nobody else: what is missing or odd is told when the environment's files are read.
fn create_directory(directory: &Path) {
    // Whatever is there already is what its owner has put there.
    let is_missing = std::fs::symlink_metadata(directory).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_missing && let Err(error) = std::fs::create_dir_all(directory) {
        tracing::error!(directory = %directory.display(), %error, "a directory of an environment can't be created");
    }
}

/// The directories that are environments. One whose name can't be an environment's is left alone and said so.
fn environment_directories(directory: &Path) -> Result<Vec<Name>> {
    let told = |found| match found {
        Ok(name) => Some(name),
        Err(problem) => {
            tracing::error!("{problem}");
            None
        }
    };
    Ok(config::environment_directories(directory)?.into_iter().filter_map(told).collect())
}

/// The environment of whoever names none: the configured one, else `default`, where the Go Station has its agents, `development`, or the first
/// one there is.
fn default_environment(settings: &Settings, rows: &[EnvironmentRow]) -> Result<Name> {
    let exists = |name: &str| rows.iter().find(|row| row.name == *name).map(|row| row.name.clone());
    match &settings.default_environment {
        Some(name) => exists(name.as_str()).ok_or_else(|| {
            Error::invalid_input(format!(
                "{STATION_YML}: `default_environment` is `{name}`, and there is no such environment"
            ))
            .hint(format!("create the directory environments/{name}, or name another one"))
            .details(serde_json::json!({ "exit_code": 78 }))
        }),
        None => exists(GO_DEFAULT)
            .or_else(|| exists(FIRST_ENVIRONMENTS[0]))
            .or_else(|| rows.first().map(|row| row.name.clone()))
            .ok_or_else(|| Error::internal("the home has no environment")),
    }
}

/// The entry of what a start does by itself.
fn system_audit(clock: &SharedClock, action: &str, environment: &Name) -> AuditEntry {
    AuditEntry::by_the_station(clock.now(), action, environment, "start")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| Error::internal("opening was interrupted").source(cause))?
}

fn random_id() -> Result<String> {
    let (high, low) = (getrandom::u64(), getrandom::u64());
    match (high, low) {
        (Ok(high), Ok(low)) => Ok(format!("{high:016x}{low:016x}")),
        (Err(cause), _) | (_, Err(cause)) => {
            Err(Error::internal("the operating system gives no randomness").source(cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ClockExt;
    use crate::home::{Layout, OwnerMode};

    async fn new_home(directory: &Path) -> App {
        let (clock, variables) = (SystemClock::shared(), BTreeMap::new());
        let home = Home::at(&directory.join("home"), Layout::Home, &variables).unwrap();
        first_use(&home, &BTreeMap::new()).unwrap();
        let lock = OwnerLock::try_acquire(&home, OwnerMode::Command, clock.now()).unwrap().unwrap();
        let settings = settings(&home, &variables).unwrap();
        let redactor = Redactor::default();
        let (root, executes, starts_servers) = (None, false, false);
        open(Parts { home, settings, variables, clock, lock, redactor, root, executes, starts_servers }).await.unwrap()
    }

    #[tokio::test]
    async fn an_environment_that_is_slow_to_take_up_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let app = new_home(directory.path()).await;
        let all = app.station.environments.all();
        let held = all[0].files.lock().await;
        let others = async {
            for environment in &all[1..] {
                while environment.store.config_revision().await.unwrap().is_none() {
                    tokio::task::yield_now().await;
                }
            }
            drop(held);
        };
        let both = futures_util::future::join(take_up_files(&app.station), others);
        let in_time = app.station.clock.timeout(Duration::from_secs(20), both).await;
        assert!(in_time.is_some(), "the others wait for `{}`", all[0].name);
        assert!(all[0].store.config_revision().await.unwrap().is_some() && app.station.ready.is_cancelled());
    }
}
