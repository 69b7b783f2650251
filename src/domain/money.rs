//! Amounts of money: integers inside, decimals where people write them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::fmt;

const MICROS: i64 = 1_000_000;

/// US dollars, in millionths. Written and read as a decimal with at most six digits before the point and six behind it, without floating
/// point in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(i64);

impl Usd {
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// `0.75` is 750000 millionths. `None` for anything but digits with at most one point among them.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 6 || whole.len() > 6 {
            return None;
        }
        let fraction: i64 = format!("{decimals:0<6}").parse().ok()?;
        Some(Self(whole.parse::<i64>().ok()? * MICROS + fraction))
    }

    /// A number, or a text of one.
    pub fn read(value: &Value) -> Option<Self> {
        Self::parse(spelled(value).as_ref())
    }
}

/// A value as its writer may have spelled it: no number has an exponent.
pub fn spelled(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.trim().into(),
        Value::Number(number) => decimal(number).into(),
        other => other.to_string().into(),
    }
}

/// The shortest decimal that is read as this number again: up to 15 digits, what was written.
fn decimal(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", (self.0 % MICROS).abs());
        let shown = decimals.trim_end_matches('0').len().max(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", (self.0 / MICROS).abs(), &decimals[..shown])
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % MICROS {
            0 => serializer.serialize_i64(self.0 / MICROS),
            // Read from its decimal, it is the number that is written as that decimal.
            _ => match self.to_string().parse() {
                Ok(number) => serializer.serialize_f64(number),
                Err(_) => serializer.collect_str(self),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).ok_or_else(|| {
            let found = spelled(&value).chars().take(40).collect::<String>();
            de::Error::custom(format_args!(
                "`{}` is no amount of USD, such as 0.50 with at most six decimals",
                found.escape_debug()
            ))
        })
    }
}

impl JsonSchema for Usd {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // No pattern: its mismatch would be told in the place of what an amount looks like.
        json_schema!({ "type": ["number", "string"], "minimum": 0, "examples": [0.5, "0.50"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_read_exactly_and_nonsense_is_not() {
        for (text, expected) in [
            ("0.75", Some(750_000)),
            ("15", Some(15_000_000)),
            ("0.000001", Some(1)),
            ("0.1", Some(100_000)),
            ("0", Some(0)),
            ("999999.999999", Some(999_999_999_999)),
            ("0.0000001", None),
            ("1e-7", None),
            ("-1", None),
            (".5", None),
            ("1.", None),
            ("1000000", None),
            ("free", None),
            ("", None),
        ] {
            assert_eq!(Usd::parse(text).map(Usd::micros), expected, "{text}");
        }
    }

    #[test]
    fn every_amount_comes_back_as_the_number_that_it_was_written_as() {
        for micros in [0, 1, 10, 12, 300_000, 500_000, 1_000_000, 123_456_789, 999_999_999_999] {
            let written = serde_json::to_string(&Usd(micros)).unwrap();
            assert_eq!(serde_json::from_str::<Usd>(&written).unwrap(), Usd(micros), "{written}");
        }
        let read =
            |value: Value| serde_json::from_value::<Usd>(value).map(Usd::micros).map_err(|error| error.to_string());
        assert_eq!(read(json!(0.000_012)), Ok(12));
        assert_eq!(read(json!(" 2.5 ")), Ok(2_500_000));
        assert!(read(json!(-1)).unwrap_err().contains("`-1` is no amount of USD"));
        assert!(read(json!([1])).is_err() && read(json!(1e300)).is_err() && read(json!(true)).is_err());
    }

    #[test]
    fn people_see_two_decimals_or_as_many_as_there_are() {
        for (micros, shown) in
            [(500_000, "0.50"), (1, "0.000001"), (2_000_000, "2.00"), (1_234_500, "1.2345"), (-1, "-0.000001")]
        {
            assert_eq!(Usd(micros).to_string(), shown);
        }
    }
}
