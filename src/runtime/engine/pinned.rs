//! The tools that a run was started with. They stay the same for the model however long the run lives and whatever its servers do.

use super::Attempt;
use super::stop::Stop;
use crate::clock::ClockExt;
use crate::domain::{ASK_USER, Effect, Name, RunErrorKind, ToolEffect, to_hex};
use crate::error::{Error, Result};
use crate::gateway::{CatalogTool, ServerState, ServerStatus, UnmatchedPattern, full_name, may_match};
use crate::llm::ToolDefinition;
use crate::store::{AgentKey, AgentRow};
use crate::tools::attached::FIRST_START;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How often a server in its first start is looked at again, when it takes longer than [`FIRST_START`].
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One tool, as the model knows it: of an attached server, or an agent's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PinnedTool {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) input_schema: Value,
    pub(super) effect: ToolEffect,
    /// The agent that a call of it runs; else it is a tool of an attached server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<Name>,
    /// SHA-256 of the definition as its server gave it, in hex.
    definition: String,
}

/// The pinned tools of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct PinnedTools(Vec<PinnedTool>);

impl PinnedTools {
    /// Attached tools and child agents, as they are now.
    pub(super) async fn choose(attempt: &Attempt) -> Result<Self, Stop> {
        let mut tools = attached(attempt).await?;
        tools.extend(children(attempt).await?);
        tools.extend(attempt.definition.tools.iter().any(|tool| tool == ASK_USER).then(ask_user));
        Ok(Self(tools))
    }

    /// Reads what [`PinnedTools::to_json`] wrote.
    pub(super) fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|cause| Error::internal("the run's pinned tools can't be read").source(cause))
    }

    pub(super) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|cause| Error::internal("the run's pinned tools can't be written").source(cause))
    }

    pub(super) fn get(&self, name: &str) -> Option<&PinnedTool> {
        self.0.iter().find(|tool| tool.name == name)
    }

    /// Whether `name` is a tool of an attached server's.
    pub(super) fn is_attached(&self, name: &str) -> bool {
        self.get(name).is_some_and(|tool| tool.agent.is_none() && tool.name != ASK_USER)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|tool| tool.name.as_str())
    }

    /// As the model is offered them.
    pub(super) fn definitions(&self) -> Vec<ToolDefinition> {
        let definition = |tool: &PinnedTool| ToolDefinition {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
            effect: tool.effect.believed(),
        };
        self.0.iter().map(definition).collect()
    }
}

/// What the agent's patterns select. A pattern that selects nothing fails the run, with the reason, once no server is left that may
/// still bring what it means: the first start of a server that has to be downloaded takes a while.
async fn attached(attempt: &Attempt) -> Result<Vec<PinnedTool>, Stop> {
    let gateway = &attempt.environment.gateway;
    let patterns: Vec<String> = attempt.definition.tools.iter().filter(|tool| *tool != ASK_USER).cloned().collect();
    let patterns = &patterns;
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    loop {
        let catalog = gateway.catalog_for(FIRST_START, |server| means(patterns, server)).await;
        let unmatched = match catalog.select(patterns) {
            Ok(selected) => return Ok(selected.into_iter().map(PinnedTool::of).collect()),
            Err(unmatched) => unmatched,
        };
        let servers = gateway.status();
        if !unmatched.iter().any(|unmatched| may_yet_match(unmatched, &servers)) {
            return Err(Stop::failed(RunErrorKind::Tool, explain(&attempt.environment.name, &unmatched, &servers)));
        }
        attempt.station.clock.sleep(LOOK_AGAIN).await;
    }
}

/// The agents that the agent may call. One that is gone fails the run by name.
async fn children(attempt: &Attempt) -> Result<Vec<PinnedTool>, Stop> {
    let mut tools = Vec::new();
    for name in &attempt.definition.agents {
        let found = attempt.environment.store.agent(&AgentKey::Name(name.clone())).await?;
        let child = found.ok_or_else(|| {
            let place = &attempt.environment.name;
            let message = format!(
                "the agent's child `{name}` doesn't exist in environment `{place}`; `stn agent list -e {place}` shows the agents that there are"
            );
            Stop::failed(RunErrorKind::Tool, message)
        })?;
        tools.push(PinnedTool::running(child));
    }
    Ok(tools)
}

/// The tool with which the model asks a person. What isn't answered yet can be asked again.
fn ask_user() -> PinnedTool {
    let description = "Asks the person for whom you work, and waits for the answer, at most three days. Use it when you can't go on \
                       without knowing, or before something that only they may decide.";
    PinnedTool {
        name: ASK_USER.to_owned(),
        description: Some(description.to_owned()),
        input_schema: json!({
            "type": "object",
            "properties": {
                "question": { "type": "string", "minLength": 1, "maxLength": 4000 },
                "choices": {
                    "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 2, "maxItems": 20,
                    "description": "The only answers that are possible, if there are few."
                }
            },
            "required": ["question"],
            "additionalProperties": false
        }),
        effect: ToolEffect { effect: Effect::Read, idempotent: true, open_world: true, trusted: true },
        agent: None,
        definition: String::new(),
    }
}

/// Whether any of the patterns may mean a tool of `server`.
fn means(patterns: &[String], server: &Name) -> bool {
    patterns.iter().any(|pattern| may_match(pattern, server.as_str()))
}

impl PinnedTool {
    fn of(tool: &CatalogTool) -> Self {
        Self {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
            effect: tool.effect,
            agent: None,
            definition: hash(tool),
        }
    }

    /// The tool whose calls are runs of `child`. A call has the step's key, so that it is never started twice, whoever goes on with it.
    fn running(child: AgentRow) -> Self {
        let AgentRow { revision, definition, .. } = child;
        let input_schema = definition.effective_input_schema();
        let about = definition.description.map(|text| format!(" {text}")).unwrap_or_default();
        Self {
            name: full_name("agent", definition.name.as_str()),
            description: Some(format!("Runs the agent `{}`, and returns its answer.{about}", definition.name)),
            input_schema,
            effect: ToolEffect { effect: Effect::Write, idempotent: true, open_world: true, trusted: true },
            agent: Some(definition.name),
            definition: revision,
        }
    }

    /// Whether the server still defines the tool as it did when the run was started.
    pub(super) fn is_same(&self, tool: &CatalogTool) -> bool {
        self.definition == hash(tool)
    }
}

fn hash(tool: &CatalogTool) -> String {
    to_hex(&Sha256::digest(tool.definition.get().as_bytes()))
}

/// The server that a pattern names.
fn server_of<'a>(pattern: &str, servers: &'a [ServerStatus]) -> Option<&'a ServerStatus> {
    servers.iter().find(|server| pattern.strip_prefix(server.name.as_str()).is_some_and(|rest| rest.starts_with("__")))
}

fn may_yet_match(unmatched: &UnmatchedPattern, servers: &[ServerStatus]) -> bool {
    let is_starting = |server: &ServerStatus| server.state == ServerState::Starting;
    match server_of(&unmatched.pattern, servers) {
        _ if unmatched.ambiguous => false,
        Some(server) => is_starting(server),
        // `__tool` and `*_thing` name no server.
        None => unmatched.pattern.starts_with(['_', '*']) && servers.iter().any(is_starting),
    }
}

/// What each pattern doesn't match, why, and what to do.
fn explain(environment: &Name, unmatched: &[UnmatchedPattern], servers: &[ServerStatus]) -> String {
    let line = |unmatched: &UnmatchedPattern| {
        let why =
            server_of(&unmatched.pattern, servers).and_then(|server| trouble(environment, server)).unwrap_or_default();
        format!("the agent's tool pattern {unmatched}{why}")
    };
    let lines: Vec<String> = unmatched.iter().map(line).collect();
    format!("{}; `stn tool list -e {environment}` shows the tools that there are", lines.join("; "))
}

/// Why a server may lack tools that it should have.
fn trouble(environment: &Name, server: &ServerStatus) -> Option<String> {
    let name = &server.name;
    match (&server.problem, server.state) {
        (Some(problem), _) => Some(format!(" (server `{name}`: {problem})")),
        (None, ServerState::Pending) => {
            Some(format!(" (the command of server `{name}` waits for `stn mcp-server accept {name} -e {environment}`)"))
        }
        (None, ServerState::Disabled) => Some(format!(" (server `{name}` is disabled)")),
        (None, ServerState::Starting | ServerState::Ready | ServerState::Error | ServerState::Stopped) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{McpServerDefinition, ServerTransport};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn status(name: &str, state: ServerState) -> ServerStatus {
        let name = Name::new(name).unwrap();
        let transport = ServerTransport::Builtin { builtin: "filesystem".into(), args: vec![] };
        let definition = Ok(Arc::new(McpServerDefinition {
            name: name.clone(),
            file: "servers.json".into(),
            transport,
            target: Vec::new(),
            timeout_ms: None,
            disabled: false,
            tools: BTreeMap::new(),
        }));
        ServerStatus { name, definition, state, problem: None, protocol: None, tools: 0, pid: None }
    }

    fn unmatched(pattern: &str) -> UnmatchedPattern {
        UnmatchedPattern { pattern: pattern.into(), ambiguous: false, candidates: vec![] }
    }

    #[test]
    fn only_a_server_that_is_starting_may_still_bring_a_missing_tool() {
        let servers = [status("slow", ServerState::Starting), status("slower", ServerState::Ready)];
        for (pattern, expected) in [
            ("slow__read", true),
            ("slow__*", true),
            ("slower__read", false),
            ("gone__read", false),
            ("__read", true),
            ("*_read", true),
        ] {
            assert_eq!(may_yet_match(&unmatched(pattern), &servers), expected, "{pattern}");
        }
        let ambiguous = UnmatchedPattern { ambiguous: true, ..unmatched("__read") };
        assert!(!may_yet_match(&ambiguous, &servers));
    }

    #[test]
    fn a_missing_tool_is_explained_by_the_trouble_of_its_server() {
        let broken = ServerStatus { problem: Some("no such command".into()), ..status("git", ServerState::Error) };
        let servers = [broken, status("shell", ServerState::Pending)];
        let environment = Name::new("development").unwrap();
        let text =
            explain(&environment, &[unmatched("git__log"), unmatched("shell__run"), unmatched("x__y")], &servers);
        for said in [
            "`git__log` matches no tool (server `git`: no such command)",
            "`stn mcp-server accept shell -e development`",
            "`x__y`",
        ] {
            assert!(text.contains(said), "{text}");
        }
    }
}
