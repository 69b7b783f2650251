//! `move_file`.

use super::Refusal;
use super::roots::Place;
use cap_std::fs::Dir;
use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Gives a file, a directory or a link (the link itself, not what it points to) another name. Whatever already has that name stays: the
/// kernel refuses, so that nothing that appears meanwhile is replaced.
pub(super) fn entry(source: &Place<'_>, destination: &Place<'_>) -> Result<(), Refusal> {
    let (from, name) = source.open_entry()?;
    let (to, new_name) = destination.open_entry()?;
    let moved = match renameat_with(&from, &name, &to, &new_name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => step_by_step(&from, &name, &to, &new_name),
        Err(cause) => Err(cause.into()),
    };
    moved.map_err(|cause| refusal(&cause, source, destination))
}

/// For file systems that can't refuse to replace. A file gets its second name before it loses the first one. A directory can only
/// replace an empty one, should one appear between the look and the move.
fn step_by_step(from: &Dir, name: &Path, to: &Dir, new_name: &Path) -> io::Result<()> {
    if from.symlink_metadata(name)?.is_dir() {
        return match to.symlink_metadata(new_name) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => from.rename(name, to, new_name),
            Err(cause) => Err(cause),
        };
    }
    from.hard_link(name, to, new_name)?;
    from.remove_file(name)
}

fn refusal(cause: &io::Error, source: &Place<'_>, destination: &Place<'_>) -> Refusal {
    match cause.kind() {
        io::ErrorKind::AlreadyExists => Refusal::new(format!("Destination already exists: {}", destination.asked())),
        io::ErrorKind::CrossesDevices => Refusal::new(format!(
            "{} and {} are on different file systems: read the one and write the other",
            source.asked(),
            destination.asked()
        )),
        io::ErrorKind::InvalidInput => {
            Refusal::new(format!("{} can't be moved into itself, to {}", source.asked(), destination.asked()))
        }
        // Both directories are open: what isn't there is what was to be moved.
        io::ErrorKind::NotFound => source.refusal(cause),
        _ => Refusal::new(format!("{} can't be moved to {}: {cause}", source.asked(), destination.asked())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;

    #[test]
    fn a_file_system_that_cannot_refuse_replaces_nothing_either() {
        let keep = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(keep.path(), ambient_authority()).unwrap();
        let moved = |from: &str, to: &str| step_by_step(&dir, Path::new(from), &dir, Path::new(to));
        for (name, text) in [("a", "A"), ("b", "B")] {
            fs::write(keep.path().join(name), text).unwrap();
        }
        fs::create_dir(keep.path().join("dir")).unwrap();
        fs::create_dir(keep.path().join("empty")).unwrap();
        assert_eq!(moved("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(moved("dir", "empty").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(keep.path().join("b")).unwrap(), "B");
        moved("a", "dir/a").unwrap();
        moved("dir", "new").unwrap();
        assert_eq!(fs::read_to_string(keep.path().join("new/a")).unwrap(), "A");
        assert!(!keep.path().join("a").exists() && !keep.path().join("dir").exists());
    }
}
