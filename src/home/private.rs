//! Files that belong to the owner of the home alone: key material.

use super::{failed, misconfigured};
use crate::error::Result;
use nix::libc::O_NOFOLLOW;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The bytes of a small file that is the owner's alone, at most `most` of them. Exit code 78 for a symlink, a directory, a file of somebody
/// else or one that others can get at, and one that is longer; `not_found` where there is none.
pub fn read_private(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>> {
    read_checked(path, most, refuse_exposed)
}

/// The same, where `check` says whose the file may be.
pub fn read_checked(
    path: &Path,
    most: u64,
    check: impl FnOnce(&Path, &Metadata) -> Result<()>,
) -> Result<Zeroizing<Vec<u8>>> {
    let cant_read = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => failed("read the key", path, cause),
        _ => misconfigured(format!("can't read the key `{}`: {cause}", path.display())).source(cause),
    };
    let facts = fs::symlink_metadata(path).map_err(cant_read)?;
    refuse_other_kinds(path, &facts)?;
    let file: File = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path).map_err(cant_read)?;
    let facts = file.metadata().map_err(cant_read)?;
    refuse_other_kinds(path, &facts)?;
    check(path, &facts)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(most + 1).read_to_end(&mut bytes).map_err(cant_read)?;
    if bytes.len() as u64 > most {
        let message = format!("`{}` has more than {most} bytes: that is no key", path.display());
        return Err(misconfigured(message).hint("name the file that holds nothing but the key"));
    }
    Ok(bytes)
}

fn refuse_other_kinds(path: &Path, facts: &Metadata) -> Result<()> {
    let shown = path.display();
    if facts.is_symlink() {
        return Err(misconfigured(format!("`{shown}` is a symlink, which is not followed to key material"))
            .hint("put the file itself there"));
    }
    if !facts.is_file() {
        return Err(misconfigured(format!("`{shown}` is not a file")).hint("put the key's file there"));
    }
    Ok(())
}

/// An error (exit 78) when anybody but this process's user could read or change `path`.
pub fn refuse_exposed(path: &Path, facts: &Metadata) -> Result<()> {
    let shown = path.display();
    if facts.uid() != nix::unistd::geteuid().as_raw() {
        let owner = facts.uid();
        return Err(misconfigured(format!("`{shown}` belongs to user {owner}, not to the user who runs this"))
            .hint(format!("chown $(id -u) '{shown}'")));
    }
    if facts.mode() & 0o077 != 0 {
        let mode = facts.mode() & 0o777;
        let fix = if facts.is_dir() { "700" } else { "600" };
        return Err(misconfigured(format!("`{shown}` has mode {mode:03o}: others can get at key material"))
            .hint(format!("chmod {fix} '{shown}'")));
    }
    Ok(())
}

/// Writes a file that is the owner's alone, whole or not at all; one that exists stays as it is.
pub fn place_private(path: &Path, contents: &[u8]) -> Result<()> {
    super::first_use::place(path, contents, 0o600)?;
    // Its name has to survive a power cut as well: what it is the key of may be written the moment after.
    let Some(directory) = path.parent() else { return Ok(()) };
    let sync = |directory: &Path| -> io::Result<()> { File::open(directory)?.sync_all() };
    sync(directory).map_err(|cause| failed("write", directory, cause))
}
