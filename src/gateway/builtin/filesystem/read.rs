//! `read_text_file`, `read_multiple_files`, and how the other tools read.

use super::parts::{self, Lines};
use super::roots::Place;
use super::{Answer, MAX_FILE_BYTES, Refusal};
use cap_std::fs::File;
use std::io::{self, Read};

/// Which lines are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Whole,
    Head(usize),
    Tail(usize),
}

/// The text of a file. Bytes that aren't UTF-8 become replacement characters, and a second block says so. Of a file past the limit, only a
/// part can be read; the part itself stays within the limit, and a further block says where that left lines out.
pub(super) fn text(place: &Place<'_>, part: Part) -> Result<Answer, Refusal> {
    let read = |lines: fn(&mut File, usize) -> io::Result<Lines>, count| {
        lines(&mut place.open_file()?, count).map_err(|cause| place.refusal(&cause))
    };
    let Lines { bytes, missing } = match part {
        Part::Whole => Lines::all(bytes(place, MAX_FILE_BYTES, "at once, use `head` or `tail`")?),
        Part::Head(count) => read(parts::first, count)?,
        Part::Tail(count) => read(parts::last, count)?,
    };
    let (text, is_text) = decoded(bytes);
    let mut answer = Answer::text(text);
    if !is_text {
        answer = answer.noting(not_text(place.asked()));
    }
    Ok(match missing {
        Some(missing) => answer.noting(missing.note(place.asked())),
        None => answer,
    })
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
    let failed = |cause: io::Error| place.refusal(&cause);
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
