//! `limits` of an agent, as it is given, and what has to be known for them to be kept.

use crate::config::LimitsPatch;
use crate::domain::{Budget, Limits, ModelChoice, Name, Principal, Usd};
use crate::error::{Error, Result};
use crate::tools::Station;
use crate::tools::input::given;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a run may use together with all that it calls. A call under way when a limit is reached is finished, and counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenLimits {
    /// Tokens that models are sent and send back, cached ones and those of reasoning among them.
    #[serde(default, deserialize_with = "given")]
    #[schemars(range(min = 1))]
    pub tokens: Option<Option<u32>>,
    /// US dollars, such as 0.50, by `models.prices` of station.yml.
    #[serde(default, deserialize_with = "given")]
    pub cost_usd: Option<Option<Usd>>,
}

impl From<GivenLimits> for LimitsPatch {
    fn from(given: GivenLimits) -> Self {
        Self { tokens: given.tokens, cost_usd: given.cost_usd }
    }
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
