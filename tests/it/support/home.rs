//! A home of its own for every test, and the real `stn` in it.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest that anything in a test may take before the test fails instead of hanging; shorter than the runner's own limit, so that it
/// fails with its diagnostics.
const PATIENCE: Duration = Duration::from_secs(45);

/// A home in a temporary directory. Whatever owns it is killed when it is dropped.
pub struct TestHome {
    directory: TempDir,
    variables: BTreeMap<String, String>,
    numbers: Cell<u32>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
#[must_use]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|cause| panic!("not JSON ({cause}):\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

impl TestHome {
    /// A home that nobody has used yet.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("stn").tempdir().unwrap();
        let variables = BTreeMap::from([
            ("STN_HOME".into(), directory.path().join("home").to_string_lossy().into_owned()),
            ("HOME".into(), directory.path().to_string_lossy().into_owned()),
            ("PATH".into(), std::env::var("PATH").unwrap()),
            // Most tests say themselves when files are taken up.
            ("STN_WATCH".into(), "false".into()),
        ]);
        Self { directory, variables, numbers: Cell::new(0) }
    }

    /// Sets a variable for every command from now on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Takes a variable back.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.variables.remove(name);
        self
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// A directory beside the home, for what a test puts outside it.
    pub fn beside(&self) -> &Path {
        self.directory.path()
    }

    /// A number that was never given before.
    pub fn number(&self) -> u32 {
        self.numbers.replace(self.numbers.get() + 1)
    }

    /// What the home's processes have said on stderr or in its logs, for a test that has failed.
    fn diagnostics(&self) -> String {
        let listed = [self.path().join("logs"), self.beside().to_owned()].map(fs::read_dir);
        let files = listed.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let quoted =
            logs.map(|path| format!("== {}\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default()));
        quoted.collect::<Vec<_>>().join("\n")
    }

    /// Writes a file below the home.
    pub fn write(&self, file: &str, text: &str) -> &Self {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// A home that is there, with an agent in `development` that has no tools, and `settings` in its `station.yml`.
    pub fn with_agent(name: &str, settings: &str) -> Self {
        Self::with_agent_using(&[], name, settings)
    }

    /// The same, with an agent that may use the tools of these attached servers, for which its runs wait. Their commands are accepted, as
    /// in the sample.
    pub fn with_agent_using(servers: &[&str], name: &str, settings: &str) -> Self {
        let home = Self::new();
        let _created = home.stn(&["init"]).ok();
        home.write(
            "station.yml",
            &format!("{settings}environments: {{ development: {{ auto_accept_commands: true }} }}\n"),
        );
        home.write_agent("development", name, &tools_of(servers));
        home
    }

    /// Writes an agent with this front matter.
    pub fn write_agent(&self, environment: &str, name: &str, front_matter: &str) {
        let prompt = format!("---\n{front_matter}---\n{{{{role \"user\"}}}}\n{{{{userInput}}}}\n");
        self.write(&format!("environments/{environment}/agents/{name}.prompt"), &prompt);
    }

    /// Writes the attached servers that a test brings, beside those of the sample.
    pub fn write_servers(&self, environment: &str, servers: &Value) {
        let text = serde_json::json!({ "mcpServers": servers }).to_string();
        self.write(&format!("environments/{environment}/test.json"), &text);
    }

    /// Starts a run and leaves it to itself; returns its id.
    pub fn start_run(&self, agent: &str, input: &str) -> String {
        self.stn(&["agent", "run", agent, input, "--detach"]).ok().stdout.trim().to_owned()
    }

    /// The run, as it is now.
    pub fn run(&self, id: &str) -> Value {
        self.json(&["run", "get", id])
    }

    /// Waits until the run has this status, and returns it.
    pub fn run_in(&self, id: &str, status: &str) -> Value {
        let mut seen = Value::Null;
        within(&format!("run {id} to be {status}"), || {
            seen = self.run(id);
            let ended = ["completed", "failed", "cancelled"].iter().any(|end| seen["status"] == **end);
            assert!(!ended || seen["status"] == status, "{seen:#}");
            (seen["status"] == status).then(|| seen.clone())
        })
    }

    /// The steps of a run, by `seq`.
    pub fn steps(&self, id: &str) -> Vec<Value> {
        self.json(&["run", "steps", id])["items"].as_array().unwrap().clone()
    }

    /// Every living process that was started for this home or has its directory among its arguments.
    pub fn processes(&self) -> Vec<i32> {
        let mark = self.directory.path().as_os_str().as_encoded_bytes();
        let speaks_of_it = |pid: i32| {
            ["cmdline", "environ"].iter().any(|file| {
                let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                text.windows(mark.len()).any(|part| part == mark)
            })
        };
        let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        entries.filter(|&pid| is_alive(pid) && speaks_of_it(pid)).collect()
    }

    /// The local key, as HTTP clients give it.
    pub fn key(&self) -> String {
        self.read("secrets/local.key").trim().to_owned()
    }

    /// `stn` with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_stn"));
        command.args(arguments);
        command
    }

    /// Another program, with the variables that `stn` gets.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir(self.directory.path());
        command
    }

    /// Runs `stn` to its end.
    pub fn stn(&self, arguments: &[&str]) -> Output {
        self.stn_with_input(arguments, "")
    }

    /// Runs `stn` to its end, with text on its standard input.
    pub fn stn_with_input(&self, arguments: &[&str], input: &str) -> Output {
        run(self.command(arguments), input)
    }

    /// Starts `stn` and goes on.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), "")
    }

    /// Runs a command that must succeed, with `--json`, and returns what it printed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        self.stn(&all).ok().json()
    }

    /// Starts `stn serve` on a free port and waits until it is ready.
    pub fn serve(&self) -> Serve {
        self.serve_with(&[])
    }

    /// The same, with further arguments.
    pub fn serve_with(&self, arguments: &[&str]) -> Serve {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let mut child =
            self.command(&all).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            let read = lines.read_line(&mut line).unwrap();
            assert!(read > 0, "stn serve ended:\n{seen}");
            seen.push_str(&line);
            if let Some((_, rest)) = line.split_once("address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // A full pipe would stop the server.
        let log = fs::File::create(self.beside().join(format!("serve-{}.log", self.number())));
        std::thread::spawn(move || std::io::copy(&mut lines, &mut log.unwrap()));
        let serve = Serve { child, url: format!("http://{address}") };
        within("stn serve to be ready", || serve.is_ready().then_some(()));
        serve
    }

    /// The process that owns the home, if any.
    pub fn owner(&self) -> Option<i32> {
        let text = fs::read_to_string(self.path().join("station.lock")).ok()?;
        let owner: Value = serde_json::from_str(&text).ok()?;
        let pid = i32::try_from(owner.get("pid")?.as_i64()?).ok()?;
        is_alive(pid).then_some(pid)
    }

    /// `kill -9` for the owner; returns when it is gone.
    pub fn kill_owner(&self) {
        let pid = self.owner().expect("the home has no owner");
        kill(pid, "KILL");
        within("the owner to be gone", || (!is_alive(pid)).then_some(()));
    }
}

impl Drop for TestHome {
    #[expect(clippy::print_stderr, reason = "what a failed test has to say")]
    fn drop(&mut self) {
        if let Some(pid) = self.owner() {
            kill(pid, "KILL");
        }
        if std::thread::panicking() {
            eprintln!("{}", self.diagnostics());
        }
    }
}

/// A running `stn serve`, killed when dropped.
pub struct Serve {
    child: Child,
    pub url: String,
}

impl Serve {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn is_ready(&self) -> bool {
        let authority = self.url.trim_start_matches("http://");
        let Ok(mut stream) = std::net::TcpStream::connect(authority) else { return false };
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// `SIGTERM`; returns the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        kill(self.pid(), "TERM");
        within("stn serve to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Front matter: an agent that may use the tools of these servers.
pub fn tools_of(servers: &[&str]) -> String {
    let patterns: Vec<String> = servers.iter().map(|server| format!("\"{server}__*\"")).collect();
    format!("tools: [{}]\n", patterns.join(", "))
}

/// Runs a program to its end, with text on its standard input.
pub fn run(command: Command, input: &str) -> Output {
    Running::start(command, input).end()
}

/// A program under way, killed when dropped.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Gathered,
    stderr: Gathered,
}

impl Running {
    /// With text on its standard input, and then the end of it.
    pub fn start(mut command: Command, input: &str) -> Self {
        let shown = format!("{command:?}");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        std::thread::spawn(move || {
            let _closed = stdin.write_all(input.as_bytes());
        });
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, shown, stdout: Gathered::from(stdout), stderr: Gathered::from(stderr) }
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits for its end.
    pub fn end(self) -> Output {
        self.end_within(PATIENCE)
    }

    /// The same, for a program that may take so long.
    pub fn end_within(mut self, patience: Duration) -> Output {
        let status = poll(patience, &self.shown, || self.child.try_wait().unwrap());
        let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
        Output { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What comes out of a pipe.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Gathered {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(1..) = pipe.read(&mut part).inspect(|&read| into.lock().unwrap().extend(&part[..read])) {}
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn whole(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.so_far()
    }
}

/// Sends a signal, by its name without `SIG`.
pub fn kill(pid: i32, signal: &str) {
    let signal: Signal = format!("SIG{signal}").parse().unwrap();
    let _gone = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

/// Whether the process exists and is no zombie. A zombie with threads that are still ending keeps its files open, so that it lives on.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |threads| threads.count());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X') || threads() > 1)
}

/// Polls for something that another process brings about; fails the test when it takes longer than the tests' patience.
pub fn within<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(PATIENCE, what, look)
}

#[expect(clippy::disallowed_methods, reason = "other processes live in real time")]
fn poll<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
