//! Which state of the files a station works from: a content hash, and the git commit where there is one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The state of an environment's files at one sync; runs and audit rows carry its `Display`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigRevision {
    /// SHA-256 over the names and bytes of the environment's files, in hex.
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

/// The revision of the files in `directory`, whose content hash is `hash`. Without git, or outside a work tree, the hash stands alone.
pub fn config_revision(directory: &Path, hash: &str) -> ConfigRevision {
    let commit = git(directory, &["rev-parse", "--verify", "HEAD"])
        .map(|commit| commit.trim().to_owned())
        .filter(|commit| commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let changes = commit.as_ref().and_then(|_| git(directory, &["status", "--porcelain", "--", "."]));
    ConfigRevision { hash: hash.to_owned(), dirty: changes.is_some_and(|changes| !changes.trim().is_empty()), commit }
}

/// Runs git so that it can't prompt, take locks or run anything that the repository or its owner has configured.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-C"])
        .arg(directory)
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A hash over named contents. Lengths stand before the parts, so that no two different sets read the same.
pub(super) fn content_hash<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        for part in [name.as_bytes(), bytes] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_written_short() {
        let revision = ConfigRevision { hash: "ab".repeat(32), commit: Some("12".repeat(20)), dirty: true };
        assert_eq!(revision.to_string(), "abababababab@121212121212-dirty");
    }

    #[test]
    fn the_hash_stands_alone_outside_a_work_tree() {
        let directory = tempfile::tempdir().unwrap();
        let revision = config_revision(directory.path(), "abc");
        assert_eq!(revision, ConfigRevision { hash: "abc".into(), commit: None, dirty: false });
    }

    #[test]
    fn a_work_tree_gives_its_commit_and_whether_it_is_dirty() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("a.txt"), "one").unwrap();
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qm", "one"];
        for arguments in [&["init", "-q"][..], &["add", "a.txt"][..], &identity[..]] {
            git(at, arguments).unwrap_or_else(|| panic!("git {arguments:?} failed"));
        }
        let clean = config_revision(at, "abc");
        assert!(clean.commit.is_some() && !clean.dirty, "{clean:?}");
        std::fs::write(at.join("a.txt"), "two").unwrap();
        assert!(config_revision(at, "abc").dirty);
    }

    #[test]
    fn moving_a_byte_between_files_changes_the_content_hash() {
        let one = content_hash([("a", b"xy".as_slice()), ("b", b"z".as_slice())]);
        let two = content_hash([("a", b"x".as_slice()), ("b", b"yz".as_slice())]);
        assert_ne!(one, two);
    }
}
