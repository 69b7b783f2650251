//! Who owns the home: an advisory lock (flock(2)) on `station.lock`, which the kernel releases however its holder ends. The file's text
//! says who holds it, for messages; only the lock itself decides.

use super::{Home, failed};
use crate::domain::Timestamp;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// As what a process owns a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerMode {
    /// `stn serve` in the foreground.
    Serve,
    /// Spawned by a client, ends when idle.
    Background,
    /// A short command, for its one call.
    Command,
}

impl OwnerMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Background => "background",
            Self::Command => "command",
        }
    }
}

/// The text of `station.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerInfo {
    pub pid: u32,
    pub version: String,
    pub mode: OwnerMode,
    pub started_at: Timestamp,
    /// Where the owner listens: a client with other `XDG_RUNTIME_DIR` or `TMPDIR` would look elsewhere.
    pub socket: PathBuf,
    /// Where it listens for HTTP, if it does.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
}

/// Ownership of a home, until dropped. Drop it last: after the listener, and after the stores have closed.
#[derive(Debug)]
pub struct OwnerLock {
    file: Flock<File>,
    path: PathBuf,
    info: OwnerInfo,
}

impl OwnerLock {
    /// Takes the lock if it is free; `None` if another process holds it.
    pub fn try_acquire(home: &Home, mode: OwnerMode, now: Timestamp) -> Result<Option<Self>> {
        let path = home.lock();
        let Some(file) = lock_file(home)? else { return Ok(None) };
        let info = OwnerInfo {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode,
            started_at: now,
            socket: home.socket().to_owned(),
            http_listen: None,
        };
        let lock = Self { file, path, info };
        // A file that was deleted or replaced between opening and locking excludes nobody.
        if !lock.is_in_place() {
            return Ok(None);
        }
        lock.write_info().map_err(|cause| failed("write", &lock.path, cause))?;
        Ok(Some(lock))
    }

    pub fn info(&self) -> &OwnerInfo {
        &self.info
    }

    /// Writes into the file where the owner listens for HTTP.
    pub fn set_http_listen(&mut self, address: SocketAddr) -> Result<()> {
        self.info.http_listen = Some(address);
        self.write_info().map_err(|cause| failed("write", &self.path, cause))
    }

    /// False once the lock file is gone or replaced: the home was deleted under its owner, who should then end.
    pub fn is_in_place(&self) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
            _ => false,
        }
    }

    fn write_info(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.info)?;
        self.file.set_len(0)?;
        self.file.write_all_at(&text, 0)
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Still under the lock: whoever reads the file next is not told of an owner that has gone.
        let _kept = self.file.set_len(0);
    }
}

fn lock_file(home: &Home) -> Result<Option<Flock<File>>> {
    let path = home.lock();
    let cant_open = |cause| failed("open the lock", &path, cause).hint("check that the home exists and is yours");
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path);
    match Flock::lock(options.map_err(cant_open)?, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Some(file)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed("lock", &path, errno.into())),
    }
}

/// Who owns `home`; `None` when nobody does, or somebody has only just taken it. The text of an owner that crashed is not believed: only
/// the lock itself says that somebody holds it.
pub fn read_owner(home: &Home) -> Option<OwnerInfo> {
    let path = home.lock();
    if !is_held(&path) {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Whether somebody has the lock. A shared lock is tried for it, so that several who look don't see each other; whoever tries to own the
/// home in that moment tries again.
fn is_held(path: &Path) -> bool {
    let options = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
    options.is_ok_and(|file| matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK))))
}

/// The error of a home that another process owns.
pub(super) fn in_use(home: &Home) -> Error {
    let root = home.root().display();
    match read_owner(home) {
        Some(owner) => Error::unavailable(format!(
            "the home `{root}` is in use by process {} (stn {}, {})",
            owner.pid,
            owner.version,
            owner.mode.as_str()
        ))
        .hint(format!("wait for it, or end it with `kill {}`", owner.pid)),
        None => Error::unavailable(format!("the home `{root}` is in use by another process")).hint("try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestHome;
    use super::*;

    fn take(home: &Home) -> Option<OwnerLock> {
        OwnerLock::try_acquire(home, OwnerMode::Serve, Timestamp::from_millis(7)).unwrap()
    }

    #[test]
    fn one_holder_at_a_time_and_the_file_says_who() {
        let home = TestHome::created();
        let held = take(&home).unwrap();
        assert!(take(&home).is_none());
        let owner = read_owner(&home).unwrap();
        assert_eq!(&owner, held.info());
        assert_eq!((owner.pid, owner.mode, owner.started_at.as_millis()), (std::process::id(), OwnerMode::Serve, 7));
        drop(held);
        assert_eq!(read_owner(&home), None);
        assert!(take(&home).is_some());
    }

    #[test]
    fn the_text_of_a_crashed_owner_is_not_believed_even_if_its_pid_is_in_use_again() {
        let home = TestHome::created();
        let info = OwnerInfo { pid: 1, ..take(&home).unwrap().info().clone() };
        fs::write(home.lock(), serde_json::to_vec(&info).unwrap()).unwrap();
        assert_eq!(read_owner(&home), None);
        let taken = take(&home).unwrap();
        assert_eq!(read_owner(&home).as_ref(), Some(taken.info()));
    }

    #[test]
    fn the_file_says_where_its_holder_listens() {
        let home = TestHome::created();
        let mut held = take(&home).unwrap();
        let address = "127.0.0.1:8080".parse().unwrap();
        held.set_http_listen(address).unwrap();
        assert_eq!(read_owner(&home).unwrap().http_listen, Some(address));
    }

    #[test]
    fn a_lock_file_that_vanished_is_noticed_by_its_holder() {
        let home = TestHome::created();
        let held = take(&home).unwrap();
        assert!(held.is_in_place());
        fs::remove_file(home.lock()).unwrap();
        assert!(!held.is_in_place());
    }
}
