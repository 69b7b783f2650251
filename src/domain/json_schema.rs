//! JSON Schemas that others wrote, of servers' tools and of agents' inputs and outputs: which ones are taken, and what compiles them.
//!
//! Validation is recursive. How deep it goes is the product of two numbers: the keywords and references that a schema applies to one and
//! the same value (`allOf`, `anyOf`, `$ref`, ...), and the nesting of the value. How long it takes grows with the ways through the former. A
//! chain of a few thousand references, 100 KB of JSON, would overflow a thread's stack, and with it end the process; so all three are
//! bounded, as is what finding the targets of references costs, with much to spare for what people write.

use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;

/// How many keywords and references in a row may apply to one value.
const MOST_STEPS: usize = 64;
/// How many ways through them there may be.
const MOST_WAYS: u64 = 10_000;
/// How deep a schema may be nested as it is written; JSON that was read from a text isn't deeper.
const MOST_NESTING: usize = 128;
/// Steps times nesting of the value: half of what a thread's stack of 2 MiB holds without optimisation.
const MOST_RECURSION: usize = 1_024;
/// References times what they may have to be told apart from (`$id`, anchors): what finding their targets costs.
const MOST_COMPARED: usize = 1_000_000;

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
const ANCHORS: [&str; 2] = ["$anchor", "$dynamicAnchor"];
const IDS: [&str; 2] = ["$id", "id"];
/// What applies a list of schemas, one schema, or a map of schemas to the same value. Everything else goes into the value, or applies nothing.
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SCHEMAS: [&str; 4] = ["not", "if", "then", "else"];
const MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];

/// Why a schema isn't taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// Where in the schema.
    pub path: Vec<String>,
    /// A clause whose subject is the schema.
    pub reason: String,
}

/// A schema that may be applied to values.
#[derive(Debug)]
pub struct ValueSchema {
    validator: Validator,
    steps: usize,
}

impl ValueSchema {
    /// A fault if `schema` is no valid JSON Schema, reaches out of itself, or is over the bounds.
    pub fn new(schema: &Value) -> Result<Self, SchemaFault> {
        let steps = steps(schema)?;
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            let unescape = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
            let path = error.instance_path().to_string().split('/').skip(1).map(unescape).collect();
            SchemaFault { path, reason: format!("it is no valid JSON Schema: {error}") }
        })?;
        Ok(Self { validator, steps })
    }

    /// Up to `most` reasons why the schema doesn't accept `value`; or that this can't be told, because the value is nested too deeply.
    pub fn faults<'a>(&'a self, value: &'a Value, most: usize) -> Result<Vec<ValidationError<'a>>, String> {
        let (depth, allowed) = (depth(value), MOST_RECURSION / (self.steps + 1));
        if depth >= allowed {
            return Err(format!(
                "it is nested {depth} deep, and with this schema it may be nested {} deep",
                allowed - 1
            ));
        }
        Ok(self.validator.iter_errors(value).take(most).collect())
    }
}

/// Checks the bounds alone, for a schema that isn't compiled yet.
pub fn check_schema_bounds(schema: &Value) -> Result<(), SchemaFault> {
    steps(schema).map(drop)
}

/// The most steps in a row that `schema` applies to one value.
fn steps(schema: &Value) -> Result<usize, SchemaFault> {
    let document = Document::read(schema)?;
    let mut walk = Walk { known: vec![Known::Unseen; document.places.len()] };
    (0..document.places.len()).try_fold(0, |most, at| Ok(most.max(walk.from(&document, at)?.steps)))
}

/// How deep `value` is nested; a text is 0 deep.
fn depth(value: &Value) -> usize {
    let (mut open, mut most) = (vec![(value, 0)], 0);
    while let Some((value, depth)) = open.pop() {
        most = most.max(depth);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => open.extend(members.values().map(|member| (member, depth + 1))),
            _ => {}
        }
    }
    most
}

/// An object or a list in the schema.
struct Place<'a> {
    value: &'a Value,
    /// The place that it stands in, and under which name. The root stands in itself.
    within: usize,
    segment: Cow<'a, str>,
    /// The place of the nearest `$id` around it: what references begin at.
    base: usize,
    nesting: usize,
}

struct Document<'a> {
    places: Vec<Place<'a>>,
    found: HashMap<*const Value, usize>,
    /// What names of anchors mean.
    anchors: HashMap<&'a str, Vec<usize>>,
    /// Who says `$id`, by the last segment of what they say; and whether that tells them apart.
    ids: HashMap<&'a str, Vec<usize>>,
    is_clear: bool,
    /// Where `$recursiveAnchor` stands.
    recursive: Vec<usize>,
    /// How many references there are, and how many names that they may mean.
    references: usize,
    names: usize,
}

impl<'a> Document<'a> {
    fn read(schema: &'a Value) -> Result<Self, SchemaFault> {
        let mut document = Self {
            places: Vec::new(),
            found: HashMap::new(),
            anchors: HashMap::new(),
            ids: HashMap::new(),
            is_clear: true,
            recursive: Vec::new(),
            references: 0,
            names: 0,
        };
        document.add(schema, 0, Cow::Borrowed(""));
        let mut next = 0;
        while let Some(Place { value, .. }) = document.places.get(next) {
            match *value {
                Value::Array(items) => {
                    items.iter().enumerate().for_each(|(at, item)| document.add(item, next, at.to_string().into()));
                }
                Value::Object(members) => {
                    members.iter().for_each(|(name, member)| document.add(member, next, name.as_str().into()));
                }
                _ => {}
            }
            if document.places[next].nesting > MOST_NESTING {
                return Err(document.fault(next, format!("it is nested more than {MOST_NESTING} deep")));
            }
            next += 1;
        }
        let Self { references, names, .. } = document;
        if references.saturating_mul(names) > MOST_COMPARED {
            let reason =
                format!("it has {references} references, and {names} `$id`s and anchors: too many to look each up");
            return Err(document.fault(0, reason));
        }
        Ok(document)
    }

    fn add(&mut self, value: &'a Value, within: usize, segment: Cow<'a, str>) {
        let own = self.places.len();
        if own > 0 && !value.is_object() && !value.is_array() {
            return;
        }
        let nesting = self.places.get(within).map_or(0, |around| around.nesting + 1);
        let mut base = self.places.get(within).map_or(0, |around| around.base);
        for (keyword, said) in value.as_object().into_iter().flatten() {
            let (keyword, text) = (keyword.as_str(), said.as_str());
            let is_name = IDS.contains(&keyword) || ANCHORS.contains(&keyword) || keyword == "$recursiveAnchor";
            self.references += usize::from(text.is_some() && REFERENCES.contains(&keyword));
            self.names += usize::from(is_name);
            if let Some(id) = text.filter(|_| IDS.contains(&keyword)) {
                match id.strip_prefix('#') {
                    Some(anchor) => self.anchors.entry(anchor).or_default().push(own),
                    None => {
                        base = own;
                        self.is_clear &= is_clear(id);
                        self.ids.entry(last_segment(id)).or_default().push(own);
                    }
                }
            }
            if let Some(anchor) = text.filter(|_| ANCHORS.contains(&keyword)) {
                self.anchors.entry(anchor).or_default().push(own);
            }
            if keyword == "$recursiveAnchor" {
                self.recursive.push(own);
            }
        }
        self.found.insert(std::ptr::from_ref(value), own);
        self.places.push(Place { value, within, segment, base, nesting });
    }

    fn fault(&self, at: usize, reason: String) -> SchemaFault {
        let (mut path, mut at) = (Vec::new(), at);
        while at != 0 {
            path.push(self.places[at].segment.to_string());
            at = self.places[at].within;
        }
        path.reverse();
        SchemaFault { path, reason }
    }

    fn at(&self, value: &Value) -> Option<usize> {
        self.found.get(&std::ptr::from_ref(value)).copied()
    }

    /// The places that are applied to the same value as the one `at`.
    fn applied(&self, at: usize) -> Vec<usize> {
        let place = &self.places[at];
        let Value::Object(members) = place.value else { return Vec::new() };
        let mut applied = Vec::new();
        for (keyword, said) in members {
            let keyword = keyword.as_str();
            match said {
                Value::String(reference) if REFERENCES.contains(&keyword) => {
                    self.referred(reference, place.base, &mut applied);
                    if keyword == "$recursiveRef" {
                        applied.extend(&self.recursive);
                    }
                }
                Value::Array(variants) if LISTS.contains(&keyword) => {
                    applied.extend(variants.iter().filter_map(|variant| self.at(variant)));
                }
                Value::Object(_) if SCHEMAS.contains(&keyword) => applied.extend(self.at(said)),
                Value::Object(schemas) if MAPS.contains(&keyword) => {
                    applied.extend(schemas.values().filter(|schema| schema.is_object()).filter_map(|it| self.at(it)));
                }
                _ => {}
            }
        }
        applied
    }

    /// The places that `reference` may mean: rather too many than one too few. What none of them is lies outside, and won't compile.
    fn referred(&self, reference: &str, base: usize, places: &mut Vec<usize>) {
        let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let roots = if resource.is_empty() { vec![base, 0] } else { self.named(resource) };
        if !fragment.is_empty() && !fragment.starts_with('/') {
            places.extend(self.anchors.get(fragment).into_iter().flatten());
            return;
        }
        let decoded = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy();
        for root in roots {
            for pointer in [fragment, decoded.as_ref()] {
                places.extend(self.places[root].value.pointer(pointer).and_then(|found| self.at(found)));
            }
        }
        places.sort_unstable();
        places.dedup();
    }

    /// The places whose `$id` is `resource`: by their last segments, or any where the spelling leaves it open.
    fn named(&self, resource: &str) -> Vec<usize> {
        match self.ids.get(last_segment(resource)) {
            Some(named) if self.is_clear && is_clear(resource) => named.clone(),
            _ if resource.contains("://json-schema.org/") => Vec::new(),
            _ => self.ids.values().flatten().copied().collect(),
        }
    }
}

fn last_segment(id: &str) -> &str {
    let path = id.split(['#', '?']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// Can nothing else be written for the last segment of this address?
fn is_clear(id: &str) -> bool {
    !id.contains(['%', '?']) && !matches!(last_segment(id), "" | "." | "..")
}

/// What is below a place.
#[derive(Debug, Clone, Copy)]
struct Below {
    steps: usize,
    ways: u64,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    Unseen,
    /// The walk is below it.
    Open,
    Done(Below),
}

struct Walk {
    known: Vec<Known>,
}

impl Walk {
    /// What is below the place `at`; looked at without recursion.
    fn from(&mut self, document: &Document<'_>, at: usize) -> Result<Below, SchemaFault> {
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(at);
        loop {
            if let Some(at) = next.take() {
                match self.known[at] {
                    Known::Done(_) => {}
                    Known::Open => {
                        return Err(document.fault(at, "it refers to itself without going into the value".to_owned()));
                    }
                    Known::Unseen => {
                        self.known[at] = Known::Open;
                        open.push((at, document.applied(at)));
                    }
                }
            }
            let Some((at, left)) = open.last_mut() else { break };
            next = left.pop();
            if next.is_none() {
                let at = *at;
                open.pop();
                let below = self.sum(document, at);
                if below.steps > MOST_STEPS {
                    let reason =
                        format!("more than {MOST_STEPS} of its keywords and references in a row apply to one value");
                    return Err(document.fault(at, reason));
                }
                if below.ways > MOST_WAYS {
                    let reason = format!("there are more than {MOST_WAYS} ways through what it applies to one value");
                    return Err(document.fault(at, reason));
                }
                self.known[at] = Known::Done(below);
            }
        }
        match self.known[at] {
            Known::Done(below) => Ok(below),
            Known::Unseen | Known::Open => Ok(Below { steps: 0, ways: 1 }),
        }
    }

    fn sum(&self, document: &Document<'_>, at: usize) -> Below {
        let below = document.applied(at).into_iter().filter_map(|at| match self.known[at] {
            Known::Done(below) => Some(below),
            Known::Unseen | Known::Open => None,
        });
        let none = Below { steps: 0, ways: 0 };
        let all = below.fold(none, |all, one| Below {
            steps: all.steps.max(one.steps + 1),
            ways: all.ways.saturating_add(one.ways),
        });
        Below { ways: all.ways.max(1), ..all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    /// `$defs` d0 to d`length`, where each is `link` of the next.
    fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
        let mut defs: Map<String, Value> =
            (0..length).map(|at| (format!("d{at}"), link(json!({ "$ref": format!("#/$defs/d{}", at + 1) })))).collect();
        defs.insert(format!("d{length}"), json!({ "type": "string" }));
        json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/d0" } }, "$defs": defs })
    }

    fn reason(schema: &Value) -> String {
        ValueSchema::new(schema).unwrap_err().reason
    }

    #[test]
    fn a_chain_of_references_is_taken_up_to_its_bound_whatever_its_links_are() {
        let links: [fn(Value) -> Value; 6] = [
            |next| next,
            |next| json!({ "allOf": [next] }),
            |next| json!({ "anyOf": [{ "type": "integer" }, next] }),
            |next| json!({ "not": next }),
            |next| json!({ "if": {}, "then": next }),
            |next| json!({ "dependentSchemas": { "properties": next } }),
        ];
        for link in links {
            assert!(ValueSchema::new(&chain(20, link)).is_ok());
            let fault = ValueSchema::new(&chain(3_000, link)).unwrap_err();
            assert!(fault.reason.contains("more than 64"), "{}", fault.reason);
            assert_eq!(fault.path[0], "$defs", "{:?}", fault.path);
        }
        let into_the_value = chain(3_000, |next| json!({ "properties": { "a": next } }));
        assert!(ValueSchema::new(&into_the_value).is_ok(), "one step for each level of the value");
    }

    #[test]
    fn a_chain_is_seen_however_its_references_are_written() {
        let anchors: Vec<Value> =
            (0..900).map(|at| json!({ "$anchor": format!("a{at}"), "$ref": format!("#a{}", at + 1) })).collect();
        let ids: Vec<Value> = (0..900)
            .map(|at| json!({ "$id": format!("http://a/i{at}"), "$ref": format!("i{}", at + 1) }))
            .chain([json!({ "$id": "http://a/i900" })])
            .collect();
        let escaped = chain(3_000, |next| next).to_string().replace("#/$defs/", "#/%24defs/");
        let mut inner = chain(3_000, |next| next);
        inner["$id"] = json!("http://a/inner");
        for schema in [
            json!({ "$ref": "#a0", "$defs": { "all": { "prefixItems": anchors } } }),
            json!({ "$ref": "http://a/i0", "$defs": { "all": { "prefixItems": ids } } }),
            serde_json::from_str(&escaped).unwrap(),
            json!({ "properties": { "y": inner } }),
        ] {
            assert!(reason(&schema).contains("more than 64"));
        }
    }

    #[test]
    fn ways_that_double_with_every_step_are_not_taken() {
        let doubled = |length| chain(length, |next| json!({ "anyOf": [next, next] }));
        assert!(ValueSchema::new(&doubled(10)).is_ok());
        assert!(reason(&doubled(30)).contains("ways"));
    }

    #[test]
    fn recursion_is_taken_where_it_goes_into_the_value() {
        let tree = json!({ "$ref": "#/$defs/tree", "$defs": { "tree": {
            "properties": { "left": { "$ref": "#/$defs/tree" }, "all": { "items": { "$ref": "#" } } } } } });
        let schema = ValueSchema::new(&tree).unwrap();
        assert_eq!(schema.faults(&json!({ "left": { "left": {} } }), 5).unwrap().len(), 0);
        for endless in [
            json!({ "$ref": "#" }),
            json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "not": { "$ref": "#/$defs/a" } } } }),
        ] {
            assert!(reason(&endless).contains("itself"));
        }
        let named = json!({ "$id": "Node", "type": "object", "properties": { "next": { "anyOf": [{ "$ref": "Node" }, { "type": "null" }] } } });
        assert!(ValueSchema::new(&named).is_ok());
    }

    #[test]
    fn how_deep_a_value_may_be_depends_on_the_schema() {
        let mut steps = json!({ "properties": { "a": { "$ref": "#/$defs/t" } } });
        for _ in 0..25 {
            steps = json!({ "allOf": [steps] });
        }
        let steep = ValueSchema::new(&json!({ "$ref": "#/$defs/t", "$defs": { "t": steps } })).unwrap();
        let flat = ValueSchema::new(&json!({ "properties": { "a": { "$ref": "#" } } })).unwrap();
        let nested = |depth| (0..depth).fold(json!("x"), |inner, _| json!({ "a": inner }));
        assert!(steep.faults(&nested(20), 1).is_ok() && flat.faults(&nested(120), 1).is_ok());
        let told = steep.faults(&nested(120), 1).unwrap_err();
        assert!(told.contains("nested 120 deep") && told.contains("may be nested 3"), "{told}");
    }

    #[test]
    fn more_references_and_names_than_can_be_looked_up_in_a_moment_are_not_taken() {
        let bundle = |count: usize| {
            let defined = (0..count).map(|at| (format!("d{at}"), json!({ "$id": format!("http://a/{at}/x") })));
            let referred: Vec<_> = (0..count).map(|at| json!({ "$ref": format!("http://a/{at}/x") })).collect();
            json!({ "$defs": defined.collect::<Map<_, _>>(), "examples": referred })
        };
        assert!(check_schema_bounds(&bundle(90)).is_ok());
        assert!(reason(&bundle(2_000)).contains("2000 references"));
    }

    #[test]
    fn a_schema_that_is_written_too_deep_is_not_taken() {
        let deep = (0..300).fold(json!({}), |inner, _| json!({ "not": inner }));
        assert!(reason(&deep).contains("nested more than 128"));
    }
}
