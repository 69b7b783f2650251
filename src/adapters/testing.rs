//! A station in a directory of its own, behind its routers, for the tests of the doors. Nothing is listened on and nothing executes runs.

use super::http::{Activity, Deps, Routers, routers};
use crate::clock::ManualClock;
use crate::config::Settings;
use crate::domain::{AuditEntry, AuditOutcome, Cause, Name, Origin, Principal, Timestamp};
use crate::events::Events;
use crate::gateway::{Gateway, GatewayDeps};
use crate::home::{self, Handshake, Home, Layout, LocalKey, OwnerMode};
use crate::lifecycle::Tasks;
use crate::store::sqlite::{SqliteControl, SqliteStore};
use crate::store::{ControlStore, EnvironmentRow};
use crate::tools::model::{Models, ProviderVariables};
use crate::tools::{Environment, Environments, NoWorkers, Station, table};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The environments of a test station; the first is the default one.
const ENVIRONMENTS: [&str; 2] = ["development", "staging"];

pub(super) struct TestStation {
    pub(super) clock: Arc<ManualClock>,
    pub(super) deps: Deps,
    /// The text of the local key.
    pub(super) key: String,
    pub(super) routers: Routers,
    _directory: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl TestStation {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let test = Self::starting(settings).await;
        test.deps.station.ready.cancel();
        test
    }

    /// One that hasn't taken up its files yet.
    pub(super) async fn starting(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"), Layout::Home, &BTreeMap::new()).unwrap();
        home::create(&home, &[]).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_764_000_000_000));
        let tasks = Tasks::new();
        let station = Arc::new(station(&home, settings, &clock, &tasks).await);
        let deps = Deps {
            station,
            key: LocalKey::load(&home).unwrap(),
            tasks,
            activity: Activity::new(clock.clone()),
            drain: CancellationToken::new(),
            handshake: Handshake { version: "1.2.3".into(), schema: 7, pid: 42, mode: OwnerMode::Serve },
        };
        let key = std::fs::read_to_string(home.local_key()).unwrap().trim().to_owned();
        Self { clock, routers: routers(deps.clone()), deps, key, _directory: directory }
    }

    /// A request over TCP by the owner of the key. `line` is `METHOD /path`.
    pub(super) async fn send(&self, line: &str, body: Option<Value>) -> Answered {
        self.open(line, &[], body).await.read().await
    }

    /// The same with further headers, and an answer that is still coming.
    pub(super) async fn open(&self, line: &str, headers: &[(&str, &str)], body: Option<Value>) -> Coming {
        let bearer = format!("Bearer {}", self.key);
        let own = [("host", "localhost:8080"), ("authorization", bearer.as_str())];
        let headers: Vec<(&str, &str)> = own.into_iter().chain(headers.iter().copied()).collect();
        send(&self.routers.tcp, line, &headers, body).await
    }
}

/// An answer whose body is still coming.
pub(super) struct Coming(axum::response::Response);

impl Coming {
    pub(super) async fn read(self) -> Answered {
        let (head, body) = self.0.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answered { status: head.status.as_u16(), headers: head.headers, text }
    }

    /// The next piece of the body.
    pub(super) async fn piece(&mut self) -> Option<String> {
        let frame = self.0.body_mut().frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One request to a router, with these headers only.
pub(super) async fn send(router: &Router, line: &str, headers: &[(&str, &str)], body: Option<Value>) -> Coming {
    let json = body.is_some().then_some(("content-type", "application/json"));
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain(json).collect();
    send_body(router, line, &headers, body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).await
}

/// The same with a body of any kind.
pub(super) async fn send_body(router: &Router, line: &str, headers: &[(&str, &str)], body: Body) -> Coming {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Coming(router.clone().oneshot(request.body(body).unwrap()).await.unwrap())
}

async fn station(home: &Home, settings: Settings, clock: &Arc<ManualClock>, tasks: &Tasks) -> Station {
    let (settings, events) = (Arc::new(settings), Events::default());
    let http = crate::net::http_client().unwrap();
    let control =
        SqliteControl::open(&home.control_db(), &home.audit_dir().join("station.jsonl"), clock.clone()).unwrap();
    let environments = Environments::default();
    for name in ENVIRONMENTS {
        let name = Name::new(name).unwrap();
        std::fs::create_dir_all(home.agents_dir(&name)).unwrap();
        let row = control.environment_create(&name, created(&name)).await.unwrap();
        environments.insert(Arc::new(environment(home, clock, tasks, &events, row)));
    }
    Station {
        ready: CancellationToken::new(),
        giving: tokio::sync::Mutex::default(),
        denials: crate::tools::Throttle::new(crate::tools::MOST_DENIALS),
        tasks: tasks.clone(),
        spawner: crate::process::Spawner::start().unwrap(),
        redactor: crate::redact::Redactor::default(),
        models: Models::new(Arc::clone(&settings), ProviderVariables::default(), http, clock.clone()),
        started_at: Timestamp::from_millis(0),
        mode: "serve",
        table: table(),
        process_variables: BTreeMap::new(),
        http_listen: OnceLock::new(),
        clock: clock.clone(),
        events,
        settings,
        home: home.clone(),
        control: Arc::new(control),
        admission: Arc::new(NoWorkers),
        environments,
        default_environment: Name::new(ENVIRONMENTS[0]).unwrap(),
    }
}

fn environment(
    home: &Home,
    clock: &Arc<ManualClock>,
    tasks: &Tasks,
    events: &Events,
    row: EnvironmentRow,
) -> Environment {
    let (db, lines) = (home.data_db(&row.name), home.audit_dir().join(format!("{}.jsonl", row.name)));
    let store = SqliteStore::open(&db, &lines, (row.name.clone(), row.number), clock.clone(), events.clone()).unwrap();
    let store: Arc<dyn crate::store::Store> = Arc::new(store);
    let root = crate::secrets::Unlocked::throwaway().unwrap();
    let secrets =
        crate::secrets::Secrets::none(root, row.name.clone(), Arc::clone(&store), crate::redact::Redactor::default());
    let deps = GatewayDeps {
        clock: clock.clone(),
        tasks: tasks.clone(),
        http: crate::net::http_client().unwrap(),
        spawner: crate::process::Spawner::start().unwrap(),
        redactor: crate::redact::Redactor::default(),
        starts_servers: true,
        cache_dir: home.cache_dir(),
        home: home.root().to_owned(),
        workspace: home.workspace_dir(&row.name),
        secrets: secrets.values().clone(),
        tool_timeout: Duration::from_secs(1),
    };
    let gateway = Gateway::new(row.name.clone(), deps);
    Environment {
        name: row.name,
        number: row.number,
        store,
        gateway,
        redactor: crate::redact::Redactor::default(),
        secrets,
        files: tokio::sync::Mutex::default(),
        problems: crate::tools::FileProblems::default(),
    }
}

fn created(environment: &Name) -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_millis(0),
        principal: Principal::local_owner().who,
        origin: Origin::Cli,
        cause: Cause::call(),
        action: "environment.create".into(),
        target: Some(environment.to_string()),
        environment: None,
        outcome: AuditOutcome::Done,
        reason: None,
        request_id: "start".into(),
        config_revision: None,
        details: None,
    }
}
