//! Environments: units of isolation, each with its own files, store and attached servers.

pub mod get;
pub mod list;
pub mod sync;

use super::context::{Call, Environment};
use crate::config::FileProblem;
use crate::domain::{EnvironmentKind, ModelChoice, Name};
use crate::error::Result;
use schemars::JsonSchema;
use serde::Serialize;

/// An environment, as every door shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EnvironmentView {
    pub name: Name,
    /// What it is for, which decides what a role is worth in it.
    pub kind: EnvironmentKind,
    /// The one that is meant where none is named.
    pub default: bool,
    /// What an agent that names no model gets now, run by this caller; null when there is nothing.
    pub model: Option<ModelChoice>,
    /// Why there is no model, and the fix.
    pub problem: Option<String>,
    /// The files' state of the last sync.
    pub config_revision: Option<String>,
    /// What the last sync, or the start, found wrong with the files.
    pub problems: Vec<FileProblem>,
    /// Runs that are queued or running, also those that wait for runs that they have called.
    pub live_runs: u64,
}

/// The environment as it is now, for the caller of `call`.
pub async fn view(call: &Call, environment: &Environment) -> Result<EnvironmentView> {
    let station = &call.station;
    let (model, problem) =
        match station.models.describe(&environment.name, call.ctx.provider_variables.as_deref()).await {
            Ok(model) => (Some(model), None),
            Err(error) => {
                let error = station.with_settings_note(error, &call.ctx.principal).await;
                (None, Some(format!("{error}: {}", error.hint_text().unwrap_or_default())))
            }
        };
    Ok(EnvironmentView {
        name: environment.name.clone(),
        kind: station.settings.kind(&environment.name),
        default: environment.name == station.default_environment,
        model,
        problem,
        config_revision: environment.store.config_revision().await?,
        problems: environment.problems.get(),
        live_runs: environment.store.runs_under_way().await?,
    })
}
