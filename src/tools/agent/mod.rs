//! Agents: prompt files, and running them.

pub mod create;
pub mod delete;
pub mod get;
mod limits;
pub mod list;
pub mod pause;
pub mod resume;
pub mod run;
pub mod update;

use super::context::{Call, Environment};
use super::environment::sync;
use super::files;
use crate::config::{self, ChildAgents};
use crate::domain::{Agent, AgentDefinition, AuditEntry, Name, nearest, resume_command};
use crate::error::{Error, Result};
use crate::store::{AgentKey, AgentRow, FormerAgent};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::borrow::Cow;

/// An agent's name, its id, or the old name of a file that can't be a name: `Cost Forecaster` for `cost-forecaster`.
#[derive(Debug, Clone)]
pub struct Handle(String);

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) if number.is_i64() => Ok(Self(number.to_string())),
            other => Err(de::Error::custom(format_args!("`{other}` is neither an agent's name nor an id"))),
        }
    }
}

impl JsonSchema for Handle {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AgentHandle".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": "The agent's name, or its id." })
    }
}

/// The agent that `handle` names; `not_found` with the name that was probably meant.
pub async fn find(call: &Call, handle: &Handle) -> Result<AgentRow> {
    let environment = call.environment()?;
    let key = match handle.0.parse() {
        Ok(id) => AgentKey::Id(id),
        Err(_) => match Name::new(&handle.0) {
            Ok(name) => AgentKey::Name(name),
            Err(invalid) => {
                let found = by_old_name(environment, &handle.0).await?;
                return found.ok_or_else(|| Error::invalid_input(invalid.to_string()).field("agent"));
            }
        },
    };
    if let Some(row) = environment.store.agent(&key).await? {
        return Ok(row);
    }
    if let AgentKey::Name(name) = &key {
        not_taken_up(call, environment, name).await?;
    }
    if let Some(former) = environment.store.former_agent(&key).await? {
        return Err(gone(&former, &environment.name));
    }
    let shown = handle.0.escape_debug();
    let agents = environment.store.agents(None, 200).await?;
    let names = agents.iter().map(|row| row.definition.name.as_str());
    let error =
        Error::not_found(format!("agent `{shown}` doesn't exist in environment `{}`", environment.name)).field("agent");
    Err(match nearest(&handle.0, names) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint(format!("`stn agent list -e {}` shows what there is", environment.name)),
    })
}

/// What is left of the agent that `handle` names and that isn't there any more.
pub async fn former(call: &Call, handle: &Handle) -> Result<Option<FormerAgent>> {
    let key = match handle.0.parse() {
        Ok(id) => AgentKey::Id(id),
        Err(_) => match Name::new(&handle.0).or_else(|_| Name::new(&config::slug(&handle.0))) {
            Ok(name) => AgentKey::Name(name),
            Err(_) => return Ok(None),
        },
    };
    call.environment()?.store.former_agent(&key).await
}

/// The error for whoever means an agent whose file is gone: what became of it, and what can be done for the runs that it has left.
fn gone(former: &FormerAgent, environment: &Name) -> Error {
    let FormerAgent { last, unended } = former;
    let name = &last.definition.name;
    let runs = match unended {
        0 => String::new(),
        1 => ", and a run of it hasn't ended".to_owned(),
        more => format!(", and {more} runs of it haven't ended"),
    };
    let paused = last
        .paused_at
        .map(|since| format!(" It has been paused since {since}, which holds them."))
        .filter(|_| *unended > 0);
    let (paused, is_held) = (paused.as_deref().unwrap_or_default(), paused.is_some());
    let message = format!(
        "agent `{name}` doesn't exist in environment `{environment}` any more: its file is gone{runs}.{paused}"
    );
    let mut hint = format!("`stn run list --agent {name} -e {environment}` shows its runs");
    if is_held {
        hint.push_str(&format!(
            "; {} lets them go on, `stn run cancel RUN` ends one, and with its file back the agent is as it was, paused",
            resume_command(name, environment)
        ));
    }
    Error::not_found(message.trim_end_matches('.').to_owned()).hint(hint).field("agent")
}

/// The agent whose file is called `old`. Two such agents would have one name, and a sync refuses that.
async fn by_old_name(environment: &Environment, old: &str) -> Result<Option<AgentRow>> {
    let Ok(name) = Name::new(&config::slug(old)) else { return Ok(None) };
    let row = environment.store.agent(&AgentKey::Name(name)).await?;
    Ok(row.filter(|row| config::base_name(&row.file) == old))
}

/// The error when an agent's file isn't what the last sync or change saw.
fn changed_by_hand(row: &AgentRow, environment: &Environment) -> Error {
    Error::conflict(format!("`{}` was changed by hand since the last sync", row.file))
        .hint(format!("run `stn sync {}` first", environment.name))
}

/// The entry of an act that changes the content of `file`, with the files' state that it leads to.
async fn changes(call: &Call, name: &Name, file: &str, old: Option<&str>, new: Option<&str>) -> Result<AuditEntry> {
    let before = call.environment()?.store.config_revision().await?;
    let config_revision = before.map(|before| config::changed_revision(&before, file, old, new));
    Ok(AuditEntry { config_revision, ..call.audit(name) })
}

/// Takes tools that mean agents for children, and refuses children that don't exist or would call `definition`'s agent back.
async fn checked_children(environment: &Environment, definition: &mut AgentDefinition) -> Result<()> {
    if !config::calls_agents(definition) {
        return Ok(());
    }
    let mut all = ChildAgents::new();
    let mut after = None;
    loop {
        let page = environment.store.agents(after.as_ref(), 200).await?;
        after = page.last().map(|row| row.definition.name.clone());
        all.extend(page.into_iter().map(|row| (row.definition.name, row.definition.agents)));
        if after.is_none() {
            break;
        }
    }
    all.entry(definition.name.clone()).or_default();
    // What stays unclear stays a tool; the files' next look tells of it.
    let _unclear = config::take_up_agent_tools(definition, all.keys());
    all.insert(definition.name.clone(), definition.agents.clone());
    config::check_children(&definition.name, &all).map_err(|fault| {
        let error = Error::invalid_input(fault.reason).field("agents");
        match fault.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

/// An error when there is a file of that name all the same: something is wrong with it, or nobody has taken it up yet.
async fn not_taken_up(call: &Call, environment: &Environment, name: &Name) -> Result<()> {
    let file = format!("environments/{}/agents/{name}.prompt", environment.name);
    let Some(bytes) = files::read(&call.station.home, environment, &file).await? else { return Ok(()) };
    config::parse_prompt(name, &file, &bytes)?;
    // Of agents that call each other in a circle, or one that isn't there, only all files together tell.
    let all = sync::read(&call.station, environment).await?.agents;
    if let Some(problem) = all.into_iter().find(|agent| agent.file == file).and_then(|agent| agent.definition.err()) {
        return Err(problem.into());
    }
    Err(Error::not_found(format!("`{file}` has not been taken up yet"))
        .hint(format!("run `stn sync {}`", environment.name))
        .field("agent"))
}

/// The agent as doors show it.
pub fn view(row: AgentRow, environment: &Environment) -> Agent {
    let (state, input_schema) = (row.state(), row.definition.effective_input_schema());
    let definition = row.definition;
    Agent {
        id: row.id,
        name: definition.name,
        display_name: definition.display_name,
        description: definition.description,
        tags: definition.tags,
        environment: environment.name.clone(),
        revision: row.revision,
        file: row.file,
        state,
        problem: row.problem,
        model: definition.model,
        max_steps: definition.max_steps,
        timeout_ms: definition.timeout_ms,
        plan: definition.plan,
        tools: definition.tools,
        agents: definition.agents,
        input_schema,
        output_schema: definition.output_schema,
        schedule: definition.schedule,
        approval: definition.approval,
        limits: definition.limits.map(Into::into),
        retry: definition.retry,
        prompt: definition.prompt,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}
