//! Where the filesystem server may go, and the one way from a caller's path to an open file or directory.
//!
//! Every root is a directory handle (`root.rs`). A path is resolved below its handle, component by component, by the kernel (`openat2`)
//! or by cap-std's walk; there is no check that a race could invalidate between the check and the use. A path that can't be opened as it is
//! gets a second try in another spelling (`spelling.rs`), through the same handles.

use super::root::{Home, Lost, Root, Station, real_path};
use super::{Refusal, spelling};
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use nix::fcntl::OFlag;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

/// All roots of one server, as they were found at one moment.
#[derive(Debug)]
pub(super) struct Roots {
    /// In the order of the configuration; each open, or why it isn't.
    roots: Vec<Result<Root, Lost>>,
    station: Station,
    /// Where a root is above it: only such a root can lead into it.
    home: Option<Home>,
}

/// A path of a caller, placed below one of the roots.
#[derive(Debug)]
pub(super) struct Place<'a> {
    roots: &'a Roots,
    root: &'a Root,
    /// Below the root; `.` is the root itself.
    below: PathBuf,
    /// As the caller wrote it, for messages.
    asked: &'a str,
}

impl Roots {
    /// Opens every root. One that can't be opened is kept with the reason.
    pub(super) fn open(given: impl IntoIterator<Item = PathBuf>, station: Station) -> Self {
        let home = station.home();
        let roots: Vec<_> = given.into_iter().map(|root| Root::open(root, home.as_ref())).collect();
        let home = home.filter(|home| roots.iter().flatten().any(|root| home.real.starts_with(&root.real)));
        Self { roots, station, home }
    }

    /// The first root that isn't open.
    pub(super) fn lost(&self) -> Option<&Lost> {
        self.roots.iter().find_map(|root| root.as_ref().err())
    }

    /// The roots opened again, where one of the paths leads to another directory by now, or to none, or to one again: a directory is replaced
    /// by a checkout, a link by a deployment, a disk is mounted. A handle would go on with the old one and report success.
    pub(super) fn renewed(&self) -> Option<Self> {
        let same = self.roots.iter().all(|root| root.as_ref().is_ok_and(Root::is_current));
        (!same).then(|| Self::open(self.given().map(Path::to_owned), self.station.clone()))
    }

    /// The roots as they were configured.
    pub(super) fn given(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|root| match root {
            Ok(root) => root.given.as_path(),
            Err(lost) => lost.given.as_path(),
        })
    }

    /// Finds the root of `asked`: the deepest that contains an absolute path, the first one for a relative path.
    /// `~` is the home of the user who runs the station.
    pub(super) fn place<'a>(&'a self, asked: &'a str) -> Result<Place<'a>, Refusal> {
        if is_of_windows(asked) {
            return Err(Refusal::new(format!("Access denied - Windows-style path received on a POSIX host: {asked}")));
        }
        let path = expanded(asked);
        let found = if path.is_absolute() {
            self.containing(&path)
        } else {
            self.roots.first().map(|root| (root.as_ref(), path.as_path()))
        };
        let (root, below) = found.ok_or_else(|| self.outside(asked))?;
        let root = root.map_err(|lost| Refusal::new(format!("{asked}: {lost}")))?;
        let below = if below.as_os_str().is_empty() { PathBuf::from(".") } else { below.to_owned() };
        Ok(Place { roots: self, root, below, asked })
    }

    /// The deepest root that contains an absolute path, or why that isn't open, and the path below it.
    pub(super) fn containing<'a, 'p>(&'a self, path: &'p Path) -> Option<(Result<&'a Root, &'a Lost>, &'p Path)> {
        let below = self.roots.iter().filter_map(|root| match root {
            Ok(open) => Some((root, open.strip(path)?, &open.real)),
            Err(lost) => Some((root, path.strip_prefix(&lost.given).ok()?, &lost.given)),
        });
        let (root, below, _) = below.max_by_key(|(_, _, at)| at.components().count())?;
        Some((root.as_ref(), below))
    }

    fn outside(&self, asked: &str) -> Refusal {
        let allowed: Vec<_> = self.given().map(|root| root.display().to_string()).collect();
        Refusal::new(format!("Access denied - path outside allowed directories: {asked} not in {}", allowed.join(", ")))
    }
}

/// `C:\\x` would be an odd name in the first root, and whoever asks for it means something else.
fn is_of_windows(asked: &str) -> bool {
    let mut chars = asked.chars();
    let drive = chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':');
    drive && matches!(chars.next(), None | Some('/' | '\\'))
}

/// With the home of the user who runs the station for `~`.
pub(in crate::gateway::builtin) fn expanded(asked: &str) -> PathBuf {
    let below = asked.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match below.zip(std::env::home_dir()) {
        Some((below, user)) => user.join(below.trim_start_matches('/')),
        None => PathBuf::from(asked),
    }
}

impl<'a> Place<'a> {
    /// Opens a regular file for reading. Pipes and devices are refused, without waiting for a writer first.
    pub(super) fn open_file(&self) -> Result<File, Refusal> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let opened = self.reach(|dir, below| dir.open_with(below, &options));
        let (_, file) = opened.map_err(|cause| self.refusal(&cause))?;
        self.check(&file)?;
        let kind = file.metadata().map_err(|cause| self.refusal(&cause))?;
        if kind.is_dir() {
            return Err(Refusal::new(format!("{} is a directory, not a file", self.asked)));
        }
        if !kind.is_file() {
            return Err(Refusal::new(format!("{} is not a regular file", self.asked)));
        }
        Ok(file)
    }

    /// Opens a directory.
    pub(super) fn open_dir(&self) -> Result<Dir, Refusal> {
        let (_, dir) = self.reach(|dir, below| dir.open_dir(below)).map_err(|cause| self.refusal(&cause))?;
        self.check(&dir)?;
        Ok(dir)
    }

    /// The metadata of whatever is there. It isn't opened, since a pipe must not be opened just to be looked at; the directory that contains
    /// it is what is checked.
    pub(super) fn metadata(&self) -> Result<cap_std::fs::Metadata, Refusal> {
        let target = self.target().map_err(|cause| self.refusal(&cause))?;
        let found = match target.split() {
            Some((parent, name)) => parent.open_dir()?.metadata(name),
            None => target.root.dir.dir_metadata(),
        };
        let found = found.map_err(|cause| self.refusal(&cause))?;
        if found.is_dir() {
            target.open_dir()?;
        }
        Ok(found)
    }

    /// The directory that a file of this name is written into, opened, and the name there. A symbolic link is followed to its target
    /// inside the roots, so that writing replaces the target and not the link; one to a file that doesn't exist is refused.
    pub(super) fn open_parent(&self) -> Result<(Dir, PathBuf), Refusal> {
        let target = match self.target() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => self.same(self.below.clone()),
            target => target.map_err(|cause| self.refusal(&cause))?,
        };
        let (parent, name) = target.split().ok_or_else(|| Refusal::new(format!("{} is not a file", self.asked)))?;
        let dir = parent.open_dir().map_err(|refusal| match refusal.is_not_found() {
            true => Refusal::new(format!("Parent directory does not exist: {}", self.asked)),
            false => refusal,
        })?;
        if dir.symlink_metadata(&name).is_ok_and(|found| found.is_symlink()) {
            let asked = self.asked;
            return Err(Refusal::new(format!(
                "{asked} is a link to a file that doesn't exist: write that file itself"
            )));
        }
        Ok((dir, name))
    }

    /// The directory that an entry is taken out of or put into, opened, and the name there. The entry itself isn't followed where it is a
    /// link, but found in either Unicode form. One that has the station's home in it is refused.
    pub(super) fn open_entry(&self) -> Result<(Dir, PathBuf), Refusal> {
        let (parent, name) = self.split().ok_or_else(|| {
            Refusal::new(format!("{} is an allowed directory itself, or ends with `..`: it can't be moved", self.asked))
        })?;
        let dir = parent.open_dir()?;
        let name = match dir.symlink_metadata(&name) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let found = spelling::equivalent(&dir, Path::new(""), name.as_os_str());
                found.map_err(|cause| self.refusal(&cause))?.map_or(name, PathBuf::from)
            }
            _ => name,
        };
        if self.roots.home.is_some() && dir.symlink_metadata(&name).is_ok_and(|found| found.is_dir()) {
            let entry = dir.open_dir(&name).map_err(|cause| self.refusal(&cause))?;
            self.check(&entry)?;
            self.check_above(&entry)?;
        }
        Ok((dir, name))
    }

    /// Makes this directory and those above it that are missing, each inside the one before it, and each below the root.
    pub(super) fn create_dir(&self) -> Result<(), Refusal> {
        let mut missing: Vec<&std::ffi::OsStr> = Vec::new();
        let mut above = self.below.as_path();
        let existing = loop {
            match self.same(above.to_owned()).target() {
                Ok(existing) => break existing,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(self.refusal(&cause)),
            }
            let Some(Component::Normal(name)) = above.components().next_back() else {
                return Err(Refusal::new(format!("{}: `..` follows a directory that doesn't exist", self.asked)));
            };
            missing.push(name);
            above = above.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        };
        let mut dir = existing.open_dir()?;
        for name in missing.into_iter().rev() {
            match dir.create_dir(name) {
                Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(self.refusal(&cause)),
                // Somebody else made it meanwhile, or it is a link to nowhere, which can't be opened.
                _ => dir = dir.open_dir(name).map_err(|cause| self.refusal(&cause))?,
            }
            self.check(&dir)?;
        }
        Ok(())
    }

    /// The place of an entry of this directory.
    pub(super) fn below(&self, name: impl AsRef<Path>) -> Result<Place<'a>, Refusal> {
        let mut place = self.target().map_err(|cause| self.refusal(&cause))?;
        place.below.push(name);
        Ok(place)
    }

    /// Whether what a walk found at `path` below this directory can be reached, where it is a link too.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        self.below(path).and_then(|entry| entry.metadata()).is_ok()
    }

    /// The true path, all links resolved.
    pub(super) fn real_path(&self) -> Result<PathBuf, Refusal> {
        let target = self.target().map_err(|cause| self.refusal(&cause))?;
        Ok(target.root.real.join(target.below).components().collect())
    }

    /// As the caller wrote it.
    pub(super) fn asked(&self) -> &'a str {
        self.asked
    }

    /// This place with all links resolved, inside the roots.
    fn target(&self) -> io::Result<Place<'a>> {
        let (root, below) = self.reach(|dir, below| dir.canonicalize(below))?;
        Ok(Place { roots: self.roots, root, below, asked: self.asked })
    }

    /// What `open` finds at this place, and the root that it is below. A path that can't be opened as it is, is tried again in another
    /// spelling.
    fn reach<T>(&self, open: impl Fn(&Dir, &Path) -> io::Result<T>) -> io::Result<(&'a Root, T)> {
        match open(&self.root.dir, &self.below) {
            Err(cause) if spelling::may_help(&cause) => {
                let (root, below) = spelling::other(self.roots, self.root, &self.below)?;
                Ok((root, open(&root.dir, &below)?))
            }
            opened => Ok((self.root, opened?)),
        }
    }

    /// The place of the containing directory, and the last name.
    fn split(&self) -> Option<(Place<'a>, PathBuf)> {
        let Some(Component::Normal(name)) = self.below.components().next_back() else { return None };
        let parent = self.below.parent().filter(|parent| !parent.as_os_str().is_empty());
        Some((self.same(parent.unwrap_or(Path::new(".")).to_owned()), name.into()))
    }

    fn same(&self, below: PathBuf) -> Place<'a> {
        Place { roots: self.roots, root: self.root, below, asked: self.asked }
    }

    /// Whether a walk may enter `dir`, which it found below this place.
    pub(super) fn may_enter(&self, dir: &Dir) -> bool {
        self.check(dir).is_ok()
    }

    /// Refuses what turned out to belong to the station. The handle is asked where it is, so that neither links nor renames matter.
    fn check(&self, opened: &impl AsFd) -> Result<(), Refusal> {
        let Some(home) = &self.roots.home else { return Ok(()) };
        match real_path(opened) {
            Ok(real) if !home.owns(&real) => Ok(()),
            _ => Err(Refusal::new(format!("Access denied - {} lies inside the station's home", self.asked))),
        }
    }

    /// Refuses a directory that contains the station's home.
    fn check_above(&self, opened: &impl AsFd) -> Result<(), Refusal> {
        let Some(home) = &self.roots.home else { return Ok(()) };
        match real_path(opened) {
            Ok(real) if !home.real.starts_with(&real) => Ok(()),
            _ => Err(Refusal::new(format!("Access denied - {} contains the station's home", self.asked))),
        }
    }

    /// The message for a system call that failed on what a walk found at `path` below this directory.
    pub(super) fn refusal_below(&self, path: &Path, cause: &io::Error) -> Refusal {
        let asked = Path::new(self.asked).join(path).display().to_string();
        Place { roots: self.roots, root: self.root, below: self.below.clone(), asked: &asked }.refusal(cause)
    }

    /// The message for a failed system call.
    pub(super) fn refusal(&self, cause: &io::Error) -> Refusal {
        let asked = self.asked;
        match cause.kind() {
            io::ErrorKind::NotFound => Refusal::not_found(format!("ENOENT: no such file or directory, open '{asked}'")),
            io::ErrorKind::NotADirectory => Refusal::new(format!("ENOTDIR: not a directory, open '{asked}'")),
            _ if spelling::leaves_root(cause) => {
                Refusal::new(format!("Access denied - path or symlink target outside allowed directories: {asked}"))
            }
            _ => Refusal::new(format!("{asked}: {cause}")),
        }
    }
}
