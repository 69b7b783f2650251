//! What people are shown of what is wrong: every fault in its place, with a fix that works.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, kill, within};
use crate::support::station::TestStation;
use serde_json::{Value, json};
use std::fs;

const NEW: &str = "environments/development/agents/newone.prompt";
const BAD: &str = "environments/development/bad.json";

/// A home with an agent file and a server file that can't be read.
fn home_with_faults() -> TestHome {
    let home = TestHome::with_agent("kept", "");
    home.write_agent("development", "newone", "max_stepz: 8\n");
    home.write(BAD, "{ \"mcpServers\": {");
    home
}

fn files(problems: &Value) -> Vec<&str> {
    problems.as_array().unwrap().iter().map(|problem| problem["file"].as_str().unwrap()).collect()
}

#[test]
fn a_start_says_what_is_wrong_with_the_files_in_its_log_and_wherever_the_environment_is_shown() {
    let home = home_with_faults();
    let by_a_command = home.json(&["environment", "get", "development"]);
    assert_eq!(files(&by_a_command["problems"]), [NEW, BAD], "{by_a_command:#}");
    let _serve = home.serve();
    let logged =
        || fs::read_dir(home.beside()).unwrap().filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    within("the log to name the faults", || {
        let warned = |file: &str| logged().any(|log| log.contains("WARN") && log.contains(file));
        (warned(NEW) && warned(BAD)).then_some(())
    });
    let status = home.json(&["status"]);
    let development = &status["environments"][0];
    assert_eq!(development["name"], "development");
    assert_eq!(development["problems"], by_a_command["problems"]);
    assert!(development["problems"][0]["hint"].as_str().unwrap().contains("max_steps"), "{development:#}");
    let shown = home.stn(&["status"]).ok();
    assert!(shown.stdout.contains(NEW) && shown.stdout.contains("did you mean `max_steps`?"), "{}", shown.stdout);
    assert!(shown.stderr.contains(&format!("hint: {NEW}:2: the keys here are")), "{}", shown.stderr);

    fs::remove_file(home.path().join(NEW)).unwrap();
    fs::remove_file(home.path().join(BAD)).unwrap();
    let _mended = home.stn(&["sync"]).ok();
    assert_eq!(home.json(&["environment", "get", "development"])["problems"], json!([]));
}

#[test]
fn a_sync_tells_the_fix_of_each_fault_and_no_name_for_a_file() {
    let synced = home_with_faults().stn(&["sync"]);
    assert_eq!(synced.code, 1);
    assert!(synced.stderr.contains(&format!("hint: {NEW}:2: the keys here are")), "{}", synced.stderr);
    let line = synced.stdout.lines().find(|line| line.contains(BAD)).unwrap();
    assert_eq!(line.matches(BAD).count(), 1, "{line}");
    assert!(line.contains("not valid JSON"), "{line}");
}

#[test]
fn an_edit_of_station_yml_that_is_not_in_force_is_told_with_what_brings_it_into_force() {
    let home = TestHome::with_agent("kept", "");
    let _by_an_owner = home.stn(&["tool", "list"]).ok();
    let owner = home.owner().unwrap();
    assert_eq!(home.json(&["status"])["station_yml_changed"], Value::Null);
    home.write("station.yml", &format!("{}\n# edited\n", home.read("station.yml")));
    let fix = format!("`kill {owner}`, then the next command starts another");
    let note = home.json(&["status"])["station_yml_changed"].as_str().unwrap().to_owned();
    assert!(note.contains(&fix), "{note}");
    let synced = home.stn(&["sync"]).ok();
    assert!(synced.stderr.contains(&fix), "{}", synced.stderr);
    assert!(home.stn(&["status"]).ok().stdout.contains(&fix));
    let _created = home.stn(&["agent", "create", "lost", "Be kind.", "-e", "production"]).ok();
    let refused = home.stn(&["agent", "run", "lost", "go", "-e", "production"]);
    assert!(refused.stderr.contains("has no model") && refused.stderr.contains(&fix), "{}", refused.stderr);

    kill(owner, "TERM");
    within("the owner to be gone", || home.owner().is_none().then_some(()));
    assert_eq!(home.json(&["status"])["station_yml_changed"], Value::Null);
}

#[test]
fn a_run_of_an_agent_whose_file_is_broken_says_so() {
    let llm = FakeLlm::start([Turn::saying("Done."), Turn::saying("Done.")]);
    let home = TestHome::with_agent("kept", &llm.settings());
    let quiet = home.stn(&["agent", "run", "kept", "go"]).ok();
    assert!(!quiet.stderr.contains("warning"), "{}", quiet.stderr);
    home.write_agent("development", "kept", "max_stepz: 8\n");
    assert_eq!(home.stn(&["sync"]).code, 1);
    let told = home.stn(&["agent", "run", "kept", "go"]).ok();
    let warning = told.stderr.lines().find(|line| line.starts_with("warning: the agent's file is broken")).unwrap();
    assert!(warning.contains("max_stepz") && warning.contains("its last good revision"), "{warning}");
}

#[test]
fn an_interrupted_run_is_printed_as_json_where_that_is_asked_for() {
    let llm = FakeLlm::start([Turn::saying("never").held()]);
    let home = TestHome::with_agent("slow", &llm.settings());
    let child =
        home.command(&["agent", "run", "slow", "go", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    llm.wait_for(0);
    kill(i32::try_from(child.id()).unwrap(), "INT");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let run: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(run["status"], "cancelled");
}

#[test]
fn a_new_home_suggests_a_question_that_is_answered_without_a_model() {
    let home = TestHome::new();
    let told = home.stn(&["init"]).ok().stderr;
    let question = told.split('"').nth(1).unwrap();
    assert!(home.stn(&["agent", "run", "hello", question]).ok().stdout.contains("# The workspace"));
    home.write("station.yml", "rums: {}\n");
    let refused = home.stn(&["init"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (78, ""));
    assert!(refused.stderr.contains("station.yml:1") && !refused.stderr.contains("next:"), "{}", refused.stderr);
}

#[test]
fn a_home_that_can_t_be_one_is_a_matter_of_configuration() {
    for root in ["/proc/nope", "/etc/passwd", "/etc/passwd/below"] {
        let mut home = TestHome::new();
        let refused = home.set("STN_HOME", root).stn(&["status"]);
        assert_eq!(refused.code, 78, "{root}: {refused:?}");
        assert!(refused.stderr.contains(root) && refused.stderr.contains("hint: set STN_HOME"), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn hints_give_the_command_as_well_as_the_tool() {
    let station = TestStation::open().await;
    let hint = async |tool: &str, input: Value| {
        let refused = station.call(tool, input).await.unwrap_err();
        refused.hint_text().unwrap_or_default().to_owned()
    };
    let exists = hint("agent_create", json!({ "name": "hello", "prompt": "x" })).await;
    assert!(exists.contains("`agent_update` (`stn agent update`)"), "{exists}");
    assert!(hint("run_get", json!({ "run": "xyz" })).await.contains("`run_list` (`stn run list`)"));
    assert_eq!(
        hint("agent_run", json!({ "agent": "hello" })).await,
        "give it as `input`: `stn agent run hello 'TEXT' -e development`"
    );
    let schema = json!({ "type": "object", "properties": { "path": { "type": "string" }, "deep": { "type": "integer" } },
        "required": ["path", "deep"] });
    station
        .call("agent_create", json!({ "name": "reader", "prompt": "Read {{path}}.", "input_schema": schema }))
        .await
        .unwrap();
    let object = hint("agent_run", json!({ "agent": "reader" })).await;
    assert!(object.contains(r#"`stn agent run reader '{"path": ..., "deep": ...}' -e development`"#), "{object}");
    assert!(hint("mcp_server_get", json!({ "server": "zzz", "environment": "staging" })).await.contains("-e staging"));
}

#[test]
fn run_wait_waits_until_the_run_is_over() {
    let llm = FakeLlm::start([Turn::saying("Done.").held()]);
    let home = TestHome::with_agent("slow", &llm.settings());
    let id = home.start_run("slow", "go");
    llm.wait_for(0);
    // The one that is asked for is over at once; without one, there is none.
    let limited = home.stn(&["run", "wait", &id, "--wait-ms", "1"]);
    assert_eq!(limited.code, 6, "{limited:?}");
    let waiting = home.start(&["run", "wait", &id]);
    llm.release();
    assert_eq!(waiting.end().code, 0);
}
