//! Progress notifications of one request: in order, never after its result, and never faster than the client reads.

use std::future::Future;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{Peer, RoleServer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Reports that may wait for a slow client before the reporter has to.
const QUEUE: usize = 32;

/// How far a call has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Grows with every report; one that doesn't is left out, as the protocol asks.
    pub progress: f64,
    /// What `progress` will have reached at the end, if that is known.
    pub total: Option<f64>,
    /// What is being done, for a person.
    pub message: Option<String>,
}

/// Where a call reports how far it has come. May outlive its request: later reports go nowhere.
#[derive(Debug, Clone)]
pub struct ProgressSink(mpsc::Sender<Progress>);

impl ProgressSink {
    /// Hands over one report. Waits while the client is slow; returns at once when the request has been answered.
    pub async fn report(&self, progress: Progress) {
        let _answered = self.0.send(progress).await;
    }
}

impl From<mpsc::Sender<Progress>> for ProgressSink {
    fn from(sender: mpsc::Sender<Progress>) -> Self {
        Self(sender)
    }
}

/// Carries the reports of one request to its client.
pub(super) struct Relay {
    reports: mpsc::Receiver<Progress>,
    peer: Peer<RoleServer>,
    token: ProgressToken,
    cancel: CancellationToken,
}

impl Relay {
    /// A relay to `peer` under the client's own `token`, silent once `cancel` has fired.
    pub(super) fn new(peer: Peer<RoleServer>, token: ProgressToken, cancel: CancellationToken) -> (ProgressSink, Self) {
        let (sender, reports) = mpsc::channel(QUEUE);
        (ProgressSink(sender), Self { reports, peer, token, cancel })
    }

    /// Runs `call` and sends its reports meanwhile. What was reported before the call ended is sent before this returns.
    pub(super) async fn during<F: Future>(self, call: F) -> F::Output {
        let ended = CancellationToken::new();
        let call = async {
            let output = call.await;
            ended.cancel();
            output
        };
        let (output, ()) = tokio::join!(call, self.send_until(&ended));
        output
    }

    async fn send_until(mut self, ended: &CancellationToken) {
        let mut latest = f64::NEG_INFINITY;
        loop {
            let report = tokio::select! {
                biased;
                () = ended.cancelled(), if !self.reports.is_closed() => {
                    self.reports.close();
                    continue;
                }
                report = self.reports.recv() => report,
            };
            let Some(report) = report else { return };
            if report.progress > latest && !self.cancel.is_cancelled() {
                latest = report.progress;
                self.send(report).await;
            }
        }
    }

    async fn send(&self, report: Progress) {
        let mut params = ProgressNotificationParam::new(self.token.clone(), report.progress);
        params.total = report.total;
        params.message = report.message;
        // Each is awaited before the next is taken, which is what keeps them in order on the wire.
        if let Err(error) = self.peer.notify_progress(params).await {
            tracing::debug!(%error, "progress could not be sent");
        }
    }
}
