//! What goes into the next commit. Results wait here for a moment where the intent of the next call can go along.

use super::stop::Stop;
use crate::error::{ErrorKind, Result};
use crate::store::{Grant, Intent, JournalBatch, Outcome, Store, Written};
use std::sync::Arc;

/// The journal of one execution.
#[derive(Debug)]
pub(super) struct Journal<'g> {
    store: Arc<dyn Store>,
    grant: &'g Grant,
    outcomes: Vec<Outcome>,
    intents: Vec<Intent>,
    pinned_tools: Option<String>,
    turns: i64,
}

impl<'g> Journal<'g> {
    /// `turns`: the run's counter so far.
    pub(super) fn new(store: Arc<dyn Store>, grant: &'g Grant, turns: i64) -> Self {
        Self { store, grant, outcomes: Vec::new(), intents: Vec::new(), pinned_tools: None, turns }
    }

    pub(super) fn grant(&self) -> &'g Grant {
        self.grant
    }

    /// The tools that the run is pinned to, with the first commit.
    pub(super) fn pin(&mut self, tools: String) {
        self.pinned_tools = Some(tools);
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    pub(super) fn intent(&mut self, intent: Intent) {
        self.intents.push(intent);
    }

    /// Commits what has come together. Only after this may a call leave whose intent is in it.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        if self.outcomes.is_empty() && self.intents.is_empty() {
            return Ok(());
        }
        let turns = self.intents.iter().map(|intent| intent.turn).fold(self.turns, i64::max);
        let batch = JournalBatch {
            outcomes: self.outcomes.clone(),
            intents: std::mem::take(&mut self.intents),
            turns,
            pinned_tools: self.pinned_tools.take(),
        };
        match self.store.journal(self.grant, batch).await {
            Ok(Written::Done) => {
                self.outcomes.clear();
                self.turns = turns;
                Ok(())
            }
            Ok(Written::Stale) => Err(Stop::Stale),
            // The outcomes stay, to be reported again with the stop: the store keeps the first report of each.
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error.into()),
            Err(error) => {
                self.outcomes.clear();
                Err(error.into())
            }
        }
    }

    /// Commits what came back, when nothing is to leave any more.
    pub(super) async fn flush_outcomes(&mut self) -> Result<Written> {
        self.intents.clear();
        if self.outcomes.is_empty() {
            return Ok(Written::Done);
        }
        let batch = JournalBatch { outcomes: self.outcomes.clone(), turns: self.turns, ..JournalBatch::default() };
        let written = self.store.journal(self.grant, batch).await?;
        self.outcomes.clear();
        Ok(written)
    }

    /// What came back can't be written: it is given up.
    pub(super) fn give_up_outcomes(&mut self) {
        self.outcomes.clear();
    }
}
