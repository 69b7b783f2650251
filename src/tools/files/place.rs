//! One file of an environment on the disk: what is there, and the step that puts another content in its place without losing what somebody
//! saves at the same moment.
//!
//! The new content is written beside the file and synced first, so that little can fail later. Then the two files exchange their names in
//! one step, and what came out is looked at: if it isn't what the change was made against, it goes back. So a save by rename is never lost,
//! and one in place only if its writer had opened the file before the exchange and writes after the look. File systems that can't
//! exchange (NFS, some of FUSE) get a look and a rename: there, also a save by rename is lost if it falls between these two.

use crate::config::{FileProblem, read_file, revision_of};
use crate::home::Home;
use crate::store::PendingFile;
use crate::tools::Environment;
use rustix::fs::{Access, CWD, RenameFlags, access, renameat_with};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// How the name of a new content ends; it begins with a dot and the name of its file. Such files are nobody's but ours.
const SUFFIX: &str = ".stn-new";

/// No file of an environment is larger (`config/file.rs`): what is, is read no further.
const MOST_BYTES: u64 = 1024 * 1024 + 1;

/// How often somebody may save in the very moment in which their last save is given back.
const MOST_EXCHANGES: u32 = 64;

/// Where the files of an environment are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// What `file` of a row is relative to.
    base: PathBuf,
    /// Nothing outside of it is read.
    root: PathBuf,
}

impl Place {
    pub(super) fn of(home: &Home, environment: &Environment) -> Self {
        Self { base: home.config_dir(), root: home.environment_dir(&environment.name) }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.base.join(file)
    }

    /// The file that a change of `file` is about: where that is a link, what it leads to, so that it stays one. Never one outside.
    fn target(&self, file: &str) -> io::Result<PathBuf> {
        let path = self.path(file);
        let directory = parent(&path)?;
        fs::create_dir_all(directory)?;
        let target = match path.canonicalize() {
            Ok(target) => target,
            Err(_) => directory.canonicalize()?.join(path.file_name().ok_or(ErrorKind::InvalidInput)?),
        };
        if !target.starts_with(self.root.canonicalize()?) {
            return Err(io::Error::other("it is behind a link out of its environment"));
        }
        Ok(target)
    }

    pub(super) fn read(&self, file: &str) -> Result<Option<Vec<u8>>, FileProblem> {
        read_file(&self.root, &self.path(file), file)
    }

    /// Makes everything ready that can fail about a change of `file`: its next content lies on the disk, or the file could be removed.
    pub(super) fn prepare(&self, file: &str, bytes: Option<&[u8]>) -> io::Result<Option<NewFile>> {
        if let Some(bytes) = bytes {
            return NewFile::write(self.target(file)?, bytes).map(Some);
        }
        let path = self.path(file);
        if fs::symlink_metadata(&path).is_ok() {
            access(parent(&path)?, Access::WRITE_OK | Access::EXEC_OK)?;
        }
        Ok(None)
    }

    /// Does what was promised, with the content that was prepared for it, if one was. A file that somebody changed by hand meanwhile is
    /// theirs: it stays, the next sync takes it up, and the answer is `false`.
    pub(super) fn keep(&self, pending: &PendingFile, prepared: Option<NewFile>) -> io::Result<bool> {
        let kept = match self.read(&pending.file) {
            Ok(found) if found == pending.bytes => self.give_back_after_a_crash(pending),
            Ok(found) if is_due(pending, found.as_deref()) => self.put(pending, prepared),
            _ => Ok(false),
        }?;
        if !kept {
            let problem = self.read(&pending.file).err().map(|problem| problem.message);
            tracing::warn!(file = pending.file, problem, "the file was changed by hand meanwhile and is left alone");
        }
        Ok(kept)
    }

    fn put(&self, pending: &PendingFile, prepared: Option<NewFile>) -> io::Result<bool> {
        let Some(bytes) = &pending.bytes else { return remove(&self.path(&pending.file), pending) };
        let target = self.target(&pending.file)?;
        let mut new = match prepared.filter(|new| new.target == target) {
            Some(new) => new,
            None => NewFile::write(target, bytes)?,
        };
        let kept = new.replace(bytes, pending.replaces.as_deref(), exchange)?;
        sync_directory(&new.target)?;
        Ok(kept)
    }

    /// What was promised is so. Only if the process ended in the moment between two exchanges, it stands in the place of what somebody
    /// had saved, and that lies beside it still.
    fn give_back_after_a_crash(&self, pending: &PendingFile) -> io::Result<bool> {
        let Some(bytes) = &pending.bytes else {
            let path = self.path(&pending.file);
            let left = beside(&path)?;
            return match content(&left) {
                Some(found) if !is_due(pending, Some(&found)) => is_new(rename_new(&left, &path)).map(|given| !given),
                Some(_) => fs::remove_file(&left).map(|()| true),
                None => Ok(true),
            };
        };
        let target = self.target(&pending.file)?;
        let left = beside(&target)?;
        match content(&left) {
            Some(found) if !bytes.starts_with(&found) && !is_due(pending, Some(&found)) => {
                fs::rename(&left, &target)?;
                sync_directory(&target).map(|()| false)
            }
            Some(_) => fs::remove_file(&left).map(|()| true),
            None => Ok(true),
        }
    }

    /// Removes what crashes have left of changes that nothing was promised about. Files in `owed` may need theirs.
    pub(super) fn sweep(&self, owed: &[String]) {
        let Ok(root) = self.root.canonicalize() else { return };
        let owed: Vec<PathBuf> = owed.iter().filter_map(|file| beside(&self.target(file).ok()?).ok()).collect();
        // Where `agents` is a link, it counts where it leads to, and nothing out of this environment is touched.
        let agents = root.join("agents").canonicalize().ok().filter(|agents| agents.starts_with(&root));
        for directory in std::iter::once(root.clone()).chain(agents) {
            let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
            let left = entries.filter_map(|entry| left_at(&entry.path()));
            for left in left.filter(|left| left.starts_with(&root) && !owed.contains(left)) {
                if let Err(error) = fs::remove_file(&left) {
                    let file = left.display();
                    tracing::warn!(%file, %error, "what was left of an interrupted change can't be removed");
                }
            }
        }
    }
}

/// What a crash may have left at this path, or where it leads to.
fn left_at(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_encoded_bytes();
    let left = if name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes()) {
        path.to_owned()
    } else if path.is_symlink() {
        beside(&path.canonicalize().ok()?).ok()?
    } else {
        return None;
    };
    fs::symlink_metadata(&left).is_ok_and(|found| found.is_file()).then_some(left)
}

/// What was `found` is still what the change was made against.
pub(super) fn is_due(pending: &PendingFile, found: Option<&[u8]>) -> bool {
    found.map(revision_of) == pending.replaces
}

/// The next content of a file, on the disk beside it. Removed if it isn't put in its place.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    target: PathBuf,
    /// It has nothing that somebody else wrote.
    may_go: bool,
}

impl NewFile {
    /// Writes and syncs it. What was allowed with the old file is allowed with the new one.
    fn write(target: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        let path = beside(&target)?;
        let named = |cause: io::Error| io::Error::new(cause.kind(), format!("`{}`: {cause}", path.display()));
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(named(cause)),
            _ => {}
        }
        let mut file = File::create_new(&path).map_err(named)?;
        let new = Self { path: path.clone(), target, may_go: true };
        let mut fill = || {
            if let Ok(old) = fs::metadata(&new.target) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(bytes)?;
            file.sync_all()
        };
        fill().map_err(named)?;
        Ok(new)
    }

    /// `ours`, which it has, comes in the place of what has the revision `replaces`. `false`: somebody was quicker, and the file has
    /// the last that they saved.
    fn replace(
        &mut self,
        ours: &[u8],
        replaces: Option<&str>,
        mut exchange: impl FnMut(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<bool> {
        let (path, target) = (self.path.clone(), self.target.clone());
        if replaces.is_none() {
            return is_new(rename_new(&path, &target));
        }
        match exchange(&path, &target) {
            Ok(()) => self.may_go = false,
            Err(cause) if cause.kind() == ErrorKind::Unsupported => {
                if content(&target).as_deref().map(revision_of).as_deref() != replaces {
                    return Ok(false);
                }
                return fs::rename(&path, &target).map(|()| true);
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound && path.exists() => return Ok(false),
            Err(cause) => return Err(cause),
        }
        let mut taken = content(&path);
        if taken.as_deref().map(revision_of).as_deref() == replaces {
            self.may_go = true;
            return Ok(true);
        }
        let mut placed = Some(ours.to_vec());
        for _ in 0..MOST_EXCHANGES {
            match exchange(&path, &target) {
                Ok(()) => {}
                // Whoever saves by way of two renames has none for a moment.
                Err(cause) if cause.kind() == ErrorKind::NotFound => {
                    self.may_go = is_new(rename_new(&path, &target)).is_ok();
                    return Ok(false);
                }
                Err(cause) => return Err(cause),
            }
            let found = content(&path);
            if found == placed {
                self.may_go = true;
                return Ok(false);
            }
            // That is what was saved since the last exchange, newer than what it has made place for.
            (placed, taken) = (taken, found);
        }
        fs::rename(&path, &target).map(|()| false)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.may_go {
            let _is_in_its_place = fs::remove_file(&self.path);
        }
    }
}

/// Removes the file, or the link, and gives it back if it isn't what was to be removed. After a crash it stays gone: whoever promised
/// that is about to forget it.
fn remove(path: &Path, pending: &PendingFile) -> io::Result<bool> {
    let taken = beside(path)?;
    match fs::remove_file(&taken) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    fs::rename(path, &taken)?;
    // A link has another name now, and leads to where it led.
    let is_due = is_due(pending, taken.canonicalize().ok().and_then(|found| content(&found)).as_deref());
    if is_due || !is_new(rename_new(&taken, path))? {
        fs::remove_file(&taken)?;
    }
    sync_directory(path)?;
    Ok(is_due)
}

/// Where the next content of `target` is prepared: in its own directory, because names are exchanged within one file system only.
fn beside(target: &Path) -> io::Result<PathBuf> {
    let mut hidden = OsString::from(".");
    hidden.push(target.file_name().ok_or(ErrorKind::InvalidInput)?);
    hidden.push(SUFFIX);
    Ok(parent(target)?.join(hidden))
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| ErrorKind::InvalidInput.into())
}

/// The content of a regular file that can be read.
fn content(path: &Path) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Both files change their names in one step.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(|cause| match cause {
        Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => ErrorKind::Unsupported.into(),
        cause => cause.into(),
    })
}

/// Never replaces anything.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => renamed.map_err(Into::into),
    }
}

/// `false`: there is something else.
fn is_new(renamed: io::Result<()>) -> io::Result<bool> {
    match renamed {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(false),
        renamed => renamed.map(|()| true),
    }
}

fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(parent(of)?)?.sync_all()
}

#[cfg(test)]
mod tests;
