//! What goes into the next commit. Results wait here for a moment where the intent of the next call can go along.

use super::stop::Stop;
use crate::domain::AuditEntry;
use crate::error::{ErrorKind, Result};
use crate::store::{Grant, Intent, JournalBatch, Outcome, Store, Written};
use std::sync::Arc;

/// The journal of one execution.
#[derive(Debug)]
pub(super) struct Journal<'g> {
    store: Arc<dyn Store>,
    grant: &'g Grant,
    outcomes: Vec<Outcome>,
    outcome_audit: Vec<AuditEntry>,
    intents: Vec<Intent>,
    intent_audit: Vec<AuditEntry>,
    pinned_tools: Option<String>,
    turns: i64,
}

impl<'g> Journal<'g> {
    /// `turns`: the run's counter so far.
    pub(super) fn new(store: Arc<dyn Store>, grant: &'g Grant, turns: i64) -> Self {
        Self {
            store,
            grant,
            outcomes: Vec::new(),
            outcome_audit: Vec::new(),
            intents: Vec::new(),
            intent_audit: Vec::new(),
            pinned_tools: None,
            turns,
        }
    }

    pub(super) fn grant(&self) -> &'g Grant {
        self.grant
    }

    /// The tools that the run is pinned to, with the first commit.
    pub(super) fn pin(&mut self, tools: String) {
        self.pinned_tools = Some(tools);
    }

    pub(super) fn outcome(&mut self, outcome: Outcome, audit: Option<AuditEntry>) {
        self.outcomes.push(outcome);
        self.outcome_audit.extend(audit);
    }

    pub(super) fn intent(&mut self, intent: Intent, audit: Option<AuditEntry>) {
        self.turns = self.turns.max(intent.turn);
        self.intents.push(intent);
        self.intent_audit.extend(audit);
    }

    /// Commits what has come together. Only after this may a call leave whose intent is in it.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        if self.outcomes.is_empty() && self.intents.is_empty() {
            return Ok(());
        }
        let batch = JournalBatch {
            outcomes: self.outcomes.clone(),
            intents: std::mem::take(&mut self.intents),
            turns: self.turns,
            pinned_tools: self.pinned_tools.take(),
            audit: self.outcome_audit.iter().cloned().chain(std::mem::take(&mut self.intent_audit)).collect(),
        };
        match self.store.journal(self.grant, batch).await {
            Ok(Written::Done) => {
                self.forget_outcomes();
                Ok(())
            }
            Ok(Written::Stale) => Err(Stop::Stale),
            // The outcomes stay, to be reported again with the stop: the store keeps the first report of each.
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error.into()),
            Err(error) => {
                self.forget_outcomes();
                Err(error.into())
            }
        }
    }

    /// Commits what came back, when nothing is to leave any more.
    pub(super) async fn flush_outcomes(&mut self) -> Result<Written> {
        self.intents.clear();
        self.intent_audit.clear();
        if self.outcomes.is_empty() {
            return Ok(Written::Done);
        }
        let batch = JournalBatch {
            outcomes: self.outcomes.clone(),
            turns: self.turns,
            audit: self.outcome_audit.clone(),
            ..JournalBatch::default()
        };
        let written = self.store.journal(self.grant, batch).await?;
        self.forget_outcomes();
        Ok(written)
    }

    fn forget_outcomes(&mut self) {
        self.outcomes.clear();
        self.outcome_audit.clear();
    }
}
