//! A station inside the test's own process: the real stores and tools, nobody who executes runs, and a clock that stands still.

use serde_json::{Value, json};
use station::app::{self, App, Parts};
use station::clock::ManualClock;
use station::domain::{Name, Origin, Principal, RunId, StepKind, Timestamp, WaitingFor};
use station::error::Result;
use station::home::{Home, Layout, OwnerLock, OwnerMode};
use station::redact::Redactor;
use station::store::{Claim, Intent, JournalBatch, Owner, Written};
use station::tools::model::ProviderVariables;
use station::tools::{self, Context, Environment};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// 2025-11-24T16:00:00Z, where the clock stands.
const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

pub struct TestStation {
    pub app: App,
    home: Home,
    numbers: AtomicU64,
    // Last: the home must not vanish under its stores.
    directory: TempDir,
}

impl TestStation {
    /// A new home, opened, with its sample files taken up.
    pub async fn open() -> Self {
        let directory = tempfile::Builder::new().prefix("stn").tempdir().unwrap();
        let variables = BTreeMap::new();
        let home = Home::at(&directory.path().join("home"), Layout::Home, &variables).unwrap();
        assert!(app::first_use(&home, &BTreeMap::new()).unwrap());
        let lock = OwnerLock::try_acquire(&home, OwnerMode::Command, NOW).unwrap().unwrap();
        let settings = app::settings(&home, &variables).unwrap();
        let clock = ManualClock::at(NOW);
        let parts = Parts {
            home: home.clone(),
            settings,
            variables,
            clock,
            lock,
            redactor: Redactor::default(),
            root: None,
            executes: false,
            starts_servers: true,
        };
        let app = app::open(parts).await.unwrap();
        app.station.ready.cancel();
        let station = Self { app, home, numbers: AtomicU64::new(1), directory };
        station.call("environment_sync", json!({ "environment": "development" })).await.unwrap();
        station
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The store of an environment; without one, the control store.
    pub fn store(&self, environment: Option<&str>) -> PathBuf {
        match environment {
            Some(name) => self.home.data_db(&Name::new(name).unwrap()),
            None => self.home.control_db(),
        }
    }

    /// Writes a file below the home.
    pub fn write(&self, file: &str, text: &str) {
        let path = Path::new(&self.path()).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A number that was never given before.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A context whose request nobody else has.
    pub fn context(&self, principal: Principal) -> Context {
        Context::new(principal, Origin::Rest, format!("request-{}", self.number()))
    }

    /// A call by the owner.
    pub async fn call(&self, tool: &str, input: Value) -> Result<Value> {
        tools::call(&self.app.station, self.context(Principal::local_owner()), tool, input).await
    }

    /// A run of `hello` that waits in the queue.
    pub async fn queued_run(&self) -> RunId {
        let run = self.call("agent_run", json!({ "agent": "hello", "input": "What is here?" })).await.unwrap();
        RunId::parse(run["id"].as_str().unwrap()).unwrap()
    }

    /// A run of `hello` that was cut off in a tool call, and waits for somebody to say what came of it.
    pub async fn run_in_doubt(&self) -> RunId {
        let (environment, claim) = (self.development(), self.claimed_run().await);
        let intent = Intent {
            seq: 1,
            turn: 1,
            kind: StepKind::Tool,
            r#try: 1,
            name: "files__write_file".into(),
            effect: None,
            idempotency_key: None,
            arguments: Some(json!({})),
            call_id: None,
            closed: None,
            replaces: None,
            audit: None,
        };
        let batch = JournalBatch { intents: vec![intent], turns: 1, ..JournalBatch::default() };
        assert_eq!(environment.store.journal(&claim.grant, batch).await.unwrap(), Written::Done);
        let parked = environment.store.park(&claim.grant, WaitingFor::InDoubt, &[1]).await.unwrap();
        assert_eq!(parked, Written::Done);
        claim.run.id
    }

    /// A run of `hello` that waits for the provider's key that it was started with.
    pub async fn run_without_its_key(&self) -> RunId {
        let mut context = self.context(Principal::local_owner());
        let variables = [("OPENAI_API_KEY".to_owned(), "sk-lost".to_owned())].into();
        context.provider_variables = Some(Arc::new(ProviderVariables::from_map(&variables)));
        let input = json!({ "agent": "hello", "input": "What is here?" });
        let run = tools::call(&self.app.station, context, "agent_run", input).await.unwrap();
        let claim = self.claimed(RunId::parse(run["id"].as_str().unwrap()).unwrap()).await;
        self.app.station.models.forget(claim.run.id);
        let parked = self.development().store.park(&claim.grant, WaitingFor::Provider, &[]).await.unwrap();
        assert_eq!(parked, Written::Done);
        claim.run.id
    }

    async fn claimed_run(&self) -> Claim {
        let id = self.queued_run().await;
        self.claimed(id).await
    }

    async fn claimed(&self, id: RunId) -> Claim {
        let claims = self.development().store.claim(&Owner("a worker".into()), 1_000).await.unwrap();
        claims.into_iter().find(|claim| claim.run.id == id).unwrap()
    }

    fn development(&self) -> Arc<Environment> {
        self.app.station.environments.named("development").unwrap()
    }
}
