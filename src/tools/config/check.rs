//! `config_check`: everything that is wrong with the files as they are on disk, and nothing is taken up.

use crate::config::{self, ConfigReport};
use crate::domain::Scope;
use crate::error::{Error, Result};
use crate::tools::secret::names;
use crate::tools::{Call, EnvironmentUse, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, ConfigReport>("config_check", Scope::ConfigRead)
        .describe(
            "Check the configuration",
            "Reads station.yml and the files of the environments as they are on disk, and tells every error and warning with file, line, key and the fix. Nothing is taken up or changed.",
        )
        .environment(EnvironmentUse::Optional)
        .rest(Method::Get, "/config/check")
        .cli("config check", &[])
}

pub async fn check(call: Call, _: Input) -> Result<ConfigReport> {
    let only = call.environment().ok().cloned();
    // Not while a tool of this station writes a file.
    let environments = only.clone().map_or_else(|| call.station.environments.all(), |only| vec![only]);
    let mut still = Vec::new();
    for environment in &environments {
        still.push(environment.files.lock().await);
    }
    let (home, variables) = (call.station.home.clone(), call.station.process_variables.clone());
    let only = only.map(|environment| environment.name.clone());
    let known: Vec<_> = call.station.environments.all().iter().map(|environment| environment.name.clone()).collect();
    let looking = tokio::task::spawn_blocking(move || config::check(&home, &variables, only.as_ref(), Some(&known)));
    let mut report =
        looking.await.map_err(|cause| Error::internal("reading the files was interrupted").source(cause))??;
    for environment in &environments {
        for (secret, name) in names::in_the_way(environment).await? {
            let place = &environment.name;
            // Who may look at the files may not be one who may know the value, and the answer is for all environments.
            let name = environment.redactor.string(name);
            report.warn(
                &format!("secret {secret} of environment {place}"),
                format!("its value, or a line of it, is part of {name}: what is called so is neither shown nor found by its name"),
                format!("set another value with `stn secret set {secret} -e {place}`, or choose another name"),
            );
        }
    }
    Ok(report)
}
