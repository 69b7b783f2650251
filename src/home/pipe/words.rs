//! The pipe's own words: the lines that it says to the client itself. An `id` is JSON text, as the client spelled it.

use super::line::LONGEST_LINE;
use serde_json::Value;

/// JSON-RPC 2.0: internal error, and invalid request.
const INTERNAL_ERROR: i32 = -32603;
const INVALID_REQUEST: i32 = -32600;

/// To a request whose owner went away while it worked on it.
pub(super) fn interrupted(id: &str) -> String {
    error(
        id,
        INTERNAL_ERROR,
        "Station was restarted while it worked on this request, and whether it was carried out is unknown. Look before you repeat it.",
    )
}

/// To a request for which there is no owner any more.
pub(super) fn abandoned(id: &str) -> String {
    error(
        id,
        INTERNAL_ERROR,
        "Station went away and doesn't come back. Whether this request was carried out is unknown; look before you repeat it.",
    )
}

/// To a request that wasn't answered before its client had gone.
pub(super) fn closed(id: &str) -> String {
    error(id, INTERNAL_ERROR, "The client closed its end before this was answered. A run that it started goes on.")
}

/// To a request that is too long to pass on.
pub(super) fn request_too_long(id: &str) -> String {
    error(id, INVALID_REQUEST, &format!("the message is longer than {LONGEST_LINE} bytes"))
}

/// To a request whose answer is too long to pass on.
pub(super) fn answer_too_long(id: &str) -> String {
    let message = format!("the call was carried out, but its answer is longer than {LONGEST_LINE} bytes");
    error(id, INTERNAL_ERROR, &message)
}

/// Withdraws what an owner that is gone had asked of the client.
pub(super) fn withdrawal(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"Station was restarted"}}}}"#
    )
}

/// The tools of a new owner may be others.
pub(super) fn tools_changed() -> String {
    r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned()
}

fn error(id: &str, code: i32, message: &str) -> String {
    let message = Value::from(message);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#)
}
