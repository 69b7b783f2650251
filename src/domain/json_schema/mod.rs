//! JSON Schemas that others wrote, of servers' tools and of agents' inputs and outputs: which ones are taken, and what compiles them.
//!
//! Validation is recursive. How deep it goes is the product of two numbers: the keywords and references that a schema applies to one and
//! the same value (`allOf`, `anyOf`, `$ref`, ...), and the nesting of the value. How long it takes grows with the ways through the former. A
//! chain of a few thousand references, 100 KB of JSON, would overflow a thread's stack, and with it end the process; so all three are
//! bounded, as is what finding the targets of references costs, with much to spare for what people write.

mod document;
mod visits;

use document::Document;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use visits::{Plan, is_condition};

/// How many keywords and references in a row may apply to one value.
const MOST_STEPS: usize = 64;
/// How many ways through them there may be.
const MOST_WAYS: u64 = 10_000;
/// Steps times nesting of the value: half of what a thread's stack of 2 MiB holds without optimisation.
const MOST_RECURSION: usize = 1_024;
/// How often the parts of a value may be looked at to tell whether it fits: at least, and of a large value each part. Below a second.
const MOST_VISITS: Visits = Visits { least: 10_000_000, each: 100 };
/// How often to say why it doesn't, which takes a hundred times as long.
const MOST_VISITS_TO_TELL: Visits = Visits { least: 100_000, each: 16 };

struct Visits {
    least: u64,
    each: u64,
}

impl Visits {
    fn of(&self, parts: u64) -> u64 {
        self.least.max(self.each.saturating_mul(parts))
    }
}

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
    plan: Plan,
}

impl ValueSchema {
    /// A fault if `schema` is no valid JSON Schema, reaches out of itself, or is over the bounds.
    pub fn new(schema: &Value) -> Result<Self, SchemaFault> {
        let document = Document::read(schema)?;
        let (walk, steps) = Walk::all(&document)?;
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            let unescape = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
            let path = error.instance_path().to_string().split('/').skip(1).map(unescape).collect();
            SchemaFault { path, reason: format!("it is no valid JSON Schema: {error}") }
        })?;
        let plan = Plan::new(&document, |at| walk.below(at));
        Ok(Self { validator, steps, plan })
    }

    /// Up to `most` reasons why the schema doesn't accept `value`; or, as a clause whose subject is the value, that this can't be told,
    /// because it is nested too deeply or there are too many ways to look at it.
    pub fn faults<'a>(&'a self, value: &'a Value, most: usize) -> Result<Vec<ValidationError<'a>>, String> {
        let (depth, parts) = extent(value);
        let allowed = MOST_RECURSION / (self.steps + 1);
        if depth >= allowed {
            return Err(format!(
                "it is nested {depth} deep, and with this schema it may be nested {} deep",
                allowed - 1
            ));
        }
        self.plan.check(value, MOST_VISITS.of(parts)).map_err(|place| ambiguous(&place, "it can't be checked"))?;
        if self.validator.is_valid(value) {
            return Ok(Vec::new());
        }
        let untold = |place: String| ambiguous(&place, "it doesn't fit, and there are too many reasons to tell them");
        self.plan.check(value, MOST_VISITS_TO_TELL.of(parts)).map_err(untold)?;
        Ok(self.validator.iter_errors(value).take(most).collect())
    }
}

fn ambiguous(place: &str, told: &str) -> String {
    format!(
        "{told}: the schema at {place} leads to the same parts of the value in too many ways, as alternatives do that recurse; let them \
         differ in their fields, or name once what they share"
    )
}

/// Checks the bounds alone, for a schema that isn't compiled yet.
pub fn check_schema_bounds(schema: &Value) -> Result<(), SchemaFault> {
    Walk::all(&Document::read(schema)?).map(drop)
}

/// How deep `value` is nested (a text is 0 deep), and how many parts it has.
fn extent(value: &Value) -> (usize, u64) {
    let (mut open, mut most, mut parts) = (vec![(value, 0)], 0, 0);
    while let Some((value, depth)) = open.pop() {
        (most, parts) = (most.max(depth), parts + 1);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => open.extend(members.values().map(|member| (member, depth + 1))),
            _ => {}
        }
    }
    (most, parts)
}

/// What is below a place.
#[derive(Debug, Clone, Copy)]
struct Below {
    /// The most steps in a row that apply to one value.
    steps: usize,
    ways: u64,
    /// The most conditions in each other.
    conditions: u64,
}

impl Below {
    const NOTHING: Self = Self { steps: 0, ways: 1, conditions: 0 };
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
    /// Walks from every place; with the most steps in a row that apply to one value.
    fn all(document: &Document<'_>) -> Result<(Self, usize), SchemaFault> {
        let mut walk = Self { known: vec![Known::Unseen; document.places.len()] };
        let steps = (0..document.places.len()).try_fold(0, |most, at| Ok(most.max(walk.from(document, at)?.steps)))?;
        Ok((walk, steps))
    }

    fn below(&self, at: usize) -> Below {
        match self.known.get(at) {
            Some(Known::Done(below)) => *below,
            _ => Below::NOTHING,
        }
    }

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
                        open.push((at, document.applied(at).to_vec()));
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
        Ok(self.below(at))
    }

    fn sum(&self, document: &Document<'_>, at: usize) -> Below {
        let none = Below { ways: 0, ..Below::NOTHING };
        let all = document.applied(at).iter().fold(none, |all, at| {
            let one = self.below(*at);
            Below {
                steps: all.steps.max(one.steps + 1),
                ways: all.ways.saturating_add(one.ways),
                conditions: all.conditions.max(one.conditions + u64::from(is_condition(document, *at))),
            }
        });
        Below { ways: all.ways.max(1), ..all }
    }
}

#[cfg(test)]
mod tests;
