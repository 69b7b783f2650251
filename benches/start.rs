//! How soon a process answers, and what it holds in memory when it has nothing to do. Measures the program itself, from the moment it is
//! started.
//!
//! `cargo bench --bench start`. Homes lie in the system's temporary directory.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::print_stdout, reason = "a benchmark is there to print its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run has nothing to say")]
#![expect(clippy::panic, reason = "a benchmark that can't run has nothing to say")]

#[path = "support/measure.rs"]
mod measure;

use measure::{median, now, outcome, target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use station::home::{Home, Layout, read_owner};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const STN: &str = env!("CARGO_BIN_EXE_stn");
const TIMES: usize = 20;
/// Where the memory is looked at.
const AFTER: Duration = Duration::from_secs(10);

/// What every MCP client says first.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

/// Servers that never say a word.
const SLOW_SERVERS: &str = r#"{ "mcpServers": {
  "slow-1": { "command": "sh", "args": ["-c", "sleep 60"] },
  "slow-2": { "command": "sh", "args": ["-c", "sleep 60"] },
  "slow-3": { "command": "sh", "args": ["-c", "sleep 60"] }
} }"#;

fn main() -> ExitCode {
    println!("{:<52} {:>8} {:>8} {:>8}   target", format!("{TIMES} times each, ms"), "median", "min", "max");
    show("`true`, for comparison", None, |_| ended(&mut Command::new("true")));
    let place = Place::new();
    show("stn --version", Some(10.0), |_| ended(place.stn().arg("--version")));
    let owner = place.serve();
    show("stdio: first MCP reply, with an owner", Some(30.0), |_| place.first_reply());
    owner.stop();
    show("stdio: first MCP reply, without an owner", Some(150.0), |_| {
        let time = place.first_reply();
        place.end_owner();
        time
    });
    show("stdio: first MCP reply, without even a home", None, |_| {
        let place = Place::without_home();
        let time = place.first_reply();
        place.end_owner();
        time
    });
    show("serve: first /healthz, sample home", None, |_| healthz(&place));
    place.servers(SLOW_SERVERS);
    show("serve: first /healthz, 3 servers that never answer", Some(100.0), |_| healthz(&place));
    still_starting(&place);
    memory();
    outcome()
}

fn show(name: &str, limit: Option<f64>, act: impl FnMut(usize) -> Duration) {
    let times: Vec<Duration> = (0..TIMES).map(act).collect();
    let ends = [times.iter().min(), times.iter().max()].map(|end| end.map_or(0.0, |time| time.as_secs_f64() * 1e3));
    let ([low, high], median) = (ends, median(&times));
    let verdict = limit.map(|limit| target(&format!("<= {limit:.0} ms"), median <= limit)).unwrap_or_default();
    println!("{name:<52} {median:>8.1} {low:>8.1} {high:>8.1}   {verdict}");
}

/// From the start of a program to its end.
fn ended(command: &mut Command) -> Duration {
    let begin = now();
    let output = command.output().unwrap();
    let time = begin.elapsed();
    assert!(output.status.success());
    time
}

/// From the start of a serving process to its first answer.
fn healthz(place: &Place) -> Duration {
    let begin = now();
    let owner = place.serve();
    owner.get("/healthz");
    let time = begin.elapsed();
    owner.stop();
    time
}

/// Makes sure that the servers were attached, and slow.
fn still_starting(place: &Place) {
    let owner = place.serve();
    let list = place.stn().args(["mcp-server", "list", "--json"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert_eq!(list.matches("\"starting\"").count(), 3, "{list}");
    owner.stop();
}

/// Three stations side by side, without servers, each after ten seconds of nothing.
fn memory() {
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    places.iter().for_each(|place| place.servers(r#"{ "mcpServers": {} }"#));
    let owners: Vec<Serving> = places.iter().map(Place::serve).collect();
    std::thread::sleep(AFTER);
    println!(
        "{:<52} {:>8} {:>8} {:>8}   target",
        "MiB, 10 s after the start, no server attached", "VmRSS", "own", "threads"
    );
    for owner in owners {
        let (whole, own) = (owner.status("VmRSS") / 1024.0, owner.status("RssAnon") / 1024.0);
        let verdict = target("<= 30 MiB", whole <= 30.0);
        println!("{:<52} {whole:>8.1} {own:>8.1} {:>8.0}   {verdict}", "serve", owner.status("Threads"));
        owner.stop();
    }
}

/// A home in a folder of its own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn without_home() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With the sample home.
    fn new() -> Self {
        let place = Self::without_home();
        ended(place.stn().arg("init"));
        place
    }

    /// Replaces the servers of the default environment.
    fn servers(&self, json: &str) {
        std::fs::write(self.home().join("environments/development/servers.json"), json).unwrap();
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn stn(&self) -> Command {
        let mut command = Command::new(STN);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("STN_HOME", self.home())
            .env("NO_COLOR", "1");
        command
    }

    /// A serving process that listens.
    fn serve(&self) -> Serving {
        let mut command = self.stn();
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Serving::from_log(child, log)
    }

    /// From the start of `stn stdio` to the line that answers `initialize`.
    fn first_reply(&self) -> Duration {
        let begin = now();
        let mut child =
            self.stn().arg("stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(INITIALIZE.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
        let mut reply = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut reply).unwrap();
        let time = begin.elapsed();
        assert!(reply.contains("serverInfo"), "{reply}");
        drop(stdin);
        assert!(child.wait().unwrap().success());
        time
    }

    /// Ends the background owner, and returns when it is gone.
    fn end_owner(&self) {
        let home = Home::at(&self.home(), Layout::Home, &BTreeMap::new()).unwrap();
        let owner = read_owner(&home).unwrap();
        let pid = i32::try_from(owner.pid).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        while Path::new("/proc").join(pid.to_string()).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// `stn serve`, and where it listens.
struct Serving {
    child: Child,
    address: SocketAddr,
    /// Kept open: a process whose stderr is closed can't log.
    _log: Box<dyn BufRead>,
}

impl Serving {
    fn from_log(child: Child, mut log: impl BufRead + 'static) -> Self {
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
        }
        let address = line.trim_end().rsplit_once("address=").and_then(|(_, address)| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in `{line}`"));
        Self { child, address, _log: Box::new(log) }
    }

    fn get(&self, path: &str) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// A number of `/proc/<pid>/status`.
    fn status(&self, key: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap()
    }

    fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}
