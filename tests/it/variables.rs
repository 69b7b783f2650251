//! Plain variables: set through every door, kept in a file that belongs to its author, and filled into what servers are started with.

use crate::support::home::TestHome;
use crate::support::http::Http;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const FILE: &str = "environments/development/variables.yml";

/// Everything that breaks a value that is pasted into a text instead of being kept as one.
const ODD: &str = "a \"quoted\" \\back\\slash\nsecond line $HOME ${X} {{ .NOT }} 'ünï' \u{1F600} # no comment";

/// A server whose one root is what this variable says: one of these directories of the workspace.
fn write_placed_server(home: &TestHome, directories: &[&str], variable: &str) {
    for directory in directories {
        fs::create_dir_all(home.path().join("environments/development/workspace").join(directory)).unwrap();
    }
    let root = format!("{{{{ .{variable} }}}}");
    let server = json!({ "mcpServers": { "placed": { "builtin": "filesystem", "args": [root] } } });
    home.write("environments/development/placed.json", &server.to_string());
}

fn variable(home: &TestHome, name: &str) -> Value {
    let listed = home.json(&["variable", "list"]);
    let found = listed["items"].as_array().unwrap().iter().find(|item| item["name"] == name);
    found.cloned().unwrap_or_default()
}

fn server(home: &TestHome, name: &str) -> Value {
    home.json(&["mcp-server", "get", name])
}

/// What the server says it may touch.
fn roots(home: &TestHome) -> String {
    let answer = home.json(&["tool", "call", "placed__list_allowed_directories", "{}"]);
    answer["content"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_variable_that_is_set_starts_the_servers_that_ask_for_it_and_one_that_is_deleted_names_them() {
    let home = TestHome::with_agent("kept", "");
    write_placed_server(&home, &["one", "two"], "PLACE");
    let _serve = home.serve();
    let problem = server(&home, "placed")["problem"].to_string();
    assert!(problem.contains("PLACE"), "{problem}");
    assert_eq!(variable(&home, "PLACE")["source"], "missing");

    let _set = home.stn(&["variable", "set", "PLACE", "one"]).ok();
    assert!(roots(&home).contains("workspace/one"), "{}", roots(&home));
    let listed = variable(&home, "PLACE");
    assert_eq!(
        listed,
        json!({ "name": "PLACE", "value": "one", "source": "file", "in_file": true, "used_by": ["placed"], "problem": null })
    );

    let _changed = home.stn(&["variable", "set", "PLACE", "two"]).ok();
    assert!(roots(&home).contains("workspace/two"), "{}", roots(&home));
    let deleted = home.json(&["variable", "delete", "PLACE"]);
    assert_eq!(deleted, json!({ "deleted": "PLACE", "used_by": ["placed"] }));
    assert!(server(&home, "placed")["problem"].to_string().contains("PLACE"));
    let missing = home.stn(&["variable", "delete", "PLACE"]);
    assert_eq!(missing.code, 4, "{missing:?}");
}

#[test]
fn a_variable_that_is_called_like_a_secret_is_set_with_the_way_to_a_real_one() {
    let home = TestHome::with_agent("kept", "");
    let set = home.json(&["variable", "set", "GITHUB_TOKEN", "abc"]);
    assert_eq!((&set["value"], &set["source"]), (&json!("abc"), &json!("file")));
    assert!(set["problem"].as_str().unwrap().contains("`stn secret set GITHUB_TOKEN`"), "{set}");
    assert_eq!(variable(&home, "GITHUB_TOKEN")["problem"], set["problem"]);
    let told = home.stn(&["variable", "set", "GITHUB_TOKEN", "abc"]).ok().stdout;
    assert!(told.contains("stn secret set GITHUB_TOKEN"), "{told}");
}

#[test]
fn what_people_wrote_by_hand_stays_and_every_value_is_kept_as_it_is() {
    let home = TestHome::with_agent("kept", "");
    let by_hand = "# ours\nROOT: /data # the disk\n\nZIP: 012\n";
    home.write(FILE, by_hand);
    for (name, value) in [("ODD", ODD), ("NO", "no"), ("EMPTY", "")] {
        let set = home.json(&["variable", "set", name, value]);
        assert_eq!(set["value"], value, "{set}");
    }
    let file = home.read(FILE);
    assert!(file.starts_with(by_hand), "{file}");
    let values: Vec<Value> = ["ODD", "NO", "EMPTY", "ZIP"].map(|name| variable(&home, name)["value"].clone()).into();
    assert_eq!(values, [ODD, "no", "", "012"]);
    let again = home.stn(&["variable", "set", "NO", "no"]).ok();
    assert_eq!((again.code, home.read(FILE)), (0, file));
}

#[test]
fn a_value_reaches_a_server_exactly_and_adds_nothing_to_its_definition() {
    let home = TestHome::with_agent("kept", "");
    let server = json!({ "mcpServers": { "odd": { "command": "true", "args": ["{{ .ODD }}", "x{{ .ODD | upper }}"], "disabled": false } } });
    home.write("environments/staging/odd.json", &server.to_string());
    let _set = home.stn(&["variable", "set", "ODD", ODD, "-e", "staging"]).ok();
    let shown = home.json(&["mcp-server", "get", "odd", "-e", "staging"]);
    assert_eq!(shown["command"]["argv"], json!(["true", ODD, format!("x{}", ODD.to_uppercase())]), "{shown}");
}

#[test]
fn a_variable_of_the_process_comes_first_and_its_value_is_not_shown() {
    let mut home = TestHome::with_agent("kept", "");
    home.set("STATION_TEST_PLACE", "from-process");
    home.write(
        "station.yml",
        "environments:\n  development: { variables_from_process: [STATION_TEST_PLACE, NOT_SET] }\n",
    );
    write_placed_server(&home, &["from-process"], "STATION_TEST_PLACE");
    let _set = home.stn(&["variable", "set", "STATION_TEST_PLACE", "from-file"]).ok();
    let listed = variable(&home, "STATION_TEST_PLACE");
    assert_eq!(
        listed,
        json!({ "name": "STATION_TEST_PLACE", "value": null, "source": "process", "in_file": true, "used_by": ["placed"], "problem": null })
    );
    assert_eq!(variable(&home, "NOT_SET"), Value::Null);
    let _serve = home.serve();
    assert!(roots(&home).contains("workspace/from-process"), "{}", roots(&home));
}

#[test]
fn what_can_not_be_a_variable_is_refused_and_nothing_is_written() {
    let home = TestHome::with_agent("kept", "");
    let serve = home.serve();
    let rest = Http::new(&home, &serve);
    let good = home.read(FILE);
    for (name, value, field) in [("1A", "x", "name"), ("A-B", "x", "name"), ("A", "nul\0", "value")] {
        let refused = rest.post("/api/v1/variables", &json!({ "name": name, "value": value })).with(400).json();
        assert_eq!(refused["field"], field, "{refused}");
    }
    let too_large = json!({ "name": "A", "value": "x".repeat(128 * 1024 + 1) });
    assert_eq!(rest.post("/api/v1/variables", &too_large).status, 413);
    assert_eq!(home.read(FILE), good);

    home.write(FILE, "A: [1]\n");
    for refused in [
        rest.post("/api/v1/variables", &json!({ "name": "B", "value": "x" })).with(400).json(),
        rest.get("/api/v1/variables").with(409).json(),
    ] {
        assert!(refused["detail"].as_str().unwrap().contains("variables.yml:1"), "{refused}");
    }
    assert_eq!(home.read(FILE), "A: [1]\n");
}

#[test]
fn a_change_keeps_the_files_mode_and_its_link_and_touches_no_neighbour() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let directory = home.path().join("environments/development");
    fs::create_dir_all(directory.join("shared")).unwrap();
    fs::write(directory.join("shared/vars.yml"), "A: 1\n").unwrap();
    fs::set_permissions(directory.join("shared/vars.yml"), fs::Permissions::from_mode(0o600)).unwrap();
    let _none_yet = fs::remove_file(directory.join("variables.yml"));
    symlink("shared/vars.yml", directory.join("variables.yml")).unwrap();
    fs::write(directory.join("variables.yml.new"), "a draft").unwrap();
    let _set = home.stn(&["variable", "set", "B", "two"]).ok();
    assert!(directory.join("variables.yml").is_symlink());
    let kept = fs::metadata(directory.join("shared/vars.yml")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(directory.join("shared/vars.yml")).unwrap();
    assert!(text.contains("A: 1") && text.contains("B: two"), "{text}");
    assert_eq!(fs::read_to_string(directory.join("variables.yml.new")).unwrap(), "a draft");
    let hidden = fs::read_dir(directory.join("shared")).unwrap().count();
    assert_eq!(hidden, 1, "nothing is left beside it");
}
