//! What a run may use together with all that it calls.

use super::{Name, RunId, Usd, counted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits of a run and of the whole tree of runs below it. Checked before each model call: one that is under way when they are reached
/// is finished, and counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens that models are sent (those that a provider had cached among them) and send back (those of reasoning among them).
    pub tokens: Option<i64>,
    /// Millionths of a US dollar.
    pub cost_microusd: Option<i64>,
}

/// The most tokens that can be the limit of a run.
pub const MOST_TOKENS: u32 = 4_000_000_000;

/// Limits as an agent's file has them, and as they are shown and given through the doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenLimits {
    /// Tokens that models are sent (those that a provider had cached among them) and send back (those of reasoning among them).
    pub tokens: Option<i64>,
    /// US dollars, a decimal with at most six places.
    pub cost_usd: Option<Usd>,
}

impl From<Limits> for WrittenLimits {
    fn from(limits: Limits) -> Self {
        Self { tokens: limits.tokens, cost_usd: limits.cost_microusd.map(Usd::from_micros) }
    }
}

impl Limits {
    /// `None` where nothing is limited.
    pub fn if_any(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

/// The limits of one run, and what it has used with all below it, as far as that is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub run: RunId,
    /// The agent of that run.
    pub agent: Name,
    pub limits: Limits,
    /// As [`Limits::tokens`] counts.
    pub tokens: i64,
    /// Of the calls whose price was known.
    pub cost_microusd: i64,
    /// Provider and model (`provider/model`) of a call whose answer came without usage: what was used isn't known.
    pub uncounted: Option<String>,
}

impl Budget {
    /// Why nobody knows what was used, for people, with what can be done. `None` where every answer was counted.
    pub fn unknown(&self) -> Option<String> {
        let (model, Self { run, agent, .. }) = (self.uncounted.as_ref()?, self);
        let provider = model.split_once('/').map_or(model.as_str(), |(provider, _)| provider);
        let keys = match self.limits {
            Limits { tokens: Some(_), cost_microusd: Some(_) } => "`limits.tokens` and `limits.cost_usd`",
            Limits { tokens: Some(_), .. } => "`limits.tokens`",
            Limits { .. } => "`limits.cost_usd`",
        };
        Some(format!(
            "the budget can't be kept: provider `{provider}` answered for model `{model}` without saying what it used, and agent `{agent}` \
             in run {run} has {keys}; remove the limits from the agent's file, or use a server that reports usage"
        ))
    }

    /// Why no model call may begin any more, for people, with what can be done. `None` while one may.
    pub fn used_up(&self) -> Option<String> {
        let Self { run, agent, limits, tokens, cost_microusd, uncounted: _ } = self;
        let told = |key: &str, limit: String, used: String| {
            format!(
                "the budget is used up: agent `{agent}` in run {run} may use {limit} with all that it calls (`limits.{key}`), and {used} \
                 are used; raise `limits.{key}` in the agent's file and run it again"
            )
        };
        let over = |limit: Option<i64>, used: i64| limit.filter(|limit| used >= *limit);
        let of_tokens =
            over(limits.tokens, *tokens).map(|limit| told("tokens", counted(limit, "token"), tokens.to_string()));
        of_tokens.or_else(|| {
            let usd = |micros| format!("{} USD", Usd::from_micros(micros));
            over(limits.cost_microusd, *cost_microusd).map(|limit| told("cost_usd", usd(limit), usd(*cost_microusd)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EnvironmentNumber, Timestamp};

    fn budget(limits: (Option<i64>, Option<i64>), tokens: i64, cost_microusd: i64) -> Budget {
        Budget {
            run: RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 1),
            agent: Name::new("boss").unwrap(),
            limits: Limits { tokens: limits.0, cost_microusd: limits.1 },
            tokens,
            cost_microusd,
            uncounted: None,
        }
    }

    #[test]
    fn a_budget_that_nobody_counted_against_names_provider_model_and_keys() {
        let one = |limits| Budget { uncounted: Some("local/org/m".into()), ..budget(limits, 0, 0) };
        assert_eq!(budget((Some(1), None), 0, 0).unknown(), None);
        let told = one((Some(10), None)).unknown().unwrap();
        for part in ["provider `local`", "`local/org/m`", "`boss`", "has `limits.tokens`;", "remove", "reports usage"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(one((None, Some(5))).unknown().unwrap().contains("has `limits.cost_usd`;"));
        assert!(one((Some(1), Some(5))).unknown().unwrap().contains("`limits.tokens` and `limits.cost_usd`"));
    }

    #[test]
    fn a_budget_is_used_up_when_its_limit_is_reached_and_says_whose_it_is() {
        assert_eq!(budget((None, None), i64::MAX, i64::MAX).used_up(), None);
        assert_eq!(budget((Some(10), Some(5)), 9, 4).used_up(), None);
        let tokens = budget((Some(10), Some(5)), 10, 5);
        let told = tokens.used_up().unwrap();
        for part in ["`boss`", &tokens.run.to_string(), "10 tokens", "`limits.tokens`", "raise"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = budget((None, Some(500_000)), 99, 512_000).used_up().unwrap();
        assert!(
            told.contains("0.50 USD") && told.contains("0.512 USD") && told.contains("`limits.cost_usd`"),
            "{told}"
        );
    }
}
