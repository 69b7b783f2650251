//! MCP clients: the SDK from PyPI, the Inspector from npm, and raw messages over stdio and HTTP.

use super::home::{Output, TestHome, run, within};
use super::http::{Answer, Http};
use super::peers;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest that a message may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The version without handshake and sessions.
pub const MODERN: &str = "2026-07-28";

/// Calls a tool with the SDK from PyPI: `{ version, is_error, content }`. `mode` is `auto` or `legacy`; `server` is `http URL KEY` or
/// `stdio COMMAND...`.
pub fn python(home: &TestHome, mode: &str, tool: &str, arguments: &Value, server: &[&str]) -> Value {
    let mut command = home.program(peers::python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/mcp_client.py"));
    command.args([mode, tool, &arguments.to_string()]).args(server);
    run(command, "").ok().json()
}

/// Calls a tool with the Inspector's command line and returns the result. `server` says where: a URL with its options, or a command.
pub fn inspector(home: &TestHome, server: &[&str], tool: &str, arguments: &[&str]) -> Value {
    let mut command = home.program(peers::node());
    command.arg(peers::npm("@modelcontextprotocol/inspector/clients/launcher/build/index.js"));
    command.arg("--cli").args(server).args(["--method", "tools/call", "--tool-name", tool]);
    for argument in arguments {
        command.args(["--tool-arg", argument]);
    }
    command.args(["--format", "json"]);
    run(command, "").ok().json()
}

/// `params` with the `_meta` that every request of 2026-07-28 carries.
pub fn modern(mut params: Value) -> Value {
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "probe", "version": "1" });
    params
}

fn request(id: i64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn handshake(version: &str) -> Value {
    json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "probe", "version": "1" } })
}

fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// The result in an answer that must be none of an error.
#[track_caller]
pub fn result(answer: &Value) -> &Value {
    answer.get("result").unwrap_or_else(|| panic!("no result: {answer}"))
}

/// The error that a tool's result carries, which says it in text and in `_meta` alike.
#[track_caller]
pub fn tool_error(answer: &Value) -> Value {
    let result = result(answer);
    assert_eq!(result["isError"], true, "{answer}");
    let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(result["_meta"]["io.station/error"], text, "{answer}");
    assert!(result.get("structuredContent").is_none(), "{answer}");
    text
}

/// `stn stdio`, spoken to line by line. Whatever it writes must be a message of the protocol.
pub struct RawStdio {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    next: i64,
    /// Notifications that came while an answer was waited for.
    pub heard: Vec<Value>,
}

impl RawStdio {
    pub fn start(home: &TestHome, arguments: &[&str]) -> Self {
        let mut all = vec!["stdio"];
        all.extend(arguments);
        let mut command = home.command(&all);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _closed = errors.read_to_string(&mut text);
            text
        });
        Self { child, stdin, lines, stderr: Some(stderr), next: 1, heard: Vec::new() }
    }

    /// After a handshake.
    pub fn initialized(home: &TestHome, arguments: &[&str]) -> Self {
        let mut stdio = Self::start(home, arguments);
        stdio.initialize("2025-11-25");
        stdio
    }

    pub fn initialize(&mut self, version: &str) -> Value {
        let answer = self.request("initialize", &handshake(version));
        self.send_line(&initialized().to_string());
        result(&answer).clone()
    }

    pub fn send_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a request and doesn't wait; returns its id.
    pub fn send(&mut self, method: &str, params: &Value) -> i64 {
        let id = self.next;
        self.next += 1;
        self.send_line(&request(id, method, params).to_string());
        id
    }

    /// The next message.
    pub fn receive(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("stn stdio says nothing more");
        message(&line)
    }

    /// The answer to the request `id`.
    pub fn answer(&mut self, id: i64) -> Value {
        loop {
            let message = self.receive();
            if message["id"] == id {
                return message;
            }
            self.heard.push(message);
        }
    }

    pub fn request(&mut self, method: &str, params: &Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.request("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    /// Closes its input and waits for its end; what it still says must be messages too.
    pub fn close(mut self) -> Output {
        drop(self.stdin.take());
        let status = within("stn stdio to end", || self.child.try_wait().unwrap());
        let rest: Vec<String> = self.lines.iter().collect();
        rest.iter().for_each(|line| drop(message(line)));
        let stderr = self.stderr.take().unwrap().join().unwrap();
        Output { code: status.code().unwrap_or(-1), stdout: rest.join("\n"), stderr }
    }
}

impl Drop for RawStdio {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn message(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("stdout has what is no message: {line}"));
    assert_eq!(message["jsonrpc"], "2.0", "{line}");
    message
}

/// An MCP endpoint over HTTP.
pub struct Endpoint<'a> {
    http: &'a Http,
    path: &'a str,
    version: String,
    session: Option<String>,
    next: i64,
}

impl<'a> Endpoint<'a> {
    /// Without handshake and session.
    pub fn modern(http: &'a Http, path: &'a str) -> Self {
        Self { http, path, version: MODERN.into(), session: None, next: 1 }
    }

    /// With a handshake for `version`; returns its result too.
    pub fn legacy(http: &'a Http, path: &'a str, version: &str) -> (Self, Value) {
        let mut endpoint = Self { http, path, version: version.into(), session: None, next: 1 };
        let answer = endpoint.post(&[], &request(0, "initialize", &handshake(version))).with(200);
        endpoint.session = Some(answer.header("mcp-session-id").to_owned()).filter(|id| !id.is_empty());
        let _accepted = endpoint.post(&[], &initialized()).with(202);
        let chosen = result(&body(&answer, 0)).clone();
        (endpoint, chosen)
    }

    /// One message as it is, with the headers that the version wants and `more`.
    pub fn post(&self, more: &[(&str, &str)], message: &Value) -> Answer {
        let mut headers = vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        if self.session.is_some() || self.version == MODERN {
            headers.push(("mcp-protocol-version", &self.version));
        }
        headers.extend(self.session.as_deref().map(|id| ("mcp-session-id", id)));
        headers.extend(more);
        self.http.send("POST", self.path, &headers, Some(message.to_string()))
    }

    /// The answer to a request.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        let modern_era = self.version == MODERN;
        let params = if modern_era { modern(params) } else { params };
        let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut headers = Vec::new();
        if modern_era {
            headers.push(("mcp-method", method));
            if !name.is_empty() {
                headers.push(("mcp-name", name));
            }
        }
        body(&self.post(&headers, &request(id, method, &params)), id)
    }

    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))
    }
}

/// The answer `id` in a body that is JSON or server-sent events.
fn body(answer: &Answer, id: i64) -> Value {
    if answer.header("content-type").starts_with("text/event-stream") {
        let messages = answer.body.lines().filter_map(|line| line.strip_prefix("data:"));
        let mut messages = messages.filter(|data| !data.trim().is_empty()).map(message);
        return messages.find(|message| message["id"] == id).unwrap_or_else(|| panic!("no answer: {}", answer.body));
    }
    message(&answer.body)
}
