//! The redactor on JSON: what it replaces stays JSON, and what it doesn't stays as it was.

use super::view::View;
use serde_json::{Map, Value};

/// Takes the known values out of strings, keys and numbers. `true` when there was one.
pub(super) fn value(view: &View, value: &mut Value) -> bool {
    parts(view, value) | spanning(view, value)
}

fn parts(view: &View, value: &mut Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => match string(view, &number.to_string()) {
            Some(redacted) => {
                *value = redacted.into();
                true
            }
            None => false,
        },
        Value::String(text) => match string(view, text) {
            Some(redacted) => {
                *text = redacted;
                true
            }
            None => false,
        },
        Value::Array(items) => items.iter_mut().fold(false, |changed, item| parts(view, item) | changed),
        Value::Object(map) => {
            let changed = map.values_mut().fold(false, |changed, item| parts(view, item) | changed);
            keys(view, map) | changed
        }
    }
}

/// Two keys that come to the same are told apart by a number, so that neither's value is lost.
fn keys(view: &View, map: &mut Map<String, Value>) -> bool {
    if !map.keys().any(|key| view.any(key.as_bytes())) {
        return false;
    }
    for (key, item) in std::mem::take(map) {
        let plain = string(view, &key).unwrap_or(key);
        let mut free = plain.clone();
        let mut number = 1;
        while map.contains_key(&free) {
            number += 1;
            free = format!("{plain} {number}");
        }
        map.insert(free, item);
    }
    true
}

fn string(view: &View, text: &str) -> Option<String> {
    let redacted = view.redact(text.as_bytes())?;
    Some(String::from_utf8_lossy(&redacted).into_owned())
}

/// Replaces what a known value spans several parts of: a secret that is JSON itself, handed on as such. The smallest array or object that
/// holds all of it goes. In what [`parts`] wrote nothing is found ([`View::replacement`]).
fn spanning(view: &View, value: &mut Value) -> bool {
    if !view.any(value.to_string().as_bytes()) {
        return false;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| _ = spanning(view, item)),
        Value::Object(map) => map.values_mut().for_each(|item| _ = spanning(view, item)),
        _ => {}
    }
    let text = value.to_string();
    if let Some(span) = view.spans(text.as_bytes()).first() {
        *value = view.replacement(span).into();
    }
    true
}

/// JSON text without the known values; `None` when there was none.
pub(super) fn text(view: &View, text: &str) -> Option<String> {
    // Beyond the spellings that are looked for, JSON can write any character as `\uXXXX`.
    if !view.any(text.as_bytes()) && !text.contains("\\u") && !text.contains("\\/") {
        return None;
    }
    let (mut redacted, mut changed, mut rest) = (String::with_capacity(text.len()), false, text);
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        redacted.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = if rest.starts_with('"') { string_end(rest) } else { number_end(rest) };
        match token(view, &rest[..end]) {
            Some(replaced) => {
                changed = true;
                redacted.push_str(&replaced);
            }
            None => redacted.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    redacted.push_str(rest);
    if !view.any(redacted.as_bytes()) {
        return changed.then_some(redacted);
    }
    match serde_json::from_str::<Value>(&redacted) {
        Ok(mut parsed) => {
            value(view, &mut parsed);
            Some(parsed.to_string())
        }
        Err(_) => string(view, text),
    }
}

/// A string or a number as JSON text, if it holds a known value.
fn token(view: &View, token: &str) -> Option<String> {
    let quoted = |text: String| Value::from(text).to_string();
    if !token.starts_with('"') {
        return string(view, token).map(quoted);
    }
    match serde_json::from_str::<String>(token) {
        Ok(text) => string(view, &text).map(quoted),
        // Half a surrogate pair is no text, though JSON may hold it.
        Err(_) => string(view, token),
    }
}

/// Behind the closing quote of the string that `text` begins with.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))).unwrap_or(text.len())
}
