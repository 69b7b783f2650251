//! What a model is shown of a tool's result. The result itself is kept whole in the journal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest text of an error.
const ERROR_BYTES: usize = 4096;

/// The content of a tool result, as it goes into the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    pub(super) content: String,
    pub(super) is_error: bool,
}

impl Shown {
    /// What went wrong instead of a result.
    pub(super) fn error(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: true }
    }

    /// An MCP `CallToolResult` as text: its text blocks, a line for whatever else is in it, or its structured content where no block is.
    pub(super) fn result(result: &Value) -> Self {
        let is_error = result.get("isError").and_then(Value::as_bool).unwrap_or(false);
        let blocks = result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = blocks.iter().map(block).collect::<Vec<_>>().join("\n");
        let content = match result.get("structuredContent") {
            Some(structured) if text.trim().is_empty() => structured.to_string(),
            _ if text.is_empty() => "(the tool returned nothing)".to_owned(),
            _ => text,
        };
        Self { content, is_error }
    }
}

fn block(block: &Value) -> String {
    let text = |field: &str| block.get(field).and_then(Value::as_str);
    match text("type") {
        Some("text") => text("text").unwrap_or_default().to_owned(),
        Some(kind @ ("image" | "audio")) => {
            let encoded = text("data").unwrap_or_default().len();
            format!("[{kind}, {}, {encoded} characters of base64]", text("mimeType").unwrap_or("unknown type"))
        }
        Some("resource") => resource(block.get("resource").unwrap_or(&Value::Null)),
        Some("resource_link") => format!("[resource {}]", text("uri").unwrap_or_default()),
        _ => block.to_string(),
    }
}

fn resource(resource: &Value) -> String {
    let text = |field: &str| resource.get(field).and_then(Value::as_str);
    text("text").map_or_else(|| format!("[resource {}]", text("uri").unwrap_or_default()), str::to_owned)
}

/// The beginning and the end of `text`, with a word on what is missing, when it is longer than `limit` bytes. `None` when it fits.
pub(super) fn cut(text: &str, limit: usize) -> Option<String> {
    if text.len() <= limit {
        return None;
    }
    let (head, left_out, tail) = ends(text, limit);
    let total = text.len();
    Some(format!("{head}\n[{left_out} of {total} bytes are left out here; `run_steps` has the whole result]\n{tail}"))
}

/// An error's text, which is kept in rows and events: a server may put anything into it.
pub(super) fn bounded(text: String) -> String {
    if text.len() <= ERROR_BYTES {
        return text;
    }
    let (head, left_out, tail) = ends(&text, ERROR_BYTES);
    format!("{head} [{left_out} bytes] {tail}")
}

/// The beginning of `text`, how many bytes follow it that don't fit into `limit`, and its end.
fn ends(text: &str, limit: usize) -> (&str, usize, &str) {
    let head = text.floor_char_boundary(limit / 4 * 3);
    let tail = text.ceil_char_boundary(text.len() - limit / 4);
    (&text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_is_shown_as_text_whatever_is_in_it() {
        let result = json!({ "content": [
            { "type": "text", "text": "one" },
            { "type": "image", "mimeType": "image/png", "data": "AAAA" },
            { "type": "resource", "resource": { "uri": "file:///a", "text": "two" } },
            { "type": "resource_link", "uri": "file:///b", "name": "b" }
        ], "isError": true });
        let shown = Shown::result(&result);
        assert_eq!(shown.content, "one\n[image, image/png, 4 characters of base64]\ntwo\n[resource file:///b]");
        assert!(shown.is_error);
    }

    #[test]
    fn structured_content_is_shown_where_no_block_says_anything() {
        let shown = Shown::result(&json!({ "content": [], "structuredContent": { "b": 1, "a": 2 } }));
        assert_eq!(shown, Shown { content: r#"{"b":1,"a":2}"#.into(), is_error: false });
        assert_eq!(Shown::result(&json!({})).content, "(the tool returned nothing)");
    }

    #[test]
    fn a_cut_keeps_both_ends_counts_what_is_missing_and_never_splits_a_character() {
        let text = format!("{}{}", "a".repeat(100), "é".repeat(100));
        let shown = cut(&text, 41).unwrap();
        let expected = format!(
            "{}\n[260 of 300 bytes are left out here; `run_steps` has the whole result]\n{}",
            "a".repeat(30),
            "é".repeat(5)
        );
        assert_eq!(shown, expected);
        assert!(cut(&"é".repeat(50), 15).is_some());
        assert_eq!(cut(&text, 300), None);
    }

    #[test]
    fn the_text_of_an_error_is_bounded() {
        assert_eq!(bounded("short".into()), "short");
        let long = bounded(format!("begin {} end", "x".repeat(1_000_000)));
        assert!(long.len() < 4200 && long.starts_with("begin") && long.ends_with("end"), "{}", long.len());
    }
}
