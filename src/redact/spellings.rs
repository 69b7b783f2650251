//! The spellings in which a value may turn up: how programs write text into JSON, URLs, HTML, hex and base64.

use super::SHORTEST;
use std::collections::BTreeSet;

/// The least bytes of one line of a value of several lines that is looked for by itself: shorter ones are braces and words.
const SHORTEST_LINE: usize = 16;

/// What programs leave as it is when they percent-encode: RFC 3986, JavaScript's `encodeURIComponent`, HTML forms, Python's `quote`, and
/// the path and query of the WHATWG URL standard.
const LEFT_IN_URLS: [&str; 6] =
    ["-_.~", "-_.!~*'()", "*-._", "/-_.~", "-_.~!$&'()*+,;=:@/[]|^\\%", "-_.~!$&'()*+,;=:@/?[]{}|\\^`%"];

const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// All spellings of `value`, with those of the value without the white space around it. Empty when that is too short.
pub(super) fn spellings(value: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for value in BTreeSet::from([value, value.trim()]).into_iter().filter(|value| value.len() >= SHORTEST) {
        let text = quoted(value);
        all.extend(encoded(value.as_bytes()));
        all.extend(text);
        all.extend(urls(value));
        all.extend(html(value));
        all.extend(long_lines(value).flat_map(quoted));
    }
    all
}

/// The texts that `value` is looked for as, before they are spelled: itself, without the white space around it, and its lines.
pub(super) fn texts(value: &str) -> Vec<&str> {
    [value, value.trim()].into_iter().chain(long_lines(value)).collect()
}

/// The lines of a value of several, because logs are read and written by line. The frame of a PEM file is no secret.
fn long_lines(value: &str) -> impl Iterator<Item = &str> {
    let several = value.contains('\n');
    let lines = value.lines().map(str::trim).filter(move |_| several);
    lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("-----"))
}

/// As it is, and as strings of JSON and of Rust's debug output have it, also JSON inside JSON.
fn quoted(value: &str) -> BTreeSet<String> {
    let minimal = json(value);
    let plain = [value.to_owned(), debug(value)];
    let once = [
        ascii(&minimal, false),
        ascii(&minimal, true),
        minimal.replace('/', "\\/"),
        for_scripts(&minimal, "<>&", false),
        for_scripts(&minimal, "<>&'+`", true),
        ascii(&for_scripts(&minimal, "<>&'+`", true), true),
        minimal,
    ];
    let twice: Vec<String> = once.iter().chain([&debug(value)]).map(|text| json(text)).collect();
    let thrice: Vec<String> = twice.iter().map(|text| json(text)).collect();
    plain.into_iter().chain(once).chain(twice).chain(thrice).collect()
}

/// The inside of a JSON string, as serde writes it.
pub(super) fn json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn debug(value: &str) -> String {
    let quoted = format!("{value:?}");
    quoted[1..quoted.len() - 1].to_owned()
}

/// With `\uXXXX` for whatever isn't ASCII.
fn ascii(json: &str, upper: bool) -> String {
    json.chars().map(|c| if c.is_ascii() { c.to_string() } else { escaped(c, upper) }).collect()
}

/// With `\uXXXX` for what might end a script in a page, as Go and .NET write it.
fn for_scripts(json: &str, which: &str, upper: bool) -> String {
    json.chars().map(|c| if which.contains(c) { escaped(c, upper) } else { c.to_string() }).collect()
}

fn escaped(c: char, upper: bool) -> String {
    let mut units = [0; 2];
    let units = c.encode_utf16(&mut units);
    units.iter().map(|unit| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") }).collect()
}

fn urls(value: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for left in LEFT_IN_URLS {
        for space in ["%20", "+"] {
            for upper in [true, false] {
                all.insert(percent(value, left, space, upper));
            }
        }
    }
    all
}

fn percent(value: &str, left: &str, space: &str, upper: bool) -> String {
    let one = |byte: u8| match byte {
        b' ' => space.to_owned(),
        _ if byte.is_ascii_alphanumeric() || left.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ if upper => format!("%{byte:02X}"),
        _ => format!("%{byte:02x}"),
    };
    value.bytes().map(one).collect()
}

fn html(value: &str) -> [String; 3] {
    let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = text.replace('"', "&quot;");
    [quoted.replace('\'', "&#39;"), quoted.replace('\'', "&#x27;"), text.replace('"', "&#34;").replace('\'', "&#39;")]
}

/// Hex in both cases, and base64 in both alphabets: as a whole, and what of it doesn't depend on the neighbours at each of the three
/// places where the value may begin in a group.
fn encoded(bytes: &[u8]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    all.insert(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    all.insert(bytes.iter().map(|byte| format!("{byte:02X}")).collect());
    for alphabet in BASE64 {
        let whole = base64(bytes, alphabet);
        let padding = "=".repeat((4 - whole.len() % 4) % 4);
        all.insert(format!("{whole}{padding}"));
        all.insert(whole);
        for before in 0..3 {
            let shifted = base64(&[&[0; 2][..before], bytes].concat(), alphabet);
            let (first, last) = ((8 * before).div_ceil(6), 8 * (before + bytes.len()) / 6);
            all.insert(shifted[first..last].to_owned());
        }
    }
    all
}

/// Base64 without padding.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (at, byte)| bits | (u32::from(*byte) << (16 - 8 * at)));
        for at in 0..=group.len() {
            text.push(char::from(alphabet[((bits >> (18 - 6 * at)) & 63) as usize]));
        }
    }
    text
}
