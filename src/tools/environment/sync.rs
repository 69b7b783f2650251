//! `environment_sync`: takes up what the environment's files say. One broken file never stops the others.

use crate::config::{
    self, EnvironmentFiles, FileProblem, Git, KnownAgent, KnownServer, PlanAction, PlanItem, PlanKind, SyncPlan,
};
use crate::domain::{AgentState, AuditEntry, CommandState, Effect, McpServerDefinition, Name, Scope};
use crate::error::{Error, Result};
use crate::gateway;
use crate::store::{AgentWrite, ServerPut, ServerRow, SyncChanges};
use crate::tools::{Call, Environment, Method, Station, ToolSpec, files};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Show what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a sync found and did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    pub environment: Name,
    pub dry_run: bool,
    /// Content hash of the files that are in force then, with the git commit where there is one.
    pub config_revision: String,
    /// Every agent and server, with what happens to it.
    pub items: Vec<PlanItem>,
    /// What to do so that station.yml is in force, if it was changed after the station had read it: a sync doesn't take it up.
    pub station_yml_changed: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Output>("environment_sync", Scope::EnvironmentsWrite)
        .describe("Sync an environment", "Takes up what the environment's files say: agents, servers, variables. With dry_run it only shows the plan.")
        .changes(Effect::Write, true)
        .rest(Method::Post, "/environments/{environment}/sync")
        .cli("sync", &["environment"])
}

pub async fn sync(call: Call, input: Input) -> Result<Output> {
    let environment = call.environment()?;
    let audit = call.audit(&environment.name);
    let looked = if input.dry_run {
        environment.store.audit(AuditEntry { details: Some(json!({ "dry_run": true })), ..audit }).await?;
        let _not_while_files_change = environment.files.lock().await;
        look(&call.station, environment).await?
    } else {
        apply(&call.station, environment, audit).await?
    };
    Ok(Output {
        environment: environment.name.clone(),
        dry_run: input.dry_run,
        config_revision: looked.revision,
        items: looked.plan.items,
        station_yml_changed: call.station.station_yml_changed(&call.ctx.principal).await,
    })
}

/// What a look at the files found.
#[derive(Debug)]
pub struct Looked {
    files: EnvironmentFiles,
    plan: SyncPlan,
    /// The files' state that is in force once the plan is applied, as runs and audit rows carry it.
    revision: String,
    /// The servers as the store knows them.
    known: Vec<ServerRow>,
}

impl Looked {
    pub(in crate::tools) fn files(&self) -> &EnvironmentFiles {
        &self.files
    }

    /// The servers that can be attached.
    pub fn servers(&self) -> impl Iterator<Item = &McpServerDefinition> {
        self.files.servers.iter().filter_map(|entry| entry.definition.as_ref().ok())
    }

    /// The files' state that is in force now.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The servers whose entry or file can't be read, with the reason.
    fn faults(&self) -> BTreeMap<Name, FileProblem> {
        let servers = self.plan.items.iter().filter(|item| item.kind == PlanKind::McpServer);
        servers.filter_map(|item| Some((Name::new(&item.name).ok()?, item.problem.clone()?))).collect()
    }

    /// Every fault of a file, once, and what is in force without the effect that its writer may expect.
    pub fn problems(&self) -> Vec<FileProblem> {
        let mut problems: Vec<FileProblem> = Vec::new();
        let items = self.plan.items.iter();
        for problem in items.flat_map(|item| item.problem.iter().chain(&item.warnings)) {
            // The servers of a file that can't be read have its fault.
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
        }
        problems
    }

    fn changes_something(&self) -> bool {
        self.plan.items.iter().any(|item| item.action != PlanAction::Unchanged)
    }

    /// The known servers whose entry or file can't be read: nobody can tell how they are meant now, so they stay as they are.
    fn unclear(&self) -> impl Iterator<Item = &ServerRow> {
        let is_broken = |item: &&PlanItem| item.kind == PlanKind::McpServer && item.action == PlanAction::Error;
        let broken = self.plan.items.iter().filter(is_broken);
        broken.filter_map(|item| self.known.iter().find(|row| row.name == *item.name))
    }
}

/// Finishes promised files, reads all files, commits what changed, and tells the gateway.
pub async fn apply(station: &Arc<Station>, environment: &Arc<Environment>, audit: AuditEntry) -> Result<Looked> {
    let _one_at_a_time = environment.files.lock().await;
    files::finish(&station.home, environment, None).await?;
    let looked = look(station, environment).await.inspect_err(|error| tell(environment, error))?;
    commit(station, environment, &looked, audit).await?;
    attach(environment, &looked).await?;
    Ok(looked)
}

/// What a start does: like [`apply`], but nothing is committed when the files say what the store knows.
pub async fn take_up(station: &Arc<Station>, environment: &Arc<Environment>, audit: AuditEntry) -> Result<Looked> {
    let _one_at_a_time = environment.files.lock().await;
    take_up_locked(station, environment, audit).await
}

/// The same, for whoever holds the files' lock.
pub(in crate::tools) async fn take_up_locked(
    station: &Arc<Station>,
    environment: &Arc<Environment>,
    audit: AuditEntry,
) -> Result<Looked> {
    files::finish(&station.home, environment, None).await?;
    let looked = look(station, environment).await.inspect_err(|error| tell(environment, error))?;
    let known = environment.store.config_revision().await?;
    if looked.changes_something()
        || accepts_more(station, environment, &looked)
        || known.as_ref() != Some(&looked.revision)
    {
        commit(station, environment, &looked, audit).await?;
    }
    attach(environment, &looked).await?;
    Ok(looked)
}

/// Whoever looks at the environment sees why nothing of it was taken up.
fn tell(environment: &Environment, error: &Error) {
    environment.problems.set(vec![FileProblem::of(&format!("environments/{}", environment.name), error)]);
}

/// The setting was turned on since: commands that have waited for somebody needn't any more.
fn accepts_more(station: &Station, environment: &Environment, looked: &Looked) -> bool {
    let mut waiting = looked.known.iter().filter(|row| row.command_state == CommandState::Pending);
    station.auto_accepts_commands(&environment.name)
        && waiting.any(|row| looked.servers().any(|server| server.name == row.name))
}

/// Tells the gateway which servers there are, and which commands may run: those that were accepted exactly as they are now.
pub async fn attach(environment: &Environment, looked: &Looked) -> Result<()> {
    environment.problems.set(looked.problems());
    let rows = environment.store.servers().await?;
    let state = |server: &McpServerDefinition| {
        let row = rows.iter().find(|row| row.name == server.name);
        let same = row.filter(|row| row.command_hash == gateway::command_hash(server));
        same.map_or(CommandState::Pending, |row| row.command_state)
    };
    let is_unclear = |name: &Name| looked.unclear().any(|row| row.name == *name);
    let unclear = environment.gateway.status().into_iter().filter(|server| is_unclear(&server.name));
    let running = unclear.filter_map(|server| Some((*server.definition.ok()?).clone()));
    let servers = looked.servers().cloned().chain(running).map(|server| (server.clone(), state(&server)));
    environment.gateway.apply(servers.collect(), looked.faults());
    Ok(())
}

/// The files, as they are once every promised one is written. Whoever goes on with what they say holds the files' lock.
pub(in crate::tools) async fn read(station: &Station, environment: &Environment) -> Result<EnvironmentFiles> {
    let allowed = allow_listed(station, environment);
    let directory = station.home.environment_dir(&environment.name);
    let shown = format!("environments/{}", environment.name);
    let promised = files::promised(&station.home, environment).await?;
    tokio::task::spawn_blocking(move || config::load_environment(&directory, &shown, &allowed, &promised))
        .await
        .map_err(|cause| Error::internal("reading the environment's files was interrupted").source(cause))?
}

/// The process's variables that the environment lets its files use.
pub(in crate::tools) fn allow_listed(station: &Station, environment: &Environment) -> BTreeMap<String, String> {
    let settings = station.settings.environment(&environment.name);
    config::allow_listed(&settings.variables_from_process, &station.process_variables)
}

/// Reads the files, as they are once every promised one is written, and compares them with the store; changes nothing. Whoever calls this
/// holds the files' lock.
pub async fn look(station: &Arc<Station>, environment: &Environment) -> Result<Looked> {
    let agents = environment.store.agents(None, u32::MAX).await?;
    let known = environment.store.servers().await?;
    let files = read(station, environment).await?;
    let known_agents: Vec<KnownAgent> = agents
        .into_iter()
        .map(|row| KnownAgent {
            name: row.definition.name,
            agents: row.definition.agents,
            revision: row.revision,
            state: if row.problem.is_some() { AgentState::Error } else { AgentState::Ok },
            file: row.file,
        })
        .collect();
    let known_servers: Vec<KnownServer> = known
        .iter()
        .map(|row| KnownServer { name: row.name.clone(), hash: row.hash.clone(), file: row.file.clone() })
        .collect();
    let plan = config::plan(&files, &known_agents, &known_servers);
    let git = Git { spawner: &station.spawner, tasks: &station.tasks, clock: &station.clock };
    let found = config::config_revision(
        &station.home.environment_dir(&environment.name),
        config::in_force_hash(&files, &known_agents),
        git,
    )
    .await;
    let revision = revision_after(&plan, found.to_string(), environment.store.config_revision().await?);
    Ok(Looked { files, plan, revision, known })
}

async fn commit(station: &Station, environment: &Environment, looked: &Looked, audit: AuditEntry) -> Result<()> {
    let revision = looked.revision.clone();
    let mut changes = SyncChanges { config_revision: revision.clone(), ..SyncChanges::default() };
    for item in looked.plan.items.iter().filter(|item| item.kind == PlanKind::Agent) {
        let Ok(name) = Name::new(&item.name) else { continue };
        match item.action {
            PlanAction::Create | PlanAction::Update => changes.put.extend(agent_write(&looked.files, &name)),
            PlanAction::Delete => changes.delete.push(name),
            PlanAction::Error => {
                changes.broken.push((name, item.problem.as_ref().map(ToString::to_string).unwrap_or_default()));
            }
            PlanAction::Unchanged => {}
        }
    }
    let auto_accept = station.auto_accepts_commands(&environment.name);
    changes.servers = looked.servers().map(|server| server_put(server, auto_accept)).collect();
    changes.servers.extend(looked.unclear().map(unchanged));
    let audit = AuditEntry { config_revision: Some(revision), ..audit };
    environment.store.apply_sync(changes, audit).await
}

/// Files that are broken and change nothing else leave in force what was in force, and so its revision. So do files of which git says
/// nothing this time: whether it is quick or slow is no change of theirs.
fn revision_after(plan: &SyncPlan, found: String, before: Option<String>) -> String {
    let has = |wanted: &[PlanAction]| plan.items.iter().any(|item| wanted.contains(&item.action));
    let only_broken = has(&[PlanAction::Error]) && !has(&[PlanAction::Create, PlanAction::Update, PlanAction::Delete]);
    let same = |before: &String| only_broken || config::lacks_only_the_commit(&found, before);
    before.filter(same).unwrap_or(found)
}

fn agent_write(files: &EnvironmentFiles, name: &Name) -> Option<AgentWrite> {
    let agent = files.agents.iter().find(|agent| agent.name == *name)?;
    let definition = agent.definition.as_ref().ok()?.clone();
    let (revision, bytes, file) = (agent.revision.clone(), agent.bytes.clone(), agent.file.clone());
    Some(AgentWrite { definition, revision, bytes, file, expected: None })
}

fn server_put(server: &McpServerDefinition, auto_accept: bool) -> ServerPut {
    let (name, file) = (server.name.clone(), server.file.clone());
    ServerPut {
        name,
        file,
        hash: config::server_hash(server),
        command_hash: gateway::command_hash(server),
        auto_accept,
    }
}

/// What is known of a server stays as it is: an acceptance must not be lost over a typing error.
fn unchanged(row: &ServerRow) -> ServerPut {
    let ServerRow { name, file, hash, command_hash, .. } = row.clone();
    ServerPut { name, file, hash, command_hash, auto_accept: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_that_is_silent_this_time_changes_no_revision_and_a_changed_file_does() {
        let after = |found: &str, before: &str| {
            let plan = SyncPlan { items: Vec::new() };
            revision_after(&plan, found.to_owned(), Some(before.to_owned()))
        };
        assert_eq!(after("aaaaaaaaaaaa", "aaaaaaaaaaaa@cccccccccccc"), "aaaaaaaaaaaa@cccccccccccc");
        assert_eq!(after("aaaaaaaaaaaa@dddddddddddd", "aaaaaaaaaaaa@cccccccccccc"), "aaaaaaaaaaaa@dddddddddddd");
        assert_eq!(after("bbbbbbbbbbbb", "aaaaaaaaaaaa@cccccccccccc"), "bbbbbbbbbbbb");
    }
}
