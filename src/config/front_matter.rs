//! A `.prompt` file's two halves: YAML between the first line `---` and the next line that is exactly `---`, and the Handlebars body.

use super::problem::Position;
use super::yaml::Syntax;
use std::ops::Range;

/// Byte ranges of the halves, and the number of lines that stand before the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halves {
    pub(super) yaml: Range<usize>,
    pub(super) body: Range<usize>,
    pub(super) lines_before_body: usize,
}

/// Lines that stand before the YAML: the opening `---`.
pub(super) const LINES_BEFORE_YAML: usize = 1;

/// Finds the halves. A `---` inside a YAML text is indented or part of a longer line, and so never an end.
pub(super) fn split(text: &str) -> Result<Halves, Syntax> {
    let mut offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut start = None;
    for (index, line) in text[offset..].split_inclusive('\n').enumerate() {
        let end = offset + line.len();
        let is_fence = line.trim_end_matches(['\n', '\r']) == "---";
        match start {
            None if is_fence => start = Some(end),
            None => break,
            Some(start) if is_fence => {
                return Ok(Halves { yaml: start..offset, body: end..text.len(), lines_before_body: index + 1 });
            }
            Some(_) => {}
        }
        offset = end;
    }
    let message = match start {
        None => "the first line of a .prompt file is `---`, which opens its front matter",
        Some(_) => "the front matter is never closed: no line is exactly `---`",
    };
    Err(Syntax { at: Some(Position::START), message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(text: &str) -> (&str, &str, usize) {
        let halves = split(text).unwrap();
        (&text[halves.yaml], &text[halves.body], halves.lines_before_body)
    }

    #[test]
    fn the_front_matter_ends_at_a_line_of_its_own() {
        assert_eq!(halves("---\na: 1\n---\nbody\n---\nmore"), ("a: 1\n", "body\n---\nmore", 3));
        assert_eq!(halves("---\r\na: 1\r\n---\r\nbody"), ("a: 1\r\n", "body", 3));
        assert_eq!(halves("---\n---\n"), ("", "", 2));
        assert_eq!(halves("\u{feff}---\nx: y\n---"), ("x: y\n", "", 3));
        let table = "---\nmetadata:\n  description: |\n    | a | b |\n    ---\n    |---|---|\n---\nbody";
        assert_eq!(halves(table).1, "body");
    }

    #[test]
    fn a_missing_fence_is_named() {
        assert!(split("model: x\n").unwrap_err().message.contains("first line"));
        assert!(split("---\nmodel: x\n--- \n").unwrap_err().message.contains("never closed"));
        assert!(split("").is_err());
    }
}
