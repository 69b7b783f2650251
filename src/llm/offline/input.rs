//! The user's input, taken apart: words to compare, and values that arguments can be filled with.

use std::collections::BTreeSet;

/// What an input consists of.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Words that were written, as stems, with what they usually stand for.
    pub(super) words: BTreeSet<String>,
    /// Words that values imply: a file name implies `file`, an extension its kind.
    pub(super) implied: BTreeSet<String>,
    /// Every plain word, lower case, for whole names and enum values.
    pub(super) plain: Vec<String>,
    /// `key=value`.
    pub(super) pairs: Vec<(String, String)>,
    pub(super) quoted: Vec<String>,
    /// Numbers, as written.
    pub(super) numbers: Vec<String>,
    pub(super) paths: Vec<String>,
    pub(super) urls: Vec<String>,
    /// Words with `*`.
    pub(super) globs: Vec<String>,
}

/// Words without a meaning of their own.
const STOP: [&str; 54] = [
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "do", "does", "for",
    "from", "get", "give", "has", "have", "how", "i", "in", "is", "it", "its", "may", "me", "my", "of", "on", "or",
    "please", "tell", "that", "the", "their", "them", "there", "these", "this", "to", "use", "using", "was", "we",
    "what", "where", "will", "with", "would", "you", "your",
];

/// What everyday words stand for in the names of tools.
const STANDS_FOR: [(&str, &[&str]); 23] = [
    ("show", &["read", "list"]),
    ("open", &["read"]),
    ("print", &["read"]),
    ("display", &["read"]),
    ("view", &["read"]),
    ("cat", &["read"]),
    ("say", &["read"]),
    ("content", &["read"]),
    ("explain", &["read"]),
    ("summarize", &["read"]),
    ("summarise", &["read"]),
    ("summary", &["read"]),
    ("which", &["list"]),
    ("ls", &["list", "directory"]),
    ("folder", &["directory"]),
    ("dir", &["directory"]),
    ("find", &["search"]),
    ("grep", &["search"]),
    ("size", &["info"]),
    ("detail", &["info"]),
    ("remove", &["delete"]),
    ("sum", &["add"]),
    ("readme", &["text", "file"]),
];

const IMAGES: [&str; 8] = ["png", "jpg", "jpeg", "gif", "webp", "mp3", "wav", "mp4"];
/// Extensions of one letter; others, as in `e.g`, are no file names.
const ONE_LETTER: [&str; 5] = ["c", "h", "r", "d", "m"];
const NO_PATHS: [&str; 8] = ["and/or", "either/or", "n/a", "w/o", "w/", "i/o", "yes/no", "he/she"];
const QUOTES: [(char, char); 6] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“'), ('«', '»')];

impl Input {
    pub(super) fn read(text: &str) -> Self {
        let mut input = Self::default();
        let mut rest = text.trim_start_matches(is_gap);
        while !rest.is_empty() {
            rest = input.piece(rest).trim_start_matches(is_gap);
        }
        input
    }

    /// Takes one piece off the front and returns what is left.
    fn piece<'t>(&mut self, text: &'t str) -> &'t str {
        if let Some((key, after)) = key(text) {
            let (value, rest) = quoted(after).unwrap_or_else(|| {
                let (word, rest) = word(after);
                (trimmed(word), rest)
            });
            push_new(&mut self.plain, key.to_lowercase());
            self.pairs.push((key.to_owned(), value.to_owned()));
            return rest;
        }
        if let Some((value, rest)) = quoted(text) {
            self.imply(value);
            push_new(&mut self.quoted, value.to_owned());
            return rest;
        }
        let (word, rest) = word(text);
        self.word(trimmed(word));
        rest
    }

    fn word(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        push_new(&mut self.plain, word.to_lowercase());
        if word.contains("://") {
            push_new(&mut self.urls, word.to_owned());
            self.implied.insert("url".to_owned());
        } else if word.contains('*') {
            push_new(&mut self.globs, word.to_owned());
        } else if is_path(word) {
            self.imply(word);
            push_new(&mut self.paths, word.to_owned());
        } else if is_number(word) {
            // Not deduplicated: "add 2 and 2" has two numbers.
            self.numbers.push(word.to_owned());
        } else {
            self.words.extend(words(word));
        }
    }

    fn imply(&mut self, value: &str) {
        if !is_path(value) {
            return;
        }
        let implied: &[&str] = match extension(value) {
            _ if is_directory(value) => &["directory", "list"],
            Some(extension) if IMAGES.contains(&extension) => &["file", "media"],
            Some(_) => &["file", "text"],
            None => &[],
        };
        self.implied.extend(implied.iter().map(|word| (*word).to_owned()));
    }
}

/// The stems of a text's words, with what they stand for, without those that mean nothing.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase();
    let split: Vec<String> = lower.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect();
    split.into_iter().filter(|word| !word.is_empty() && !STOP.contains(&word.as_str())).flat_map(|word| {
        let stem = stem(&word);
        let meant = STANDS_FOR.iter().find(|(word, _)| *word == stem).map_or(&[][..], |(_, meant)| *meant);
        let meant: Vec<String> = meant.iter().map(|word| (*word).to_owned()).collect();
        std::iter::once(stem).chain(meant)
    })
}

/// The stems of a tool's own words, which stand for nothing else.
pub(super) fn stems(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| !word.is_empty() && !STOP.contains(word)).map(stem).collect()
}

/// The word without plural and `-ing`; crude, but the same for both sides of a comparison.
fn stem(word: &str) -> String {
    if let Some(start) = word.strip_suffix("ies").filter(|start| start.len() > 2) {
        return format!("{start}y");
    }
    let plural = word.strip_suffix('s').filter(|start| start.len() > 2 && !start.ends_with(['s', 'u', 'i']));
    let singular = plural.unwrap_or(word);
    singular.strip_suffix("ing").filter(|start| start.len() > 3).unwrap_or(singular).to_owned()
}

/// A word that looks like a path: a file extension, or a slash.
pub(super) fn is_path(word: &str) -> bool {
    let lower = word.to_lowercase();
    if matches!(word, "." | "..") {
        return true;
    }
    let excluded = word.contains("://") || word.contains('@') || NO_PATHS.contains(&lower.as_str());
    let slashed =
        word.contains('/') && word.chars().any(char::is_alphabetic) || matches!(word, "/" | "./" | "../" | "~/");
    !excluded && (slashed || extension(word).is_some())
}

fn is_directory(path: &str) -> bool {
    path.ends_with('/') || matches!(path, "." | "..")
}

/// The extension of a file name: letters and digits after its last dot, with something before it.
fn extension(word: &str) -> Option<&str> {
    let name = word.rsplit('/').next()?;
    let (start, extension) = name.rsplit_once('.')?;
    let letters = extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && extension.bytes().any(|byte| byte.is_ascii_alphabetic())
        && extension.len() <= 10;
    let named = start.chars().any(char::is_alphanumeric) || (start.is_empty() && extension.len() > 2);
    let long = extension.len() > 1 || ONE_LETTER.contains(&extension);
    (letters && named && long).then_some(extension)
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || c == '-') && word.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | '[' | '<' | '{' | ',' | ';')
}

fn key(text: &str) -> Option<(&str, &str)> {
    let (key, after) = text.split_once('=')?;
    let fits = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    (fits && !after.is_empty() && !after.starts_with(char::is_whitespace)).then_some((key, after))
}

/// The quoted string that `text` begins with, and the rest. A closing quote stands at the end of a word, which an apostrophe doesn't.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    let (_, close) = QUOTES.iter().find(|(open, _)| *open == first)?;
    let inner = &text[first.len_utf8()..];
    inner.match_indices(*close).find_map(|(at, _)| {
        let rest = &inner[at + close.len_utf8()..];
        let ends = rest.chars().next().is_none_or(|next| !next.is_alphanumeric());
        (ends && at > 0).then(|| (&inner[..at], rest))
    })
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// The word without the punctuation of the sentence around it.
fn trimmed(word: &str) -> &str {
    let inner = word.trim_matches(|c: char| {
        matches!(c, ')' | ']' | '>' | '}' | '"' | '\'' | '`' | '”' | '»' | ',' | ';' | ':' | '!' | '?')
    });
    match inner {
        "." | ".." | "..." => inner,
        _ if inner.ends_with("/..") || inner.ends_with("/.") => inner,
        _ => inner.trim_end_matches(['.', '!', '?', ',', ';', ':']),
    }
}

fn push_new(list: &mut Vec<String>, value: String) {
    if !list.contains(&value) {
        list.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_looks() {
        let input = Input::read(
            r#"Compare src/main.rs, (docs/) with "two words" and n=3 limit='a b'; see https://x.io/y.html, *.md 17 -2.5!"#,
        );
        assert_eq!(input.paths, ["src/main.rs", "docs/"]);
        assert_eq!(input.quoted, ["two words"]);
        assert_eq!(input.pairs, [("n".to_owned(), "3".to_owned()), ("limit".to_owned(), "a b".to_owned())]);
        assert_eq!(input.urls, ["https://x.io/y.html"]);
        assert_eq!(input.globs, ["*.md"]);
        assert_eq!(input.numbers, ["17", "-2.5"]);
    }

    #[test]
    fn ordinary_prose_holds_no_paths() {
        let input = Input::read(
            "What's up, e.g. with and/or version 3.5, i.e. John's mail me@example.com? It ends here. Bye...",
        );
        assert!(input.paths.is_empty(), "{:?}", input.paths);
        assert!(input.quoted.is_empty(), "{:?}", input.quoted);
        assert_eq!(input.numbers, ["3.5"]);
    }

    #[test]
    fn the_punctuation_of_a_sentence_is_no_part_of_a_path() {
        for text in
            ["read README.md.", "read README.md?", "read (README.md)", "read `README.md`!", "is it README.md, or"]
        {
            let input = Input::read(text);
            assert_eq!(input.paths.iter().chain(&input.quoted).collect::<Vec<_>>(), ["README.md"], "{text}");
        }
        assert_eq!(Input::read("list .").paths, ["."]);
        assert_eq!(Input::read("open .env").paths, [".env"]);
    }

    #[test]
    fn stems_meet_across_forms() {
        assert_eq!(stem("directories"), stem("directory"));
        assert_eq!(stem("files"), "file");
        assert_eq!(stem("listing"), stem("lists"));
        assert_eq!(stem("status"), "status");
    }
}
