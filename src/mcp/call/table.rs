//! The requests that are open on one multiplexed connection, from the wait for the writer to the answer.

use super::connection::{Exchange, Sent};
use super::error::{CallError, RpcError};
use super::message;
use super::progress::Progress;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

type Outcome = Result<Box<RawValue>, CallError>;

#[derive(Debug)]
struct Open {
    reply: oneshot::Sender<Outcome>,
    progress: Option<mpsc::Sender<Progress>>,
    cancellable: bool,
    sent: Sent,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Open>,
    /// The lines of open requests that the writer hasn't taken yet; the oldest has the lowest id.
    waiting: BTreeMap<u64, String>,
    /// Requests that the writer has taken and that nobody waits for any more, until the server is told. No more than it was sent.
    withdrawn: BTreeSet<u64>,
    ended: Option<String>,
}

/// Finds the caller of each answer and of each progress notification. Answers to unknown ids are late ones and are dropped.
#[derive(Debug, Default)]
pub(super) struct RequestTable {
    state: Mutex<State>,
    /// There may be a line to write.
    news: Notify,
}

impl State {
    fn close(&mut self, id: u64) -> Option<Open> {
        self.waiting.remove(&id);
        self.open.remove(&id)
    }

    /// The next line for the server: who withdraws a request goes before who makes one.
    fn take_line(&mut self) -> Option<String> {
        if let Some(id) = self.withdrawn.pop_first() {
            return Some(message::cancelled(id));
        }
        let (id, line) = self.waiting.pop_first()?;
        if let Some(open) = self.open.get(&id) {
            open.sent.set(true);
        }
        Some(line)
    }
}

impl RequestTable {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a request, whose line waits for the writer from then on.
    pub(super) fn open(&self, exchange: Exchange<'_>) -> Result<oneshot::Receiver<Outcome>, CallError> {
        let mut state = self.state();
        if let Some(reason) = &state.ended {
            return Err(CallError::Unreachable(reason.clone()));
        }
        let (reply, answer) = oneshot::channel();
        let Exchange { id, body, progress, cancellable, sent, .. } = exchange;
        state.open.insert(id, Open { reply, progress, cancellable, sent });
        state.waiting.insert(id, body);
        self.news.notify_one();
        Ok(answer)
    }

    /// What the one writer writes next. A line that is given out counts as sent.
    pub(super) async fn next_line(&self) -> String {
        loop {
            let line = self.state().take_line();
            match line {
                Some(line) => return line,
                None => self.news.notified().await,
            }
        }
    }

    pub(super) fn answer(&self, id: u64, outcome: Result<Box<RawValue>, RpcError>) {
        self.finish(id, outcome.map_err(CallError::Rpc));
    }

    pub(super) fn finish(&self, id: u64, outcome: Outcome) {
        let mut state = self.state();
        state.withdrawn.remove(&id);
        if let Some(open) = state.close(id) {
            let _caller_gone = open.reply.send(outcome);
        }
    }

    /// Hands progress to the caller that asked. A caller that doesn't keep up misses some, and nobody else waits for it.
    pub(super) fn progress(&self, params: &RawValue) {
        let Some((id, progress)) = Progress::read(params) else { return };
        if let Some(Open { progress: Some(listener), .. }) = self.state().open.get(&id) {
            let _slow_or_gone = listener.try_send(progress);
        }
    }

    /// Forgets request `id`, unless it had been answered. Where the server has it, the server is told.
    pub(super) fn withdraw(&self, id: u64) {
        let mut state = self.state();
        if state.close(id).is_some_and(|open| open.cancellable && open.sent.is_set()) {
            state.withdrawn.insert(id);
            self.news.notify_one();
        }
    }

    /// Fails everything open, and every later request, with `reason`.
    pub(super) fn end(&self, reason: &str) {
        let open = {
            let mut state = self.state();
            state.ended.get_or_insert_with(|| reason.to_owned());
            state.waiting.clear();
            std::mem::take(&mut state.open)
        };
        for request in open.into_values() {
            let why = if request.sent.is_set() { CallError::Closed } else { CallError::Unreachable };
            let _caller_gone = request.reply.send(Err(why(reason.to_owned())));
        }
    }
}
