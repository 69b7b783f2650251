//! A whole station in this process, without a door: acts go through `tools::dispatch` as they do behind every door.

use serde_json::{Value, json};
use station::app::{self, App, Parts};
use station::clock::{SharedClock, SystemClock};
use station::domain::{CommandState, EnvironmentNumber, McpServerDefinition, Name, Origin, Principal, ServerTransport};
use station::gateway::{Gateway, GatewayDeps};
use station::home::{Home, Layout, OwnerLock, OwnerMode};
use station::lifecycle::Tasks;
use station::store::sqlite::{SqliteStore, WriterStats};
use station::tools::model::Models;
use station::tools::{self, Context, Environment, FileProblems, Station};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The environment that is measured. It is the bench's own, so that the counters of its store can be read.
const ENVIRONMENT: &str = "bench";

/// A number that a new home has not given away.
const NUMBER: u16 = 9;

/// A station, and the store of the environment that is measured.
pub(crate) struct Bench {
    pub(crate) station: Arc<Station>,
    store: Arc<SqliteStore>,
    tasks: Tasks,
    clock: SharedClock,
    _lock: OwnerLock,
}

impl Bench {
    /// Opens a new home in `folder`. With `executes`, the runs that are submitted are also executed. `models` may bring a provider.
    pub(crate) async fn open(folder: &Path, executes: bool, models: impl FnOnce(Models) -> Models) -> Self {
        let variables = BTreeMap::new();
        let home = Home::at(&folder.join("home"), Layout::Home, &variables).unwrap();
        app::first_use(&home, &variables).unwrap();
        let mut settings = app::settings(&home, &variables).unwrap();
        settings.runs.queue_limit = u32::MAX;
        let clock = SystemClock::shared();
        let lock = OwnerLock::try_acquire(&home, OwnerMode::Command, clock.now()).unwrap().unwrap();
        let parts = Parts {
            home: home.clone(),
            settings,
            variables,
            clock: clock.clone(),
            lock,
            redactor: station::redact::Redactor::default(),
            root: None,
            executes,
            starts_servers: true,
        };
        let App { station, workers, tasks, lock, .. } = app::open(parts).await.unwrap();
        let station = Arc::try_unwrap(station).unwrap();
        let station = Arc::new(Station { models: models(station.models), ..station });
        let (environment, store) = environment(&station, &home, &tasks);
        station.environments.insert(environment);
        station.ready.cancel();
        if let Some(workers) = workers {
            station::runtime::start(&station, &workers, &tasks).await;
        }
        Self { station, store, tasks, clock, _lock: lock }
    }

    /// What the writer of the measured store has done so far.
    pub(crate) fn stats(&self) -> WriterStats {
        self.store.stats()
    }

    /// One act of the owner in the measured environment.
    pub(crate) async fn call(&self, tool: &str, input: Value) -> Value {
        call(&self.station, tool, input).await
    }

    /// Ends what was started, before the folder goes.
    pub(crate) async fn close(self) {
        for environment in self.station.environments.all() {
            environment.gateway.close().await;
        }
        self.tasks.stop(&self.clock, Duration::from_secs(10)).await;
    }
}

/// [`Bench::call`] for tasks that hold the station alone.
pub(crate) async fn call(station: &Arc<Station>, tool: &str, mut input: Value) -> Value {
    input["environment"] = json!(ENVIRONMENT);
    let context = Context::new(Principal::local_owner(), Origin::Rest, "bench".into());
    tools::call(station, context, tool, input).await.unwrap()
}

/// The environment with its own store, and the built-in `filesystem` over its workspace.
fn environment(station: &Station, home: &Home, tasks: &Tasks) -> (Arc<Environment>, Arc<SqliteStore>) {
    let (name, number) = (Name::new(ENVIRONMENT).unwrap(), EnvironmentNumber::new(NUMBER).unwrap());
    let workspace = home.workspace_dir(&name);
    std::fs::create_dir_all(&workspace).unwrap();
    std::fs::write(workspace.join("notes.md"), "The harbour opens at six.\n").unwrap();
    let (db, audit) = (home.data_db(&name), home.audit_dir().join("bench.jsonl"));
    let place = (name.clone(), number);
    let store = SqliteStore::open(&db, &audit, place, station.clock.clone(), station.events.clone()).unwrap();
    let store = Arc::new(store);
    let root = station::secrets::Unlocked::throwaway().unwrap();
    let secrets =
        station::secrets::Secrets::none(root, name.clone(), store.clone(), station::redact::Redactor::default());
    let deps = GatewayDeps {
        redactor: station::redact::Redactor::default(),
        clock: station.clock.clone(),
        tasks: tasks.clone(),
        http: station::net::http_client().unwrap(),
        spawner: station::process::Spawner::start().unwrap(),
        starts_servers: true,
        cache_dir: home.cache_dir(),
        home: home.root().to_owned(),
        workspace,
        secrets: secrets.values().clone(),
        tool_timeout: Duration::from_secs(30),
    };
    let gateway = Gateway::new(name.clone(), deps);
    gateway.apply(vec![(filesystem(), CommandState::Accepted)], BTreeMap::new());
    let files = tokio::sync::Mutex::default();
    (
        Arc::new(Environment {
            name,
            number,
            store: store.clone(),
            gateway,
            secrets,
            redactor: station::redact::Redactor::default(),
            files,
            problems: FileProblems::default(),
        }),
        store,
    )
}

fn filesystem() -> McpServerDefinition {
    McpServerDefinition {
        name: Name::new("filesystem").unwrap(),
        file: "environments/bench/servers.json".into(),
        transport: ServerTransport::Builtin { builtin: "filesystem".into(), args: vec![".".into()] },
        target: Vec::new(),
        timeout_ms: None,
        disabled: false,
        tools: BTreeMap::new(),
    }
}
