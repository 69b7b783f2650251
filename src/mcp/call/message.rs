//! The JSON-RPC 2.0 envelope, read and written without looking into params or results.

use super::error::RpcError;
use super::object::{RawObject, raw};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A message from a server.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The answer to our request `id`; `None` is an error that no request can be found for.
    Answer {
        id: Option<u64>,
        outcome: Result<Box<RawValue>, RpcError>,
    },
    /// A request of the server's own, to be answered under the same raw id.
    Request {
        id: Box<RawValue>,
        method: String,
    },
    Notification {
        method: String,
        params: Option<Box<RawValue>>,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Keeps `null` apart from absent: a result may be null.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one message, or the batch that a server of 2025-03-26 may send.
pub(super) fn parse(text: &str) -> serde_json::Result<Vec<Incoming>> {
    if text.trim_start().starts_with('[') {
        let batch: Vec<&RawValue> = serde_json::from_str(text)?;
        return batch.into_iter().map(|message| read(message.get())).collect();
    }
    Ok(vec![read(text)?])
}

fn read(text: &str) -> serde_json::Result<Incoming> {
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    let id = envelope.id.filter(|id| id.get() != "null");
    if let Some(method) = envelope.method {
        let method = method.into_owned();
        return Ok(match id {
            Some(id) => Incoming::Request { id: id.to_owned(), method },
            None => Incoming::Notification { method, params: envelope.params.map(ToOwned::to_owned) },
        });
    }
    let outcome = match (envelope.error, envelope.result) {
        (Some(error), _) => Err(RpcError::parse(error)),
        (None, Some(result)) => Ok(result.to_owned()),
        (None, None) => return Err(serde::de::Error::custom("neither a method, nor a result, nor an error")),
    };
    Ok(Incoming::Answer { id: id.and_then(|id| id.get().parse().ok()), outcome })
}

/// A request of ours, on one line.
pub(super) fn request(id: u64, method: &str, params: &RawObject) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{}}}"#, params.to_line())
}

/// A notification of ours, on one line.
pub(super) fn notification(method: &str, params: &RawObject) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{}}}"#, params.to_line())
}

/// The notification that withdraws the request `id`.
pub(super) fn cancelled(id: u64) -> String {
    let params = RawObject::new().with("requestId", &id.into()).with("reason", &"the caller is gone".into());
    notification("notifications/cancelled", &params)
}

/// The answer to a server's own request: `ping` is answered, everything else isn't offered by this client.
pub(super) fn answer(id: &RawValue, method: &str) -> String {
    if method == "ping" {
        return format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id.get());
    }
    let error =
        raw(&serde_json::json!({ "code": -32601, "message": format!("`{method}` is not offered by this client") }));
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, id.get(), error.get())
}

/// Finds the id of an answer of which only the beginning and the end are known, because it was too long to be kept.
pub(super) fn guess_id(head: &str, tail: &str) -> Option<u64> {
    let before_payload =
        head.split("\"result\"").next().and_then(|start| start.split("\"error\"").next()).unwrap_or("");
    number_after_id(before_payload.find("\"id\"").map(|at| &before_payload[at + 4..]))
        .or_else(|| number_after_id(tail.rfind("\"id\"").map(|at| &tail[at + 4..])))
}

fn number_after_id(rest: Option<&str>) -> Option<u64> {
    let rest = rest?.trim_start().strip_prefix(':')?.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Incoming {
        let mut messages = parse(text).unwrap();
        assert_eq!(messages.len(), 1);
        messages.remove(0)
    }

    #[test]
    fn a_result_keeps_its_bytes() {
        let result = r#"{"n":1.0,"big":18446744073709551616,"s":"\ud800 \u0000","vendor":{"b":1,"a":2}}"#;
        let Incoming::Answer { id: Some(7), outcome: Ok(read) } =
            one(&format!(r#"{{"result":{result},"x":1,"id":7,"jsonrpc":"2.0"}}"#))
        else {
            panic!("not an answer")
        };
        assert_eq!(read.get(), result);
        assert!(matches!(one(r#"{"id":1,"result":null}"#), Incoming::Answer { id: Some(1), outcome: Ok(_) }));
    }

    #[test]
    fn requests_notifications_errors_and_batches_are_told_apart() {
        assert!(matches!(one(r#"{"id":"a","method":"ping"}"#), Incoming::Request { .. }));
        assert!(matches!(one(r#"{"method":"x","params":{}}"#), Incoming::Notification { params: Some(_), .. }));
        let Incoming::Answer { id: None, outcome: Err(error) } =
            one(r#"{"id":null,"error":{"code":-32700,"message":"m","data":[1.0]}}"#)
        else {
            panic!("not an error")
        };
        assert_eq!((error.code, error.data.unwrap().get()), (-32700, "[1.0]"));
        assert_eq!(parse(r#"[{"method":"x"},{"id":1,"result":{}}]"#).unwrap().len(), 2);
        assert!(parse("{}").is_err() && parse("hello").is_err());
    }

    #[test]
    fn the_id_of_a_cut_answer_is_found_at_either_end() {
        assert_eq!(guess_id(r#"{"jsonrpc":"2.0","id": 12,"result":{"id":3"#, r#""id":9}]}}"#), Some(12));
        assert_eq!(guess_id(r#"{"result":{"id":3"#, r#"xx"}]},"jsonrpc":"2.0","id":41}"#), Some(41));
        assert_eq!(guess_id(r#"{"result":["#, r#"]}"#), None);
    }

    #[test]
    fn a_server_that_asks_gets_an_answer() {
        let id = raw(&serde_json::json!("q-1"));
        assert_eq!(answer(&id, "ping"), r#"{"jsonrpc":"2.0","id":"q-1","result":{}}"#);
        assert!(answer(&id, "roots/list").contains("-32601"));
    }
}
