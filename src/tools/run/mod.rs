//! Runs: looking at them, waiting for them, ending them, answering them. Starting one is `agent_run`.

pub mod activity;
pub mod cancel;
pub mod events;
pub mod get;
pub mod list;
pub mod respond;
pub mod steps;
pub mod wait;

use super::context::{Call, Context, Environment, Station};
use super::dispatch::{Deed, deny};
use crate::domain::{Name, Place, Run, RunId, Scope};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The shortest prefix of an id that is looked up.
const MIN_PREFIX: usize = 4;

/// The environment that `run` belongs to: the id itself says it; a prefix is looked up where the principal may see runs. With `only`, no run
/// of another environment is meant. Whoever means one that it may not see is told that there is no such run, and leaves an audit row. Runs
/// are seen by who may read them, and by who may do to them what needs this scope.
pub(super) async fn environment_of(
    station: &Arc<Station>,
    ctx: &Context,
    (deed, scope): (&Deed, Scope),
    run: &str,
    only: Option<&Name>,
) -> Result<Arc<Environment>> {
    let by_id = RunId::parse(run).map(|id| station.environments.numbered(id.environment()));
    let there = only.and_then(|only| station.environments.named(only.as_str()).ok());
    let is_visible = |environment: &Environment| is_visible(ctx, scope, station.place(environment));
    let may_see =
        only.is_none_or(|only| self::is_visible(ctx, scope, Place { name: only, kind: station.settings.kind(only) }));
    let hidden = [by_id.clone().flatten(), there.clone()].into_iter().flatten().find(|one| !is_visible(one));
    // An id may be made up: one that leads nowhere counts like one that leads where the caller can't see.
    let leads_nowhere = || matches!(by_id, Some(None)) && !station.environments.all().iter().all(|one| is_visible(one));
    if hidden.is_some() || !may_see || leads_nowhere() {
        hide(station, ctx, deed, hidden.as_ref(), only.filter(|_| !may_see)).await?;
    }
    if let (Some(only), None, true) = (only, &there, may_see) {
        return station.environment_for(&ctx.principal, only.as_str());
    }
    let meant =
        |environment: &Arc<Environment>| is_visible(environment) && only.is_none_or(|only| *only == environment.name);
    let environment = match by_id {
        Some(found) => found.filter(meant),
        None => {
            let environments = station.environments.all().into_iter().filter(meant).collect();
            by_prefix(environments, run).await?.map(|(environment, _)| environment)
        }
    };
    environment.ok_or_else(|| match only {
        Some(only) => not_found_in(run, only),
        None => not_found(run),
    })
}

/// Records that a run was asked for where its caller may not see any. The caller is told what is told of a run that isn't there, however
/// often it was denied something: being held back would say that there is more to it.
async fn hide(
    station: &Station,
    ctx: &Context,
    deed: &Deed,
    environment: Option<&Arc<Environment>>,
    named: Option<&Name>,
) -> Result<()> {
    let place = match (environment, named) {
        (Some(environment), _) => format!("in environment {}", environment.name),
        (None, Some(named)) => format!("in environment {named}"),
        (None, None) => "in an environment that isn't there".to_owned(),
    };
    let reason = format!("needs {} {place}", Scope::RunsRead.as_str());
    match deny(station, ctx, deed, environment, reason).await {
        Err(error) if error.kind() == ErrorKind::RateLimited => Ok(()),
        recorded => recorded,
    }
}

/// The run that `run`, an id or a unique prefix, names in the environment of the call.
pub async fn find(call: &Call, run: &str) -> Result<Run> {
    let environment = call.environment()?;
    let id = match RunId::parse(run) {
        Some(id) => id,
        None => by_prefix(vec![Arc::clone(environment)], run).await?.ok_or_else(|| not_found(run))?.1,
    };
    environment.store.run(id).await?.ok_or_else(|| not_found(run))
}

async fn by_prefix(environments: Vec<Arc<Environment>>, prefix: &str) -> Result<Option<(Arc<Environment>, RunId)>> {
    let prefix = prefix.to_ascii_lowercase();
    if prefix.len() < MIN_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        let message = format!("`{}` is not a run id", prefix.chars().take(80).collect::<String>().escape_debug());
        return Err(Error::invalid_input(message)
            .hint("give an id that `run_list` (`stn run list`) shows, or at least its first 4 characters")
            .field("run"));
    }
    let mut found = Vec::new();
    for environment in environments {
        let ids = environment.store.runs_by_prefix(&prefix, 3).await?;
        found.extend(ids.into_iter().map(|id| (Arc::clone(&environment), id)));
    }
    if found.len() > 1 {
        let ids: Vec<String> = found.iter().map(|(_, id)| id.to_string()).collect();
        let message = format!("`{prefix}` is the beginning of several run ids");
        return Err(Error::conflict(message).hint(format!("among them {}", ids.join(", "))).field("run"));
    }
    Ok(found.pop())
}

fn is_visible(ctx: &Context, scope: Scope, place: Place<'_>) -> bool {
    let within = !ctx.bound || ctx.environment.as_ref() == Some(place.name);
    within && [Scope::RunsRead, scope].into_iter().any(|scope| ctx.principal.may(scope, Some(place)))
}

fn not_found_in(run: &str, environment: &Name) -> Error {
    Error::not_found(format!("run `{}` doesn't exist in environment `{environment}`", run.escape_debug()))
        .hint(format!("`stn run list -e {environment}` shows its runs"))
        .field("run")
}

fn not_found(run: &str) -> Error {
    Error::not_found(format!("run `{}` doesn't exist", run.escape_debug()))
        .hint("`stn run list` shows the runs")
        .field("run")
}
