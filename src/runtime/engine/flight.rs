//! A tool call under way.

use super::history::{CallState, CallStep};
use super::live::Live;
use crate::domain::ToolEffect;
use crate::error::Result;
use crate::tools::Progress;
use crate::tools::attached::Permitted;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// A call that may leave once its intent is committed.
pub(super) struct Flight {
    /// Among the calls of the turn.
    pub(super) at: usize,
    pub(super) seq: i64,
    pub(super) r#try: i64,
    pub(super) effect: ToolEffect,
    /// It is made again in this execution, after its outcome got lost.
    pub(super) retried: bool,
    pub(super) permitted: Permitted,
    pub(super) progress: mpsc::Receiver<Progress>,
}

/// A flight that is over.
pub(super) struct Landed {
    pub(super) flight: Flight,
    pub(super) result: Result<Box<RawValue>>,
}

impl Flight {
    /// The step as it stands while the call is under way.
    pub(super) fn step(&self) -> CallStep {
        CallStep { seq: self.seq, r#try: self.r#try, effect: self.effect, state: CallState::Started }
    }

    /// Makes the call and passes its progress on.
    pub(super) async fn fly(mut self, key: String, live: Live) -> Landed {
        let result = {
            let (permitted, progress) = (&self.permitted, &mut self.progress);
            let calling = permitted.run(Some(key));
            tokio::pin!(calling);
            loop {
                tokio::select! {
                    biased;
                    Some(update) = progress.recv() => live.progress(self.seq, &update),
                    result = &mut calling => break result,
                }
            }
        };
        Landed { flight: self, result }
    }
}
