//! `edit_file`.

use super::roots::Place;
use super::{Refusal, diff, read, write};
use serde::Deserialize;

/// The most bytes that the edits of one call look through together: each looks through the whole file, and other changes wait meanwhile.
const MAX_WORK: usize = 256 << 20;

/// One replacement.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Edit {
    old_text: String,
    new_text: String,
}

/// Makes all edits, one after the other, or none, and gives the difference as a fenced git-style diff. A dry run writes nothing. Line
/// endings are compared as line feeds; what isn't replaced keeps its own, and new lines get those that the file has.
pub(super) fn apply(place: &Place<'_>, edits: &[Edit], dry_run: bool) -> Result<String, Refusal> {
    let before = read::exact(place)?;
    let windows = has_windows_endings(&before);
    let (mut after, mut work) = (before.clone(), 0);
    for (done, edit) in edits.iter().enumerate() {
        work += after.len() + edit.old_text.len();
        if work > MAX_WORK {
            return Err(Refusal::new(format!(
                "{} edits of a file of {} bytes are too much for one call; make {done} at a time",
                edits.len(),
                before.len()
            )));
        }
        after = replaced(&after, edit, windows)
            .ok_or_else(|| Refusal::new(format!("Could not find exact match for edit:\n{}", edit.old_text)))?;
    }
    let name = place.real_path()?.display().to_string();
    let shown = fenced(&diff::unified(&name, &line_feeds(&before), &line_feeds(&after)));
    if !dry_run && after != before {
        write::text(place, &after)?;
    }
    Ok(shown)
}

fn line_feeds(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// Whether most lines end with CR LF.
fn has_windows_endings(text: &str) -> bool {
    text.matches("\r\n").count() * 2 > text.matches('\n').count()
}

/// `text` after one edit; `None` when nothing in it is what the edit replaces.
fn replaced(text: &str, edit: &Edit, windows: bool) -> Option<String> {
    let plain = line_feeds(text);
    let (old, new) = (line_feeds(&edit.old_text), line_feeds(&edit.new_text));
    let (start, end, new) = match plain.find(&old) {
        Some(start) => (start, start + old.len(), new),
        None => by_lines(&plain, &old, &new)?,
    };
    let new = if windows { new.replace('\n', "\r\n") } else { new };
    let (start, end) = (with_endings(text, start), with_endings(text, end));
    Some(format!("{}{new}{}", &text[..start], &text[end..]))
}

/// Where the place `at` of the text with line feeds is in `text` itself.
fn with_endings(text: &str, at: usize) -> usize {
    let pairs = text.match_indices("\r\n").enumerate();
    at + pairs.take_while(|(before, (position, _))| position - before < at).count()
}

/// Finds whole lines that are those of `old` but for the white space around them: where they begin and end, and what takes their place,
/// indented as the official server does it.
fn by_lines(text: &str, old: &str, new: &str) -> Option<(usize, usize, String)> {
    let trimmed = |text: &str| format!("\n{}\n", text.split('\n').map(trim).collect::<Vec<_>>().join("\n"));
    let (haystack, needle) = (trimmed(text), trimmed(old));
    let first = haystack[..haystack.find(&needle)?].matches('\n').count();
    let count = old.split('\n').count();
    let start: usize = text.split('\n').take(first).map(|line| line.len() + 1).sum();
    let length: usize = text.split('\n').skip(first).take(count).map(|line| line.len() + 1).sum();
    let indent = indent(text.split('\n').nth(first)?);
    Some((start, start + length - 1, indented(indent, old, new)))
}

/// The lines of `new` behind the indent of the first line that is replaced. A further line is moved by as much as it stands deeper than
/// the line that it replaces; one of both without an indent stays as it is.
fn indented(first: &str, old: &str, new: &str) -> String {
    let mut old = old.split('\n');
    let lines = new.split('\n').enumerate().map(|(at, line)| {
        let (was, is) = (old.next().map(indent).unwrap_or_default(), indent(line));
        let bare = &line[is.len()..];
        if at == 0 {
            format!("{first}{bare}")
        } else if was.is_empty() || is.is_empty() {
            line.to_owned()
        } else {
            let deeper = is.chars().count().saturating_sub(was.chars().count());
            format!("{first}{}{bare}", " ".repeat(deeper))
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(is_space).len()]
}

fn trim(line: &str) -> &str {
    line.trim_matches(is_space)
}

/// White space as ECMAScript has it.
fn is_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

/// A code fence that nothing in `diff` can close.
fn fenced(diff: &str) -> String {
    let mut fence = "```".to_owned();
    while diff.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}diff\n{diff}{fence}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, old: &str, new: &str) -> Option<String> {
        let edit = Edit { old_text: old.into(), new_text: new.into() };
        replaced(text, &edit, has_windows_endings(text))
    }

    #[test]
    fn an_exact_match_is_replaced_once() {
        assert_eq!(edited("a b a", "a", "$&").unwrap(), "$& b a");
        assert_eq!(edited("a", "x", "y"), None);
    }

    #[test]
    fn lines_match_without_their_white_space_and_keep_the_indent() {
        let text = "fn f() {\n    if x {\n        one();\n    }\n}\n";
        let new = edited(text, "if x {\n  one();\n}", "if y {\n    two();\n}").unwrap();
        assert_eq!(new, "fn f() {\n    if y {\n      two();\n}\n}\n");
        assert_eq!(edited("\ta\n", " a ", "b").unwrap(), "\tb\n");
    }

    #[test]
    fn line_endings_stay_and_new_lines_get_those_of_the_file() {
        assert_eq!(edited("a\r\nb\r\nc\n", "a\nb", "x\ny\nz").unwrap(), "x\r\ny\r\nz\r\nc\n");
        assert_eq!(edited("a\nb\r\nc\n", "c", "x\r\ny").unwrap(), "a\nb\r\nx\ny\n");
        assert_eq!(edited("a\r\n  b\r\nc\r\n", "b \nc", "d\n").unwrap(), "a\r\n  d\r\n\r\n");
    }

    #[test]
    fn a_fence_is_longer_than_any_in_the_diff() {
        assert_eq!(fenced("+````\n"), "`````diff\n+````\n`````\n\n");
    }
}
