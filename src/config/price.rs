//! `models.prices` of `station.yml`: what models cost.

use super::fields::Fields;
use super::keys::{Form, Keys, Needs, key};
use super::model::split_model;
use super::problem::FileProblem;
use crate::domain::{Price, quoted};
use std::collections::BTreeMap;

/// The keys of one price.
pub(super) static KEYS: Keys = Keys::of(&[
    key("input", Form::Amount, "A million tokens that the model reads."),
    key("cached_input", Form::Amount, "A million tokens that it reads from its provider's cache; absent = as input."),
    key("output", Form::Amount, "A million tokens that it writes."),
])
.needing(Needs::All(&["input", "output"]));

/// The prices in `models`, by `provider/model`.
pub(super) fn prices(models: &Fields<'_>) -> Result<BTreeMap<String, Price>, FileProblem> {
    let Some(all) = models.map("prices")? else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for name in all.keys() {
        if split_model(name).is_none() {
            let message = format!("`models.prices`: {} names no provider and model", quoted(name));
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
    let amount = fields.usd(key, "USD per million tokens, such as 0.75")?;
    Ok(amount.map(|amount| amount.micros().unsigned_abs()))
}
