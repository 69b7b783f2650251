//! Hearing from a server without having asked: list changes.
//!
//! On stdio a legacy server just sends them. Over HTTP a legacy server wants an open GET stream, and a modern server of either transport
//! a standing `subscriptions/listen` request.

use super::connection::{Inner, Link, RequestOptions};
use super::era::{Agreement, Era};
use super::error::CallError;
use super::object::RawObject;
use crate::clock::ClockExt;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Listens until the connection ends or the server says that there is nothing to listen to.
pub(super) async fn follow(connection: Arc<Inner>) {
    let ended = connection.signals.ended().clone();
    tokio::select! {
        () = ended.cancelled() => {}
        () = listen(&connection) => {}
    }
}

async fn listen(connection: &Inner) {
    let (mut pause, mut agreements) = (FIRST_PAUSE, connection.agreements());
    loop {
        let Some(agreed) = agreements.borrow_and_update().clone() else { return };
        let began = connection.clock.now();
        let outcome = match (&connection.link, agreed.protocol.era) {
            (Link::Stdio(_), Era::Legacy) => return,
            (Link::Http(endpoint), Era::Legacy) => endpoint.listen(&agreed).await,
            (_, Era::Modern) => subscribe(connection, &agreed).await,
        };
        match outcome {
            // Whoever holds the connection asks for the list again then, and that request makes the new session. A renewal from here
            // would never end with a server that says 404 to every GET.
            Err(CallError::SessionLost { .. }) => {
                connection.signals.tools_may_have_changed();
                if agreements.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) if is_final(&error) => return,
            _ => {}
        }
        if connection.clock.now().since(began) > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        connection.clock.sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // What was said in between is lost.
        connection.signals.tools_may_have_changed();
    }
}

/// The server refuses, or has no stream to give. One that is in trouble may be well again later.
fn is_final(error: &CallError) -> bool {
    match error {
        CallError::Rpc(_) => true,
        CallError::Status { status, .. } => *status < 500 && !matches!(status, 408 | 429),
        _ => false,
    }
}

async fn subscribe(connection: &Inner, agreed: &Agreement) -> Result<(), CallError> {
    let params = RawObject::new().with("notifications", &json!({ "toolsListChanged": true }));
    let forever = RequestOptions::default();
    connection.ask(agreed, "subscriptions/listen", params, &forever).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_ends_the_listening() {
        let status = |status| CallError::Status { status, body: String::new() };
        // A 200 comes here only without a stream of events.
        for refusal in [200, 401, 404, 405] {
            assert!(is_final(&status(refusal)), "{refusal}");
        }
        for trouble in [status(408), status(429), status(502), status(503), CallError::Closed("cut".into())] {
            assert!(!is_final(&trouble), "{trouble}");
        }
    }
}
