//! `agent_resume`: takes runs of a paused agent again.

use super::pause::Input;
use super::{find, former, view};
use crate::domain::{Agent, Effect, Scope};
use crate::error::{ErrorKind, Result};
use crate::tools::{Call, Method, ToolSpec};

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Agent>("agent_resume", Scope::AgentsRun)
        .describe("Resume an agent", "Takes runs of a paused agent again; those that are queued begin at once, also those of an agent whose file is gone.")
        .changes(Effect::Write, true)
        .rest(Method::Post, "/agents/{agent}/resume")
        .cli("agent resume", &["agent"])
}

pub async fn resume(call: Call, input: Input) -> Result<Agent> {
    let environment = call.environment()?;
    let name = match find(&call, &input.agent).await {
        Ok(row) => row.definition.name,
        // Its file is gone, and its pause may hold runs all the same.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let former = former(&call, &input.agent).await?.filter(|former| former.last.paused_at.is_some());
            former.ok_or(error)?.last.definition.name
        }
        Err(error) => return Err(error),
    };
    let row = environment.store.agent_pause(&name, false, call.audit(&name)).await?;
    call.station.admission.wake();
    Ok(view(row, environment))
}
