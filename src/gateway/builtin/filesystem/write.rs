//! `write_file`.

use super::roots::Place;
use super::{MAX_FILE_BYTES, Refusal};
use cap_std::fs::{Dir, File, Metadata, OpenOptions, OpenOptionsExt};
use std::io::{self, Write};
use std::path::Path;

/// Replaces a file, or creates it. Whoever reads meanwhile sees the old content or the new one, never a part: the content goes to a
/// temporary file in the same directory, which then takes the name.
pub(super) fn text(place: &Place<'_>, content: &str) -> Result<(), Refusal> {
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(Refusal::new(format!(
            "the content has {} bytes; at most {MAX_FILE_BYTES} are written",
            content.len()
        )));
    }
    let (dir, name) = place.open_parent()?;
    let temporary = temporary_name().map_err(|cause| place.refusal(&cause))?;
    replace(&dir, &name, &temporary, content).map_err(|cause| {
        // Nothing is left behind; the failure itself is what is told.
        let _best_effort = dir.remove_file(&temporary);
        place.refusal(&cause)
    })
}

fn replace(dir: &Dir, name: &Path, temporary: &str, content: &str) -> io::Result<()> {
    let mut file = successor(dir, name, temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    dir.rename(temporary, dir, name)
}

/// An empty file that may take the name. It has the permissions of the file that it replaces before it has any content, and nobody else can
/// have opened it before: a private file stays private while it is written.
fn successor(dir: &Dir, name: &Path, temporary: &str) -> io::Result<File> {
    let old = dir.symlink_metadata(name).ok().filter(Metadata::is_file);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if old.is_some() {
        options.mode(0o600);
    }
    let file = dir.open_with(temporary, &options)?;
    if let Some(old) = old {
        file.set_permissions(old.permissions())?;
    }
    Ok(file)
}

/// Without the file's own name, which may be as long as names can be.
fn temporary_name() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!(".{random:016x}.tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_successor_has_the_permissions_of_the_old_file_before_it_has_content() {
        let keep = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(keep.path(), ambient_authority()).unwrap();
        for mode in [0o600, 0o400, 0o644, 0o755] {
            let (name, temporary) = (format!("old{mode:o}"), format!("new{mode:o}"));
            fs::write(keep.path().join(&name), "old").unwrap();
            fs::set_permissions(keep.path().join(&name), fs::Permissions::from_mode(mode)).unwrap();
            let mut file = successor(&dir, Path::new(&name), &temporary).unwrap();
            let found = fs::metadata(keep.path().join(&temporary)).unwrap();
            assert_eq!((found.permissions().mode() & 0o7777, found.len()), (mode, 0));
            file.write_all(b"also where the old file can't be written").unwrap();
        }
    }
}
