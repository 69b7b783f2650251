//! `agent_run`: submits a run, and waits for it as long as the caller likes. The run outlives the request.

use super::limits::priced;
use super::{Handle, find};
use crate::config;
use crate::domain::{AgentDefinition, Effect, Name, Origin, Run, RunId, Scope};
use crate::error::{Error, Result};
use crate::store::{AgentRow, Ancestor, Submit, Submitted};
use crate::tools::model::Chosen;
use crate::tools::run::wait::wait_for;
use crate::tools::{Call, Environment, Exposure, Reservation, Station, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub agent: Handle,
    /// An object that fits the agent's input schema; a string stands for `{ "userInput": <string> }`.
    #[serde(default)]
    #[schemars(extend("type" = ["object", "string"]))]
    pub input: Value,
    /// `provider/model`, instead of the agent's.
    pub model: Option<String>,
    /// How long to wait for the end, in milliseconds; the run goes on afterwards. Over MCP 45000 without it, elsewhere 0.
    pub wait_ms: Option<u64>,
    /// The same key again answers with the first run instead of starting another.
    #[schemars(length(min = 1, max = 256))]
    pub idempotency_key: Option<String>,
}

/// The most runs in a chain of calls, the first one included.
const MAX_DEPTH: usize = 5;

/// The longest wait that can be asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What MCP clients wait for when they don't say: below the timeout that most of them have.
const MCP_WAIT_MS: u64 = 45_000;

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Run>("agent_run", Scope::AgentsRun)
        .describe(
            "Run an agent",
            "Runs an agent with an input and returns the run with its output. A run that takes longer than wait_ms goes on: use run_wait.",
        )
        .changes(Effect::Write, false)
        .open_world()
        .exposure(Exposure::Default)
        .deadline(LONGEST_WAIT)
        .rest_created("/agents/{agent}/queue", 202, "/runs/{id}")
        .cli("agent run", &["agent", "input"])
}

pub async fn run(call: Call, input: Input) -> Result<Run> {
    let wait = input.wait_ms.unwrap_or(match call.ctx.origin {
        Origin::McpStdio | Origin::McpHttp => MCP_WAIT_MS,
        _ => 0,
    });
    let agent = find(&call, &input.agent).await?;
    let run = submit(&call, agent, input).await?;
    if wait == 0 || run.status.is_terminal() {
        return Ok(run);
    }
    wait_for(&call, run.id, Duration::from_millis(wait).min(LONGEST_WAIT)).await
}

async fn submit(call: &Call, agent: AgentRow, input: Input) -> Result<Run> {
    let environment = call.environment()?;
    let given = checked(&agent.definition, &environment.name, input.input)?;
    let key = input.idempotency_key.or_else(|| call.ctx.idempotency_key());
    if let Some(key) = &key {
        // Asked for again, a run is what it was, whatever has become of models and prices since.
        let principal = &call.ctx.principal.who;
        if let Some(run) = environment.store.submitted(principal, agent.id, key, &given).await? {
            return Ok(run);
        }
    }
    let mut budgets = Vec::new();
    if let Some(parent) = call.ctx.parent {
        admitted(&environment.store.lineage(parent.run).await?, &agent)?;
        budgets = environment.store.budgets(parent.run).await?;
    }
    let station = &call.station;
    let settings = &station.settings.runs;
    let definition = &agent.definition;
    let given = renderable(definition, given).await?;
    let brought = call.ctx.provider_variables.clone();
    let (asked, own) = (input.model.as_deref(), definition.model.as_deref());
    let Chosen { model, from_caller } =
        match station.models.choose(&environment.name, asked, own, brought.as_deref()).await {
            Ok(chosen) => chosen,
            Err(error) => return Err(station.with_settings_note(error, &call.ctx.principal).await),
        };
    let limits = definition.limits.unwrap_or_default();
    priced(station, &call.ctx.principal, (&definition.name, limits), &budgets, &model).await?;
    let id = RunId::new(call.now(), environment.number, random()?);
    // What it calls may need a key that it doesn't need itself.
    if let (true, Some(brought)) = (from_caller || !definition.agents.is_empty(), brought) {
        station.models.remember(id, brought);
    }
    let reservation = station.admission.reserve();
    let config_revision = call.config_revision().map(str::to_owned);
    let mut cause = call.ctx.cause.clone();
    cause.key.clone_from(&key);
    let mut audit = call.audit(&definition.name);
    audit.details = Some(json!({ "run": id, "revision": agent.revision }));
    let submit = Submit {
        id,
        agent_id: agent.id,
        revision: agent.revision,
        model,
        input: given,
        origin: call.ctx.origin,
        cause,
        principal: call.ctx.principal.who.clone(),
        parent: call.ctx.parent,
        max_steps: i64::from(definition.max_steps.unwrap_or(settings.max_steps)),
        timeout_ms: millis(definition.timeout_ms.unwrap_or(settings.timeout_ms)),
        limits,
        idempotency_key: key,
        config_revision,
        caller_credentials: from_caller,
        reserved_for: reservation.as_ref().map(|reservation| reservation.owner.clone()),
        queue_limit: i64::from(settings.queue_limit),
        audit,
    };
    commit(station, environment, submit, reservation).await
}

/// Refuses a call that would go round in a circle, or too deep.
fn admitted(lineage: &[Ancestor], agent: &AgentRow) -> Result<()> {
    let name = &agent.definition.name;
    let mut chain: Vec<&str> = lineage.iter().map(|ancestor| ancestor.agent.as_str()).collect();
    chain.push(name.as_str());
    let (last, chain) = (lineage.last().map(|ancestor| &ancestor.agent), chain.join(" -> "));
    let Some(last) = last else { return Ok(()) };
    // By name too: a file that went away and came back is another agent to the store, and the same to people.
    if lineage.iter().any(|ancestor| ancestor.agent_id == agent.id || ancestor.agent == *name) {
        return Err(Error::conflict(format!("agent `{last}` can't run `{name}`, which waits for it: {chain}"))
            .hint("do it without that agent"));
    }
    if lineage.len() >= MAX_DEPTH {
        let message = format!("agents call each other at most {MAX_DEPTH} deep, and this would be one more: {chain}");
        return Err(Error::conflict(message).hint("do it without that agent"));
    }
    Ok(())
}

/// The input that the agent's schema accepts. Whoever gives none is shown how to give one.
fn checked(definition: &AgentDefinition, environment: &Name, input: Value) -> Result<Value> {
    let (schema, is_absent) = (definition.effective_input_schema(), input.is_null());
    config::validate_input(&schema, input).map_err(|error| {
        if !is_absent || error.hint_text().is_some() {
            return error;
        }
        let takes_text = config::validate_input(&schema, "TEXT".into()).is_ok();
        let input = if takes_text { "'TEXT'".to_owned() } else { required_object(&schema) };
        error.hint(format!("give it as `input`: `stn agent run {} {input} -e {environment}`", definition.name))
    })
}

/// `'{"path": ..., "depth": ...}'`
fn required_object(schema: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let fields: Vec<String> = required.map(|name| format!("{name}: ...")).collect();
    format!("'{{{}}}'", fields.join(", "))
}

/// Gives `input` back if the agent's prompt can be rendered with it: a run that can't ask its model anything is refused here, where its caller
/// still listens, rather than failed later.
async fn renderable(definition: &AgentDefinition, input: Value) -> Result<Value> {
    let definition = definition.clone();
    let rendering =
        tokio::task::spawn_blocking(move || config::render_agent(&definition, &input).map(|_rendered| input));
    let rendered =
        rendering.await.map_err(|cause| Error::internal("the prompt's rendering was cut off").source(cause))?;
    rendered.map_err(|error| if error.field_name().is_some() { error } else { error.field("input") })
}

/// Commits the run and hands it to its worker. `dispatch` finishes it once begun: a run that is claimed and
/// never started would wait for the next owner.
async fn commit(
    station: &Station,
    environment: &Arc<Environment>,
    submit: Submit,
    reservation: Option<Reservation>,
) -> Result<Run> {
    let id = submit.id;
    let submitted = environment.store.submit(submit).await.inspect_err(|_| station.models.forget(id))?;
    let Submitted { run, existing, claim } = submitted;
    match (claim, reservation) {
        (Some(claim), Some(reservation)) => station.admission.start(environment, reservation, claim),
        _ if existing => station.models.forget(id),
        _ => station.admission.wake(),
    }
    Ok(run)
}

fn millis(duration: u64) -> i64 {
    i64::try_from(duration).unwrap_or(i64::MAX)
}

fn random() -> Result<u64> {
    getrandom::u64().map_err(|cause| Error::internal("the operating system gives no randomness").source(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_takes_an_object_or_a_string_for_the_input() {
        let spec = spec();
        let input = spec.input.pointer("/properties/input").unwrap();
        assert_eq!(input.get("type"), Some(&json!(["object", "string"])));
    }
}
