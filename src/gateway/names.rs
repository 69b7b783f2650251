//! Names of attached tools towards clients and models.

use crate::domain::to_hex;
use sha2::{Digest, Sha256};

/// What clients and models accept everywhere.
const MAX_NAME: usize = 60;
/// Hexadecimal digits of the hash that keeps shortened names apart.
const HASH_DIGITS: usize = 8;

/// The full name `<server>__<tool>`: at most 60 characters of `[a-zA-Z0-9_-]`. A name that doesn't fit is cut and gets a hash of the
/// original. Full names are looked up in a table and never taken apart.
pub fn full_name(server: &str, tool: &str) -> String {
    let plain = format!("{server}__{tool}");
    let fitting: String =
        plain.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect();
    if fitting == plain && plain.len() <= MAX_NAME {
        return plain;
    }
    let hash = sha256_hex(&[server.as_bytes(), tool.as_bytes()]);
    format!("{}_{}", &fitting[..fitting.len().min(MAX_NAME - HASH_DIGITS - 1)], &hash[..HASH_DIGITS])
}

/// SHA-256 over `parts`, each preceded by its length, so that no two lists of parts have the same input.
pub(super) fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    to_hex(&hash.finalize())
}

/// Whether all of `name` matches `pattern`, in which `*` stands for any characters.
pub(super) fn glob_matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(between) = last.replace(piece) {
            let Some(at) = rest.find(between) else { return false };
            rest = &rest[at + between.len()..];
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

/// The three of `names` that look most like `wanted`, leaving out those that hardly do.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut ranked: Vec<_> = names
        .map(|name| (if name.contains(wanted) { 0 } else { distance(wanted, name) }, name))
        .filter(|(far, _)| *far <= wanted.len().div_ceil(3))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein's distance in bytes.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, b) in other.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Whether `pattern`, a tool's full name or a glob over full names, may mean a tool of `server`. Full names may be shortened, so only
/// the beginning that both have in common counts.
pub fn may_match(pattern: &str, server: &str) -> bool {
    let literal = pattern.split('*').next().unwrap_or_default();
    let full = format!("{server}__");
    let shared = literal.len().min(full.len()).min(MAX_NAME - HASH_DIGITS - 1);
    literal.starts_with("__") || literal.as_bytes()[..shared] == full.as_bytes()[..shared]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_a_pattern_may_mean_matter() {
        for (pattern, server) in
            [("files__read", "files"), ("files__*", "files"), ("fi*", "files"), ("*", "files"), ("__read", "files")]
        {
            assert!(may_match(pattern, server), "{pattern} {server}");
        }
        for (pattern, server) in [("files__read", "file"), ("files__*", "git"), ("g*", "files"), ("file__*", "files")] {
            assert!(!may_match(pattern, server), "{pattern} {server}");
        }
        let long = "a".repeat(60);
        assert!(may_match(&full_name(&long, "tool"), &long));
    }

    #[test]
    fn names_fit_everywhere_and_stay_apart() {
        assert_eq!(full_name("files", "read_text_file"), "files__read_text_file");
        let (dotted, spaced) = (full_name("s", "a.b"), full_name("s", "a b"));
        assert!(dotted.starts_with("s__a_b_") && spaced.starts_with("s__a_b_") && dotted != spaced);
        let (long, longer) = (full_name("s", &"x".repeat(70)), full_name("s", &"x".repeat(71)));
        assert!(long.len() == MAX_NAME && longer.len() == MAX_NAME && long != longer);
        assert_ne!(full_name("a", "b__c_ü"), full_name("a__b", "c_ü"));
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("git__*", "git__log", true),
            ("*__read*", "files__read_text_file", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*a", "a", false),
            ("git__log", "git__log", true),
            ("git__log", "git__logs", false),
            ("a*b", "ac", false),
        ] {
            assert_eq!(glob_matches(pattern, name), expected, "{pattern} against {name}");
        }
    }

    #[test]
    fn a_typo_finds_what_was_meant() {
        let names = ["files__read_text_file", "files__write_file", "git__log"];
        assert_eq!(nearest("files__read_txt_file", names.into_iter())[0], "files__read_text_file");
        assert!(nearest("zzzzzzzzzzzz", names.into_iter()).is_empty());
    }
}
