//! `read_text_file`, `read_multiple_files`, and how the other tools read.

use super::roots::Place;
use super::{Answer, MAX_FILE_BYTES, Refusal};
use cap_std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Which lines are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Whole,
    Head(usize),
    Tail(usize),
}

/// The text of a file. Bytes that aren't UTF-8 become replacement characters, and a second block says so. Of a file past the limit, only a
/// part can be read; the part itself stays within the limit.
pub(super) fn text(place: &Place<'_>, part: Part) -> Result<Answer, Refusal> {
    let bytes = match part {
        Part::Whole => bytes(place, MAX_FILE_BYTES, "at once, use `head` or `tail`")?,
        Part::Head(_) => bounded(&mut place.open_file()?).map_err(|cause| place.refusal(&cause))?,
        Part::Tail(_) => end(&mut place.open_file()?).map_err(|cause| place.refusal(&cause))?,
    };
    let (text, is_text) = decoded(bytes);
    let text = match part {
        Part::Whole => text,
        Part::Head(count) => first_lines(&text, count),
        Part::Tail(count) => last_lines(&text, count),
    };
    let answer = Answer::text(text);
    Ok(if is_text { answer } else { answer.noting(not_text(place.asked())) })
}

/// Several files, each with its path; one that can't be read says why in its place. All together stay within the limit of one.
pub(super) fn several<'a>(paths: &'a [String], place: impl Fn(&'a str) -> Result<Place<'a>, Refusal>) -> Answer {
    let (mut left, mut parts, mut broken) = (MAX_FILE_BYTES, Vec::new(), Vec::new());
    for path in paths {
        let read = place(path).and_then(|place| bytes(&place, left, "by this call, read it alone"));
        parts.push(match read {
            Ok(bytes) => {
                left -= bytes.len() as u64;
                let (text, is_text) = decoded(bytes);
                broken.extend((!is_text).then_some(path));
                format!("{path}:\n{text}\n")
            }
            Err(refusal) => format!("{path}: Error - {}", refusal.message),
        });
    }
    broken.into_iter().fold(Answer::text(parts.join("\n---\n")), |answer, path| answer.noting(not_text(path)))
}

/// The text of a file that is going to be changed: it has to be UTF-8, or its other bytes would be lost.
pub(super) fn exact(place: &Place<'_>) -> Result<String, Refusal> {
    String::from_utf8(bytes(place, MAX_FILE_BYTES, "to be edited")?).map_err(|cause| {
        let at = cause.utf8_error().valid_up_to();
        Refusal::new(format!("{} isn't UTF-8 text (byte {at}): editing it would damage it", place.asked()))
    })
}

/// The content of a file of at most `limit` bytes; `how` says what the limit is for.
pub(super) fn bytes(place: &Place<'_>, limit: u64, how: &str) -> Result<Vec<u8>, Refusal> {
    let mut file = place.open_file()?;
    let failed = |cause: std::io::Error| place.refusal(&cause);
    let size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if size <= limit {
        (&mut file).take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    let size = size.max(bytes.len() as u64);
    if size > limit {
        return Err(Refusal::new(format!("{} has {size} bytes; at most {limit} are read {how}", place.asked())));
    }
    Ok(bytes)
}

fn bounded(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn end(file: &mut File) -> std::io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(MAX_FILE_BYTES)))?;
    bounded(file)
}

/// The text, and whether it is one.
fn decoded(bytes: Vec<u8>) -> (String, bool) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, true),
        Err(invalid) => (String::from_utf8_lossy(invalid.as_bytes()).into_owned(), false),
    }
}

fn not_text(path: &str) -> String {
    format!("({path} isn't UTF-8 text: what can't be read is shown as \u{fffd}. `read_media_file` gives its bytes.)")
}

fn first_lines(text: &str, count: usize) -> String {
    text.split_terminator('\n').take(count).collect::<Vec<_>>().join("\n")
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
        assert_eq!(first_lines(text, 2), "one\r\ntwo");
        assert_eq!(last_lines(text, 2), "two\nthree");
        assert_eq!((first_lines(text, 0), last_lines(text, 9)), (String::new(), "one\ntwo\nthree".into()));
    }
}
