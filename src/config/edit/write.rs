//! Spells JSON values as YAML 1.2 that also a YAML 1.1 reader takes for the same.

use serde_json::Value;

/// On one line, fit for the inside of a flow collection.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(object) if object.is_empty() => "{}".to_owned(),
        Value::Object(object) => {
            let entries: Vec<_> =
                object.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// By indentation; the first line stands where the caller puts it, the others at `indent` spaces.
pub(super) fn block(value: &Value, indent: usize, newline: &str) -> String {
    let lines: Vec<String> = match value {
        Value::Array(items) if !items.is_empty() => items.iter().map(|item| format!("- {}", flow(item))).collect(),
        Value::Object(object) if !object.is_empty() => object
            .iter()
            .map(|(key, value)| match value {
                Value::Object(inner) if inner.values().any(|value| value.is_object()) => {
                    let inside = block(value, indent + 2, newline);
                    format!("{}:{newline}{}{inside}", scalar(key), " ".repeat(indent + 2))
                }
                other => format!("{}: {}", scalar(key), flow(other)),
            })
            .collect(),
        other => vec![flow(other)],
    };
    lines.join(&format!("{newline}{}", " ".repeat(indent)))
}

/// A plain scalar where no reader can take it for anything else than this text, else double-quoted.
pub(super) fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 12] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/' | b'.' | b' ' | b'+');
    starts_well && text.bytes().all(is_safe) && !text.ends_with(' ') && !WORDS.contains(&text.to_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Not printable in YAML, or a line break to some readers.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::yaml;
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_is_read_back_as_it_was_in_both_styles() {
        let texts = [
            "plain words",
            "no",
            "Yes",
            "012",
            "1.5",
            "12:30",
            "a: b",
            "a #b",
            "- a",
            "[a",
            "{a",
            "*a",
            "&a",
            "!a",
            "",
            " a",
            "a ",
            "two\nlines",
            "tab\t",
            "quote\" back\\slash",
            "ünï\u{2028}\u{85}\u{7f}\0\u{1F600}",
            "@at",
            "`tick`",
            "%x",
            "a,b",
            "y",
            "---",
            "~",
            "<<",
        ];
        let value = json!({
            "texts": texts, "numbers": [1, -2, 1.5, 1e30], "empty": {}, "none": [], "null": null, "bool": [true, false],
            "deep": { "no": { "a b": { "c": [{ "d": 1 }] } }, "flat": { "x": 1 } },
        });
        assert_eq!(yaml::parse(&flow(&value)).unwrap().value, value);
        assert_eq!(yaml::parse(&block(&value, 0, "\n")).unwrap().value, value);
        for text in texts {
            assert_eq!(yaml::parse(&format!("k: {}\n", scalar(text))).unwrap().value["k"], text);
        }
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        assert_eq!(
            flow(&json!({ "model": "openai/gpt-5.4-mini", "max": 3, "t": ["a__b", "git__*"] })),
            "{ model: openai/gpt-5.4-mini, max: 3, t: [a__b, \"git__*\"] }"
        );
    }
}
