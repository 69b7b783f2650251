//! The first and the last lines of a file of any size, of which at most [`MAX_FILE_BYTES`] are kept.

use super::MAX_FILE_BYTES;
use cap_std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// Lines without the line feed of the last one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    /// What the limit left out of those that were asked for.
    pub(super) missing: Option<Missing>,
}

/// Why there are fewer lines than were asked for, although the file has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// There was no room for more; these are whole.
    LinesAfter,
    LinesBefore,
    /// Not even one line has room: this is its beginning or its end.
    RestOfLine,
}

impl Missing {
    /// What a caller is told about `file`.
    pub(super) fn note(self, file: &str) -> String {
        let here = match self {
            Self::LinesAfter => "lines that were asked for are missing after these",
            Self::LinesBefore => "lines that were asked for are missing before these",
            Self::RestOfLine => "this is a part of one line",
        };
        format!("({here}: at most {MAX_FILE_BYTES} bytes of {file} are given at once)")
    }
}

impl Lines {
    /// All that was asked for.
    pub(super) fn all(bytes: Vec<u8>) -> Self {
        Self { bytes, missing: None }
    }
}

/// The first `count` lines.
pub(super) fn first(file: &mut File, count: usize) -> io::Result<Lines> {
    first_within(file, count, MAX_FILE_BYTES)
}

/// The last `count` lines, as `tail -n` counts them: the line feed at the end of the file ends the last line and doesn't begin another.
/// CR LF are given as line feeds, as the official server does it.
pub(super) fn last(file: &mut File, count: usize) -> io::Result<Lines> {
    let size = file.metadata()?.len();
    last_within(file, size, count, MAX_FILE_BYTES)
}

fn first_within(file: &mut impl Read, count: usize, limit: u64) -> io::Result<Lines> {
    let (mut reader, mut bytes) = (BufReader::new(file), Vec::new());
    for _ in 0..count {
        let whole = bytes.len();
        (&mut reader).take(limit.saturating_sub(whole as u64)).read_until(b'\n', &mut bytes)?;
        // A first line that ends with the limit is whole: only its break lies behind.
        let is_cut = bytes.len() as u64 == limit && !bytes.ends_with(b"\n");
        if whole == 0 && is_cut && reader.fill_buf()?.first() == Some(&b'\n') {
            reader.consume(1);
            bytes.push(b'\n');
        }
        if bytes.len() > whole && bytes.ends_with(b"\n") {
            continue;
        }
        if reader.fill_buf()?.is_empty() {
            break;
        }
        if whole == 0 {
            bytes.truncate(bytes.len() - partial_end(&bytes));
            return Ok(Lines { bytes, missing: Some(Missing::RestOfLine) });
        }
        bytes.truncate(whole);
        return Ok(Lines { bytes: unended(bytes), missing: Some(Missing::LinesAfter) });
    }
    Ok(Lines::all(unended(bytes)))
}

fn last_within(file: &mut (impl Read + Seek), size: u64, count: usize, limit: u64) -> io::Result<Lines> {
    let whole = size <= limit;
    // With the byte before, which says whether a line begins after it.
    let (start, room) = if whole { (0, limit) } else { (size - limit - 1, limit + 1) };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(room).read_to_end(&mut bytes)?;
    let mut bytes = unended(line_feeds(&bytes));
    let (mut begin, mut end) = (None, bytes.len());
    let mut missing = None;
    for _ in 0..count {
        match bytes[..end].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => (begin, end) = (Some(at + 1), at),
            None if whole => {
                begin = Some(0);
                break;
            }
            None => {
                missing = Some(if begin.is_some() { Missing::LinesBefore } else { Missing::RestOfLine });
                break;
            }
        }
    }
    if missing == Some(Missing::RestOfLine) {
        bytes.drain(..bytes.len().min(1));
        begin = Some(partial_start(&bytes));
    }
    bytes.drain(..begin.unwrap_or(bytes.len()));
    Ok(Lines { bytes, missing })
}

/// Without the line feed at the end.
fn unended(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    bytes
}

/// With line feeds where there were CR LF.
fn line_feeds(bytes: &[u8]) -> Vec<u8> {
    let ends_in_feed = |at: usize| bytes.get(at + 1) == Some(&b'\n');
    let kept = bytes.iter().enumerate().filter(|(at, byte)| **byte != b'\r' || !ends_in_feed(*at));
    kept.map(|(_, byte)| *byte).collect()
}

/// How many bytes at the end are the beginning of a character whose other bytes are missing.
fn partial_end(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(last) {
        Err(cause) if cause.error_len().is_none() => last.len(),
        _ => 0,
    }
}

/// How many bytes at the start can be the end of a character whose first byte is missing.
fn partial_start(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn head(text: &str, count: usize, limit: u64) -> (String, Option<Missing>) {
        let lines = first_within(&mut Cursor::new(text), count, limit).unwrap();
        (String::from_utf8(lines.bytes).unwrap(), lines.missing)
    }

    fn tail(text: &str, count: usize, limit: u64) -> (String, Option<Missing>) {
        let lines = last_within(&mut Cursor::new(text), text.len() as u64, count, limit).unwrap();
        (String::from_utf8(lines.bytes).unwrap(), lines.missing)
    }

    #[test]
    fn parts_are_counted_in_lines() {
        let text = "one\r\ntwo\nthree\n";
        for (count, first, last) in [
            (0, "", ""),
            (1, "one\r", "three"),
            (2, "one\r\ntwo", "two\nthree"),
            (3, "one\r\ntwo\nthree", "one\ntwo\nthree"),
            (9, "one\r\ntwo\nthree", "one\ntwo\nthree"),
        ] {
            assert_eq!(head(text, count, 99), (first.into(), None));
            assert_eq!(tail(text, count, 99), (last.into(), None));
        }
        for text in ["", "\n"] {
            assert_eq!((head(text, 1, 9), tail(text, 1, 9)), ((String::new(), None), (String::new(), None)));
        }
        assert_eq!((head("a\n\n\n", 2, 9).0, tail("\n\na\n\n", 2, 9).0), ("a\n".into(), "a\n".into()));
        assert_eq!((head("a\nb", 2, 3), tail("a\r\nb\r\n", 2, 6)), (("a\nb".into(), None), ("a\nb".into(), None)));
    }

    #[test]
    fn a_line_that_ends_with_the_limit_is_whole() {
        assert_eq!(head("aaaa\nbbbb", 1, 4), ("aaaa".into(), None));
        assert_eq!(head("aaaa\nbbbb", 2, 4), ("aaaa".into(), Some(Missing::LinesAfter)));
        assert_eq!(head("aaaa\n", 2, 4), ("aaaa".into(), None));
        assert_eq!(head("\n\n", 1, 1), ("".into(), None));
    }

    #[test]
    fn a_line_that_the_limit_cuts_is_left_out_and_told() {
        let text = "aaaa\nbbbb\ncccc\n";
        let whole = "aaaa\nbbbb\ncccc".to_owned();
        assert_eq!((head(text, 3, 15), tail(text, 3, 15)), ((whole.clone(), None), (whole, None)));
        for (limit, first, last) in [
            (14, "aaaa\nbbbb", "bbbb\ncccc"),
            (11, "aaaa\nbbbb", "bbbb\ncccc"),
            (10, "aaaa\nbbbb", "bbbb\ncccc"),
            (9, "aaaa", "cccc"),
            (5, "aaaa", "cccc"),
        ] {
            assert_eq!(head(text, 3, limit), (first.into(), Some(Missing::LinesAfter)), "{limit}");
            assert_eq!(tail(text, 3, limit), (last.into(), Some(Missing::LinesBefore)), "{limit}");
            let asked = first.split('\n').count();
            assert_eq!(
                (head(text, asked, limit).1, tail(text, asked, limit).1),
                (None, None),
                "what is asked for is there"
            );
        }
    }

    #[test]
    fn of_a_line_without_an_end_whole_characters_are_given() {
        let text = "\u{1f332}\u{1f332}\u{1f332}";
        for limit in 8..12 {
            assert_eq!(head(text, 1, limit), ("\u{1f332}\u{1f332}".into(), Some(Missing::RestOfLine)), "{limit}");
            assert_eq!(tail(text, 1, limit), ("\u{1f332}\u{1f332}".into(), Some(Missing::RestOfLine)), "{limit}");
        }
        assert_eq!((head(text, 1, 12), tail(text, 1, 12)), ((text.into(), None), (text.into(), None)));
        // What is no text at all stays as it is.
        assert_eq!(first_within(&mut Cursor::new([0xff; 4]), 1, 3).unwrap().bytes, [0xff; 3]);
        assert_eq!(last_within(&mut Cursor::new([0x80; 9]), 9, 1, 6).unwrap().bytes, [0x80; 3]);
    }
}
