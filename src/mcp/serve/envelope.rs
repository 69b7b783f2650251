//! What can still be said about bytes that aren't a JSON-RPC message.

use rmcp::model::{ErrorCode, RequestId};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;

/// The answer to bytes that could not be decoded as a message: -32700 when they aren't JSON, -32600 when they are. `None` when JSON-RPC
/// forbids an answer, because they look like a notification or like an answer themselves.
pub(super) fn refusal(bytes: &[u8]) -> Option<Value> {
    if serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
        return Some(error(None, ErrorCode::PARSE_ERROR, "Parse error: the message is not valid JSON"));
    }
    let head = Head::of(bytes);
    if head.reply || (head.method && !head.identified) {
        return None;
    }
    Some(error(head.id, ErrorCode::INVALID_REQUEST, "Invalid request: the message is not a JSON-RPC 2.0 request"))
}

/// The answer to a message that is longer than `limit`, of which only the beginning was kept. The id is named if it stood there.
pub(super) fn too_long(beginning: &[u8], limit: usize) -> Value {
    let message = format!("Invalid request: the message is longer than {limit} bytes");
    error(Head::of(beginning).id, ErrorCode::INVALID_REQUEST, &message)
}

/// An error that answers no request in particular.
pub(super) fn unidentified(message: &str) -> Value {
    error(None, ErrorCode::INVALID_REQUEST, message)
}

/// Whether the message may be an `initialize`, also where it names its method more than once.
pub(super) fn initializes(bytes: &[u8]) -> bool {
    Head::of(bytes).initializes
}

/// A JSON-RPC error as text. Written by hand, because JSON-RPC wants `id: null` where rmcp leaves the field out.
fn error(id: Option<RequestId>, code: ErrorCode, message: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id.map_or(Value::Null, RequestId::into_json_value),
        "error": { "code": code.0, "message": message },
    })
}

/// The members of a message that tell what it is meant to be. Read leniently: strings are skipped without being decoded, and what was read
/// before the text broke off is kept.
#[derive(Debug, Default, PartialEq)]
struct Head {
    id: Option<RequestId>,
    identified: bool,
    method: bool,
    initializes: bool,
    reply: bool,
}

impl Head {
    fn of(bytes: &[u8]) -> Self {
        let mut head = Self::default();
        let mut text = serde_json::Deserializer::from_slice(bytes);
        if let Err(error) = Reader(&mut head).deserialize(&mut text) {
            tracing::debug!(%error, "a message broke off");
        }
        head
    }
}

struct Reader<'a>(&'a mut Head);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => {
                    self.0.identified = true;
                    self.0.id = serde_json::from_value(map.next_value()?).ok();
                    continue;
                }
                "method" => {
                    self.0.method = true;
                    let method = map.next_value::<Box<RawValue>>()?;
                    self.0.initializes |=
                        serde_json::from_str(method.get()).is_ok_and(|method: String| method == "initialize");
                    continue;
                }
                "result" | "error" => self.0.reply = true,
                _ => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<(Value, i64)> {
        refusal(text.as_bytes()).map(|answer| (answer["id"].clone(), answer["error"]["code"].as_i64().unwrap()))
    }

    #[test]
    fn bytes_that_are_no_json_get_a_parse_error_without_an_id() {
        assert_eq!(refused("{\"id\":1,"), Some((Value::Null, -32700)));
        assert_eq!(refusal(b"\xff\xfe").unwrap()["error"]["code"], -32700);
    }

    #[test]
    fn json_that_is_no_request_gets_an_invalid_request_under_its_id() {
        assert_eq!(refused(r#"{"id":"a","method":"ping"}"#), Some((json!("a"), -32600)));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":7,"method":"x","params":"\ud800"}"#), Some((json!(7), -32600)));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#), Some((Value::Null, -32600)));
        assert_eq!(refused("[]"), Some((Value::Null, -32600)));
    }

    #[test]
    fn notifications_and_answers_are_not_answered() {
        assert_eq!(refused(r#"{"method":"notifications/initialized"}"#), None);
        assert_eq!(refused(r#"{"id":1,"result":{}}"#), None);
    }

    #[test]
    fn an_initialize_is_seen_however_it_is_spelled_and_nothing_else_is() {
        let seen = [
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
            r#"{"params":{"a":"\ud800"},"method":"\u0069nitialize"}"#,
            r#"{"method":"initialize","method":"ping"}"#,
        ];
        let other = ["", "[]", r#"{"method":"ping"}"#, r#"{"method":7,"params":{"method":"initialize"}}"#];
        assert!(seen.iter().all(|text| initializes(text.as_bytes())));
        assert!(!other.iter().any(|text| initializes(text.as_bytes())));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_under_the_id_in_its_beginning() {
        let beginning = br#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"a":"xxxx"#;
        assert_eq!(too_long(beginning, 10)["id"], 3);
        assert_eq!(too_long(b"xxxx", 10)["id"], Value::Null);
    }
}
