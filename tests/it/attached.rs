//! Attached MCP servers: the official ones over stdio and HTTP, used by agents and from the command line, and commands that wait to be
//! accepted.

use crate::support::counter::Counter;
use crate::support::home::{TestHome, within};
use crate::support::http::DeafPort;
use crate::support::peers;
use crate::support::stdio::StdioClient;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const EVERYTHING: &str = "@modelcontextprotocol/server-everything/dist/index.js";
const FILESYSTEM: &str = "@modelcontextprotocol/server-filesystem/dist/index.js";

/// An entry for `mcpServers`: a package's server over stdio.
fn over_stdio(package: &str, arguments: &[&str]) -> Value {
    let mut args = vec![peers::npm(package)];
    args.extend(arguments.iter().map(|&argument| argument.to_owned()));
    json!({ "command": peers::node(), "args": args })
}

/// The everything server over streamable HTTP, killed when dropped.
struct Everything {
    child: Child,
    url: String,
}

impl Everything {
    fn start() -> Self {
        let child = Command::new(peers::node())
            .args([&peers::npm(EVERYTHING), "streamableHttp"])
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = within("the everything server to listen", || listening_port(child.id()));
        Self { child, url: format!("http://127.0.0.1:{port}/mcp") }
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The TCP port on which a process listens; the everything server prints only the one that it was given.
fn listening_port(pid: u32) -> Option<u16> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| target.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    ["tcp", "tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(Path::new("/proc/net").join(table)).ok()?;
        table.lines().find_map(|line| {
            // proc_net_tcp: the local address, the state (0A listens), and as tenth field the socket's inode.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens =
                fields.get(3) == Some(&"0A") && sockets.iter().any(|inode| fields.get(9) == Some(&inode.as_str()));
            listens.then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok()).flatten()
        })
    })
}

/// The run of an agent `worker`, driven by the lines of a plan, which has to complete.
fn follow(home: &TestHome, plan: &str) -> Value {
    let run = home.json(&["agent", "run", "worker", plan]);
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(run["model"]["provider"], "offline");
    run
}

/// The texts that the tools of a run gave.
fn results(home: &TestHome, run: &Value) -> Vec<String> {
    let steps = home.steps(run["id"].as_str().unwrap());
    let tools = steps.iter().filter(|step| step["kind"] == "tool");
    tools.map(|step| step["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_agent_works_with_the_official_filesystem_server() {
    let home = TestHome::with_agent_using(&["fs"], "worker", "");
    let directory = home.beside().join("notes");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.txt"), "alpha").unwrap();
    let (read, written) = (directory.join("a.txt"), directory.join("b.txt"));
    home.write_servers("development", &json!({ "fs": over_stdio(FILESYSTEM, &[directory.to_str().unwrap()]) }));
    let plan = [
        format!("call fs__read_text_file {}", json!({ "path": read })),
        format!("call fs__write_file {}", json!({ "path": written, "content": "beta" })),
        format!("call fs__list_directory {}", json!({ "path": directory })),
    ];
    let run = follow(&home, &plan.join("\n"));
    let results = results(&home, &run);
    assert_eq!(results[0], "alpha");
    assert_eq!(results[2].lines().collect::<Vec<_>>(), ["[FILE] a.txt", "[FILE] b.txt"]);
    assert_eq!(fs::read_to_string(written).unwrap(), "beta");
    assert!(run["output"].as_str().unwrap().contains("alpha"), "{run:#}");
}

#[test]
fn a_tool_that_refuses_is_reported_and_is_no_failure_of_the_station() {
    let home = TestHome::with_agent_using(&["fs"], "worker", "");
    let directory = home.beside().join("notes");
    fs::create_dir(&directory).unwrap();
    home.write_servers("development", &json!({ "fs": over_stdio(FILESYSTEM, &[directory.to_str().unwrap()]) }));
    let outside = json!({ "path": home.path().join("station.yml") }).to_string();
    let run = follow(&home, &format!("call fs__read_text_file {outside}"));
    assert!(results(&home, &run)[0].contains("Access denied"), "{run:#}");
    let called = home.stn(&["tool", "call", "fs__read_text_file", &outside]);
    assert_eq!(called.code, 1, "{called:?}");
    assert!(called.stdout.contains("Access denied"), "{called:?}");
}

#[test]
fn the_everything_server_works_over_stdio_and_over_http() {
    let http = Everything::start();
    let home = TestHome::with_agent_using(&["local", "remote"], "worker", "");
    let mut local = over_stdio(EVERYTHING, &[]);
    local["tools"] = json!({ "echo": { "effect": "read", "idempotent": true } });
    home.write_servers("development", &json!({ "local": local, "remote": { "url": http.url } }));

    let run = follow(&home, "call local__echo {\"message\":\"hi\"}\ncall remote__get-sum {\"a\": 2, \"b\": 40}");
    assert_eq!(results(&home, &run), ["Echo: hi", "The sum of 2 and 40 is 42."]);

    let listed = home.json(&["tool", "list", "--limit", "200"]);
    let tool =
        |name: &str| listed["items"].as_array().unwrap().iter().find(|tool| tool["name"] == name).cloned().unwrap();
    let echo = tool("local__echo");
    assert_eq!((&echo["effect"], &echo["effect_trusted"]), (&json!("read"), &json!(true)), "{echo:#}");
    assert_eq!(echo["input_schema"]["required"], json!(["message"]));
    assert_eq!(tool("remote__echo")["effect_trusted"], false, "a server's own word is not trusted");

    let called = home.stn(&["tool", "call", "remote__echo", r#"{"message":"from the shell"}"#]).ok();
    assert_eq!(called.stdout, "Echo: from the shell\n");
    let raw = home.json(&["tool", "call", "local__get-structured-content", r#"{"location":"New York"}"#]);
    assert!(raw["structuredContent"]["temperature"].is_number(), "{raw:#}");
}

#[test]
fn a_child_sees_nothing_of_the_stations_own_environment() {
    let mut home = TestHome::with_agent("worker", "");
    home.set("OPENAI_API_KEY", "sk-secret").set("SOME_TOKEN", "secret");
    let mut server = over_stdio(EVERYTHING, &[]);
    server["env"] = json!({ "DECLARED": "yes" });
    home.write_servers("development", &json!({ "local": server }));
    let serve = home.serve();
    let called = home.stn(&["tool", "call", "local__get-env", "{}"]).ok().stdout;
    let seen: Value = serde_json::from_str(&called).unwrap();
    assert_eq!(seen["DECLARED"], "yes");
    for hidden in ["STN_HOME", "OPENAI_API_KEY", "SOME_TOKEN"] {
        assert!(seen.get(hidden).is_none(), "{hidden} in {called}");
    }
    drop(serve);
}

#[test]
fn an_unknown_tool_is_refused_with_the_one_that_was_meant() {
    let home = TestHome::with_agent("worker", "");
    home.write_servers("development", &Counter::beside(&home).servers(&json!({})));
    let called = home.stn(&["tool", "call", "counter__cuont", r#"{"note":"x"}"#]);
    assert_eq!(called.code, 4, "{called:?}");
    assert!(called.stderr.contains("counter__count"), "{called:?}");
}

#[test]
fn the_tools_of_an_unknown_server_are_refused_with_the_server_that_was_meant() {
    let home = TestHome::with_agent("worker", "");
    let listed = home.stn(&["tool", "list", "--server", "filesytem"]);
    assert_eq!(listed.code, 4, "{listed:?}");
    assert!(listed.stderr.contains("`filesystem`"), "{listed:?}");
}

#[test]
fn one_broken_server_does_not_keep_the_others_from_working() {
    let home = TestHome::with_agent_using(&["counter"], "worker", "");
    let counter = Counter::beside(&home);
    let missing = json!({ "command": "/does/not/exist" });
    let silent = json!({ "command": peers::python(), "args": ["-c", "import sys; sys.exit('out of order')"] });
    let deaf = DeafPort::take();
    let gone = json!({ "url": format!("http://{}/mcp", deaf.address()) });
    let servers = json!({ "counter": counter.server(&json!({})), "missing": missing, "silent": silent, "gone": gone });
    home.write_servers("development", &servers);
    let run = follow(&home, r#"call counter__count {"note":"still here"}"#);
    assert_eq!(results(&home, &run), ["counted still here"]);
    for (name, reason) in [("missing", "/does/not/exist"), ("silent", "out of order"), ("gone", "refused")] {
        within(&format!("the problem of `{name}`"), || {
            let server = home.json(&["mcp-server", "get", name]);
            server["problem"].as_str().is_some_and(|problem| problem.contains(reason)).then_some(())
        });
    }
}

/// The state of the counter's command in `staging`.
fn command_state(home: &TestHome) -> Value {
    home.json(&["mcp-server", "get", "counter", "-e", "staging"])["command_state"].clone()
}

#[test]
fn a_command_outside_development_runs_only_after_a_person_has_seen_and_accepted_it() {
    let home = TestHome::with_agent("worker", "");
    let counter = Counter::beside(&home);
    let mut servers = counter.servers(&json!({}));
    home.write_servers("staging", &servers);
    let call = ["tool", "call", "counter__count", r#"{"note":"x"}"#, "-e", "staging"];

    let refused = home.stn(&call);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("stn mcp-server accept counter"), "{refused:?}");
    assert_eq!(command_state(&home), "pending");
    let asked = home.stn(&["mcp-server", "accept", "counter", "-e", "staging"]);
    assert_eq!(asked.code, 2, "nobody can be asked without a terminal: {asked:?}");
    assert_eq!((command_state(&home), counter.starts().len()), (json!("pending"), 0));

    let accepted = home.stn(&["mcp-server", "accept", "counter", "-e", "staging", "--yes"]).ok();
    for argument in servers["counter"]["args"].as_array().unwrap() {
        assert!(accepted.stderr.contains(&argument.to_string()), "{argument} is missing in:\n{}", accepted.stderr);
    }
    assert_eq!(home.stn(&call).ok().stdout, "counted x\n");
    let pid = i32::try_from(counter.starts()[0]).unwrap();

    servers["counter"]["args"].as_array_mut().unwrap().push(json!("--changed"));
    home.write_servers("staging", &servers);
    let _synced = home.stn(&["sync", "staging"]).ok();
    assert_eq!(command_state(&home), "pending");
    assert_ne!(home.stn(&call).code, 0);
    within("the server with the old command to end", || (!crate::support::home::is_alive(pid)).then_some(()));
    assert_eq!((counter.starts().len(), counter.calls().len()), (1, 1));

    let accepted = home.stn(&["mcp-server", "accept", "counter", "-e", "staging", "--yes"]).ok();
    assert!(accepted.stderr.contains("\"--changed\""), "{}", accepted.stderr);
    assert_eq!(home.stn(&call).ok().stdout, "counted x\n");
}

#[test]
fn accepting_one_command_lets_no_other_run_that_has_changed_since_it_was_accepted() {
    let home = TestHome::with_agent("worker", "");
    let counter = Counter::beside(&home);
    let mut servers = counter.servers(&json!({}));
    servers["other"] = servers["counter"].clone();
    home.write_servers("staging", &servers);
    let _accepted = home.stn(&["mcp-server", "accept", "counter", "-e", "staging", "--yes"]).ok();
    let call = ["tool", "call", "counter__count", r#"{"note":"x"}"#, "-e", "staging"];
    let _counted = home.stn(&call).ok();
    servers["counter"]["args"].as_array_mut().unwrap().push(json!("--sneaky"));
    home.write_servers("staging", &servers);
    let _accepted = home.stn(&["mcp-server", "accept", "other", "-e", "staging", "--yes"]).ok();
    assert_ne!(home.stn(&call).code, 0);
    assert_eq!(counter.calls().len(), 1);
}

#[test]
fn a_server_file_that_breaks_leaves_its_servers_running_and_accepted() {
    let home = TestHome::with_agent("worker", "");
    let counter = Counter::beside(&home);
    let servers = counter.servers(&json!({}));
    home.write_servers("staging", &servers);
    let _accepted = home.stn(&["mcp-server", "accept", "counter", "-e", "staging", "--yes"]).ok();
    let call = ["tool", "call", "counter__count", r#"{"note":"x"}"#, "-e", "staging"];
    let _counted = home.stn(&call).ok();
    home.write("environments/staging/test.json", "{ nonsense");
    let synced = home.stn(&["sync", "staging"]);
    assert_ne!(synced.code, 0, "{synced:?}");
    let _counted = home.stn(&call).ok();
    let shown = home.json(&["mcp-server", "get", "counter", "-e", "staging"]);
    let problem = shown["problem"].as_str().unwrap_or_default();
    assert!(shown["state"] == "ready" && problem.starts_with("environments/staging/test.json:1:"), "{shown:#}");
    home.write_servers("staging", &servers);
    let _synced = home.stn(&["sync", "staging"]).ok();
    assert_eq!((command_state(&home), counter.starts().len()), (json!("accepted"), 1));
}

#[test]
fn the_values_of_variables_are_shown_only_to_a_person_who_may_accept_the_command() {
    let home = TestHome::with_agent("worker", "");
    let counter = Counter::beside(&home);
    let mut servers = counter.servers(&json!({}));
    servers["counter"]["args"].as_array_mut().unwrap().push(json!("{{ .TOKEN }}"));
    servers["counter"]["env"] = json!({ "MARK": "{{ .TOKEN }}" });
    servers["counter"]["cwd"] = json!("environments");
    home.write("environments/development/variables.yml", "TOKEN: hush-hush\n");
    home.write_servers("development", &servers);
    let _synced = home.stn(&["sync"]).ok();

    let listed = home.json(&["mcp-server", "list"]);
    let editors = ["developer", "admin"].map(|role| {
        let shown = StdioClient::connect_as(role, &home).call("mcp_server_get", &json!({ "server": "counter" }));
        assert_eq!(shown["structuredContent"]["name"], "counter", "{shown:#}");
        shown
    });
    for shown in editors.iter().chain([&listed, &home.json(&["status"])]) {
        assert!(!shown.to_string().contains("hush"), "{shown:#}");
    }
    assert_eq!(listed["items"][0]["target"].as_array().unwrap().last().unwrap(), "{{ .TOKEN }}");
    let got = home.json(&["mcp-server", "get", "counter"]);
    let command = &got["command"];
    assert_eq!((&command["cwd"], &command["env"]), (&json!("environments"), &json!(["MARK"])));
    assert_eq!(command["argv"].as_array().unwrap().last().unwrap(), "hush-hush");
    let accepted = home.stn(&["mcp-server", "accept", "counter", "--yes"]).ok();
    for part in ["\"hush-hush\"", "in the directory \"environments\"", "with the variables \"MARK\""] {
        assert!(accepted.stderr.contains(part), "`{part}` is missing in:\n{}", accepted.stderr);
    }
}

#[test]
fn what_was_not_shown_is_not_accepted() {
    let home = TestHome::with_agent("worker", "");
    let counter = Counter::beside(&home);
    let mut servers = counter.servers(&json!({}));
    home.write_servers("staging", &servers);
    let seen = home.json(&["mcp-server", "get", "counter", "-e", "staging"]);
    servers["counter"]["args"].as_array_mut().unwrap().push(json!("--sneaky"));
    home.write_servers("staging", &servers);
    let _synced = home.stn(&["sync", "staging"]).ok();
    let input =
        json!({ "server": "counter", "environment": "staging", "command_hash": seen["command_hash"] }).to_string();
    let refused = home.stn(&["call", "mcp_server_accept", &input]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert_eq!((command_state(&home), counter.starts().len()), (json!("pending"), 0));
}

#[test]
fn a_server_whose_definition_is_in_error_is_shown_with_its_fault_and_its_calls_name_the_file_to_mend() {
    let home = TestHome::with_agent_using(&["needy"], "worker", "");
    let counter = Counter::beside(&home);
    let needy = json!({ "url": "http://127.0.0.1:1/mcp", "headers": { "Authorization": "Bearer {{ .TOKEN }}" } });
    home.write_servers("development", &json!({ "needy": needy, "counter": counter.server(&json!({})) }));
    home.write_agent("development", "other", &crate::support::home::tools_of(&["counter"]));
    let file = "environments/development/test.json";

    let listed = home.json(&["mcp-server", "list"]);
    let states: Vec<_> = listed["items"].as_array().unwrap().iter().map(|server| &server["name"]).collect();
    assert_eq!(states, ["counter", "filesystem", "needy"]);
    let shown = home.json(&["mcp-server", "get", "needy"]);
    assert_eq!((&shown["state"], &shown["file"], &shown["tools"]), (&json!("error"), &json!(file), &json!(0)));
    let problem = shown["problem"].as_str().unwrap();
    assert!(problem.starts_with(&format!("{file}:1:")) && problem.contains("TOKEN"), "{problem}");

    let tool: [&[&str]; 3] =
        [&["tool", "call", "needy__x", "{}"], &["tool", "get", "needy__x"], &["tool", "list", "--server", "needy"]];
    for command in tool {
        let refused = home.stn(command);
        assert_eq!(refused.code, 6, "{refused:?}");
        for said in ["`needy`", problem, "stn sync development"] {
            assert!(refused.stderr.contains(said), "{said} is missing in {refused:?}");
        }
    }
    let accepted = home.stn(&["mcp-server", "accept", "needy", "--yes"]);
    assert!(accepted.code == 6 && accepted.stderr.contains(problem), "{accepted:?}");

    let failed = home.stn(&["agent", "run", "worker", "call needy__x {}"]);
    assert!(failed.code == 1 && failed.stderr.contains(problem), "{failed:?}");
    let run = home.json(&["agent", "run", "other", r#"call counter__count {"note":"still here"}"#]);
    assert_eq!(run["status"], "completed", "{run:#}");

    home.write("environments/development/variables.yml", "TOKEN: t\n");
    let _synced = home.stn(&["sync", "development"]).ok();
    within("the server to be tried", || {
        let server = home.json(&["mcp-server", "get", "needy"]);
        server["problem"].as_str().is_some_and(|now| !now.contains("TOKEN")).then_some(())
    });
}
