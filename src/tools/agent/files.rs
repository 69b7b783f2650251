//! The agents' files. A change is a row first (committed, with the bytes), then the file, then the row is marked done; whatever a crash
//! leaves open is finished by the next owner.

use crate::config::revision_of;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::store::{PendingFile, Store};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What is on the disk for `file`, a path relative to the home's configuration directory. `None` without such a file.
pub async fn read(home: &Home, file: &str) -> Result<Option<Vec<u8>>> {
    let path = home.config_dir().join(file);
    blocking(move || match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(unwritable(&path, &cause)),
    })
    .await
}

/// Writes every file that committed rows promise. One that can't be written stays promised and doesn't stop the others; it is an error
/// for whoever asks for that very file.
pub async fn finish(home: &Home, store: &dyn Store, asked: Option<&str>) -> Result<()> {
    let mut outcome = Ok(());
    for pending in store.pending_files().await? {
        let (id, path, file) = (pending.id, home.config_dir().join(&pending.file), pending.file.clone());
        match blocking(move || apply(&path, &pending)).await {
            Ok(()) => store.file_written(id).await?,
            Err(error) if asked == Some(file.as_str()) => outcome = Err(error),
            Err(error) => tracing::error!(file, ?error, "a file that was promised can't be written"),
        }
    }
    outcome
}

/// A file that somebody changed by hand meanwhile is theirs: it stays, and the next sync takes it up.
fn apply(path: &Path, pending: &PendingFile) -> Result<()> {
    let found = fs::read(path).ok().map(|bytes| revision_of(&bytes));
    let promised = pending.bytes.as_deref().map(revision_of);
    if found == promised {
        return Ok(());
    }
    if found != pending.replaces {
        tracing::warn!(file = pending.file, "the file was changed by hand meanwhile and is left alone");
        return Ok(());
    }
    match &pending.bytes {
        Some(bytes) => replace(path, bytes),
        None => fs::remove_file(path),
    }
    .map_err(|cause| unwritable(path, &cause))
}

/// Temporary file, fsync, rename, fsync of the directory: after a crash the old or the new content is there, whole.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let mut temporary = PathBuf::from(path);
    temporary.as_mut_os_string().push(".new");
    let mut file = File::create(&temporary)
        .map_err(|cause| std::io::Error::new(cause.kind(), format!("`{}`: {cause}", temporary.display())))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

fn unwritable(path: &Path, cause: &std::io::Error) -> Error {
    Error::unavailable(format!("`{}`: {cause}", path.display())).hint("check the file's permissions and the disk")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|cause| Error::internal("file work was interrupted").source(cause))?
}
