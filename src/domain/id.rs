//! Identifiers. A run id finds its own store, and no id of one environment can ever address another.

use super::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use uuid::Uuid;

/// An environment's number, 1 to 4095, kept in the control store and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentNumber(u16);

impl EnvironmentNumber {
    /// The highest number: twelve bits of a run id carry it.
    pub const MAX: u16 = 4095;

    /// `None` outside 1..=4095.
    pub fn new(number: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A UUID laid out like version 7 but marked version 8 (RFC 9562, section 5.8): 48 bits of unix milliseconds, 12 bits that carry the
/// environment's number, 62 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// `random` supplies the low 62 bits.
    pub fn new(at: Timestamp, environment: EnvironmentNumber, random: u64) -> Self {
        let millis = u64::try_from(at.as_millis()).unwrap_or(0) & 0xffff_ffff_ffff;
        let high = (millis << 16) | 0x8000 | u64::from(environment.get());
        let low = (random & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        Self(Uuid::from_u64_pair(high, low))
    }

    /// Accepts only ids of the layout above.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        let (high, low) = uuid.as_u64_pair();
        let marked = high & 0xf000 == 0x8000 && low >> 62 == 0b10;
        (marked && EnvironmentNumber::new((high & 0xfff) as u16).is_some()).then_some(Self(uuid))
    }

    /// The environment this run belongs to.
    pub fn environment(self) -> EnvironmentNumber {
        EnvironmentNumber((self.0.as_u64_pair().0 & 0xfff) as u16)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format_args!("`{text}` is not a run id")))
    }
}

impl JsonSchema for RunId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RunId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

/// The handle of an agent within its environment; never reused.
pub type AgentId = i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_carries_time_and_environment_and_is_marked_version_8() {
        let environment = EnvironmentNumber::new(4095).unwrap();
        let id = RunId::new(Timestamp::from_millis(1_764_000_000_000), environment, u64::MAX);
        assert_eq!(id.environment(), environment);
        assert_eq!(id.0.get_version_num(), 8);
        assert_eq!(RunId::parse(&id.to_string()), Some(id));
        let later = RunId::new(Timestamp::from_millis(1_764_000_000_001), environment, 0);
        assert!(later > id);
    }

    #[test]
    fn an_id_of_another_layout_is_refused() {
        assert_eq!(RunId::parse("018f3a3c-0000-7001-8000-000000000000"), None);
        assert_eq!(RunId::parse("018f3a3c-0000-8000-8000-000000000000"), None);
        assert_eq!(RunId::parse("nonsense"), None);
    }
}
