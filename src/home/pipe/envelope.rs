//! The outside of a JSON-RPC message, and the two edits the pipe makes. Edits insert or replace text at the place where it stands, so
//! that numbers, key order, spacing and unknown fields of everything else stay as they were.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Where a caller puts the key under which a call may be repeated without happening twice.
pub(super) const IDEMPOTENCY_KEY: &str = "io.station/idempotency-key";

/// The fields that decide what a message is.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// What a `tools/call` looks like after its stamp.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stamped {
    /// It has a key already.
    Already,
    /// The line with the key.
    Now(String),
    /// Its `_meta` is not an object; the owner will say so.
    Impossible,
}

impl<'a> Envelope<'a> {
    /// `None` for anything that is no single JSON-RPC message.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        // serde would read an array as the fields in their order.
        if line.trim_start().starts_with('{') { serde_json::from_str(line).ok() } else { None }
    }

    pub(super) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    pub(super) fn is_error(&self) -> bool {
        self.error.is_some()
    }

    /// The id in a spelling that doesn't depend on who wrote it; `None` too for what MCP doesn't allow as one, which is answered under no
    /// id.
    pub(super) fn id_key(&self) -> Option<String> {
        self.id.and_then(id_key)
    }

    /// `params.requestId` of a cancellation.
    pub(super) fn cancelled_key(&self) -> Option<String> {
        self.param("requestId").and_then(id_key)
    }

    /// A parameter that is a string.
    pub(super) fn text_param(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.param(name)?.get()).ok()
    }

    fn param(&self, name: &str) -> Option<&'a RawValue> {
        object(self.params?)?.remove(name)
    }

    /// `line`, which is what this was parsed from, with `id` (a JSON text) in place of its own.
    pub(super) fn with_id(&self, line: &str, id: &str) -> String {
        match self.id {
            Some(old) => splice(line, old.get(), id),
            None => line.to_owned(),
        }
    }

    /// `line`, which is what this was parsed from, with an idempotency key in `params._meta`.
    pub(super) fn stamp(&self, line: &str, key: &str) -> Stamped {
        let entry = format!("\"{IDEMPOTENCY_KEY}\":{}", Value::from(key));
        let Some((params, fields)) = self.params.and_then(|params| Some((params.get(), object(params)?))) else {
            return Stamped::Impossible;
        };
        let Some(meta) = fields.get("_meta") else {
            // A call has a name, so something follows.
            return Stamped::Now(splice(line, &params[..1], &format!("{{\"_meta\":{{{entry}}},")));
        };
        if meta.get() == "null" {
            return Stamped::Now(splice(line, meta.get(), &format!("{{{entry}}}")));
        }
        match object(meta) {
            None => Stamped::Impossible,
            Some(present) if present.contains_key(IDEMPOTENCY_KEY) => Stamped::Already,
            Some(present) => {
                let comma = if present.is_empty() { "" } else { "," };
                Stamped::Now(splice(line, &meta.get()[..1], &format!("{{{entry}{comma}")))
            }
        }
    }
}

fn object(raw: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

fn id_key(raw: &RawValue) -> Option<String> {
    spelled(&serde_json::from_str(raw.get()).ok()?)
}

/// A string or an integer, as MCP wants ids.
fn spelled(id: &Value) -> Option<String> {
    (id.is_string() || id.is_i64() || id.is_u64()).then(|| id.to_string())
}

/// `line` with `new` in place of `part`, which is a piece of `line` itself.
fn splice(line: &str, part: &str, new: &str) -> String {
    let start = part.as_ptr() as usize - line.as_ptr() as usize;
    [&line[..start], new, &line[start + part.len()..]].concat()
}

/// The `id` of a message of which only the beginning is there, as JSON text, with whether it has a method so far.
pub(super) fn salvage(beginning: &[u8]) -> Salvaged {
    let salvaged = RefCell::new(Salvaged::default());
    let mut reader = serde_json::Deserializer::from_slice(beginning);
    // It ends in an error, because the text does; what was read before counts.
    let _cut = reader.deserialize_map(Salvage { found: &salvaged });
    salvaged.into_inner()
}

/// What the beginning of a message shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) id: Option<String>,
    pub(super) has_method: bool,
}

struct Salvage<'a> {
    found: &'a RefCell<Salvaged>,
}

impl<'de> Visitor<'de> for Salvage<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => self.found.borrow_mut().id = spelled(&map.next_value()?),
                other => {
                    self.found.borrow_mut().has_method |= other == "method";
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(line: &str) -> Stamped {
        Envelope::parse(line).unwrap().stamp(line, "k")
    }

    #[test]
    fn a_stamp_changes_nothing_but_the_place_where_it_goes() {
        let odd = r#"{ "x":1.0, "id" : 12345678901234567890123, "params":{"name":"agent_run" ,"arguments":{"b":1e400,"a":"\u00e9"}},"method":"tools/call"}"#;
        let Stamped::Now(stamped) = stamp(odd) else { panic!("it has no key yet") };
        let inserted = r#""_meta":{"io.station/idempotency-key":"k"},"#;
        assert_eq!(stamped.replacen(inserted, "", 1), odd);
        assert_eq!(stamp(&stamped), Stamped::Already);
    }

    #[test]
    fn a_stamp_joins_the_meta_that_is_there() {
        let line =
            |meta: &str| format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"agent_run","_meta":{meta}}}}}"#);
        let key = r#""io.station/idempotency-key":"k""#;
        assert_eq!(stamp(&line(r#"{"a":1}"#)), Stamped::Now(line(&format!(r#"{{{key},"a":1}}"#))));
        assert_eq!(stamp(&line("{ }")), Stamped::Now(line(&format!("{{{key} }}"))));
        assert_eq!(stamp(&line("null")), Stamped::Now(line(&format!("{{{key}}}"))));
        assert_eq!(stamp(&line("[]")), Stamped::Impossible);
        assert_eq!(stamp(&line(r#"{"io.station/idempotency-key":"mine"}"#)), Stamped::Already);
    }

    #[test]
    fn an_id_is_replaced_where_it_stands() {
        let line = r#"{"params":{"id":7},"id": 7 ,"method":"initialize"}"#;
        let envelope = Envelope::parse(line).unwrap();
        assert_eq!(envelope.with_id(line, "\"r-1\""), r#"{"params":{"id":7},"id": "r-1" ,"method":"initialize"}"#);
    }

    #[test]
    fn spellings_of_an_id_compare_equal_and_kinds_do_not() {
        let key = |line| Envelope::parse(line).unwrap().id_key();
        assert_eq!(key(r#"{"id":"\u0041"}"#), key(r#"{"id":"A"}"#));
        assert_ne!(key(r#"{"id":1}"#), key(r#"{"id":"1"}"#));
        for none in [r#"{"id":null}"#, r#"{"id":{"a":1}}"#, r#"{"id":1.5}"#, r#"{"id":[1]}"#, r#"{"id":true}"#] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_single_message_is_not_parsed() {
        for line in ["", "x", "[]", r#"[{"id":1,"method":"ping"}]"#, r#"{"id":1,"method":7}"#, r#"{"id":1,"id":2}"#] {
            assert!(Envelope::parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn the_id_is_found_in_the_beginning_of_a_cut_message() {
        let request = salvage(br#"{"jsonrpc":"2.0","method":"tools/call","id":"a","params":{"x":"yyyy"#);
        assert_eq!(request, Salvaged { id: Some("\"a\"".into()), has_method: true });
        let reply = salvage(br#"{"jsonrpc":"2.0","id":5,"result":{"content":[{"id":6,"#);
        assert_eq!(reply, Salvaged { id: Some("5".into()), has_method: false });
        assert_eq!(salvage(br#"{"result":"yyyy"#), Salvaged::default());
    }
}
