//! What stands before every route.

use crate::adapters::testing::{TestStation, send};
use crate::config::Settings;
use crate::home::ApiKey;
use secrecy::ExposeSecret;
use serde_json::json;
use std::time::Duration;

const HOST: (&str, &str) = ("host", "127.0.0.1:8080");

#[tokio::test]
async fn without_the_key_nothing_is_answered_and_the_attempt_is_recorded() {
    let test = TestStation::new().await;
    let none = send(&test.routers.tcp, "GET /api/v1/agents", &[HOST], None).await.read().await;
    assert_eq!((none.status, none.header("www-authenticate")), (401, "Bearer realm=\"station\""));
    assert_eq!(none.header("content-type"), "application/problem+json");
    let hint = none.json()["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("`stn status`") && !hint.contains("local.key"), "{hint}");
    let other = format!("Bearer {}", ApiKey::generate().unwrap().reveal().expose_secret());
    for path in ["GET /mcp", "POST /mcp/staging", "GET /nowhere", "GET /local/handshake", "GET /api/v1/openapi.json"] {
        let wrong = send(&test.routers.tcp, path, &[HOST, ("authorization", &other)], None).await.read().await;
        assert_eq!(wrong.status, 401, "{path}");
        assert!(wrong.header("www-authenticate").contains("invalid_token"));
    }
    let entries = test.deps.station.control.audit_after(0, 100).await.unwrap();
    let logins: Vec<_> = entries.iter().map(|row| &row.entry).filter(|entry| entry.action == "station.login").collect();
    assert_eq!(logins.len(), 6);
    assert_eq!(logins[0].request_id, none.header("x-request-id"));
    assert_eq!(logins[0].request_id, none.json()["request_id"]);
}

#[tokio::test]
async fn a_flood_of_failures_is_held_back_and_the_right_key_is_not() {
    let test = TestStation::new().await;
    let mut last = None;
    for _ in 0..=100 {
        last = Some(send(&test.routers.tcp, "GET /mcp", &[HOST], None).await.read().await);
    }
    let last = last.unwrap();
    assert_eq!((last.status, last.header("retry-after")), (429, "60"));
    assert_eq!(test.send("GET /api/v1/agents", None).await.status, 200);
    let rows = test.deps.station.control.audit_after(0, 500).await.unwrap();
    assert_eq!(rows.len(), 102);
    let (said, before) = (rows[101].entry.reason.as_deref(), rows[100].entry.reason.as_deref());
    let end = "unauthenticated: no key (further denials of this minute aren't recorded)";
    assert_eq!((said, before), (Some(end), Some("unauthenticated: no key")));
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(send(&test.routers.tcp, "GET /mcp", &[HOST], None).await.read().await.status, 401);
}

#[tokio::test]
async fn whoever_has_a_network_of_ipv6_is_held_back_as_one_source() {
    let mut settings = Settings::default();
    settings.http.behind_proxy = true;
    let test = TestStation::with(settings).await;
    let fails = async |from: String| {
        let headers = [HOST, ("x-forwarded-for", from.as_str())];
        send(&test.routers.tcp, "GET /mcp", &headers, None).await.read().await.status
    };
    for host in 0..100 {
        assert_eq!(fails(format!("2001:db8::{host:x}")).await, 401);
    }
    assert_eq!(fails("2001:db8::1:2:3:4".to_owned()).await, 429);
    assert_eq!(fails("2001:db8:0:1::1".to_owned()).await, 401);
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused_before_the_key_is_looked_at() {
    let test = TestStation::new().await;
    for (name, value) in [
        ("host", "evil.test"),
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("origin", "http://localhost:8080"),
    ] {
        let headers = if name == "host" { vec![(name, value)] } else { vec![HOST, (name, value)] };
        for path in ["GET /api/v1/agents", "POST /mcp", "GET /healthz"] {
            let refused = send(&test.routers.tcp, path, &headers, None).await.read().await;
            assert_eq!(
                (refused.status, refused.json()["kind"].as_str()),
                (403, Some("permission_denied")),
                "{value} {path}"
            );
        }
    }
    // Whoever only asks whether the station is well leaves none.
    let reasons = refusals(&test).await;
    assert_eq!(reasons.len(), 8);
    assert_eq!(reasons[0], "permission_denied: host `evil.test` is not served here");
    assert_eq!(reasons[2], "permission_denied: origin `https://evil.test` may not call this station");
}

/// The reasons of the refusals that were recorded, oldest first.
async fn refusals(test: &TestStation) -> Vec<String> {
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let denied = rows.into_iter().filter(|row| row.entry.action == "station.login");
    denied.filter_map(|row| row.entry.reason).collect()
}

#[tokio::test]
async fn a_key_in_the_address_is_refused_even_if_it_is_right() {
    let test = TestStation::new().await;
    let refused = test.send(&format!("GET /api/v1/agents?token={}", test.key), None).await;
    assert_eq!(refused.status, 400);
    assert!(!refused.text.contains(&test.key));
    assert_eq!(refusals(&test).await, ["invalid_input: a key doesn't belong in the address (`?token=`)"]);
}

#[tokio::test]
async fn of_two_keys_neither_counts() {
    let test = TestStation::new().await;
    let bearer = format!("Bearer {}", test.key);
    for other in ["Bearer x", bearer.as_str()] {
        let headers = [HOST, ("authorization", bearer.as_str()), ("authorization", other)];
        for path in ["GET /api/v1/agents", "POST /mcp"] {
            let refused = send(&test.routers.tcp, path, &headers, None).await.read().await;
            assert_eq!((refused.status, refused.json()["field"].as_str()), (400, Some("authorization")), "{path}");
        }
    }
    assert_eq!(refusals(&test).await, ["invalid_input: the request has more than one `Authorization` header"; 4]);
}

#[tokio::test]
async fn what_clients_look_for_at_well_known_places_is_plainly_not_there() {
    let test = TestStation::new().await;
    for path in ["oauth-protected-resource", "oauth-protected-resource/mcp", "oauth-authorization-server", "agents"] {
        let answered = send(&test.routers.tcp, &format!("GET /.well-known/{path}"), &[HOST], None).await.read().await;
        assert_eq!(answered.status, 404, "{path}");
        assert!(!answered.json()["hint"].as_str().unwrap().contains("did you mean"), "{path}: {}", answered.text);
    }
}

#[tokio::test]
async fn health_is_open_and_readiness_follows_the_start_and_the_stop() {
    let test = TestStation::starting(Settings::default()).await;
    let ask = async |path: &str| send(&test.routers.tcp, path, &[HOST], None).await.read().await;
    assert_eq!(ask("GET /healthz").await.json(), json!({ "status": "ok" }));
    assert_eq!(ask("GET /readyz").await.status, 503);
    test.deps.station.ready.cancel();
    assert_eq!(ask("GET /readyz").await.status, 200);
    test.deps.tasks.soft().cancel();
    assert_eq!((ask("GET /readyz").await.status, ask("GET /healthz").await.status), (503, 200));
}

#[tokio::test]
async fn every_answer_has_a_number_and_counts_as_somebody_being_here() {
    let test = TestStation::new().await;
    let coming = test.open("GET /api/v1/agents", &[], None).await;
    assert_eq!(test.deps.activity.idle_since(), None);
    let answered = coming.read().await;
    assert_eq!(answered.header("x-request-id").len(), 16);
    assert!(test.deps.activity.idle_since().is_some());
}

#[tokio::test]
async fn a_route_that_isn_t_there_names_the_one_that_was_meant() {
    let test = TestStation::new().await;
    for (path, meant) in [
        ("/api/v1/agent", "/api/v1/agents"),
        ("/api/v1/agents/", "/api/v1/agents"),
        ("/agents", "/api/v1/agents"),
        ("/agents/hello/", "/api/v1/agents/hello"),
        ("/agents/hello/queue", "/api/v1/agents/hello/queue"),
        ("/api/v1/agents/hello/que", "/api/v1/agents/hello/queue"),
        ("/", "/api/v1/openapi.json"),
    ] {
        let answered = test.send(&format!("GET {path}"), None).await;
        assert_eq!(answered.status, 404, "{path}");
        assert!(answered.json()["hint"].as_str().unwrap().contains(&format!("`{meant}`")), "{path}: {}", answered.text);
    }
}

#[tokio::test]
async fn a_method_that_a_route_doesn_t_take_is_told_those_that_it_does() {
    let test = TestStation::new().await;
    let answered = test.send("PUT /api/v1/agents", None).await;
    assert_eq!((answered.status, answered.header("content-type")), (405, "application/problem+json"));
    assert!(answered.header("allow").contains("GET") && answered.header("allow").contains("POST"));
    assert!(answered.json()["hint"].as_str().unwrap().contains("Allow"));
    for path in ["/mcp", "/mcp/staging"] {
        let answered = test.send(&format!("PUT {path}"), None).await;
        assert_eq!((answered.status, answered.header("content-type")), (405, "application/problem+json"));
        assert!(answered.header("allow").contains("POST"), "{answered:?}");
    }
}

#[tokio::test]
async fn an_allowed_host_and_origin_are_served_by_every_door() {
    let mut settings = Settings::default();
    settings.http.allowed_hosts = vec!["station.example".into()];
    settings.http.allowed_origins = vec!["https://app.example".into(), "http://app.example:3000".into()];
    let test = TestStation::with(settings).await;
    let bearer = format!("Bearer {}", test.key);
    for origin in ["https://app.example", "http://app.example:3000"] {
        let accept = ("accept", "application/json, text/event-stream");
        let headers =
            [("host", "station.example:8443"), ("origin", origin), ("authorization", bearer.as_str()), accept];
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let opened = send(&test.routers.tcp, "POST /mcp", &headers, Some(initialize)).await.read().await;
        assert_eq!(opened.status, 200, "{origin}: {}", opened.text);
        let listed = send(&test.routers.tcp, "GET /api/v1/agents", &headers, None).await.read().await;
        assert_eq!((listed.status, listed.header("access-control-allow-origin")), (200, origin));
        let wrong = send(&test.routers.tcp, "PUT /api/v1/agents", &headers, None).await.read().await;
        assert_eq!((wrong.status, wrong.header("access-control-allow-origin")), (405, origin));
    }
}

#[tokio::test]
async fn a_listed_page_may_ask_before_it_has_shown_its_key_and_reads_what_it_is_answered() {
    let mut settings = Settings::default();
    settings.http.allowed_origins = vec!["https://app.example".into()];
    let test = TestStation::with(settings).await;
    let wanted = ("access-control-request-headers", "authorization, X-Other,Mcp-Session-Id, content-type");
    let asking = [HOST, ("origin", "https://app.example"), ("access-control-request-method", "POST"), wanted];
    for path in ["OPTIONS /api/v1/agents/hello/queue", "OPTIONS /mcp"] {
        let asked = send(&test.routers.tcp, path, &asking, None).await.read().await;
        assert_eq!((asked.status, asked.header("access-control-allow-origin")), (204, "https://app.example"), "{path}");
        assert_eq!(asked.header("access-control-allow-headers"), "authorization, mcp-session-id, content-type");
        assert!(asked.header("access-control-allow-methods").contains("POST"), "{asked:?}");
        assert_eq!(asked.header("access-control-allow-credentials"), "");
    }
    let rows = test.deps.station.control.audit_after(0, 10).await.unwrap();
    assert!(rows.iter().all(|row| row.entry.action != "station.login"), "nobody has failed to log in: {rows:?}");
    let keyless = send(&test.routers.tcp, "GET /api/v1/agents", &asking[..2], None).await.read().await;
    assert_eq!((keyless.status, keyless.header("access-control-allow-origin")), (401, "https://app.example"));
    assert_eq!(keyless.header("vary"), "Origin");
    assert!(keyless.header("access-control-expose-headers").contains("Mcp-Session-Id"), "{keyless:?}");
    for (origin, status) in [("https://evil.test", 403), ("http://127.0.0.1:8080", 401)] {
        let foreign = [HOST, ("origin", origin), asking[2], asking[3]];
        let refused = send(&test.routers.tcp, "OPTIONS /api/v1/agents", &foreign, None).await.read().await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (status, ""), "{origin}");
    }
    let plain = send(&test.routers.tcp, "OPTIONS /api/v1/agents", &asking[..2], None).await.read().await;
    assert_eq!(plain.status, 401, "no question of a browser's");
}
