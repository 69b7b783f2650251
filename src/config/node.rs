//! Where every part of a parsed text stands. Values say what a file means; nodes say where it says so, for messages and for edits.

use super::problem::Position;
use std::ops::Range;

/// How a node is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A collection by indentation.
    Block,
    /// A collection in brackets or braces.
    Flow,
    /// A plain or quoted scalar.
    Inline,
    /// A `|` or `>` scalar.
    BlockScalar,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// The text after unquoting, as written: `012` stays `012`.
    Scalar(String),
    Alias,
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

impl Entry {
    /// Where the entry's text ends; behind the colon when it has no value.
    pub(super) fn end(&self) -> usize {
        self.value.span.end.max(self.key_span.end)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Bytes of the parsed text, without anchor and tag.
    pub(super) span: Range<usize>,
    pub(super) at: Position,
    pub(super) style: Style,
    /// Carries an anchor or a tag, so that its text isn't the whole truth about it.
    pub(super) decorated: bool,
    pub(super) kind: Kind,
}

impl Node {
    /// The entry of a map under `key`.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a map; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The `index`-th item of a list.
    pub(super) fn item(&self, index: usize) -> Option<&Node> {
        match &self.kind {
            Kind::List(items) => items.get(index),
            _ => None,
        }
    }
}
