//! Tools by their REST routes.

use crate::adapters::testing::TestStation;
use serde_json::{Value, json};

async fn create(test: &TestStation, line: &str) {
    let created = test.send(line, Some(json!({ "name": "hello", "prompt": "Say hello." }))).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let location = created.header("location").to_owned();
    assert_eq!(test.send(&format!("GET {location}"), None).await.json(), created.json(), "{location}");
}

#[tokio::test]
async fn an_agent_is_created_read_changed_and_deleted() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents").await;
    let agent = test.send("GET /api/v1/agents/hello", None).await.json();
    assert_eq!(test.send(&format!("GET /api/v1/agents/{}", agent["id"]), None).await.json(), agent);
    let changed =
        test.send("PATCH /api/v1/agents/hello", Some(json!({ "description": "Greets", "max_steps": 3 }))).await;
    assert_eq!((changed.status, &changed.json()["max_steps"]), (200, &json!(3)), "{}", changed.text);
    let removed = test.send("PATCH /api/v1/agents/hello", Some(json!({ "max_steps": null }))).await.json();
    assert_eq!((&removed["max_steps"], &removed["description"]), (&Value::Null, &json!("Greets")));
    assert_eq!(test.send("DELETE /api/v1/agents/hello", None).await.json(), json!({ "deleted": "hello" }));
    let gone = test.send("GET /api/v1/agents/hello", None).await;
    assert_eq!((gone.status, &gone.json()["type"]), (404, &json!("urn:station:error:not_found")));
}

#[tokio::test]
async fn the_queue_takes_a_run_and_says_where_it_is() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents").await;
    let queued = test.send("POST /api/v1/agents/hello/queue", Some(json!({ "input": "world" }))).await;
    assert_eq!(queued.status, 202, "{}", queued.text);
    let run = queued.json();
    assert_eq!(
        (&run["status"], &run["origin"], &run["input"]),
        (&json!("queued"), &json!("rest"), &json!({ "userInput": "world" }))
    );
    let location = queued.header("location").to_owned();
    assert_eq!(location, format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
    assert_eq!(test.send(&format!("GET {location}"), None).await.json()["id"], run["id"]);
    let cancelled = test.send(&format!("POST {location}/cancel"), None).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
}

#[tokio::test]
async fn the_query_names_the_environment_and_nothing_crosses() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents?environment=staging").await;
    assert_eq!(test.send("GET /api/v1/agents/hello", None).await.status, 404);
    assert_eq!(test.send("GET /api/v1/agents/hello?environment=staging", None).await.status, 200);
    let queued = test.send("POST /api/v1/agents/hello/queue?environment=staging", Some(json!({ "input": "x" }))).await;
    assert_ne!(queued.status, 404, "{}", queued.text);
    assert_eq!(test.send("GET /api/v1/agents?environment=nowhere", None).await.status, 404);
    assert_eq!(test.send("GET /api/v1/environments/staging", None).await.json()["name"], "staging");
}

#[tokio::test]
async fn a_run_is_found_in_the_environment_that_is_named_and_in_no_other() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents").await;
    let run = test.send("POST /api/v1/agents/hello/queue", Some(json!({ "input": "x" }))).await.json();
    let id = run["id"].as_str().unwrap();
    for named in [id, &id[..8]] {
        let here = test.send(&format!("GET /api/v1/runs/{named}?environment=development"), None).await;
        assert_eq!((here.status, &here.json()["id"]), (200, &run["id"]), "{}", here.text);
        let elsewhere = test.send(&format!("POST /api/v1/runs/{named}/cancel?environment=staging"), None).await;
        assert_eq!((elsewhere.status, &elsewhere.json()["field"]), (404, &json!("run")), "{}", elsewhere.text);
        assert!(elsewhere.json()["message"].as_str().unwrap().ends_with("in environment `staging`"));
    }
    let nowhere = test.send(&format!("GET /api/v1/runs/{id}?environment=nowhere"), None).await;
    assert_eq!((nowhere.status, &nowhere.json()["field"]), (404, &json!("environment")), "{}", nowhere.text);
    assert_eq!(test.send(&format!("GET /api/v1/runs/{id}"), None).await.json()["status"], "queued");
}

#[tokio::test]
async fn the_queue_answers_200_with_a_run_that_has_ended() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents").await;
    let queue = async || {
        let body = json!({ "input": "x", "idempotency_key": "k" });
        test.send("POST /api/v1/agents/hello/queue", Some(body)).await
    };
    let first = queue().await;
    assert_eq!(first.status, 202);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    test.send(&format!("POST /api/v1/runs/{id}/cancel"), None).await;
    let again = queue().await;
    assert_eq!((again.status, &again.json()["id"]), (200, &json!(id)), "{}", again.text);
}

#[tokio::test]
async fn an_input_that_doesn_t_fit_is_told_what_would() {
    let test = TestStation::new().await;
    let hint = async |line: &str, body: Option<Value>| {
        let answered = test.send(line, body).await;
        assert_eq!(answered.status, 400, "{line}: {}", answered.text);
        answered.json()["hint"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(hint("GET /api/v1/agents?limt=5", None).await, "did you mean `limit`?");
    assert_eq!(hint("GET /api/v1/agents?limit=x", None).await, "it must be an integer");
    assert_eq!(hint("POST /api/v1/agents", Some(json!({ "nam": "x", "prompt": "y" }))).await, "did you mean `name`?");
    assert_eq!(
        hint("POST /api/v1/agents?name=x", Some(json!({ "prompt": "y" }))).await,
        "give `name` in the JSON body"
    );
    hint("PATCH /api/v1/agents/hello", Some(json!({ "agent": "hello" }))).await;
    hint("GET /api/v1/agents/%FF", None).await;
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_refused_by_the_tool_and_a_body_by_the_door() {
    let test = TestStation::new().await;
    let prompt = "x".repeat(10 * 1024 * 1024);
    let refused = test.send("POST /api/v1/agents", Some(json!({ "name": "big", "prompt": prompt }))).await;
    assert!(matches!(refused.status, 400 | 413), "{}", refused.status);
    assert!(
        refused.text.len() < 2_000 && refused.json()["message"].as_str().unwrap().contains("byte"),
        "{}",
        refused.text
    );
    let prompt = "x".repeat(11 * 1024 * 1024);
    let refused = test.send("POST /api/v1/agents", Some(json!({ "name": "big", "prompt": prompt }))).await;
    assert_eq!((refused.status, &refused.json()["kind"]), (413, &json!("payload_too_large")));
}

#[tokio::test]
async fn the_document_describes_the_routes_that_are_there() {
    let test = TestStation::new().await;
    let document = test.send("GET /api/v1/openapi.json", None).await;
    assert_eq!(document.header("content-type"), "application/json");
    for (path, methods) in document.json()["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        let answered = test.send(&format!("OPTIONS {path}"), None).await;
        assert_eq!(answered.status, 405, "{path}");
        for method in methods.as_object().unwrap().keys() {
            assert!(answered.header("allow").contains(&method.to_uppercase()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_input_that_the_prompt_can_t_be_rendered_with_is_refused_before_there_is_a_run() {
    let test = TestStation::new().await;
    let agent = json!({ "name": "hello", "prompt": "{{userInput}}" });
    assert_eq!(test.send("POST /api/v1/agents", Some(agent)).await.status, 201);
    for input in [String::new(), "x".repeat(9 * 1024 * 1024)] {
        let refused = test.send("POST /api/v1/agents/hello/queue", Some(json!({ "input": input }))).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        let problem = refused.json();
        assert_eq!((&problem["kind"], &problem["field"]), (&json!("invalid_input"), &json!("input")));
    }
    assert_eq!(test.send("GET /api/v1/runs", None).await.json()["items"], json!([]));
}

#[tokio::test]
async fn the_idempotency_key_may_come_as_a_header() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents").await;
    let queue = async |keys: &[&str], body: Value| {
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        test.open("POST /api/v1/agents/hello/queue", &headers, Some(body)).await.read().await
    };
    let first = queue(&["k"], json!({ "input": "x" })).await;
    assert_eq!((first.status, &first.json()["cause"]["key"]), (202, &json!("k")), "{}", first.text);
    assert_eq!(queue(&["k"], json!({ "input": "x" })).await.json()["id"], first.json()["id"]);
    let in_both = queue(&["k"], json!({ "input": "x", "idempotency_key": "k" })).await;
    assert_eq!(in_both.json()["id"], first.json()["id"]);
    for refused in [
        queue(&["k"], json!({ "input": "x", "idempotency_key": "other" })).await,
        queue(&["k", "other"], json!({ "input": "x" })).await,
        queue(&[""], json!({ "input": "x" })).await,
    ] {
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("idempotency_key")), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_model_without_a_provider_is_never_stored() {
    let test = TestStation::new().await;
    create(&test, "POST /api/v1/agents").await;
    let created = json!({ "name": "other", "prompt": "Hi", "model": "gpt" });
    let created = test.send("POST /api/v1/agents", Some(created)).await;
    let updated = test.send("PATCH /api/v1/agents/hello", Some(json!({ "model": "gpt" }))).await;
    for refused in [created, updated] {
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.json()["hint"].as_str().unwrap().contains("provider/model"), "{}", refused.text);
    }
    assert_eq!(test.send("GET /api/v1/agents/other", None).await.status, 404);
    assert_eq!(test.send("GET /api/v1/agents/hello", None).await.json()["model"], Value::Null);
}
