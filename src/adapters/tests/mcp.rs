//! MCP over HTTP, and the backend behind both transports.

use crate::adapters::mcp::StationBackend;
use crate::adapters::testing::{Answered, TestStation};
use crate::domain::{Grant, Name, Principal, Role};
use crate::mcp::serve::{Backend, Caller, Fault, Progress, ProgressSink, ToolCall, ToolOutcome, ToolSet, Transport};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");

async fn rpc(test: &TestStation, path: &str, session: Option<&str>, message: Value) -> Answered {
    let mut headers = vec![ACCEPT];
    headers.extend(session.map(|session| ("mcp-session-id", session)));
    test.open(&format!("POST {path}"), &headers, Some(message)).await.read().await
}

/// The JSON-RPC message of an answer, which may be an event stream.
fn message(answered: &Answered) -> Value {
    let data = answered
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim)
        .rfind(|data| !data.is_empty());
    serde_json::from_str(data.unwrap_or(&answered.text)).unwrap_or_else(|_| panic!("{answered:?}"))
}

async fn session(test: &TestStation, path: &str) -> String {
    let params =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let opened =
        rpc(test, path, None, json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })).await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    let session = opened.header("mcp-session-id").to_owned();
    rpc(test, path, Some(&session), json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    session
}

async fn tools(test: &TestStation, path: &str) -> Vec<String> {
    let session = session(test, path).await;
    let listed = rpc(test, path, Some(&session), json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).await;
    let listed = message(&listed);
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_address_decides_the_environment_and_the_tools() {
    let test = TestStation::new().await;
    let some = tools(&test, "/mcp").await;
    assert!(some.contains(&"agent_run".to_owned()) && !some.contains(&"agent_delete".to_owned()));
    let all = tools(&test, "/mcp?tools=all").await;
    assert!(all.contains(&"agent_delete".to_owned()) && !all.contains(&"run_respond".to_owned()));
    let session = session(&test, "/mcp/staging").await;
    let create = json!({ "name": "agent_create", "arguments": { "name": "hello", "prompt": "Say hello." } });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": create });
    let created = message(&rpc(&test, "/mcp/staging", Some(&session), call).await);
    assert_eq!(created["result"]["structuredContent"]["environment"], "staging", "{created}");
    let nowhere = rpc(&test, "/mcp/nowhere", None, json!({})).await;
    assert_eq!((nowhere.status, &nowhere.json()["kind"]), (404, &json!("not_found")));
    let unreadable = rpc(&test, "/mcp/%FF", None, json!({})).await;
    assert_eq!((unreadable.status, &unreadable.json()["kind"]), (400, &json!("invalid_input")));
}

#[tokio::test]
async fn a_request_has_one_id_in_its_answer_and_in_the_audit() {
    let test = TestStation::new().await;
    let session = session(&test, "/mcp/staging").await;
    let call = |number: i64, tool: &str| {
        let call = json!({ "name": tool, "arguments": { "name": "hello", "prompt": "Say hello." } });
        json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call })
    };
    let created = rpc(&test, "/mcp/staging", Some(&session), call(2, "agent_create")).await;
    let refused = rpc(&test, "/mcp/staging", Some(&session), call(3, "secret_set")).await;
    let error = &message(&refused)["result"]["_meta"]["io.station/error"];
    assert_eq!(error["request_id"], refused.header("x-request-id"));
    let staging = test.deps.station.environments.named("staging").unwrap();
    let rows = staging.store.audit_after(0, 10).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.entry.action.as_str(), row.entry.request_id.as_str())).collect();
    assert_eq!(
        told,
        [("agent.create", created.header("x-request-id")), ("secret.set", refused.header("x-request-id"))]
    );
    assert_ne!(told[0].1, told[1].1);
}

struct Client {
    test: TestStation,
    backend: Arc<dyn Backend>,
    caller: Caller,
}

impl Client {
    async fn new(role: Role) -> Self {
        let test = TestStation::new().await;
        let development = Name::new("development").unwrap();
        let caller = Caller {
            transport: Transport::Stdio,
            principal: Principal::local_owner().limited_to(Grant::within(development.clone(), role)),
            environment: Some(development),
            protocol_version: "2025-11-25".into(),
            tools: ToolSet::Default,
            request_id: "r1".into(),
        };
        Self { backend: StationBackend::shared(Arc::clone(&test.deps.station), None), test, caller }
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<ToolOutcome, Fault> {
        self.call_with(name, arguments, None, CancellationToken::new()).await
    }

    async fn call_with(
        &self,
        name: &str,
        arguments: Value,
        progress: Option<mpsc::Sender<Progress>>,
        cancel: CancellationToken,
    ) -> Result<ToolOutcome, Fault> {
        let call = ToolCall {
            name: name.into(),
            arguments: serde_json::value::to_raw_value(&arguments).unwrap(),
            meta: serde_json::Map::new(),
            progress: progress.map(ProgressSink::from),
            cancel,
        };
        self.backend.call_tool(&self.caller, call).await
    }

    async fn queued(&self) -> String {
        self.call("agent_create", json!({ "name": "hello", "prompt": "Say hello." })).await.unwrap();
        let run = self.call("agent_run", json!({ "agent": "hello", "input": "x", "wait_ms": 0 })).await.unwrap();
        run.structured.unwrap()["id"].as_str().unwrap().to_owned()
    }
}

fn error_of(outcome: &ToolOutcome) -> Value {
    assert!(outcome.is_error);
    outcome.meta.as_ref().unwrap()["io.station/error"].clone()
}

#[tokio::test]
async fn a_run_that_goes_on_is_no_error_and_says_how_to_wait() {
    let client = Client::new(Role::Developer).await;
    client.call("agent_create", json!({ "name": "hello", "prompt": "Say hello." })).await.unwrap();
    let outcome = client.call("agent_run", json!({ "agent": "hello", "input": "x", "wait_ms": 0 })).await.unwrap();
    let run = outcome.structured.unwrap();
    assert!(!outcome.is_error && outcome.text.contains("use run_wait with run"));
    assert_eq!((&run["status"], &run["origin"]), (&json!("queued"), &json!("mcp_stdio")));
}

#[tokio::test]
async fn what_can_t_be_done_is_an_outcome_that_a_model_can_read() {
    let client = Client::new(Role::Viewer).await;
    let missing = client.call("agent_get", json!({ "agent": "nobody" })).await.unwrap();
    assert_eq!((&error_of(&missing)["kind"], &error_of(&missing)["request_id"]), (&json!("not_found"), &json!("r1")));
    let denied = client.call("agent_create", json!({ "name": "x", "prompt": "y" })).await.unwrap();
    assert_eq!(error_of(&denied)["kind"], "permission_denied");
    let elsewhere = client.call("agent_list", json!({ "environment": "staging" })).await.unwrap();
    assert_eq!(error_of(&elsewhere)["kind"], "permission_denied");
    assert_eq!(client.call("no_such", json!({})).await, Err(Fault::UnknownTool("no_such".into())));
    assert_eq!(client.call("agent_delete", json!({})).await, Err(Fault::UnknownTool("agent_delete".into())));
}

#[tokio::test]
async fn a_model_may_not_answer_for_a_person_whatever_its_role() {
    let client = Client::new(Role::Admin).await;
    let refused = client.call("run_respond", json!({ "run": "x", "decision": "retry" })).await.unwrap();
    let error = error_of(&refused);
    assert_eq!(
        (error["kind"].as_str(), error["hint"].as_str()),
        (Some("permission_denied"), Some("ask the person to run `stn run respond`"))
    );
    let environment = client.test.deps.station.environments.named("development").unwrap();
    let entries = environment.store.audit_after(0, 10).await.unwrap();
    assert_eq!(entries.last().unwrap().entry.action, "run.respond");
}

#[tokio::test]
async fn progress_reaches_the_client_and_cancelling_ends_the_wait_and_not_the_run() {
    let client = Client::new(Role::Developer).await;
    let run = client.queued().await;
    let (sender, mut reports) = mpsc::channel(4);
    let cancel = CancellationToken::new();
    let waiting = client.call_with("run_wait", json!({ "run": run }), Some(sender), cancel.clone());
    let (outcome, report) = tokio::join!(waiting, async {
        let environment = client.test.deps.station.environments.named("development").unwrap();
        let events = environment.store.events_after(crate::domain::RunId::parse(&run).unwrap(), 0, 1).await.unwrap();
        let report = loop {
            // Heard once the wait has begun.
            client.test.deps.station.events.publish(events[0].clone());
            match reports.try_recv() {
                Ok(report) => break report,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        cancel.cancel();
        report
    });
    assert_eq!(report.message.as_deref(), Some("queued"));
    assert_eq!(error_of(&outcome.unwrap())["kind"], "cancelled");
    let run = client.call("run_get", json!({ "run": run })).await.unwrap();
    assert_eq!(run.structured.unwrap()["status"], "queued");
}

#[tokio::test]
async fn a_wait_is_over_when_its_time_is() {
    let client = Client::new(Role::Developer).await;
    let run = client.queued().await;
    let mut waiting = std::pin::pin!(client.call("run_wait", json!({ "run": run, "wait_ms": 5_000 })));
    let environment = client.test.deps.station.environments.named("development").unwrap();
    let id = crate::domain::RunId::parse(&run).unwrap();
    let outcome = loop {
        tokio::select! {
            outcome = &mut waiting => break outcome,
            // Time moves only after the wait had a turn, and goes on moving until its alarm, whenever that is set, has rung.
            _turn = environment.store.run(id) => client.test.clock.advance(Duration::from_secs(5)),
        }
    };
    assert!(outcome.unwrap().text.contains("use run_wait"));
}
