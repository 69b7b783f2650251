//! `environment_list`: the environments that the principal may read, by name.

use super::{EnvironmentView, view};
use crate::domain::{Name, Scope};
use crate::error::Result;
use crate::tools::page::{self, Page};
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
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
    ToolSpec::new::<Input, Page<EnvironmentView>>("environment_list", Scope::EnvironmentsRead)
        .describe("List environments", "Lists the environments you may read, with their models and live runs.")
        .environment(EnvironmentUse::None)
        .exposure(Exposure::Default)
        .rest(Method::Get, "/environments")
        .cli("environment list", &[])
}

pub async fn list(call: Call, input: Input) -> Result<Page<EnvironmentView>> {
    let limit = page::limit(input.limit)?;
    let after: Option<Name> = page::position("environment_list", input.cursor.as_deref())?;
    let mut views = Vec::new();
    for environment in call.station.environments.all() {
        let passed = after.as_ref().is_some_and(|after| environment.name <= *after);
        if !passed && call.station.allows(&call.ctx.principal, Scope::EnvironmentsRead, &environment) {
            views.push(view(&call, &environment).await?);
        }
    }
    Ok(page::page("environment_list", views, limit, |view: &EnvironmentView| view.name.clone()))
}
