//! `request_list`: what the runs of an environment wait for somebody to answer, the oldest first.

use crate::domain::{Request, RunId, Scope, Timestamp};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Items on a page, 1 to 200; 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Page<Request>>("request_list", Scope::RunsRead)
        .describe(
            "List open requests",
            "Lists what runs ask people, the oldest first, each with the command that answers it.",
        )
        .rest(Method::Get, "/requests")
        .cli("request list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<Request>> {
    let environment = call.environment()?;
    let of = format!("request_list {}", environment.name);
    let limit = page::limit(input.limit)?;
    let after: Option<(i64, RunId, i64)> = page::position(&of, input.cursor.as_deref())?;
    let after = after.map(|(at, run, step)| (Timestamp::from_millis(at), run, step));
    let requests = environment.store.requests(after, limit + 1).await?;
    let position =
        |request: &Request| (request.opened_at.as_millis(), request.run_id, request.step.unwrap_or_default());
    Ok(page::page(&of, requests, limit, position))
}
