//! Changes one key in a YAML text by replacing, inserting or cutting exactly its span.

use super::super::node::{Entry, Kind, Node, Style};
use super::super::yaml;
use super::write::{block, flow, scalar};
use serde_json::{Map, Value};

/// Why a key can't be changed on its own.
type Refusal = String;

/// `text` with the key at `path` set to `new`, or removed.
pub(super) fn change(text: &str, path: &[&str], new: Option<&Value>, newline: &str) -> Result<String, Refusal> {
    let yaml = yaml::parse(text).map_err(|syntax| syntax.message)?;
    let spot = find(&yaml.root, path)?;
    let splice = Splice { text, newline };
    match (spot, new) {
        (Spot::Present { map, entry }, None) => match path.split_last() {
            // A section goes with its last key, if nobody has written anything about it.
            Some((_, section)) if map.entries().len() == 1 && splice.is_plain(find(&yaml.root, section)) => {
                change(text, section, None, newline)
            }
            _ => splice.remove(map, entry),
        },
        (Spot::Absent { .. }, None) => Ok(text.to_owned()),
        (Spot::Present { entry, .. }, Some(new)) => splice.replace(entry, new),
        (Spot::Absent { map, depth, empty }, Some(new)) => {
            // Sections on the way that aren't there yet come with it.
            let new = path[depth + 1..]
                .iter()
                .rev()
                .fold(new.clone(), |inner, key| Value::Object(Map::from_iter([((*key).to_owned(), inner)])));
            match empty {
                Some(entry) => splice.replace(entry, &new),
                None => splice.insert(map, path[depth], &new),
            }
        }
    }
}

/// Where a path leads.
enum Spot<'a> {
    Present {
        map: &'a Node,
        entry: &'a Entry,
    },
    /// `map` has no key `path[depth]`, or has it as `empty`, with nothing in it.
    Absent {
        map: &'a Node,
        depth: usize,
        empty: Option<&'a Entry>,
    },
}

fn find<'a>(root: &'a Node, path: &[&str]) -> Result<Spot<'a>, Refusal> {
    let mut map = root;
    for (depth, key) in path.iter().enumerate() {
        check_way(map)?;
        let Some(entry) = map.entry(key) else { return Ok(Spot::Absent { map, depth, empty: None }) };
        if depth + 1 == path.len() {
            return Ok(Spot::Present { map, entry });
        }
        if is_null(&entry.value) {
            return Ok(Spot::Absent { map, depth, empty: Some(entry) });
        }
        if !matches!(entry.value.kind, Kind::Map(_) | Kind::Alias) {
            return Err(format!("`{key}` is not a map"));
        }
        map = &entry.value;
    }
    Err("it is the whole front matter".to_owned())
}

fn check_way(map: &Node) -> Result<(), Refusal> {
    if matches!(map.kind, Kind::Alias) {
        return Err("it is reached through an alias, which others share".to_owned());
    }
    if map.decorated {
        return Err("it is inside an anchored or tagged value".to_owned());
    }
    if map.entry("<<").is_some() {
        return Err("a merge key (`<<`) stands beside it".to_owned());
    }
    Ok(())
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(text) if matches!(text.as_str(), "" | "~" | "null") && node.style == Style::Inline)
        && !node.decorated
}

struct Splice<'a> {
    text: &'a str,
    newline: &'a str,
}

impl Splice<'_> {
    /// There is an entry, and no comment in it.
    fn is_plain(&self, section: Result<Spot<'_>, Refusal>) -> bool {
        matches!(section, Ok(Spot::Present { entry, .. }) if !self.text[entry.key_span.end..entry.end()].contains('#'))
    }

    fn replace(&self, entry: &Entry, new: &Value) -> Result<String, Refusal> {
        let node = &entry.value;
        if matches!(node.kind, Kind::Alias) {
            return Err("its value is an alias".to_owned());
        }
        if node.decorated {
            return Err("its value has an anchor or a tag".to_owned());
        }
        if node.span.is_empty() {
            let colon = if self.text[..node.span.start].ends_with(':') { "" } else { ":" };
            return Ok(self.spliced(node.span.start, node.span.end, &format!("{colon} {}", flow(new))));
        }
        let mut end = node.span.end;
        if node.style == Style::Block {
            end += self.last_comment(end);
        }
        let has_content = new.as_array().is_some_and(|items| !items.is_empty())
            || new.as_object().is_some_and(|object| !object.is_empty());
        let column = node.at.column;
        let written = match node.style {
            Style::Block if has_content && (new.is_array() || column > entry.key_at.column) => {
                block(new, column - 1, self.newline)
            }
            // A value on a line of its own has to stand deeper than its key.
            Style::Block => format!("{}{}", " ".repeat((entry.key_at.column + 2).saturating_sub(column)), flow(new)),
            _ => flow(new),
        };
        Ok(self.spliced(node.span.start, end, &written))
    }

    fn insert(&self, map: &Node, key: &str, new: &Value) -> Result<String, Refusal> {
        let written = format!("{}: {}", scalar(key), flow(new));
        match (&map.kind, map.style, map.entries().last()) {
            (Kind::Map(_), Style::Flow, None) => {
                let at = map.span.start + 1;
                let pad = if self.text[at..].starts_with('}') { " " } else { "" };
                Ok(self.spliced(at, at, &format!(" {written}{pad}")))
            }
            (Kind::Map(_), Style::Flow, Some(last)) => {
                let at = last.end();
                Ok(self.spliced(at, at, &format!(", {written}")))
            }
            (Kind::Map(_), _, Some(last)) => {
                let indent = " ".repeat(last.key_at.column - 1);
                Ok(self.line_at(self.line_end(last.end()), &format!("{indent}{written}")))
            }
            _ if is_null(map) => Ok(self.line_at(self.text.len(), &written)),
            _ => Err("the front matter is not a map".to_owned()),
        }
    }

    fn remove(&self, map: &Node, entry: &Entry) -> Result<String, Refusal> {
        if map.style == Style::Flow {
            return Ok(self.remove_from_flow(map, entry));
        }
        let line = self.text[..entry.key_span.start].rfind('\n').map_or(0, |at| at + 1);
        if !self.text[line..entry.key_span.start].bytes().all(|byte| byte == b' ') {
            return Err("it shares its line with something else".to_owned());
        }
        Ok(self.spliced(line, self.line_end(entry.end()), ""))
    }

    /// The entry goes with its comma, and with its line and the comment at the end of it where it has a line of its own; the comments of its
    /// neighbours stay.
    fn remove_from_flow(&self, map: &Node, entry: &Entry) -> String {
        let entries = map.entries();
        let index = entries.iter().position(|other| std::ptr::eq(other, entry)).unwrap_or(0);
        let (start, end) = (entry.key_span.start, entry.end());
        let comma = self.comma_behind(end);
        let is_last = index + 1 == entries.len();
        let line = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let behind = comma.filter(|at| !self.text[end..*at].contains('\n')).map_or(end, |at| at + 1);
        let tail = self.text[behind..self.line_end(behind)].trim();
        let is_alone = self.text[line..start].trim().is_empty() && (tail.is_empty() || tail.starts_with('#'));
        if is_alone && (is_last || behind > end) {
            return self.spliced(line, self.line_end(behind), "");
        }
        let previous = index.checked_sub(1).map(|previous| entries[previous].end());
        // The comma before a last one goes too, unless a comment of the neighbour stands between.
        let start = previous.filter(|at| is_last && !self.text[*at..start].contains('\n')).unwrap_or(start);
        let rest = match comma {
            Some(at) if is_last => format!("{}{}", &self.text[end..at], &self.text[at + 1..]),
            Some(at) => format!("{}{}", &self.text[end..at], self.text[at + 1..].trim_start_matches([' ', '\t'])),
            None => self.text[end..].to_owned(),
        };
        format!("{}{rest}", &self.text[..start])
    }

    /// Where the comma stands that follows `at`, behind blanks and comments.
    fn comma_behind(&self, mut at: usize) -> Option<usize> {
        loop {
            at = self.text.len() - self.text[at..].trim_start().len();
            if !self.text[at..].starts_with('#') {
                return self.text[at..].starts_with(',').then_some(at);
            }
            at = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end);
        }
    }

    /// The length of what stands behind a block's last value on its line: a comment on a line that goes.
    fn last_comment(&self, at: usize) -> usize {
        let line = self.text[at..].lines().next().unwrap_or_default();
        if line.trim_start().starts_with('#') { line.len() } else { 0 }
    }

    /// The start of the line behind the one that `at` is on.
    fn line_end(&self, at: usize) -> usize {
        if self.text[..at].ends_with('\n') {
            return at;
        }
        self.text[at..].find('\n').map_or(self.text.len(), |found| at + found + 1)
    }

    fn line_at(&self, at: usize, line: &str) -> String {
        let before = if at > 0 && !self.text[..at].ends_with('\n') { self.newline } else { "" };
        self.spliced(at, at, &format!("{before}{line}{}", self.newline))
    }

    fn spliced(&self, start: usize, end: usize, new: &str) -> String {
        format!("{}{new}{}", &self.text[..start], &self.text[end..])
    }
}
