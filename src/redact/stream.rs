//! The redactor for what comes in pieces: a value that is split over several is found all the same.

use super::Redactor;
use std::borrow::Cow;

/// Lets pieces through, except for the end of what it has seen so far when a known value may begin there: that waits for the next piece.
#[derive(Debug)]
pub struct RedactedStream {
    redactor: Redactor,
    held: Vec<u8>,
    /// How much of the beginning of `held` belongs to a value that has been replaced already; it is only kept because another value may
    /// begin inside it.
    replaced: usize,
}

impl RedactedStream {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self { redactor, held: Vec::new(), replaced: 0 }
    }

    /// Takes the next piece, and returns what can be shown by now.
    pub fn push<'a>(&mut self, piece: &'a [u8]) -> Cow<'a, [u8]> {
        if self.held.is_empty() && self.redactor.is_empty() {
            return Cow::Borrowed(piece);
        }
        self.held.extend_from_slice(piece);
        Cow::Owned(self.release(false))
    }

    /// As [`Self::push`], for text.
    pub fn push_str(&mut self, piece: &str) -> String {
        // A pattern is text, so what is held begins between two characters.
        String::from_utf8_lossy(&self.push(piece.as_bytes())).into_owned()
    }

    /// What was held, now that no more pieces come. The stream can be used again.
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(true)
    }

    /// As [`Self::finish`], for text.
    pub fn finish_str(&mut self) -> String {
        String::from_utf8_lossy(&self.finish()).into_owned()
    }

    fn release(&mut self, all: bool) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let mut shown = std::mem::take(&mut self.replaced);
        let Some(view) = self.redactor.view() else {
            return held[shown..].to_vec();
        };
        let cut = if all { held.len() } else { view.begun(&held) };
        let mut output = Vec::with_capacity(cut);
        for span in view.spans(&held) {
            // One that begins inside what has been replaced only makes that longer.
            if span.start >= shown {
                if span.start >= cut {
                    break;
                }
                output.extend_from_slice(&held[shown..span.start]);
                output.extend_from_slice(view.replacement(&span).as_bytes());
            }
            shown = shown.max(span.end);
        }
        if shown < cut {
            output.extend_from_slice(&held[shown..cut]);
            shown = cut;
        }
        self.held = held[cut..].to_vec();
        self.replaced = shown - cut;
        output
    }
}
