//! One act, every door: the record of a run doesn't tell which client asked for it, but where it says so.

use crate::support::home::TestHome;
use crate::support::http::Http;
use crate::support::mcp_client::{MODERN, inspector, python};
use serde_json::{Value, json};

const INPUT: &str = "What does README.md say?";

/// What may differ between two runs of the same act.
const OF_THE_RUN: [&str; 8] =
    ["id", "created_at", "started_at", "ended_at", "duration_ms", "origin", "cause", "principal"];

/// What may differ between their steps.
const OF_THE_STEP: [&str; 5] = ["run_id", "idempotency_key", "started_at", "ended_at", "duration_ms"];

/// A run as a door gave it.
struct Told {
    door: &'static str,
    origin: &'static str,
    run: Value,
}

fn without(record: &Value, fields: &[&str]) -> Value {
    let mut record = record.as_object().unwrap_or_else(|| panic!("no record: {record}")).clone();
    for field in fields {
        assert!(record.remove(*field).is_some(), "no `{field}` in {record:?}");
    }
    Value::Object(record)
}

fn by_python(home: &TestHome, mode: &str, version: &str, server: &[&str]) -> Value {
    let answer = python(home, mode, "agent_run", &json!({ "agent": "hello", "input": INPUT }), server);
    assert_eq!((&answer["version"], &answer["is_error"]), (&json!(version), &json!(false)), "{answer}");
    answer["content"].clone()
}

/// The Inspector tells the version by what results carry in 2026-07-28 only: who gave them.
fn by_inspector(home: &TestHome, is_modern: bool, server: &[&str]) -> Value {
    let answer = inspector(home, server, "agent_run", &["agent=hello", &format!("input={INPUT}")]);
    let giver = &answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(giver.is_object(), is_modern, "{answer}");
    answer["result"]["structuredContent"].clone()
}

fn by_rest(http: &Http) -> Value {
    let queued = http.post("/api/v1/agents/hello/queue", &json!({ "input": INPUT })).with(202);
    let location = queued.header("location");
    assert_eq!(location, format!("/api/v1/runs/{}", queued.json()["id"].as_str().unwrap()));
    http.post(&format!("{location}/wait"), &json!({})).with(200).json()
}

/// The same act through all doors of one station.
fn through_every_door(home: &TestHome) -> Vec<Told> {
    let serve = home.serve();
    let (url, key, http) = (format!("{}/mcp", serve.url), home.key(), Http::new(home, &serve));
    let header = format!("Authorization: Bearer {key}");
    let stn = env!("CARGO_BIN_EXE_stn");
    let over_http = ["http", &url, &key];
    let over_stdio = ["stdio", stn, "stdio"];
    let url_for_inspector = [url.as_str(), "--transport", "http", "--header", &header];
    let modern_inspector = [url_for_inspector.as_slice(), &["--protocol-era", "modern"]].concat();
    let home_variable = format!("STN_HOME={}", home.path().display());
    let told = |door, origin, run| Told { door, origin, run };
    let runs = vec![
        told("cli", "cli", home.json(&["agent", "run", "hello", INPUT])),
        told("rest", "rest", by_rest(&http)),
        told("python, stdio, modern", "mcp_stdio", by_python(home, "auto", MODERN, &over_stdio)),
        told("python, stdio, legacy", "mcp_stdio", by_python(home, "legacy", "2025-11-25", &over_stdio)),
        told("python, http, modern", "mcp_http", by_python(home, "auto", MODERN, &over_http)),
        told("python, http, legacy", "mcp_http", by_python(home, "legacy", "2025-11-25", &over_http)),
        told("inspector, http, legacy", "mcp_http", by_inspector(home, false, &url_for_inspector)),
        told("inspector, http, modern", "mcp_http", by_inspector(home, true, &modern_inspector)),
        told("inspector, stdio", "mcp_stdio", by_inspector(home, false, &[stn, "stdio", "-e", &home_variable])),
    ];
    for Told { door, run, .. } in &runs {
        let kept = http.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap())).with(200).json();
        assert_eq!(*run, kept, "what {door} told is not what is kept");
    }
    runs
}

#[test]
fn every_door_gives_the_same_run_with_the_same_steps() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let runs = through_every_door(&home);
    let steps = |run: &Value| -> Vec<Value> {
        home.steps(run["id"].as_str().unwrap()).iter().map(|step| without(step, &OF_THE_STEP)).collect()
    };
    let first = &runs[0].run;
    assert_eq!(first["status"], "completed");
    assert!(first["output"].to_string().contains("The workspace"), "{first}");
    assert!(steps(first).len() >= 3, "a model call, a tool call and a model call: {:#?}", steps(first));
    for Told { door, origin, run } in &runs {
        assert_eq!(run["origin"], *origin, "{door}");
        assert_eq!(run["principal"]["kind"], "local_owner", "{door}");
        assert_eq!(without(run, &OF_THE_RUN), without(first, &OF_THE_RUN), "{door}");
        assert_eq!(steps(run), steps(first), "{door}");
    }
}
