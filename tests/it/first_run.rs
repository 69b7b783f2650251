//! What a newcomer meets: the first command in an empty home, without a key, a server or a network.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, kill, within};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const QUESTION: [&str; 4] = ["agent", "run", "hello", "What does README.md say?"];

/// The step's kind, status and name.
fn outline(step: &Value) -> (&str, &str, &str) {
    let text = |key: &str| step[key].as_str().unwrap();
    (text("kind"), text("status"), text("name"))
}

#[test]
fn the_first_command_in_an_empty_home_answers_with_what_a_tool_read() {
    let home = TestHome::new();
    assert!(!home.path().exists());
    let output = home.stn(&QUESTION).ok();
    let readme = home.read("environments/development/workspace/README.md");
    let facts: Vec<&str> = readme.lines().filter(|line| line.starts_with("- ")).collect();
    assert!(facts.len() >= 3, "{readme}");
    for fact in facts {
        assert!(output.stdout.contains(fact), "`{fact}` is missing in:\n{}", output.stdout);
    }
    for told in [
        "model offline/rules-1 (no model is configured and no provider key is set, such as OPENAI_API_KEY",
        r#"filesystem__read_text_file {"path":"README.md"}"#,
        "no language model was used",
    ] {
        assert!(output.stderr.contains(told), "`{told}` is missing in:\n{}", output.stderr);
        assert!(!output.stdout.contains(told), "`{told}` belongs to stderr:\n{}", output.stdout);
    }
}

#[test]
fn the_journal_of_the_first_run_shows_arguments_results_and_durations() {
    let home = TestHome::new();
    let run = home.json(&QUESTION);
    assert_eq!((&run["status"], &run["environment"]), (&json!("completed"), &json!("development")), "{run:#}");
    assert!(run["output"].as_str().unwrap().contains("# The workspace"), "{run:#}");
    let id = run["id"].as_str().unwrap();
    let steps = home.steps(id);
    assert_eq!(
        steps.iter().map(outline).collect::<Vec<_>>(),
        [
            ("model", "completed", "offline/rules-1"),
            ("tool", "completed", "filesystem__read_text_file"),
            ("model", "completed", "offline/rules-1"),
        ]
    );
    assert!(steps.iter().all(|step| step["duration_ms"].is_i64()), "{steps:#?}");
    assert_eq!(steps[1]["arguments"], json!({ "path": "README.md" }));
    let readme = home.read("environments/development/workspace/README.md");
    assert_eq!(steps[1]["result"]["content"][0]["text"], json!(readme));
    let shown = home.stn(&["run", "steps", id]).ok().stdout;
    assert!(
        shown.contains("filesystem__read_text_file") && shown.contains("README.md") && shown.contains(" ms"),
        "{shown}"
    );
}

#[test]
fn a_run_can_be_left_to_itself_and_waited_for_later() {
    let home = TestHome::new();
    let detached = home.stn(&["agent", "run", "hello", "What does README.md say?", "--detach"]).ok();
    let id = detached.stdout.trim();
    assert_eq!(detached.stdout, format!("{id}\n"));
    let waited = home.stn(&["run", "wait", id]).ok();
    assert!(waited.stdout.contains("An agent is a file"), "{}", waited.stdout);
    assert_eq!(home.run(id)["status"], "completed");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let home = TestHome::new();
    let _first = home.stn(&["agent", "list"]).ok();
    for arguments in [&["agent", "list"][..], &["agent", "list", "--json"], &["--help"], &QUESTION] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = home.command(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panic"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn the_status_says_which_model_a_run_would_get_and_why() {
    let mut home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let _serve = home.serve();
    let shown = home.stn(&["status"]).ok().stdout;
    assert!(shown.contains("REASON") && shown.contains("no model is configured"), "{shown}");
    // The owner doesn't have the key; whoever runs an agent brings it along.
    home.set("OPENAI_API_KEY", "sk-nothing");
    for command in [&["status"][..], &["environment", "list"], &["environment", "get"]] {
        let shown = home.stn(command).ok().stdout;
        assert!(shown.contains("openai") && shown.contains("OPENAI_API_KEY is set"), "{command:?}: {shown}");
    }
}

#[test]
fn an_environment_that_is_named_is_never_passed_over() {
    let home = TestHome::new();
    let run = home.json(&QUESTION);
    let id = run["id"].as_str().unwrap();
    let refused = |words: &[&str], code: i32, part: &str| {
        let output = home.stn(words);
        assert_eq!(output.code, code, "{words:?}: {output:?}");
        assert!(output.stderr.contains(part) && output.stderr.contains("hint: "), "{words:?}: {output:?}");
    };
    let places = || {
        refused(&["status", "-e", "nosuch"], 4, "environment `nosuch` doesn't exist");
        for words in
            [["run", "get", id], ["run", "steps", id], ["run", "events", &id[..8]], ["run", "cancel", &id[..8]]]
        {
            refused(&[&words[..], &["-e", "production"]].concat(), 4, "doesn't exist in environment `production`");
        }
        refused(&["run", "get", id, "-e", "nosuch"], 4, "environment `nosuch` doesn't exist");
        assert_eq!(home.json(&["run", "get", &id[..8], "-e", "development"])["id"], run["id"]);
        let status = home.json(&["status", "-e", "staging"]);
        assert_eq!(status["environments"].as_array().unwrap().len(), 1, "{status:#}");
    };
    places();
    home.kill_owner();
    places();
    refused(&["environment", "list", "-e", "staging"], 2, "concerns all environments");
    refused(&["-e", "staging", "sync", "--all"], 2, "`--all` and `-e staging`");
    refused(&["serve", "-e", "staging"], 2, "`--environment` means nothing to it");
    refused(&["init", "--url", "http://127.0.0.1:1"], 2, "`--url` means nothing to it");
    refused(&["agent", "list", "--key", "k"], 2, "`--key` is for a remote station");
    refused(&["agent", "list", "-e", "A"], 2, "`A`");
}

#[test]
fn a_pipe_that_gives_up_ends_though_its_editor_says_nothing_more() {
    let home = TestHome::new();
    let mut child =
        home.command(&["stdio"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let client = json!({ "name": "editor", "version": "1" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    writeln!(stdin, "{}", json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })).unwrap();
    let mut answer = String::new();
    stdout.read_line(&mut answer).unwrap();
    assert!(answer.contains("protocolVersion"), "{answer}");
    // No owner can start with this, so that the pipe loses its own for good.
    home.write("station.yml", "nonsense: 1\n");
    home.kill_owner();
    let status = within("stn stdio to end", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    drop(stdin);
}

#[test]
fn ctrl_c_cancels_the_run_and_exits_with_130() {
    let fake = FakeLlm::start([Turn::saying("too late").held()]);
    let home = TestHome::with_agent("worker", &fake.settings());
    let mut child = home
        .command(&["agent", "run", "worker", "go"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fake.wait_for(0);
    kill(i32::try_from(child.id()).unwrap(), "INT");
    let status = within("stn to end after Ctrl-C", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(output.stdout.is_empty());
    let runs = home.json(&["run", "list"]);
    assert_eq!(runs["items"][0]["status"], "cancelled", "{runs:#}");
}
