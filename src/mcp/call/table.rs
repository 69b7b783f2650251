//! The requests that are open on one multiplexed connection.

use super::error::{CallError, RpcError};
use super::progress::Progress;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

type Outcome = Result<Box<RawValue>, CallError>;

#[derive(Debug)]
struct Open {
    reply: oneshot::Sender<Outcome>,
    progress: Option<mpsc::Sender<Progress>>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Open>,
    ended: Option<String>,
}

/// Finds the caller of each answer and of each progress notification. Answers to unknown ids are late ones and are dropped.
#[derive(Debug, Default)]
pub(super) struct RequestTable {
    state: Mutex<State>,
}

impl RequestTable {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers request `id` before its bytes leave.
    pub(super) fn open(
        &self,
        id: u64,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<oneshot::Receiver<Outcome>, CallError> {
        let mut state = self.state();
        if let Some(reason) = &state.ended {
            return Err(CallError::Unreachable(reason.clone()));
        }
        let (reply, answer) = oneshot::channel();
        state.open.insert(id, Open { reply, progress });
        Ok(answer)
    }

    pub(super) fn answer(&self, id: u64, outcome: Result<Box<RawValue>, RpcError>) {
        self.finish(id, outcome.map_err(CallError::Rpc));
    }

    pub(super) fn finish(&self, id: u64, outcome: Outcome) {
        if let Some(open) = self.state().open.remove(&id) {
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

    /// Forgets request `id`; false when it had been answered.
    pub(super) fn forget(&self, id: u64) -> bool {
        self.state().open.remove(&id).is_some()
    }

    /// Fails everything open, and every later request, with `reason`.
    pub(super) fn end(&self, reason: &str) {
        let open = {
            let mut state = self.state();
            state.ended.get_or_insert_with(|| reason.to_owned());
            std::mem::take(&mut state.open)
        };
        for request in open.into_values() {
            let _caller_gone = request.reply.send(Err(CallError::Closed(reason.to_owned())));
        }
    }
}
