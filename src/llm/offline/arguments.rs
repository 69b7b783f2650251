//! Arguments by schema, from the values of the input. What isn't there stays missing; nothing is made up.

use super::input::{Input, is_path};
use serde_json::{Map, Number, Value, json};

/// What a tool's arguments came to.
#[derive(Debug, Default)]
pub(super) struct Filling {
    pub(super) arguments: Map<String, Value>,
    /// Required properties without a value.
    pub(super) missing: Vec<String>,
    /// A required property for which the input has several values, and those.
    pub(super) ambiguous: Option<(String, Vec<Value>)>,
    /// Values of the input that were taken up.
    pub(super) used: usize,
}

impl Filling {
    /// Could the call be made as it is?
    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.ambiguous.is_none()
    }
}

/// What a property takes, as far as the rules tell kinds apart.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Enum(Vec<Value>),
    Path,
    Url,
    Glob,
    Text,
    Integer,
    Number,
    Boolean,
    Paths,
    Other,
}

struct Property<'s> {
    name: &'s str,
    kind: Kind,
    required: bool,
    default: Option<&'s Value>,
}

const PATH_WORDS: [&str; 8] = ["path", "file", "filename", "filepath", "directory", "dir", "folder", "paths"];
const PATH_LIST_WORDS: [&str; 2] = ["paths", "files"];
const URL_WORDS: [&str; 4] = ["url", "uri", "href", "link"];
const GLOB_WORDS: [&str; 2] = ["pattern", "glob"];

/// Fills the properties of `schema` from `input`.
pub(super) fn fill(schema: &Value, input: &Input) -> Filling {
    let properties = properties(schema);
    let mut filling = Filling::default();
    for property in &properties {
        if let Some(value) = by_name(property, input).or_else(|| by_enum(property, input)) {
            filling.take(property, value);
        }
    }
    let numbers = input.numbers.iter().filter_map(|number| number_of(number)).collect();
    filling.assign(&open(&properties, &filling, |kind| matches!(kind, Kind::Integer | Kind::Number), true), numbers);

    let looks_quoted = input.quoted.iter().filter(|text| is_path(text));
    let paths: Vec<Value> = input.paths.iter().chain(looks_quoted.clone()).map(|path| json!(path)).collect();
    for property in open(&properties, &filling, |kind| *kind == Kind::Paths, true) {
        if !paths.is_empty() {
            filling.take(property, Value::Array(paths.clone()));
        }
    }
    let path_places = open(&properties, &filling, |kind| *kind == Kind::Path, true);
    let takes_paths = !path_places.is_empty();
    filling.assign_or_optional(&properties, Kind::Path, paths);
    filling.assign_or_optional(&properties, Kind::Url, input.urls.iter().map(|url| json!(url)).collect());

    let left: Vec<Value> =
        input.quoted.iter().filter(|text| !(takes_paths && is_path(text))).map(|text| json!(text)).collect();
    let globs = input.globs.iter().map(|glob| json!(glob)).collect();
    filling.assign(&open(&properties, &filling, |kind| *kind == Kind::Glob, true), globs);
    let texts = |kind: &Kind| matches!(kind, Kind::Text | Kind::Path | Kind::Url | Kind::Glob);
    filling.assign(&open(&properties, &filling, texts, true), left);

    filling.settle(&properties);
    filling
}

/// The commands that would make the call: one, or one per value that could be meant. A missing value is a `<name>` to fill in.
pub(super) fn commands(name: &str, filling: &Filling) -> Vec<String> {
    let mut arguments = filling.arguments.clone();
    for missing in &filling.missing {
        arguments.insert(missing.clone(), json!(format!("<{missing}>")));
    }
    let command = |arguments: &Map<String, Value>| format!("call {name} {}", Value::Object(arguments.clone()));
    let Some((property, candidates)) = &filling.ambiguous else { return vec![command(&arguments)] };
    let with = |candidate: &Value| {
        let mut arguments = arguments.clone();
        arguments.insert(property.clone(), candidate.clone());
        command(&arguments)
    };
    candidates.iter().map(with).collect()
}

impl Filling {
    fn take(&mut self, property: &Property<'_>, value: Value) {
        self.arguments.insert(property.name.to_owned(), value);
        self.used += 1;
    }

    /// Values to places, in order. With more values than places none is chosen. A number that doesn't fit its place leaves it open.
    fn assign(&mut self, places: &[&Property<'_>], values: Vec<Value>) {
        let Some(first) = places.first() else { return };
        if values.len() > places.len() {
            self.used += 1;
            self.ambiguous.get_or_insert_with(|| (first.name.to_owned(), values));
            return;
        }
        for (place, value) in places.iter().zip(values) {
            if place.kind != Kind::Integer || value.is_i64() || value.is_u64() {
                self.take(place, value);
            }
        }
    }

    /// Required places first; a single optional one takes a single value.
    fn assign_or_optional(&mut self, properties: &[Property<'_>], kind: Kind, values: Vec<Value>) {
        let required = open(properties, self, |other| *other == kind, true);
        if !required.is_empty() {
            return self.assign(&required, values);
        }
        let optional = open(properties, self, |other| *other == kind, false);
        if let ([place], [value]) = (optional.as_slice(), values.as_slice()) {
            self.take(place, value.clone());
        }
    }

    /// Takes defaults of the schema, notes what is missing, and puts the arguments into the schema's order.
    fn settle(&mut self, properties: &[Property<'_>]) {
        for property in properties.iter().filter(|property| property.required) {
            let ambiguous = self.ambiguous.as_ref().is_some_and(|(name, _)| name == property.name);
            if ambiguous || self.arguments.contains_key(property.name) {
                continue;
            }
            match property.default {
                Some(default) => {
                    self.arguments.insert(property.name.to_owned(), default.clone());
                }
                None => self.missing.push(property.name.to_owned()),
            }
        }
        let mut given = std::mem::take(&mut self.arguments);
        let in_order = properties.iter().filter_map(|property| given.remove_entry(property.name));
        self.arguments = in_order.collect();
    }
}

fn open<'p, 's>(
    properties: &'p [Property<'s>],
    filling: &Filling,
    kind: impl Fn(&Kind) -> bool,
    required: bool,
) -> Vec<&'p Property<'s>> {
    let is_open = |property: &&Property<'_>| {
        property.required == required && kind(&property.kind) && !filling.arguments.contains_key(property.name)
    };
    properties.iter().filter(is_open).collect()
}

fn properties(schema: &Value) -> Vec<Property<'_>> {
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let declared = schema.get("properties").and_then(Value::as_object);
    declared
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let resolved = resolve(schema, property);
            Property {
                name,
                kind: kind(name, resolved),
                required: required.iter().any(|other| other == name.as_str()),
                default: property.get("default").or_else(|| resolved.get("default")).filter(|value| !value.is_null()),
            }
        })
        .collect()
}

/// The schema behind a local `$ref`, or the one variant of an optional value that isn't `null`.
fn resolve<'s>(document: &'s Value, property: &'s Value) -> &'s Value {
    if let Some(path) = property.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
        return document.pointer(path).unwrap_or(property);
    }
    let variants = property.get("anyOf").or_else(|| property.get("oneOf")).and_then(Value::as_array);
    let mut real =
        variants.into_iter().flatten().filter(|variant| variant.get("type").is_none_or(|kind| kind != "null"));
    match (real.next(), real.next()) {
        (Some(only), None) => only,
        _ => property,
    }
}

fn kind(name: &str, schema: &Value) -> Kind {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Kind::Enum(values.clone());
    }
    let stated = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str),
        other => other.and_then(Value::as_str),
    };
    match stated {
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        Some("array") => {
            let of_text = schema.pointer("/items/type").is_some_and(|kind| kind == "string");
            if of_text && has_word(name, &PATH_LIST_WORDS) { Kind::Paths } else { Kind::Other }
        }
        Some("string") if schema.get("format").is_some_and(|format| format == "uri") || has_word(name, &URL_WORDS) => {
            Kind::Url
        }
        Some("string") if has_word(name, &PATH_WORDS) => Kind::Path,
        Some("string") if has_word(name, &GLOB_WORDS) => Kind::Glob,
        Some("string") => Kind::Text,
        _ => Kind::Other,
    }
}

/// Is one of `words` a part of the name, as in `file_path` and `filePath`?
fn has_word(name: &str, words: &[&str]) -> bool {
    let mut parted = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            parted.push('_');
        }
        parted.extend(c.to_lowercase());
    }
    parted.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part))
        || words.contains(&name.to_lowercase().as_str())
}

fn by_name(property: &Property<'_>, input: &Input) -> Option<Value> {
    let mut values = input.pairs.iter().filter(|(key, _)| key.eq_ignore_ascii_case(property.name));
    let (_, text) = values.next()?;
    match &property.kind {
        Kind::Enum(options) => options.iter().find(|option| same_text(option, text)).cloned(),
        Kind::Integer => number_of(text).filter(|number| number.is_i64() || number.is_u64()),
        Kind::Number => number_of(text),
        Kind::Boolean => text.to_lowercase().parse().ok().map(Value::Bool),
        Kind::Path | Kind::Url | Kind::Glob | Kind::Text => Some(json!(text)),
        Kind::Paths => Some(json!(text.split(',').collect::<Vec<_>>())),
        Kind::Other => serde_json::from_str(text).ok(),
    }
}

/// The one option that is a word of the input.
fn by_enum(property: &Property<'_>, input: &Input) -> Option<Value> {
    let Kind::Enum(options) = &property.kind else { return None };
    let said = |option: &&Value| input.plain.iter().chain(&input.quoted).any(|word| same_text(option, word));
    let mut named = options.iter().filter(said);
    named.next().filter(|_| named.next().is_none()).cloned()
}

fn same_text(option: &Value, word: &str) -> bool {
    match option {
        Value::String(text) => text.eq_ignore_ascii_case(word),
        Value::Number(number) => number.to_string() == word,
        _ => false,
    }
}

fn number_of(text: &str) -> Option<Value> {
    text.parse::<Number>().ok().map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(properties: Value, required: &[&str], text: &str) -> Filling {
        fill(&json!({ "type": "object", "properties": properties, "required": required }), &Input::read(text))
    }

    fn arguments(properties: Value, required: &[&str], text: &str) -> Value {
        let filling = filled(properties, required, text);
        assert!(filling.is_complete(), "{text}: {filling:?}");
        Value::Object(filling.arguments)
    }

    #[test]
    fn values_find_their_places_by_kind() {
        let schema = json!({
            "path": { "type": "string" }, "count": { "type": "integer" }, "unit": { "enum": ["celsius", "kelvin"] },
            "deep": { "type": "boolean" }, "note": { "type": ["string", "null"] }
        });
        assert_eq!(
            arguments(schema, &["path", "count", "unit", "note"], "take 3 of a/b in Kelvin with \"a note\" deep=true"),
            json!({ "path": "a/b", "count": 3, "unit": "kelvin", "deep": true, "note": "a note" })
        );
    }

    #[test]
    fn numbers_fill_required_places_in_order_and_only_when_they_fit() {
        let two = || json!({ "a": { "type": "integer" }, "b": { "type": "number" } });
        assert_eq!(arguments(two(), &["a", "b"], "2 and 2"), json!({ "a": 2, "b": 2 }));
        assert_eq!(filled(two(), &["a", "b"], "2.5 and 1").missing, ["a"]);
        assert_eq!(filled(two(), &["a", "b"], "only 2").missing, ["b"]);
        let (property, values) = filled(two(), &["a"], "2 3").ambiguous.unwrap();
        assert_eq!((property.as_str(), values), ("a", vec![json!(2), json!(3)]));
    }

    #[test]
    fn nothing_is_invented() {
        let schema = json!({ "query": { "type": "string" }, "path": { "type": "string" } });
        assert_eq!(filled(schema, &["query", "path"], "search for something nice").missing, ["query", "path"]);
        let optional = json!({ "path": { "type": "string" }, "depth": { "type": "integer" } });
        assert_eq!(arguments(optional.clone(), &[], "the last 3 days"), json!({}));
        assert_eq!(arguments(optional, &[], "look into a/b depth=2"), json!({ "path": "a/b", "depth": 2 }));
    }

    #[test]
    fn a_default_of_the_schema_is_used_where_the_input_says_nothing() {
        let schema =
            json!({ "path": { "type": "string", "default": "." }, "n": { "type": "integer", "default": null } });
        assert_eq!(arguments(schema.clone(), &["path"], "anything"), json!({ "path": "." }));
        assert_eq!(arguments(schema, &["path"], "in docs/"), json!({ "path": "docs/" }));
    }

    #[test]
    fn references_and_optional_types_are_seen_through() {
        let schema = json!({ "type": "object", "$defs": { "Unit": { "enum": ["m", "ft"] } }, "required": ["unit", "file"],
            "properties": { "unit": { "$ref": "#/$defs/Unit" }, "file": { "anyOf": [{ "type": "string" }, { "type": "null" }] } } });
        let filling = fill(&schema, &Input::read("a.txt in ft"));
        assert_eq!(Value::Object(filling.arguments), json!({ "unit": "ft", "file": "a.txt" }));
    }

    #[test]
    fn commands_show_what_is_known_and_what_to_fill_in() {
        let schema = json!({ "path": { "type": "string" }, "pattern": { "type": "string" } });
        let filling = filled(schema, &["path", "pattern"], "a/b or c/d");
        assert_eq!(
            commands("t", &filling),
            [r#"call t {"pattern":"<pattern>","path":"a/b"}"#, r#"call t {"pattern":"<pattern>","path":"c/d"}"#]
        );
    }

    #[test]
    fn a_list_of_paths_takes_all_of_them() {
        let schema = json!({ "paths": { "type": "array", "items": { "type": "string" } } });
        assert_eq!(arguments(schema, &["paths"], "a.md and b.md"), json!({ "paths": ["a.md", "b.md"] }));
    }
}
