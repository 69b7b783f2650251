//! What model calls cost.

use super::Usage;

/// A model's price, in millionths of a US dollar per million tokens: 0.75 USD is 750,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Of a token that was sent, wherever it isn't cheaper because the provider still had it.
    pub input: u64,
    /// Of a token that was sent and that the provider still had.
    pub cached_input: u64,
    /// Of a token that came back, those of reasoning among them.
    pub output: u64,
}

impl Price {
    /// The cost of one call in millionths of a US dollar: added up exactly, then rounded once, half a millionth upwards. What a run costs
    /// is the sum of these.
    pub fn cost_microusd(&self, usage: &Usage) -> i64 {
        let input = usage.input_tokens.max(0);
        let cached = usage.cached_input_tokens.clamp(0, input);
        let counted =
            [(input - cached, self.input), (cached, self.cached_input), (usage.output_tokens.max(0), self.output)];
        let exact: i128 = counted.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(*price)).sum();
        i64::try_from((exact + 500_000) / 1_000_000).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price { input: 750_000, cached_input: 75_000, output: 4_500_000 };

    fn cost(input_tokens: i64, cached_input_tokens: i64, output_tokens: i64) -> i64 {
        PRICE.cost_microusd(&Usage { input_tokens, cached_input_tokens, output_tokens, ..Usage::default() })
    }

    #[test]
    fn a_call_costs_what_its_tokens_cost_rounded_once() {
        assert_eq!(cost(1_000_000, 0, 0), 750_000);
        assert_eq!(cost(1_000_000, 1_000_000, 0), 75_000);
        assert_eq!(cost(1_000, 400, 200), 450 + 30 + 900);
        assert_eq!(cost(1, 1, 0), 0, "0.075 millionths");
        assert_eq!(cost(1, 0, 0), 1, "0.75 millionths");
        assert_eq!(cost(3, 1, 0), 2, "1.575 together, where each for itself would be 2 and 0");
        assert_eq!(cost(0, 0, 0), 0);
    }

    #[test]
    fn nonsense_from_a_provider_is_no_credit_and_no_overflow() {
        assert_eq!(cost(10, 50, 0), 1, "no more can be cached than was sent");
        assert_eq!(cost(-5, -5, -5), 0);
        assert_eq!(cost(i64::MAX, 0, i64::MAX), i64::MAX);
    }
}
