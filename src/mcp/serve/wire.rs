//! Between the seam's types and rmcp's.

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, MetaObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::{Fault, JsonObject, ToolListing, ToolOutcome};

/// Who we say we are, as `serverInfo`.
pub(super) fn server_info() -> Implementation {
    Implementation::new("station", env!("CARGO_PKG_VERSION")).with_title("Station")
}

/// Puts `serverInfo` where the versions without a handshake expect it: beside every result.
pub(super) fn sign(meta: &mut Option<MetaObject>) {
    let info = server_info();
    let info = json!({ "name": info.name, "title": info.title, "version": info.version });
    meta.get_or_insert_default().insert("io.modelcontextprotocol/serverInfo".into(), info);
}

impl From<ToolListing> for Tool {
    fn from(listing: ToolListing) -> Self {
        let annotations = ToolAnnotations::new()
            .read_only(listing.read_only)
            .destructive(listing.destructive)
            .idempotent(listing.idempotent)
            .open_world(listing.open_world);
        let tool = Self::new(listing.name, listing.description, object_schema(listing.input_schema))
            .with_title(listing.title)
            .with_annotations(annotations);
        match listing.output_schema {
            Some(schema) => tool.with_raw_output_schema(Arc::new(schema)),
            None => tool,
        }
    }
}

/// The protocol demands `type: object` at the root of an input schema, also for a tool without any input.
fn object_schema(mut schema: JsonObject) -> JsonObject {
    schema.entry("type").or_insert_with(|| Value::from("object"));
    schema
}

impl From<ToolOutcome> for CallToolResult {
    fn from(outcome: ToolOutcome) -> Self {
        let structured = outcome.structured.as_ref().map(Value::to_string);
        let spoken = (!outcome.text.is_empty()).then_some(outcome.text);
        let content = structured.into_iter().chain(spoken).map(ContentBlock::text).collect();
        let mut result = if outcome.is_error { Self::error(content) } else { Self::success(content) };
        result.structured_content = outcome.structured;
        result.meta = outcome.meta.map(MetaObject);
        result
    }
}

impl From<Fault> for ErrorData {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownTool(name) => Self::invalid_params(format!("Unknown tool: {name}"), None),
            Fault::InvalidParams(reason) => Self::invalid_params(reason, None),
            Fault::Internal(request) => Self::internal_error("Internal error", Some(json!({ "request_id": request }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> ToolListing {
        ToolListing {
            name: "echo".into(),
            title: "Echo".into(),
            description: "Says it again".into(),
            input_schema: JsonObject::new(),
            output_schema: None,
            read_only: true,
            destructive: false,
            idempotent: true,
            open_world: false,
        }
    }

    #[test]
    fn a_listing_keeps_its_annotations_and_has_an_object_schema() {
        let tool = serde_json::to_value(Tool::from(listing())).unwrap();
        assert_eq!(tool["inputSchema"], json!({ "type": "object" }));
        let expected =
            json!({ "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false });
        assert_eq!(tool["annotations"], expected);
    }

    #[test]
    fn structured_output_is_repeated_as_the_first_text_block() {
        let outcome = ToolOutcome {
            structured: Some(json!({ "b": 1, "a": 2 })),
            text: "use run_wait".into(),
            ..ToolOutcome::default()
        };
        let result = serde_json::to_value(CallToolResult::from(outcome)).unwrap();
        assert_eq!(result["content"][0]["text"], r#"{"b":1,"a":2}"#);
        assert_eq!(result["content"][1]["text"], "use run_wait");
        assert_eq!(result["structuredContent"], json!({ "b": 1, "a": 2 }));
        assert_eq!(result["isError"], false);
    }

    #[test]
    fn an_internal_fault_tells_its_request_and_nothing_else() {
        let error = ErrorData::from(Fault::Internal("r-1".into()));
        assert_eq!(error.code.0, -32603);
        assert_eq!(error.data, Some(json!({ "request_id": "r-1" })));
    }
}
