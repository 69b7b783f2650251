//! What a connection tells its holder without being asked.

use std::sync::OnceLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Set by the transports, read through the connection.
#[derive(Debug)]
pub(super) struct Signals {
    tools_changed: watch::Sender<u64>,
    ended: CancellationToken,
    reason: OnceLock<String>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { tools_changed: watch::Sender::new(0), ended: CancellationToken::new(), reason: OnceLock::new() }
    }
}

impl Signals {
    /// Acts on a notification that belongs to no request.
    pub(super) fn notified(&self, method: &str) {
        if method == "notifications/tools/list_changed" {
            self.tools_may_have_changed();
        }
    }

    pub(super) fn tools_may_have_changed(&self) {
        self.tools_changed.send_modify(|count| *count += 1);
    }

    pub(super) fn tools_changed(&self) -> watch::Receiver<u64> {
        self.tools_changed.subscribe()
    }

    /// The connection is of no more use. The first reason stays.
    pub(super) fn end(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.ended.cancel();
    }

    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}
