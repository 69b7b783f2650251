//! `headers` of providers and attached servers, and keys that become part of one: what no request could carry is told when the file is read.

use super::fields::Fields;
use super::problem::FileProblem;
use crate::domain::quoted;

/// Headers that every request has already, or that say how it travels.
const OURS: [&str; 12] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Refuses a name among the headers `key` that is none, that is ours to say, or that stands there twice: their case doesn't count.
pub(super) fn check_names(fields: &Fields<'_>, key: &str) -> Result<(), FileProblem> {
    let Some(headers) = fields.map(key)? else { return Ok(()) };
    let mut known: Vec<(String, &str)> = Vec::new();
    for name in headers.keys() {
        let refused = |reason: String| headers.key_problem(name, format!("`{}`: {reason}", fields.path_of(key)));
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            let reason = format!("{} can't be the name of a header", quoted(name));
            return Err(refused(reason).hint("use letters, digits and `-`, without blanks and colons"));
        }
        if OURS.contains(&lower.as_str()) {
            return Err(refused(format!("`{lower}` is for the station to say")).hint("remove it"));
        }
        if let Some((_, first)) = known.iter().find(|(known, _)| *known == lower) {
            let reason = format!("{} and {} are the same header", quoted(first), quoted(name));
            return Err(refused(reason).hint("keep one of them"));
        }
        known.push((lower, name));
    }
    Ok(())
}

/// Refuses a header's value that can't be sent; it may be a credential and isn't shown.
pub(super) fn check_value(fields: &Fields<'_>, key: &str, name: &str, value: &str) -> Result<(), FileProblem> {
    if !value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Ok(());
    }
    let reason =
        format!("the value of {} has a line break or another control character, which no header carries", quoted(name));
    Err(fields.problem(key, reason).hint("write it on one line"))
}

/// Refuses a key of an API that no header could carry as it is.
pub(super) fn check_api_key(fields: &Fields<'_>, key: &str, value: &str) -> Result<(), FileProblem> {
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let reason = "a key consists of ASCII letters, digits and signs, without blanks and line breaks";
    Err(fields.problem(key, reason).hint("copy it again, on one line"))
}

/// `token` of RFC 9110, 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
