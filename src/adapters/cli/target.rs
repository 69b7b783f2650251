//! Where a call goes: a remote station over REST, the owner of the home over its socket, or, for short commands while nobody owns the
//! home, this very process.

use super::connection::{self, Connection, Remote};
use super::failure::Failure;
use super::request::Request;
use super::serve::STRETCHED_ARGUMENT;
use super::{Deps, OpenHome, terminal};
use crate::clock::{ClockExt, SharedClock};
use crate::config;
use crate::domain::{Name, Origin, Principal};
use crate::error::{Error, Result};
use crate::home::{self, Door, Handover, Home, SpawnOwner};
use crate::redact::Redactor;
use crate::secrets;
use crate::tools::model::PROVIDER_VARIABLES;
use crate::tools::{self, Context, EnvironmentUse, Table, ToolSpec};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the background owner must not inherit: where its first client calls, and its credentials. A run is given its caller's keys for
/// itself alone.
const NOT_INHERITED: [&str; 3] = ["STN_URL", "STN_KEY", "STN_ENVIRONMENT"];

/// Tools for which the caller's provider keys are brought along: they start a run, let one go on that has lost its keys, or say which
/// model a run would get.
const BRING_KEYS: [&str; 5] = ["agent_run", "run_respond", "station_status", "environment_list", "environment_get"];

/// Tools that start or follow a run, or need attached servers: there has to be an owner for those.
const NEED_AN_OWNER: [&str; 3] = ["agent_run", "run_wait", "run_respond"];
const NEED_SERVERS: [&str; 2] = ["tool_", "mcp_server_"];

/// The pauses before what was lost is asked again. The next owner may end like the one before it.
const LOST_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The station that a command is for.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    table: Arc<Table>,
    /// `-e`, `STN_ENVIRONMENT`.
    environment: Option<String>,
    pub(super) clock: SharedClock,
}

#[derive(Debug)]
enum Place {
    Remote(Remote),
    Home { home: Home, variables: BTreeMap<String, String>, redactor: Redactor, deps: Deps },
}

/// How a call is made.
enum Way {
    To(Connection),
    Here(home::OwnerLock),
}

impl Target {
    /// The station at a remote address.
    pub(super) fn remote(remote: Remote, table: Arc<Table>, environment: Option<String>, clock: SharedClock) -> Self {
        Self { place: Place::Remote(remote), table, environment, clock }
    }

    /// The station of a home.
    pub(super) fn local(
        home: Home,
        variables: BTreeMap<String, String>,
        redactor: Redactor,
        deps: Deps,
        table: Arc<Table>,
        environment: Option<String>,
        clock: SharedClock,
    ) -> Self {
        Self { place: Place::Home { home, variables, redactor, deps }, table, environment, clock }
    }

    /// The specification of the tool `name`.
    pub(super) fn spec(&self, name: &str) -> Result<&ToolSpec> {
        self.table.get(name).map(|tool| &tool.spec).ok_or_else(|| {
            let error = Error::not_found(format!("tool `{}` doesn't exist", name.escape_debug()));
            match (crate::domain::nearest(name, self.table.names()), name.split_once("__")) {
                (Some(meant), _) => error.hint(format!("did you mean `{meant}`?")),
                (None, Some(_)) => error.hint(format!(
                    "`stn call` is for the station's own tools; one of an attached server is called with `stn tool call {}`",
                    name.escape_debug()
                )),
                (None, None) => error.hint("`stn call --list` shows the tools"),
            }
        })
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The output of the tool `name`. What was lost with an owner (which may be restarting) is asked again, where twice is the same as
    /// once: whoever asked it could not tell whether it was done.
    pub(super) async fn call(&self, name: &str, input: Map<String, Value>) -> Result<Value, Failure> {
        let spec = self.spec(name)?;
        let input = self.in_environment(spec, input);
        let is_home = matches!(self.place, Place::Home { .. });
        let repeatable = is_home && (spec.idempotent || input.contains_key("idempotency_key"));
        let mut was_lost = false;
        for pause in LOST_PAUSES {
            let done = self.call_once(spec, input.clone()).await;
            let Err(Failure::Error(error)) = &done else { return done };
            was_lost |= connection::is_lost(error);
            if !(repeatable && was_lost && connection::passes(error)) {
                return done;
            }
            self.clock.sleep(pause).await;
        }
        self.call_once(spec, input).await
    }

    /// The report of `config_check`: of the station where one is, else of the files alone. Nothing is opened for it then, neither lock nor
    /// key nor database, so that it also tells why no station starts; of a database it only looks whether it is another program's.
    pub(super) async fn check_config(&self, spec: &ToolSpec, input: Map<String, Value>) -> Result<Value, Failure> {
        let Place::Home { home, variables, deps, .. } = &self.place else { return self.call(spec.name, input).await };
        let input = self.in_environment(spec, input);
        if let Some(client) = home::attach(home, crate::SCHEMA, &self.clock).await? {
            return Ok(self.send(&Connection::Local(client), spec, input).await?);
        }
        let only = input.get("environment").and_then(Value::as_str).map(Name::new).transpose();
        let only = only.map_err(|invalid| Error::invalid_input(invalid.to_string()).field("environment"))?;
        (deps.refuse_foreign)(home)?;
        let report = config::check(home, variables, only.as_ref(), None)?;
        let report = serde_json::to_value(report);
        Ok(report.map_err(|cause| Error::internal("the report can't be written as JSON").source(cause))?)
    }

    /// The same, asked once: for whoever counts the tries and the time.
    pub(super) async fn ask(&self, spec: &ToolSpec, input: Map<String, Value>) -> Result<Value, Failure> {
        self.call_once(spec, self.in_environment(spec, input)).await
    }

    async fn call_once(&self, spec: &ToolSpec, input: Map<String, Value>) -> Result<Value, Failure> {
        match self.way(spec.name).await? {
            Way::To(connection) => Ok(self.send(&connection, spec, input).await?),
            Way::Here(lock) => self.call_here(lock, spec.name, input).await,
        }
    }

    async fn way(&self, tool: &str) -> Result<Way> {
        match &self.place {
            Place::Home { home, .. } if !needs_owner(tool) => {
                Ok(match home::attach_or_own(home, crate::SCHEMA, &self.clock).await? {
                    Door::Attached(client) => Way::To(Connection::Local(client)),
                    Door::Owned(lock) => Way::Here(lock),
                })
            }
            _ => self.connect().await.map(Way::To),
        }
    }

    /// A connection to the station; a background owner is started where there is none.
    pub(super) async fn connect(&self) -> Result<Connection> {
        match &self.place {
            Place::Remote(remote) => Ok(Connection::Remote(remote.clone())),
            Place::Home { home, variables, .. } => {
                let spawn = spawn_owner(variables)?;
                let attached = home::attach_or_spawn(home, crate::SCHEMA, &self.clock, &spawn).await;
                // An owner that can't start because of station.yml says so in its log; here it can be said straight.
                attached.map(Connection::Local).map_err(|error| settings_problem(home, variables).unwrap_or(error))
            }
        }
    }

    /// Whether this process has provider keys that it can bring to a run of this home.
    pub(super) fn brings_keys(&self) -> bool {
        matches!(&self.place, Place::Home { variables, .. } if provider_variables(variables).is_some())
    }

    async fn send(&self, connection: &Connection, spec: &ToolSpec, mut input: Map<String, Value>) -> Result<Value> {
        let mut request = match spec.rest {
            Some(rest) if rest.path.contains("{environment}") && !input.contains_key("environment") => {
                input.insert("environment".into(), self.default_environment(connection).await?.into());
                Request::tool(spec, input)?
            }
            _ => Request::tool(spec, input)?,
        };
        if let (Connection::Local(_), Place::Home { variables, .. }) = (connection, &self.place) {
            request.headers.push(("x-station-origin", "cli".into()));
            if BRING_KEYS.contains(&spec.name) {
                request.headers.extend(provider_variables(variables));
            }
        }
        connection.send(&request).await?.json().await
    }

    /// A route that names the environment needs its name; the station knows which one is meant where none is given.
    async fn default_environment(&self, connection: &Connection) -> Result<String> {
        let request = Request::tool(self.spec("environment_list")?, Map::from_iter([("limit".into(), 200.into())]))?;
        let list = connection.send(&request).await?.json().await?;
        let environments = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let default = environments.iter().find(|environment| environment.get("default") == Some(&Value::Bool(true)));
        let name = default.and_then(|environment| environment.get("name")?.as_str());
        name.map(str::to_owned).ok_or_else(|| {
            Error::invalid_input("no environment is named, and the station shows no default one")
                .hint("give one with -e")
                .field("environment")
        })
    }

    async fn call_here(&self, lock: home::OwnerLock, name: &str, input: Map<String, Value>) -> Result<Value, Failure> {
        let Place::Home { home, variables, redactor, deps } = &self.place else {
            return Err(Error::internal("a remote station was opened as a home").into());
        };
        let (tool, request) = (name.to_owned(), request_id()?);
        let open = OpenHome {
            home: home.clone(),
            variables: variables.clone(),
            lock,
            redactor: redactor.clone(),
            // It does that by itself, and with `--dry-run` it must not be done.
            takes_up_files: name != "environment_sync",
            ask: terminal::passphrase,
            work: Box::new(move |station| {
                Box::pin(async move {
                    let ctx = Context::new(Principal::local_owner(), Origin::Cli, request.clone());
                    let done = tools::call(&station, ctx, &tool, Value::Object(input)).await;
                    done.map_err(|error| error.request_id(request))
                })
            }),
        };
        Ok((deps.open)(open).await?)
    }

    fn in_environment(&self, spec: &ToolSpec, mut input: Map<String, Value>) -> Map<String, Value> {
        if let (true, Some(environment)) = (spec.environment != EnvironmentUse::None, &self.environment) {
            input.entry("environment").or_insert_with(|| environment.as_str().into());
        }
        input
    }
}

/// What is wrong with the settings of `home`.
pub(super) fn settings_problem(home: &Home, variables: &BTreeMap<String, String>) -> Option<Error> {
    config::load_settings(&home.station_yml(), "station.yml", variables).err()
}

/// How this program is started as the background owner: with this environment, without what is the caller's own.
pub(super) fn spawn_owner(variables: &BTreeMap<String, String>) -> Result<SpawnOwner> {
    let own = |name: &str| NOT_INHERITED.contains(&name) || PROVIDER_VARIABLES.contains(&name);
    let inherited = variables.iter().filter(|(name, _)| !own(name));
    let environment: Result<_> = inherited.map(|(name, value)| Ok((name.clone(), anywhere(name, value)?))).collect();
    SpawnOwner::this_program(environment?, may_start)
}

/// What a variable of this process says to one that runs in another directory.
fn anywhere(name: &str, value: &str) -> Result<String> {
    if value.is_empty() || !secrets::FILE_VARIABLES.contains(&name) {
        return Ok(value.to_owned());
    }
    let path = std::path::absolute(value)
        .map_err(|cause| Error::internal(format!("{name}: `{value}` can't be made absolute")).source(cause))?;
    Ok(path.to_string_lossy().into_owned())
}

/// Refuses what the owner would end with, before there is a log for it to say so: a wrong key leaves every byte of a home as it was. The
/// owner needn't stretch the passphrase again, which takes as long as the whole rest of its start.
fn may_start(home: &Home, variables: &BTreeMap<String, String>) -> Result<Option<Handover>> {
    let stretched = secrets::check(home, variables, secrets::nobody_to_ask)?;
    Ok(stretched.map(|stretched| Handover { argument: STRETCHED_ARGUMENT, bytes: stretched.bytes() }))
}

/// The header that brings the caller's provider keys along, over the local socket only.
pub(super) fn provider_variables(variables: &BTreeMap<String, String>) -> Option<(&'static str, String)> {
    let set = PROVIDER_VARIABLES
        .iter()
        .filter_map(|name| Some((*name, variables.get(*name).filter(|value| !value.is_empty())?)));
    let found: BTreeMap<&str, &String> = set.collect();
    let json = serde_json::to_string(&found).ok().filter(|_| !found.is_empty())?;
    Some(("x-station-provider-variables", json))
}

fn needs_owner(tool: &str) -> bool {
    NEED_AN_OWNER.contains(&tool) || NEED_SERVERS.iter().any(|noun| tool.starts_with(noun))
}

/// Eight random bytes in hexadecimal.
pub(super) fn request_id() -> Result<String> {
    let random =
        getrandom::u64().map_err(|cause| Error::internal("the operating system gives no randomness").source(cause))?;
    Ok(format!("{random:016x}"))
}

/// Checks the name of an environment before anything is sent or opened.
pub(super) fn check_environment(name: &str) -> Result<()> {
    Name::new(name).map(drop).map_err(|invalid| {
        let error = Error::invalid_input(invalid.to_string()).field("environment");
        error.hint("`stn environment list` shows what `-e` and STN_ENVIRONMENT can name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::Timestamp;
    use crate::home::{Handshake, Layout, LocalListener, OwnerLock, OwnerMode};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// A home that this very process owns, as its clients see it.
    struct Owned {
        target: Target,
        listener: LocalListener,
        _lock: OwnerLock,
        _directory: TempDir,
    }

    fn owned() -> Owned {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"), Layout::Home, &BTreeMap::new()).unwrap();
        home::create(&home, &[]).unwrap();
        let lock = OwnerLock::try_acquire(&home, OwnerMode::Serve, Timestamp::from_millis(0)).unwrap().unwrap();
        let listener = LocalListener::bind(&home, &lock).unwrap();
        let deps = Deps {
            first_use: |_, _| unreachable!(),
            init_root: |_, _, _| unreachable!(),
            refuse_foreign: |_| unreachable!(),
            open: |_| unreachable!("the home has an owner"),
            serve: |_| unreachable!(),
        };
        let target = Target::local(
            home,
            BTreeMap::new(),
            Redactor::default(),
            deps,
            Arc::new(tools::table()),
            None,
            SystemClock::shared(),
        );
        Owned { target, listener, _lock: lock, _directory: directory }
    }

    async fn request(stream: &mut UnixStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().split(" HTTP/").next().unwrap().to_owned()
    }

    async fn answer(stream: &mut UnixStream, status: &str, body: &str) {
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    fn handshake() -> String {
        let handshake =
            Handshake { version: "1".into(), schema: crate::SCHEMA, pid: std::process::id(), mode: OwnerMode::Serve };
        serde_json::to_string(&handshake).unwrap()
    }

    /// Calls `agent_list` of an owner that gives these answers one after the other, and hangs up where there is none. Returns what came of
    /// it, and how often was asked.
    async fn asked(answers: &[Option<(&str, &str)>]) -> (Result<Value, Failure>, usize) {
        let owned = owned();
        let mut asked = 0;
        let owner = async {
            loop {
                let mut stream = owned.listener.accept_checked().await.unwrap();
                if request(&mut stream).await == "GET /local/handshake" {
                    answer(&mut stream, "200 OK", &handshake()).await;
                    continue;
                }
                asked += 1;
                if let Some((status, body)) = answers[asked - 1] {
                    answer(&mut stream, status, body).await;
                }
            }
        };
        let called = tokio::select! {
            () = owner => unreachable!(),
            called = owned.target.call("agent_list", Map::new()) => called,
        };
        (called, asked)
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_is_asked_for_again_and_what_is_said_then_counts() {
        let report = serde_json::to_string(&Error::not_found("no such thing").report()).unwrap();
        for (said, is_ok) in [(("200 OK", "{\"items\":[]}"), true), (("404 Not Found", report.as_str()), false)] {
            let (called, times) = asked(&[None, None, Some(said)]).await;
            assert_eq!((called.is_ok(), times), (is_ok, 3));
        }
    }

    #[tokio::test]
    async fn an_answer_that_says_unavailable_is_an_answer() {
        let report = serde_json::to_string(&Error::unavailable("no model").report()).unwrap();
        let (called, times) = asked(&[Some(("503 Service Unavailable", &report))]).await;
        assert!(matches!(called, Err(Failure::Error(error)) if error.message() == "no model"));
        assert_eq!(times, 1);
    }

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_background_owner_inherits_no_credentials() {
        let given = variables(&[
            ("PATH", "/bin"),
            ("OPENAI_API_KEY", "k"),
            ("STN_KEY", "k"),
            ("STN_URL", "u"),
            ("STN_LOG", "debug"),
        ]);
        let names: Vec<String> = spawn_owner(&given).unwrap().environment.into_keys().collect();
        assert_eq!(names, ["PATH", "STN_LOG"]);
    }

    #[test]
    fn the_caller_s_provider_keys_travel_in_one_header() {
        assert_eq!(provider_variables(&variables(&[("PATH", "/bin"), ("OPENAI_API_KEY", "")])), None);
        let (name, json) = provider_variables(&variables(&[("OPENAI_API_KEY", "k"), ("HOME", "/")])).unwrap();
        assert_eq!((name, json.as_str()), ("x-station-provider-variables", r#"{"OPENAI_API_KEY":"k"}"#));
    }

    #[test]
    fn what_runs_or_needs_servers_needs_an_owner() {
        for tool in ["agent_run", "run_wait", "tool_list", "mcp_server_accept"] {
            assert!(needs_owner(tool), "{tool}");
        }
        for tool in ["agent_list", "run_get", "environment_sync", "station_status"] {
            assert!(!needs_owner(tool), "{tool}");
        }
    }
}
