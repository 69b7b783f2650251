//! The configuration through the doors: what is wrong with the files, also where no station can start because of them, what is in force
//! and where it comes from, and the schemas that editors are pointed at.

use crate::support::home::TestHome;
use crate::support::http::Http;
use crate::support::mcp_client::{MODERN, python};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const BROKEN: &str = "default_environment: development\nruns: { worker: 2 }\nhttp: { listen: nowhere }\nproviders:\n  openai: { api_key: 123454321 }\n";

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn key<'a>(answer: &'a Value, key: &str) -> &'a Value {
    items(&answer["keys"]).iter().find(|found| found["key"] == key).unwrap_or_else(|| panic!("no {key}: {answer:#}"))
}

#[test]
fn an_address_that_needs_tls_keeps_only_the_command_that_listens_from_working() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write("station.yml", "default_environment: development\nhttp: { listen: \"0.0.0.0:39423\" }\n");
    let reason = "`http.listen`: `0.0.0.0:39423` is not a loopback address, and this version has no TLS";
    let checked = home.stn(&["config", "check"]);
    assert_eq!((checked.code, checked.stdout.contains(reason)), (78, true), "{checked:?}");
    let _listed = home.stn(&["agent", "list"]).ok();
    let ran = home.stn(&["agent", "run", "hello", "What does README.md say?"]).ok();
    assert!(!ran.stdout.is_empty(), "{ran:?}");
    let refused = home.stn(&["serve"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains(&format!("station.yml:2:1: {reason}")), "{refused:?}");
    let flagged = home.stn(&["serve", "--listen", "0.0.0.0:39424"]);
    assert_eq!(flagged.code, 78, "{flagged:?}");
    assert!(flagged.stderr.contains("--listen: `http.listen`: `0.0.0.0:39424` is not"), "{flagged:?}");
}

#[test]
fn what_is_wrong_is_told_with_its_place_also_where_no_station_can_start() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let fine = home.stn(&["config", "check"]).ok();
    assert_eq!(fine.stdout, "");
    assert!(fine.stderr.contains("0 errors, 0 warnings"), "{fine:?}");
    home.write("station.yml", BROKEN);
    home.write("environments/development/agents/a.prompt", "---\nmodle: x\nsandbox: python\n---\nHi\n");
    let checked = home.stn(&["config", "check"]);
    assert_eq!(checked.code, 78, "{checked:?}");
    let lines: Vec<&str> = checked.stdout.lines().collect();
    for line in [
        "environments/development/agents/a.prompt:2:1: error: unknown key `modle`; did you mean `model`?",
        "station.yml:2:9: error: unknown key `runs.worker`; did you mean `workers`?",
        "station.yml:3:17: error: `http.listen`: `nowhere` is no address such as 127.0.0.1:8080",
        "station.yml:5:22: error: `providers.openai.api_key`: expected a text, found a number",
        "  hint: put it in quotes",
    ] {
        assert!(lines.contains(&line), "{line}\n{}", checked.stdout);
    }
    assert!(
        lines.iter().any(|line| line.starts_with("environments/development/agents/a.prompt:3:1: warning: `sandbox`"))
    );
    assert!(checked.stderr.contains(": 4 errors, 1 warning\n"), "{checked:?}");
    let told = home.stn(&["config", "check", "--json"]);
    assert_eq!(told.code, 78);
    let report = told.json();
    assert_eq!((&report["errors"], &report["warnings"]), (&json!(4), &json!(1)), "{report:#}");
    let problem = &items(&report["problems"])[2];
    assert_eq!(
        ["file", "line", "column", "key", "severity"].map(|field| &problem[field]),
        [&json!("station.yml"), &json!(2), &json!(9), &json!("runs.worker"), &json!("error")]
    );
    assert!(items(&report["read"]).contains(&json!("environments/development/servers.json")), "{report:#}");
    assert!(!(told.stdout + &checked.stdout).contains("123454321"));
    for nothing in ["station.db", "data/development.db", "station.lock"] {
        assert!(!home.path().join(nothing).exists(), "{nothing} was opened");
    }
    let one = home.stn(&["config", "check", "-e", "staging"]).ok();
    assert_eq!(one.stdout, "");
    let unknown = home.stn(&["config", "check", "-e", "stagin"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    let refused = home.stn(&["agent", "list"]);
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.contains("`stn config check` shows 2 more"), "{refused:?}");
}

#[test]
fn a_check_makes_no_home_and_names_the_place_where_it_looked() {
    let home = TestHome::new();
    let missing = home.stn(&["config", "check"]);
    assert_eq!(missing.code, 4, "{missing:?}");
    assert!(missing.stderr.contains(&*home.path().to_string_lossy()) && missing.stderr.contains("`stn init`"));
    assert!(!home.path().exists(), "the check made a home");
    home.write("station.yml", "runs: { workers: 2 }\n");
    let cloned = home.stn(&["config", "check", "--json"]).ok().json();
    assert_eq!((&cloned["errors"], &cloned["read"][0]), (&json!(0), &json!("station.yml")), "{cloned:#}");
    let made: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["station.yml"]);
}

#[test]
fn a_station_that_runs_checks_the_files_on_disk_and_takes_nothing_up() {
    let home = TestHome::with_agent("kept", "");
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    assert_eq!(http.get("/api/v1/config/check").with(200).json()["errors"], 0);
    home.write("station.yml", BROKEN);
    home.write("environments/development/agents/kept.prompt", "---\nmodle: x\n---\nHi\n");
    let report = http.get("/api/v1/config/check").with(200).json();
    assert_eq!(report["errors"], 4, "{report:#}");
    let checked = home.stn(&["config", "check", "--json"]);
    assert_eq!((checked.code, checked.json()), (78, report));
    home.write("station.yml", "default_environment: staging\nenvironments:\n  staging: { kind: staging }\n");
    fs::remove_dir_all(home.path().join("environments/staging")).unwrap();
    let known = http.get("/api/v1/config/check").with(200).json();
    assert_eq!(known["errors"], 1, "a start makes the directory of `staging` again: {known:#}");
    let only = http.get("/api/v1/config/check?environment=development").with(200).json();
    assert_eq!((&only["errors"], &only["problems"][0]["key"]), (&json!(1), &json!("modle")), "{only:#}");
    assert_eq!(home.json(&["agent", "get", "kept"])["state"], "ok");
    let url = format!("{}/mcp?tools=all", serve.url);
    let by_mcp = python(&home, "auto", "config_check", &json!({}), &["http", &url, &home.key()]);
    assert_eq!((&by_mcp["version"], &by_mcp["content"]["errors"]), (&json!(MODERN), &json!(1)), "{by_mcp}");
}

#[test]
fn what_is_in_force_is_shown_with_its_source_and_without_credentials() {
    let settings = "runs: { workers: 3 }\nproviders:\n  hub:\n    api: openai_chat\n    base_url: http://me:pass-5678@127.0.0.1:1/v1\n    api_key: sk-plain-5678\n    headers: { A: plain-5678, B: \"{{ secret.B }}\" }\n";
    let mut home = TestHome::with_agent("kept", settings);
    home.set("STN_RUNS_MAX_STEPS", "7").set("STN_LOG", "info,station::store=warn");
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let all = http.get("/api/v1/config").with(200).json();
    assert_eq!(all, home.json(&["config", "get"]));
    let facts = |name: &str| {
        let found = key(&all, name);
        (found["value"].clone(), found["source"].clone(), found["line"].clone(), found["variable"].clone())
    };
    assert_eq!(facts("runs.workers"), (json!(3), json!("file"), json!(1), Value::Null));
    assert_eq!(facts("runs.max_steps"), (json!(7), json!("variable"), Value::Null, json!("STN_RUNS_MAX_STEPS")));
    let listens = json!(serve.url.strip_prefix("http://").unwrap());
    assert_eq!(
        facts("http.listen"),
        (listens, json!("flag"), Value::Null, Value::Null),
        "--listen, and the port it got"
    );
    let filter = json!("info,station::store=warn");
    assert_eq!(facts("log.level"), (filter, json!("variable"), Value::Null, json!("STN_LOG")));
    assert_eq!(facts("runs.timeout"), (json!("10m"), json!("default"), Value::Null, Value::Null));
    assert_eq!(facts("providers.hub.base_url").0, "http://[not shown]@127.0.0.1:1/v1");
    assert_eq!(facts("providers.hub.api_key").0, "[not shown]");
    assert_eq!(facts("providers.hub.headers").0, json!({ "A": "[not shown]", "B": "{{ secret.B }}" }));
    assert!(!all.to_string().contains("5678"), "{all:#}");
    let some = home.json(&["config", "get", "runs"]);
    assert_eq!(items(&some["keys"]).len(), 6);
    let shown = home.stn(&["config", "get", "runs.max_steps"]).ok().stdout;
    assert!(shown.contains("runs.max_steps  7") && shown.contains("STN_RUNS_MAX_STEPS"), "{shown}");
    let slip = home.stn(&["config", "get", "runs.worker"]);
    assert_eq!(slip.code, 4);
    assert!(slip.stderr.contains("did you mean `runs.workers`?"), "{slip:?}");
    let own = home.json(&["config", "get", "-e", "staging"]);
    assert!(items(&own["keys"]).iter().all(|key| key["key"].to_string().starts_with("\"environments.staging.")));
    let url = format!("{}/mcp?tools=all", serve.url);
    let by_mcp = python(
        &home,
        "auto",
        "config_get",
        &json!({ "key": "environments.development.kind" }),
        &["http", &url, &home.key()],
    );
    assert_eq!(by_mcp["content"]["keys"][0]["value"], "development", "{by_mcp}");
    home.write("station.yml", "runs: { workers: 9 }\n");
    let kept = home.stn(&["config", "get", "runs.workers"]).ok();
    assert!(kept.stdout.contains("runs.workers  3") && kept.stderr.contains("is not in force"), "{kept:?}");
}

#[test]
fn the_files_of_a_new_home_name_a_schema_that_is_there_and_that_they_fit() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    for (file, name) in [
        ("station.yml", "station"),
        ("environments/development/variables.yml", "variables"),
        ("environments/development/servers.json", "servers"),
    ] {
        let text = home.read(file);
        let named = text.split("schema").nth(1).unwrap().trim_start_matches(['=', '"', ':', ' ']);
        let named = text[text.find(named).unwrap()..].split(['"', '\n']).next().unwrap();
        let path = home.path().join(file).parent().unwrap().join(named);
        let schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(schema["title"], name, "{}", path.display());
        let published = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schemas/{name}.schema.json"));
        assert_eq!(fs::read(&path).unwrap(), fs::read(published).unwrap());
    }
    fs::remove_dir_all(home.path().join("cache")).unwrap();
    let printed = home.stn(&["config", "get", "--schema", "station"]).ok().stdout;
    assert_eq!(printed, home.read("cache/schemas/station.schema.json"), "made again, and the same");
    let both = home.stn(&["config", "get", "runs", "--schema", "station"]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn a_link_to_a_missing_file_stays_when_an_agent_would_be_written_there() {
    let home = TestHome::with_agent("kept", "");
    let link = home.path().join("environments/development/agents/linked.prompt");
    std::os::unix::fs::symlink("../missing.prompt", &link).unwrap();
    let refused = home.stn(&["agent", "create", "linked", "Hi"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("a link to a file that doesn't exist"), "{refused:?}");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("../missing.prompt"));
    assert!(!home.path().join("environments/development/missing.prompt").exists());
}
