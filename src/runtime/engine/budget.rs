//! What a run and those above it may still use, before a model call begins.

use super::Executor;
use super::stop::Stop;
use crate::domain::{Budget, RunErrorKind, Usage};

impl Executor<'_, '_> {
    /// Stops the run once a limit is reached, its own or that of a run whose call it is. What counts is what is committed: of calls that are
    /// under way at the same time, in other runs of the tree, nobody knows yet what they take.
    pub(super) async fn within_budget(&mut self) -> Result<(), Stop> {
        if !self.limited {
            return Ok(());
        }
        // The last answer may still wait for the next intent.
        self.journal.flush().await?;
        let attempt = self.attempt;
        let stop = |message| Stop::failed(RunErrorKind::Budget, message);
        for budget in attempt.environment.store.budgets(attempt.run.id).await? {
            if let Some(message) = budget.unknown().or_else(|| budget.used_up()) {
                return Err(stop(message));
            }
            // It was known when the run was submitted, by another station.yml.
            if budget.limits.cost_microusd.is_some() && !attempt.station.models.has_price(&attempt.run.model) {
                let (agent, model) = (&budget.agent, self.model_name());
                return Err(stop(format!(
                    "agent `{agent}` in run {} limits `cost_usd`, and the price of model `{model}` is not known any more; set \
                     `models.prices` of `{model}` in station.yml",
                    budget.run
                )));
            }
        }
        Ok(())
    }

    /// Stops a run that may use only so much where its model's answer came without usage: nobody could say any more what is left.
    pub(super) async fn counted(&mut self, usage: Option<Usage>) -> Result<(), Stop> {
        if !self.limited || usage.is_some() {
            return Ok(());
        }
        // What isn't committed isn't in the budgets.
        self.journal.flush().await?;
        known(&self.attempt.environment.store.budgets(self.attempt.run.id).await?)
    }
}

/// Stops a run of whose tree it isn't known what it has used.
pub(super) fn known(budgets: &[Budget]) -> Result<(), Stop> {
    let unknown = budgets.iter().find_map(Budget::unknown);
    unknown.map_or(Ok(()), |message| Err(Stop::failed(RunErrorKind::Budget, message)))
}
