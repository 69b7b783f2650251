//! The files that tools change: agents and variables. A change is a row first (committed, with the bytes), then the file, then the row is
//! marked done; whatever a crash leaves open is finished by the next owner.

use crate::config::{FileProblem, Promised, read_file, revision_of};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::store::PendingFile;
use crate::tools::Environment;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Where the files of an environment are.
#[derive(Debug, Clone)]
struct Place {
    /// What `file` of a row is relative to.
    base: PathBuf,
    /// Nothing outside of it is read.
    root: PathBuf,
}

impl Place {
    fn of(home: &Home, environment: &Environment) -> Self {
        Self { base: home.config_dir(), root: home.environment_dir(&environment.name) }
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, FileProblem> {
        read_file(&self.root, &self.base.join(file), file)
    }
}

/// What is on the disk for `file`, a path relative to the home's configuration directory. `None` without such a file. Whoever changes the
/// file calls [`finish`] first: what was promised earlier belongs to what the change is made against.
pub async fn read(home: &Home, environment: &Environment, file: &str) -> Result<Option<Vec<u8>>> {
    let (place, file) = (Place::of(home, environment), file.to_owned());
    let read = blocking(move || Ok(place.read(&file))).await?;
    read.map_err(|problem| {
        Error::conflict(problem.to_string())
            .hint(format!("remove it, or put a readable file there, then run `stn sync {}`", environment.name))
    })
}

/// The files that [`finish`] would write now, for whoever must not write them.
pub async fn promised(home: &Home, environment: &Environment) -> Result<Promised> {
    let (place, pending) = (Place::of(home, environment), environment.store.pending_files().await?);
    blocking(move || {
        let mut promised = Promised::new();
        for file in pending {
            let found = match promised.get(&file.file) {
                Some(bytes) => Ok(bytes.clone()),
                None => place.read(&file.file),
            };
            if found.is_ok_and(|found| is_due(&file, found.as_deref())) {
                promised.insert(file.file, file.bytes);
            }
        }
        Ok(promised)
    })
    .await
}

/// Writes every file that committed rows promise. One that can't be written stays promised and doesn't stop the others. When the very file
/// that is asked for doesn't become what was promised, that is an error.
pub async fn finish(home: &Home, environment: &Environment, asked: Option<&str>) -> Result<()> {
    let (store, mut outcome) = (&environment.store, Ok(()));
    for pending in store.pending_files().await? {
        let (id, place, file) = (pending.id, Place::of(home, environment), pending.file.clone());
        match blocking(move || apply(&place, &pending)).await {
            Ok(done) => {
                store.file_written(id).await?;
                if !done && asked == Some(file.as_str()) {
                    outcome = Err(Error::conflict(format!("`{file}` was changed by hand meanwhile and is left alone"))
                        .hint(format!("look at it, then run `stn sync {}`", environment.name)));
                }
            }
            Err(error) if asked == Some(file.as_str()) => outcome = Err(error),
            Err(error) => tracing::error!(file, ?error, "a file that was promised can't be written"),
        }
    }
    outcome
}

/// A file that somebody changed by hand meanwhile is theirs: it stays, the next sync takes it up, and the answer is `false`.
fn apply(place: &Place, pending: &PendingFile) -> Result<bool> {
    match place.read(&pending.file) {
        Ok(found) if found == pending.bytes => return Ok(true),
        Ok(found) if is_due(pending, found.as_deref()) => {}
        changed => {
            let problem = changed.err().map(|problem| problem.message);
            tracing::warn!(file = pending.file, problem, "the file was changed by hand meanwhile and is left alone");
            return Ok(false);
        }
    }
    let path = place.base.join(&pending.file);
    match &pending.bytes {
        Some(bytes) => replace(&path, bytes),
        None => remove(&path),
    }
    .map(|()| true)
    .map_err(|cause| unwritable(&path, &cause))
}

/// What was `found` is still what the change was made against.
fn is_due(pending: &PendingFile, found: Option<&[u8]>) -> bool {
    found.map(revision_of) == pending.replaces
}

/// Temporary file, fsync, rename, fsync of the directory: after a crash the old or the new content is there, whole. A file that is a link
/// stays one, and what was allowed with the old one is allowed with the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (directory, name) = path.parent().zip(path.file_name()).ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    // Nobody's but ours: what a crash left of it is written anew.
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".stn-new");
    let temporary = directory.join(hidden);
    write_new(&temporary, path, bytes)
        .map_err(|cause| std::io::Error::new(cause.kind(), format!("`{}`: {cause}", temporary.display())))?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

fn write_new(temporary: &Path, like: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match fs::remove_file(temporary) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut file = File::create_new(temporary)?;
    if let Ok(old) = fs::metadata(like) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// After a crash the file stays gone: whoever promised that is about to forget it.
fn remove(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path)?;
    File::open(path.parent().ok_or(ErrorKind::InvalidInput)?)?.sync_all()
}

fn unwritable(path: &Path, cause: &std::io::Error) -> Error {
    Error::unavailable(format!("`{}`: {cause}", path.display())).hint("check the file's permissions and the disk")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|cause| Error::internal("file work was interrupted").source(cause))?
}
