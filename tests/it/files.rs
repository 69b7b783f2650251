//! The files that people write: what a sync would do, what a broken file does, and what an update leaves alone.

use crate::support::counter::Counter;
use crate::support::home::TestHome;
use crate::support::station::TestStation;
use crate::support::store_dump::Dump;
use serde_json::{Value, json};
use station::config;
use station::domain::{AuditEntry, AuditOutcome, Cause, Name, Origin, Principal};
use station::error::{Error, ErrorKind};
use station::store::AgentWrite;
use station::tools::files;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

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

const GOOD: &str = "---\nmax_steps: 3\n---\nBe brief.\n";
const BROKEN: &str = "---\nmax_steps: 3\nmax_stepz: 5\n---\nBe brief.\n";

/// A station that has taken up an agent `kept`.
async fn settled_station() -> TestStation {
    let station = TestStation::open().await;
    station.write(&kept(), GOOD);
    let _synced = sync(&station).await;
    station
}

fn kept() -> String {
    format!("{AGENTS}/kept.prompt")
}

fn path(station: &TestStation) -> PathBuf {
    station.path().join(kept())
}

async fn sync(station: &TestStation) -> Value {
    station.call("environment_sync", json!({})).await.unwrap()
}

/// A call that must be refused as a conflict and change nothing.
async fn refused(station: &TestStation, tool: &str, input: Value) -> Error {
    let before = Dump::of(&station.path());
    let error = station.call(tool, input).await.unwrap_err();
    before.assert_same(&Dump::of(&station.path()));
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.message().contains(&kept()), "{error:?}");
    error
}

#[tokio::test]
async fn a_file_that_was_edited_by_hand_is_not_deleted_before_a_sync() {
    let station = settled_station().await;
    station.write(&kept(), "---\nmax_steps: 4\n---\nBe brief.\n");
    let error = refused(&station, "agent_delete", json!({ "agent": "kept" })).await;
    assert!(error.message().contains("changed by hand"), "{error:?}");
    assert_eq!(error.hint_text(), Some("run `stn sync development` first"));
    let _synced = sync(&station).await;
    station.call("agent_delete", json!({ "agent": "kept" })).await.unwrap();
    assert!(!path(&station).exists());
}

#[tokio::test]
async fn a_broken_agent_is_not_updated_and_the_error_says_where_to_fix_it() {
    let station = settled_station().await;
    station.write(&kept(), BROKEN);
    for _before_and_after in 0..2 {
        let error = refused(&station, "agent_update", json!({ "agent": "kept", "max_steps": 6 })).await;
        assert!(error.message().contains(&format!("{}:3:1: ", kept())), "{error:?}");
        assert_eq!(error.hint_text(), Some("fix the file, then run `stn sync development`"));
        let _synced = sync(&station).await;
    }
}

#[tokio::test]
async fn a_broken_agent_is_deleted_with_its_file_as_the_last_sync_saw_it() {
    let station = settled_station().await;
    station.write(&kept(), BROKEN);
    let _unseen = refused(&station, "agent_delete", json!({ "agent": "kept" })).await;
    let _synced = sync(&station).await;
    station.write(&kept(), &BROKEN.replace("max_stepz", "max_stepy"));
    let _edited_since = refused(&station, "agent_delete", json!({ "agent": "kept" })).await;
    station.write(&kept(), BROKEN);
    station.call("agent_delete", json!({ "agent": "kept" })).await.unwrap();
    assert!(!path(&station).exists());
    let left = sync(&station).await;
    assert!(plan(&left).iter().all(|[_, _, action]| *action == "unchanged"), "{left:#}");
}

#[tokio::test]
async fn what_is_no_regular_file_in_the_place_of_an_agents_blocks_nobody_and_stays() {
    let station = settled_station().await;
    type Make = fn(&PathBuf);
    let everything: [(&str, Make); 3] = [
        ("no regular file", |at| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("no regular file", |at| fs::create_dir(at).unwrap()),
        ("out of its environment", |at| symlink("/etc/hostname", at).unwrap()),
    ];
    for (told, make) in everything {
        fs::remove_file(path(&station)).unwrap();
        make(&path(&station));
        for tool in ["agent_update", "agent_delete"] {
            let error = station.call(tool, json!({ "agent": "kept" })).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{tool}: {error:?}");
            assert!(error.message().contains(&kept()) && error.message().contains(told), "{tool}: {error:?}");
        }
        assert!(fs::symlink_metadata(path(&station)).is_ok());
        let _gone = fs::remove_file(path(&station)).or_else(|_| fs::remove_dir(path(&station)));
        station.write(&kept(), GOOD);
    }
}

#[tokio::test]
async fn runs_and_audit_rows_carry_the_files_state_that_a_change_of_an_agent_led_to() {
    let station = settled_station().await;
    let mut seen = vec![in_force(&station).await];
    for (tool, input) in [
        ("agent_create", json!({ "name": "new", "prompt": "Be brief." })),
        ("agent_update", json!({ "agent": "new", "max_steps": 7 })),
        ("agent_delete", json!({ "agent": "new" })),
    ] {
        station.call(tool, input).await.unwrap();
        let now = in_force(&station).await;
        let looked = station.call("environment_sync", json!({ "dry_run": true })).await.unwrap();
        assert_eq!(looked["config_revision"], now, "{tool}");
        let run = station.call("agent_run", json!({ "agent": "kept", "input": "hello" })).await.unwrap();
        assert_eq!(run["config_revision"], now, "{tool}");
        let rows = audit(&station).await;
        let [change, .., run] = &rows[rows.len() - 3..] else { panic!("{rows:?}") };
        let carried = |entry: &AuditEntry| (entry.action.clone(), entry.config_revision.clone().unwrap());
        assert_eq!(carried(change), (tool.replace('_', "."), now.clone()));
        assert_eq!(carried(run), ("agent.run".to_owned(), now.clone()));
        seen.push(now);
    }
    assert_eq!(seen[0], seen[3], "what was created is gone again");
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[2] != seen[0], "{seen:?}");
}

#[tokio::test]
async fn a_sync_reports_the_files_state_that_it_left_in_force() {
    let station = settled_station().await;
    let before = in_force(&station).await;
    station.write(&kept(), BROKEN);
    let synced = sync(&station).await;
    assert_eq!((&synced["config_revision"], &in_force(&station).await), (&json!(before), &before));
    station.write(&format!("{AGENTS}/new.prompt"), GOOD);
    let synced = sync(&station).await;
    assert_eq!(synced["config_revision"], in_force(&station).await);
    assert_ne!(synced["config_revision"], before);
}

async fn in_force(station: &TestStation) -> String {
    let shown = station.call("environment_get", json!({})).await.unwrap();
    shown["config_revision"].as_str().unwrap().to_owned()
}

async fn audit(station: &TestStation) -> Vec<AuditEntry> {
    let environment = station.app.station.environments.named("development").unwrap();
    environment.store.audit_after(0, 1_000).await.unwrap().into_iter().map(|row| row.entry).collect()
}

#[tokio::test]
async fn a_dry_run_counts_in_the_files_that_a_crash_left_open() {
    let station = settled_station().await;
    promise(&station, "kept", Some(config::revision_of(GOOD.as_bytes()))).await;
    promise(&station, "new", None).await;
    let before = Dump::of(&station.path());
    let dry = station.call("environment_sync", json!({ "dry_run": true })).await.unwrap();
    before.assert_same(&Dump::of(&station.path()));
    assert!(plan(&dry).iter().all(|[_, _, action]| *action == "unchanged"), "{dry:#}");
    let done = sync(&station).await;
    assert_eq!((&dry["items"], &dry["config_revision"]), (&done["items"], &done["config_revision"]));
    assert_ne!(station.call("agent_get", json!({ "agent": "new" })).await.unwrap()["max_steps"], Value::Null);
}

#[tokio::test]
async fn a_file_that_is_changed_by_hand_while_it_is_written_is_a_conflict_and_stays() {
    let station = settled_station().await;
    let environment = station.app.station.environments.named("development").unwrap();
    promise(&station, "kept", Some(config::revision_of(GOOD.as_bytes()))).await;
    let by_hand = GOOD.replace('3', "4");
    station.write(&kept(), &by_hand);
    let home = &station.app.station.home;
    let error = files::finish(home, &environment, Some(&kept())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(fs::read_to_string(path(&station)).unwrap(), by_hand);
    assert_eq!(environment.store.pending_files().await.unwrap(), []);
    let synced = sync(&station).await;
    assert!(plan(&synced).contains(&["agent", "kept", "update"]), "{synced:#}");
}

/// Commits a change of an agent as a process does that ends before it has written the file.
async fn promise(station: &TestStation, name: &str, expected: Option<String>) {
    let (name, file) = (Name::new(name).unwrap(), format!("{AGENTS}/{name}.prompt"));
    let bytes = b"---\nmax_steps: 9\n---\nBe brief.\n".to_vec();
    let definition = config::parse_prompt(&name, &file, &bytes).unwrap();
    let write = AgentWrite { definition, revision: config::revision_of(&bytes), bytes, file, expected };
    let environment = station.app.station.environments.named("development").unwrap();
    let audit = audit_entry(station, "agent.update", &name);
    environment.store.agent_write(write, audit).await.unwrap();
}

/// The entry of a change that its process didn't live to finish.
fn audit_entry(station: &TestStation, action: &str, agent: &Name) -> AuditEntry {
    AuditEntry {
        at: station.app.station.clock.now(),
        principal: Principal::local_owner().who,
        origin: Origin::Rest,
        cause: Cause::call(),
        action: action.into(),
        target: Some(agent.to_string()),
        environment: Some(Name::new("development").unwrap()),
        outcome: AuditOutcome::Done,
        reason: None,
        request_id: "cut off".into(),
        config_revision: None,
        details: None,
    }
}

/// A station whose agent `new` was created, and whose file couldn't be put in its place yet: a directory stands where it is prepared.
async fn station_that_owes_a_file() -> (TestStation, PathBuf) {
    let station = settled_station().await;
    promise(&station, "new", None).await;
    let in_the_way = station.path().join(AGENTS).join(".new.prompt.stn-new");
    fs::create_dir(&in_the_way).unwrap();
    let _still_owed = sync(&station).await;
    (station, in_the_way)
}

#[tokio::test]
async fn a_change_whose_file_cannot_be_written_is_refused_before_it_is_in_force() {
    let station = settled_station().await;
    let variables = "environments/development/variables.yml";
    station.write(variables, "A: 1\n");
    let new = format!("{AGENTS}/new.prompt");
    for (file, tool, input) in [
        (&new, "agent_create", json!({ "name": "new", "prompt": "Be brief." })),
        (&kept(), "agent_update", json!({ "agent": "kept", "max_steps": 7 })),
        (&variables.to_owned(), "variable_set", json!({ "name": "B", "value": "3" })),
        (&variables.to_owned(), "variable_delete", json!({ "name": "A" })),
    ] {
        let (directory, name) = file.rsplit_once('/').unwrap();
        let in_the_way = station.path().join(directory).join(format!(".{name}.stn-new"));
        fs::create_dir(&in_the_way).unwrap();
        let before = Dump::of(&station.path());
        let error = station.call(tool, input.clone()).await.unwrap_err();
        before.assert_same(&Dump::of(&station.path()));
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{tool}: {error:?}");
        assert!(error.message().starts_with("nothing is changed: "), "{tool}: {error:?}");
        fs::remove_dir(in_the_way).unwrap();
        station.call(tool, input).await.unwrap();
    }
    assert_eq!(settled_agents(&station).await, ["hello", "kept", "new"]);
}

#[tokio::test]
async fn a_change_that_is_in_force_before_its_file_is_written_says_so_and_a_sync_writes_it() {
    let station = settled_station().await;
    let environment = station.app.station.environments.named("development").unwrap();
    let (home, file) = (&station.app.station.home, format!("{AGENTS}/new.prompt"));
    let bytes = b"---\nmax_steps: 9\n---\nBe brief.\n";
    let prepared = files::prepare(home, &environment, &file, Some(bytes)).await.unwrap();
    promise(&station, "new", None).await;
    fs::remove_file(station.path().join(AGENTS).join(".new.prompt.stn-new")).unwrap();
    let error = files::keep(home, &environment, prepared).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().starts_with("the change is in force, but its file isn't written: "), "{error:?}");
    assert!(error.hint_text().unwrap().contains("the file is still owed"), "{error:?}");
    assert_eq!(settled_agents(&station).await, ["hello", "kept", "new"]);
    assert_eq!(fs::read(station.path().join(file)).unwrap(), bytes);
}

#[tokio::test]
async fn what_a_crash_left_of_a_change_that_nobody_promised_is_removed_by_a_sync() {
    let station = settled_station().await;
    let left = station.path().join(AGENTS).join(".kept.prompt.stn-new");
    fs::write(&left, "---\nmax_st").unwrap();
    assert_eq!(settled_agents(&station).await, ["hello", "kept"]);
    assert!(!left.exists());
}

#[tokio::test]
async fn nothing_is_written_through_a_directory_that_is_a_link_out_of_its_environment() {
    let station = settled_station().await;
    let (agents, outside) = (station.path().join(AGENTS), tempfile::tempdir().unwrap());
    fs::rename(&agents, station.path().join("agents-before")).unwrap();
    symlink(outside.path(), &agents).unwrap();
    let create = json!({ "name": "outsider", "prompt": "Be brief." });
    let error = station.call("agent_create", create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.message().contains("its directory is a link out of its environment"), "{error:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// A call that fails because the file that is owed still can't be written, and changes nothing.
async fn waits_for_the_file(station: &TestStation, tool: &str, input: Value) {
    let before = Dump::of(&station.path());
    let error = station.call(tool, input).await.unwrap_err();
    before.assert_same(&Dump::of(&station.path()));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

/// The names of the agents once a sync has found nothing to do.
async fn settled_agents(station: &TestStation) -> Vec<String> {
    let synced = sync(station).await;
    assert!(plan(&synced).iter().all(|[_, _, action]| *action == "unchanged"), "{synced:#}");
    let listed = station.call("agent_list", json!({})).await.unwrap();
    listed["items"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_agent_whose_file_is_still_owed_is_deleted_for_good_once_that_can_be_written() {
    let (station, in_the_way) = station_that_owes_a_file().await;
    waits_for_the_file(&station, "agent_delete", json!({ "agent": "new" })).await;
    fs::remove_dir(in_the_way).unwrap();
    station.call("agent_delete", json!({ "agent": "new" })).await.unwrap();
    assert_eq!(settled_agents(&station).await, ["hello", "kept"]);
}

#[tokio::test]
async fn an_agent_whose_file_is_still_owed_is_updated_once_that_can_be_written() {
    let (station, in_the_way) = station_that_owes_a_file().await;
    let update = json!({ "agent": "new", "max_steps": 7 });
    waits_for_the_file(&station, "agent_update", update.clone()).await;
    fs::remove_dir(in_the_way).unwrap();
    station.call("agent_update", update).await.unwrap();
    assert_eq!(settled_agents(&station).await, ["hello", "kept", "new"]);
    assert_eq!(station.call("agent_get", json!({ "agent": "new" })).await.unwrap()["max_steps"], 7);
}

#[tokio::test]
async fn an_agent_is_created_anew_where_the_file_of_a_deleted_one_was_left() {
    let station = settled_station().await;
    let environment = station.app.station.environments.named("development").unwrap();
    let (name, revision) = (Name::new("kept").unwrap(), config::revision_of(GOOD.as_bytes()));
    let cut_off = audit_entry(&station, "agent.delete", &name);
    environment.store.agent_delete(&name, Some(&revision), cut_off).await.unwrap();
    station.call("agent_create", json!({ "name": "kept", "prompt": "Be brief.", "max_steps": 7 })).await.unwrap();
    assert_eq!(settled_agents(&station).await, ["hello", "kept"]);
    assert_eq!(station.call("agent_get", json!({ "agent": "kept" })).await.unwrap()["max_steps"], 7);
}

#[tokio::test]
async fn a_dry_run_waits_for_a_change_of_the_files_that_is_under_way() {
    let station = settled_station().await;
    let environment = station.app.station.environments.named("development").unwrap();
    let under_way = environment.files.lock().await;
    let change = async {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        station.write(&kept(), &GOOD.replace('3', "4"));
        drop(under_way);
    };
    let looking = station.call("environment_sync", json!({ "dry_run": true }));
    let (dry, ()) = tokio::join!(looking, change);
    assert!(plan(&dry.unwrap()).contains(&["agent", "kept", "update"]));
}

#[test]
fn commands_that_waited_may_run_once_the_environment_accepts_them_by_itself() {
    let home = TestHome::with_agent("kept", "");
    home.write("environments/staging/servers.json", r#"{ "mcpServers": { "waiting": { "command": "true" } } }"#);
    let state =
        |home: &TestHome| home.json(&["mcp-server", "get", "waiting", "-e", "staging"])["command_state"].clone();
    let serve = home.serve();
    assert_eq!(state(&home), "pending");
    serve.terminate();
    home.write("station.yml", "environments: { staging: { auto_accept_commands: true } }\n");
    let serve = home.serve();
    assert_eq!(state(&home), "accepted");
    drop(serve);
}

#[test]
fn an_agent_of_a_file_with_another_name_keeps_it_and_is_found_by_it() {
    let home = TestHome::with_agent("kept", "");
    let file = format!("{AGENTS}/Cost Forecaster.prompt");
    home.write(&file, GOOD);
    let found = home.json(&["agent", "get", "Cost Forecaster"]);
    assert_eq!((&found["name"], &found["file"]), (&json!("cost-forecaster"), &json!(file)));
    let updated = home.json(&["agent", "update", "Cost Forecaster", "--max-steps", "5"]);
    assert_eq!((&updated["display_name"], &updated["file"]), (&json!("Cost Forecaster"), &json!(file)));
    assert!(home.read(&file).contains("max_steps: 5"));
    assert!(!home.path().join(AGENTS).join("cost-forecaster.prompt").exists());
    assert_eq!(home.stn(&["agent", "get", "cost forecaster"]).code, 2, "it isn't called that");
    let _deleted = home.stn(&["agent", "delete", "Cost Forecaster"]).ok();
    assert!(!home.path().join(&file).exists());
}

#[test]
fn a_prompt_alone_is_an_agent_at_every_door() {
    let home = TestHome::with_agent("kept", "");
    let bare = "# Task\n\nSay hello to {{userInput}}.\n---\nBriefly.\n";
    home.write(&format!("{AGENTS}/bare.prompt"), bare);
    let checked = home.stn(&["config", "check"]).ok();
    assert!(checked.stderr.contains("0 errors, 0 warnings"), "{checked:?}");
    let synced = home.stn(&["sync", "--json"]).ok().json();
    assert!(plan(&synced).contains(&["agent", "bare", "create"]), "{synced:#}");
    let agent = home.json(&["agent", "get", "bare"]);
    assert_eq!((&agent["name"], &agent["state"], &agent["model"]), (&json!("bare"), &json!("ok"), &Value::Null));
    assert_eq!(agent["prompt"], bare.trim_end());
    let ran = home.json(&["agent", "run", "bare", "What is here?"]);
    assert_eq!(ran["status"], "completed", "{ran:#}");

    // The prompt alone changes nothing else; the first setting brings the front matter.
    let changed = home.json(&["agent", "update", "bare", "--prompt", "Say goodbye."]);
    assert_eq!(
        (&changed["prompt"], home.read(&format!("{AGENTS}/bare.prompt"))),
        (&json!("Say goodbye."), "Say goodbye.\n".to_owned())
    );
    let described = home.json(&["agent", "update", "bare", "--max-steps", "3"]);
    assert_eq!((&described["max_steps"], &described["prompt"]), (&json!(3), &json!("Say goodbye.")));
    assert_eq!(home.read(&format!("{AGENTS}/bare.prompt")), "---\nmax_steps: 3\n---\nSay goodbye.\n");

    for (text, reason) in [
        ("", "the file is empty"),
        ("---\nmodel: a/b\n", "never closed"),
        (" ---\nmodel: a/b\n---\nHi\n", "without blanks"),
    ] {
        home.write(&format!("{AGENTS}/bare.prompt"), text);
        let checked = home.stn(&["config", "check"]);
        assert_eq!(checked.code, 78, "{text:?}: {checked:?}");
        assert!(checked.stdout.contains("bare.prompt:") && checked.stdout.contains(reason), "{checked:?}");
        assert!(checked.stderr.contains("1 error, 0 warnings"), "{checked:?}");
        assert_eq!(home.stn(&["sync"]).code, 1);
        assert_eq!(home.json(&["agent", "get", "bare"])["state"], "error");
    }
}
