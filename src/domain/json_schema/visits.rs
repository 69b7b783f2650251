//! How often validation looks at a value: once for every way in which the schema leads to each of its parts.
//!
//! Where several alternatives go into the same part of the value (`anyOf` of two schemas that both say what is in `left`), each of its levels
//! multiplies the ways, and the library can't be stopped. So they are counted before, in one pass over schema and value that remembers what
//! it has counted, and ends where there are too many. An ordinary recursion (a tree, a list, JSON) leads to each part in few ways however deep the value is.

use super::Below;
use super::document::Document;
use crate::domain::quoted_place;
use jsonschema::Draft;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What one place of a schema applies, by the number of the place.
#[derive(Debug, Default)]
struct Applied {
    /// To the same value.
    same: Vec<usize>,
    properties: HashMap<String, usize>,
    /// To members that `properties` doesn't name.
    others: Vec<usize>,
    /// To every member, besides.
    members: Vec<usize>,
    /// To the first items, one each.
    first: Vec<Option<usize>>,
    /// To the items after them.
    rest: Vec<usize>,
    /// To every item, besides.
    items: Vec<usize>,
    /// How often all of that is done: what says `unevaluated...` goes once more through every level of its conditions.
    times: u64,
    /// The ways through what it applies to one value.
    ways: u64,
    /// The place that it stands in, and under which name.
    within: usize,
    segment: String,
}

/// What a schema applies where.
#[derive(Debug)]
pub(super) struct Plan {
    places: Vec<Applied>,
}

impl Plan {
    /// `below` says what is below each place of `document`.
    pub(super) fn new(document: &Document<'_>, below: impl Fn(usize) -> Below) -> Self {
        let places = (0..document.places.len()).map(|at| {
            let Below { ways, conditions, .. } = below(at);
            let mut applied = Applied { same: document.applied(at).to_vec(), times: 1, ways, ..Applied::default() };
            let place = &document.places[at];
            (applied.within, applied.segment) = (place.within, place.segment.to_string());
            if let Value::Object(members) = place.value {
                applied.read(document, at, members);
                if members.contains_key("unevaluatedProperties") || members.contains_key("unevaluatedItems") {
                    applied.times += conditions.max(u64::from(members.contains_key("contains")));
                }
            }
            applied
        });
        Self { places: places.collect() }
    }

    /// Refuses a value that gets more than `most` visits, with the place of the schema where they first exceed them, as it is shown.
    pub(super) fn check(&self, value: &Value, most: u64) -> Result<(), String> {
        self.visits(value, most).map(|_| ()).map_err(|at| self.shown(at))
    }

    /// How many visits the value gets; beyond `most`, the place where they first exceed them.
    fn visits(&self, value: &Value, most: u64) -> Result<u64, usize> {
        Counting { plan: self, counted: HashMap::new(), calls: 0, most }.count(0, value)
    }

    fn shown(&self, at: usize) -> String {
        let (mut path, mut at) = (Vec::new(), at);
        while at != 0 {
            path.push(quoted_place(&self.places[at].segment));
            at = self.places[at].within;
        }
        path.reverse();
        format!("`#/{}`", path.join("/"))
    }
}

impl Applied {
    fn read(&mut self, document: &Document<'_>, at: usize, members: &Map<String, Value>) {
        // Before 2020-12 `prefixItems` is nothing, and `items` is for all of them.
        let has_prefix = matches!(document.places[at].draft, Draft::Draft202012 | Draft::Unknown);
        for (keyword, said) in members {
            let one = || document.at(said).filter(|_| said.is_object());
            match (keyword.as_str(), said) {
                ("properties", Value::Object(named)) => {
                    let named = named.iter().filter_map(|(name, schema)| Some((name.clone(), document.at(schema)?)));
                    self.properties.extend(named);
                }
                ("patternProperties", Value::Object(patterns)) => {
                    self.members.extend(patterns.values().filter_map(|schema| document.at(schema)));
                }
                ("additionalProperties", _) => self.others.extend(one()),
                ("unevaluatedProperties", _) => self.members.extend(one()),
                ("items", Value::Array(first)) => self.first.extend(first.iter().map(|schema| document.at(schema))),
                ("prefixItems", Value::Array(first)) if has_prefix => {
                    self.first.extend(first.iter().map(|schema| document.at(schema)));
                }
                ("items", _) if has_prefix => self.rest.extend(one()),
                ("additionalItems", _) => self.rest.extend(one()),
                ("items" | "contains" | "unevaluatedItems", _) => self.items.extend(one()),
                _ => {}
            }
        }
    }
}

/// Does the library ask whether the schema at this place accepts the value, before it asks what of the value was looked at?
pub(super) fn is_condition(document: &Document<'_>, at: usize) -> bool {
    let place = &document.places[at];
    let around = &document.places[place.within].segment;
    matches!(&*place.segment, "if" | "not")
        || matches!(&**around, "anyOf" | "oneOf" | "dependentSchemas" | "dependencies")
}

/// Counts up to this are counted again rather than remembered: of a wide and flat value nearly all would be remembered for nothing.
const NOT_REMEMBERED: u64 = 32;

struct Counting<'a> {
    plan: &'a Plan,
    /// By place, and by the address of the part of the value.
    counted: HashMap<(usize, *const Value), u64>,
    /// How often it was counted. Never more than the visits, so that counting ends where they are too many.
    calls: u64,
    most: u64,
}

impl Counting<'_> {
    /// The visits of `value` and all of its parts, where the schema at `at` is applied to it; the place, once they are more than there may
    /// be. Goes as deep as validation does, which is bounded.
    fn count(&mut self, at: usize, value: &Value) -> Result<u64, usize> {
        self.calls += 1;
        if self.calls > self.most {
            return Err(at);
        }
        let applied = &self.plan.places[at];
        if !value.is_array() && !value.is_object() {
            return Ok(applied.ways);
        }
        let key = (at, std::ptr::from_ref(value));
        if let Some(count) = self.counted.get(&key) {
            return Ok(*count);
        }
        let mut count = self.add(1, applied.same.iter(), value)?;
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let named = applied.properties.get(name);
                    let others = if named.is_none() { applied.others.as_slice() } else { &[] };
                    count = self.add(count, named.into_iter().chain(others).chain(&applied.members), member)?;
                }
            }
            Value::Array(items) => {
                for (nth, item) in items.iter().enumerate() {
                    let first = applied.first.get(nth);
                    let rest = if first.is_none() { applied.rest.as_slice() } else { &[] };
                    count = self.add(count, first.into_iter().flatten().chain(rest).chain(&applied.items), item)?;
                }
            }
            _ => {}
        }
        count = count.saturating_mul(applied.times);
        if count > self.most {
            return Err(at);
        }
        if count > NOT_REMEMBERED {
            self.counted.insert(key, count);
        }
        Ok(count)
    }

    fn add<'b>(
        &mut self,
        mut count: u64,
        applied: impl Iterator<Item = &'b usize>,
        part: &Value,
    ) -> Result<u64, usize> {
        for at in applied {
            count = count.saturating_add(self.count(*at, part)?);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ValueSchema;
    use serde_json::json;

    #[test]
    fn counting_ends_where_there_are_too_many_visits_however_flat_the_value_is() {
        let alternatives: Vec<Value> = (0..100).map(|_| json!({ "items": { "$ref": "#/properties/x" } })).collect();
        let schema = ValueSchema::new(&json!({ "properties": { "x": { "anyOf": alternatives } } })).unwrap();
        let value = json!({ "x": vec![json!([]); 10_000] });
        let mut counting = Counting { plan: &schema.plan, counted: HashMap::new(), calls: 0, most: 5_000 };
        assert!(counting.count(0, &value).is_err());
        assert!(
            counting.calls <= 5_001 && counting.counted.len() < 200,
            "{} {}",
            counting.calls,
            counting.counted.len()
        );
    }
}
