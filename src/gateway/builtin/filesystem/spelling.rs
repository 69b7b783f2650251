//! Other spellings of a path that can't be opened as it was asked for: without links whose targets are absolute, which no handle follows, and
//! with names in the Unicode form that they have on disk.
//!
//! What comes out is a path and no more. It is opened through the handle of its root like every other path, so that nothing here can be raced.

use super::root::Root;
use super::roots::Roots;
use cap_std::fs::Dir;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// How many links one path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;
/// How many names of a directory are compared.
const MAX_NAMES: usize = 1_000_000;

/// Whether a path that failed like this can have another spelling.
pub(super) fn may_help(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::NotFound || leaves_root(cause)
}

/// cap-std's own refusal of a path that leaves its handle has no system error behind it.
pub(super) fn leaves_root(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::PermissionDenied && cause.raw_os_error().is_none()
}

/// The other spelling of `below`, which is a path below `root`, and the root that it is below. What doesn't exist is kept as it is.
pub(super) fn other<'a>(roots: &'a Roots, root: &'a Root, below: &Path) -> io::Result<(&'a Root, PathBuf)> {
    let (mut root, mut done) = (root, PathBuf::new());
    let (mut left, mut followed) = (reversed(below), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            if !done.pop() {
                return Err(outside());
            }
            continue;
        }
        let instead = match root.dir.read_link_contents(done.join(&name)) {
            Ok(target) if target.is_absolute() => {
                let (found, below) = roots.containing(&target).ok_or_else(outside)?;
                (root, done) = (found.map_err(|lost| io::Error::other(lost.to_string()))?, PathBuf::new());
                reversed(below)
            }
            Ok(target) => reversed(&target),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => match equivalent(&root.dir, &done, &name)? {
                Some(found) => vec![found],
                None => {
                    done.push(name);
                    done.extend(left.iter().rev());
                    break;
                }
            },
            // No link, or something that will be told when it is opened.
            Err(_) => {
                done.push(name);
                continue;
            }
        };
        followed += 1;
        if followed > MAX_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        left.extend(instead);
    }
    Ok((root, if done.as_os_str().is_empty() { PathBuf::from(".") } else { done }))
}

/// The only name in the directory `below` that is `name` in another Unicode form.
pub(super) fn equivalent(dir: &Dir, below: &Path, name: &OsStr) -> io::Result<Option<OsString>> {
    // Names in ASCII have no other form that anybody would type.
    let Some(wanted) = name.to_str().filter(|name| !name.is_ascii()) else { return Ok(None) };
    let mut found: Option<OsString> = None;
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    // Where names can't be listed, the one that was asked for is all there is to try.
    let Ok(entries) = dir.read_dir(below) else { return Ok(None) };
    for entry in entries.take(MAX_NAMES) {
        let entry = entry?.file_name();
        let same = entry.to_str().is_some_and(|entry| !entry.is_ascii() && entry.nfc().eq(wanted.nfc()));
        if same && found.replace(entry).is_some() {
            return Err(io::Error::other(format!("several names there are `{wanted}` in another Unicode form")));
        }
    }
    Ok(found)
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the path leads out of the allowed directories")
}

/// The components, the first one last. `.` and the root have no name.
fn reversed(path: &Path) -> Vec<OsString> {
    use std::path::Component::{Normal, ParentDir};
    let named = path.components().filter(|component| matches!(component, Normal(_) | ParentDir));
    named.rev().map(|component| component.as_os_str().to_owned()).collect()
}
