//! `agent_create`: a new agent, as a new `.prompt` file.

use super::limits::GivenLimits;
use super::{changes, checked_children, view};
use crate::config::{self, AgentPatch};
use crate::domain::{Agent, Effect, Name, OnInDoubt, Scope};
use crate::error::{Error, Result};
use crate::store::AgentWrite;
use crate::tools::{Call, Exposure, ToolSpec, files};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Lower-case letters, digits, `-` and `_`; it becomes the file's name.
    pub name: Name,
    /// The instructions: Handlebars, with `{{role "system"}}` and `{{role "user"}}` sections; plain text is fine.
    pub prompt: String,
    /// What the agent is for, in a sentence.
    pub description: Option<String>,
    /// A name for people.
    pub display_name: Option<String>,
    /// Words to sort it by.
    pub tags: Option<Vec<String>>,
    /// `provider/model`; without it, the environment's default.
    pub model: Option<String>,
    /// The most turns (a model call with the tool calls it asked for) that a run may take.
    #[schemars(range(min = 1))]
    pub max_steps: Option<u32>,
    /// The longest that a run may take, such as `10m`.
    pub timeout: Option<String>,
    /// With `true`, the first turn only makes a plan, without tools.
    pub plan: Option<bool>,
    /// Tools as `server__tool`, globs such as `git__*`, or `__tool`.
    pub tools: Option<Vec<String>>,
    /// Agents that it may call, each of which becomes a tool `agent__<name>`.
    pub agents: Option<Vec<Name>>,
    /// JSON Schema of the input; without it, an object with one string `userInput`.
    pub input_schema: Option<Value>,
    /// JSON Schema of the output; without it, the answer is a text.
    pub output_schema: Option<Value>,
    /// What a run may use together with all that it calls.
    pub limits: Option<GivenLimits>,
    /// What happens when a crash cuts off a tool call that can't be decided: `ask` (without it), `retry`, `skip` or `fail`.
    pub on_in_doubt: Option<OnInDoubt>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Agent>("agent_create", Scope::AgentsWrite)
        .describe(
            "Create an agent",
            "Creates an agent: writes its prompt file into the environment and takes it up at once.",
        )
        .changes(Effect::Write, false)
        .exposure(Exposure::Default)
        .rest_created("/agents", 201, "/agents/{name}?environment={environment}")
        .cli("agent create", &["name", "prompt"])
}

pub async fn create(call: Call, input: Input) -> Result<Agent> {
    let environment = call.environment()?;
    let file = format!("environments/{}/agents/{}.prompt", environment.name, input.name);
    let patch = AgentPatch {
        display_name: input.display_name.map(Some),
        description: input.description.map(Some),
        tags: input.tags.map(Some),
        model: input.model.map(Some),
        max_steps: input.max_steps.map(Some),
        timeout: input.timeout.map(Some),
        plan: input.plan.map(Some),
        tools: input.tools.map(Some),
        agents: input.agents.map(Some),
        input_schema: input.input_schema.map(Some),
        output_schema: input.output_schema.map(Some),
        limits: input.limits.map(|limits| limits.patch().map(Some)).transpose()?,
        on_in_doubt: input.on_in_doubt.map(Some),
        prompt: Some(input.prompt),
    };
    let text = config::new_prompt(&input.name, &file, &patch)?;
    let mut definition = config::parse_prompt(&input.name, &file, text.as_bytes())?;
    let _one_at_a_time = environment.files.lock().await;
    checked_children(environment, &mut definition).await?;
    files::finish(&call.station.home, environment, Some(&file)).await?;
    if files::read(&call.station.home, environment, &file).await?.is_some() {
        return Err(Error::conflict(format!("`{file}` exists already"))
            .hint("choose another name, or change that agent with `agent_update` (`stn agent update`)")
            .field("name"));
    }
    let write = AgentWrite {
        revision: config::revision_of(text.as_bytes()),
        bytes: text.into_bytes(),
        definition,
        file,
        expected: None,
    };
    let audit = changes(&call, &input.name, &write.file, None, Some(&write.revision)).await?;
    let prepared = files::prepare(&call.station.home, environment, &write.file, Some(&write.bytes)).await?;
    let row = environment.store.agent_write(write, audit).await?;
    files::keep(&call.station.home, environment, prepared).await?;
    Ok(view(row, environment))
}
