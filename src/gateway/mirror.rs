//! Arguments that a modern server wants to see in headers too (`x-mcp-header` in a tool's schema), so that proxies can route by them.

use serde_json::Value;

/// The headers `Mcp-Param-<name>` for `arguments` under `schema`: strings, integers and booleans that are reached through `properties` alone.
pub(super) fn headers(schema: &Value, arguments: &Value) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    collect(schema, arguments, &mut headers);
    headers
}

fn collect(schema: &Value, arguments: &Value, headers: &mut Vec<(String, String)>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, property) in properties {
        let Some(argument) = arguments.get(name) else { continue };
        let text = match argument {
            Value::String(text) => text.clone(),
            Value::Bool(_) => argument.to_string(),
            Value::Number(number) if !number.is_f64() => argument.to_string(),
            Value::Object(_) => {
                collect(property, argument, headers);
                continue;
            }
            _ => continue,
        };
        if let Some(header) = property["x-mcp-header"].as_str() {
            headers.push((format!("Mcp-Param-{header}"), text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn marked_arguments_are_mirrored() {
        let schema = json!({ "properties": {
            "region": { "x-mcp-header": "Region" },
            "plain": {},
            "deep": { "properties": { "on": { "x-mcp-header": "On" } } },
            "list": { "x-mcp-header": "List" },
        } });
        let arguments = json!({ "region": "eu", "plain": 1, "deep": { "on": true }, "list": [1] });
        let expected = [("Mcp-Param-Region".into(), "eu".into()), ("Mcp-Param-On".into(), "true".into())];
        assert_eq!(headers(&schema, &arguments), expected);
    }
}
