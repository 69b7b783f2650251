//! A `.prompt` file's two halves: YAML between a line `---` and the next line that is exactly `---`, and the Handlebars body. The first half
//! may be missing, and before it may be empty lines and comments, such as a licence: as in dotprompt (google/dotprompt, `js/src/parse.ts`).

use super::problem::Position;
use super::yaml::Syntax;
use std::borrow::Cow;
use std::ops::Range;

const FENCE: &str = "---";

/// Byte ranges of the halves, and the numbers of lines that stand before them: none before the body without front matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halves {
    pub(super) yaml: Range<usize>,
    pub(super) body: Range<usize>,
    pub(super) lines_before_yaml: usize,
    pub(super) lines_before_body: usize,
}

/// Finds the halves. A `---` inside a YAML text is indented or part of a longer line, and so never an end. A text that begins otherwise is
/// all body. Refused is what looks like an opening and is none.
pub(super) fn split(text: &str) -> Result<Halves, Syntax> {
    let begin = bom(text).len();
    let body_alone =
        || Halves { yaml: begin..begin, body: begin..text.len(), lines_before_yaml: 0, lines_before_body: 0 };
    if text[begin..].trim().is_empty() {
        return Err(fault(1, "the file is empty; write the prompt into it".to_owned()));
    }
    let (mut lines, mut comments) = (lines(text), 0);
    let first = lines.find(|line| {
        let is_comment = line.text.starts_with('#');
        comments += usize::from(is_comment);
        !is_comment && !line.text.trim().is_empty()
    });
    match first {
        Some(first) if first.text == FENCE => match lines.find(|line| line.text == FENCE) {
            Some(end) => Ok(Halves {
                yaml: first.end..end.start,
                body: end.end..text.len(),
                lines_before_yaml: first.number,
                lines_before_body: end.number,
            }),
            // A heading with a rule below it, in Markdown.
            None if comments > 0 => Ok(body_alone()),
            None => Err(fault(first.number, "the front matter is never closed: no line is exactly `---`".to_owned())),
        },
        Some(first) if first.text.trim() == FENCE && comments == 0 => {
            let message = "front matter opens in a line that is exactly `---`, without blanks".to_owned();
            Err(fault(first.number, message))
        }
        _ => Ok(body_alone()),
    }
}

/// `text`, with an empty front matter if it has none.
pub(super) fn opened(text: &str) -> Result<Cow<'_, str>, Syntax> {
    let halves = split(text)?;
    if halves.lines_before_body > 0 {
        return Ok(Cow::Borrowed(text));
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    Ok(Cow::Owned(format!("{}{FENCE}{newline}{FENCE}{newline}{}", bom(text), &text[halves.body])))
}

/// The mark that some editors begin a text with.
pub(super) fn bom(text: &str) -> &str {
    if text.starts_with('\u{feff}') { &text[..'\u{feff}'.len_utf8()] } else { "" }
}

struct Line<'a> {
    /// From 1 on.
    number: usize,
    /// Without its end.
    text: &'a str,
    start: usize,
    end: usize,
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut end = bom(text).len();
    text[end..].split_inclusive('\n').enumerate().map(move |(index, line)| {
        let start = end;
        end += line.len();
        Line { number: index + 1, text: line.trim_end_matches(['\n', '\r']), start, end }
    })
}

fn fault(line: usize, message: String) -> Syntax {
    Syntax { at: Some(Position { line, column: 1 }), message }
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
        assert_eq!(halves("\n\n---\na: 1\n---\nHi"), ("a: 1\n", "Hi", 5));
        let licensed = "# Copyright\n#\n\n---\na: 1\n---\nHi";
        assert_eq!((halves(licensed), split(licensed).unwrap().lines_before_yaml), (("a: 1\n", "Hi", 6), 4));
        assert_eq!(halves("\u{feff}---\nx: y\n---"), ("x: y\n", "", 3));
        let table = "---\nmetadata:\n  description: |\n    | a | b |\n    ---\n    |---|---|\n---\nbody";
        assert_eq!(halves(table).1, "body");
    }

    #[test]
    fn a_text_that_opens_no_front_matter_is_all_body() {
        for text in [
            "Say hello.",
            "# Title\n---\nWords\n",
            "# Title\n --- \nx\n---\n",
            "# Title",
            "----\nx\n",
            "\n\nHello\n---\n",
            "model: x\n",
        ] {
            assert_eq!(halves(text), ("", text, 0));
            assert_eq!(halves(&format!("\u{feff}{text}")), ("", text, 0));
            assert_eq!(opened(text).unwrap(), format!("---\n---\n{text}"));
        }
        assert_eq!(opened("\u{feff}a\r\nb").unwrap(), "\u{feff}---\r\n---\r\na\r\nb");
        assert_eq!(opened("---\n---\nx").unwrap(), "---\n---\nx");
    }

    #[test]
    fn what_is_empty_or_opened_halfway_is_refused() {
        for (text, part, line) in [
            ("", "empty", 1),
            ("\u{feff}", "empty", 1),
            (" \n\r\n\t", "empty", 1),
            ("---\nmodel: x\n--- \n", "never closed", 1),
            ("---", "never closed", 1),
            ("--- \nmodel: x\n---\nHi", "exactly `---`", 1),
            ("\n\n---\nmodel: x\n", "never closed", 3),
            ("\n ---\nmodel: x\n---\nHi", "exactly `---`", 2),
        ] {
            let syntax = split(text).unwrap_err();
            assert!(syntax.message.contains(part), "{text:?}: {}", syntax.message);
            assert_eq!(syntax.at.unwrap().line, line, "{text:?}");
        }
    }
}
