//! Hearing from a server without having asked: list changes.
//!
//! On stdio a legacy server just sends them. Over HTTP a legacy server wants an open GET stream, and a modern server of either transport
//! a standing `subscriptions/listen` request.

use super::connection::{Inner, Link, RequestOptions};
use super::era::{Era, Protocol};
use super::error::CallError;
use super::object::RawObject;
use crate::clock::ClockExt;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Listens until the connection ends or the server says that there is nothing to listen to.
pub(super) async fn follow(connection: Arc<Inner>, protocol: Protocol) {
    let ended = connection.signals.ended().clone();
    tokio::select! {
        () = ended.cancelled() => {}
        () = listen(&connection, &protocol) => {}
    }
}

async fn listen(connection: &Inner, protocol: &Protocol) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = connection.clock.now();
        let outcome = match (&connection.link, protocol.era) {
            (Link::Stdio(_), Era::Legacy) => return,
            (Link::Http(endpoint), Era::Legacy) => endpoint.listen(protocol).await,
            (_, Era::Modern) => subscribe(connection, protocol).await,
        };
        if let Err(CallError::Rpc(_) | CallError::Status { .. }) = outcome {
            return;
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

async fn subscribe(connection: &Inner, protocol: &Protocol) -> Result<(), CallError> {
    let params = RawObject::new().with("notifications", &json!({ "toolsListChanged": true }));
    let forever = RequestOptions::default();
    connection.ask(Some(protocol), "subscriptions/listen", params, &forever).await.map(drop)
}
