//! Nobody gives rights that they don't have, whatever happens at the same time.

use super::keys::{ask, key};
use crate::adapters::testing::TestStation;
use crate::domain::Origin;
use crate::error::ErrorKind;
use crate::tools::{self, Context};
use serde_json::{Value, json};

/// A user with these roles, and a key of theirs.
async fn user(test: &TestStation, name: &str, roles: &[(&str, &str)]) -> String {
    assert_eq!(test.send("POST /api/v1/users", Some(json!({ "name": name }))).await.status, 201);
    for (environment, role) in roles {
        let set = json!({ "environment": environment, "role": role });
        assert_eq!(test.send(&format!("PATCH /api/v1/users/{name}/roles"), Some(set)).await.status, 200);
    }
    key(test, json!({ "name": name, "user": name })).await.1
}

/// The roles of a user, as `environment role`.
async fn roles(test: &TestStation, name: &str) -> Vec<String> {
    let user = test.send(&format!("GET /api/v1/users/{name}"), None).await.json();
    let text = |role: &Value| format!("{} {}", role["environment"].as_str().unwrap(), role["role"].as_str().unwrap());
    user["roles"].as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn two_gifts_at_once_give_no_more_than_one_after_the_other() {
    let test = TestStation::new().await;
    let giver = user(&test, "giver", &[("*", "admin"), ("staging", "viewer")]).await;
    let _puppet = user(&test, "puppet", &[]).await;
    let set = async |environment: &str, role: Value| {
        let body = json!({ "environment": environment, "role": role });
        ask(&test, &giver, "PATCH /api/v1/users/puppet/roles", Some(body)).await.status
    };
    for _ in 0..5 {
        assert_eq!(set("*", json!("viewer")).await, 200);
        assert_eq!(set("staging", json!("viewer")).await, 200);
        let (raised, freed) = tokio::join!(set("*", json!("admin")), set("staging", Value::Null));
        assert!(
            [(200, 403), (403, 200)].contains(&(raised, freed)),
            "{raised} {freed}: {:?}",
            roles(&test, "puppet").await
        );
        // Whichever came first, the puppet is no admin of staging.
        let now = roles(&test, "puppet").await;
        assert!(now == ["* admin", "staging viewer"] || now == ["* viewer"], "{now:?}");
    }
}

#[tokio::test]
async fn changes_of_one_key_at_the_same_time_are_all_kept() {
    let test = TestStation::new().await;
    for _ in 0..5 {
        let (id, _) = key(&test, json!({ "name": "ci", "role": "admin" })).await;
        let line = format!("PATCH /api/v1/api-keys/{id}");
        let (narrowed, renamed) = tokio::join!(
            test.send(&line, Some(json!({ "role": "viewer" }))),
            test.send(&line, Some(json!({ "name": "renamed" })))
        );
        assert_eq!((narrowed.status, renamed.status), (200, 200));
        let now = test.send(&format!("GET /api/v1/api-keys/{id}"), None).await.json();
        assert_eq!((&now["role"], &now["name"]), (&json!("viewer"), &json!("renamed")));
    }
}

#[tokio::test]
async fn who_gives_too_much_is_told_what_and_where_and_no_name_of_an_environment_that_they_may_not_read() {
    let test = TestStation::new().await;
    let giver = user(&test, "giver", &[("*", "admin"), ("staging", "viewer")]).await;
    let _puppet = user(&test, "puppet", &[]).await;
    let set = async |key: &str, environment: &str, role: &str| {
        let body = json!({ "environment": environment, "role": role });
        let told = ask(&test, key, "PATCH /api/v1/users/puppet/roles", Some(body)).await;
        assert_eq!(told.status, 403, "{}", told.text);
        told.json()["message"].as_str().unwrap().to_owned()
    };
    let told = set(&giver, "staging", "operator").await;
    assert!(told.contains("key `giver` (") && told.contains("`agents:run` in environment `staging`"), "{told}");
    let (_, narrow) = key(&test, json!({ "name": "narrow", "scopes": ["users:write", "keys:write"] })).await;
    let told = set(&narrow, "*", "viewer").await;
    assert!(told.contains("`agents:read` for the station as a whole"), "{told}");
    let _there = user(&test, "there", &[("staging", "viewer")]).await;
    let told = ask(&test, &narrow, "POST /api/v1/api-keys", Some(json!({ "name": "new", "user": "there" }))).await;
    assert!(told.status == 403 && told.text.contains("`agents:read` in an environment that"), "{}", told.text);
    assert!(!told.text.contains("staging"), "{}", told.text);
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let reasons: Vec<_> = rows.iter().filter_map(|row| row.entry.reason.as_deref()).collect();
    assert_eq!(
        reasons,
        [
            "gives agents:run in environment `staging`, which the giver doesn't have",
            "gives agents:read for the station as a whole, which the giver doesn't have",
            "gives agents:read in environment `staging`, which the giver doesn't have"
        ]
    );
}

#[tokio::test]
async fn who_came_with_a_key_that_was_narrowed_or_deleted_meanwhile_gives_what_it_may_now() {
    let test = TestStation::new().await;
    let (id, _) = key(&test, json!({ "name": "doomed" })).await;
    let record = test.deps.station.control.api_key(&id).await.unwrap().unwrap();
    let give = async |name: &str| {
        let ctx = Context::new(record.principal(), Origin::Rest, name.to_owned());
        tools::call(&test.deps.station, ctx, "api_key_create", json!({ "name": name })).await
    };
    assert!(give("first").await.is_ok());
    let narrow = json!({ "scopes": ["keys:write"] });
    assert_eq!(test.send(&format!("PATCH /api/v1/api-keys/{id}"), Some(narrow)).await.status, 200);
    assert_eq!(give("second").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(test.send(&format!("DELETE /api/v1/api-keys/{id}"), None).await.status, 200);
    assert_eq!(give("third").await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    let listed = test.send("GET /api/v1/api-keys", None).await.text;
    assert!(listed.contains("first") && !listed.contains("second") && !listed.contains("third"), "{listed}");
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let reason = |request: &str| rows.iter().find(|row| row.entry.request_id == request)?.entry.reason.clone();
    assert_eq!(reason("third").unwrap(), "the key of the giver isn't taken any more");
}

#[tokio::test]
async fn a_key_gives_no_key_that_is_good_for_longer_or_elsewhere() {
    let test = TestStation::new().await;
    let (id, short) = key(&test, json!({ "name": "short", "expires_in": "10d" })).await;
    let expires_at = test.send(&format!("GET /api/v1/api-keys/{id}"), None).await.json()["expires_at"].clone();
    let create = async |input: Value| ask(&test, &short, "POST /api/v1/api-keys", Some(input)).await;
    let refused = create(json!({ "name": "long", "expires_in": "11d" })).await;
    assert_eq!((refused.status, &refused.json()["field"]), (403, &json!("expires_at")));
    // Nobody said how long.
    let same = create(json!({ "name": "same" })).await;
    assert_eq!((same.status, &same.json()["expires_at"]), (201, &expires_at));

    let (wide, _) = key(&test, json!({ "name": "wide", "expires_in": "300d", "role": "viewer" })).await;
    let line = format!("PATCH /api/v1/api-keys/{wide}");
    let update = async |change: Value| ask(&test, &short, &line, Some(change)).await.status;
    assert_eq!(update(json!({ "role": "operator" })).await, 403);
    // Who narrows gives nothing.
    assert_eq!(update(json!({ "name": "narrow", "environments": ["staging"], "expires_in": "200d" })).await, 200);
    let denied = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let reasons: Vec<_> = denied.into_iter().filter_map(|row| row.entry.reason).collect();
    assert_eq!(reasons, ["gives a key that is good for longer than the giver's"; 2]);
}

#[tokio::test]
async fn a_key_kept_to_networks_gives_no_key_for_others() {
    let test = TestStation::new().await;
    let (id, _) = key(&test, json!({ "name": "office", "sources": ["10.0.0.0/8"] })).await;
    let record = test.deps.station.control.api_key(&id).await.unwrap().unwrap();
    let give = async |sources: Value| {
        let ctx = Context::new(record.principal(), Origin::Rest, "office".to_owned());
        let input = json!({ "name": "from", "sources": sources });
        tools::call(&test.deps.station, ctx, "api_key_create", input).await
    };
    for wider in [Value::Null, json!(["10.0.0.0/8", "192.0.2.0/24"]), json!(["0.0.0.0/0"])] {
        let refused = give(wider).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field_name()), (ErrorKind::PermissionDenied, Some("sources")));
    }
    assert!(give(json!(["10.1.0.0/16"])).await.is_ok());
}

#[tokio::test]
async fn the_audit_tells_what_was_given() {
    let test = TestStation::new().await;
    let (id, _) = key(&test, json!({ "name": "ci", "sources": ["10.0.0.0/8"] })).await;
    let widened = Some(json!({ "sources": null }));
    assert_eq!(test.send(&format!("PATCH /api/v1/api-keys/{id}"), widened).await.status, 200);
    let (_, narrow) = key(&test, json!({ "name": "narrow", "scopes": ["keys:write"] })).await;
    assert_eq!(ask(&test, &narrow, "POST /api/v1/api-keys", Some(json!({ "name": "wide" }))).await.status, 403);
    let _ada = user(&test, "ada", &[]).await;
    for change in [json!({ "state": "suspended" }), json!({ "state": "active", "display_name": null })] {
        assert_eq!(test.send("PATCH /api/v1/users/ada", Some(change)).await.status, 200);
    }
    let rows = test.deps.station.control.audit_after(0, 200).await.unwrap();
    let told = |action: &str| -> Vec<(String, String, Value)> {
        let of_it = rows.iter().map(|row| &row.entry).filter(|entry| entry.action == action);
        let told = of_it.map(|entry| (entry.target.clone(), entry.reason.clone(), entry.details.clone()));
        told.map(|(target, reason, details)| (target.unwrap(), reason.unwrap_or_default(), details.unwrap_or_default()))
            .collect()
    };
    let created = told("api_key.create");
    let targets: Vec<_> = created.iter().map(|(target, ..)| target.as_str()).collect();
    assert_eq!(targets, ["ci", "narrow", "wide", "ada"]);
    assert_eq!((&created[0].2["id"], &created[0].2["sources"]), (&json!(id), &json!(["10.0.0.0/8"])));
    let updated = told("api_key.update");
    assert_eq!((updated[0].0.as_str(), updated[0].2.get("sources")), (id.as_str(), Some(&Value::Null)));
    let users: Vec<_> = told("user.update").into_iter().map(|(_, _, details)| details).collect();
    assert_eq!(users, [json!({ "state": "suspended" }), json!({ "display_name": null, "state": "active" })]);
}
