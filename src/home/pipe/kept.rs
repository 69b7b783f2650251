//! What a client has said about its session as a whole. Every new owner has to be told it too.

use super::envelope::Envelope;
use std::collections::BTreeMap;

/// Lines of the client. A new owner is told them in this order.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) initialize: Option<String>,
    pub(super) initialized: Option<String>,
    log_level: Option<String>,
    /// By URI.
    subscriptions: BTreeMap<String, String>,
}

impl Kept {
    /// A request of the client. True when it is kept: sending it twice is sending it once.
    pub(super) fn request(&mut self, line: &str, envelope: &Envelope<'_>, method: &str) -> bool {
        let uri = || envelope.text_param("uri");
        match method {
            "initialize" => self.initialize = Some(line.to_owned()),
            "logging/setLevel" => self.log_level = Some(line.to_owned()),
            "resources/subscribe" => self.subscriptions.extend(uri().map(|uri| (uri, line.to_owned()))),
            "resources/unsubscribe" => {
                uri().map(|uri| self.subscriptions.remove(&uri));
                return false;
            }
            _ => return false,
        }
        true
    }

    /// What an owner has refused is not told to the next one.
    pub(super) fn forget(&mut self, line: &str) {
        for kept in [&mut self.initialize, &mut self.log_level] {
            if kept.as_deref() == Some(line) {
                *kept = None;
            }
        }
        self.subscriptions.retain(|_, kept| kept != line);
    }

    /// What comes after the handshake.
    pub(super) fn settings(&self) -> impl Iterator<Item = &String> {
        self.log_level.iter().chain(self.subscriptions.values())
    }
}
