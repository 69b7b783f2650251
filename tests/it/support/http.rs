//! HTTP as a program speaks it: blocking, with every header in the test's hands.

use axum::Router;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use super::home::{Serve, TestHome};

/// The longest that one exchange may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of the test's own, on a port of its own; ends when dropped.
pub struct Listening {
    /// Without a path.
    pub url: String,
    _runtime: Runtime,
}

impl Listening {
    pub fn start(router: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "it ends with its runtime")]
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, _runtime: runtime }
    }
}

/// A port that nobody else can have, and on which nobody listens.
pub struct DeafPort(TcpSocket);

impl DeafPort {
    pub fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// A client of one server.
pub struct Http {
    runtime: Runtime,
    client: reqwest::Client,
    url: String,
    key: Option<String>,
}

/// What a request was answered with.
#[derive(Debug)]
#[must_use]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// The answer, which must have this status.
    #[track_caller]
    pub fn with(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|cause| panic!("not JSON ({cause}):\n{}", self.body))
    }

    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Http {
    /// With the home's own key.
    pub fn new(home: &TestHome, serve: &Serve) -> Self {
        Self::with_key(&serve.url, &home.key())
    }

    /// With this key.
    pub fn with_key(url: &str, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..Self::anonymous(url) }
    }

    /// Without a key.
    pub fn anonymous(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A station hangs up on idle connections after 10 s; one that it is just closing must not be taken for the next request.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
        Self { runtime, client, url: url.to_owned(), key: None }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json("POST", path, body)
    }

    /// With `body` as JSON.
    pub fn send_json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], Some(body.to_string()))
    }

    /// A request with exactly these headers, and the key if there is one.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<String>) -> Answer {
        let request = self.request(method, path, headers).body(body.unwrap_or_default());
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Answer { status, headers, body: response.text().await.unwrap() }
        })
    }

    /// A stream of server-sent events, from after `last` (the `id` of an event) on.
    pub fn events(&self, path: &str, last: Option<&str>) -> Events<'_> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|id| ("last-event-id", id)));
        let request = self.request("GET", path, &headers);
        let response = self.runtime.block_on(async { request.send().await }).unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { runtime: &self.runtime, response: Some(response), unread: String::new(), ready: VecDeque::new() }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    /// Empty for events that are only live.
    pub id: String,
    pub data: Value,
}

/// A stream under way; dropping it closes the connection.
pub struct Events<'a> {
    runtime: &'a Runtime,
    response: Option<reqwest::Response>,
    unread: String,
    ready: VecDeque<Event>,
}

impl Iterator for Events<'_> {
    type Item = Event;

    /// Waits for the next event. `None` at the stream's end.
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let response = self.response.as_mut()?;
            let chunk = self.runtime.block_on(response.chunk()).unwrap()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                self.ready.extend(event(block));
                self.unread = rest.to_owned();
            }
        }
    }
}

impl Drop for Events<'_> {
    /// What closes the connection wants to be dropped inside the runtime.
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        drop(self.response.take());
    }
}

/// `None` for comments.
fn event(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Event { name: field("event")?.to_owned(), id: field("id").unwrap_or_default().to_owned(), data })
}
