//! `list_directory`, `list_directory_with_sizes` and `directory_tree`.

use super::glob::Glob;
use super::roots::Place;
use super::{MAX_DEPTH, MAX_ENTRIES, Refusal};
use cap_std::fs::{Dir, DirEntry, MetadataExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// One line per entry, sorted by name: `[DIR] name` or `[FILE] name`.
pub(super) fn lines(place: &Place<'_>) -> Result<String, Refusal> {
    let (entries, more) = sorted(&place.open_dir()?).map_err(|cause| place.refusal(&cause))?;
    let mut lines: Vec<_> = entries
        .iter()
        .map(|entry| format!("{} {}", if is_dir(&entry.entry) { "[DIR]" } else { "[FILE]" }, entry.name))
        .collect();
    if more {
        lines.push(incomplete());
    }
    Ok(lines.join("\n"))
}

fn incomplete() -> String {
    format!("(only the first {MAX_ENTRIES} entries that were found)")
}

/// The order of `list_directory_with_sizes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SortBy {
    #[default]
    Name,
    Size,
}

/// One line per entry with the size of files, the largest first where that is asked for, and the totals. A link has the size of what it
/// points to inside the root, and none where that is out of reach.
pub(super) fn sized_lines(place: &Place<'_>, sort_by: SortBy) -> Result<String, Refusal> {
    let dir = place.open_dir()?;
    let (entries, more) = sorted(&dir).map_err(|cause| place.refusal(&cause))?;
    let sized = |Named { name, entry }: Named| {
        let size = place.below(&name).and_then(|entry| entry.metadata()).map_or(0, |found| found.size());
        (is_dir(&entry), size, name)
    };
    let mut entries: Vec<(bool, u64, String)> = entries.into_iter().map(sized).collect();
    if sort_by == SortBy::Size {
        entries.sort_by_key(|(_, size, _)| std::cmp::Reverse(*size));
    }
    let mut lines: Vec<String> = entries
        .iter()
        .map(|(is_dir, size, name)| match is_dir {
            true => format!("[DIR] {name:<30} "),
            false => format!("[FILE] {name:<30} {:>10}", human(*size)),
        })
        .collect();
    lines.extend(more.then(incomplete));
    let files = entries.iter().filter(|(is_dir, ..)| !is_dir);
    let (count, total) =
        files.fold((0, 0_u64), |(count, total), (_, size, _)| (count + 1, total.saturating_add(*size)));
    lines.push(String::new());
    lines.push(format!("Total: {count} files, {} directories", entries.len() - count));
    lines.push(format!("Combined size: {}", human(total)));
    Ok(lines.join("\n"))
}

/// `1.50 KB`: units of 1024 with two places, rounded half up.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    let steps = (bytes.max(1).ilog2() / 10).min(4);
    let Some(name) = usize::try_from(steps).ok().and_then(|steps| UNITS.get(steps.checked_sub(1)?)) else {
        return format!("{bytes} B");
    };
    let unit = 1_u128 << (10 * steps);
    let hundredths = (u128::from(bytes) * 200 + unit) / (2 * unit);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

/// An entry with its name as text.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) entry: DirEntry,
}

/// The entries of a directory by name, at most [`MAX_ENTRIES`], and whether there are more.
pub(super) fn sorted(dir: &Dir) -> std::io::Result<(Vec<Named>, bool)> {
    let mut entries = Vec::new();
    for entry in dir.entries()? {
        if entries.len() == MAX_ENTRIES {
            return Ok((entries, true));
        }
        let entry = entry?;
        entries.push(Named { name: entry.file_name().to_string_lossy().into_owned(), entry });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((entries, false))
}

/// A directory itself; a link to one is listed as a file and never entered.
pub(super) fn is_dir(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// A link, wherever it leads.
pub(super) fn is_link(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_symlink())
}

/// The tree below a directory as JSON: `name`, `type`, and `children` for directories.
pub(super) fn tree(place: &Place<'_>, exclude: &[String]) -> Result<String, Refusal> {
    let exclude = exclude.iter().map(|pattern| Exclude::new(pattern)).collect::<Result<_, _>>()?;
    let mut walk = Tree { place, exclude, left: MAX_ENTRIES };
    let tree = walk.children(&place.open_dir()?, Path::new(""), 0)?;
    serde_json::to_string_pretty(&tree).map_err(|cause| Refusal::new(cause.to_string()))
}

struct Tree<'a> {
    place: &'a Place<'a>,
    exclude: Vec<Exclude>,
    left: usize,
}

impl Tree<'_> {
    fn children(&mut self, dir: &Dir, below: &Path, depth: usize) -> Result<Vec<Value>, Refusal> {
        let (entries, more) = sorted(dir).map_err(|cause| self.place.refusal_below(below, &cause))?;
        let mut children = Vec::new();
        for Named { name, entry } in entries {
            let path = below.join(&name);
            if self.exclude.iter().any(|exclude| exclude.matches(&path)) {
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or_else(too_large)?;
            if !is_dir(&entry) {
                children.push(json!({ "name": name, "type": "file" }));
                continue;
            }
            let inside = match entry.open_dir() {
                Ok(inside) if self.place.may_enter(&inside) => inside,
                _ => continue,
            };
            if depth == MAX_DEPTH {
                return Err(Refusal::new(format!(
                    "the tree is deeper than {MAX_DEPTH} directories; start further down"
                )));
            }
            let grandchildren = self.children(&inside, &path, depth + 1)?;
            children.push(json!({ "name": name, "type": "directory", "children": grandchildren }));
        }
        if more { Err(too_large()) } else { Ok(children) }
    }
}

fn too_large() -> Refusal {
    Refusal::new(format!("the tree has more than {MAX_ENTRIES} entries; start further down or use `excludePatterns`"))
}

/// A pattern for what is left out: with `*` it is matched as it is, without it names a file or directory at any depth.
struct Exclude {
    globs: Vec<Glob>,
}

impl Exclude {
    fn new(pattern: &str) -> Result<Self, Refusal> {
        let mut globs = vec![Glob::new(pattern)?];
        if !pattern.contains('*') {
            globs.push(Glob::new(&format!("**/{pattern}"))?);
        }
        Ok(Self { globs })
    }

    fn matches(&self, path: &Path) -> bool {
        self.globs.iter().any(|glob| glob.matches(&path.to_string_lossy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_places_and_are_rounded_half_up() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KB"),
            (1152, "1.13 KB"),
            (1_048_575, "1024.00 KB"),
            (1_572_864, "1.50 MB"),
            (u64::MAX, "16777216.00 TB"),
        ] {
            assert_eq!(human(bytes), expected);
        }
    }
}
