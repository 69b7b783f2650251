//! Live run events, published after their commit. Bounded: a reader that lags is told, and reads the store again.

use crate::domain::{Event, RunId};
use crate::redact::Redactor;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Events that one slow reader may be behind before it is told that it lagged.
const CAPACITY: usize = 256;

/// Hands events to whoever follows a run at this moment, without the secrets that are known. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Events {
    redactor: Redactor,
    topics: Arc<Mutex<HashMap<RunId, broadcast::Sender<Event>>>>,
}

/// A follower's end. Dropping it is enough to leave.
#[derive(Debug)]
pub struct Follower {
    run: RunId,
    receiver: broadcast::Receiver<Event>,
    topics: Arc<Mutex<HashMap<RunId, broadcast::Sender<Event>>>>,
}

/// What a follower gets.
#[derive(Debug)]
pub enum Followed {
    Event(Event),
    /// Events were missed; those that are stored can be read from the store.
    Lagged,
}

impl Events {
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, topics: Arc::default() }
    }

    /// The same topics behind another redactor: that of the environment whose events are told.
    pub fn behind(&self, redactor: Redactor) -> Self {
        Self { redactor, topics: Arc::clone(&self.topics) }
    }

    /// Tells the followers of the run. Nobody following is no error.
    pub fn publish(&self, mut event: Event) {
        self.redactor.json_in_place(&mut event.data);
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(&event.run_id) {
            let _nobody = topic.send(event);
        }
    }

    /// Follows a run from now on. Subscribe first, then read the store: nothing falls between.
    pub fn follow(&self, run: RunId) -> Follower {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = topics.entry(run).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe();
        Follower { run, receiver, topics: Arc::clone(&self.topics) }
    }
}

impl Follower {
    /// The next event. Waits for as long as the follower lives.
    pub async fn next(&mut self) -> Followed {
        match self.receiver.recv().await {
            Ok(event) => Followed::Event(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Followed::Lagged,
            // The topic is only removed by its last follower, and that is this one.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.get(&self.run).is_some_and(|topic| topic.receiver_count() <= 1) {
            topics.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EnvironmentNumber, EventType, Timestamp};

    fn event(run_id: RunId, seq: i64) -> Event {
        let at = Timestamp::from_millis(0);
        Event { run_id, epoch: 1, seq, r#type: EventType::StepStarted, at, data: serde_json::Value::Null }
    }

    #[tokio::test]
    async fn a_follower_is_told_no_secret() {
        let redactor = Redactor::default();
        redactor.add("development", "KEY", &"swordfish".into());
        let events = Events::new(redactor);
        let run = RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 7);
        let mut follower = events.follow(run);
        events.publish(Event { data: serde_json::json!({ "message": "with swordfish" }), ..event(run, 1) });
        let Followed::Event(told) = follower.next().await else { panic!("nothing was told") };
        assert_eq!(told.data, serde_json::json!({ "message": "with [redacted:KEY]" }));
    }

    #[tokio::test]
    async fn a_follower_that_lags_is_told_and_a_left_topic_is_forgotten() {
        let run = RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 7);
        let events = Events::default();
        events.publish(event(run, 0));
        let mut follower = events.follow(run);
        for seq in 1..=300 {
            events.publish(event(run, seq));
        }
        assert!(matches!(follower.next().await, Followed::Lagged));
        assert!(matches!(follower.next().await, Followed::Event(event) if event.seq == 45));
        drop(follower);
        assert!(events.topics.lock().unwrap().is_empty());
    }
}
