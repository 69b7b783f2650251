//! Durations as people write them: `30s`, `10m`, `1h30m`, or a whole number of seconds.

use crate::domain::quoted;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Milliseconds of a text such as `1h30m`, `500ms` or `45` (seconds). Zero, unknown units and overflows are refused.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let problem = |reason: &str| format!("{} is not a duration: {reason}; write 30s, 10m or 1h30m", quoted(text));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(problem("it is empty"));
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| problem("a number is missing or too large"))?;
        let after = &rest[digits..];
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &after[..letters] {
            "" if total == 0 && after.is_empty() => 1_000,
            unit => UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, ms)| *ms)
                .ok_or_else(|| problem("its unit is none of d, h, m, s, ms"))?,
        };
        total =
            number.checked_mul(unit).and_then(|ms| total.checked_add(ms)).ok_or_else(|| problem("it is too long"))?;
        rest = &after[letters..];
    }
    if total == 0 { Err(problem("it is zero")) } else { Ok(total) }
}

/// The shortest text that [`parse_duration`] reads as so many milliseconds: `90s`, `10m`.
pub fn duration_text(ms: u64) -> String {
    let whole = UNITS.iter().rev().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    match whole {
        Some((name, unit)) => format!("{}{name}", ms / unit),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [("30s", 30_000), ("10m", 600_000), ("1h30m", 5_400_000), ("500ms", 500), ("2d", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(ms));
        }
        assert_eq!(parse_duration("45"), Ok(45_000));
    }

    #[test]
    fn a_duration_is_written_as_it_can_be_read() {
        for text in ["30s", "90s", "10m", "1h", "36h", "2d", "1500ms"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "0", "0s", "m", "10 m", "5x", "1h30", "-5s", "99999999999999999999s", "9999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
