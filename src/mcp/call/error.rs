//! How a call to a server fails.

use crate::error::Error;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// A JSON-RPC error, as the server sent it.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    pub code: i64,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

impl RpcError {
    /// Reads an error object; one without the required members keeps its text as the message.
    pub(super) fn parse(error: &RawValue) -> Self {
        serde_json::from_str(error.get()).unwrap_or_else(|_| Self {
            code: -32603,
            message: error.get().chars().take(500).collect(),
            data: None,
        })
    }
}

/// Why a request got no result. Whether the server may have acted on it, [`CallError::into_error`] says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("{0}")]
    Rpc(RpcError),
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("the call was cancelled")]
    Cancelled,
    /// The connection ended while the request was open.
    #[error("{0}")]
    Closed(String),
    /// Nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// It was given up before it was sent.
    #[error("{0}")]
    NotSent(Box<CallError>),
    /// An HTTP status that isn't a success, with the beginning of its body.
    #[error("HTTP status {status}{}{body}", if .body.is_empty() { "" } else { ": " })]
    Status { status: u16, body: String },
    /// The HTTP session that the request named is gone.
    #[error("the server ended the session")]
    SessionLost { session: String },
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("not an MCP answer: {0}")]
    Malformed(String),
}

impl CallError {
    /// The failure as the callers of Station see it. `server` and `what` name what was called. Its details hold the server's own error under
    /// `rpc`, or `acted: false` where the server can't have begun what it was asked for.
    pub fn into_error(self, server: &str, what: &str) -> Error {
        let message = format!("server `{server}`, `{what}`: {self}");
        let refused = self.is_refused();
        let error = match self {
            Self::Rpc(error) => rpc(&error, message),
            Self::TimedOut(_) => Error::timeout(message).hint("give the server a longer `timeout`"),
            Self::Cancelled => Error::cancelled(message),
            Self::Status { status: 401 | 403, .. } => {
                Error::unavailable(message).hint("check the server's `headers`: it refuses the credential")
            }
            Self::Status { status: 404 | 405, .. } => Error::unavailable(message).hint(
                "check the `url`: it must be a streamable HTTP endpoint; the HTTP+SSE transport of 2024 isn't spoken",
            ),
            Self::Status { status: 429, .. } => Error::rate_limited(message),
            Self::TooLarge { .. } => Error::payload_too_large(message),
            Self::NotSent(error) => error.into_error(server, what),
            Self::Closed(_)
            | Self::Unreachable(_)
            | Self::SessionLost { .. }
            | Self::Status { .. }
            | Self::Malformed(_) => Error::unavailable(message),
        };
        if refused { error.details(serde_json::json!({ "acted": false })) } else { error }
    }

    /// Nothing was sent, or it was turned away at the door.
    fn is_refused(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NotSent(_) | Self::SessionLost { .. } => true,
            Self::Status { status, .. } => (400..500).contains(status) && *status != 408,
            _ => false,
        }
    }
}

/// A server's own error keeps its code, message and data under `details.rpc`.
fn rpc(error: &RpcError, message: String) -> Error {
    let told = match error.code {
        -32602 => Error::invalid_input(message),
        -32601 | -32002 => Error::not_found(message),
        _ => Error::unavailable(message),
    };
    let data = error.data.as_ref().and_then(|data| serde_json::from_str::<serde_json::Value>(data.get()).ok());
    told.details(serde_json::json!({ "rpc": { "code": error.code, "message": error.message, "data": data } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_servers_error_keeps_its_code_message_and_data() {
        let error: RpcError = serde_json::from_str(r#"{"code":-32042,"message":"m","data":{"a":1}}"#).unwrap();
        let told = CallError::Rpc(error).into_error("files", "read");
        assert_eq!(told.kind(), ErrorKind::Unavailable);
        let details = told.report().details.unwrap();
        assert_eq!(details["rpc"], serde_json::json!({ "code": -32042, "message": "m", "data": { "a": 1 } }));
    }

    #[test]
    fn a_call_that_the_server_never_began_says_so() {
        let status = |status| CallError::Status { status, body: String::new() };
        for (error, refused) in [
            (CallError::Unreachable("no route".into()), true),
            (CallError::NotSent(Box::new(CallError::Cancelled)), true),
            (CallError::Cancelled, false),
            (status(401), true),
            (status(408), false),
            (status(502), false),
            (CallError::Closed("gone".into()), false),
        ] {
            let details = error.into_error("files", "write").report().details;
            assert_eq!(details == Some(serde_json::json!({ "acted": false })), refused, "{details:?}");
        }
    }
}
