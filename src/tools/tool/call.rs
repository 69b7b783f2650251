//! `tool_call`: calls a tool of an attached server, outside any run.

use crate::domain::{Effect, Scope};
use crate::error::{Error, Result};
use crate::tools::{Call, Method, ToolSpec, attached};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// `<server>__<tool>`.
    pub tool: String,
    /// What the tool takes; passed on as it is.
    pub arguments: Option<Map<String, Value>>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Map<String, Value>>("tool_call", Scope::ToolsCall)
        .describe(
            "Call an attached tool",
            "Calls a tool of an attached MCP server and returns its result (content, isError) as it came.",
        )
        .changes(Effect::Destructive, false)
        .open_world()
        .deadline(Duration::from_secs(3_600))
        .rest(Method::Post, "/tools/{tool}/call")
        .cli("tool call", &["tool", "arguments"])
}

pub async fn call(call: Call, input: Input) -> Result<Map<String, Value>> {
    let environment = call.environment()?;
    let arguments = Value::Object(input.arguments.unwrap_or_default());
    let result = attached::call(&call.station, call.ctx.clone(), environment, &input.tool, arguments).await?;
    match attached::read_result(&result) {
        Value::Object(result) => Ok(result),
        _ => Err(Error::unavailable(format!("`{}` answered with something that is no object", input.tool))),
    }
}
