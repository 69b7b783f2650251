//! A JSON object whose members stay as they were written.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The members of a JSON object in their order, each value as raw text, so that what isn't ours to change isn't changed: numbers, key
/// order, unknown fields, even duplicates.
#[derive(Debug, Clone, Default)]
pub struct RawObject {
    members: Vec<(String, Box<RawValue>)>,
}

impl RawObject {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one level of `json`, which must be an object.
    pub fn parse(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// The member `key` as a string, if it is one.
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Replaces the member `key` where it stands, or appends it.
    pub fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.members.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.members.push((key.to_owned(), value)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn remove(&mut self, key: &str) {
        self.members.retain(|(name, _)| name != key);
    }

    /// [`RawObject::set`] with a value of ours.
    #[must_use]
    pub fn with(mut self, key: &str, value: &serde_json::Value) -> Self {
        self.set(key, raw(value));
        self
    }

    /// Appends the member `key` unless it is there already.
    pub fn set_default(&mut self, key: &str, value: &serde_json::Value) {
        if self.get(key).is_none() {
            self.set(key, raw(value));
        }
    }

    /// The object on one line: line breaks can only stand between tokens in JSON, so they become spaces, and lines can frame messages.
    pub fn to_line(&self) -> String {
        let mut line = String::from("{");
        for (index, (key, value)) in self.members.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            line.push_str(&serde_json::Value::from(key.as_str()).to_string());
            line.push(':');
            push_on_one_line(&mut line, value.get());
        }
        line.push('}');
        line
    }

    /// The object as one raw value.
    pub fn to_raw(&self) -> Box<RawValue> {
        RawValue::from_string(self.to_line()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

/// A value of ours as raw JSON.
pub fn raw(value: &serde_json::Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn push_on_one_line(line: &mut String, json: &str) {
    if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        line.extend(json.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
    } else {
        line.push_str(json);
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawObject { members })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_not_touched_keep_their_text() {
        let json = r#"{"z":1.0,"a":-0.0,"big":123456789012345678901234567890,"e":1e308,"s":"\ud800","n":null}"#;
        let mut object = RawObject::parse(json).unwrap();
        assert_eq!(object.to_line(), json);
        object.set("a", raw(&serde_json::json!("new")));
        object.set_default("z", &serde_json::json!(2));
        assert!(object.to_line().starts_with(r#"{"z":1.0,"a":"new","big":123456789012345678901234567890,"#));
    }

    #[test]
    fn the_line_has_no_line_breaks() {
        let object = RawObject::parse("{\"a\": {\r\n  \"b\": \"x\\ny\"\n}}").unwrap();
        assert_eq!(object.to_line(), r#"{"a":{    "b": "x\ny" }}"#);
    }
}
