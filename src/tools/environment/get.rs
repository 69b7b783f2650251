//! `environment_get`: one environment.

use super::{EnvironmentView, view};
use crate::domain::Scope;
use crate::error::Result;
use crate::tools::{Call, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

/// The environment is the one that the call names, or the caller's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, EnvironmentView>("environment_get", Scope::EnvironmentsRead)
        .describe("Get an environment", "Shows one environment: its model, the state of its files, its live runs.")
        .rest(Method::Get, "/environments/{environment}")
        .cli("environment get", &["environment"])
}

pub async fn get(call: Call, _: Input) -> Result<EnvironmentView> {
    view(&call, call.environment()?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_field_is_the_environment() {
        let fields = spec().input_for(false);
        let names: Vec<String> = fields["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["environment"]);
    }
}
