//! The one place that parses YAML. YAML 1.2 scalars (`no` stays "no", `012` stays "012"), no duplicate keys, budgets against alias bombs,
//! and the place of every node.

use super::node::{Entry, Kind, Node, Style};
use super::problem::Position;
use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle};
use std::ops::Range;

/// A parsed document.
#[derive(Debug)]
pub(super) struct Yaml {
    pub(super) value: Value,
    pub(super) root: Node,
}

/// Why a text isn't what it should be; positions are relative to the text.
#[derive(Debug)]
pub(super) struct Syntax {
    pub(super) at: Option<Position>,
    pub(super) message: String,
}

/// Parses one document; an empty text is `null`.
pub(super) fn parse(text: &str) -> Result<Yaml, Syntax> {
    let value = serde_saphyr::from_str_with_options(text, options()).map_err(|error| syntax(&error))?;
    let root = Builder { text, open: Vec::new(), root: None }
        .read()
        .map_err(|error| Syntax { at: Some(position(&Span::empty(*error.marker()))), message: error.to_string() })?;
    Ok(Yaml { value, root })
}

fn options() -> serde_saphyr::Options {
    // The defaults are YAML 1.1: `no` would be false and `012` a number.
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_events: 200_000,
            max_nodes: 100_000,
            max_depth: 64,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 100,
            max_recorded_anchor_events: 100_000,
            max_total_scalar_bytes: 8 * 1024 * 1024,
        },
    }
}

fn syntax(error: &serde_saphyr::Error) -> Syntax {
    let at = error.location().and_then(|location| {
        let line = usize::try_from(location.line()).ok().filter(|line| *line > 0)?;
        Some(Position { line, column: usize::try_from(location.column()).unwrap_or(1).max(1) })
    });
    let error = error.without_snippet();
    let mut message = match error {
        serde_saphyr::Error::NullIntoString { .. } => "a key is empty".to_owned(),
        serde_saphyr::Error::Unexpected { expected: "string scalar", .. } => "a key is a list or a map".to_owned(),
        serde_saphyr::Error::Budget { breach, .. } => over_budget(breach).to_owned(),
        other => other.render_with_formatter(&serde_saphyr::UserMessageFormatter),
    };
    // The place is told by whoever shows the problem, in the file's own line numbers; the parser's options are none of a writer's business.
    for marker in [" at line ", " (line ", ", set DuplicateKeyPolicy"] {
        if let Some(cut) = message.rfind(marker) {
            message.truncate(cut);
        }
    }
    let message = message.lines().next().unwrap_or_default().trim_end_matches([':', ',', ' ']).to_owned();
    Syntax { at, message: format!("it is not valid YAML: {message}") }
}

/// What of the budget a text is over.
fn over_budget(breach: &serde_saphyr::budget::BudgetBreach) -> &'static str {
    use serde_saphyr::budget::BudgetBreach;
    match breach {
        BudgetBreach::Documents { .. } => "a second document begins here; keep one, without further lines `---`",
        BudgetBreach::Depth { .. } => "it is nested too deeply",
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => "it has too many anchors and aliases",
        _ => "it is too large",
    }
}

fn position(span: &Span) -> Position {
    Position { line: span.start.line().max(1), column: span.start.col() + 1 }
}

/// Builds the tree of places from the parser's events, without recursion.
struct Builder<'a> {
    text: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
}

/// A collection whose end hasn't come yet.
struct Open {
    start: Range<usize>,
    at: Position,
    style: Style,
    decorated: bool,
    children: Children,
}

enum Children {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<Node> },
}

impl Builder<'_> {
    fn read(mut self) -> Result<Node, ScanError> {
        for event in Parser::new_from_str(self.text) {
            let (event, span) = event?;
            let bytes = span.byte_range().unwrap_or(0..0);
            match event {
                Event::Scalar(value, style, anchor, tag) => {
                    let style = match style {
                        ScalarStyle::Literal | ScalarStyle::Folded => Style::BlockScalar,
                        _ => Style::Inline,
                    };
                    let decorated = anchor != 0 || tag.is_some();
                    let kind = Kind::Scalar(value.into_owned());
                    self.add(Node { span: bytes, at: position(&span), style, decorated, kind });
                }
                Event::Alias(_) => {
                    let (style, kind) = (Style::Inline, Kind::Alias);
                    self.add(Node { span: bytes, at: position(&span), style, decorated: false, kind });
                }
                Event::SequenceStart(style, anchor, tag) => {
                    self.begin(&span, bytes, style, anchor != 0 || tag.is_some(), Children::List(Vec::new()));
                }
                Event::MappingStart(style, anchor, tag) => {
                    let children = Children::Map { entries: Vec::new(), key: None };
                    self.begin(&span, bytes, style, anchor != 0 || tag.is_some(), children);
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(bytes.end),
                _ => {}
            }
        }
        let empty = Kind::Scalar(String::new());
        let at = Position::START;
        Ok(self.root.unwrap_or(Node { span: 0..0, at, style: Style::Inline, decorated: false, kind: empty }))
    }

    fn begin(&mut self, span: &Span, start: Range<usize>, style: StructureStyle, decorated: bool, children: Children) {
        let style = match style {
            StructureStyle::Block => Style::Block,
            StructureStyle::Flow => Style::Flow,
        };
        self.open.push(Open { start, at: position(span), style, decorated, children });
    }

    fn end(&mut self, closing: usize) {
        let Some(Open { start, at, style, decorated, children }) = self.open.pop() else { return };
        let kind = match children {
            Children::List(items) => Kind::List(items),
            Children::Map { entries, .. } => Kind::Map(entries),
        };
        let last = match &kind {
            Kind::List(items) => items.last().map(|item| item.span.end),
            Kind::Map(entries) => entries.last().map(Entry::end),
            _ => None,
        };
        // A block collection has no closing mark: the parser reports its end where the next token begins.
        let end = if style == Style::Flow { closing } else { last.unwrap_or(start.end).max(start.start) };
        self.add(Node { span: start.start..end, at, style, decorated, kind });
    }

    fn add(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.children {
            Children::List(items) => items.push(node),
            Children::Map { entries, key } => match key.take() {
                None => *key = Some(node),
                Some(found) => {
                    let text = match found.kind {
                        Kind::Scalar(text) => text,
                        _ => String::new(),
                    };
                    let mut entry = Entry { key: text, key_span: found.span, key_at: found.at, value: node };
                    place_value(self.text, &mut entry);
                    entries.push(entry);
                }
            },
        }
    }
}

/// Corrects what the parser reports for three kinds of values: an absent one belongs behind the colon, a `|` or `>` scalar starts at its
/// header and ends with its last content, and a list that stands no deeper than its key starts at its first dash.
fn place_value(text: &str, entry: &mut Entry) {
    let node = &mut entry.value;
    if node.decorated {
        return;
    }
    let is_block_list = matches!(node.kind, Kind::List(_)) && node.style == Style::Block;
    if node.style == Style::Inline && node.span.is_empty() {
        let behind = text[entry.key_span.end..].trim_start_matches([' ', '\t']);
        let at = behind.strip_prefix(':').map_or(entry.key_span.end, |rest| text.len() - rest.len());
        (node.span, node.at) = (at..at, entry.key_at);
    } else if is_block_list || node.style == Style::BlockScalar {
        place_block(text, entry);
    }
}

fn place_block(text: &str, entry: &mut Entry) {
    let node = &mut entry.value;
    let start = value_start(text, entry.key_span.end);
    let before = &text[entry.key_span.start..start];
    node.at = match before.rfind('\n') {
        None => Position { column: entry.key_at.column + before.chars().count(), ..entry.key_at },
        Some(last) => {
            let line = entry.key_at.line + before.matches('\n').count();
            Position { line, column: before[last + 1..].chars().count() + 1 }
        }
    };
    let header = text[start..].find(|c: char| c.is_whitespace()).map_or(text.len(), |length| start + length);
    let content = text[..node.span.end].trim_end().len();
    node.span = start..content.max(header);
}

/// Where the value of the key that ends at `key_end` begins: behind the colon, blanks and comments.
fn value_start(text: &str, key_end: usize) -> usize {
    let mut at = text[key_end..].find(':').map_or(text.len(), |colon| key_end + colon + 1);
    loop {
        at = text.len() - text[at..].trim_start().len();
        if !text[at..].starts_with('#') {
            return at;
        }
        at = text[at..].find('\n').map_or(text.len(), |end| at + end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_keep_the_meaning_they_have_for_people() {
        let yaml = parse("a: no\nb: off\nc: 012\nd: 1_000\ne: true\nf: 12:30\ng: ~\nh: 8\ni: 0.5\nj: y\n").unwrap();
        let expected = json!({
            "a": "no", "b": "off", "c": "012", "d": "1_000", "e": true, "f": "12:30", "g": null, "h": 8, "i": 0.5, "j": "y"
        });
        assert_eq!(yaml.value, expected);
    }

    #[test]
    fn a_duplicate_key_is_an_error_at_its_place() {
        let error = parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.at, Some(Position { line: 3, column: 1 }));
        assert!(error.message.contains("duplicate"), "{}", error.message);
        assert!(!error.message.contains("line"), "{}", error.message);
    }

    #[test]
    fn a_syntax_error_names_its_place() {
        let error = parse("a: 1\nb: [1, 2\n").unwrap_err();
        assert!(error.at.is_some_and(|at| at.line >= 2), "{error:?}");
    }

    #[test]
    fn what_is_no_yaml_is_told_in_the_words_of_its_writer() {
        for text in [
            ": : :",
            "a: 1\n: b\n",
            "{ ? }",
            "a: 1\n? [x]\n: 2\n",
            "a: [1, 2\n",
            "a: \"b\n",
            "*x\n",
            "a: &b [*b]\n",
            "- a\nb: 1\n",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.at.is_some(), "{text}: {error:?}");
            assert!(error.message.starts_with("it is not valid YAML: "), "{text}: {error:?}");
            assert!(
                !["Option<", "String", "scalar", "deserialize", "serde", "Error"]
                    .iter()
                    .any(|word| error.message.contains(word)),
                "{text}: {error:?}"
            );
        }
    }

    #[test]
    fn an_alias_bomb_ends_at_the_budget() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let previous = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![previous; 9].join(", ")));
        }
        assert!(parse(&bomb).is_err());
    }

    #[test]
    fn two_documents_are_an_error_and_none_is_null() {
        let second = parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!(second.at.map(|at| at.line), Some(2), "{second:?}");
        assert!(second.message.contains("a second document begins here"), "{second:?}");
        let deep = parse(&format!("{}{}", "{ a: ".repeat(100), "}".repeat(100))).unwrap_err();
        assert!(deep.message.ends_with("it is nested too deeply"), "{deep:?}");
        assert_eq!(parse("# nothing but a comment\n").unwrap().value, Value::Null);
        assert_eq!(parse("").unwrap().value, Value::Null);
    }

    #[test]
    fn nodes_cover_exactly_their_text_also_with_crlf_and_wide_characters() {
        let text = "# ä\r\nname: \"Ünï\"\r\nflow: { a: [1, 2], b: x }\r\nblock:\r\n  c: |\r\n    two\r\n    lines\r\n  d: 5 # five\r\nlist:\r\n- p\r\n- q\r\nlast: z\r\n";
        let root = parse(text).unwrap().root;
        let span = |node: &Node| &text[node.span.clone()];
        assert_eq!(span(&root.entry("name").unwrap().value), "\"Ünï\"");
        assert_eq!(span(&root.entry("flow").unwrap().value), "{ a: [1, 2], b: x }");
        let block = &root.entry("block").unwrap().value;
        assert_eq!(block.at, Position { line: 5, column: 3 });
        assert_eq!(span(&block.entry("d").unwrap().value), "5");
        assert_eq!(span(&block.entry("c").unwrap().value), "|\r\n    two\r\n    lines");
        assert!(span(block).ends_with("d: 5"));
        assert_eq!(span(&root.entry("list").unwrap().value), "- p\r\n- q");
        assert_eq!(span(&root.entry("last").unwrap().value), "z");
    }
}
