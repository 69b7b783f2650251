//! `search_files`.

use super::glob::Glob;
use super::list::{Named, is_dir, is_link, sorted};
use super::roots::Place;
use super::{MAX_DEPTH, MAX_ENTRIES, Refusal};
use cap_std::fs::Dir;
use std::path::{Path, PathBuf};

/// The whole paths of what matches, one per line. A pattern with wildcards is matched against the path below the start, one without against
/// each name, as a part of it and in any case. Links that lead nowhere or out of reach are no matches.
pub(super) fn paths(place: &Place<'_>, pattern: &str, exclude: &[String]) -> Result<String, Refusal> {
    let start = place.real_path()?;
    let mut search = Search {
        place,
        wanted: Wanted::new(pattern)?,
        exclude: exclude.iter().map(|pattern| Glob::new(pattern)).collect::<Result<_, _>>()?,
        found: Vec::new(),
        left: MAX_ENTRIES,
    };
    let complete = search.visit(&place.open_dir()?, Path::new(""), 0);
    let mut lines: Vec<_> = search.found.iter().map(|path| start.join(path).display().to_string()).collect();
    if lines.is_empty() {
        lines.push("No matches found".to_owned());
    }
    if !complete {
        lines.push(format!(
            "(the search ended after {MAX_ENTRIES} entries or {MAX_DEPTH} directories of depth; start further down)"
        ));
    }
    Ok(lines.join("\n"))
}

enum Wanted {
    Path(Glob),
    Name(String),
}

impl Wanted {
    fn new(pattern: &str) -> Result<Self, Refusal> {
        Ok(if Glob::is_pattern(pattern) { Self::Path(Glob::new(pattern)?) } else { Self::Name(pattern.to_lowercase()) })
    }

    fn matches(&self, path: &Path, name: &str) -> bool {
        match self {
            Self::Path(glob) => glob.matches(&path.to_string_lossy()),
            // Nothing is a part of every name, and no search.
            Self::Name(part) => !part.is_empty() && name.to_lowercase().contains(part),
        }
    }
}

struct Search<'a> {
    place: &'a Place<'a>,
    wanted: Wanted,
    exclude: Vec<Glob>,
    found: Vec<PathBuf>,
    left: usize,
}

impl Search<'_> {
    /// Looks into `dir`; false when a bound was met. What can't be read is passed over.
    fn visit(&mut self, dir: &Dir, below: &Path, depth: usize) -> bool {
        let Ok((entries, more)) = sorted(dir) else { return true };
        let mut complete = !more;
        for Named { name, entry } in entries {
            let path = below.join(&name);
            if self.exclude.iter().any(|glob| glob.matches(&path.to_string_lossy())) {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return false };
            self.left = left;
            let inside = is_dir(&entry).then(|| entry.open_dir().ok().filter(|inside| self.place.may_enter(inside)));
            if inside.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            if self.wanted.matches(&path, &name) && (!is_link(&entry) || self.place.reaches(&path)) {
                self.found.push(path.clone());
            }
            if let Some(Some(inside)) = inside {
                complete &= depth < MAX_DEPTH && self.visit(&inside, &path, depth + 1);
            }
        }
        complete
    }
}
