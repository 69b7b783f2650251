//! API keys at the doors.

use crate::adapters::testing::{Answered, Coming, TestStation, send};
use crate::domain::Timestamp;
use crate::tools::MOST_DENIALS;
use serde_json::{Value, json};
use std::time::Duration;

const HOST: (&str, &str) = ("host", "127.0.0.1:8080");

pub(super) async fn ask(test: &TestStation, key: &str, line: &str, body: Option<Value>) -> Answered {
    open(test, key, line, &[], body).await.read().await
}

pub(super) async fn open(
    test: &TestStation,
    key: &str,
    line: &str,
    more: &[(&str, &str)],
    body: Option<Value>,
) -> Coming {
    let bearer = format!("Bearer {key}");
    let headers: Vec<_> = [HOST, ("authorization", bearer.as_str())].into_iter().chain(more.iter().copied()).collect();
    send(&test.routers.tcp, line, &headers, body).await
}

/// Creates a key as the owner; returns its id and the key.
pub(super) async fn key(test: &TestStation, input: Value) -> (String, String) {
    let created = test.send("POST /api/v1/api-keys", Some(input)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let created = created.json();
    (created["id"].as_str().unwrap().to_owned(), created["key"].as_str().unwrap().to_owned())
}

/// The reasons of the failed logins that were recorded, oldest first, each with the key's id.
async fn failures(test: &TestStation) -> Vec<(String, String)> {
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let logins = rows.into_iter().filter(|row| row.entry.action == "station.login");
    logins.map(|row| (row.entry.principal.id, row.entry.reason.unwrap())).collect()
}

#[tokio::test]
async fn a_key_is_taken_until_it_is_deleted_and_is_shown_only_once() {
    let test = TestStation::new().await;
    let (id, secret) = key(&test, json!({ "name": "ci" })).await;
    assert_eq!(ask(&test, &secret, "GET /api/v1/agents", None).await.status, 200);
    for line in ["GET /api/v1/api-keys".to_owned(), format!("GET /api/v1/api-keys/{id}")] {
        let shown = test.send(&line, None).await;
        assert!(shown.status == 200 && shown.text.contains(&id) && !shown.text.contains(&secret), "{}", shown.text);
    }
    assert_eq!(test.send(&format!("DELETE /api/v1/api-keys/{id}"), None).await.status, 200);
    let refused = ask(&test, &secret, "GET /api/v1/agents", None).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").contains("invalid_token") && refused.text.contains("was deleted"));
    assert_eq!(failures(&test).await, [(id.clone(), "unauthenticated: deleted key".to_owned())]);
    let kept = test.send(&format!("GET /api/v1/api-keys/{id}"), None).await.json();
    assert!(kept["deleted_at"].is_string(), "{kept}");
}

#[tokio::test]
async fn a_key_expires_and_its_use_is_written_down_to_the_minute() {
    let test = TestStation::new().await;
    let (id, secret) = key(&test, json!({ "name": "ci", "expires_in": "10m" })).await;
    assert_eq!(ask(&test, &secret, "GET /api/v1/agents", None).await.status, 200);
    let used = async || loop {
        let record = test.deps.station.control.api_key(&id).await.unwrap().unwrap();
        if let Some(at) = record.last_used_at {
            break at;
        }
        tokio::task::yield_now().await;
    };
    let first = Timestamp::from_millis(1_764_000_000_000);
    assert_eq!(used().await, first);
    test.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&test, &secret, "GET /api/v1/agents", None).await.status, 200);
    assert_eq!(used().await, first);
    test.clock.advance(Duration::from_secs(570));
    let refused = ask(&test, &secret, "GET /api/v1/agents", None).await;
    assert!(refused.status == 401 && refused.text.contains("expired at"), "{}", refused.text);
}

#[tokio::test]
async fn a_flood_without_a_key_doesn_t_hide_a_key_that_isn_t_taken_and_that_is_told_by_its_name() {
    let test = TestStation::new().await;
    let (id, secret) = key(&test, json!({ "name": "lost" })).await;
    let (far_id, far) = key(&test, json!({ "name": "far", "sources": ["192.0.2.0/24"] })).await;
    assert_eq!(test.send(&format!("DELETE /api/v1/api-keys/{id}"), None).await.status, 200);
    for _ in 0..=100 {
        send(&test.routers.tcp, "GET /mcp", &[HOST], None).await;
    }
    assert_eq!(send(&test.routers.tcp, "GET /mcp", &[HOST], None).await.read().await.status, 429);
    for _ in 0..100 {
        assert_eq!(ask(&test, &secret, "GET /api/v1/agents", None).await.status, 401);
    }
    let held_back = ask(&test, &secret, "GET /api/v1/agents", None).await;
    assert!(held_back.status == 429 && held_back.text.contains("with this key"), "{}", held_back.text);
    assert_eq!(ask(&test, &far, "GET /api/v1/agents", None).await.status, 403);
    let rows = test.deps.station.control.audit_after(0, 500).await.unwrap();
    let of = |id: &str| -> Vec<_> { rows.iter().map(|row| &row.entry).filter(|row| row.principal.id == id).collect() };
    let (lost, far) = (of(&id), of(&far_id));
    assert_eq!((lost.len(), far.len()), (100, 1));
    assert!(lost.iter().all(|row| row.principal.name == "lost") && far[0].principal.name == "far");
    let last = "unauthenticated: deleted key (further denials of this minute aren't recorded)";
    assert_eq!(lost[99].reason.as_deref(), Some(last));
}

#[tokio::test]
async fn a_key_of_another_station_or_with_a_wrong_secret_is_refused_alike() {
    let (test, other) = (TestStation::new().await, TestStation::new().await);
    let ((id, secret), (_, foreign)) =
        (key(&test, json!({ "name": "a" })).await, key(&other, json!({ "name": "a" })).await);
    let mut answers = Vec::new();
    for wrong in [foreign, other.key.clone(), secret.to_lowercase()] {
        let refused = ask(&test, &wrong, "GET /api/v1/agents", None).await;
        assert_eq!(refused.status, 401);
        let document = refused.json();
        assert!(document["hint"].as_str().unwrap().contains("belongs to the station that made it"), "{document}");
        answers.push(document["message"].clone());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(failures(&test).await.iter().all(|(key, _)| *key != id));
}

#[tokio::test]
async fn a_key_is_kept_to_its_environments_scopes_and_networks() {
    let test = TestStation::new().await;
    let (id, bound) = key(&test, json!({ "name": "ci", "environments": ["staging"] })).await;
    assert_eq!(ask(&test, &bound, "GET /api/v1/agents?environment=staging", None).await.status, 200);
    let elsewhere = ask(&test, &bound, "GET /api/v1/agents?environment=development", None).await;
    let document = elsewhere.json();
    assert_eq!((elsewhere.status, &document["kind"]), (403, &json!("permission_denied")));
    let (message, hint) = (document["message"].as_str().unwrap(), document["hint"].as_str().unwrap());
    assert!(message.contains("`development`") && message.contains("only in `staging`") && message.contains(&id));
    assert!(hint.contains(&format!("stn api-key update {id}")), "{hint}");
    let (_, narrow) = key(&test, json!({ "name": "ci", "scopes": ["runs:read"] })).await;
    assert_eq!(ask(&test, &narrow, "GET /api/v1/runs", None).await.status, 200);
    assert_eq!(ask(&test, &narrow, "GET /api/v1/agents", None).await.status, 403);
    let (_, far) = key(&test, json!({ "name": "ci", "sources": ["192.0.2.0/24"] })).await;
    assert_eq!(ask(&test, &far, "GET /api/v1/agents", None).await.status, 403);
}

#[tokio::test]
async fn a_role_that_changes_counts_from_the_next_request_on() {
    let test = TestStation::new().await;
    assert_eq!(test.send("POST /api/v1/users", Some(json!({ "name": "ada" }))).await.status, 201);
    let (_, secret) = key(&test, json!({ "name": "laptop", "user": "ada" })).await;
    let list = async || ask(&test, &secret, "GET /api/v1/agents", None).await.status;
    assert_eq!(list().await, 403);
    let role = async |role: Value| {
        let set = json!({ "environment": "*", "role": role });
        assert_eq!(test.send("PATCH /api/v1/users/ada/roles", Some(set)).await.status, 200);
    };
    role(json!("viewer")).await;
    assert_eq!(list().await, 200);
    assert_eq!(
        ask(&test, &secret, "POST /api/v1/agents", Some(json!({ "name": "a", "prompt": "b" }))).await.status,
        403
    );
    role(Value::Null).await;
    assert_eq!(list().await, 403);
    role(json!("admin")).await;
    let suspend = Some(json!({ "state": "suspended" }));
    assert_eq!(test.send("PATCH /api/v1/users/ada", suspend).await.status, 200);
    assert_eq!(list().await, 401);
}

#[tokio::test]
async fn a_narrowed_key_gives_no_rights_that_it_doesn_t_have() {
    let test = TestStation::new().await;
    let (_, narrow) = key(&test, json!({ "name": "keys", "scopes": ["keys:read", "keys:write"] })).await;
    let refused = ask(&test, &narrow, "POST /api/v1/api-keys", Some(json!({ "name": "wide" }))).await;
    assert_eq!((refused.status, refused.json()["kind"].as_str()), (403, Some("permission_denied")));
    let same = json!({ "name": "same", "scopes": ["keys:read"] });
    assert_eq!(ask(&test, &narrow, "POST /api/v1/api-keys", Some(same)).await.status, 201);
}

#[tokio::test]
async fn a_session_of_the_handshake_versions_is_its_key_s_alone_and_ends_with_it() {
    let test = TestStation::new().await;
    let ((id, one), (other_id, other)) =
        (key(&test, json!({ "name": "a" })).await, key(&test, json!({ "name": "b" })).await);
    let accept = ("accept", "application/json, text/event-stream");
    let params =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let opened = open(&test, &one, "POST /mcp", &[accept], Some(initialize)).await.read().await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    let session = opened.header("mcp-session-id").to_owned();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let of_session = [accept, ("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    assert_eq!(open(&test, &one, "POST /mcp", &of_session, Some(ready)).await.read().await.status, 202);
    let list = Some(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }));
    assert_eq!(open(&test, &other, "POST /mcp", &of_session, list.clone()).await.read().await.status, 404);
    let unknown = [accept, ("mcp-session-id", "nobody"), ("mcp-protocol-version", "2025-11-25")];
    assert_eq!(open(&test, &other, "POST /mcp", &unknown, list.clone()).await.read().await.status, 404);
    assert_eq!(failures(&test).await, [(other_id, "not_found: the session of another principal".to_owned())]);
    let mut stream = open(&test, &one, "GET /mcp", &of_session, None).await;
    assert_eq!(open(&test, &one, "POST /mcp", &of_session, list.clone()).await.read().await.status, 200);
    assert_eq!(test.send(&format!("DELETE /api/v1/api-keys/{id}"), None).await.status, 200);
    while stream.piece().await.is_some() {}
    assert_eq!(open(&test, &one, "POST /mcp", &of_session, list).await.read().await.status, 401);
}

#[tokio::test]
async fn a_key_that_could_do_nothing_is_not_made() {
    let test = TestStation::new().await;
    let (id, _) = key(&test, json!({ "name": "ci" })).await;
    for field in ["environments", "scopes", "sources"] {
        let created = test.send("POST /api/v1/api-keys", Some(json!({ "name": "none", field: [] }))).await;
        let changed = test.send(&format!("PATCH /api/v1/api-keys/{id}"), Some(json!({ field: [] }))).await;
        for refused in [created, changed] {
            assert_eq!((refused.status, &refused.json()["field"]), (400, &json!(field)), "{}", refused.text);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_denied_again_and_again_is_held_back_and_may_still_do_what_it_may() {
    let test = TestStation::new().await;
    let ((id, viewer), (_, other)) = (
        key(&test, json!({ "name": "a", "role": "viewer" })).await,
        key(&test, json!({ "name": "b", "role": "viewer" })).await,
    );
    let create =
        async |key: &str| ask(&test, key, "POST /api/v1/agents", Some(json!({ "name": "a", "prompt": "b" }))).await;
    for _ in 0..MOST_DENIALS {
        assert_eq!(create(&viewer).await.status, 403);
    }
    test.clock.advance(Duration::from_secs(18));
    let held_back = create(&viewer).await;
    assert_eq!((held_back.status, held_back.header("retry-after")), (429, "42"), "{}", held_back.text);
    assert_eq!(ask(&test, &viewer, "GET /api/v1/agents", None).await.status, 200);
    assert_eq!(create(&other).await.status, 403);
    let environment = test.deps.station.environments.named("development").unwrap();
    let rows = environment.store.audit_after(0, 1_000).await.unwrap();
    let reasons: Vec<_> =
        rows.iter().filter(|row| row.entry.principal.id == id).map(|row| row.entry.reason.as_deref()).collect();
    assert_eq!(reasons.len(), MOST_DENIALS as usize);
    let last = "needs agents:write (further denials of this minute aren't recorded)";
    assert_eq!((reasons[0], reasons[reasons.len() - 1]), (Some("needs agents:write"), Some(last)));
    test.clock.advance(Duration::from_secs(42));
    assert_eq!(create(&viewer).await.status, 403);
}

#[tokio::test]
async fn a_key_says_each_limit_once_and_has_64_networks_at_most() {
    let test = TestStation::new().await;
    let often = |names: [&'static str; 2]| names.repeat(500);
    let limits = json!({
        "scopes": often(["runs:read", "agents:read"]),
        "environments": often(["staging", "development"]),
        "sources": ["192.0.2.1", "10.0.0.0/8", "192.0.2.1/32"],
    });
    let kept = json!({
        "scopes": ["runs:read", "agents:read"],
        "environments": ["development", "staging"],
        "sources": ["192.0.2.1/32", "10.0.0.0/8"],
    });
    let mut named = limits.clone();
    named["name"] = json!("ci");
    let (once, _) = key(&test, named).await;
    let (again, _) = key(&test, json!({ "name": "wide" })).await;
    assert_eq!(test.send(&format!("PATCH /api/v1/api-keys/{again}"), Some(limits)).await.status, 200);
    for id in [&once, &again] {
        let shown = test.send(&format!("GET /api/v1/api-keys/{id}"), None).await.json();
        for field in ["scopes", "environments", "sources"] {
            assert_eq!(shown[field], kept[field], "{shown}");
        }
    }
    let networks = |count: u8| (0..count).map(|number| format!("10.{number}.0.0/16")).collect::<Vec<_>>();
    let most = json!({ "sources": networks(64) });
    assert_eq!(test.send(&format!("PATCH /api/v1/api-keys/{again}"), Some(most)).await.status, 200);
    let many = json!({ "name": "many", "sources": networks(65) });
    for (line, body) in [
        ("POST /api/v1/api-keys".to_owned(), many),
        (format!("PATCH /api/v1/api-keys/{again}"), json!({ "sources": networks(65) })),
    ] {
        let refused = test.send(&line, Some(body)).await;
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("sources")), "{}", refused.text);
        assert!(refused.text.contains("65") && refused.text.contains("64"), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_name_for_people_is_one_line_of_200_characters_at_most() {
    let test = TestStation::new().await;
    let longest = "\u{e9}".repeat(200);
    let made = test.send("POST /api/v1/users", Some(json!({ "name": "ada", "display_name": longest }))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    for (wrong, told) in [
        ("a".repeat(201), "201 characters"),
        ("Ada\nadmin".to_owned(), "U+000A"),
        ("\u{1b}[2JAda".to_owned(), "U+001B"),
        ("Ada \u{202e}nimda".to_owned(), "U+202E"),
        ("Ada\u{2028}".to_owned(), "U+2028"),
    ] {
        let created = test.send("POST /api/v1/users", Some(json!({ "name": "eve", "display_name": wrong }))).await;
        let changed = test.send("PATCH /api/v1/users/ada", Some(json!({ "display_name": wrong }))).await;
        for refused in [created, changed] {
            assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("display_name")), "{}", refused.text);
            assert!(refused.text.contains(told), "{}", refused.text);
        }
    }
    let users = test.send("GET /api/v1/users", None).await.json();
    assert_eq!((users["items"].as_array().unwrap().len(), &users["items"][0]["display_name"]), (1, &json!(longest)));
}

#[tokio::test]
async fn what_is_wrong_with_a_new_key_is_told_by_its_field_and_value() {
    let test = TestStation::new().await;
    for (input, field, told) in [
        (json!({ "scopes": ["agents:rum"] }), "scopes.0", "did you mean `agents:run`?"),
        (json!({ "sources": ["10.0.0.0/8", "10.0.0.1/8"] }), "sources.1", "`10.0.0.1/8`"),
        (json!({ "expires_at": "soon" }), "expires_at", "`soon`"),
        (json!({ "role": "root" }), "role", "viewer, developer, operator, admin"),
        (json!({ "role": "viewer", "scopes": ["users:write"] }), "scopes", "viewer"),
    ] {
        let mut body = json!({ "name": "ci" });
        body.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        let refused = test.send("POST /api/v1/api-keys", Some(body)).await;
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!(field)), "{}", refused.text);
        assert!(refused.text.contains(told), "{}", refused.text);
    }
    assert_eq!(test.send("GET /api/v1/api-keys", None).await.json()["items"], json!([]));
}
