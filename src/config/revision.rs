//! Which state of the files a station works from: a content hash, and the git commit where there is one.

use super::environment::EnvironmentFiles;
use super::plan::KnownAgent;
use crate::clock::{ClockExt, SharedClock};
use crate::domain::to_hex;
use crate::lifecycle::Tasks;
use crate::process::{CommandSpec, Spawner};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long git may take in all: a start and a sync wait for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of what git writes is read: a commit is short, and of the changes it matters only whether there are any.
const OUTPUT_BYTES: u64 = 64 * 1024;
/// So that git can't prompt, take locks or run anything that the repository or its owner has configured.
const GIT_VARIABLES: [(&str, &str); 6] = [
    ("LC_ALL", "C"),
    ("HOME", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
];

/// The state of an environment's files at one sync; runs and audit rows carry its `Display`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigRevision {
    /// Over the names and contents of the environment's files, in hex.
    pub hash: String,
    /// The commit that is checked out, where the files are in a git work tree.
    pub commit: Option<String>,
    /// The files differ from that commit.
    pub dirty: bool,
}

impl fmt::Display for ConfigRevision {
    /// `3f1a9c0b2d4e`, and with git `3f1a9c0b2d4e@9fceb02d0ae5` or `...-dirty`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.get(..12).unwrap_or(&self.hash))?;
        if let Some(commit) = &self.commit {
            write!(f, "@{}{}", commit.get(..12).unwrap_or(commit), if self.dirty { "-dirty" } else { "" })?;
        }
        Ok(())
    }
}

/// What is needed to run git for a while.
#[derive(Debug, Clone, Copy)]
pub struct Git<'a> {
    pub spawner: &'a Spawner,
    pub tasks: &'a Tasks,
    pub clock: &'a SharedClock,
}

/// The revision of the files in `directory`, whose content hash is `hash`. Without git, outside a work tree, or when git takes too long, the
/// hash stands alone.
pub async fn config_revision(directory: &Path, hash: String, git: Git<'_>) -> ConfigRevision {
    match work_tree(command(directory), git).await {
        Some((commit, dirty)) => ConfigRevision { hash, commit: Some(commit), dirty },
        None => ConfigRevision { hash, commit: None, dirty: false },
    }
}

/// The revision that was `before`, as it is shown, once `file`, as people know it, has the content `new` instead of `old`, given as their
/// hashes; none stands for no such file. No commit has the change yet.
pub fn changed_revision(before: &str, file: &str, old: Option<&str>, new: Option<&str>) -> String {
    let (hash, commit) = before.split_once('@').unwrap_or((before, ""));
    let hash = swapped(hash, below_environment(file), old, new);
    match commit.split('-').next() {
        None | Some("") => hash,
        Some(commit) => format!("{hash}@{commit}-dirty"),
    }
}

/// Whether `found` is the revision `before` without its commit: git was slow or is gone, and no file has changed.
pub fn lacks_only_the_commit(found: &str, before: &str) -> bool {
    before.split_once('@').is_some_and(|(hash, _)| hash == found)
}

/// The hash of what is in force under `files`: of agents whose files are broken, that is what the store knows.
pub fn in_force_hash(files: &EnvironmentFiles, agents: &[KnownAgent]) -> String {
    let in_force = files.agents.iter().filter_map(|agent| match &agent.definition {
        Ok(_) => Some((&agent.file, &agent.revision)),
        Err(_) => {
            let known = agents.iter().find(|known| known.name == agent.name)?;
            Some((&known.file, &known.revision))
        }
    });
    let unread = agents.iter().filter(|_| files.agents_unread.is_some()).map(|known| (&known.file, &known.revision));
    in_force.chain(unread).fold(files.hash_without_agents.clone(), |hash, (file, revision)| {
        swapped(&hash, below_environment(file), None, Some(revision))
    })
}

/// `agents/hello.prompt` of `environments/development/agents/hello.prompt`: equal files have equal hashes in every environment.
fn below_environment(file: &str) -> &str {
    file.splitn(3, '/').nth(2).unwrap_or(file)
}

fn command(directory: &Path) -> CommandSpec {
    let arguments = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];
    CommandSpec {
        program: "git".to_owned(),
        args: arguments.map(str::to_owned).into(),
        env: GIT_VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        cwd: Some(directory.to_owned()),
        ..CommandSpec::default()
    }
}

/// The commit that is checked out, and whether the files differ from it. `None` too where git can't tell the latter: nobody has checked
/// that commit then.
async fn work_tree(command: CommandSpec, git: Git<'_>) -> Option<(String, bool)> {
    let asked = git.clock.timeout(PATIENCE, async {
        let commit = output(&command, &["rev-parse", "--verify", "HEAD"], git).await?.trim().to_owned();
        if commit.len() < 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let changes = output(&command, &["status", "--porcelain", "--", "."], git).await?;
        Some((commit, !changes.trim().is_empty()))
    });
    asked.await.unwrap_or_else(|| {
        tracing::warn!(directory = ?command.cwd, "git takes too long: the revision of the files is their hash alone");
        None
    })
}

/// What git writes, or the beginning of it.
async fn output(command: &CommandSpec, arguments: &[&str], git: Git<'_>) -> Option<String> {
    let mut command = command.clone();
    command.args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let mut child = git.spawner.spawn(&command, git.tasks).await.ok()?;
    drop(child.take_stdin());
    let mut output = Vec::new();
    let read = child.take_stdout()?.take(OUTPUT_BYTES).read_to_end(&mut output).await.ok()?;
    // What writes on and on is ended, and its status says so.
    let cut = u64::try_from(read) == Ok(OUTPUT_BYTES);
    let status = child.terminate(git.clock).await?;
    (cut || status.success()).then(|| String::from_utf8_lossy(&output).into_owned())
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// A hash over named contents. It combines one hash for each by XOR: so the hash after a change of one file follows from the hash before,
/// whatever else has been written into the directory and not been taken up. It tells states apart and proves nothing.
pub(super) fn content_hash<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let none = to_hex(&[0; 32]);
    files.into_iter().fold(none, |hash, (name, bytes)| swapped(&hash, name, None, Some(&sha256_hex(bytes))))
}

/// `hash`, whole or only the beginning of one, with the content `new` of the file `name` in the place of `old`.
pub(super) fn swapped(hash: &str, name: &str, old: Option<&str>, new: Option<&str>) -> String {
    let mut bytes: Vec<u8> = (0..hash.len() / 2)
        .map_while(|at| hash.get(2 * at..2 * at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect();
    for content in [old, new].into_iter().flatten() {
        // No name has a NUL byte, so no two files read the same.
        let file = Sha256::digest(format!("{name}\0{content}"));
        bytes.iter_mut().zip(file).for_each(|(byte, other)| *byte ^= other);
    }
    to_hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::domain::Timestamp;
    use std::sync::Arc;

    /// What git is run with.
    struct Bench(Spawner, Tasks, SharedClock);

    impl Bench {
        fn new(clock: SharedClock) -> Self {
            Self(Spawner::start().unwrap(), Tasks::new(), clock)
        }

        fn git(&self) -> Git<'_> {
            Git { spawner: &self.0, tasks: &self.1, clock: &self.2 }
        }
    }

    #[test]
    fn a_revision_is_written_short() {
        let revision = ConfigRevision { hash: "ab".repeat(32), commit: Some("12".repeat(20)), dirty: true };
        assert_eq!(revision.to_string(), "abababababab@121212121212-dirty");
    }

    #[tokio::test]
    async fn the_hash_stands_alone_outside_a_work_tree() {
        let (directory, bench) = (tempfile::tempdir().unwrap(), Bench::new(SystemClock::shared()));
        let revision = config_revision(directory.path(), "abc".into(), bench.git()).await;
        assert_eq!(revision, ConfigRevision { hash: "abc".into(), commit: None, dirty: false });
    }

    #[tokio::test]
    async fn a_work_tree_gives_its_commit_and_whether_it_is_dirty() {
        let (directory, bench) = (tempfile::tempdir().unwrap(), Bench::new(SystemClock::shared()));
        let at = directory.path();
        std::fs::write(at.join("a.txt"), "one").unwrap();
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qm", "one"];
        for arguments in [&["init", "-q"][..], &["add", "a.txt"][..], &identity[..]] {
            let done = output(&command(at), arguments, bench.git()).await;
            done.unwrap_or_else(|| panic!("git {arguments:?} failed"));
        }
        let clean = config_revision(at, "abc".into(), bench.git()).await;
        assert!(clean.commit.is_some() && !clean.dirty, "{clean:?}");
        std::fs::write(at.join("a.txt"), "two").unwrap();
        assert!(config_revision(at, "abc".into(), bench.git()).await.dirty);
    }

    #[tokio::test]
    async fn a_git_that_hangs_is_waited_for_two_seconds() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let bench = Bench::new(Arc::clone(&clock) as SharedClock);
        let hangs = CommandSpec {
            program: "/bin/sh".into(),
            args: ["-c", "exec sleep 1000"].map(str::to_owned).into(),
            ..CommandSpec::default()
        };
        let mut asked = Box::pin(work_tree(hangs, bench.git()));
        assert_eq!(futures_util::future::poll_immediate(&mut asked).await, None);
        clock.advance(PATIENCE - Duration::from_millis(1));
        assert_eq!(futures_util::future::poll_immediate(&mut asked).await, None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(asked.await, None);
    }

    /// What [`work_tree`] makes of a git that knows a commit and answers `status` like this.
    async fn tree_with_status(status: &str) -> Option<(String, bool)> {
        let bench = Bench::new(SystemClock::shared());
        let commit = "12".repeat(20);
        let script = format!("case \"$1\" in rev-parse) echo {commit};; *) {status};; esac");
        let command = CommandSpec {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script, "git".into()],
            ..CommandSpec::default()
        };
        work_tree(command, bench.git()).await
    }

    #[tokio::test]
    async fn a_commit_that_git_can_not_compare_with_the_files_is_not_claimed() {
        assert_eq!(tree_with_status("exit 0").await, Some(("12".repeat(20), false)));
        assert_eq!(tree_with_status("echo ' M a'; exit 0").await, Some(("12".repeat(20), true)));
        assert_eq!(tree_with_status("exit 128").await, None);
    }

    #[tokio::test]
    async fn of_endless_changes_the_beginning_is_read() {
        assert_eq!(tree_with_status("exec yes changed").await, Some(("12".repeat(20), true)));
    }

    #[test]
    fn a_revision_that_lacks_only_its_commit_is_told_from_a_change() {
        assert!(lacks_only_the_commit("0123456789ab", "0123456789ab@9fceb02d0ae5"));
        assert!(lacks_only_the_commit("0123456789ab", "0123456789ab@9fceb02d0ae5-dirty"));
        for found in ["0123456789ac", "0123456789ab@9fceb02d0ae5"] {
            assert!(!lacks_only_the_commit(found, "0123456789ab@9fceb02d0ae6"), "{found}");
        }
        assert!(!lacks_only_the_commit("0123456789ab", "0123456789ab"));
    }

    #[test]
    fn the_revision_after_a_change_is_that_of_the_changed_files() {
        let whole = |files: &[(&'static str, &'static str)], dirty| {
            let hash = content_hash(files.iter().map(|(name, text)| (*name, text.as_bytes())));
            ConfigRevision { hash, commit: Some("12".repeat(20)), dirty }.to_string()
        };
        let (old, new) = (sha256_hex(b"old"), sha256_hex(b"new"));
        let before = whole(&[("a", "x"), ("b", "old")], false);
        let changed =
            |old: Option<&str>, new: Option<&str>| changed_revision(&before, "environments/development/b", old, new);
        assert_eq!(changed(Some(&old), Some(&new)), whole(&[("b", "new"), ("a", "x")], true));
        assert_eq!(changed(Some(&old), None), whole(&[("a", "x")], true));
        let added = changed_revision(&before, "environments/development/c", None, Some(&new));
        assert_eq!(added, whole(&[("a", "x"), ("b", "old"), ("c", "new")], true));
        assert_eq!(
            changed_revision(&added, "environments/development/c", Some(&new), None),
            whole(&[("a", "x"), ("b", "old")], true)
        );
        assert!(!changed_revision("0123456789ab", "c", None, Some(&new)).contains('@'));
    }

    #[test]
    fn moving_a_byte_between_files_changes_the_content_hash() {
        let one = content_hash([("a", b"xy".as_slice()), ("b", b"z".as_slice())]);
        let two = content_hash([("a", b"x".as_slice()), ("b", b"yz".as_slice())]);
        assert_ne!(one, two);
    }
}
