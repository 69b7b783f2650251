//! What is looked for: every spelling of every known value, in one automaton.

use super::SHORTEST;
use super::spellings::spellings;
use aho_corasick::{AhoCorasick, BuildError};
use std::collections::BTreeMap;

/// All spellings of all known values.
pub(super) struct Patterns {
    automaton: AhoCorasick,
    /// By pattern: its bytes, sorted, and what takes its place.
    sorted: Vec<(Vec<u8>, String)>,
    /// The bytes that a pattern begins with.
    first: [bool; 256],
    longest: usize,
}

/// A place in a text that a known value covers, or several that overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The pattern that begins first, the longest of those.
    pattern: usize,
}

impl Patterns {
    /// The patterns of `named` values; `None` when there is nothing to look for.
    pub(super) fn new<'a>(named: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, BuildError> {
        let mut all = BTreeMap::new();
        for (name, value) in named {
            for spelling in spellings(value) {
                all.entry(spelling.into_bytes()).or_insert_with(|| format!("[redacted:{name}]"));
            }
        }
        all.retain(|spelling, _| spelling.len() >= SHORTEST);
        if all.is_empty() {
            return Ok(None);
        }
        let sorted: Vec<(Vec<u8>, String)> = all.into_iter().collect();
        let automaton = AhoCorasick::new(sorted.iter().map(|(pattern, _)| pattern))?;
        let mut first = [false; 256];
        sorted.iter().for_each(|(pattern, _)| first[usize::from(pattern[0])] = true);
        let longest = sorted.iter().map(|(pattern, _)| pattern.len()).max().unwrap_or_default();
        Ok(Some(Self { automaton, sorted, first, longest }))
    }

    /// Whether there is any in `bytes`.
    pub(super) fn any(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    /// The places of all known values, in order, none overlapping another.
    pub(super) fn spans(&self, bytes: &[u8]) -> Vec<Span> {
        let mut found: Vec<Span> = self
            .automaton
            .find_overlapping_iter(bytes)
            .map(|found| Span { start: found.start(), end: found.end(), pattern: found.pattern().as_usize() })
            .collect();
        found.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        found.into_iter().fold(Vec::new(), |mut merged: Vec<Span>, span| {
            match merged.last_mut() {
                Some(last) if span.start < last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
            merged
        })
    }

    /// What takes the place of `span`.
    pub(super) fn replacement(&self, span: &Span) -> &str {
        &self.sorted[span.pattern].1
    }

    /// `bytes` without the known values; `None` when there was none.
    pub(super) fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if !self.any(bytes) {
            return None;
        }
        let (mut redacted, mut copied) = (Vec::with_capacity(bytes.len()), 0);
        for span in self.spans(bytes) {
            redacted.extend_from_slice(&bytes[copied..span.start]);
            redacted.extend_from_slice(self.replacement(&span).as_bytes());
            copied = span.end;
        }
        redacted.extend_from_slice(&bytes[copied..]);
        Some(redacted)
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
