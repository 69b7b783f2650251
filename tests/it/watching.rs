//! Files that are taken up because somebody saved them.

use crate::support::home::{Serve, TestHome, within};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

const AGENTS: &str = "environments/development/agents";

/// A home that is served and looked after.
fn watched_home() -> (TestHome, Serve) {
    let mut home = TestHome::with_agent("kept", "");
    home.set("STN_WATCH", "true");
    let serve = home.serve();
    (home, serve)
}

fn agent(home: &TestHome, name: &str) -> Option<Value> {
    let got = home.stn(&["agent", "get", name, "--json"]);
    (got.code == 0).then(|| got.json())
}

/// Waits until the agent's `field` is `value`.
fn waits_for(home: &TestHome, name: &str, field: &str, value: &Value) -> Value {
    within(&format!("`{field}` of `{name}` to be {value}"), || agent(home, name).filter(|agent| agent[field] == *value))
}

fn syncs(home: &TestHome) -> usize {
    let lines = home.read("audit/development.jsonl");
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["request_id"] == "watch").count()
}

#[test]
fn a_saved_file_is_in_force_however_it_is_saved_and_a_broken_one_leaves_the_last_good_one() {
    let (home, _serve) = watched_home();
    home.write_agent("development", "new", "max_steps: 3\n");
    waits_for(&home, "new", "max_steps", &json!(3));

    // As editors do it: a file of another name, then a rename over the old one.
    let file = home.path().join(AGENTS).join("new.prompt");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file.with_extension("tmp"), text.replace("max_steps: 3", "max_steps: 4")).unwrap();
    fs::rename(file.with_extension("tmp"), &file).unwrap();
    let good = waits_for(&home, "new", "max_steps", &json!(4));

    fs::write(file.with_file_name("bare.prompt"), "Say hello.\n").unwrap();
    waits_for(&home, "bare", "prompt", &json!("Say hello."));

    fs::write(&file, text.replace("max_steps: 3", "max_stepz: 5")).unwrap();
    let broken = waits_for(&home, "new", "state", &json!("error"));
    assert_eq!((&broken["revision"], &broken["max_steps"]), (&good["revision"], &json!(4)));
    assert!(broken["problem"].as_str().unwrap().contains("max_stepz"), "{broken}");

    fs::remove_file(&file).unwrap();
    within("the agent to be gone", || agent(&home, "new").is_none().then_some(()));
}

#[test]
fn directories_may_be_replaced_by_others_of_the_same_name() {
    let (home, _serve) = watched_home();
    let agents = home.path().join(AGENTS);
    fs::rename(&agents, home.beside().join("old")).unwrap();
    within("the agents to be gone", || agent(&home, "kept").is_none().then_some(()));
    fs::create_dir(&agents).unwrap();
    home.write_agent("development", "first", "");
    waits_for(&home, "first", "state", &json!("ok"));
    home.write_agent("development", "second", "");
    waits_for(&home, "second", "state", &json!("ok"));
}

#[test]
fn files_behind_links_are_seen_when_their_target_or_a_link_between_changes() {
    let (home, _serve) = watched_home();
    let environment = home.path().join("environments/development");
    // As a ConfigMap is mounted: a link per file, and one that they all lead through.
    let version = |name: &str, steps: u32| {
        let directory = environment.join("agents").join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("mapped.prompt"), format!("---\nmax_steps: {steps}\n---\nBe brief.\n")).unwrap();
        symlink(name, environment.join("agents/..new")).unwrap();
        fs::rename(environment.join("agents/..new"), environment.join("agents/..data")).unwrap();
    };
    version("..r1", 3);
    symlink("..data/mapped.prompt", environment.join("agents/mapped.prompt")).unwrap();
    waits_for(&home, "mapped", "max_steps", &json!(3));
    version("..r2", 4);
    waits_for(&home, "mapped", "max_steps", &json!(4));

    let shared = environment.join("shared");
    fs::create_dir(&shared).unwrap();
    let save = |steps: u32| {
        fs::write(shared.join("s.tmp"), format!("---\nmax_steps: {steps}\n---\nBe brief.\n")).unwrap();
        fs::rename(shared.join("s.tmp"), shared.join("s.prompt")).unwrap();
    };
    save(5);
    symlink("../shared/s.prompt", environment.join("agents/s.prompt")).unwrap();
    waits_for(&home, "s", "max_steps", &json!(5));
    save(6);
    waits_for(&home, "s", "max_steps", &json!(6));
}

#[test]
fn prompts_in_a_directory_that_agents_is_a_link_to_are_seen() {
    let (home, _serve) = watched_home();
    let environment = home.path().join("environments/development");
    fs::rename(environment.join("agents"), environment.join("moved")).unwrap();
    symlink("moved", environment.join("agents")).unwrap();
    home.write_agent("development", "first", "max_steps: 3\n");
    waits_for(&home, "first", "max_steps", &json!(3));
    home.write_agent("development", "first", "max_steps: 4\n");
    waits_for(&home, "first", "max_steps", &json!(4));
}

#[test]
fn servers_and_variables_that_are_saved_are_attached_and_the_workspace_is_left_alone() {
    let (home, _serve) = watched_home();
    fs::create_dir_all(home.path().join("environments/development/workspace/one")).unwrap();
    home.write_servers("development", &json!({ "placed": { "builtin": "filesystem", "args": ["{{ .PLACE }}"] } }));
    let server = |state: &str| {
        within(&format!("the server to be {state}"), || {
            let got = home.stn(&["mcp-server", "get", "placed", "--json"]);
            (got.code == 0 && got.json()["state"] == state).then_some(())
        });
    };
    server("error");
    home.write("environments/development/variables.yml", "PLACE: one\n");
    server("ready");
    let before = syncs(&home);
    home.write("environments/development/workspace/notes.json", "{}");
    // What comes later is seen, so that what came before would have been.
    home.write_agent("development", "later", "");
    waits_for(&home, "later", "state", &json!("ok"));
    assert_eq!(syncs(&home), before + 1);
}

#[test]
fn what_a_tool_changes_is_no_change_of_files_to_take_up() {
    let (home, _serve) = watched_home();
    let before = syncs(&home);
    let _updated = home.stn(&["agent", "update", "kept", "--max-steps", "7"]).ok();
    home.write_agent("development", "later", "");
    waits_for(&home, "later", "state", &json!("ok"));
    assert_eq!(syncs(&home), before + 1);
    assert_eq!(agent(&home, "kept").unwrap()["max_steps"], 7);
}

#[test]
fn a_station_that_is_told_not_to_watch_has_nobody_tell_it_of_changes() {
    let mut home = TestHome::with_agent("kept", "");
    home.unset("STN_WATCH");
    let is_told = |home: &TestHome| {
        let serve = home.serve();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", serve.pid())).unwrap();
        let targets: Vec<_> = descriptors.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).collect();
        let inotify = targets.iter().any(|target| target.to_string_lossy().contains("inotify"));
        assert_eq!(serve.terminate(), Some(0));
        inotify
    };
    assert!(is_told(&home), "files are watched unless it is switched off");
    home.write("station.yml", "watch: false\n");
    assert!(!is_told(&home));
}
