//! `agent_update`: changes single keys of an agent's file and leaves every other byte as it is.

use super::limits::GivenLimits;
use super::{Handle, changed_by_hand, changes, checked_children, find, view};
use crate::config::{self, AgentPatch};
use crate::domain::{Agent, Effect, Name, OnInDoubt, Scope};
use crate::error::{Error, Result};
use crate::store::{AgentRow, AgentWrite};
use crate::tools::input::given;
use crate::tools::{Call, Environment, Exposure, Method, ToolSpec, files};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Absent leaves a key as it is, null removes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub agent: Handle,
    /// The revision that the change is meant for; another one in force is a conflict.
    #[schemars(extend("type" = "string"))]
    pub revision: Option<String>,
    #[schemars(extend("type" = "string"))]
    pub prompt: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub description: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    pub display_name: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    pub tags: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    pub model: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(range(min = 1))]
    pub max_steps: Option<Option<u32>>,
    /// Such as `10m`.
    #[serde(default, deserialize_with = "given")]
    pub timeout: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    pub tools: Option<Option<Vec<String>>>,
    /// Agents that it may call.
    #[serde(default, deserialize_with = "given")]
    pub agents: Option<Option<Vec<Name>>>,
    /// With `true`, the first turn only makes a plan, without tools.
    #[serde(default, deserialize_with = "given")]
    pub plan: Option<Option<bool>>,
    #[serde(default, deserialize_with = "given")]
    pub input_schema: Option<Option<Value>>,
    /// JSON Schema of the output; without it, the answer is a text.
    #[serde(default, deserialize_with = "given")]
    pub output_schema: Option<Option<Value>>,
    /// What a run may use together with all that it calls. Of its keys, too, absent leaves and null removes.
    #[serde(default, deserialize_with = "given")]
    pub limits: Option<Option<GivenLimits>>,
    /// What happens when a crash cuts off a tool call that can't be decided.
    #[serde(default, deserialize_with = "given")]
    pub on_in_doubt: Option<Option<OnInDoubt>>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Agent>("agent_update", Scope::AgentsWrite)
        .describe(
            "Update an agent",
            "Changes the given keys of an agent's prompt file; comments and all other bytes stay. Null removes a key.",
        )
        .changes(Effect::Write, true)
        .exposure(Exposure::Default)
        .rest(Method::Patch, "/agents/{agent}")
        .cli("agent update", &["agent"])
}

pub async fn update(call: Call, input: Input) -> Result<Agent> {
    let environment = call.environment()?;
    let _one_at_a_time = environment.files.lock().await;
    let row = find(&call, &input.agent).await?;
    let name = row.definition.name.clone();
    if let Some(expected) = input.revision.as_ref().filter(|expected| **expected != row.revision) {
        let message = format!("agent `{name}` is at revision `{}`, not `{}`", row.revision, expected.escape_debug());
        return Err(Error::conflict(message).hint("read the agent again and repeat the change").field("revision"));
    }
    files::finish(&call.station.home, environment, Some(&row.file)).await?;
    let bytes = files::read(&call.station.home, environment, &row.file).await?.unwrap_or_default();
    if let Some(refused) = refusal(&row, environment, &bytes) {
        return Err(refused);
    }
    let text = String::from_utf8(bytes)
        .map_err(|cause| Error::internal(format!("`{}` is not UTF-8", row.file)).source(cause))?;
    let patch = AgentPatch {
        prompt: input.prompt,
        description: input.description,
        display_name: input.display_name,
        tags: input.tags,
        model: input.model,
        max_steps: input.max_steps,
        timeout: input.timeout,
        plan: input.plan,
        tools: input.tools,
        agents: input.agents,
        input_schema: input.input_schema,
        output_schema: input.output_schema,
        limits: input.limits.map(|limits| limits.map(|limits| limits.patch()).transpose()).transpose()?,
        on_in_doubt: input.on_in_doubt,
    };
    let text = config::update_prompt(&name, &row.file, &text, &patch)?;
    let revision = config::revision_of(text.as_bytes());
    if revision == row.revision {
        environment.store.audit(call.audit(&name)).await?;
        return Ok(view(row, environment));
    }
    let mut definition = config::parse_prompt(&name, &row.file, text.as_bytes())?;
    checked_children(environment, &mut definition).await?;
    let audit = changes(&call, &name, &row.file, Some(&row.revision), Some(&revision)).await?;
    let write =
        AgentWrite { definition, revision, bytes: text.into_bytes(), file: row.file, expected: Some(row.revision) };
    let prepared = files::prepare(&call.station.home, environment, &write.file, Some(&write.bytes)).await?;
    let row = environment.store.agent_write(write, audit).await?;
    files::keep(&call.station.home, environment, prepared).await?;
    Ok(view(row, environment))
}

/// Why a file with these bytes can't be changed: it is broken, or not what the last sync or change saw.
fn refusal(row: &AgentRow, environment: &Environment, bytes: &[u8]) -> Option<Error> {
    let is_known = config::revision_of(bytes) == row.revision;
    let fault = config::parse_prompt(&row.definition.name, &row.file, bytes).err().map(|fault| fault.to_string());
    match fault.or_else(|| row.problem.clone().filter(|_| is_known)) {
        Some(fault) => Some(
            Error::conflict(format!("agent `{}` is broken: {fault}", row.definition.name))
                .hint(format!("fix the file, then run `stn sync {}`", environment.name)),
        ),
        None if is_known => None,
        None => Some(changed_by_hand(row, environment)),
    }
}
