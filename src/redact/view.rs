//! What one holder of a redactor looks for: the patterns of the scopes that concern it.

use super::patterns::{Found, NAMELESS, Patterns};
use std::sync::Arc;

/// The patterns of one scope or several.
pub(super) struct View {
    scopes: Vec<Arc<Patterns>>,
}

/// A place in a text that a known value covers, or several that overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The scope and the place of what begins first, the longest of those.
    scope: usize,
    found: Found,
}

impl View {
    /// `None` when there is nothing to look for.
    pub(super) fn of(scopes: Vec<Arc<Patterns>>) -> Option<Self> {
        (!scopes.is_empty()).then_some(Self { scopes })
    }

    /// Whether there is any in `bytes`.
    pub(super) fn any(&self, bytes: &[u8]) -> bool {
        self.scopes.iter().any(|patterns| patterns.any(bytes))
    }

    /// The places of all known values, in order, none overlapping another.
    pub(super) fn spans(&self, bytes: &[u8]) -> Vec<Span> {
        let of_scope = |(scope, patterns): (usize, &'_ Arc<Patterns>)| {
            let found = patterns.found(bytes);
            found.map(|found| Span { start: found.start, end: found.end, scope, found }).collect::<Vec<_>>()
        };
        let mut found: Vec<Span> = self.scopes.iter().enumerate().flat_map(of_scope).collect();
        found.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        found.into_iter().fold(Vec::new(), |mut merged: Vec<Span>, span| {
            match merged.last_mut() {
                Some(last) if span.start < last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
            merged
        })
    }

    /// What takes the place of `span`: a marker with the secret's name, or one without where the name holds a known value itself, as that
    /// of a key `lm-studio` for the provider `lm-studio` does. So nothing is found in what has been redacted.
    pub(super) fn replacement(&self, span: &Span) -> &str {
        let marker = self.scopes[span.scope].replacement(&span.found);
        if self.any(marker.as_bytes()) { NAMELESS } else { marker }
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

    /// Where in `bytes` a value may have begun that goes on behind its end: the earliest such place, else the length.
    pub(super) fn begun(&self, bytes: &[u8]) -> usize {
        self.scopes.iter().map(|patterns| patterns.begun(bytes)).min().unwrap_or(bytes.len())
    }
}
