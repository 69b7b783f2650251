//! An MCP client over `stn stdio`, as an editor is one.

use super::home::{TestHome, within};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// A connection, initialized; its process is killed when it is dropped.
pub struct StdioClient {
    child: RefCell<Child>,
    stdin: RefCell<Option<ChildStdin>>,
    lines: Receiver<Value>,
    answers: RefCell<HashMap<i64, Value>>,
    /// The methods of the notifications that came.
    heard: RefCell<Vec<String>>,
    next: Cell<i64>,
}

impl StdioClient {
    /// Starts `stn stdio` with every tool and shakes hands.
    pub fn connect(home: &TestHome) -> Self {
        Self::connect_as("developer", home)
    }

    /// The same, in another role than an editor gets by itself.
    pub fn connect_as(role: &str, home: &TestHome) -> Self {
        let stderr = home.beside().join(format!("stdio-{}.log", home.number()));
        let mut child = home
            .command(&["stdio", "--tools", "all", "--role", role])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let (received, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|cause| panic!("not JSON ({cause}): {line}"));
                if received.send(message).is_err() {
                    return;
                }
            }
        });
        let stdin = RefCell::new(child.stdin.take());
        let (answers, heard) = (RefCell::default(), RefCell::default());
        let client = Self { child: RefCell::new(child), stdin, lines, answers, heard, next: Cell::new(0) };
        let info = json!({ "name": "test", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
        let answer = client.request("initialize", &hello);
        assert!(answer["result"]["protocolVersion"].is_string(), "{answer}");
        client.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    /// Sends a request and waits for its answer.
    pub fn request(&self, method: &str, params: &Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Sends a request; returns its id.
    pub fn send(&self, method: &str, params: &Value) -> i64 {
        let id = self.next.get() + 1;
        self.next.set(id);
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// Waits for the one answer of a request.
    pub fn answer(&self, id: i64) -> Value {
        within(&format!("the answer to request {id}"), || {
            let closed = self.take_lines();
            let answer = self.answers.borrow_mut().remove(&id);
            assert!(answer.is_some() || !closed, "stn stdio ended before it answered request {id}");
            answer
        })
    }

    /// Takes up what has arrived; true when nothing more will.
    fn take_lines(&self) -> bool {
        loop {
            match self.lines.try_recv() {
                Ok(message) => match (message["id"].as_i64(), message["method"].as_str()) {
                    (Some(id), None) => {
                        let earlier = self.answers.borrow_mut().insert(id, message);
                        assert!(earlier.is_none(), "request {id} was answered twice");
                    }
                    (None, Some(method)) => self.heard.borrow_mut().push(method.to_owned()),
                    _ => {}
                },
                Err(cause) => return cause == TryRecvError::Disconnected,
            }
        }
    }

    /// How often this notification has come.
    pub fn heard(&self, method: &str) -> usize {
        let _closed = self.take_lines();
        self.heard.borrow().iter().filter(|heard| *heard == method).count()
    }

    /// Waits until the owner that the home has now is connected; what is lost on the way with the one before is answered with an error.
    pub fn reach_owner(&self) {
        within("the pipe to reach its owner", || self.request("ping", &json!({})).get("result").map(drop));
    }

    /// Sends a call of a tool; returns the request's id.
    pub fn send_call(&self, tool: &str, arguments: &Value) -> i64 {
        self.send("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    /// Calls a tool of an attached server, which must succeed; returns its result.
    pub fn call_attached(&self, tool: &str, arguments: &Value) -> Value {
        self.call("tool_call", &json!({ "tool": tool, "arguments": arguments }))
    }

    /// Calls a tool that must succeed; returns its result.
    pub fn call(&self, tool: &str, arguments: &Value) -> Value {
        let answer = self.answer(self.send_call(tool, arguments));
        let result = answer["result"].clone();
        assert!(result.is_object() && result["isError"] != true, "{answer}");
        result
    }

    /// Closes the input, as an editor does that ends; returns the exit code.
    pub fn close(self) -> Option<i32> {
        drop(self.stdin.take());
        within("stn stdio to end", || self.child.borrow_mut().try_wait().unwrap()).code()
    }

    fn write(&self, message: &Value) {
        let mut stdin = self.stdin.borrow_mut();
        let stdin = stdin.as_mut().unwrap();
        writeln!(stdin, "{message}").unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for StdioClient {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ended = child.kill();
        let _reaped = child.wait();
    }
}
