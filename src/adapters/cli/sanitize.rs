//! Text of models and tools, made safe to show: on a terminal, an escape sequence can forge what is read, and a bidi override can reorder
//! it.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

const ESCAPE: char = '\u{1b}';
/// CSI and the string terminator as single C1 characters (ECMA-48, section 5.3).
const CSI: char = '\u{9b}';
const STRING_TERMINATOR: char = '\u{9c}';

/// `text` without control characters (save for newlines and tabs), escape sequences and bidi controls.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            ESCAPE => skip_sequence(&mut rest),
            CSI => skip_control_sequence(&mut rest),
            _ if is_unsafe(character) => {}
            _ => kept.push(character),
        }
    }
    Cow::Owned(kept)
}

/// `text` on one line of at most `limit` characters.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let line = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// JSON text in which unsafe characters are escaped, so that the same value is read from it. serde_json escapes C0 by itself, and outside
/// of strings JSON has none of them.
pub(super) fn escaped_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_unsafe(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Bidi embeddings, overrides and isolates; the marks U+200E and U+200F only nudge and occur in honest text.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

/// What follows an ESC (ECMA-48). A string that never ends takes only its introducer along, or it could hide all the rest.
fn skip_sequence(rest: &mut Peekable<Chars<'_>>) {
    match rest.peek().copied() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            rest.next();
            let mut ahead = rest.clone();
            if skip_string(&mut ahead) {
                *rest = ahead;
            }
        }
        Some(' '..='/') => {
            while rest.next_if(|next| matches!(next, ' '..='/')).is_some() {}
            rest.next_if(|next| matches!(next, '0'..='~'));
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

fn skip_control_sequence(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|next| matches!(next, ' '..='?')).is_some() {}
    rest.next_if(|next| matches!(next, '@'..='~'));
}

/// True when the end of the string was found.
fn skip_string(rest: &mut Peekable<Chars<'_>>) -> bool {
    while let Some(character) = rest.next() {
        match character {
            '\u{7}' | STRING_TERMINATOR => return true,
            ESCAPE if rest.next_if_eq(&'\\').is_some() => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_controls_vanish_and_text_stays() {
        let cases = [
            ("plain\ttext\nü €", "plain\ttext\nü €"),
            ("\u{1b}[31;1mred\u{1b}[0m", "red"),
            ("\u{9b}2Jcleared", "cleared"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;https://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}Pq#0\u{9c}sixel", "sixel"),
            ("\u{1b}(Bcharset \u{1b}7saved", "charset saved"),
            ("over\rwritten\u{8}\u{7f}", "overwritten"),
            ("user\u{202e}txt.exe\u{2066}", "usertxt.exe"),
            ("ends in \u{1b}", "ends in "),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_string_that_never_ends_hides_nothing() {
        assert_eq!(clean("\u{1b}]0;the rest is still read"), "0;the rest is still read");
    }

    #[test]
    fn escaped_json_reads_as_the_same_value() {
        let value = serde_json::json!({ "a": "\u{1b}[2J\u{9b}1m\u{202e}\u{7f}" });
        let text = value.to_string();
        let escaped = escaped_json(&text);
        assert!(!escaped.chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn a_long_text_is_cut_to_one_line() {
        assert_eq!(one_line("a\n  b\tc", 10), "a b c");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
