//! Patterns over relative paths, the part of minimatch's language that people use: `*` and `?` within a name, `**` across names, `[a-z]`,
//! `[!a]`, `{one,two}`. Names that begin with a dot are like any other.

/// How many patterns the alternatives of one pattern may become.
const MAX_ALTERNATIVES: usize = 64;

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

    pub(super) fn new(pattern: &str) -> Self {
        let mut expanded = Vec::new();
        expand(pattern.trim_start_matches("./"), &mut expanded);
        let segments = |pattern: &String| pattern.split('/').map(str::to_owned).collect();
        Self { alternatives: expanded.iter().map(segments).collect() }
    }

    /// Whether all of `path` matches. Separators are `/`.
    pub(super) fn matches(&self, path: &str) -> bool {
        let names: Vec<_> = path.split('/').collect();
        self.alternatives.iter().any(|pattern| segments_match(pattern, &names))
    }
}

/// Writes `{a,b}` out. Braces that don't close are ordinary characters.
fn expand(pattern: &str, expanded: &mut Vec<String>) {
    if expanded.len() >= MAX_ALTERNATIVES {
        return;
    }
    let Some((before, choices, after)) = first_braces(pattern) else {
        expanded.push(pattern.to_owned());
        return;
    };
    for choice in choices {
        expand(&format!("{before}{choice}{after}"), expanded);
    }
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
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = format!("{}b", "*a".repeat(200));
        assert!(!Glob::new(&pattern).matches(&"a".repeat(2000)));
        assert!(Glob::new(&"{a,b}".repeat(40)).alternatives.len() <= MAX_ALTERNATIVES);
    }
}
