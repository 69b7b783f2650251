//! Which file systems a home can't lie on: those of other machines and of user space, where file locks may not exclude and SQLite's
//! shared memory does not work.

use crate::error::{Error, Result};
use nix::sys::statfs::{Statfs, statfs};
use std::path::Path;

/// The kind of the network file system that `path`, or the nearest directory above it that exists, is on; none for a local one.
pub(super) fn network_kind(path: &Path) -> Result<Option<&'static str>> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    let facts =
        statfs(existing).map_err(|errno| super::failed("examine the file system of", existing, errno.into()))?;
    Ok(kind_of(&facts))
}

pub(super) fn refusal(path: &Path, kind: &str) -> Error {
    super::misconfigured(format!(
        "the home `{}` is on a {kind} file system, where locks can't be trusted",
        path.display()
    ))
    .hint(
        "set STN_HOME to a directory on a local disk, or STN_FORCE_NETWORK_HOME=1 if nothing else ever uses this home",
    )
}

/// The magic numbers of statfs(2); compared as 32 bits because the sign of the field differs between platforms.
#[cfg(target_os = "linux")]
fn kind_of(facts: &Statfs) -> Option<&'static str> {
    kind_of_magic(facts.filesystem_type().0 as u32)
}

#[cfg(target_os = "linux")]
fn kind_of_magic(magic: u32) -> Option<&'static str> {
    match magic {
        0x0000_6969 => Some("NFS"),
        0x0000_517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x6573_5546 => Some("FUSE"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn kind_of(facts: &Statfs) -> Option<&'static str> {
    match facts.filesystem_type_name() {
        "nfs" => Some("NFS"),
        "smbfs" | "cifs" => Some("SMB"),
        "afpfs" => Some("AFP"),
        "webdav" => Some("WebDAV"),
        name if name.contains("fuse") => Some("FUSE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_directory_passes_even_before_it_exists() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(network_kind(&directory.path().join("not/yet")).unwrap(), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_magic_numbers_of_network_file_systems_are_known() {
        assert_eq!(kind_of_magic(nix::libc::NFS_SUPER_MAGIC as u32), Some("NFS"));
        assert_eq!(kind_of_magic(nix::libc::SMB_SUPER_MAGIC as u32), Some("SMB"));
        assert_eq!(kind_of_magic(nix::libc::FUSE_SUPER_MAGIC as u32), Some("FUSE"));
        assert_eq!(kind_of_magic(nix::libc::TMPFS_MAGIC as u32), None);
        let refused = refusal(Path::new("/mnt/share"), "NFS");
        assert!(refused.message().contains("`/mnt/share`"));
    }
}
