//! Whole runs: a station with a store, a gateway and workers, a model that follows a script, and a clock that stands still.

mod answers;
mod budget;
mod children;
mod commits;
mod crash;
mod doubt;
mod ends;
mod questions;
mod turns;
mod workers;

use super::Workers;
use crate::clock::{ManualClock, SharedClock};
use crate::config::Settings;
use crate::domain::{
    AgentDefinition, AuditEntry, AuditOutcome, Cause, CommandState, EnvironmentNumber, McpServerDefinition, Name,
    OnInDoubt, Origin, Principal, Run, RunId, RunStatus, ServerTransport, Timestamp, ToolOverride, Usage,
};
use crate::events::Events;
use crate::gateway::{Gateway, GatewayDeps};
use crate::home::{Home, Layout};
use crate::lifecycle::Tasks;
use crate::llm::{
    FailedAttempt, Finish, Message, Provider, ProviderError, ProviderErrorKind, ToolCall, ToolResult, TurnLimits,
    TurnReply, TurnRequest, TurnSink,
};
use crate::store::sqlite::{SqliteControl, SqliteStore};
use crate::store::{AgentWrite, AuditRow, Claim, JournalRow, Owner};
use crate::tools::model::{Models, ProviderVariables};
use crate::tools::{self, Context, Environment, Environments, Station};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

/// An MCP server in POSIX shell whose tools misbehave: `hang` never answers, `die` ends the server, `peek` ends it the first time, `half`
/// answers with half of a character, `deep` with more levels than anybody reads, `late` when somebody has written to the pipe `land`.
const MISFITS: &str = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}
  say() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
  case "$line" in
    *'"method":"server/discover"'*) say '"error":{"code":-32601,"message":"unknown"}' ;;
    *'"method":"initialize"'*) say '"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}}}' ;;
    *'"method":"tools/list"'*) say '"result":{"tools":[{"name":"hang"},{"name":"die"},{"name":"peek"},{"name":"half"},{"name":"deep"},{"name":"late"}]}' ;;
    *'"name":"late"'*)
      read -r _ < land
      say '"result":{"content":[{"type":"text","text":"landed"}]}' ;;
    *'"name":"half"'*) say '"result":{"content":[{"type":"text","text":"cut \ud83d"}]}' ;;
    *'"name":"deep"'*)
      deep='1'; for _ in 1 2 3 4 5 6 7 8; do deep="$deep$deep"; done
      say "\"result\":{\"structuredContent\":$(echo "$deep" | tr 1 '[')0$(echo "$deep" | tr 1 ']')}" ;;
    *'"name":"die"'*) exit 3 ;;
    *'"name":"peek"'*)
      if mkdir peeked 2>/dev/null; then exit 3; fi
      say '"result":{"content":[{"type":"text","text":"seen"}]}' ;;
  esac
done
"#;

/// What the model does in one turn.
enum Say {
    Text(&'static str),
    /// `(tool, arguments)`.
    Calls(Vec<(&'static str, &'static str)>),
    Cut(&'static str, Finish),
    /// The same, by a provider that doesn't say what it used.
    Uncounted(&'static str, Vec<(&'static str, &'static str)>),
    /// Calls, the last of them cut off at the limit of output.
    CutCalls(Vec<(&'static str, &'static str)>),
    Fail,
    /// Is limited at first, and says this when asked again.
    Limited(&'static str),
    Panic,
    /// Doesn't answer until told to; then says this.
    Wait(Arc<Notify>, &'static str),
}

/// Answers whatever is asked.
type Respond = fn(&TurnRequest) -> Say;

/// A provider that follows a script and remembers what it was asked.
#[derive(Debug)]
struct Scripted {
    script: Mutex<VecDeque<Say>>,
    /// Instead of the script, where many runs ask in no particular order.
    respond: Mutex<Option<Respond>>,
    requests: Mutex<Vec<TurnRequest>>,
    asked: watch::Sender<usize>,
}

impl std::fmt::Debug for Say {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Say")
    }
}

impl Scripted {
    /// Resolves when the model has been asked `times` times.
    async fn asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        asked.wait_for(|asked| *asked >= times).await.unwrap();
    }

    fn times_asked(&self) -> usize {
        *self.asked.borrow()
    }

    fn request(&self, at: usize) -> TurnRequest {
        self.requests.lock().unwrap()[at].clone()
    }

    /// The tool results that the model saw last.
    fn last_results(&self) -> Vec<ToolResult> {
        let requests = self.requests.lock().unwrap();
        match requests.last().and_then(|request| request.messages.last()) {
            Some(Message::ToolResults(results)) => results.clone(),
            _ => panic!("the model was shown no results"),
        }
    }
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        _: &TurnLimits,
    ) -> Result<TurnReply, ProviderError> {
        self.requests.lock().unwrap().push(request.clone());
        let respond = *self.respond.lock().unwrap();
        let said = match respond {
            Some(respond) => Some(respond(request)),
            None => self.script.lock().unwrap().pop_front(),
        };
        self.asked.send_modify(|asked| *asked += 1);
        let counted = !matches!(said, Some(Say::Uncounted(..)));
        let limited = matches!(said, Some(Say::Limited(_)));
        let (text, calls, finish) = match said {
            Some(Say::Text(text) | Say::Limited(text)) => (text, vec![], Finish::Stop),
            Some(Say::Calls(calls)) => ("", calls, Finish::ToolCalls),
            Some(Say::Uncounted(text, calls)) if calls.is_empty() => (text, calls, Finish::Stop),
            Some(Say::Uncounted(text, calls)) => (text, calls, Finish::ToolCalls),
            Some(Say::Cut(text, finish)) => (text, vec![], finish),
            Some(Say::CutCalls(calls)) => ("", calls, Finish::Length),
            Some(Say::Panic) => panic!("the provider is broken"),
            Some(Say::Wait(go, text)) => {
                go.notified().await;
                (text, vec![], Finish::Stop)
            }
            Some(Say::Fail) | None => {
                return Err(ProviderError {
                    provider: "scripted".into(),
                    model: request.model.clone(),
                    status: Some(401),
                    kind: ProviderErrorKind::Auth,
                    message: "scripted refused the key".into(),
                    hint: Some("use another key".into()),
                });
            }
        };
        if limited {
            let error = ProviderError {
                provider: "scripted".into(),
                model: request.model.clone(),
                status: Some(429),
                kind: ProviderErrorKind::RateLimited,
                message: "scripted answered 429: slow down".into(),
                hint: None,
            };
            sink.failed(&FailedAttempt { error, attempt: 1, most: 4, wait: Duration::from_millis(8_100) });
        }
        sink.text(text);
        let call = |(at, (name, arguments)): (usize, (&str, &str))| ToolCall {
            id: format!("call-{at}"),
            name: name.into(),
            arguments: arguments.into(),
        };
        let calls = calls.into_iter().enumerate().map(call).collect();
        let usage = counted.then_some(Usage { input_tokens: 10, output_tokens: 1, ..Usage::default() });
        Ok(TurnReply {
            text: text.into(),
            calls,
            native: None,
            usage,
            finish,
            notice: None,
            wire_attempts: 1 + u32::from(limited),
        })
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        Ok(vec!["m".into()])
    }
}

/// A station on a table.
struct Bench {
    clock: Arc<ManualClock>,
    station: Arc<Station>,
    workers: Arc<Workers>,
    environment: Arc<Environment>,
    model: Arc<Scripted>,
    tasks: Tasks,
    _home: TempDir,
}

impl Bench {
    /// Everything is there, and nothing executes yet.
    fn new(script: Vec<Say>) -> Self {
        Self::with(script, Settings::default())
    }

    fn with(script: Vec<Say>, settings: Settings) -> Self {
        Self::with_workers(script, settings, 4)
    }

    fn with_workers(script: Vec<Say>, settings: Settings, workers: u32) -> Self {
        Self::in_home(tempfile::tempdir().unwrap(), script, settings, workers, "here")
    }

    /// In a home that may have a store already, and with this owner.
    fn in_home(keep: TempDir, script: Vec<Say>, settings: Settings, workers: u32, owner: &str) -> Self {
        let home = Home::at(keep.path(), Layout::Home, &BTreeMap::new()).unwrap();
        let name = Name::new("development").unwrap();
        for directory in [home.workspace_dir(&name), home.stores_dir(), home.audit_dir(), home.state_dir()] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let manual = ManualClock::at(Timestamp::from_millis(1_764_000_000_000));
        let clock: SharedClock = manual.clone();
        let (events, tasks, settings) = (Events::default(), Tasks::new(), Arc::new(settings));
        let http = crate::net::http_client().unwrap();
        let (control, audit) = (home.control_db(), home.audit_dir().join("station.jsonl"));
        let control = Arc::new(SqliteControl::open(&control, &audit, clock.clone()).unwrap());
        let environment = environment(&home, &name, &clock, &events, &tasks, http.clone());
        let model = Arc::new(Scripted {
            script: Mutex::new(script.into()),
            respond: Mutex::default(),
            requests: Mutex::default(),
            asked: watch::Sender::default(),
        });
        let workers = Workers::new(workers, Owner(owner.into()));
        let environments = Environments::default();
        environments.insert(environment.clone());
        let models = Models::new(settings.clone(), ProviderVariables::default(), http, clock.clone());
        let ready = tokio_util::sync::CancellationToken::new();
        ready.cancel();
        let station = Arc::new(Station {
            ready,
            giving: tokio::sync::Mutex::default(),
            denials: crate::tools::Throttle::new(crate::tools::MOST_DENIALS),
            tasks: tasks.clone(),
            spawner: crate::process::Spawner::start().unwrap(),
            redactor: crate::redact::Redactor::default(),
            models: models.with_provider("scripted", model.clone()),
            started_at: clock.now(),
            mode: "serve",
            table: tools::table(),
            process_variables: BTreeMap::new(),
            http_listen: OnceLock::new(),
            admission: workers.clone(),
            default_environment: name,
            clock,
            events,
            settings,
            home,
            control,
            environments,
        });
        Self { clock: manual, station, workers, environment, model, tasks, _home: keep }
    }

    /// A station with the agent of [`agent`], at work.
    async fn started(script: Vec<Say>) -> Self {
        let bench = Self::new(script);
        bench.agent(|_| {}).await;
        bench.start().await;
        bench
    }

    async fn start(&self) {
        super::start(&self.station, &self.workers, &self.tasks).await;
    }

    /// Stores the agent `helper`, changed by `change`.
    async fn agent(&self, change: impl FnOnce(&mut AgentDefinition)) {
        let mut definition = agent();
        change(&mut definition);
        let file = format!("environments/development/agents/{}.prompt", definition.name);
        let write = AgentWrite { definition, revision: "r1".into(), bytes: b"---".to_vec(), file, expected: None };
        self.environment.store.agent_write(write, self.audit()).await.unwrap();
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        tools::call(&self.station, context(), tool, arguments).await.unwrap()
    }

    /// Submits a run of `helper`.
    async fn submit(&self) -> RunId {
        let run = self.call("agent_run", json!({ "agent": "helper", "input": "go" })).await;
        serde_json::from_value::<Run>(run).unwrap().id
    }

    /// Submits a run and claims it for an owner that will do nothing more.
    async fn claimed_by_the_dead(&self) -> Claim {
        self.submit().await;
        let mut claims = self.environment.store.claim(&Owner("dead".into()), 1).await.unwrap();
        claims.remove(0)
    }

    /// The run once it has ended or waits for somebody.
    async fn settled(&self, id: RunId) -> Run {
        self.until(id, |run| run.status.is_terminal() || run.status == RunStatus::InputRequired).await
    }

    async fn until(&self, id: RunId, is_so: impl Fn(&Run) -> bool) -> Run {
        let mut follower = self.station.events.follow(id);
        loop {
            let run = self.environment.store.run(id).await.unwrap().unwrap();
            if is_so(&run) {
                return run;
            }
            follower.next().await;
        }
    }

    /// Resolves once step `seq` has an outcome.
    async fn step_ended(&self, id: RunId, seq: i64) {
        let mut follower = self.station.events.follow(id);
        while !self.journal(id).await.iter().any(|row| row.step.seq == seq && row.step.ended_at.is_some()) {
            follower.next().await;
        }
    }

    /// Resolves once the journal has `rows` rows.
    async fn until_journaled(&self, id: RunId, rows: usize) {
        let mut follower = self.station.events.follow(id);
        while self.journal(id).await.len() < rows {
            follower.next().await;
        }
    }

    async fn journal(&self, id: RunId) -> Vec<JournalRow> {
        self.environment.store.journal_rows(id).await.unwrap()
    }

    /// The step `seq` in its try `r#try`.
    async fn step(&self, id: RunId, seq: i64, r#try: i64) -> JournalRow {
        let rows = self.journal(id).await;
        rows.into_iter().find(|row| (row.step.seq, row.step.r#try) == (seq, r#try)).unwrap()
    }

    /// Outcomes of the audit entries for `action`, in order.
    async fn audited(&self, action: &str) -> Vec<AuditOutcome> {
        let rows: Vec<AuditRow> = self.environment.store.audit_after(0, 1000).await.unwrap();
        rows.into_iter().filter(|row| row.entry.action == action).map(|row| row.entry.outcome).collect()
    }

    fn write_file(&self, name: &str, content: &str) {
        std::fs::write(self.station.home.workspace_dir(&self.environment.name).join(name), content).unwrap();
    }

    fn audit(&self) -> AuditEntry {
        AuditEntry {
            at: self.station.clock.now(),
            principal: Principal::local_owner().who,
            origin: Origin::Cli,
            cause: Cause::call(),
            action: "agent.create".into(),
            target: None,
            environment: None,
            outcome: AuditOutcome::Done,
            reason: None,
            request_id: "t".into(),
            config_revision: None,
            details: None,
        }
    }
}

fn context() -> Context {
    Context::new(Principal::local_owner(), Origin::Cli, "t".into())
}

/// `helper` may use all tools of `files` and `misfits` and one of `others`, and asks about calls in doubt.
fn agent() -> AgentDefinition {
    AgentDefinition {
        name: Name::new("helper").unwrap(),
        display_name: None,
        description: None,
        tags: vec![],
        model: Some("scripted/m".into()),
        max_steps: Some(5),
        timeout_ms: Some(60_000),
        plan: false,
        tools: vec!["files__*".into(), "misfits__*".into(), "others__late".into()],
        agents: vec![],
        input_schema: None,
        output_schema: None,
        schedule: None,
        approval: None,
        limits: None,
        retry: None,
        on_in_doubt: OnInDoubt::Ask,
        prompt: "{{role \"system\"}}Help.{{role \"user\"}}{{userInput}}".into(),
    }
}

/// `files` is the built-in over the workspace, whose `write_file` is taken for a call that can't be repeated.
fn environment(
    home: &Home,
    name: &Name,
    clock: &SharedClock,
    events: &Events,
    tasks: &Tasks,
    http: reqwest::Client,
) -> Arc<Environment> {
    let number = EnvironmentNumber::new(1).unwrap();
    let (db, audit) = (home.data_db(name), home.audit_dir().join("development.jsonl"));
    let store = SqliteStore::open(&db, &audit, (name.clone(), number), clock.clone(), events.clone()).unwrap();
    let store: Arc<dyn crate::store::Store> = Arc::new(store);
    let root = crate::secrets::Unlocked::throwaway().unwrap();
    let secrets =
        crate::secrets::Secrets::none(root, name.clone(), Arc::clone(&store), crate::redact::Redactor::default());
    let deps = GatewayDeps {
        clock: clock.clone(),
        tasks: tasks.clone(),
        http,
        spawner: crate::process::Spawner::start().unwrap(),
        redactor: crate::redact::Redactor::default(),
        starts_servers: true,
        cache_dir: home.cache_dir(),
        home: home.root().to_owned(),
        workspace: home.workspace_dir(name),
        secrets: secrets.values().clone(),
        tool_timeout: Duration::from_secs(30),
    };
    let gateway = Gateway::new(name.clone(), deps);
    let server = |server: &str, transport, tool: &str, word: ToolOverride| {
        let definition = McpServerDefinition {
            name: Name::new(server).unwrap(),
            file: "environments/development/servers.json".into(),
            transport,
            target: Vec::new(),
            timeout_ms: None,
            disabled: false,
            tools: BTreeMap::from([(tool.to_owned(), word)]),
        };
        (definition, CommandState::Accepted)
    };
    let builtin = ServerTransport::Builtin { builtin: "filesystem".into(), args: vec![] };
    let shell = || ServerTransport::Stdio {
        command: "/bin/sh".into(),
        args: vec!["-c".into(), MISFITS.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        cwd: None,
    };
    let once = ToolOverride { idempotent: Some(false), ..ToolOverride::default() };
    let reads = ToolOverride { effect: Some(crate::domain::Effect::Read), ..ToolOverride::default() };
    gateway.apply(
        vec![
            server("files", builtin, "write_file", once),
            server("misfits", shell(), "peek", reads),
            server("others", shell(), "peek", reads),
        ],
        BTreeMap::new(),
    );
    let files = tokio::sync::Mutex::default();
    Arc::new(Environment {
        name: name.clone(),
        number,
        store,
        gateway,
        redactor: crate::redact::Redactor::default(),
        secrets,
        files,
        problems: crate::tools::FileProblems::default(),
    })
}
