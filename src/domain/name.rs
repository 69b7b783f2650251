//! Names of environments, agents and MCP servers.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// `[a-z0-9][a-z0-9_-]{0,62}` with at least one letter, no `__`, and not a reserved word. At least one letter keeps names apart from
/// numeric ids; no `__` keeps `<server>__<tool>` readable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// Why a text can't be a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a valid name: {reason}", super::quoted(.text))]
pub struct InvalidName {
    pub text: String,
    pub reason: &'static str,
}

const RESERVED: [&str; 3] = ["agent", "station", "stn"];

impl Name {
    /// What a JSON Schema can say of the rules.
    pub const PATTERN: &str = "^[a-z0-9][a-z0-9_-]{0,62}$";

    /// Checks `text` against the rules above.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        match problem(text) {
            None => Ok(Self(text.into())),
            Some(reason) => Err(InvalidName { text: text.to_owned(), reason }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn problem(text: &str) -> Option<&'static str> {
    let first = text.bytes().next();
    if first.is_none() {
        return Some("it is empty");
    }
    if text.len() > 63 {
        return Some("it is longer than 63 characters");
    }
    if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
        return Some("only lower-case letters, digits, `-` and `_` are allowed");
    }
    if matches!(first, Some(b'_' | b'-')) {
        return Some("it must start with a letter or a digit");
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Some("it needs at least one letter");
    }
    if text.contains("__") {
        return Some("`__` separates a server from its tool");
    }
    RESERVED.contains(&text).then_some("the word is reserved")
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Self::PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_the_design() {
        let longest = "a".repeat(63);
        for good in ["a", "1a", "log-reader", "log_reader", "a1", longest.as_str()] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        let bad =
            ["", "..", "A", "1", "-a", "_a", "a__b", "agent", "stn", "station", "a b", "a/b", "ä", too_long.as_str()];
        for bad in bad {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
