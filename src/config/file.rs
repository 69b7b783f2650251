//! Reading one file that people write: a regular one, of bounded size, inside its environment.

use super::problem::{FileProblem, Position};
use super::prompt::MAX_PROMPT_BYTES;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Server files and `variables.yml` are at most 1 MiB each, as prompts are.
const MAX_FILE_BYTES: usize = MAX_PROMPT_BYTES;

/// Reads `path`, which people know as `file`. `None`: there is no such file. Links are followed, but not out of `root`.
pub fn read_file(root: &Path, path: &Path, file: &str) -> Result<Option<Vec<u8>>, FileProblem> {
    let problem = |message: String| FileProblem::new(file, message);
    let unreadable = |error: std::io::Error| problem(format!("it can't be read: {error}"));
    let found = match fs::canonicalize(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Whoever takes it for no file would put one in its place.
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(problem("it is a link to a file that doesn't exist".to_owned())),
                Err(_) => no_file(root, path, file).map(|()| None),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    if !found.starts_with(fs::canonicalize(root).map_err(unreadable)?) {
        return Err(problem("it is a link out of its environment".to_owned()));
    }
    read_regular(&found, file).map(Some)
}

/// An error where a file at `path` would come to be outside of `root`, or nowhere: its directory is a link.
fn no_file(root: &Path, path: &Path, file: &str) -> Result<(), FileProblem> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let problem =
        |message: String| Err(FileProblem::new(file, message).hint("put a directory in the place of the link"));
    match (fs::canonicalize(directory), fs::canonicalize(root)) {
        (Ok(found), Ok(root)) if !found.starts_with(&root) => {
            problem("its directory is a link out of its environment".to_owned())
        }
        (Err(error), _) if directory.is_symlink() => {
            problem(format!("its directory is a link that leads nowhere: {error}"))
        }
        _ => Ok(()),
    }
}

/// Reads the settings file at `path`, which people know as `file`. `None`: there is no such file. A link may lead anywhere: what is mounted
/// into a container is one.
pub(super) fn read_settings_file(path: &Path, file: &str) -> Result<Option<Vec<u8>>, FileProblem> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Ok(found) if found.is_symlink() && !path.exists() => {
            Err(FileProblem::new(file, "it is a link to a file that doesn't exist"))
        }
        _ => read_regular(path, file).map(Some),
    }
}

fn read_regular(path: &Path, file: &str) -> Result<Vec<u8>, FileProblem> {
    let problem = |message: String| FileProblem::new(file, message);
    let unreadable = |error: std::io::Error| problem(format!("it can't be read: {error}"));
    // A pipe or a device would make the read wait for ever.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(problem("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path).and_then(|open| open.take(limit).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(problem("it is larger than 1 MiB".to_owned()));
    }
    Ok(bytes)
}

/// The bytes of the file that people know as `file` as a text.
pub(super) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, FileProblem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        FileProblem::new(file, "it is not UTF-8").at(Position { line, column: 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_bounded_size_inside_its_environment_is_read() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        fs::write(at("good"), "x").unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        fs::write(at("large"), vec![b'x'; MAX_FILE_BYTES + 1]).unwrap();
        fs::create_dir(at("directory")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), at("link")).unwrap();
        let read = |name: &str| read_file(root.path(), &at(name), name);
        assert_eq!((read("good"), read("missing")), (Ok(Some(b"x".to_vec())), Ok(None)));
        std::os::unix::fs::symlink(at("missing"), at("dangling")).unwrap();
        let refused = [("large", "1 MiB"), ("directory", "regular"), ("pipe", "regular"), ("link", "out of")];
        std::os::unix::fs::symlink(outside.path(), at("away")).unwrap();
        std::os::unix::fs::symlink(at("missing"), at("nowhere")).unwrap();
        let of_directories = [("away/new", "out of"), ("nowhere/new", "leads nowhere")];
        for (name, reason) in refused.into_iter().chain([("dangling", "doesn't exist")]).chain(of_directories) {
            assert!(read(name).unwrap_err().message.contains(reason), "{name}");
        }
        assert_eq!(read("new/new"), Ok(None));
        let settings = |name: &str| read_settings_file(&at(name), name);
        assert_eq!((settings("link"), settings("missing")), (Ok(Some(b"x".to_vec())), Ok(None)));
        for (name, reason) in
            [("large", "1 MiB"), ("directory", "regular"), ("pipe", "regular"), ("dangling", "doesn't")]
        {
            assert!(settings(name).unwrap_err().message.contains(reason), "{name}");
        }
    }
}
