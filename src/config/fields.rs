//! Reads typed values out of a parsed map, and says by file, line and name what doesn't fit.

use super::duration::parse_duration;
use super::keys::Keys;
use super::model::split_model;
use super::node::Node;
use super::problem::{FileProblem, Position};
use super::yaml::Syntax;
use crate::domain::{Usd, harmless, nearest, quoted, quoted_place, spelled};
use crate::net::{OUTBOUND_HINT, check_outbound};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The text that values came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    /// Lines of the file that stand before the parsed text.
    pub(super) lines_before: usize,
    /// Paths (`http.listen`) whose value came from an environment variable, with its name.
    pub(super) overrides: Option<&'a BTreeMap<String, String>>,
    /// Where what is accepted and has no effect is told.
    pub(super) warnings: Option<&'a RefCell<Vec<FileProblem>>>,
}

impl<'a> Source<'a> {
    pub(super) fn file(file: &'a str) -> Self {
        Self { file, lines_before: 0, overrides: None, warnings: None }
    }

    pub(super) fn problem(&self, at: Option<Position>, message: impl Into<String>) -> FileProblem {
        let problem = FileProblem::new(self.file, message);
        match at {
            Some(at) => problem.at(Position { line: at.line + self.lines_before, column: at.column }),
            None => problem,
        }
    }

    pub(super) fn warn(&self, problem: FileProblem) {
        if let Some(warnings) = self.warnings {
            warnings.borrow_mut().push(problem.warning());
        }
    }

    pub(super) fn syntax(&self, syntax: Syntax) -> FileProblem {
        self.problem(syntax.at, syntax.message)
    }
}

/// One map of a file.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    source: Source<'a>,
    path: String,
    object: &'a Map<String, Value>,
    node: Option<&'a Node>,
}

impl<'a> Fields<'a> {
    /// The root of a file, which must be a map. `None` for an empty file.
    pub(super) fn root(source: Source<'a>, value: &'a Value, node: &'a Node) -> Result<Option<Self>, FileProblem> {
        match value {
            Value::Null => Ok(None),
            Value::Object(object) => Ok(Some(Self { source, path: String::new(), object, node: Some(node) })),
            other => {
                Err(source.problem(Some(node.at), format!("expected a map of keys, found {}", shown(other, "a map"))))
            }
        }
    }

    /// The map that stands at `path` of a file.
    pub(super) fn inside(
        source: Source<'a>,
        path: String,
        object: &'a Map<String, Value>,
        node: Option<&'a Node>,
    ) -> Self {
        Self { source, path, object, node }
    }

    pub(super) fn source(&self) -> Source<'a> {
        self.source
    }

    /// Refuses every key that isn't in `keys`, naming the nearest. Those that are not in force yet are refused too, as
    /// [`Fields::unsupported`] says, and never advised; those without effect are told in a warning.
    pub(super) fn check(&self, keys: &Keys) -> Result<(), FileProblem> {
        match self.faults(keys).into_iter().next() {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// The same, for whoever reads on: every key that is refused.
    pub(super) fn faults(&self, keys: &Keys) -> Vec<FileProblem> {
        let mut faults: Vec<FileProblem> = keys.later.iter().filter_map(|key| self.unsupported(key)).collect();
        for (key, why) in keys.idle.iter().filter(|(key, _)| self.get(key).is_some()) {
            let message = format!("`{}` has no effect here: {why}", self.path_of(key));
            self.warn(self.key_problem(key, message));
        }
        let others = keys.later.iter().copied().chain(keys.idle.iter().map(|(key, _)| *key));
        let all: Vec<&str> = keys.names().chain(others).collect();
        let known: Vec<&str> = keys.names().collect();
        for unknown in self.object.keys().filter(|key| !all.contains(&key.as_str())) {
            let guess = nearest(unknown, keys.names()).map(|near| format!("; did you mean `{near}`?"));
            let message = format!("unknown key `{}`{}", self.path_of(unknown), guess.unwrap_or_default());
            faults.push(self.key_problem(unknown, message).hint(format!("the keys here are {}", known.join(", "))));
        }
        faults
    }

    /// Tells what is accepted and has no effect, or another one than its writer may expect.
    pub(super) fn warn(&self, problem: FileProblem) {
        self.source.warn(problem);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.object.keys().map(String::as_str)
    }

    /// The value of `key`; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, FileProblem> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
            Some(Value::String(_)) => Err(self.problem(key, "it is empty")),
            Some(other @ (Value::Number(_) | Value::Bool(_))) => {
                Err(self.mismatch(key, "a text", other).hint("put it in quotes"))
            }
            Some(other) => Err(self.mismatch(key, "a text", other)),
        }
    }

    /// A model's name, `provider/model`; only its form is checked.
    pub(super) fn model(&self, key: &str) -> Result<Option<String>, FileProblem> {
        let text = self.text(key)?;
        match text.as_deref().filter(|text| split_model(text).is_none()) {
            None => Ok(text),
            Some(bad) => {
                let reason = format!("{} names no provider and model", quoted(bad));
                Err(self.problem(key, reason).hint("write provider/model, such as openai/gpt-5.4-mini"))
            }
        }
    }

    /// A model's name as agents may have it: `provider/model`, or without a provider, which the choice of the model then finds.
    pub(super) fn agent_model(&self, key: &str) -> Result<Option<String>, FileProblem> {
        let text = self.text(key)?;
        let is_odd = |c: char| c.is_whitespace() || c.is_control();
        match text.filter(|text| !text.contains('/') && !text.contains(is_odd)) {
            Some(bare) => Ok(Some(bare)),
            None => self.model(key),
        }
    }

    /// Refuses an address, the value of `key`, that requests may not go to.
    pub(super) fn outbound(&self, key: &str, url: &str) -> Result<(), FileProblem> {
        check_outbound(url).map_err(|reason| self.problem(key, reason).hint(OUTBOUND_HINT))
    }

    /// A text for people; an empty one counts as absent.
    pub(super) fn note(&self, key: &str) -> Result<Option<String>, FileProblem> {
        match self.get(key) {
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            _ => self.text(key),
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, FileProblem> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.mismatch(key, "true or false", other)),
        }
    }

    /// A whole number in `1..=most`.
    pub(super) fn count(&self, key: &str, most: u32) -> Result<Option<u32>, FileProblem> {
        self.counted(key, most, Value::as_u64)
    }

    /// The same, where a text of digits counts too.
    pub(super) fn count_or_text(&self, key: &str, most: u32) -> Result<Option<u32>, FileProblem> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        self.counted(key, most, |value| value.as_str().map_or_else(|| value.as_u64(), digits))
    }

    fn counted(&self, key: &str, most: u32, read: impl Fn(&Value) -> Option<u64>) -> Result<Option<u32>, FileProblem> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = read(value).and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| (1..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.mismatch(key, &format!("a whole number from 1 to {most}"), value)),
        }
    }

    /// An amount of money, `expected` such.
    pub(super) fn usd(&self, key: &str, expected: &str) -> Result<Option<Usd>, FileProblem> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || {
            let found = quoted(&spelled(value));
            self.problem(key, format!("expected {expected} with at most six decimals, found {found}"))
        };
        Usd::read(value).map(Some).ok_or_else(wrong)
    }

    /// A duration in milliseconds: `10m`, or whole seconds.
    pub(super) fn duration_ms(&self, key: &str) -> Result<Option<u64>, FileProblem> {
        let spelled = match self.get(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => return Err(self.mismatch(key, "a duration such as 10m", other)),
        };
        parse_duration(&spelled).map(Some).map_err(|reason| self.problem(key, reason))
    }

    /// A list of texts; absent = empty.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, FileProblem> {
        let items = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.mismatch(key, "a list of texts", other)),
        };
        let read = |(index, item): (usize, &Value)| match item {
            Value::String(text) => Ok(text.clone()),
            other => {
                let place = format!("{}[{index}]", self.path_of(key));
                let message = format!("`{place}`: expected a text, found {}", shown(other, "a text"));
                Err(self.located(key, self.item_at(key, index), message).about(place))
            }
        };
        items.iter().enumerate().map(read).collect()
    }

    /// A map inside this one.
    pub(super) fn map(&self, key: &str) -> Result<Option<Fields<'a>>, FileProblem> {
        let object = match self.get(key) {
            None => return Ok(None),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(self.mismatch(key, "a map", other)),
        };
        let node = self.node.and_then(|node| node.entry(key)).map(|entry| &entry.value);
        Ok(Some(Fields { source: self.source, path: self.path_of(key), object, node }))
    }

    /// A map of texts, in the order of their names; absent = empty.
    pub(super) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, FileProblem> {
        let Some(inner) = self.map(key)? else { return Ok(BTreeMap::new()) };
        let read = |(name, value): (&String, &Value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            other => Err(inner.mismatch(name, "a text", other)),
        };
        inner.object.iter().map(read).collect()
    }

    /// Refuses `key`, which is part of the format but not of this version, unless it says that there is none: `false`, or an empty list.
    fn unsupported(&self, key: &str) -> Option<FileProblem> {
        let says_none = match self.get(key) {
            None | Some(Value::Bool(false)) => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        let message = format!("`{}` is not supported by this version", self.path_of(key));
        (!says_none).then(|| self.key_problem(key, message).hint("remove it"))
    }

    /// A problem with the value of `key`, whose path opens the message.
    pub(super) fn problem(&self, key: &str, reason: impl std::fmt::Display) -> FileProblem {
        let at = self.node.and_then(|node| node.entry(key)).map(|entry| entry.value.at);
        self.located(key, at, format!("`{}`: {reason}", self.path_of(key)))
    }

    /// A problem with this map as a whole.
    pub(super) fn problem_here(&self, reason: impl std::fmt::Display) -> FileProblem {
        self.source.problem(self.node.map(|node| node.at), format!("`{}`: {reason}", self.path)).about(&self.path)
    }

    /// A problem with the value that stands at `path`, names and indices, inside the value of `key`.
    pub(super) fn problem_inside(&self, key: &str, path: &[String], reason: impl std::fmt::Display) -> FileProblem {
        let steps = path.iter();
        let found = steps.fold(self.node_of(key), |node, step| {
            let inner =
                |node: &'a Node| node.entry(step).map(|entry| &entry.value).or_else(|| node.item(step.parse().ok()?));
            node.and_then(inner)
        });
        let at = found.or(self.node_of(key)).map(|node| node.at);
        let place = path.iter().fold(self.path_of(key), |place, step| format!("{place}.{}", quoted_place(step)));
        self.located(key, at, format!("`{place}`: {reason}")).about(place)
    }

    /// A problem with the key itself.
    pub(super) fn key_problem(&self, key: &str, message: impl Into<String>) -> FileProblem {
        self.located(key, self.key_at(key), message.into())
    }

    /// Where the key itself stands.
    pub(super) fn key_at(&self, key: &str) -> Option<Position> {
        self.node.and_then(|node| node.entry(key)).map(|entry| entry.key_at)
    }

    /// The node of `key`, for whoever needs more than a message.
    pub(super) fn node_of(&self, key: &str) -> Option<&'a Node> {
        self.node.and_then(|node| node.entry(key)).map(|entry| &entry.value)
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        let key = quoted_place(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    fn mismatch(&self, key: &str, expected: &str, found: &Value) -> FileProblem {
        self.problem(key, format!("expected {expected}, found {}", shown(found, expected)))
    }

    fn item_at(&self, key: &str, index: usize) -> Option<Position> {
        self.node_of(key)?.item(index).map(|item| item.at)
    }

    fn located(&self, key: &str, at: Option<Position>, message: String) -> FileProblem {
        let path = self.path_of(key);
        let problem = match self.source.overrides.and_then(|overrides| overrides.get(&path)) {
            Some(variable) => FileProblem::new(&format!("environment variable {variable}"), message),
            // Reached through an alias or a merge key: the map that it came into is the nearest place.
            None => self.source.problem(at.or(self.node.map(|node| node.at)), message),
        };
        problem.about(path)
    }
}

/// What was found where `expected` should be, with its type. Not what a number says in the place of a text, or a text in that of a map or a
/// list: it may be a key, without its quotes or at the wrong place.
fn shown(value: &Value, expected: &str) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(_) if expected == "a text" => "a number".to_owned(),
        Value::Number(number) => {
            harmless(&number.to_string()).map_or_else(|| "a number".to_owned(), |shown| format!("the number {shown}"))
        }
        Value::String(_) if ["a map", "a list"].iter().any(|kind| expected.starts_with(kind)) => "a text".to_owned(),
        Value::String(text) => harmless(text).map_or_else(|| quoted(text), |shown| format!("the text `{shown}`")),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Form, Needs, key};
    use super::super::problem::Severity;
    use super::super::yaml;
    use super::*;

    fn check<T>(text: &str, read: impl Fn(Fields<'_>) -> Result<T, FileProblem>) -> Result<T, FileProblem> {
        let yaml = yaml::parse(text).unwrap();
        let source = Source { lines_before: 1, ..Source::file("x.prompt") };
        read(Fields::root(source, &yaml.value, &yaml.root).unwrap().unwrap())
    }

    const KEYS: Keys = Keys {
        known: &[key("model", Form::Text, ""), key("tools", Form::Texts, "")],
        needs: Needs::Nothing,
        later: &["plan", "views", "agents"],
        idle: &[("app", "it was for a shop")],
    };

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
        let problem = check("model: a\ntols: [b]\n", |fields| fields.check(&KEYS)).unwrap_err();
        assert_eq!(problem.to_string(), "x.prompt:3:1: unknown key `tols`; did you mean `tools`?");
    }

    #[test]
    fn a_key_that_is_not_in_force_yet_is_refused_and_never_advised() {
        let read = |text| check(text, |fields| fields.check(&KEYS)).unwrap_err();
        let unknown = read("pln: 1\n");
        assert!(!unknown.message.contains("plan"), "{unknown}");
        assert_eq!(unknown.hint.as_deref(), Some("the keys here are model, tools"));
        for text in ["views: {}\n", "views: { a: 1 }\n", "views: [a]\n", "plan: true\n"] {
            assert!(read(text).message.ends_with("is not supported by this version"), "{text}");
        }
        let none = "model: a\nplan: false\nviews: []\nagents:\n";
        assert!(check(none, |fields| fields.check(&KEYS)).is_ok());
    }

    #[test]
    fn a_key_without_effect_is_accepted_with_a_warning_that_says_so() {
        let warnings = RefCell::default();
        let yaml = yaml::parse("model: a\napp: x\n").unwrap();
        let source = Source { warnings: Some(&warnings), ..Source::file("x.prompt") };
        Fields::root(source, &yaml.value, &yaml.root).unwrap().unwrap().check(&KEYS).unwrap();
        let warnings = warnings.into_inner();
        assert_eq!(warnings[0].to_string(), "x.prompt:2:1: `app` has no effect here: it was for a shop");
        assert_eq!(warnings[0].severity, Severity::Warning);
    }

    #[test]
    fn a_wrong_type_names_the_path_and_what_was_found() {
        let problem = check("a:\n  b: [1, two]\n", |fields| fields.map("a")?.unwrap().texts("b")).unwrap_err();
        assert_eq!(problem.to_string(), "x.prompt:3:7: `a.b[0]`: expected a text, found a number");
        let problem = check("n: 0\n", |fields| fields.count("n", 10)).unwrap_err();
        assert!(problem.to_string().contains("from 1 to 10"), "{problem}");
        assert!(check("b: yes\n", |fields| fields.boolean("b")).is_err());
    }

    #[test]
    fn a_credential_that_is_no_text_is_not_quoted() {
        for text in
            ["o: { api_key: 123454321 }\n", "o: { headers: { X: 123454321 } }\n", "o: { headers: [123454321] }\n"]
        {
            let problem = check(text, |fields| {
                let inner = fields.map("o")?.unwrap();
                inner.text("api_key").and(inner.text_map("headers"))
            });
            let problem = problem.unwrap_err();
            assert!(!format!("{problem:?}").contains("12345"), "{problem}");
            assert!(problem.message.contains("found a "), "{problem}");
        }
    }

    #[test]
    fn a_credential_in_the_wrong_line_is_not_quoted_and_a_mistyped_word_is() {
        let key = "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6";
        let read = |text: String| {
            let problem = check(&text, |fields| {
                let known = fields.check(&KEYS);
                known.and(fields.map("m").map(drop)).and(fields.duration_ms("model").map(drop))
            });
            format!("{:?}", problem.unwrap_err())
        };
        for text in [format!("model: {key}"), format!("{key}: 1"), format!("tools: {{}}\nmodel: \"{key}\"")] {
            let told = read(text);
            assert!(!told.contains("Zm9v") && told.contains("a text of 36 characters"), "{told}");
        }
        assert!(read("model: 10 mn".to_owned()).contains("`10 mn` is not a duration"));
        for (reads, text) in [("boolean", key), ("count", key), ("model", key), ("usd", key), ("text", "5")] {
            let told = check(&format!("n: {text}\n"), |fields| match reads {
                "boolean" => fields.boolean("n").map(drop),
                "count" => fields.count("n", 5).map(drop),
                "model" => fields.model("n").map(drop),
                "usd" => fields.usd("n", "an amount").map(drop),
                _ => fields.text("n").map(drop),
            });
            let told = format!("{:?}", told.unwrap_err());
            assert!(!told.contains("Zm9v"), "{reads}: {told}");
        }
        let told = check("n: yes\n", |fields| fields.boolean("n")).unwrap_err();
        assert!(told.message.ends_with("found the text `yes`"), "{told}");
    }

    #[test]
    fn a_problem_names_the_key_that_it_is_about() {
        let about = |text: &str| check(text, |fields| fields.map("a")?.unwrap().texts("b")).unwrap_err().key;
        assert_eq!(about("a: { b: [1] }\n").as_deref(), Some("a.b[0]"));
        assert_eq!(about("a: { b: 1 }\n").as_deref(), Some("a.b"));
    }

    #[test]
    fn a_value_that_came_through_an_alias_is_still_placed() {
        let problem = check("x: &x { n: no }\ny: *x\n", |fields| fields.map("y")?.unwrap().count("n", 5)).unwrap_err();
        assert_eq!(problem.line, Some(3));
    }
}
