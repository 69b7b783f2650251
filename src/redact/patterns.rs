//! What is looked for: every spelling of every known value of a scope, in one automaton.

use super::SHORTEST;
use super::spellings::spellings;
use aho_corasick::{AhoCorasick, BuildError};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// How much of a spelling the automaton looks for; what follows is compared. So its size doesn't grow with a long value's length, and what
/// was cut off behind this much of a value is found too.
const HEAD: usize = 64;

/// What takes the place of a value whose name can't be told. A spelling that is part of it is not looked for: it would be found in what it
/// was replaced by.
pub(super) const NAMELESS: &str = "[redacted]";

/// How a marker with a name begins. What is part of it isn't looked for either.
const MARKER: &str = "[redacted:";

/// All spellings of the known values of one scope.
pub(super) struct Patterns {
    /// Finds heads.
    automaton: AhoCorasick,
    /// By head: the spellings that begin with it.
    heads: Vec<Range<usize>>,
    /// The spellings and what takes their place, sorted.
    sorted: Vec<(Vec<u8>, String)>,
    /// The bytes that a spelling begins with.
    first: [bool; 256],
    longest: usize,
}

/// A place in a text that a known value covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    pattern: usize,
}

impl Patterns {
    /// The patterns of `named` values; `None` when there is nothing to look for.
    pub(super) fn new<'a>(named: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, BuildError> {
        let mut all = BTreeMap::new();
        for (name, value) in named {
            for spelling in spellings(value) {
                all.entry(spelling.into_bytes()).or_insert_with(|| format!("{MARKER}{name}]"));
            }
        }
        all.retain(|spelling, _| spelling.len() >= SHORTEST && !is_marker(spelling));
        if all.is_empty() {
            return Ok(None);
        }
        let sorted: Vec<(Vec<u8>, String)> = all.into_iter().collect();
        let mut heads: Vec<Range<usize>> = Vec::new();
        for at in 0..sorted.len() {
            match heads.last_mut() {
                Some(last) if head(&sorted[last.start].0) == head(&sorted[at].0) => last.end = at + 1,
                _ => heads.push(at..at + 1),
            }
        }
        let automaton = AhoCorasick::new(heads.iter().map(|same| head(&sorted[same.start].0)))?;
        let mut first = [false; 256];
        sorted.iter().for_each(|(pattern, _)| first[usize::from(pattern[0])] = true);
        let longest = sorted.iter().map(|(pattern, _)| pattern.len()).max().unwrap_or_default();
        Ok(Some(Self { automaton, heads, sorted, first, longest }))
    }

    /// Whether there is any in `bytes`.
    pub(super) fn any(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    /// The places of all known values, in no order; they may overlap. One ends where the text begins to differ from the value.
    pub(super) fn found<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Found> + 'a {
        // By head: where the last value that begins so ends. One that begins again inside itself is only compared from there on: else the
        // time would grow with the square of a text that repeats itself, as the value does.
        let mut covered: HashMap<usize, usize> = HashMap::new();
        self.automaton.find_overlapping_iter(bytes).filter_map(move |found| {
            let (start, head) = (found.start(), found.pattern().as_usize());
            if found.len() < HEAD {
                return Some(Found { start, end: found.end(), pattern: self.heads[head].start });
            }
            let known = covered.get(&head).map_or(0, |end| end.saturating_sub(start)).max(HEAD);
            let (mut length, pattern) = self.farthest(head, known, &bytes[start..])?;
            covered.insert(head, start + length);
            // Not in the middle of a character that the text goes on with.
            while bytes.get(start + length).is_some_and(|byte| byte & 0xC0 == 0x80) && length > HEAD {
                length -= 1;
            }
            Some(Found { start, end: start + length, pattern })
        })
    }

    /// Which of the spellings with this head goes on the farthest in `text`, behind the `known` bytes that need no comparing, and how far.
    /// `None` where all of it is covered by what was found before.
    fn farthest(&self, head: usize, known: usize, text: &[u8]) -> Option<(usize, usize)> {
        let rest = text.get(known..)?;
        let further = |pattern: usize| {
            let tail = self.sorted[pattern].0.get(known..)?;
            Some((known + common(tail, rest), pattern))
        };
        let same = self.heads[head].clone();
        if known > HEAD {
            return same.filter_map(further).max().filter(|(length, _)| *length > known);
        }
        // They are sorted, and so what has most in common stands beside the place where the text would.
        let behind = same.start + self.sorted[same.clone()].partition_point(|(spelling, _)| &spelling[HEAD..] <= rest);
        (behind.saturating_sub(1)..=behind).filter(|pattern| same.contains(pattern)).filter_map(further).max()
    }

    /// What takes the place of `found`.
    pub(super) fn replacement(&self, found: &Found) -> &str {
        &self.sorted[found.pattern].1
    }

    /// Where in `bytes` a pattern may have begun that goes on behind its end: the earliest such place, else the length.
    pub(super) fn begun(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        (from..bytes.len()).find(|&at| self.is_beginning(&bytes[at..])).unwrap_or(bytes.len())
    }

    /// Whether some pattern begins with `part` and is longer.
    fn is_beginning(&self, part: &[u8]) -> bool {
        part.first().is_some_and(|first| self.first[usize::from(*first)]) && {
            let behind = self.sorted.partition_point(|(pattern, _)| pattern.as_slice() <= part);
            self.sorted.get(behind).is_some_and(|(pattern, _)| pattern.starts_with(part))
        }
    }
}

/// Whether the head of `value` is in it once more.
pub(super) fn repeats_itself(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() > HEAD && bytes[1..].windows(HEAD).any(|part| part == head(bytes))
}

/// Whether `spelling` would be found in what it was replaced by.
fn is_marker(spelling: &[u8]) -> bool {
    [MARKER, NAMELESS].iter().any(|marker| marker.as_bytes().windows(spelling.len()).any(|part| part == spelling))
}

fn head(spelling: &[u8]) -> &[u8] {
    &spelling[..spelling.len().min(HEAD)]
}

/// How many bytes both begin with.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
