//! One owner per home, whoever comes through whichever door: one truth, one pool of servers, and nobody left behind.

use crate::support::counter::Counter;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, is_alive, within};
use crate::support::http::Http;
use crate::support::peers;
use crate::support::stdio::StdioClient;
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A home with a counter that an agent `worker` may use.
fn home_with_counter(settings: &str) -> (TestHome, Counter) {
    let home = TestHome::with_agent_using(&["counter"], "worker", settings);
    let counter = Counter::beside(&home);
    home.write_servers("development", &counter.servers(&json!({})));
    (home, counter)
}

/// What clients are told after each change of their owner.
const NEWS: &str = "notifications/tools/list_changed";

fn note(text: &str) -> Value {
    json!({ "note": text })
}

#[test]
fn two_editors_a_server_and_the_command_line_see_one_truth_and_one_pool_of_servers() {
    let (home, counter) = home_with_counter("");
    let serve = home.serve();
    let (one, two) = (StdioClient::connect(&home), StdioClient::connect(&home));
    let http = Http::new(&home, &serve);

    one.call("agent_create", &json!({ "name": "shared", "prompt": "Be kind." }));
    let seen_by_two = two.call("agent_get", &json!({ "agent": "shared" }))["structuredContent"].clone();
    let seen_by_cli = home.json(&["agent", "get", "shared"]);
    let seen_by_rest = http.get("/api/v1/agents/shared").with(200).json();
    assert_eq!((&seen_by_two, &seen_by_rest), (&seen_by_cli, &seen_by_cli));

    one.call_attached("counter__count", &note("one"));
    two.call_attached("counter__count", &note("two"));
    let _called = home.stn(&["tool", "call", "counter__count", &note("cli").to_string()]).ok();
    let run = home.json(&["agent", "run", "worker", r#"call counter__count {"note":"run"}"#]);
    assert_eq!(run["status"], "completed", "{run:#}");
    let notes: Vec<Value> = counter.calls().iter().map(|call| call["note"].clone()).collect();
    assert_eq!(notes, ["one", "two", "cli", "run"]);
    assert_eq!(counter.starts().len(), 1, "{:?}", counter.starts());
    assert_eq!(home.owner(), Some(serve.pid()));
}

#[test]
fn editors_go_on_when_their_owner_is_killed() {
    let (home, counter) = home_with_counter("");
    let (one, two) = (StdioClient::connect(&home), StdioClient::connect(&home));
    one.call_attached("counter__count", &note("before"));
    let first = home.owner().unwrap();
    let heard = [&one, &two].map(|client| client.heard(NEWS));
    home.kill_owner();
    for (client, heard) in [&one, &two].into_iter().zip(heard) {
        client.reach_owner();
        assert!(client.heard(NEWS) > heard, "the client wasn't told that its owner is another one");
        client.call_attached("counter__count", &note("after"));
    }
    let next = home.owner().unwrap();
    assert_ne!(first, next);
    assert_eq!((counter.calls().len(), counter.starts().len()), (3, 2));
}

#[test]
fn editors_go_on_when_serve_takes_the_home_over() {
    let (home, _counter) = home_with_counter("");
    let client = StdioClient::connect(&home);
    client.call_attached("counter__count", &note("background"));
    let background = home.owner().unwrap();
    let heard = client.heard(NEWS);
    let serve = home.serve();
    within("the background owner to be gone", || (!is_alive(background)).then_some(()));
    client.reach_owner();
    assert!(client.heard(NEWS) > heard, "the client wasn't told that its owner is another one");
    client.call_attached("counter__count", &note("serve"));
    assert_eq!(home.owner(), Some(serve.pid()));
}

#[test]
fn editors_and_a_run_of_the_command_line_outlive_a_killed_serve() {
    let fake = FakeLlm::start([Turn::saying("Here I am.").held()]);
    let (home, counter) = home_with_counter(&fake.settings());
    let serve = home.serve();
    let clients = [StdioClient::connect(&home), StdioClient::connect(&home)];
    let cli = home.start(&["agent", "run", "worker", "go"]);
    fake.wait_for(0);
    home.kill_owner();
    fake.wait_for_more(0, 1);
    fake.release();
    assert_eq!(cli.end().ok().stdout, "Here I am.\n");
    for client in &clients {
        client.reach_owner();
        client.call_attached("counter__count", &note("after"));
    }
    assert_ne!(home.owner(), Some(serve.pid()));
    assert_eq!((counter.calls().len(), counter.starts().len()), (2, 2));
    let runs = home.json(&["run", "list"]);
    assert_eq!(runs["items"].as_array().unwrap().len(), 1, "{runs:#}");
}

#[test]
fn a_run_that_an_editor_starts_while_the_owner_dies_is_started_once() {
    let fake = FakeLlm::start([Turn::saying("Here I am.").held()]);
    let home = TestHome::with_agent("worker", &fake.settings());
    let client = StdioClient::connect(&home);
    let request = client.send_call("agent_run", &json!({ "agent": "worker", "input": "go" }));
    fake.wait_for(0);
    home.kill_owner();
    fake.wait_for_more(0, 1);
    fake.release();
    let answer = client.answer(request);
    assert_eq!(answer["result"]["structuredContent"]["output"], "Here I am.", "{answer:#}");
    let runs = home.json(&["run", "list"]);
    assert_eq!(runs["items"].as_array().unwrap().len(), 1, "{runs:#}");
}

#[test]
fn a_call_that_is_lost_with_its_owner_is_answered_with_an_error_and_not_made_again() {
    let (home, counter) = home_with_counter("");
    let client = StdioClient::connect(&home);
    let request = client.send_call("tool_call", &json!({ "tool": "counter__hold", "arguments": note("lost") }));
    counter.wait_for_calls(1);
    home.kill_owner();
    let answer = client.answer(request);
    let failed = answer.get("error").is_some() || answer["result"]["isError"] == true;
    assert!(failed, "{answer:#}");
    client.reach_owner();
    client.call_attached("counter__count", &note("after"));
    let tools: Vec<Value> = counter.calls().iter().map(|call| call["tool"].clone()).collect();
    assert_eq!(tools, ["hold", "count"]);
}

#[test]
fn closing_the_editor_ends_no_run() {
    let fake = FakeLlm::start([Turn::saying("Finished anyway.").held()]);
    let home = TestHome::with_agent("worker", &fake.settings());
    let client = StdioClient::connect(&home);
    client.send_call("agent_run", &json!({ "agent": "worker", "input": "go" }));
    fake.wait_for(0);
    assert_eq!(client.close(), Some(0));
    let runs = home.json(&["run", "list"]);
    let id = runs["items"][0]["id"].as_str().unwrap();
    assert_eq!(runs["items"][0]["status"], "running", "{runs:#}");
    fake.release();
    assert_eq!(home.run_in(id, "completed")["output"], "Finished anyway.");
    assert_eq!(fake.asked(0), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "other processes live in real time")]
fn an_idle_background_owner_ends_and_leaves_nobody_behind() {
    let (home, _counter) = home_with_counter("");
    let mut owner = home
        .command(&["serve", "--background", "--idle", "2s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = within("the owner to hold the home", || home.owner());
    // As long as it is connected, the owner isn't idle.
    let client = StdioClient::connect(&home);
    client.call_attached("counter__count", &note("last"));
    assert_eq!(home.owner(), Some(pid));
    assert!(home.processes().len() >= 2, "the owner and the counter");
    let last_use = Instant::now();
    drop(client);
    let status = within("the owner to end", || owner.try_wait().unwrap());
    let after = Instant::now() - last_use;
    within("its servers to end", || home.processes().is_empty().then_some(()));
    assert!(after >= Duration::from_secs(2), "it was too impatient: {after:?}");
    assert!(Instant::now() - last_use < Duration::from_secs(4), "the owner ended {after:?} after the last use");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_short_command_leaves_no_owner_and_no_process_and_starts_no_server() {
    let (home, counter) = home_with_counter("");
    let listed = home.json(&["agent", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed:#}");
    assert_eq!((home.owner(), home.processes(), counter.starts()), (None, Vec::new(), Vec::new()));
}

#[test]
fn a_run_that_a_killed_owner_held_is_queued_for_a_short_command_and_ended_by_one() {
    let (home, counter) = home_with_counter("");
    let id = home.start_run("worker", r#"call counter__hold {"note":"left"}"#);
    counter.wait_for_calls(1);
    home.kill_owner();
    assert_eq!(home.run(&id)["status"], "queued");
    assert_eq!(home.json(&["run", "cancel", &id])["status"], "cancelled");
    assert_eq!((home.owner(), counter.calls().len()), (None, 1));
}

#[test]
fn many_commands_at_once_on_an_empty_home_find_one_owner() {
    let home = TestHome::new();
    let commands = [(); 6].map(|()| home.start(&["agent", "run", "hello", "What does README.md say?", "--json"]));
    for command in commands {
        let _ran = command.end().ok();
    }
    assert_eq!(home.json(&["run", "list"])["items"].as_array().unwrap().len(), 6);
    let owner = home.owner().unwrap();
    within("the owner to be alone", || (home.processes() == [owner]).then_some(()));
}

#[test]
fn a_process_that_a_server_has_set_free_is_refused_on_the_socket() {
    let home = TestHome::with_agent("worker", "");
    let (socket, out) = (home.path().join("station.sock"), home.beside().join("grandchild"));
    let (socket, out) = (socket.to_str().unwrap(), out.to_str().unwrap());
    home.write_servers("development", &json!({ "intruder": peers::own_server("intruder.py", &[socket, out]) }));
    let _started = home.stn(&["tool", "list"]).ok();
    let told = within("the grandchild to be answered", || fs::read_to_string(out).ok());
    assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{told}");
    assert!(told.contains("permission_denied") && !told.contains("\"items\""), "{told}");

    // Whoever the station has not started comes in the same way and is answered.
    let own = home.beside().join("own");
    let own = own.to_str().unwrap();
    let status = Command::new(peers::python())
        .args(["-B", &peers::mcp_server("intruder.py"), socket, own, "alone"])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let told = fs::read_to_string(own).unwrap();
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.contains("\"worker\""), "{told}");
}
