//! Numbers of tokens as providers report them.

use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// More than any answer takes, and so little that sums of it stay numbers.
const MOST: i64 = 1 << 40;

/// A reported number of tokens, between 0 and [`MOST`]: a negative one would be credit in a budget, and a huge one would overflow sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tokens(i64);

impl Tokens {
    pub(super) fn get(self) -> i64 {
        self.0
    }
}

/// What was reported, or 0.
pub(super) fn count(reported: Option<Tokens>) -> i64 {
    reported.unwrap_or_default().get()
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let whole = number.as_i64().or_else(|| number.as_u64().map(|_| MOST));
        // `12.0`, as some servers write it; casts of floating point numbers stop at the bounds.
        #[expect(clippy::cast_possible_truncation, reason = "clamped below")]
        let whole = whole.unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64);
        Ok(Self(whole.clamp(0, MOST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_between_nothing_and_more_than_any_answer_takes() {
        for (written, read) in [
            ("7", 7),
            ("12.0", 12),
            ("-1000000", 0),
            ("-1e300", 0),
            ("9223372036854775807", MOST),
            ("18446744073709551615", MOST),
            ("1e300", MOST),
        ] {
            assert_eq!(serde_json::from_str::<Tokens>(written).unwrap().get(), read, "{written}");
        }
        assert!(serde_json::from_str::<Tokens>("\"7\"").is_err());
    }
}
