//! `read_text_file`.

use super::roots::Place;
use super::{MAX_FILE_BYTES, Refusal};
use cap_std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Which lines are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Whole,
    Head(usize),
    Tail(usize),
}

/// The text of a file. Bytes that aren't UTF-8 become replacement characters. Of a file past the limit, only a part can be read; the part
/// itself stays within the limit.
pub(super) fn text(place: &Place<'_>, part: Part) -> Result<String, Refusal> {
    let mut file = place.open_file()?;
    let failed = |cause: std::io::Error| place.refusal(&cause);
    let size = file.metadata().map_err(failed)?.len();
    match part {
        Part::Whole if size > MAX_FILE_BYTES => Err(Refusal::new(format!(
            "the file has {size} bytes; at most {MAX_FILE_BYTES} are read at once, use `head` or `tail`"
        ))),
        Part::Whole => bounded(&mut file).map_err(failed),
        Part::Head(count) => Ok(first_lines(&bounded(&mut file).map_err(failed)?, count)),
        Part::Tail(count) => {
            file.seek(SeekFrom::Start(size.saturating_sub(MAX_FILE_BYTES))).map_err(failed)?;
            Ok(last_lines(&bounded(&mut file).map_err(failed)?, count))
        }
    }
}

fn bounded(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(invalid) => String::from_utf8_lossy(invalid.as_bytes()).into_owned(),
    })
}

fn first_lines(text: &str, count: usize) -> String {
    text.lines().take(count).collect::<Vec<_>>().join("\n")
}

/// Like `tail -n`: the line feed at the end of the file ends the last line and doesn't begin another.
fn last_lines(text: &str, count: usize) -> String {
    let mut lines: Vec<_> = text.lines().rev().take(count).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_in_lines() {
        let text = "one\r\ntwo\nthree\n";
        assert_eq!(first_lines(text, 2), "one\ntwo");
        assert_eq!(last_lines(text, 2), "two\nthree");
        assert_eq!((first_lines(text, 0), last_lines(text, 9)), (String::new(), "one\ntwo\nthree".into()));
    }
}
