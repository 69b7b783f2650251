//! What an act carries: who, by which door, why, until when; and what a tool can reach while it runs.

use super::model::{Models, ProviderVariables};
use super::table::Table;
use super::throttle::Throttle;
use crate::clock::SharedClock;
use crate::config::{self, FileProblem, Settings};
use crate::domain::{
    AuditEntry, AuditOutcome, Cause, EnvironmentKind, EnvironmentNumber, Name, Origin, ParentStep, Place, Principal,
    Refusal, RunId, Scope, Timestamp,
};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::lifecycle::Tasks;
use crate::process::Spawner;
use crate::redact::Redactor;
use crate::secrets::Secrets;
use crate::store::{Claim, ControlStore, Owner, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// How far an act has come, for callers that asked to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub progress: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
}

/// Everything that stands around an act.
#[derive(Debug, Clone)]
pub struct Context {
    pub principal: Principal,
    pub origin: Origin,
    pub cause: Cause,
    /// The caller's environment; an input may name another, unless `bound`.
    pub environment: Option<Name>,
    /// The connection belongs to `environment`.
    pub bound: bool,
    pub request_id: String,
    /// The step of a run whose call it is: only the engine says so.
    pub parent: Option<ParentStep>,
    /// The caller's own deadline, if it is earlier than the tool's.
    pub deadline: Option<Timestamp>,
    /// Ends the request, not the run that it started.
    pub cancel: CancellationToken,
    pub progress: Option<mpsc::Sender<Progress>>,
    /// `_meta` of an MCP request.
    pub caller_meta: Option<Value>,
    /// Provider keys that a local caller brought along, for the runs it starts.
    pub provider_variables: Option<Arc<ProviderVariables>>,
}

impl Context {
    /// A context without cancellation, progress or deadline, in the default environment.
    pub fn new(principal: Principal, origin: Origin, request_id: String) -> Self {
        Self {
            principal,
            origin,
            cause: Cause::call(),
            environment: None,
            bound: false,
            request_id,
            parent: None,
            deadline: None,
            cancel: CancellationToken::new(),
            progress: None,
            caller_meta: None,
            provider_variables: None,
        }
    }

    /// Whether a model may be the one that asks.
    pub fn by_model(&self) -> bool {
        matches!(self.origin, Origin::McpStdio | Origin::McpHttp | Origin::Run)
    }

    /// The key that an MCP client put beside its request, if any.
    pub fn idempotency_key(&self) -> Option<String> {
        let meta = self.caller_meta.as_ref()?;
        meta.get("io.station/idempotency-key").and_then(Value::as_str).map(str::to_owned)
    }

    /// Tells a caller that listens; one that is slow misses updates, never delays the act.
    pub fn report(&self, progress: Progress) {
        if let Some(sender) = &self.progress {
            let _full_or_gone = sender.try_send(progress);
        }
    }
}

/// One environment with its store and its attached servers.
#[derive(Debug)]
pub struct Environment {
    pub name: Name,
    pub number: EnvironmentNumber,
    pub store: Arc<dyn Store>,
    pub gateway: Gateway,
    pub secrets: Secrets,
    /// Knows the secrets of this environment and of the station; stands before whatever leaves or is kept of it.
    pub redactor: Redactor,
    /// Held while files and their rows are changed together.
    pub files: Mutex<()>,
    /// What the last sync, or the start, found wrong with the files.
    pub problems: FileProblems,
}

/// The faults of an environment's files, as they were last read.
#[derive(Debug, Default)]
pub struct FileProblems(RwLock<Vec<FileProblem>>);

impl FileProblems {
    pub fn get(&self) -> Vec<FileProblem> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, problems: Vec<FileProblem>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = problems;
    }
}

/// A worker that was promised to a submit. Given back when dropped.
pub struct Reservation {
    pub owner: Owner,
    give_back: Option<Box<dyn FnOnce() + Send>>,
}

impl Reservation {
    pub fn new(owner: Owner, give_back: impl FnOnce() + Send + 'static) -> Self {
        Self { owner, give_back: Some(Box::new(give_back)) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back();
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The seam to whoever executes runs. Tools never import the runtime; they submit and signal.
pub trait Admission: Send + Sync + fmt::Debug {
    /// A worker for a run that is about to be submitted, if one is free.
    fn reserve(&self) -> Option<Reservation>;

    /// The run was inserted already claimed, for this reservation.
    fn start(&self, environment: &Arc<Environment>, reservation: Reservation, claim: Claim);

    /// A run was queued.
    fn wake(&self);

    /// A running run is to be cancelled.
    fn cancel(&self, run: RunId);
}

/// The admission of a process that executes nothing: a short command that opened the home for one call.
#[derive(Debug)]
pub struct NoWorkers;

impl Admission for NoWorkers {
    fn reserve(&self) -> Option<Reservation> {
        None
    }

    fn start(&self, _: &Arc<Environment>, _: Reservation, claim: Claim) {
        tracing::error!(run = %claim.run.id, "a run was claimed in a process without workers; the next owner takes it over");
    }

    fn wake(&self) {}

    fn cancel(&self, _: RunId) {}
}

/// What every act can reach. Built once, by `app`.
#[derive(Debug)]
pub struct Station {
    pub clock: SharedClock,
    pub events: Events,
    pub settings: Arc<Settings>,
    pub home: Home,
    pub control: Arc<dyn ControlStore>,
    pub models: Models,
    pub admission: Arc<dyn Admission>,
    pub table: Table,
    pub environments: Environments,
    /// How often an API key, by its id, was denied something.
    pub denials: Throttle<String>,
    /// Held while users, roles and keys are looked at and changed together.
    pub giving: Mutex<()>,
    /// For what must not end with the request that began it.
    pub tasks: Tasks,
    pub spawner: Spawner,
    /// Knows the secrets of the station; stands before what belongs to no environment.
    pub redactor: Redactor,
    /// Fired once the files have been taken up; acts wait for it.
    pub ready: CancellationToken,
    /// The environment of whoever names none.
    pub default_environment: Name,
    /// The process variables that configuration may refer to.
    pub process_variables: BTreeMap<String, String>,
    /// The address that HTTP is served on, once it is.
    pub http_listen: OnceLock<SocketAddr>,
    pub started_at: Timestamp,
    /// How this process owns the home: `serve`, `background`, `command`.
    pub mode: &'static str,
}

impl Station {
    /// Whether commands of attached servers run in this environment without a person's word: in environments for development, unless it says
    /// otherwise.
    pub fn auto_accepts_commands(&self, environment: &Name) -> bool {
        let said = self.settings.environment(environment).auto_accept_commands;
        said.unwrap_or_else(|| self.settings.kind(environment) == EnvironmentKind::Development)
    }

    /// The environment as authorization sees it.
    pub fn place<'a>(&self, environment: &'a Environment) -> Place<'a> {
        Place { name: &environment.name, kind: self.settings.kind(&environment.name) }
    }

    /// The environment of this name. `not_found` names those that `principal` may read.
    pub fn environment_for(&self, principal: &Principal, name: &str) -> Result<Arc<Environment>> {
        self.environments.named(name).map_err(|error| {
            let readable = |one: &Arc<Environment>| self.allows(principal, Scope::EnvironmentsRead, one);
            let known: Vec<String> =
                self.environments.all().into_iter().filter(readable).map(|one| one.name.to_string()).collect();
            if known.is_empty() { error } else { error.hint(format!("environments here: {}", known.join(", "))) }
        })
    }

    /// Whether `principal` may use `scope` in `environment`.
    pub fn allows(&self, principal: &Principal, scope: Scope, environment: &Environment) -> bool {
        principal.may(scope, Some(self.place(environment)))
    }

    /// Why `principal` may not use `scope` in `environment` or, without one, for the station as a whole; `None` = it may. What only shows
    /// the environments that it may read anyway is allowed to whoever may read one.
    pub fn refusal(
        &self,
        principal: &Principal,
        scope: Scope,
        environment: Option<&Arc<Environment>>,
    ) -> Option<Refusal> {
        let refusal = principal.refusal(scope, environment.map(|environment| self.place(environment)))?;
        let shows = environment.is_none() && scope.shows_environments();
        let reads_one = shows && self.environments.all().iter().any(|one| self.allows(principal, scope, one));
        (!reads_one).then_some(refusal)
    }

    /// What to do so that station.yml is in force, if it isn't what this process has read any more. Who doesn't administrate the station is
    /// told who can.
    pub async fn station_yml_changed(&self, asking: &Principal) -> Option<String> {
        let (settings, path) = (Arc::clone(&self.settings), self.home.station_yml());
        let changed = tokio::task::spawn_blocking(move || config::settings_changed(&settings, &path)).await;
        if !changed.unwrap_or_default() {
            return None;
        }
        if !asking.may(Scope::StationAdmin, None) {
            let note =
                "station.yml was changed after the station had read it and is not in force until it is started again";
            return Some(format!("{note}: `stn status` on its machine says how"));
        }
        let pid = std::process::id();
        let again = match self.mode {
            "serve" => "start `stn serve` again",
            _ => "the next command starts another",
        };
        let note = format!("station.yml was changed after process {pid} had read it and is not in force");
        Some(format!("{note}: `kill {pid}`, then {again}"))
    }

    /// `error`, which an edit of station.yml may have mended already.
    pub async fn with_settings_note(&self, error: Error, asking: &Principal) -> Error {
        match (self.station_yml_changed(asking).await, error.hint_text().map(str::to_owned)) {
            (None, _) => error,
            (Some(note), Some(hint)) => error.hint(format!("{hint}; {note}")),
            (Some(note), None) => error.hint(note),
        }
    }
}

/// The environments of a station, by name and by number.
#[derive(Debug, Default)]
pub struct Environments {
    by_name: RwLock<BTreeMap<Name, Arc<Environment>>>,
}

impl Environments {
    pub fn insert(&self, environment: Arc<Environment>) {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(environment.name.clone(), environment);
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Environment>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// `not_found` tells nothing of those that exist: [`Station::environment_for`] does, to whoever may know.
    pub fn named(&self, name: &str) -> Result<Arc<Environment>> {
        let environments = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        environments.get(name).cloned().ok_or_else(|| {
            Error::not_found(format!("environment `{}` doesn't exist", name.escape_debug()))
                .hint("`stn environment list` shows those that you may read")
                .field("environment")
        })
    }

    pub fn numbered(&self, number: EnvironmentNumber) -> Option<Arc<Environment>> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .find(|found| found.number == number)
            .cloned()
    }
}

/// The files' state that is in force in `environment`.
pub(super) async fn config_revision(environment: Option<&Arc<Environment>>) -> Result<Option<String>> {
    match environment {
        Some(environment) => environment.store.config_revision().await,
        None => Ok(None),
    }
}

/// One act under way: what a tool's function is given.
#[derive(Debug, Clone)]
pub struct Call {
    pub ctx: Context,
    pub station: Arc<Station>,
    environment: Option<Arc<Environment>>,
    action: String,
    config_revision: Option<String>,
}

impl Call {
    pub(super) fn new(
        ctx: Context,
        station: Arc<Station>,
        environment: Option<Arc<Environment>>,
        action: String,
        config_revision: Option<String>,
    ) -> Self {
        Self { ctx, station, environment, action, config_revision }
    }

    /// The audit action.
    pub(super) fn action(&self) -> &str {
        &self.action
    }

    /// The files' state that the act was begun under. Known for acts that leave an audit row.
    pub fn config_revision(&self) -> Option<&str> {
        self.config_revision.as_deref()
    }

    /// The environment that was found and authorized. An error only if the tool's spec says it needs none.
    pub fn environment(&self) -> Result<&Arc<Environment>> {
        self.environment
            .as_ref()
            .ok_or_else(|| Error::internal(format!("`{}` was called without an environment", self.action)))
    }

    /// The environments that it concerns: the one that was found, else all that its principal may read.
    pub fn environments(&self, scope: Scope) -> Vec<Arc<Environment>> {
        match &self.environment {
            Some(environment) => vec![Arc::clone(environment)],
            None => {
                let may = |environment: &Arc<Environment>| self.station.allows(&self.ctx.principal, scope, environment);
                self.station.environments.all().into_iter().filter(may).collect()
            }
        }
    }

    pub fn now(&self) -> Timestamp {
        self.station.clock.now()
    }

    /// The audit entry of this act, done to `target`; it goes into the transaction that does it.
    pub fn audit(&self, target: impl fmt::Display) -> AuditEntry {
        AuditEntry {
            at: self.now(),
            principal: self.ctx.principal.who.clone(),
            origin: self.ctx.origin,
            cause: self.ctx.cause.clone(),
            action: self.action.clone(),
            target: Some(target.to_string()),
            environment: self.environment.as_ref().map(|environment| environment.name.clone()),
            outcome: AuditOutcome::Done,
            reason: None,
            request_id: self.ctx.request_id.clone(),
            config_revision: self.config_revision.clone(),
            details: None,
        }
    }
}
