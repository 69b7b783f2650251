//! `agent_resume`: takes runs of a paused agent again.

use super::pause::Input;
use super::{find, view};
use crate::domain::{Agent, Effect, Scope};
use crate::error::Result;
use crate::tools::{Call, Method, ToolSpec};

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Agent>("agent_resume", Scope::AgentsRun)
        .describe("Resume an agent", "Takes runs of a paused agent again; those that are queued begin at once.")
        .changes(Effect::Write, true)
        .rest(Method::Post, "/agents/{agent}/resume")
        .cli("agent resume", &["agent"])
}

pub async fn resume(call: Call, input: Input) -> Result<Agent> {
    let environment = call.environment()?;
    let name = find(&call, &input.agent).await?.definition.name;
    let row = environment.store.agent_pause(&name, false, call.audit(&name)).await?;
    call.station.admission.wake();
    Ok(view(row, environment))
}
