//! The server `mcp_servers/counter.py`, which leaves traces.

use super::home::{TestHome, within};
use super::peers;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Where a counter of a home logs what happens to it.
pub struct Counter {
    log: PathBuf,
    gate: PathBuf,
}

impl Counter {
    /// One whose files stand beside `home`.
    pub fn beside(home: &TestHome) -> Self {
        Self { log: home.beside().join("counter.jsonl"), gate: home.beside().join("gate") }
    }

    /// The entry for `mcpServers`, with the operator's word on its tools.
    pub fn server(&self, tools: &Value) -> Value {
        let mut server = peers::own_server("counter.py", &[self.log.to_str().unwrap(), self.gate.to_str().unwrap()]);
        server["tools"] = tools.clone();
        server
    }

    /// The same, as the only server of a file.
    pub fn servers(&self, tools: &Value) -> Value {
        json!({ "counter": self.server(tools) })
    }

    /// Lets the calls of `hold` end, those that come later too.
    pub fn open_gate(&self) {
        fs::write(&self.gate, "").unwrap();
    }

    /// The process ids that the server was started with.
    pub fn starts(&self) -> Vec<i64> {
        self.events("start").iter().map(|event| event["pid"].as_i64().unwrap()).collect()
    }

    /// The calls that it has received: `tool`, `note`, `key`.
    pub fn calls(&self) -> Vec<Value> {
        self.events("call")
    }

    /// Waits for so many calls.
    pub fn wait_for_calls(&self, calls: usize) {
        within(&format!("{calls} calls of the counter"), || (self.calls().len() >= calls).then_some(()));
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|event: &Value| event["event"] == kind)
            .collect()
    }
}
