//! `limits` of an agent, as it is given, and what has to be known for them to be kept.

use crate::config::LimitsPatch;
use crate::domain::{Budget, Limits, MOST_TOKENS, ModelChoice, Name, Principal, Usd, spelled};
use crate::error::{Error, Result};
use crate::tools::Station;
use crate::tools::input::given;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// What a run may use together with all that it calls. A call under way when a limit is reached is finished, and counts. Its providers have
/// to report usage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenLimits {
    /// Tokens that models are sent and send back, cached ones and those of reasoning among them.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 4_000_000_000_u32))]
    pub tokens: Option<Option<Value>>,
    /// US dollars, such as 0.50, by `models.prices` of station.yml.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<Usd>")]
    pub cost_usd: Option<Option<Value>>,
}

impl GivenLimits {
    /// As a change of the agent's file; the error names the key, and what it takes.
    pub(super) fn patch(&self) -> Result<LimitsPatch> {
        Ok(LimitsPatch {
            tokens: each(&self.tokens, "limits.tokens", "no number of tokens from 1 to 4000000000", |value| {
                value
                    .as_u64()
                    .and_then(|tokens| u32::try_from(tokens).ok())
                    .filter(|tokens| (1..=MOST_TOKENS).contains(tokens))
            })?,
            cost_usd: each(
                &self.cost_usd,
                "limits.cost_usd",
                "no amount of USD, such as 0.50 with at most six decimals",
                Usd::read,
            )?,
        })
    }
}

/// A value that is given, taken away or left; one that can't be read is refused.
fn each<T>(
    given: &Option<Option<Value>>,
    key: &str,
    wrong: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<Option<T>>> {
    let Some(Some(value)) = given else { return Ok(given.as_ref().map(|_| None)) };
    let found = || spelled(value).chars().take(40).collect::<String>().escape_debug().to_string();
    let refused = || Error::invalid_input(format!("`{key}`: `{}` is {wrong}", found())).field(key);
    read(value).map(|value| Some(Some(value))).ok_or_else(refused)
}

/// Refuses a model whose price nobody knows where what it costs is limited: by `own`, the limits of `agent`, or by those above it. `asking`
/// is who is told.
pub(super) async fn priced(
    station: &Station,
    asking: &Principal,
    (agent, own): (&Name, Limits),
    above: &[Budget],
    model: &ModelChoice,
) -> Result<()> {
    let above = above.iter().map(|budget| (&budget.agent, budget.limits));
    let Some((whose, _)) = above.chain([(agent, own)]).find(|(_, limits)| limits.cost_microusd.is_some()) else {
        return Ok(());
    };
    if station.models.has_price(model) {
        return Ok(());
    }
    let name = format!("{}/{}", model.provider, model.id);
    let message = format!("agent `{whose}` limits `cost_usd`, and the price of model `{name}` is not known");
    let error = Error::invalid_input(message)
        .field("model")
        .hint(format!("set `models.prices` of `{name}` in station.yml, or limit `tokens` instead"));
    Err(station.with_settings_note(error, asking).await)
}
