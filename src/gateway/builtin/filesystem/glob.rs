//! Patterns over relative paths, the part of minimatch's language that people use: `*` and `?` within a name, `**` across names, `[a-z]`,
//! `[!a]`, `{one,two}`. Names that begin with a dot are like any other.

use super::Refusal;

/// The most patterns that the alternatives of one pattern may become.
const MAX_ALTERNATIVES: usize = 256;

/// The longest pattern, in bytes; no path is longer.
const LONGEST: usize = 4096;

/// A pattern, ready to be matched.
#[derive(Debug)]
pub(super) struct Glob {
    alternatives: Vec<Vec<String>>,
}

impl Glob {
    /// Whether `text` has anything of the language in it.
    pub(super) fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    /// Refused is a pattern that is too long or stands for too many alternatives.
    pub(super) fn new(pattern: &str) -> Result<Self, Refusal> {
        if pattern.len() > LONGEST {
            return Err(Refusal::new(format!(
                "a pattern of {} bytes is too long; {LONGEST} are the most",
                pattern.len()
            )));
        }
        let expanded = expand(pattern.trim_start_matches("./"))?;
        let segments = |pattern: &String| pattern.split('/').map(str::to_owned).collect();
        Ok(Self { alternatives: expanded.iter().map(segments).collect() })
    }

    /// Whether all of `path` matches. Separators are `/`.
    pub(super) fn matches(&self, path: &str) -> bool {
        let names: Vec<_> = path.split('/').collect();
        self.alternatives.iter().any(|pattern| segments_match(pattern, &names))
    }
}

/// Writes `{a,b}` out. Braces that don't close are ordinary characters.
fn expand(pattern: &str) -> Result<Vec<String>, Refusal> {
    let (mut expanded, mut left) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(next) = left.pop() {
        match first_braces(&next) {
            None => expanded.push(next),
            Some((before, choices, after)) => {
                left.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
        }
        if expanded.len() + left.len() > MAX_ALTERNATIVES {
            return Err(Refusal::new(format!(
                "the pattern stands for more than {MAX_ALTERNATIVES} alternatives; leave some of its `{{...}}` out, or search more than once"
            )));
        }
    }
    Ok(expanded)
}

fn first_braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = pattern.find('{')?;
    let (mut depth, mut start, mut choices) = (0, open + 1, Vec::new());
    for (at, c) in pattern[open..].char_indices().map(|(at, c)| (at + open, c)) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(&pattern[start..at]);
                start = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(&pattern[start..at]);
                return Some((&pattern[..open], choices, &pattern[at + 1..]));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// One row per pattern segment, so that the time is bounded by the product of both lengths however many `**` there are.
fn segments_match(pattern: &[String], names: &[&str]) -> bool {
    let mut reached = vec![false; names.len() + 1];
    reached[0] = true;
    for (number, segment) in pattern.iter().enumerate() {
        // At the end it stands for what is inside, which the directory itself is not.
        let is_last = number + 1 == pattern.len();
        let mut next = vec![false; names.len() + 1];
        for at in 0..=names.len() {
            next[at] = if segment == "**" {
                (!is_last && reached[at]) || (at > 0 && (reached[at - 1] || next[at - 1]))
            } else {
                at > 0 && reached[at - 1] && name_matches(segment, names[at - 1])
            };
        }
        reached = next;
    }
    reached[names.len()]
}

fn name_matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for token in tokens(pattern) {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match &token {
                Token::Star => reached[at] || (at > 0 && next[at - 1]),
                Token::One(class) => at > 0 && reached[at - 1] && class.contains(name[at - 1]),
            };
        }
        reached = next;
    }
    reached[name.len()]
}

enum Token {
    Star,
    One(Class),
}

enum Class {
    Any,
    Is(char),
    Set { ranges: Vec<(char, char)>, negated: bool },
}

impl Class {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => *wanted == c,
            Self::Set { ranges, negated } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let (token, used) = match chars[at] {
            '*' => (Token::Star, 1),
            '?' => (Token::One(Class::Any), 1),
            '[' => set(&chars[at..]).map_or((Token::One(Class::Is('[')), 1), |(class, used)| (Token::One(class), used)),
            '\\' if at + 1 < chars.len() => (Token::One(Class::Is(chars[at + 1])), 2),
            c => (Token::One(Class::Is(c)), 1),
        };
        tokens.push(token);
        at += used;
    }
    tokens
}

/// Reads `[...]`; the first character inside is never the closing one.
fn set(chars: &[char]) -> Option<(Class, usize)> {
    let negated = matches!(chars.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let end = (start + 1..chars.len()).find(|&at| chars[at] == ']')?;
    let (inside, mut ranges, mut at) = (&chars[start..end], Vec::new(), 0);
    while at < inside.len() {
        let is_range = at + 2 < inside.len() && inside[at + 1] == '-';
        ranges.push((inside[at], if is_range { inside[at + 2] } else { inside[at] }));
        at += if is_range { 3 } else { 1 };
    }
    Some((Class::Set { ranges, negated }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_minimatch_does() {
        for (pattern, path, expected) in [
            ("*.rs", "main.rs", true),
            ("*.rs", "src/main.rs", false),
            ("**/*.rs", "main.rs", true),
            ("**/*.rs", "a/b/main.rs", true),
            ("src/**", "src/a/b", true),
            ("src/**", "src", false),
            ("**", "a", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/x/y/c", false),
            ("?.[ch]", "x.h", true),
            ("?.[!ch]", "x.h", false),
            ("*.{md,{txt,log}}", "a.log", true),
            ("*.{md", "a.{md", true),
            (".*", ".git", true),
            ("*", ".git", true),
            ("\\*", "a", false),
            ("ü*", "über", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(path), expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = format!("{}b", "*a".repeat(200));
        assert!(!Glob::new(&pattern).unwrap().matches(&"a".repeat(2000)));
        assert!(Glob::new(&"{a}".repeat(1365)).unwrap().matches(&"a".repeat(1365)));
        assert_eq!(Glob::new(&"{a,b}".repeat(8)).unwrap().alternatives.len(), 256);
        for refused in ["{a,b}".repeat(9), "{a}".repeat(100_000), "{".repeat(4097)] {
            assert!(Glob::new(&refused).is_err());
        }
        assert!(!Glob::new(&"{".repeat(4096)).unwrap().matches("a"));
    }
}
