//! The files that tools change: agents and variables. The new content is written beside the file first, then a row is committed that
//! promises it (with the bytes), then the file is put in its place, then the row is marked done; whatever a crash leaves open is finished
//! by the next owner. So what can't be written is refused before it is in force.

mod place;

use crate::config::Promised;
use crate::error::{Error, ErrorKind, Result};
use crate::home::Home;
use crate::tools::Environment;
use place::{NewFile, Place, is_due};
use std::path::Path;

/// What is on the disk for `file`, a path relative to the home's configuration directory. `None` without such a file. Whoever changes the
/// file calls [`finish`] first: what was promised earlier belongs to what the change is made against.
pub async fn read(home: &Home, environment: &Environment, file: &str) -> Result<Option<Vec<u8>>> {
    let (place, file) = (Place::of(home, environment), file.to_owned());
    let read = blocking(move || Ok(place.read(&file))).await?;
    read.map_err(|problem| {
        let fix = problem.hint.clone().unwrap_or_else(|| "remove it, or put a readable file there".to_owned());
        Error::conflict(problem.to_string()).hint(format!("{fix}, then run `stn sync {}`", environment.name))
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

/// A change of a file that can be made: its next content is on the disk, or it can be removed. Nothing of it stays if it isn't kept.
#[derive(Debug)]
pub struct Prepared {
    file: String,
    new: Option<NewFile>,
}

/// Makes a change of `file` ready; `None` removes it. Whoever calls this holds the files' lock, commits what promises the change, and
/// then calls [`keep`]. An error says that nothing is changed.
pub async fn prepare(home: &Home, environment: &Environment, file: &str, bytes: Option<&[u8]>) -> Result<Prepared> {
    let (place, file, bytes) = (Place::of(home, environment), file.to_owned(), bytes.map(<[u8]>::to_vec));
    blocking(move || match place.prepare(&file, bytes.as_deref()) {
        Ok(new) => Ok(Prepared { file, new }),
        Err(cause) => {
            Err(Error::unavailable(format!("nothing is changed: `{file}` can't be written: {cause}")).hint(CHECK))
        }
    })
    .await
}

/// Does what a committed row promises and was prepared. An error says what holds: of the disk ([`ErrorKind::Unavailable`]), that the change
/// is in force all the same; a conflict, that the file is somebody else's.
pub async fn keep(home: &Home, environment: &Environment, prepared: Prepared) -> Result<()> {
    let file = prepared.file.clone();
    settle(home, environment, Some(&file), Some(prepared)).await.map_err(|error| match error.kind() {
        ErrorKind::Unavailable => {
            Error::unavailable(format!("the change is in force, but its file isn't written: {}", error.message()))
                .hint(format!("{CHECK}: the file is still owed, and the next change of it, sync or start writes it"))
        }
        _ => error,
    })
}

/// Does everything that committed rows promise. What can't be done stays promised and doesn't stop the others. When the very file
/// that is asked for doesn't become what was promised, that is an error. Without one, what crashes have left goes.
pub async fn finish(home: &Home, environment: &Environment, asked: Option<&str>) -> Result<()> {
    settle(home, environment, asked, None).await?;
    if asked.is_none() {
        let owed = environment.store.pending_files().await?.into_iter().map(|pending| pending.file).collect::<Vec<_>>();
        let place = Place::of(home, environment);
        blocking(move || {
            place.sweep(&owed);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn settle(
    home: &Home,
    environment: &Environment,
    asked: Option<&str>,
    mut prepared: Option<Prepared>,
) -> Result<()> {
    let (store, mut outcome) = (&environment.store, Ok(()));
    for pending in store.pending_files().await? {
        let (id, place, file) = (pending.id, Place::of(home, environment), pending.file.clone());
        let new = prepared.take_if(|prepared| prepared.file == file).and_then(|prepared| prepared.new);
        let kept =
            blocking(move || place.keep(&pending, new).map_err(|cause| unwritable(&place.path(&pending.file), &cause)));
        match kept.await {
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

const CHECK: &str = "check the file's permissions and the disk";

fn unwritable(path: &Path, cause: &std::io::Error) -> Error {
    Error::unavailable(format!("`{}`: {cause}", path.display())).hint(CHECK)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|cause| Error::internal("file work was interrupted").source(cause))?
}
