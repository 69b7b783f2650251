//! The one place that starts children: an argument vector, never a shell; a process group of their own; a clean environment; and an end
//! that leaves nobody of the group behind, however the station itself ends.

use crate::clock::{ClockExt, SharedClock};
use crate::error::{Error, Result};
use crate::lifecycle::Tasks;
use crate::redact::{RedactedStream, Redactor};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What a child gets of our own environment, besides what is declared for it: enough to find and run `npx` or `uvx`.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM"];
/// Prefix of the station's own settings (keys, home, socket), which no child ever sees, not even by declaration.
const PRIVATE_PREFIX: &str = "STN_";
/// How much of the end of a child's stderr is kept.
const STDERR_KEPT: usize = 16 * 1024;
/// How long a child may take for each step of its end: after its input was closed, and after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a group that was told to end is looked at; there is no event for a group.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// What to start.
#[derive(Clone, Default)]
pub struct CommandSpec {
    /// A path, or a name that is looked up in `PATH`.
    pub program: String,
    pub args: Vec<String>,
    /// Declared variables; they win over inherited ones.
    pub env: BTreeMap<String, String>,
    /// Absent: the station's own working directory.
    pub cwd: Option<PathBuf>,
    /// Takes the secrets out of its stderr.
    pub redactor: Redactor,
}

impl std::fmt::Debug for CommandSpec {
    /// Values of variables may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { program, args, env, cwd, redactor: _ } = self;
        let names = env.keys().collect::<Vec<_>>();
        f.debug_struct("CommandSpec")
            .field("program", program)
            .field("args", args)
            .field("env", &names)
            .field("cwd", cwd)
            .finish()
    }
}

struct Order {
    command: Command,
    runtime: tokio::runtime::Handle,
    reply: oneshot::Sender<io::Result<(Child, Waited)>>,
}

/// The pids of the children that somebody here waits for.
type WaitedFor = Arc<Mutex<BTreeSet<u32>>>;

/// A child's place among those: nobody else may collect it until this is dropped.
#[derive(Debug)]
struct Waited {
    pid: u32,
    all: WaitedFor,
}

impl Waited {
    fn new(all: &WaitedFor, pid: u32) -> Self {
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        Self { pid, all: Arc::clone(all) }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}

/// Starts children from one thread that lives as long as the last clone of this.
///
/// The thread matters: Linux sends the death signal when the *thread* that forked ends, and threads of an async runtime come and go.
#[derive(Debug, Clone)]
pub struct Spawner {
    orders: std::sync::mpsc::Sender<Order>,
    waited_for: WaitedFor,
}

impl Spawner {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let (orders, inbox) = std::sync::mpsc::channel::<Order>();
        let waited_for = WaitedFor::default();
        let all = Arc::clone(&waited_for);
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                while let Ok(mut order) = inbox.recv() {
                    let _in_runtime = order.runtime.enter();
                    let started = order.command.spawn().and_then(|child| watched(child, &all));
                    // A caller that has gone away drops the child, and with it the process.
                    let _caller_gone = order.reply.send(started);
                }
            })
            .map_err(|cause| Error::internal("the thread that starts processes can't be started").source(cause))?;
        Ok(Self { orders, waited_for })
    }

    /// Whether somebody here waits for the child `pid`, so that nobody else may collect it.
    pub fn waits_for(&self, pid: u32) -> bool {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }

    /// Starts `spec` with piped standard streams. Its stderr is drained from the first byte on.
    pub async fn spawn(&self, spec: &CommandSpec, tasks: &Tasks) -> Result<ChildProcess> {
        let (reply, started) = oneshot::channel();
        let order = Order { command: command(spec), runtime: tokio::runtime::Handle::current(), reply };
        let gone = || Error::internal("the thread that starts processes has ended");
        self.orders.send(order).map_err(|_| gone())?;
        let (child, waited) = started.await.map_err(|_| gone())?.map_err(|cause| not_started(spec, cause))?;
        Ok(ChildProcess::new(child, waited, StderrTail::new(spec.redactor.stream()), tasks))
    }
}

fn watched(child: Child, all: &WaitedFor) -> io::Result<(Child, Waited)> {
    let pid = child.id().ok_or_else(|| io::Error::other("it ended before it could be watched"))?;
    Ok((child, Waited::new(all, pid)))
}

fn not_started(spec: &CommandSpec, cause: io::Error) -> Error {
    let error = Error::unavailable(format!("the command `{}` can't be started: {cause}", spec.program));
    match cause.kind() {
        io::ErrorKind::NotFound => error.hint("install it, give its full path, or check that `cwd` exists"),
        io::ErrorKind::PermissionDenied => error.hint("make the file executable"),
        _ => error,
    }
}

fn command(spec: &CommandSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(spec.env.iter().filter(|(name, _)| !name.starts_with(PRIVATE_PREFIX)));
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    #[cfg(target_os = "linux")]
    die_with_the_station(&mut command);
    command
}

/// How many files and sockets this process may have open at a time.
pub fn most_open_files() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    // Where it can't be asked: what systems give as a rule.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Keeps the memory of this process, which holds secrets, to itself: no core file, for children neither, and on Linux nobody but root may
/// look into it. A debug build stays open to a debugger, and to tests that look for its processes. What can't be set stops nobody.
pub fn leave_no_image() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let hard = getrlimit(Resource::RLIMIT_CORE).map(|(_, hard)| hard);
    let _unlimited = hard.and_then(|hard| setrlimit(Resource::RLIMIT_CORE, 0, hard));
    #[cfg(all(target_os = "linux", not(debug_assertions)))]
    let _readable = nix::sys::prctl::set_dumpable(false);
}

/// Asks the kernel to kill the child when the spawning thread ends, so that a station that is killed leaves no child behind.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a death signal can only be set between fork and exec")]
fn die_with_the_station(command: &mut Command) {
    let station = nix::unistd::getpid();
    let set = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The station may have ended before the signal was set.
        if nix::unistd::getppid() == station { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    // SAFETY: the closure makes two system calls (prctl, getppid), both async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(set);
    }
}

/// The last bytes that a child wrote to its stderr, redacted. Cheap to clone; outlives the child.
#[derive(Debug, Clone)]
pub struct StderrTail {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    stream: RedactedStream,
    bytes: VecDeque<u8>,
}

impl Kept {
    fn keep(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
        let excess = self.bytes.len().saturating_sub(STDERR_KEPT);
        self.bytes.drain(..excess);
    }
}

impl StderrTail {
    fn new(stream: RedactedStream) -> Self {
        Self { kept: Arc::new(Mutex::new(Kept { stream, bytes: VecDeque::new() })) }
    }

    /// For a connection without a child, which has no stderr.
    pub fn none() -> Self {
        Self::new(Redactor::default().stream())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, chunk: &[u8]) {
        let mut kept = self.kept();
        let shown = kept.stream.push(chunk).into_owned();
        kept.keep(&shown);
    }

    /// No more comes.
    fn finish(&self) {
        let mut kept = self.kept();
        let shown = kept.stream.finish();
        kept.keep(&shown);
    }

    /// The last `count` lines that aren't empty, without control characters.
    pub fn last_lines(&self, count: usize) -> String {
        let bytes: Vec<u8> = self.kept().bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A running child and its process group. Dropping it kills the group at once; [`ChildProcess::terminate`] asks first.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    waited: Waited,
    stderr: StderrTail,
    stderr_ended: CancellationToken,
    group_ended: bool,
}

impl ChildProcess {
    fn new(mut child: Child, waited: Waited, stderr: StderrTail, tasks: &Tasks) -> Self {
        let stderr_ended = CancellationToken::new();
        if let Some(source) = child.stderr.take() {
            tasks.spawn("child stderr", drain(source, stderr.clone(), stderr_ended.clone()));
        }
        Self { child, waited, stderr, stderr_ended, group_ended: false }
    }

    /// The process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.waited.pid
    }

    /// The child's input, once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The child's output, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it last said on stderr.
    pub fn stderr(&self) -> StderrTail {
        self.stderr.clone()
    }

    /// Waits for the leader to exit by itself. Others of its group may live on. Cancel safe.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits until all of its stderr has been read. A grandchild that holds the pipe can keep this waiting: give it a limit.
    pub async fn stderr_ended(&self) {
        self.stderr_ended.cancelled().await;
    }

    /// Ends the whole group: closes the input, waits, SIGTERM, waits, SIGKILL. Returns how the leader ended.
    pub async fn terminate(mut self, clock: &SharedClock) -> Option<ExitStatus> {
        drop(self.child.stdin.take());
        let _patient = clock.timeout(PATIENCE, self.child.wait()).await;
        if self.signal(Signal::SIGTERM) {
            let _patient = clock.timeout(PATIENCE, self.whole_group_ended(clock)).await;
            self.signal(Signal::SIGKILL);
        }
        let status = self.child.wait().await.ok();
        self.group_ended = true;
        status
    }

    async fn whole_group_ended(&mut self, clock: &SharedClock) {
        let _status = self.child.wait().await;
        while killpg(self.group(), None).is_ok() {
            clock.sleep(GROUP_POLL).await;
        }
    }

    /// Signals the group; false when nobody is left in it.
    fn signal(&self, signal: Signal) -> bool {
        killpg(self.group(), signal).is_ok()
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.waited.pid.cast_signed())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if !self.group_ended {
            self.signal(Signal::SIGKILL);
        }
    }
}

async fn drain(mut source: ChildStderr, tail: StderrTail, ended: CancellationToken) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = source.read(&mut chunk).await {
        tail.push(&chunk[..count]);
    }
    tail.finish();
    ended.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use tokio::io::{AsyncBufReadExt, BufReader};

    fn shell(script: &str) -> CommandSpec {
        CommandSpec { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], ..CommandSpec::default() }
    }

    /// The spawner must outlive the child, so it is returned too.
    async fn start_and_read_line(script: &str) -> (Spawner, ChildProcess, String) {
        let spawner = Spawner::start().unwrap();
        let mut child = spawner.spawn(&shell(script), &Tasks::new()).await.unwrap();
        let mut line = String::new();
        BufReader::new(child.take_stdout().unwrap()).read_line(&mut line).await.unwrap();
        (spawner, child, line.trim().to_owned())
    }

    /// Dead, or a zombie that only its new parent hasn't reaped yet.
    async fn until_dead(pid: i32) {
        let clock = SystemClock::shared();
        let dead = async {
            while nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok() && !is_zombie(pid) {
                clock.sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(clock.timeout(Duration::from_secs(10), dead).await.is_some(), "process {pid} is still there");
    }

    fn is_zombie(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
    }

    #[tokio::test]
    async fn a_grandchild_ends_with_its_group() {
        let (_spawner, child, grandchild) = start_and_read_line("sleep 1000 & echo $!; exec cat").await;
        assert!(child.terminate(&SystemClock::shared()).await.is_some_and(|status| status.success()));
        until_dead(grandchild.parse().unwrap()).await;
    }

    #[tokio::test]
    async fn a_child_that_ignores_everything_is_killed() {
        let (_spawner, child, ready) = start_and_read_line("trap '' TERM; echo ready; while :; do sleep 1; done").await;
        assert_eq!(ready, "ready");
        let pid = i32::try_from(child.pid()).unwrap();
        let status = child.terminate(&SystemClock::shared()).await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        until_dead(pid).await;
    }

    #[tokio::test]
    async fn a_child_is_its_holders_to_collect_and_nobody_elses() {
        let (spawner, child, _) = start_and_read_line("echo ready; exec cat").await;
        let pid = child.pid();
        assert!(spawner.waits_for(pid) && !spawner.waits_for(std::process::id()));
        assert!(child.terminate(&SystemClock::shared()).await.is_some());
        assert!(!spawner.waits_for(pid));
    }

    #[tokio::test]
    async fn dropping_a_child_kills_its_group() {
        let (_spawner, child, grandchild) = start_and_read_line("sleep 1000 & echo $!; exec sleep 1000").await;
        drop(child);
        until_dead(grandchild.parse().unwrap()).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_child_dies_with_the_thread_that_started_it() {
        let (spawner, mut child, _) = start_and_read_line("echo ready; exec sleep 1000").await;
        drop(spawner);
        let status = child.child.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[tokio::test]
    async fn the_environment_is_clean_but_for_what_is_declared() {
        let spawner = Spawner::start().unwrap();
        let mut spec = CommandSpec { program: "/usr/bin/env".into(), ..CommandSpec::default() };
        spec.env.insert("TOKEN".into(), "t".into());
        spec.env.insert("STN_KEY".into(), "never".into());
        let mut child = spawner.spawn(&spec, &Tasks::new()).await.unwrap();
        let mut output = String::new();
        child.take_stdout().unwrap().read_to_string(&mut output).await.unwrap();
        assert!(output.lines().any(|line| line == "TOKEN=t"), "{output}");
        for line in output.lines() {
            let name = line.split('=').next().unwrap();
            assert!(name == "TOKEN" || INHERITED.contains(&name), "{name} leaked");
        }
    }

    #[tokio::test]
    async fn a_flood_on_stderr_neither_blocks_the_child_nor_is_kept() {
        let spec = shell("i=0; while [ $i -lt 20000 ]; do echo line-$i-padding-padding >&2; i=$((i+1)); done; exit 3");
        let spawner = Spawner::start().unwrap();
        let mut child = spawner.spawn(&spec, &Tasks::new()).await.unwrap();
        assert_eq!(child.exited().await.unwrap().code(), Some(3));
        child.stderr_ended().await;
        assert_eq!(child.stderr().kept().bytes.len(), STDERR_KEPT);
        assert_eq!(child.stderr().last_lines(1), "line-19999-padding-padding");
    }

    #[tokio::test]
    async fn a_secret_on_stderr_is_not_kept_however_it_is_cut() {
        let redactor = Redactor::default();
        redactor.add("development", "KEY", &"swordfish".into());
        let script = "printf 'key: sword' >&2; sleep 0.1; printf 'fish.\\nand sword' >&2; exit 3";
        let spawner = Spawner::start().unwrap();
        let mut child = spawner.spawn(&CommandSpec { redactor, ..shell(script) }, &Tasks::new()).await.unwrap();
        child.exited().await.unwrap();
        child.stderr_ended().await;
        assert_eq!(child.stderr().last_lines(2), "key: [redacted:KEY].\nand sword");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let spec = CommandSpec { program: "no-such-program-here".into(), ..CommandSpec::default() };
        let error = Spawner::start().unwrap().spawn(&spec, &Tasks::new()).await.unwrap_err();
        assert!(error.message().contains("`no-such-program-here`"), "{error}");
        assert!(error.hint_text().is_some());
    }
}
