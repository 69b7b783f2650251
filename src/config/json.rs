//! JSON with the place of every part, and without silently dropped duplicate keys.

use super::node::{Entry, Kind, Node, Style};
use super::problem::Position;
use super::yaml::Syntax;
use crate::domain::quoted;
use serde_json::Value;
use std::ops::Range;

/// Parses one JSON text.
pub(super) fn parse(text: &str) -> Result<(Value, Node), Syntax> {
    // As YAML and prompts may have one: editors of Windows write it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = serde_json::from_str(text).map_err(|error| {
        let at = Position { line: error.line().max(1), column: error.column().max(1) };
        let mut message = error.to_string();
        if let Some(cut) = message.rfind(" at line ") {
            message.truncate(cut);
        }
        Syntax { at: Some(at), message: format!("not valid JSON: {message}") }
    })?;
    let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let root = Places { text, at: 0, line_starts, last: (0, 1) }.value()?;
    Ok((value, root))
}

/// Walks a text that is known to be valid JSON. Its depth is bounded by the parser that has accepted it.
struct Places<'a> {
    text: &'a str,
    at: usize,
    line_starts: Vec<usize>,
    /// The last offset that was asked for, and its column: the next is counted from there, also in a file of one long line.
    last: (usize, usize),
}

impl Places<'_> {
    fn value(&mut self) -> Result<Node, Syntax> {
        let start = self.next_token();
        let at = self.position(start);
        let (style, kind) = match self.byte() {
            Some(b'{') => (Style::Flow, Kind::Map(self.entries()?)),
            Some(b'[') => (Style::Flow, Kind::List(self.items()?)),
            Some(b'"') => (Style::Inline, Kind::Scalar(self.string())),
            _ => {
                let rest = &self.text[start..];
                self.at = start + rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
                (Style::Inline, Kind::Scalar(self.text[start..self.at].to_owned()))
            }
        };
        Ok(Node { span: start..self.at, at, style, decorated: false, kind })
    }

    fn items(&mut self) -> Result<Vec<Node>, Syntax> {
        let mut items = Vec::new();
        while !self.closes(b']') {
            items.push(self.value()?);
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Syntax> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = std::collections::HashSet::new();
        while !self.closes(b'}') {
            let start = self.next_token();
            let key = self.string();
            let (key_span, key_at): (Range<usize>, _) = (start..self.at, self.position(start));
            if !known.insert(key.clone()) {
                return Err(Syntax {
                    at: Some(key_at),
                    message: format!("the key {} stands here a second time", quoted(&key)),
                });
            }
            self.next_token();
            self.at += 1; // the colon
            entries.push(Entry { key, key_span, key_at, value: self.value()? });
        }
        Ok(entries)
    }

    /// Steps over the opening bracket or the comma before the next item; true behind the closing bracket.
    fn closes(&mut self, closing: u8) -> bool {
        if matches!(self.byte(), Some(b'{' | b'[')) {
            self.at += 1;
        }
        self.next_token();
        if self.byte() == Some(b',') {
            self.at += 1;
            self.next_token();
        }
        let closed = self.byte().is_none_or(|byte| byte == closing);
        if closed {
            self.at = (self.at + 1).min(self.text.len());
        }
        closed
    }

    fn string(&mut self) -> String {
        let start = self.at;
        let mut escaped = false;
        let length = self.text[start + 1..].bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        self.at = length.map_or(self.text.len(), |length| start + length + 2);
        serde_json::from_str(&self.text[start..self.at]).unwrap_or_default()
    }

    fn next_token(&mut self) -> usize {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.at
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn position(&mut self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let (from, column) = if (start..=offset).contains(&self.last.0) { self.last } else { (start, 1) };
        self.last = (offset, column + self.text[from..offset].chars().count());
        Position { line, column: self.last.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_knows_its_place() {
        let text = "{\n\t\"a\" : [1, {\"b\\\"\": \"x,}\"}, [], {}],\n\t\"c\": null }";
        let (value, root) = parse(text).unwrap();
        assert_eq!(value["a"][1]["b\""], "x,}");
        let list = &root.entry("a").unwrap().value;
        assert_eq!(&text[list.span.clone()], "[1, {\"b\\\"\": \"x,}\"}, [], {}]");
        assert_eq!(list.item(1).unwrap().entry("b\"").unwrap().key_at, Position { line: 2, column: 13 });
        assert_eq!(&text[list.item(3).unwrap().span.clone()], "{}");
        assert_eq!(root.entry("c").unwrap().key_at, Position { line: 3, column: 2 });
        assert_eq!(&text[root.span.clone()], text);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_it() {
        let (value, root) = parse("\u{feff}{\"a\": 1}").unwrap();
        assert_eq!((&value["a"], root.entry("a").unwrap().key_at.column), (&Value::from(1), 2));
    }

    #[test]
    fn a_duplicate_key_is_an_error_at_the_second_one() {
        let error = parse("{\"a\": 1,\n \"a\": 2}").unwrap_err();
        assert_eq!(error.at, Some(Position { line: 2, column: 2 }));
        assert!(error.message.contains("`a`"));
    }

    #[test]
    fn a_syntax_error_names_its_place_once() {
        let error = parse("{\n  \"a\": ,\n}").unwrap_err();
        assert_eq!(error.at.map(|at| at.line), Some(2));
        assert!(!error.message.contains("line"), "{}", error.message);
    }
}
