//! The background owner: the same program again, in a session of its own, without a terminal, until it is idle.

use super::attach::{COMMAND_WITHIN, LOOK_EVERY, attach};
use super::client::LocalClient;
use super::lock::in_use;
use super::{EXIT_MISCONFIGURED, Home, OwnerLock, OwnerMode, failed, misconfigured, read_owner};
use crate::clock::{ClockExt, SharedClock};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

/// How long an owner may take from its start to its first answer.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How much of a failed owner's log its spawner repeats.
const LOG_LINES: usize = 10;
const LOG_BYTES: u64 = 8 * 1024;

/// Refuses what an owner of this home, with this environment, would surely end with. What was found on the way may be handed to it.
pub type MayStart = fn(&Home, &BTreeMap<String, String>) -> Result<Option<Handover>>;

/// What an owner finds on its stdin: nobody else can read that, as they could its arguments and variables.
pub struct Handover {
    /// Tells the owner that there is something.
    pub argument: &'static str,
    /// No more than a pipe holds (4 KiB).
    pub bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover").field("argument", &self.argument).finish_non_exhaustive()
    }
}

impl Handover {
    /// A stdin with these bytes, and nothing behind them.
    fn stdin(&self) -> io::Result<Stdio> {
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(&self.bytes)?;
        Ok(reader.into())
    }
}

/// How to start a background owner.
#[derive(Debug, Clone)]
pub struct SpawnOwner {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// All that the owner gets of an environment. `STN_HOME` is added, absolute.
    pub environment: BTreeMap<String, String>,
    /// Asked before it is started, and before anything of the home is touched.
    pub may_start: MayStart,
}

impl SpawnOwner {
    /// This program again, as `stn serve --background --idle 10m`.
    pub fn this_program(environment: BTreeMap<String, String>, may_start: MayStart) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|cause| Error::internal("can't find the program that is running").source(cause))?;
        let arguments = ["serve", "--background", "--idle", "10m"].map(str::to_owned).to_vec();
        Ok(Self { program, arguments, environment, may_start })
    }

    /// Starts the owner with its diagnostics appended to the home's background log.
    fn start(&self, home: &Home) -> Result<Spawned> {
        let handover = (self.may_start)(home, &self.environment)?;
        let stdin = handover.as_ref().map_or_else(|| Ok(Stdio::null()), Handover::stdin);
        let stdin = stdin.map_err(|cause| Error::internal("the system gives no pipe").source(cause))?;
        let path = home.background_log();
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.map_err(|cause| failed("open the log", &path, cause))?;
        let log_start = log.metadata().map_err(|cause| failed("examine the log", &path, cause))?.len();
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(handover.map(|handover| handover.argument))
            .env_clear()
            .envs(&self.environment)
            .env("STN_HOME", home.root())
            .current_dir("/")
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(log);
        in_its_own_session(&mut command);
        let child = command.spawn().map_err(|cause| failed("start", &self.program, cause))?;
        Ok(Spawned { child, log: path, log_start })
    }
}

/// Without this, closing the terminal or Ctrl-C in it would end the owner with its first client.
#[expect(unsafe_code, reason = "code between fork and exec can't be checked by the compiler")]
fn in_its_own_session(command: &mut Command) {
    // SAFETY: setsid(2) is async-signal-safe, and the closure neither allocates nor touches the parent's state.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
}

/// An owner that was started and has not answered yet. Dropping it lets the owner live; the runtime collects it when it ends.
struct Spawned {
    child: Child,
    log: PathBuf,
    log_start: u64,
}

impl Spawned {
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .map_err(|cause| Error::internal("can't learn how the background station ended").source(cause))
    }

    /// The last lines that this owner has written to its log.
    fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(LOG_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(LOG_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        // It is quoted in an error, which says by itself that it is one.
        let lines = text.lines().map(|line| line.strip_prefix("error: ").unwrap_or(line));
        let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn failure(&self, status: ExitStatus) -> Error {
        let words = self.last_words();
        let words = if words.is_empty() { "its log says nothing".to_owned() } else { words };
        if status.code() == Some(i32::from(EXIT_MISCONFIGURED)) {
            return misconfigured(format!("the station can't start: {words}"));
        }
        Error::unavailable(format!("the background station ended at once ({status}): {words}"))
            .hint(format!("see `{}`, or run `stn serve` to watch it start", self.log.display()))
    }
}

/// A client of the owner of `home`; starts a background owner when there is none. Any number of clients may do this at once: the lock
/// lets one of the owners live, and all clients find that one.
pub async fn attach_or_spawn(home: &Home, schema: u32, clock: &SharedClock, spawn: &SpawnOwner) -> Result<LocalClient> {
    let mut deadline = clock.now() + READY_WITHIN;
    let mut spawned = None;
    loop {
        match attach(home, schema, clock).await {
            Ok(Some(client)) => return Ok(client),
            // An owner that is busy starting or ending may yet answer, or be succeeded.
            Err(error) if error.kind() != ErrorKind::Timeout || clock.now() >= deadline => return Err(error),
            Ok(None) | Err(_) => {}
        }
        match &mut spawned {
            // Whoever serves the home and doesn't listen yet is about to; one that is ending leaves the lock in a moment.
            None if read_owner(home).is_some_and(|owner| owner.mode != OwnerMode::Command) => {}
            None => {
                // The time that a passphrase takes is not the owner's.
                let before = clock.now();
                spawned = Some(spawn.start(home)?);
                deadline = deadline + clock.now().since(before);
            }
            Some(owner) => {
                match owner.ended()? {
                    None => {}
                    // A rival was faster, or it has already served and ended: the next round shows.
                    Some(status) if status.success() => spawned = None,
                    Some(status) => return Err(owner.failure(status)),
                }
            }
        }
        if clock.now() >= deadline {
            return Err(not_ready(home, spawned.as_ref()));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

/// For the background owner itself: the home, or `None` when another owner was faster, in which case there is nothing to do. Waits for
/// a short command that holds the home.
pub async fn own_in_background(home: &Home, clock: &SharedClock) -> Result<Option<OwnerLock>> {
    let deadline = clock.now() + COMMAND_WITHIN;
    loop {
        if let Some(lock) = OwnerLock::try_acquire(home, OwnerMode::Background, clock.now())? {
            return Ok(Some(lock));
        }
        if read_owner(home).is_some_and(|owner| owner.mode != OwnerMode::Command) {
            return Ok(None);
        }
        if clock.now() >= deadline {
            return Err(in_use(home));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

fn not_ready(home: &Home, spawned: Option<&Spawned>) -> Error {
    match spawned.map(Spawned::last_words).filter(|words| !words.is_empty()) {
        Some(words) => in_use(home).context(format!("the background station isn't ready after 10 s ({words})")),
        None => in_use(home).context("the station isn't ready after 10 s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestHome, answer_handshakes};
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::domain::Timestamp;
    use std::sync::{Arc, OnceLock};

    fn shell(script: &str) -> SpawnOwner {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        SpawnOwner { program: "/bin/sh".into(), arguments, environment, may_start: |_, _| Ok(None) }
    }

    #[tokio::test]
    async fn an_owner_that_dies_at_its_start_is_quoted() {
        let home = TestHome::created();
        std::fs::write(home.background_log(), "an older line\n").unwrap();
        let spawn = shell("echo 'error: station.yml:3:1: unknown key `htp`' >&2; exit 78");
        let error = attach_or_spawn(&home, 1, &SystemClock::shared(), &spawn).await.unwrap_err();
        assert_eq!(error.message(), "the station can't start: station.yml:3:1: unknown key `htp`");
        assert_eq!(error.report().details.unwrap()["exit_code"], 78);
        assert!(!error.message().contains("an older line"), "{error}");
    }

    #[tokio::test]
    async fn the_owner_starts_with_nothing_but_what_it_is_given() {
        let home = TestHome::created();
        let script = "echo \"home $STN_HOME cwd $(pwd) cargo [$CARGO_MANIFEST_DIR]\" >&2; exit 1";
        let error = attach_or_spawn(&home, 1, &SystemClock::shared(), &shell(script)).await.unwrap_err();
        let expected = format!("home {} cwd / cargo []", home.root().display());
        assert!(error.message().contains(&expected), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_owner_starts_in_a_session_of_its_own() {
        let home = TestHome::created();
        // proc_pid_stat(5): pid, comm, state, ppid, pgrp, session.
        let script = "read -r pid _ _ _ _ session _ < /proc/$$/stat; echo \"session $session of $pid.\" >&2; exit 1";
        let error = attach_or_spawn(&home, 1, &SystemClock::shared(), &shell(script)).await.unwrap_err();
        let (_, told) = error.message().split_once("session ").unwrap();
        let (session, pid) = told.trim_end_matches('.').split_once(" of ").unwrap();
        assert_eq!(session, pid);
    }

    #[tokio::test]
    async fn what_an_owner_is_handed_is_on_its_stdin_alone() {
        let home = TestHome::created();
        let script = "echo \"$0 got $(cat), and in its place $(tr '\\0' ' ' < /proc/self/environ).\" >&2; exit 1";
        let may_start: MayStart =
            |_, _| Ok(Some(Handover { argument: "--handed", bytes: Zeroizing::new(b"the key".to_vec()) }));
        let spawn = SpawnOwner { may_start, ..shell(script) };
        let error = attach_or_spawn(&home, 1, &SystemClock::shared(), &spawn).await.unwrap_err();
        assert!(error.message().contains("--handed got the key, and"), "{error}");
        assert_eq!(error.message().matches("the key").count(), 1, "{error}");
    }

    #[tokio::test]
    async fn many_clients_at_once_find_the_one_owner_and_start_no_other() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        let (_lock, listener) = home.own(OwnerMode::Background);
        let spawn = shell("echo started >&2");
        let clients = futures_util::future::join_all((0..5).map(|_| attach_or_spawn(&home, 7, &clock, &spawn)));
        let clients = tokio::select! {
            () = answer_handshakes(&listener, 7) => unreachable!(),
            clients = clients => clients,
        };
        assert!(clients.iter().all(|client| client.as_ref().is_ok_and(|client| client.owner().schema == 7)));
        assert!(!home.background_log().exists());
    }

    #[tokio::test]
    async fn a_client_whose_owner_lost_the_race_finds_the_winner() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        // The loser ends the moment it is started; the winner takes the lock once the loser has left its trace.
        let spawn = shell("echo lost >&2");
        let client = attach_or_spawn(&home, 7, &clock, &spawn);
        let winner = async {
            while !std::fs::read_to_string(home.background_log()).is_ok_and(|log| log.contains("lost")) {
                tokio::task::yield_now().await;
            }
            let (_lock, listener) = home.own(OwnerMode::Background);
            answer_handshakes(&listener, 7).await;
        };
        tokio::select! {
            () = winner => unreachable!(),
            client = client => assert_eq!(client.unwrap().owner().schema, 7),
        }
    }

    #[tokio::test]
    async fn what_takes_long_before_the_owner_starts_is_not_counted_as_its_time() {
        static CLOCK: OnceLock<Arc<ManualClock>> = OnceLock::new();
        let clock = CLOCK.get_or_init(|| ManualClock::at(Timestamp::from_millis(0)));
        let shared: SharedClock = clock.clone();
        let home = TestHome::created();
        let may_start: MayStart = |_, _| {
            CLOCK.get().unwrap().advance(2 * READY_WITHIN);
            Ok(None)
        };
        let spawn = SpawnOwner { may_start, ..shell("echo started >&2") };
        let client = attach_or_spawn(&home, 7, &shared, &spawn);
        let owner = async {
            while !std::fs::read_to_string(home.background_log()).is_ok_and(|log| log.contains("started")) {
                tokio::task::yield_now().await;
            }
            let (_lock, listener) = home.own(OwnerMode::Background);
            clock.advance(LOOK_EVERY);
            answer_handshakes(&listener, 7).await;
        };
        tokio::select! {
            () = owner => unreachable!(),
            client = client => assert_eq!(client.unwrap().owner().schema, 7),
        }
    }

    #[tokio::test]
    async fn a_background_owner_yields_to_another_owner_and_waits_for_a_command() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        let serving = own_in_background(&home, &clock).await.unwrap().unwrap();
        assert!(own_in_background(&home, &clock).await.unwrap().is_none());
        drop(serving);
        let command = OwnerLock::try_acquire(&home, OwnerMode::Command, clock.now()).unwrap();
        let (owned, ()) = tokio::join!(own_in_background(&home, &clock), async { drop(command) });
        assert_eq!(owned.unwrap().unwrap().info().mode, OwnerMode::Background);
    }
}
