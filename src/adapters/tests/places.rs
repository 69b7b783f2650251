//! What somebody learns of environments, and of runs, that they may not read.

use super::keys::{ask, key};
use crate::adapters::testing::TestStation;
use crate::domain::Origin;
use crate::tools::MOST_DENIALS;
use serde_json::{Value, json};

/// An answer without what differs from request to request, and with `name` taken out.
fn anonymous(mut document: Value, name: &str) -> String {
    document["request_id"] = Value::Null;
    document.to_string().replace(name, "NAME")
}

#[tokio::test]
async fn who_may_not_read_an_environment_can_not_tell_whether_it_is_there() {
    let test = TestStation::new().await;
    let (_, bound) = key(&test, json!({ "name": "ci", "environments": ["staging"] })).await;
    let run = "018f3a3c-0000-8009-8000-000000000000";
    for (line, status) in [
        ("GET /api/v1/agents?environment=NAME".to_owned(), 403),
        ("POST /api/v1/agents?environment=NAME".to_owned(), 403),
        ("GET /api/v1/status?environment=NAME".to_owned(), 403),
        ("GET /api/v1/environments/NAME".to_owned(), 403),
        (format!("GET /api/v1/runs/{run}?environment=NAME"), 404),
        ("POST /mcp/NAME".to_owned(), 403),
    ] {
        let mut told = Vec::new();
        for name in ["development", "nothing"] {
            let body = line.starts_with("POST").then(|| json!({ "name": "a", "prompt": "b" }));
            let answer = ask(&test, &bound, &line.replace("NAME", name), body).await;
            assert_eq!(answer.status, status, "{line}: {}", answer.text);
            told.push(anonymous(answer.json(), name));
        }
        assert_eq!(told[0], told[1], "{line}");
    }
    // Each of them has left its row.
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let reasons = rows.iter().filter_map(|row| row.entry.reason.as_deref());
    assert_eq!(reasons.filter(|reason| reason.ends_with("in environment nothing")).count(), 6);
}

#[tokio::test]
async fn an_mcp_endpoint_opens_for_who_may_use_a_tool_behind_it_and_for_nobody_else() {
    let test = TestStation::new().await;
    let keys = [
        (json!({ "environments": ["development"] }), [true, true, false]),
        (json!({ "environments": ["staging"] }), [false, false, true]),
        (json!({ "scopes": ["agents:run"] }), [true; 3]),
        // Of tools for the station as a whole, each environment would offer the same.
        (json!({ "scopes": ["users:read"] }), [true, false, false]),
    ];
    for (number, (mut input, opens)) in keys.into_iter().enumerate() {
        input["name"] = format!("key-{number}").into();
        let (id, secret) = key(&test, input).await;
        for (path, opens) in ["/mcp", "/mcp/development", "/mcp/staging"].into_iter().zip(opens) {
            let told = ask(&test, &secret, &format!("POST {path}"), Some(json!({}))).await;
            // What is sent is no message of the protocol.
            assert_eq!(told.status, if opens { 406 } else { 403 }, "{id} {path}: {}", told.text);
            assert!(opens || told.text.contains("`mcp.open`") && told.text.contains(&id), "{}", told.text);
        }
        for (name, owed) in [("development", &opens[..2]), ("staging", &opens[2..])] {
            let environment = test.deps.station.environments.named(name).unwrap();
            let rows = environment.store.audit_after(0, 200).await.unwrap();
            let denied = rows.iter().filter(|row| row.entry.principal.id == id && row.entry.action == "mcp.open");
            let denied: Vec<_> = denied.map(|row| (row.entry.origin, row.entry.target.as_deref())).collect();
            let owed = owed.iter().filter(|opens| !**opens).map(|_| (Origin::McpHttp, Some(name)));
            assert_eq!(denied, owed.collect::<Vec<_>>(), "{id} {name}");
        }
    }
}

#[tokio::test]
async fn who_mistypes_an_environment_is_told_those_that_they_may_read() {
    let test = TestStation::new().await;
    let (_, viewer) = key(&test, json!({ "name": "a", "role": "viewer" })).await;
    for line in ["GET /api/v1/agents?environment=stagin", "POST /mcp/stagin"] {
        let told = ask(&test, &viewer, line, None).await;
        assert!(told.status == 404 && told.text.contains("environments here: development, staging"), "{}", told.text);
    }
    let (_, admin) = key(&test, json!({ "name": "b" })).await;
    let set = json!({ "environment": "stagin", "role": null });
    assert_eq!(test.send("POST /api/v1/users", Some(json!({ "name": "ada" }))).await.status, 201);
    let told = ask(&test, &admin, "PATCH /api/v1/users/ada/roles", Some(set)).await;
    assert!(told.status == 404 && told.text.contains("environments here: development, staging"), "{}", told.text);
}

#[tokio::test]
async fn naming_an_environment_in_a_gift_takes_the_right_to_read_it() {
    let test = TestStation::new().await;
    let scopes = json!(["users:read", "users:write", "keys:read", "keys:write"]);
    let (_, blind) = key(&test, json!({ "name": "hr", "scopes": scopes })).await;
    assert_eq!(test.send("POST /api/v1/users", Some(json!({ "name": "ada" }))).await.status, 201);
    let (id, _) = key(&test, json!({ "name": "ci", "user": "ada" })).await;
    for (line, body) in [
        ("PATCH /api/v1/users/ada/roles".to_owned(), json!({ "environment": "NAME", "role": null })),
        ("PATCH /api/v1/users/ada/roles".to_owned(), json!({ "environment": "NAME", "role": "viewer" })),
        ("POST /api/v1/api-keys".to_owned(), json!({ "name": "new", "user": "ada", "environments": ["NAME"] })),
        (format!("PATCH /api/v1/api-keys/{id}"), json!({ "environments": ["NAME"] })),
    ] {
        let mut told = Vec::new();
        for name in ["staging", "nothing"] {
            let body = serde_json::from_str(&body.to_string().replace("NAME", name)).unwrap();
            let answer = ask(&test, &blind, &line, Some(body)).await;
            assert_eq!(answer.status, 403, "{line}: {}", answer.text);
            told.push(anonymous(answer.json(), name));
        }
        assert_eq!(told[0], told[1], "{line}");
        assert!(told[0].contains("`environments:read`"), "{}", told[0]);
    }
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    for name in ["staging", "nothing"] {
        let reason = format!("needs environments:read in environment {name}");
        assert_eq!(rows.iter().filter(|row| row.entry.reason.as_ref() == Some(&reason)).count(), 4, "{name}");
    }
    // Nothing was given, and what names no environment still works.
    let ada = test.send("GET /api/v1/users/ada", None).await.json();
    assert_eq!(ada["roles"], json!([]));
    assert_eq!(
        ask(&test, &blind, &format!("PATCH /api/v1/api-keys/{id}"), Some(json!({ "name": "b" }))).await.status,
        200
    );
}

#[tokio::test]
async fn runs_that_somebody_may_not_see_are_not_found_however_often_they_ask() {
    let test = TestStation::new().await;
    let (id, bound) = key(&test, json!({ "name": "ci", "environments": ["staging"] })).await;
    let agent = json!({ "name": "slow", "prompt": "Be brief." });
    assert_eq!(test.send("POST /api/v1/agents", Some(agent)).await.status, 201);
    let hidden = test.send("POST /api/v1/agents/slow/queue", Some(json!({ "input": "go" }))).await.json();
    let hidden = hidden["id"].as_str().unwrap();
    // Of an environment that is there, and of none.
    let runs = [hidden, "018f3a3c-0000-8009-8000-000000000000"];
    let denials = async || {
        let mut all = test.deps.station.control.audit_after(0, 1_000).await.unwrap();
        for environment in test.deps.station.environments.all() {
            all.extend(environment.store.audit_after(0, 1_000).await.unwrap());
        }
        all.into_iter().filter(|row| row.entry.principal.id == id).count()
    };
    let mut asked = 0;
    while asked <= MOST_DENIALS as usize {
        for run in runs {
            for query in ["", "?environment=staging", "?environment=development", "?environment=nothing"] {
                let told = ask(&test, &bound, &format!("GET /api/v1/runs/{run}{query}"), None).await;
                assert_eq!((told.status, &told.json()["field"]), (404, &json!("run")), "{run}{query}: {}", told.text);
                asked += 1;
            }
            // Each of them counts once.
            assert_eq!(denials().await, asked.min(MOST_DENIALS as usize), "{run}");
        }
    }
    // What is denied elsewhere is held back by then, whether there is anything or not.
    for name in ["development", "nothing"] {
        assert_eq!(ask(&test, &bound, &format!("GET /api/v1/agents?environment={name}"), None).await.status, 429);
    }
}

#[tokio::test]
async fn a_key_narrowed_to_what_is_done_to_runs_finds_them() {
    let test = TestStation::new().await;
    let agent = json!({ "name": "slow", "prompt": "Be brief." });
    assert_eq!(test.send("POST /api/v1/agents", Some(agent)).await.status, 201);
    let run = test.send("POST /api/v1/agents/slow/queue", Some(json!({ "input": "go" }))).await.json();
    let run = run["id"].as_str().unwrap();
    let (_, narrow) = key(&test, json!({ "name": "stop", "scopes": ["runs:cancel"] })).await;
    assert_eq!(ask(&test, &narrow, &format!("GET /api/v1/runs/{run}"), None).await.status, 404);
    let cancelled = ask(&test, &narrow, &format!("POST /api/v1/runs/{}/cancel", &run[..13]), None).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")), "{}", cancelled.text);
}

#[tokio::test]
async fn where_the_home_and_its_key_are_is_for_who_administrates_the_station() {
    let test = TestStation::new().await;
    let home = test.deps.station.home.root().display().to_string();
    let (_, viewer) = key(&test, json!({ "name": "a", "role": "viewer" })).await;
    let shown = ask(&test, &viewer, "GET /api/v1/status", None).await;
    assert!(shown.status == 200 && !shown.text.contains(&home), "{}", shown.text);
    let shown = shown.json();
    assert_eq!([&shown["home"], &shown["local_key_file"], &shown["pid"]], [&Value::Null; 3]);
    // What to do about an edit that isn't in force, neither.
    std::fs::write(test.deps.station.home.station_yml(), "# edited\n").unwrap();
    for line in ["GET /api/v1/status", "GET /api/v1/config", "POST /api/v1/environments/development/sync"] {
        let developer = key(&test, json!({ "name": "c", "role": "developer" })).await.1;
        let edited = ask(&test, &developer, line, None).await;
        let note = edited.json()["station_yml_changed"].as_str().unwrap().to_owned();
        assert!(note.contains("`stn status`") && !note.contains("kill"), "{line}: {note}");
        let edited = test.send(line, None).await.json();
        let fix = format!("`kill {}`", std::process::id());
        assert!(edited["station_yml_changed"].as_str().unwrap().contains(&fix), "{line}: {edited}");
    }
    let (_, admin) = key(&test, json!({ "name": "b" })).await;
    for shown in [ask(&test, &admin, "GET /api/v1/status", None).await, test.send("GET /api/v1/status", None).await] {
        let shown = shown.json();
        assert!(shown["home"] == home && shown["pid"].is_u64(), "{shown}");
        assert!(shown["local_key_file"].as_str().unwrap().ends_with("local.key"), "{shown}");
    }
}
