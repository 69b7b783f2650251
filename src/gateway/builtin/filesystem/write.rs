//! `write_file`.

use super::roots::Place;
use super::{MAX_FILE_BYTES, Refusal};
use cap_std::fs::{Dir, OpenOptions};
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
    let temporary = format!(".{}.{}.tmp", name.display(), random_suffix().map_err(|cause| place.refusal(&cause))?);
    replace(&dir, &name, &temporary, content).map_err(|cause| {
        // Nothing is left behind; the failure itself is what is told.
        let _best_effort = dir.remove_file(&temporary);
        place.refusal(&cause)
    })
}

fn replace(dir: &Dir, name: &Path, temporary: &str, content: &str) -> io::Result<()> {
    let mut file = dir.open_with(temporary, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(content.as_bytes())?;
    if let Ok(old) = dir.symlink_metadata(name)
        && old.is_file()
    {
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()?;
    dir.rename(temporary, dir, name)
}

fn random_suffix() -> io::Result<String> {
    let bytes = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{bytes:016x}"))
}
