//! `models.prices` of `station.yml`: what models cost.

use super::fields::Fields;
use super::keys::{Form, Keys, key};
use super::model::split_model;
use super::problem::FileProblem;
use crate::domain::Price;
use serde_json::Value;
use std::collections::BTreeMap;

/// The keys of one price.
pub(super) static KEYS: Keys = Keys::of(&[
    key("input", Form::Amount, "A million tokens that the model reads."),
    key("cached_input", Form::Amount, "A million tokens that it reads from its provider's cache; absent = as input."),
    key("output", Form::Amount, "A million tokens that it writes."),
]);

/// The prices in `models`, by `provider/model`.
pub(super) fn prices(models: &Fields<'_>) -> Result<BTreeMap<String, Price>, FileProblem> {
    let Some(all) = models.map("prices")? else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for name in all.keys() {
        if split_model(name).is_none() {
            let message = format!("`models.prices`: `{}` names no provider and model", name.escape_debug());
            return Err(all.key_problem(name, message).hint("write provider/model, such as openai/gpt-5.4-mini"));
        }
        if let Some(fields) = all.map(name)? {
            found.insert(name.to_owned(), price(&fields)?);
        }
    }
    Ok(found)
}

fn price(fields: &Fields<'_>) -> Result<Price, FileProblem> {
    fields.check(&KEYS)?;
    let required = |key: &str| {
        amount(fields, key)?.ok_or_else(|| fields.problem_here(format!("`{key}` is missing: USD per million tokens")))
    };
    let (input, output) = (required("input")?, required("output")?);
    Ok(Price { input, output, cached_input: amount(fields, "cached_input")?.unwrap_or(input) })
}

/// An amount of USD as millionths.
fn amount(fields: &Fields<'_>, key: &str) -> Result<Option<u64>, FileProblem> {
    let spelled = match fields.get(key) {
        None => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => other.to_string(),
    };
    let wrong = || {
        let reason = format!(
            "expected USD per million tokens, such as 0.75 with at most six decimals, found `{}`",
            spelled.escape_debug()
        );
        fields.problem(key, reason)
    };
    micros(&spelled).map(Some).ok_or_else(wrong)
}

/// `0.75` is 750000. Exact: no floating point.
fn micros(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 6 || whole.len() > 6 {
        return None;
    }
    let fraction: u64 = format!("{decimals:0<6}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(micros(text), expected, "{text}");
        }
    }
}
