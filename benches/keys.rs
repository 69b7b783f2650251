//! What it costs to look an API key up with every request: requests over one connection each, with an API key, with the home's own key
//! (which is compared and not looked up), and without any, one after the other in turns.
//!
//! `cargo bench --bench keys`. The home lies in the system's temporary directory; `TMPDIR` moves it.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::print_stdout, reason = "a benchmark is there to print its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run has nothing to say")]
#![expect(clippy::panic, reason = "a benchmark that can't run has nothing to say")]

#[path = "support/measure.rs"]
mod measure;

use measure::{median, now, outcome, target};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

const STN: &str = env!("CARGO_BIN_EXE_stn");
/// Keys that the station has.
const KEYS: usize = 1_000;
/// Before anything is measured.
const WARM_UP: usize = 200;
const ROUNDS: usize = 3_000;
/// What a lookup may add to a request, in milliseconds.
const LIMIT: f64 = 0.2;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    assert!(stn(&home).arg("init").output().unwrap().status.success());
    let (mut child, address, _log) = serve(&home);
    let local = std::fs::read_to_string(home.join("secrets/local.key")).unwrap().trim().to_owned();
    let (owners, users) = keys(address, &local);
    // A route that isn't there: what stands before every route, and nothing behind it. A list: the least that anybody asks for.
    let mut cases = [
        Case::new(address, "no key: /healthz", "/healthz", None),
        Case::new(address, "no route, the home's own key", "/nowhere", Some(&local)),
        Case::new(address, "no route, an API key", "/nowhere", Some(&owners)),
        Case::new(address, "no route, an API key of a user", "/nowhere", Some(&users)),
        Case::new(address, "agents, the home's own key", "/api/v1/agents", Some(&local)),
        Case::new(address, "agents, an API key", "/api/v1/agents", Some(&owners)),
        Case::new(address, "agents, an API key of a user", "/api/v1/agents", Some(&users)),
    ];
    for round in 0..WARM_UP + ROUNDS {
        for case in &mut cases {
            let time = case.ask();
            if round >= WARM_UP {
                case.times.push(time);
            }
        }
    }
    let medians = cases.each_ref().map(|case| median(&case.times));
    let [open, nothing, .., agents, _, _] = medians;
    println!("{:<34} {:>8} {:>8} {:>12} {:>12}", "ms per request", "median", "99 %", "to /healthz", "to own key");
    for (at, (case, median)) in cases.iter().zip(medians).enumerate() {
        let without = if at < 4 { nothing } else { agents };
        let is_looked_up = case.name.contains("API key");
        let verdict = if is_looked_up {
            target(&format!("lookup {:+.3} ms, <= {LIMIT} ms", median - without), median - without <= LIMIT)
        } else {
            String::new()
        };
        let (to_open, to_own) = (median / open, median / without);
        println!("{:<34} {median:>8.3} {:>8.3} {to_open:>11.2}x {to_own:>11.2}x   {verdict}", case.name, case.late());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    outcome()
}

/// Requests of one kind, over a connection of their own.
struct Case {
    name: &'static str,
    request: String,
    connection: BufReader<TcpStream>,
    times: Vec<Duration>,
}

impl Case {
    fn new(address: SocketAddr, name: &'static str, path: &str, key: Option<&str>) -> Self {
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{key}\r\n");
        Self { name, request, connection: BufReader::new(stream), times: Vec::new() }
    }

    /// One request, until its answer is whole.
    fn ask(&mut self) -> Duration {
        let begin = now();
        self.connection.get_mut().write_all(self.request.as_bytes()).unwrap();
        let (status, body) = answer(&mut self.connection);
        let time = begin.elapsed();
        let expected = if self.name.starts_with("no route") { 404 } else { 200 };
        assert_eq!(status, expected, "{}: {body}", self.name);
        time
    }

    /// The time within which 99 of 100 requests were answered, in milliseconds.
    fn late(&self) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort();
        sorted[sorted.len() * 99 / 100].as_secs_f64() * 1e3
    }
}

/// Status and body of an answer that says how long it is.
fn answer(connection: &mut BufReader<TcpStream>) -> (u16, String) {
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        assert_ne!(connection.read_line(&mut line).unwrap(), 0, "the station hung up");
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        }
        if let Some(rest) = line.strip_prefix("content-length:") {
            length = rest.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

/// Makes the keys; one of the owner of the home, and one of a user with three roles.
fn keys(address: SocketAddr, local: &str) -> (String, String) {
    let post = |method: &str, path: &str, body: &str| -> Value {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("{method} /api/v1{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {local}\r\n");
        let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
        let (status, body) = answer(&mut BufReader::new(stream));
        assert!(status < 300, "{status}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let key = |body: &str| post("POST", "/api-keys", body)["key"].as_str().unwrap().to_owned();
    post("POST", "/users", r#"{"name":"ann"}"#);
    for environment in ["development", "staging", "production"] {
        let role = format!(r#"{{"environment":"{environment}","role":"viewer"}}"#);
        post("PATCH", "/users/ann/roles", &role);
    }
    let owners: Vec<String> = (1..KEYS).map(|_| key(r#"{"name":"ci"}"#)).collect();
    (owners[KEYS / 2].clone(), key(r#"{"name":"ann","user":"ann"}"#))
}

fn stn(home: &Path) -> Command {
    let mut command = Command::new(STN);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("STN_HOME", home).env("HOME", home).env("NO_COLOR", "1");
    command
}

/// `stn serve`, where it listens, and its log, which stays open: a process whose stderr is closed can't log.
fn serve(home: &Path) -> (Child, SocketAddr, Box<dyn BufRead>) {
    let mut command = stn(home);
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
    }
    let address = line.trim_end().rsplit_once("address=").and_then(|(_, address)| address.parse().ok());
    let address = address.unwrap_or_else(|| panic!("no address in `{line}`"));
    (child, address, Box::new(log))
}
