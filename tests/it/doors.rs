//! Who may do what, through every door of a real `stn serve`: REST, MCP over HTTP, MCP over stdio, and the command line with `--url` and
//! `--key`. Each door is asked for each cell of `authorization.csv`, and each refusal must have left its audit row.
//!
//! Over the network the roles are those of users, and come with API keys of theirs. Over stdio it is the owner of the home, who limits
//! a session to one environment and one role: granted by name, and nothing for the station as a whole.

use crate::authorization::{ENVIRONMENTS, authorization, harmless};
use crate::support::home::{Serve, TestHome};
use crate::support::http::Http;
use crate::support::mcp_client::{Endpoint, RawStdio, modern, result, tool_error};
use crate::support::store_dump::{Denial, denials};
use serde_json::{Value, json};
use station::domain::Role;
use station::tools::{self, EnvironmentUse, Method, ToolSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// What is given where a tool asks for a name that isn't there and can't be made.
const NOTHING: &str = "Nothing Like It";

/// What stands in the place of a tool where an MCP endpoint doesn't open: that is no cell of the table, and leaves a row like one.
const OPENING: &str = "mcp_open";

/// Commands at a time; they mostly wait for the station.
const COMMANDS: usize = 4;

/// What a cell of the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Allow,
    Deny,
    Hide,
}

/// How a call ended, as its door told it.
#[derive(Debug)]
struct Told {
    /// The error's kind; empty where there was none.
    kind: String,
    /// The field that the error names.
    field: String,
    /// The HTTP status or the exit code; 0 over MCP, which has none.
    status: i64,
    request: String,
}

/// A cell, and what came of it.
struct Asked {
    tool: &'static str,
    column: &'static str,
    environment: &'static str,
    expected: Expected,
    told: Told,
    /// Whether the door said what is expected, in its own terms.
    holds: bool,
    /// Where the row of a denial belongs; `None` = the control store.
    store: Option<&'static str>,
    /// The row of a denial.
    denial: Denial,
}

/// The home behind the doors.
struct Station {
    home: TestHome,
    serve: Serve,
}

/// Somebody who comes with a key: the role of a column everywhere, or in one environment alone.
struct Person {
    role: &'static str,
    /// Where alone the role was granted.
    granted: Option<&'static str>,
    id: String,
    key: String,
}

impl Station {
    fn open() -> Self {
        let home = TestHome::new();
        let _created = home.stn(&["init"]).ok();
        Self { serve: home.serve(), home }
    }

    /// Users with each role everywhere and in each environment alone, and a key for each of them.
    fn people(&self) -> Vec<Person> {
        let http = Http::new(&self.home, &self.serve);
        let everywhere = Role::ALL.map(|role| (role, None));
        let named = Role::ALL.into_iter().flat_map(|role| ENVIRONMENTS.map(|one| (role, Some(one))));
        let all = everywhere.into_iter().chain(named).map(|(role, granted)| {
            let role = role.as_str();
            let name = format!("{role}-{}", granted.unwrap_or("everywhere"));
            let _created = http.post("/api/v1/users", &json!({ "name": name })).with(201);
            let grant = json!({ "environment": granted.unwrap_or("*"), "role": role });
            let _granted = http.send_json("PATCH", &format!("/api/v1/users/{name}/roles"), &grant).with(200);
            let made = http.post("/api/v1/api-keys", &json!({ "name": name, "user": name })).with(201).json();
            let text = |field: &str| made[field].as_str().unwrap().to_owned();
            Person { role, granted, id: text("id"), key: text("key") }
        });
        all.collect()
    }

    /// Fails with every cell that isn't as the table says, and every denial without its one audit row. `owed` is the number of cells for
    /// each tool.
    #[track_caller]
    fn assert_as_the_table_says(&self, owed: usize, asked: &[Asked]) {
        let cells = asked.iter().filter(|asked| asked.tool != OPENING).count();
        assert_eq!(cells, owed * tools::table().iter().count());
        let mut recorded: BTreeMap<String, Vec<(Option<&str>, Denial)>> = BTreeMap::new();
        for store in std::iter::once(None).chain(ENVIRONMENTS.map(Some)) {
            let path = match store {
                Some(name) => self.home.path().join("data").join(format!("{name}.db")),
                None => self.home.path().join("station.db"),
            };
            for (request, denial) in denials(&path) {
                recorded.entry(request).or_default().push((store, denial));
            }
        }
        let cells: BTreeSet<&str> = asked.iter().map(|asked| asked.told.request.as_str()).collect();
        let beside: Vec<_> = recorded.iter().filter(|(request, _)| !cells.contains(request.as_str())).collect();
        assert!(beside.is_empty(), "denied beside what was asked for: {beside:#?}");
        let rows = |asked: &Asked| recorded.get(&asked.told.request).map(Vec::as_slice).unwrap_or_default();
        let is_right = |asked: &&Asked| {
            let owed = match asked.expected {
                Expected::Allow => &[][..],
                Expected::Deny | Expected::Hide => &[(asked.store, asked.denial.clone())],
            };
            asked.holds && rows(asked) == owed
        };
        let wrong: Vec<String> = asked
            .iter()
            .filter(|asked| !is_right(asked))
            .map(|asked| {
                let Asked { tool, column, environment, expected, told, .. } = asked;
                format!("{tool} as {column} in {environment}: {expected:?}, but {told:?}, recorded {:?}", rows(asked))
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{} cells are not as tests/it/authorization.csv says:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

/// The environment after this one.
fn next(environment: &str) -> &'static str {
    let at = ENVIRONMENTS.iter().position(|name| *name == environment).unwrap();
    ENVIRONMENTS[(at + 1) % ENVIRONMENTS.len()]
}

fn specs() -> Vec<ToolSpec> {
    tools::table().iter().map(|tool| tool.spec.clone()).collect()
}

/// The columns in which a person is looked up, each with the environment that it acts in.
fn columns(person: &Person) -> Vec<(&'static str, &'static str)> {
    match (person.granted, person.role) {
        (None, role) => ENVIRONMENTS.map(|environment| (role, environment)).to_vec(),
        (Some(own), "developer") => vec![("developer_named", own), ("elsewhere", next(own))],
        (Some(own), _) => vec![("elsewhere", next(own))],
    }
}

/// 4 roles held everywhere, the developer by name, and 4 roles of another environment, in 3 environments.
const COLUMNS: usize = (4 + 1 + 4) * 3;

/// What the table says of a call that a person makes.
fn expected(tool: &str, column: &str, environment: &str) -> Expected {
    let row = authorization(tool);
    match (column, row.elsewhere) {
        ("elsewhere", "deny") => Expected::Deny,
        ("elsewhere", "hide") => Expected::Hide,
        ("elsewhere", _) => Expected::Allow,
        _ if row.allows(column, environment) => Expected::Allow,
        _ => Expected::Deny,
    }
}

/// The same where a model may be asking.
fn expected_over_mcp(tool: &str, column: &str, environment: &str) -> Expected {
    if authorization(tool).mcp == "refused" { Expected::Deny } else { expected(tool, column, environment) }
}

/// The store in which a denial in this environment is recorded.
fn store_of(spec: &ToolSpec, environment: &'static str) -> Option<&'static str> {
    (spec.environment != EnvironmentUse::None).then_some(environment)
}

/// Whether an answer to a [`harmless`] input is what is expected: who is let past authorization is told of the field that isn't one.
fn holds(expected: Expected, told: &Told, denied: i64, hidden: i64, invalid: i64) -> bool {
    let (kind, field) = (told.kind.as_str(), told.field.as_str());
    match expected {
        Expected::Allow => (kind, field, told.status) == ("invalid_input", "no_such_field", invalid),
        Expected::Deny => (kind, told.status) == ("permission_denied", denied),
        Expected::Hide => (kind, told.status) == ("not_found", hidden),
    }
}

fn told(error: &Value, status: i64) -> Told {
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    Told { kind: text("kind"), field: text("field"), status, request: text("request_id") }
}

/// A call of the tool through its route.
fn over_rest(http: &Http, spec: &ToolSpec, environment: &str) -> Told {
    let rest = spec.rest.unwrap();
    let mut input = harmless(spec, environment);
    let fields = input.as_object_mut().unwrap();
    let mut path = String::from("/api/v1");
    for part in rest.path.split('/').filter(|part| !part.is_empty()) {
        path.push('/');
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(field) => match fields.remove(field) {
                Some(given) => path.push_str(given.as_str().unwrap()),
                None => path.push_str("nothing-like-it"),
            },
            None => path.push_str(part),
        }
    }
    if let Some(environment) = fields.remove("environment") {
        path = format!("{path}?environment={}", environment.as_str().unwrap());
    }
    let answer = match rest.method {
        Method::Get | Method::Delete => {
            let glue = if path.contains('?') { '&' } else { '?' };
            let method = if rest.method == Method::Get { "GET" } else { "DELETE" };
            http.send(method, &format!("{path}{glue}no_such_field=1"), &[], None)
        }
        Method::Post => http.post(&path, &input),
        Method::Patch => http.send_json("PATCH", &path, &input),
    };
    told(&answer.json(), answer.status.into())
}

#[test]
fn over_rest_every_key_may_do_what_the_table_says() {
    let station = Station::open();
    let mut asked = Vec::new();
    for person in station.people() {
        let http = Http::with_key(&station.serve.url, &person.key);
        for (column, environment) in columns(&person) {
            for spec in specs() {
                let (told, expected) = (over_rest(&http, &spec, environment), expected(spec.name, column, environment));
                asked.push(Asked {
                    tool: spec.name,
                    column,
                    environment,
                    expected,
                    holds: holds(expected, &told, 403, 404, 400),
                    told,
                    store: store_of(&spec, environment),
                    denial: Denial { action: spec.action(), origin: "rest".into(), who: person.id.clone() },
                });
            }
        }
    }
    station.assert_as_the_table_says(COLUMNS, &asked);
}

/// The tools that a client may see: offered to it, and its to use.
fn to_be_listed(expected: impl Fn(&ToolSpec) -> Expected) -> BTreeSet<String> {
    let specs = specs();
    let seen = specs.iter().filter(|spec| expected(spec) == Expected::Allow).map(|spec| spec.name.to_owned());
    seen.collect()
}

fn listed(answer: &Value) -> BTreeSet<String> {
    let result = result(answer);
    assert!(result.get("nextCursor").is_none(), "{result}");
    result["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// The answer to `tools/call`; whatever is refused is a result that says so.
fn over_mcp(answer: &Value) -> Told {
    told(&tool_error(answer), 0)
}

/// Where the row of a denial belongs. What is for people is refused before anything is looked at, so in the connection's environment.
fn store_over_mcp(spec: &ToolSpec, asked: &'static str, connection: &'static str) -> Option<&'static str> {
    if authorization(spec.name).mcp == "refused" { Some(connection) } else { store_of(spec, asked) }
}

/// The endpoint of an environment in which the person has no rights, which doesn't open.
fn unopened(http: &Http, person: &Person, environment: &'static str) -> Asked {
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": modern(json!({})) });
    let path = format!("/mcp/{environment}?tools=all");
    let answer = Endpoint::modern(http, &path).post(&[("mcp-method", "tools/list")], &list);
    let told = told(&answer.json(), answer.status.into());
    Asked {
        tool: OPENING,
        column: "elsewhere",
        environment,
        expected: Expected::Deny,
        holds: holds(Expected::Deny, &told, 403, 404, 400),
        told,
        store: Some(environment),
        denial: Denial { action: "mcp.open".into(), origin: "mcp_http".into(), who: person.id.clone() },
    }
}

#[test]
fn over_mcp_on_http_every_key_may_do_what_the_table_says_and_sees_no_more() {
    let station = Station::open();
    let mut asked = Vec::new();
    for person in station.people() {
        let http = Http::with_key(&station.serve.url, &person.key);
        for (column, environment) in columns(&person) {
            // What is elsewhere is asked for where the caller is let in.
            let is_elsewhere = column == "elsewhere";
            let connection = if is_elsewhere { person.granted.unwrap() } else { environment };
            asked.extend(is_elsewhere.then(|| unopened(&http, &person, environment)));
            let path = format!("/mcp/{connection}?tools=all");
            let mut endpoint = Endpoint::modern(&http, &path);
            let seen = listed(&endpoint.request("tools/list", json!({})));
            let own = match (person.role, person.granted) {
                ("developer", Some(_)) => "developer_named",
                (role, _) => role,
            };
            let owed = to_be_listed(|spec| {
                let is_own = person.granted.is_none() || spec.environment != EnvironmentUse::None;
                expected_over_mcp(spec.name, if is_own { own } else { "elsewhere" }, connection)
            });
            assert_eq!(seen, owed, "{own} in {connection}");
            for spec in specs() {
                let mut input = harmless(&spec, environment);
                if !is_elsewhere {
                    // The address has said which environment it is.
                    input.as_object_mut().unwrap().remove("environment");
                }
                let told = over_mcp(&endpoint.call(spec.name, &input));
                let expected = expected_over_mcp(spec.name, column, environment);
                asked.push(Asked {
                    tool: spec.name,
                    column,
                    environment,
                    expected,
                    holds: holds(expected, &told, 0, 0, 0),
                    told,
                    store: store_over_mcp(&spec, environment, connection),
                    denial: Denial { action: spec.action(), origin: "mcp_http".into(), who: person.id.clone() },
                });
            }
        }
    }
    station.assert_as_the_table_says(COLUMNS, &asked);
}

/// What the table says of a call in a session of this role in `own`.
fn expected_over_stdio(spec: &ToolSpec, role: Role, own: &str, asked: &str) -> Expected {
    let column = if role == Role::Developer { "developer_named" } else { role.as_str() };
    let is_elsewhere = own != asked || spec.environment == EnvironmentUse::None;
    expected_over_mcp(spec.name, if is_elsewhere { "elsewhere" } else { column }, asked)
}

#[test]
fn over_stdio_a_role_may_do_in_its_environment_what_the_table_says_and_nothing_elsewhere() {
    let station = Station::open();
    let mut asked = Vec::new();
    for (role, own) in Role::ALL.into_iter().flat_map(|role| ENVIRONMENTS.map(|own| (role, own))) {
        let arguments = ["-e", own, "--role", role.as_str(), "--tools", "all"];
        let mut stdio = RawStdio::initialized(&station.home, &arguments);
        let seen = listed(&stdio.request("tools/list", &json!({})));
        let owed = to_be_listed(|spec| expected_over_stdio(spec, role, own, own));
        assert_eq!(seen, owed, "{} in {own}", role.as_str());
        for (environment, spec) in [own, next(own)]
            .into_iter()
            .flat_map(|environment| specs().into_iter().map(move |spec| (environment, spec)))
        {
            let told = over_mcp(&stdio.call(spec.name, &harmless(&spec, environment)));
            let expected = expected_over_stdio(&spec, role, own, environment);
            asked.push(Asked {
                tool: spec.name,
                column: role.as_str(),
                environment,
                expected,
                holds: holds(expected, &told, 0, 0, 0),
                told,
                store: store_over_mcp(&spec, environment, own),
                denial: Denial { action: spec.action(), origin: "mcp_stdio".into(), who: "local".into() },
            });
        }
        let closed = stdio.close();
        assert_eq!(closed.code, 0, "{closed:?}");
    }
    station.assert_as_the_table_says(4 * 3 * 2, &asked);
}

/// The tools whose command does something else before it calls them; they are called by their name.
const CALLED_BY_NAME: [&str; 1] = ["mcp_server_accept"];

/// A first value that the schema allows, if it lists them.
fn choice(schema: &Value) -> Option<&str> {
    let listed = || schema["enum"].as_array()?.first()?.as_str();
    let alternatives = || ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array()?.iter().find_map(choice));
    schema["const"].as_str().or_else(listed).or_else(alternatives)
}

/// The command of the tool, with everything that it must be given.
fn words(spec: &ToolSpec, environment: &str, run: &str) -> Vec<String> {
    let cli = spec.cli.unwrap();
    if CALLED_BY_NAME.contains(&spec.name) {
        let mut input = harmless(spec, environment);
        cli.positionals.iter().for_each(|field| input[*field] = NOTHING.into());
        return ["call", spec.name, &input.to_string()].map(str::to_owned).to_vec();
    }
    let (fields, required) = (&spec.input["properties"], spec.input["required"].as_array());
    let is_required = |field: &str| required.is_some_and(|required| required.iter().any(|one| *one == field));
    let value = |field: &str| match field {
        "run" => run.to_owned(),
        "environment" => environment.to_owned(),
        _ => choice(&fields[field]).unwrap_or(NOTHING).to_owned(),
    };
    let mut words: Vec<String> = cli.verb.split(' ').map(str::to_owned).collect();
    let by_position = |field: &&&str| is_required(field) || **field == "environment";
    words.extend(cli.positionals.iter().filter(by_position).map(|field| value(field)));
    let others =
        required.into_iter().flatten().filter_map(Value::as_str).filter(|field| !cli.positionals.contains(field));
    // A secret comes from stdin.
    for field in others.filter(|field| fields[*field]["writeOnly"] != true) {
        words.extend([format!("--{}", field.replace('_', "-")), value(field)]);
    }
    if !cli.positionals.contains(&"environment")
        && !matches!(spec.environment, EnvironmentUse::None | EnvironmentUse::OfRun)
    {
        words.extend(["-e".to_owned(), environment.to_owned()]);
    }
    words
}

/// The tools whose command ends with 1 when the run that it tells of has failed.
const OF_AN_OUTCOME: [&str; 2] = ["agent_run", "run_wait"];

/// Whether the command for `tool` ended as is expected. What the station `answered` is JSON, and its errors carry a request's id: a command
/// that never got there says nothing of rights.
fn command_holds(tool: &str, expected: Expected, told: &Told, answered: bool) -> bool {
    let was_asked = !told.request.is_empty();
    match expected {
        Expected::Allow if told.kind.is_empty() => {
            answered && (told.status == 0 || told.status == 1 && OF_AN_OUTCOME.contains(&tool))
        }
        Expected::Allow => was_asked && matches!(told.kind.as_str(), "invalid_input" | "not_found" | "conflict"),
        Expected::Deny => was_asked && (told.kind.as_str(), told.status) == ("permission_denied", 3),
        Expected::Hide => was_asked && (told.kind.as_str(), told.status) == ("not_found", 4),
    }
}

/// A command under way, and the cell that it is for.
struct Job {
    command: Command,
    asked: Asked,
    of_run: bool,
}

impl Job {
    /// Runs it with the contents of `stdin`.
    fn done(mut self, stdin: &Path) -> Asked {
        let output = self.command.stdin(File::open(stdin).unwrap()).output().unwrap();
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
        let status = output.status.code().unwrap_or(-1);
        let told = told(error.get("error").unwrap_or(&error), status.into());
        let mut printed = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let answered = printed.next().is_some_and(|first| first.is_ok());
        // A run that is there is not found only by who may not see it.
        let is_hidden = self.of_run && told.kind == "not_found";
        let expected = self.asked.expected;
        self.asked.holds =
            command_holds(self.asked.tool, expected, &told, answered) && (expected == Expected::Hide || !is_hidden);
        self.asked.told = told;
        self.asked
    }
}

#[test]
fn on_the_command_line_every_key_may_do_what_the_table_says() {
    let station = Station::open();
    let secret = station.home.beside().join("secret");
    std::fs::write(&secret, "a value of some length").unwrap();
    for environment in ENVIRONMENTS {
        station.home.write_agent(environment, "probe", "model: offline/rules-1\n");
    }
    let _taken_up = station.home.stn(&["sync", "--all"]).ok();
    let runs = ENVIRONMENTS.map(|environment| {
        let ran = station.home.json(&["agent", "run", "probe", "What is here?", "-e", environment]);
        ran["id"].as_str().unwrap().to_owned()
    });
    let mut jobs = Vec::new();
    for person in station.people() {
        for (column, environment) in columns(&person) {
            let run = &runs[ENVIRONMENTS.iter().position(|name| *name == environment).unwrap()];
            for spec in specs() {
                let words = words(&spec, environment, run);
                let mut command = station.home.command(&["--json", "--url", &station.serve.url, "--key", &person.key]);
                command.args(&words);
                let asked = Asked {
                    tool: spec.name,
                    column,
                    environment,
                    expected: expected(spec.name, column, environment),
                    told: told(&Value::Null, 0),
                    holds: false,
                    store: store_of(&spec, environment),
                    denial: Denial { action: spec.action(), origin: "rest".into(), who: person.id.clone() },
                };
                jobs.push(Job { command, asked, of_run: spec.environment == EnvironmentUse::OfRun });
            }
        }
    }
    let (jobs, done) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..COMMANDS {
            scope.spawn(|| {
                loop {
                    let Some(job) = jobs.lock().unwrap().pop() else { break };
                    let asked = job.done(&secret);
                    done.lock().unwrap().push(asked);
                }
            });
        }
    });
    station.assert_as_the_table_says(COLUMNS, &done.into_inner().unwrap());
}

#[test]
fn who_may_not_accept_a_command_is_refused_by_the_station_which_records_it() {
    let station = Station::open();
    let waiting = r#"{ "mcpServers": { "waiting": { "command": "true" } } }"#;
    station.home.write("environments/staging/servers.json", waiting);
    let _taken_up = station.home.stn(&["sync", "staging"]).ok();
    let state = || station.home.json(&["mcp-server", "get", "waiting", "-e", "staging"])["command_state"].clone();
    for person in station.people().into_iter().filter(|person| person.granted.is_none()) {
        let place = ["--url", &station.serve.url, "--key", &person.key, "-e", "staging"];
        let done =
            station.home.stn(&[&["mcp-server", "accept", "waiting", "--yes", "--json"], place.as_slice()].concat());
        let rows = denials(&station.home.path().join("data/staging.db"));
        let recorded: Vec<_> = rows.iter().filter(|(_, denial)| denial.who == person.id).collect();
        if person.role == "admin" {
            assert_eq!((done.code, recorded.len(), state()), (0, 0, json!("accepted")), "{done:?}");
            continue;
        }
        let error: Value = serde_json::from_str(&done.stderr).unwrap();
        let told = told(error.get("error").unwrap_or(&error), done.code.into());
        assert_eq!((told.kind.as_str(), told.status), ("permission_denied", 3), "{done:?}");
        let denial = Denial { action: "mcp_server.accept".into(), origin: "rest".into(), who: person.id.clone() };
        assert_eq!(recorded, [&(told.request, denial)], "{}", person.role);
        assert_eq!(state(), "pending");
    }
}

#[test]
fn a_role_that_is_none_opens_no_session_and_is_told_those_that_are() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    for role in ["root", "Developer", ""] {
        let refused = home.stn(&["stdio", "--role", role]);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
        for told in ["--role", "viewer", "developer", "operator", "admin"] {
            assert!(refused.stderr.contains(told), "{refused:?}");
        }
    }
    assert_eq!(home.owner(), None);
}
