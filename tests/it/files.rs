//! The files that people write: what a sync would do, what a broken file does, and what an update leaves alone.

use crate::support::counter::Counter;
use crate::support::home::TestHome;
use crate::support::store_dump::Dump;
use serde_json::{Value, json};
use std::fs;

const AGENTS: &str = "environments/development/agents";

/// A plan's items: kind, name, action.
fn plan(synced: &Value) -> Vec<[&str; 3]> {
    let items = synced["items"].as_array().unwrap();
    items.iter().map(|item| ["kind", "name", "action"].map(|key| item[key].as_str().unwrap())).collect()
}

/// A home whose files are taken up.
fn settled_home() -> TestHome {
    let home = TestHome::with_agent("kept", "");
    for name in ["edited", "removed", "spoiled"] {
        home.write_agent("development", name, "max_steps: 3\n");
    }
    let _synced = home.stn(&["sync"]).ok();
    home
}

/// Changes the files of such a home in every way.
fn change(home: &TestHome) {
    home.write_agent("development", "added", "max_steps: 2\n");
    home.write_agent("development", "edited", "max_steps: 4\n");
    home.write_agent("development", "spoiled", "max_steps: 3\nmax_stepz: 5\n");
    fs::remove_file(home.path().join(AGENTS).join("removed.prompt")).unwrap();
    home.write_servers("development", &Counter::beside(home).servers(&json!({})));
}

fn a_dry_run_changes_nothing_and_tells_the_truth(home: &TestHome) {
    let before = Dump::of(&home.path());
    let dry = home.stn(&["sync", "--dry-run", "--json"]);
    before.assert_same(&Dump::of(&home.path()));
    assert_eq!(dry.code, 1, "a file is broken: {dry:?}");
    let dry = dry.json();
    assert_eq!(
        plan(&dry),
        [
            ["agent", "added", "create"],
            ["agent", "edited", "update"],
            ["agent", "hello", "unchanged"],
            ["agent", "kept", "unchanged"],
            ["agent", "removed", "delete"],
            ["agent", "spoiled", "error"],
            ["mcp_server", "counter", "create"],
            ["mcp_server", "filesystem", "unchanged"],
        ]
    );
    let done = home.stn(&["sync", "--json"]).json();
    assert_eq!((&dry["items"], &dry["config_revision"]), (&done["items"], &done["config_revision"]));
    let agents = home.json(&["agent", "list"]);
    let names: Vec<&Value> = agents["items"].as_array().unwrap().iter().map(|agent| &agent["name"]).collect();
    assert_eq!(names, ["added", "edited", "hello", "kept", "spoiled"]);
    assert_eq!(home.json(&["agent", "get", "edited"])["max_steps"], 4);
    let again = home.stn(&["sync", "--dry-run", "--json"]).json();
    assert!(plan(&again).iter().all(|[_, name, action]| *action == "unchanged" || *name == "spoiled"), "{again:#}");
}

#[test]
fn a_dry_run_at_a_running_station_changes_nothing_and_tells_the_truth() {
    let home = settled_home();
    let serve = home.serve();
    change(&home);
    a_dry_run_changes_nothing_and_tells_the_truth(&home);
    drop(serve);
}

#[test]
fn a_dry_run_without_a_running_station_changes_nothing_and_tells_the_truth() {
    let home = settled_home();
    change(&home);
    a_dry_run_changes_nothing_and_tells_the_truth(&home);
}

#[test]
fn a_broken_prompt_names_file_and_line_and_leaves_the_last_good_revision_in_force() {
    let home = settled_home();
    let good = home.json(&["agent", "get", "spoiled"]);
    change(&home);
    let synced = home.stn(&["sync"]);
    assert_eq!(synced.code, 1, "{synced:?}");
    let row = synced.stdout.lines().find(|line| line.starts_with("error")).unwrap_or_default();
    let file = format!("{AGENTS}/spoiled.prompt");
    assert_eq!(
        row.split_whitespace().take(5).collect::<Vec<_>>(),
        ["error", "agent", "spoiled", &file, "3"],
        "{synced:?}"
    );
    assert!(row.contains("`max_stepz`") && row.contains("did you mean `max_steps`?"), "{row}");

    let broken = home.json(&["agent", "get", "spoiled"]);
    assert_eq!(broken["state"], "error");
    assert!(broken["problem"].as_str().unwrap().starts_with(&format!("{file}:3:1: ")), "{broken:#}");
    assert_eq!((&broken["revision"], &broken["max_steps"]), (&good["revision"], &json!(3)));
    for (agent, revision) in
        [("spoiled", &good["revision"]), ("kept", &home.json(&["agent", "get", "kept"])["revision"])]
    {
        let run = home.json(&["agent", "run", agent, "hello"]);
        assert_eq!((&run["status"], &run["agent"]["revision"]), (&json!("completed"), revision), "{run:#}");
    }

    home.write_agent("development", "spoiled", "max_steps: 6\n");
    let _synced = home.stn(&["sync"]).ok();
    let mended = home.json(&["agent", "get", "spoiled"]);
    assert_eq!((&mended["state"], &mended["max_steps"], &mended["problem"]), (&json!("ok"), &json!(6), &Value::Null));
}

#[test]
fn a_broken_servers_file_names_its_line_and_leaves_the_agents_alone() {
    let home = settled_home();
    home.write(
        "environments/development/broken.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"comand\": \"x\" }\n  }\n}\n",
    );
    home.write_agent("development", "added", "max_steps: 2\n");
    let synced = home.stn(&["sync"]);
    assert_eq!(synced.code, 1, "{synced:?}");
    let row = synced.stdout.lines().find(|line| line.starts_with("error")).unwrap_or_default();
    let fields: Vec<&str> = row.split_whitespace().collect();
    assert!(fields.windows(2).any(|pair| pair == ["environments/development/broken.json", "3"]), "{synced:?}");
    assert_eq!(home.json(&["agent", "get", "added"])["max_steps"], 2);
}

#[test]
fn broken_variables_leave_a_server_that_needs_one_running_and_accepted() {
    let home = TestHome::with_agent("worker", "");
    let counter = Counter::beside(&home);
    let mut servers = counter.servers(&json!({}));
    servers["counter"]["args"].as_array_mut().unwrap().push(json!("{{ .MARK | default \"public\" }}"));
    home.write("environments/staging/variables.yml", "MARK: mine\n");
    home.write_servers("staging", &servers);
    let _accepted = home.stn(&["mcp-server", "accept", "counter", "-e", "staging", "--yes"]).ok();
    let call = ["tool", "call", "counter__count", r#"{"note":"x"}"#, "-e", "staging"];
    let _counted = home.stn(&call).ok();
    home.write("environments/staging/variables.yml", "MARK: mine\nMARK: twice\n");
    let synced = home.stn(&["sync", "staging", "--json"]);
    assert_eq!(synced.code, 1, "{synced:?}");
    let items = synced.json()["items"].clone();
    let of_server = items.as_array().unwrap().iter().find(|item| item["name"] == "counter").unwrap();
    let problem = of_server["problem"]["message"].as_str().unwrap();
    assert!(of_server["action"] == "error" && problem.contains("environments/staging/variables.yml:2:"), "{problem}");
    let _counted = home.stn(&call).ok();
    let shown = home.json(&["mcp-server", "get", "counter", "-e", "staging"]);
    assert_eq!((&shown["command_state"], counter.starts().len()), (&json!("accepted"), 1));
}

/// Comments everywhere, flow and block style, unusual spacing and quotes, and no newline at the end.
const COMMENTED: &str = "---
# who wrote this, and why
metadata: { description: \"old\",   tags: [ 'a',b ] }   # flow
max_steps:   8      # turns

tools:              # block
  - filesystem__read_text_file   # reads
  - \"filesystem__list_*\"
---
{{! a comment of the template }}
{{role \"system\"}}
Be brief.   \n\n{{role \"user\"}}
{{userInput}}";

#[test]
fn an_update_keeps_every_byte_that_it_is_not_about() {
    for newline in ["\n", "\r\n"] {
        let home = TestHome::with_agent("kept", "");
        let file = format!("{AGENTS}/commented.prompt");
        let text = COMMENTED.replace('\n', newline);
        home.write(&file, &text);
        let _synced = home.stn(&["sync"]).ok();
        let update = ["agent", "update", "commented", "--description", "new", "--max-steps", "9"];
        let updated = home.json(&update);
        assert_eq!((&updated["description"], &updated["max_steps"]), (&json!("new"), &json!(9)));
        assert_eq!(home.read(&file), text.replace("\"old\"", "new").replace("max_steps:   8 ", "max_steps:   9 "));
        let synced = home.json(&["sync", "--dry-run"]);
        assert!(plan(&synced).contains(&["agent", "commented", "unchanged"]), "{synced:#}");
    }
}

/// Front matters that set `max_steps` and a description each in its own way.
const FRONT_MATTERS: [(&str, &str); 6] = [
    ("plain", "max_steps: 3\nmetadata:\n  description: old\n  tags: [a]\n"),
    (
        "comments",
        "# above\nmax_steps: 3 # beside\n# between\nmetadata: # of it\n  # inside\n  description: old # old\n# below\n",
    ),
    ("flow", "metadata: { tags: [ 'a',\"b\" ],   description: \"old\" }  # flow\nmax_steps: 3\ntools: [ x__* , ]\n"),
    ("all-flow", "{ max_steps: 3, metadata: { description: 'old', tags: [a] } }\n"),
    (
        "unicode",
        "# Grüße 🧭\nmetadata:\n  description: \"Été — 日本語 🚀\"   # 説明\n  tags: [\"ñ\", 'ж']\nmax_steps:\t3\n",
    ),
    ("quoted", "\"max_steps\":   3\n'metadata':\n    tags:\n    - a\n\n    'description': >-\n      old\n"),
];

/// The lines that don't belong to the keys which the update is about, nor to their values.
fn other_lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !["max_steps", "description", "old", "new"].iter().any(|word| line.contains(word)))
        .collect()
}

#[test]
fn an_update_touches_the_lines_of_its_keys_alone() {
    let home = TestHome::with_agent("kept", "");
    let serve = home.serve();
    for (newline, ending) in [("lf", "\n"), ("crlf", "\r\n")] {
        for (name, front_matter) in FRONT_MATTERS {
            let name = format!("{name}-{newline}");
            let body = format!("# Say {{{{userInput}}}}, max_steps: 3{ending}");
            let text = format!("---\n{front_matter}---\n").replace('\n', ending) + &body;
            home.write(&format!("{AGENTS}/{name}.prompt"), &text);
            let _synced = home.stn(&["sync"]).ok();
            let update = json!({ "agent": name, "max_steps": 9, "description": "new" }).to_string();
            let updated = home.stn(&["call", "agent_update", &update, "--json"]).ok().json();
            assert_eq!((&updated["description"], &updated["max_steps"]), (&json!("new"), &json!(9)), "{name}");
            let after = home.read(&format!("{AGENTS}/{name}.prompt"));
            assert_eq!(other_lines(&after), other_lines(&text), "{name}");
            assert!(after.ends_with(&body), "{name}: {after}");
            assert!(!after.replace(ending, "").contains(['\r', '\n']), "{name}: {after:?}");
        }
    }
    drop(serve);
}

#[test]
fn a_file_that_was_edited_by_hand_is_not_overwritten() {
    let home = TestHome::with_agent("kept", "");
    let serve = home.serve();
    home.write_agent("development", "kept", "max_steps: 5 # by hand\n");
    let edited = home.read(&format!("{AGENTS}/kept.prompt"));
    let refused = home.stn(&["agent", "update", "kept", "--max-steps", "6"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("stn sync"), "{refused:?}");
    assert_eq!(home.read(&format!("{AGENTS}/kept.prompt")), edited);
    drop(serve);
}
