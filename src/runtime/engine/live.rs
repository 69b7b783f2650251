//! What followers are told while it happens and that nobody stores: text as it is written, progress of calls, waits for a model.

use super::shown::bounded;
use crate::clock::SharedClock;
use crate::domain::{Event, EventType, RunId, Timestamp};
use crate::events::Events;
use crate::llm::{FailedAttempt, TurnSink};
use crate::store::Grant;
use crate::tools::{Environment, Progress, Station};
use serde_json::{Value, json};

/// Text is told in pieces of at least this many milliseconds.
const PIECE_MS: i64 = 50;

/// Tells the followers of one run.
#[derive(Debug, Clone)]
pub(super) struct Live {
    events: Events,
    clock: SharedClock,
    run: RunId,
    epoch: i64,
}

impl Live {
    pub(super) fn new(station: &Station, environment: &Environment, grant: &Grant) -> Self {
        let events = station.events.behind(environment.redactor.clone());
        let clock = SharedClock::clone(&station.clock);
        Self { events, clock, run: grant.run_id, epoch: grant.epoch }
    }

    /// Progress of the call that is step `seq`.
    pub(super) fn progress(&self, seq: i64, progress: &Progress) {
        let Progress { progress, total, message } = progress;
        let data = json!({ "step": seq, "progress": progress, "total": total, "message": message });
        self.tell(EventType::StepProgress, data);
    }

    /// Only the store counts events, so a transient one carries 0: its place is wherever it arrives.
    fn tell(&self, r#type: EventType, data: Value) {
        self.events.publish(Event { run_id: self.run, epoch: self.epoch, seq: 0, r#type, at: self.clock.now(), data });
    }
}

/// Passes a model's text on, a few times a second.
#[derive(Debug)]
pub(super) struct Deltas {
    live: Live,
    step: i64,
    text: String,
    told_at: Option<Timestamp>,
}

impl Deltas {
    pub(super) fn new(live: Live, step: i64) -> Self {
        Self { live, step, text: String::new(), told_at: None }
    }

    /// Tells what is left.
    pub(super) fn finish(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.live.tell(EventType::ModelDelta, json!({ "step": self.step, "text": text }));
        }
    }
}

impl TurnSink for Deltas {
    fn text(&mut self, delta: &str) {
        self.text.push_str(delta);
        let now = self.live.clock.now();
        if self.told_at.is_none_or(|told_at| now.millis_since(told_at) >= PIECE_MS) {
            self.told_at = Some(now);
            self.finish();
        }
    }

    /// Progress of the step, counted in attempts; `wait_ms` tells it from that of a tool.
    fn failed(&mut self, failed: &FailedAttempt) {
        let FailedAttempt { error, attempt, most, wait } = failed;
        let (why, seconds) = (bounded(error.message.clone()), wait.as_secs_f64().ceil());
        let message = format!("asked again in {seconds} s (attempt {} of {most}): {why}", attempt + 1);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let data = json!({
            "step": self.step, "progress": f64::from(*attempt), "total": f64::from(*most), "message": message, "wait_ms": wait_ms
        });
        self.live.tell(EventType::StepProgress, data);
    }

    fn restarted(&mut self) {
        self.text.clear();
        self.live.tell(EventType::ModelDelta, json!({ "step": self.step, "restarted": true }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::EnvironmentNumber;
    use crate::events::Followed;
    use std::time::Duration;

    #[tokio::test]
    async fn text_is_told_in_pieces_and_nothing_is_left_out() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let run = RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 1);
        let events = Events::default();
        let mut follower = events.follow(run);
        let live = Live { events, clock: clock.clone(), run, epoch: 2 };
        let mut deltas = Deltas::new(live, 1);
        for piece in ["a", "b", "c"] {
            deltas.text(piece);
        }
        clock.advance(Duration::from_millis(50));
        deltas.text("d");
        deltas.text("e");
        deltas.finish();
        deltas.finish();
        for text in ["a", "bcd", "e"] {
            let Followed::Event(event) = follower.next().await else { panic!("nothing was told") };
            assert_eq!((event.r#type, event.epoch), (EventType::ModelDelta, 2));
            assert_eq!(event.data, json!({ "step": 1, "text": text }));
        }
    }
}
