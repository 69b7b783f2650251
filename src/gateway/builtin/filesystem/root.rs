//! One root of the filesystem server: a directory handle, and whether the path of the configuration still leads to it.

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt as _};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One directory that callers may reach.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) dir: Dir,
    /// As it was configured; callers may use this spelling too.
    pub(super) given: PathBuf,
    /// Where the handle was when it was opened.
    pub(super) real: PathBuf,
}

/// A root that can't be opened.
#[derive(Debug)]
pub(super) struct Lost {
    /// As it was configured.
    pub(super) given: PathBuf,
    cause: io::Error,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root `{}`: {}", self.given.display(), self.cause)
    }
}

/// The station's directory and the part of it that may be reached, as they are called.
#[derive(Debug, Clone, Default)]
pub(super) struct Station {
    pub(super) home: Option<PathBuf>,
    pub(super) open: Option<PathBuf>,
}

/// The station's own files, which no root may give access to.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) real: PathBuf,
    /// The part of it that may be reached.
    open: Option<PathBuf>,
}

impl Station {
    /// Where the home is now. The part of it that may be reached is only that under its own name: a link from there to another part opens
    /// nothing, since whoever can write the files of an environment could open everything with one. A link out of the home needs nothing
    /// opened, and one to what the home lies in must open nothing.
    pub(super) fn home(&self) -> Option<Home> {
        let real = self.home.as_ref()?.canonicalize().ok()?;
        let open = self.open.as_ref().and_then(|open| {
            let found = open.canonicalize().ok()?;
            let itself = open.parent()?.canonicalize().ok()?.join(open.file_name()?);
            (found == itself && found.starts_with(&real)).then_some(found)
        });
        Some(Home { real, open })
    }
}

impl Home {
    /// Whether `real`, the true path of something that was opened, is the station's own.
    pub(super) fn owns(&self, real: &Path) -> bool {
        real.starts_with(&self.real) && !self.open.as_ref().is_some_and(|open| real.starts_with(open))
    }
}

impl Root {
    /// Opens `given`, which must not lie inside the home.
    pub(super) fn open(given: PathBuf, home: Option<&Home>) -> Result<Self, Lost> {
        let opened = Dir::open_ambient_dir(&given, ambient_authority()).and_then(|dir| {
            let real = real_path(&dir)?;
            if home.is_some_and(|home| home.owns(&real)) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it lies inside the station's home"));
            }
            Ok((dir, real))
        });
        match opened {
            Ok((dir, real)) => Ok(Self { dir, given, real }),
            Err(cause) => Err(Lost { given, cause }),
        }
    }

    /// Whether the configured path still leads to the directory of the handle, and that is where it was. The handle keeps the number of its
    /// directory from being given to another.
    pub(super) fn is_current(&self) -> bool {
        let (Ok(opened), Ok(now)) = (self.dir.dir_metadata(), std::fs::metadata(&self.given)) else { return false };
        (opened.dev(), opened.ino()) == (now.dev(), now.ino()) && real_path(&self.dir).is_ok_and(|at| at == self.real)
    }

    /// `path` below this root, whichever of the root's spellings it begins with.
    pub(super) fn strip<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.strip_prefix(&self.given).or_else(|_| path.strip_prefix(&self.real)).ok()
    }
}

/// Where an open handle really is.
#[cfg(target_os = "linux")]
pub(super) fn real_path(opened: &impl AsFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd()))
}

/// Where an open handle really is.
#[cfg(target_os = "macos")]
pub(super) fn real_path(opened: &impl AsFd) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    nix::fcntl::fcntl(opened.as_fd(), nix::fcntl::FcntlArg::F_GETPATH(&mut path))?;
    Ok(path)
}
