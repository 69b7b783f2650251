//! A schema as it is written: its places, the resources that `$id`s divide it into, and which places its references mean.
//!
//! A reference is resolved against the nearest `$id` around it (JSON Schema 2020-12, section 8.2), with the library's own resolution of
//! URIs. Where it can't be told whether the library takes an `$id` for one (it stands where no schema is expected, or stands there twice), both
//! readings count: a target too many costs a strange schema, one too few would cost the process.

use super::SchemaFault;
use jsonschema::{Draft, Uri, uri};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// How deep a schema may be nested as it is written; JSON that was read from a text isn't deeper.
const MOST_NESTING: usize = 128;
/// References times the places that one of them may mean: what finding their targets costs.
const MOST_COMPARED: usize = 1_000_000;
/// Bytes of one `$id`, of which every one inside it repeats the first part.
const MOST_ID_BYTES: usize = 1_024;

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
const ANCHORS: [&str; 2] = ["$anchor", "$dynamicAnchor"];
const IDS: [&str; 2] = ["$id", "id"];
/// What applies a list of schemas, one schema, or a map of schemas to the same value. Everything else goes into the value, or applies nothing.
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SCHEMAS: [&str; 4] = ["not", "if", "then", "else"];
const MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];

/// An object or a list in the schema.
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    /// The place that it stands in, and under which name. The root stands in itself.
    pub(super) within: usize,
    pub(super) segment: Cow<'a, str>,
    pub(super) draft: Draft,
    /// The resource that it belongs to.
    resource: usize,
    nesting: usize,
    /// The places that are applied to the same value.
    applied: Vec<usize>,
}

/// What an `$id` names: the part of the document that its references begin at.
struct Resource {
    uri: Uri<String>,
    /// The resource that it stands in. The root stands in itself.
    within: usize,
    /// How many, it and those around it, the library may not take for one; 0 if it is sure to take this one.
    uncertain: usize,
}

struct Anchor {
    place: usize,
    is_dynamic: bool,
}

pub(super) struct Document<'a> {
    pub(super) places: Vec<Place<'a>>,
    found: HashMap<*const Value, usize>,
    /// What stands where a schema is expected, beginning at the root.
    expected: HashSet<*const Value>,
    resources: Vec<Resource>,
    /// The places of the resources of a URI.
    named: HashMap<String, Vec<usize>>,
    /// What names of anchors mean.
    anchors: HashMap<&'a str, Vec<Anchor>>,
    /// Where `$recursiveAnchor` stands.
    recursive: Vec<usize>,
    references: usize,
}

impl<'a> Document<'a> {
    pub(super) fn read(schema: &'a Value) -> Result<Self, SchemaFault> {
        let unnamed = |_| SchemaFault { path: Vec::new(), reason: "its references have no beginning".to_owned() };
        let uri = uri::from_str("").map_err(unnamed)?;
        let mut document = Self {
            places: Vec::new(),
            found: HashMap::new(),
            expected: HashSet::from([std::ptr::from_ref(schema)]),
            named: HashMap::from([(uri.to_string(), vec![0])]),
            resources: vec![Resource { uri, within: 0, uncertain: 0 }],
            anchors: HashMap::new(),
            recursive: Vec::new(),
            references: 0,
        };
        document.add(schema, 0, Cow::Borrowed(""))?;
        let mut next = 0;
        while let Some(Place { value, .. }) = document.places.get(next) {
            match *value {
                Value::Array(items) => {
                    for (at, item) in items.iter().enumerate() {
                        document.add(item, next, at.to_string().into())?;
                    }
                }
                Value::Object(members) => {
                    for (name, member) in members {
                        document.add(member, next, name.as_str().into())?;
                    }
                }
                _ => {}
            }
            next += 1;
        }
        document.resolve()?;
        Ok(document)
    }

    /// Finds what each place applies to its value.
    fn resolve(&mut self) -> Result<(), SchemaFault> {
        let named = self.named.values().map(Vec::len).max().unwrap_or_default();
        let anchors = self.anchors.values().map(Vec::len).max().unwrap_or_default();
        let alike = named.saturating_mul(anchors.max(1)).max(self.recursive.len());
        let uncertain = self.resources.iter().map(|resource| resource.uncertain).max().unwrap_or_default();
        let (references, meant) = (self.references, alike.saturating_mul(uncertain + 1));
        if references.saturating_mul(meant) > MOST_COMPARED {
            let reason = format!(
                "it has {references} references, of which one may mean {meant} places: too many to look each up"
            );
            return Err(self.fault(0, reason));
        }
        for at in 0..self.places.len() {
            self.places[at].applied = self.applied_at(at);
        }
        Ok(())
    }

    fn add(&mut self, value: &'a Value, within: usize, segment: Cow<'a, str>) -> Result<(), SchemaFault> {
        let own = self.places.len();
        if own > 0 && !value.is_object() && !value.is_array() {
            return Ok(());
        }
        let (nesting, resource, draft) = match self.places.get(within) {
            Some(around) => (around.nesting + 1, around.resource, around.draft.detect(value)),
            None => (0, 0, Draft::default().detect(value)),
        };
        self.found.insert(std::ptr::from_ref(value), own);
        self.places.push(Place { value, within, segment, draft, resource, nesting, applied: Vec::new() });
        if nesting > MOST_NESTING {
            return Err(self.fault(own, format!("it is nested more than {MOST_NESTING} deep")));
        }
        if self.expected.contains(&std::ptr::from_ref(value)) {
            self.expected.extend(draft.subresources_of(value).map(std::ptr::from_ref));
        }
        self.read_names(own)
    }

    /// The names that the object at `own` gives itself.
    fn read_names(&mut self, own: usize) -> Result<(), SchemaFault> {
        let Place { value, draft, .. } = self.places[own];
        let is_expected = self.expected.contains(&std::ptr::from_ref(value));
        for (keyword, said) in value.as_object().into_iter().flatten() {
            let (keyword, text) = (keyword.as_str(), said.as_str());
            self.references += usize::from(text.is_some() && REFERENCES.contains(&keyword));
            if let Some(id) = text.filter(|_| IDS.contains(&keyword)) {
                if let Some(anchor) = id.strip_prefix('#') {
                    self.anchors.entry(anchor).or_default().push(Anchor { place: own, is_dynamic: true });
                }
                if !is_expected || names_resource(draft, keyword, id, value) {
                    self.open_resource(own, id, is_expected && !id.starts_with('#'))?;
                }
            }
            if let Some(name) = text.filter(|_| ANCHORS.contains(&keyword)) {
                let anchor = Anchor { place: own, is_dynamic: keyword == "$dynamicAnchor" };
                self.anchors.entry(name).or_default().push(anchor);
            }
            if keyword == "$recursiveAnchor" {
                self.recursive.push(own);
            }
        }
        Ok(())
    }

    fn open_resource(&mut self, own: usize, id: &str, is_certain: bool) -> Result<(), SchemaFault> {
        if id.len() > MOST_ID_BYTES {
            return Err(self.fault(own, format!("its `$id` has more than {MOST_ID_BYTES} bytes")));
        }
        let within = self.places[own].resource;
        let around = &self.resources[within].uri;
        // What is no URI, or the same again, is no resource of its own.
        let Ok(uri) = uri::resolve_against(&around.borrow(), id.trim_end_matches('#')) else { return Ok(()) };
        if uri == *around {
            return Ok(());
        }
        self.named.entry(uri.to_string()).or_default().push(own);
        self.places[own].resource = self.resources.len();
        let uncertain = if is_certain { 0 } else { self.resources[within].uncertain + 1 };
        self.resources.push(Resource { uri, within, uncertain });
        Ok(())
    }

    pub(super) fn fault(&self, at: usize, reason: String) -> SchemaFault {
        let (mut path, mut at) = (Vec::new(), at);
        while at != 0 {
            path.push(self.places[at].segment.to_string());
            at = self.places[at].within;
        }
        path.reverse();
        SchemaFault { path, reason }
    }

    pub(super) fn at(&self, value: &Value) -> Option<usize> {
        self.found.get(&std::ptr::from_ref(value)).copied()
    }

    /// The places that are applied to the same value as the one `at`.
    pub(super) fn applied(&self, at: usize) -> &[usize] {
        &self.places[at].applied
    }

    fn applied_at(&self, at: usize) -> Vec<usize> {
        let place = &self.places[at];
        let Value::Object(members) = place.value else { return Vec::new() };
        let mut applied = Vec::new();
        for (keyword, said) in members {
            let keyword = keyword.as_str();
            match said {
                Value::String(reference) if REFERENCES.contains(&keyword) => {
                    self.referred(reference, keyword, place.resource, &mut applied);
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

    /// The places that `reference` may mean. What is none of them lies outside, and won't compile.
    fn referred(&self, reference: &str, keyword: &str, resource: usize, applied: &mut Vec<usize>) {
        let mut places = Vec::new();
        let (address, fragment) = reference.rsplit_once('#').unwrap_or((reference, ""));
        let is_name = !fragment.is_empty() && !fragment.starts_with('/');
        for base in self.bases(resource) {
            let uri = match address {
                "" => base.uri.clone(),
                address => match uri::resolve_against(&base.uri.borrow(), address) {
                    Ok(uri) => uri,
                    Err(_) => continue,
                },
            };
            let roots = self.named.get(uri.as_str()).map(Vec::as_slice).unwrap_or_default();
            if is_name {
                let anchors = self.anchors.get(fragment).into_iter().flatten();
                let meant = anchors.filter(|anchor| anchor.is_dynamic || self.belongs(anchor.place, &uri, roots));
                places.extend(meant.map(|anchor| anchor.place));
            } else {
                let decoded = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy();
                places.extend(roots.iter().filter_map(|root| self.pointed(*root, &decoded)));
            }
        }
        if keyword == "$recursiveRef" {
            places.extend(&self.recursive);
        }
        places.sort_unstable();
        places.dedup();
        applied.extend(places);
    }

    /// The resource, and those around it as far as it is uncertain.
    fn bases(&self, resource: usize) -> impl Iterator<Item = &Resource> {
        let mut next = Some(resource);
        std::iter::from_fn(move || {
            let own = next?;
            let resource = &self.resources[own];
            next = (resource.uncertain > 0).then_some(resource.within);
            Some(resource)
        })
    }

    fn belongs(&self, place: usize, uri: &Uri<String>, roots: &[usize]) -> bool {
        let resource = self.places[place].resource;
        self.bases(resource).any(|base| base.uri == *uri)
            || roots.iter().any(|root| self.places[*root].resource == resource)
    }

    /// What the pointer, which is decoded, leads to from `root`; as the library reads it, which takes `01` for 1.
    fn pointed(&self, root: usize, pointer: &str) -> Option<usize> {
        let mut value = self.places[root].value;
        for segment in pointer.split('/').skip(1) {
            value = match value {
                Value::Array(items) => items.get(segment.parse::<usize>().ok()?)?,
                _ => value.get(segment.replace("~1", "/").replace("~0", "~"))?,
            };
        }
        self.at(value)
    }
}

/// Is `keyword` the one by which this draft names a resource, where it stands?
fn names_resource(draft: Draft, keyword: &str, id: &str, object: &Value) -> bool {
    let is_old = matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7);
    keyword == draft.id_keyword() && !(is_old && (id.starts_with('#') || object.get("$ref").is_some()))
}
