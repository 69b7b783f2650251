//! `stn status`: the station at a glance; with `-e`, what of it concerns that environment.

use super::failure::Failure;
use super::output::Output;
use super::render;
use super::target::Target;
use crate::error::{Error, Result};
use crate::tools::ToolSpec;
use serde_json::{Map, Value};

/// Shows the station, or the part that is the environment's.
pub(super) async fn run(target: &Target, output: Output, spec: &ToolSpec) -> Result<u8, Failure> {
    let mut status = target.call(spec.name, Map::new()).await?;
    if let Some(environment) = target.environment() {
        narrow(&mut status, environment)?;
    }
    render::show(output, spec.name, &status)?;
    Ok(0)
}

/// Leaves only what concerns `environment`, which has to be one that the station shows.
fn narrow(status: &mut Value, environment: &str) -> Result<()> {
    let known = names(status);
    if !known.iter().any(|name| name == environment) {
        return Err(Error::not_found(format!("environment `{environment}` doesn't exist"))
            .hint(format!("environments here: {}", known.join(", ")))
            .field("environment"));
    }
    for (list, field) in [("environments", "name"), ("mcp_servers", "environment")] {
        if let Some(Value::Array(items)) = status.get_mut(list) {
            items.retain(|item| item.get(field).is_some_and(|name| name == environment));
        }
    }
    Ok(())
}

fn names(status: &Value) -> Vec<String> {
    let environments = status.get("environments").and_then(Value::as_array);
    let name = |environment: &Value| environment.get("name")?.as_str().map(str::to_owned);
    environments.into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::json;

    #[test]
    fn an_environment_narrows_the_status_and_an_unknown_one_is_refused() {
        let status = json!({
            "version": "1",
            "environments": [{ "name": "development" }, { "name": "staging" }],
            "mcp_servers": [{ "name": "a", "environment": "development" }, { "name": "b", "environment": "staging" }],
        });
        let mut narrowed = status.clone();
        narrow(&mut narrowed, "staging").unwrap();
        let expected = json!({
            "version": "1",
            "environments": [{ "name": "staging" }],
            "mcp_servers": [{ "name": "b", "environment": "staging" }],
        });
        assert_eq!(narrowed, expected);
        let error = narrow(&mut status.clone(), "nosuch").unwrap_err();
        assert_eq!((error.kind(), error.field_name()), (ErrorKind::NotFound, Some("environment")));
        assert_eq!(error.hint_text(), Some("environments here: development, staging"));
    }
}
