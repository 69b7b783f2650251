//! What a newcomer meets: the first command in an empty home, without a key, a server or a network.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, kill, within};
use serde_json::{Value, json};
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
        "model offline/rules-1 (no model is configured and no provider key is set)",
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
