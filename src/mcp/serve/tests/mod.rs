//! The protocol as clients see it, over both transports.

mod http;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::{Backend, Caller, Fault, JsonObject, Progress, ToolCall, ToolListing, ToolOutcome};
use crate::domain::{Grant, Principal, PrincipalKind, PrincipalRef, Role};

/// The versions that open with `initialize`.
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Tools that do what the tests need: `echo`, `count` (reports progress), `hang` (until it is cancelled), `fail`, `break`, `panic`.
struct Desk {
    changes: watch::Sender<u64>,
    /// Calls of `hang` that have begun.
    hanging: Notify,
    cancelled: Notify,
    cancels: AtomicUsize,
}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            changes: watch::Sender::new(0),
            hanging: Notify::new(),
            cancelled: Notify::new(),
            cancels: AtomicUsize::new(0),
        })
    }

    async fn count(&self, call: ToolCall) -> ToolOutcome {
        for step in 1..=50 {
            // The second report of each step doesn't grow, so it must not be sent.
            for progress in [f64::from(step), f64::from(step)] {
                if let Some(sink) = &call.progress {
                    sink.report(Progress { progress, total: Some(50.0), message: Some(format!("step {step}")) }).await;
                }
            }
        }
        ToolOutcome { text: "counted".into(), ..ToolOutcome::default() }
    }

    async fn hang(&self, call: ToolCall) -> ToolOutcome {
        self.hanging.notify_one();
        call.cancel.cancelled().await;
        self.cancels.fetch_add(1, Ordering::AcqRel);
        self.cancelled.notify_one();
        ToolOutcome::default()
    }
}

#[async_trait]
impl Backend for Desk {
    async fn list_tools(&self, _: &Caller) -> Result<Vec<ToolListing>, Fault> {
        Ok(["hang", "echo", "count"].map(listing).into())
    }

    async fn call_tool(&self, caller: &Caller, call: ToolCall) -> Result<ToolOutcome, Fault> {
        match call.name.as_str() {
            "echo" => {
                let arguments: Value = serde_json::from_str(call.arguments.get()).unwrap();
                let said = json!({
                    "arguments": arguments,
                    "principal": caller.principal.who.id,
                    "environment": caller.environment,
                    "version": caller.protocol_version,
                    "meta": call.meta.get("vendor"),
                });
                Ok(ToolOutcome { structured: Some(said), ..ToolOutcome::default() })
            }
            "count" => Ok(self.count(call).await),
            "hang" => Ok(self.hang(call).await),
            "fail" => Ok(ToolOutcome {
                text: "it failed".into(),
                is_error: true,
                meta: json!({ "io.station/error": { "kind": "conflict" } }).as_object().cloned(),
                ..ToolOutcome::default()
            }),
            "panic" => panic!("the tool {} is broken", call.name),
            "break" => Err(Fault::Internal(caller.request_id.clone())),
            other => Err(Fault::UnknownTool(other.into())),
        }
    }

    fn instructions(&self, caller: &Caller) -> String {
        format!("Hello, {}.", caller.principal.who.name)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn listing(name: &str) -> ToolListing {
    ToolListing {
        name: name.into(),
        title: name.to_uppercase(),
        description: String::new(),
        input_schema: JsonObject::new(),
        output_schema: (name == "echo").then(|| json!({ "type": "object" }).as_object().cloned().unwrap()),
        read_only: true,
        destructive: false,
        idempotent: true,
        open_world: false,
    }
}

fn principal(id: &str) -> Principal {
    let who = PrincipalRef { kind: PrincipalKind::ApiKey, id: id.into(), name: id.into() };
    Principal::new(who, Grant::everywhere(Role::Developer))
}

fn request(id: impl Into<Value>, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })
}

fn initialize(version: &str) -> Value {
    let client = json!({ "name": "probe", "version": "1" });
    request(0, "initialize", &json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client }))
}

fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// A request of 2026-07-28: `params` with the `_meta` that every request of that version carries.
fn modern(id: impl Into<Value>, method: &str, mut params: Value) -> Value {
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "probe", "version": "1" });
    request(id, method, &params)
}
