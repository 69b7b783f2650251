//! `variable_list`: the variables of an environment, where each comes from, and who asks for it.

use super::{Variable, all};
use crate::domain::Scope;
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
    ToolSpec::new::<Input, Page<Variable>>("variable_list", Scope::VariablesRead)
        .describe(
            "List variables",
            "Lists the plain variables of an environment: those of variables.yml, those of the process that the environment lets in (without their values), and those that servers ask for and nothing defines.",
        )
        .rest(Method::Get, "/variables")
        .cli("variable list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<Variable>> {
    let environment = call.environment()?;
    let of = format!("variable_list {}", environment.name);
    let limit = page::limit(input.limit)?;
    let after: Option<String> = page::position(&of, input.cursor.as_deref())?;
    let _not_while_files_change = environment.files.lock().await;
    let variables = all(&call).await?.into_iter();
    let variables = variables.filter(|variable| after.as_ref().is_none_or(|after| variable.name > *after));
    Ok(page::page(&of, variables.collect(), limit, |variable: &Variable| variable.name.clone()))
}
