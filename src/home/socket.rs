//! The owner's end of the local socket.

use super::layout::short_hash;
use super::private::refuse_exposed;
use super::{Home, OwnerLock, PeerCheck, Refusal, failed};
use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// The local socket of a home, bound and checked. The file goes when this is dropped.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, to tell our file from a successor's.
    file: (u64, u64),
    check: PeerCheck,
}

impl LocalListener {
    /// Binds the socket of `home` with mode 0600, replacing what a crashed owner has left: holding `lock` proves that it is stale.
    /// Needs a tokio runtime.
    pub fn bind(home: &Home, lock: &OwnerLock) -> Result<Self> {
        let path = lock.info().socket.clone();
        let directory = path.parent().unwrap_or(home.root()).to_owned();
        if directory != home.state_dir() {
            private_directory(&directory)?;
        }
        // Bound under another name, narrowed, then moved into place: at no moment may anybody else connect, and a client finds either
        // the old socket or the new one. The other name is not longer than the final one.
        let temporary = directory.join(format!(".{}", &short_hash(&home.state_dir())[..10]));
        let bound = bind_at(&temporary, &path);
        if bound.is_err() {
            let _leftover = fs::remove_file(&temporary);
        }
        let (listener, file) = bound.map_err(|cause| failed("listen on", &path, cause))?;
        Ok(Self { listener, path, file, check: PeerCheck::of_this_process() })
    }

    /// The next peer that may come in. Others are told why not and dropped. An error means that the system can't accept just now, for
    /// instance for want of file descriptors; wait a moment and call again.
    pub async fn accept_checked(&self) -> Result<UnixStream> {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(cause) if cause.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(cause) => {
                    return Err(Error::unavailable("can't accept a connection on the local socket").source(cause));
                }
            };
            match stream.peer_cred().map_err(|_| Refusal::NoPid).and_then(|peer| self.check.admit(&peer)) {
                Ok(()) => return Ok(stream),
                Err(refusal) => refuse(&stream, &refusal),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn bind_at(temporary: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    match fs::remove_file(temporary) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let listener = UnixListener::bind(temporary)?;
    fs::set_permissions(temporary, Permissions::from_mode(0o600))?;
    let file = identity(&fs::symlink_metadata(temporary)?);
    fs::rename(temporary, path)?;
    Ok((listener, file))
}

fn identity(facts: &fs::Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

/// A directory for sockets outside the home: ours alone, or refused, because whoever owns it could put another socket there.
fn private_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(failed("create", path, cause)),
        _ => {}
    }
    let facts = fs::symlink_metadata(path).map_err(|cause| failed("examine", path, cause))?;
    if !facts.is_dir() {
        return Err(super::misconfigured(format!("`{}` is not a directory", path.display())));
    }
    refuse_exposed(path, &facts).map_err(|refusal| {
        refusal.hint("set XDG_RUNTIME_DIR to a directory that is yours alone, or STN_HOME to a shorter path")
    })
}

/// One answer that every HTTP client understands; what it wanted is not read. A peer that doesn't take it at once goes without.
fn refuse(stream: &UnixStream, refusal: &Refusal) {
    tracing::warn!(%refusal, "refused a peer on the local socket");
    let error = Error::permission_denied(format!("the local socket is closed to you: {refusal}"));
    let body = serde_json::to_string(&error.report()).unwrap_or_default();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let _unheard = stream.try_write(answer.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestHome;
    use super::super::{Layout, OwnerMode};
    use super::*;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn the_socket_is_the_owner_s_alone_and_goes_with_it() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        assert_eq!(fs::metadata(home.socket()).unwrap().mode() & 0o777, 0o600);
        let (connected, accepted) = tokio::join!(UnixStream::connect(home.socket()), listener.accept_checked());
        assert!(connected.is_ok() && accepted.is_ok());
        drop(listener);
        assert!(!home.socket().exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_successor_s_is_left_alone() {
        let home = TestHome::created();
        let (lock, first) = home.own(OwnerMode::Serve);
        let second = LocalListener::bind(&home, &lock).unwrap();
        drop(first);
        let (connected, accepted) = tokio::join!(UnixStream::connect(home.socket()), second.accept_checked());
        assert!(connected.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn a_long_path_gets_a_private_directory_and_an_exposed_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = BTreeMap::from([("TMPDIR".to_owned(), directory.path().display().to_string())]);
        let home = Home::at(&directory.path().join("x".repeat(110)), Layout::Home, &scratch).unwrap();
        super::super::create(&home, &[]).unwrap();
        let lock = OwnerLock::try_acquire(&home, OwnerMode::Serve, crate::domain::Timestamp::from_millis(0));
        let lock = lock.unwrap().unwrap();
        drop(LocalListener::bind(&home, &lock).unwrap());
        let private = home.socket().parent().unwrap();
        assert_eq!(fs::metadata(private).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(private, Permissions::from_mode(0o777)).unwrap();
        assert!(LocalListener::bind(&home, &lock).is_err());
    }

    /// A Python program that prints what it reads from the socket whose path it is given.
    #[cfg(target_os = "linux")]
    const READ_SOCKET: &str = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print(s.makefile(newline='').read())";

    #[cfg(target_os = "linux")]
    async fn refusal_of(script: &str) -> String {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let child = tokio::process::Command::new("python3").arg("-c").arg(script).arg(home.socket()).output();
        let answer = tokio::select! {
            _admitted = listener.accept_checked() => panic!("it was admitted"),
            output = child => output.unwrap(),
        };
        String::from_utf8(answer.stdout).unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_child_of_the_owner_is_told_that_it_may_not() {
        let text = refusal_of(READ_SOCKET).await;
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(text.contains("was started by the station"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn forking_twice_does_not_hide_a_child_of_the_owner() {
        super::super::Subreaper::start().unwrap();
        // The first child ends; the second connects once it has got another parent.
        let script = format!(
            "import os\np = os.getpid()\nif os.fork(): os._exit(0)\nwhile os.getppid() == p: pass\n{READ_SOCKET}"
        );
        let text = refusal_of(&script).await;
        assert!(text.contains("was started by the station"), "{text}");
    }
}
