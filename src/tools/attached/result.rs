//! Reading what a tool answered. The call has been made by then, so whatever came is made readable rather than refused.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A tool's result as a value. JSON text can say more than a value can hold: half of a surrogate pair becomes U+FFFD (servers that cut text
/// by UTF-16 units send it), and a result with more levels or larger numbers than a value takes is kept as one text block.
pub fn read_result(raw: &RawValue) -> Value {
    let text = raw.get();
    let read = || serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_lone_surrogates(text)));
    read().unwrap_or_else(|_: serde_json::Error| as_text(text))
}

fn as_text(text: &str) -> Value {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "isError")]
        is_error: Option<bool>,
    }
    let is_error = serde_json::from_str::<Outer>(text).ok().and_then(|outer| outer.is_error).unwrap_or(false);
    json!({ "content": [{ "type": "text", "text": text }], "isError": is_error })
}

/// Replaces the escapes of unpaired surrogates in JSON text, which has no meaning in Unicode (RFC 8259, section 8.2).
fn without_lone_surrogates(json: &str) -> String {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let kept = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            _ => escape.chars().take(2).map(char::len_utf8).sum(),
        };
        mended.push_str(&escape[..kept]);
        rest = &escape[kept..];
    }
    mended.push_str(rest);
    mended
}

/// The UTF-16 unit of an escape such as `\ud83d`.
fn unit(escape: &str) -> Option<u16> {
    u16::from_str_radix(escape.get(..6)?.strip_prefix("\\u")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        read_result(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn half_of_a_surrogate_pair_becomes_a_replacement_character_and_nothing_else_changes() {
        let text = r#"{"content":[{"type":"text","text":"a\ud83d b\ude00\ud83d\ude00 \\ud83d \"\n"}],"isError":false}"#;
        assert_eq!(read(text)["content"][0]["text"], "a\u{fffd} b\u{fffd}😀 \\ud83d \"\n");
    }

    #[test]
    fn what_no_value_can_hold_is_kept_as_text_with_its_verdict() {
        let deep = format!(r#"{{"isError":true,"structuredContent":{}{}}}"#, "[".repeat(500), "]".repeat(500));
        for text in [deep.as_str(), r#"{"isError":true,"structuredContent":{"n":1e999}}"#] {
            let value = read(text);
            assert_eq!((&value["content"][0]["text"], &value["isError"]), (&json!(text), &json!(true)));
        }
    }
}
