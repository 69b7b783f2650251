//! What a sync would do: the files compared with what the store knows. Pure, so that a dry run and a real one show the same plan.

use super::environment::EnvironmentFiles;
use super::problem::FileProblem;
use super::servers::server_hash;
use crate::domain::{AgentState, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the store knows of an agent.
#[derive(Debug, Clone)]
pub struct KnownAgent {
    pub name: Name,
    /// Of the definition in force.
    pub revision: String,
    pub state: AgentState,
    pub file: String,
    /// The children of the definition in force, which may follow from other files than its own.
    pub agents: Vec<Name>,
}

/// What the store knows of an MCP server.
#[derive(Debug, Clone)]
pub struct KnownServer {
    pub name: Name,
    /// As [`server_hash`] makes it.
    pub hash: String,
    pub file: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    Agent,
    McpServer,
    /// A file that belongs to no agent and no server, or couldn't be told to.
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    Create,
    Update,
    Delete,
    Unchanged,
    /// Nothing is changed; the last good revision stays in force.
    Error,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanItem {
    pub kind: PlanKind,
    pub name: String,
    pub action: PlanAction,
    pub file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<FileProblem>,
    /// What is in force, and has no effect or another one than its writer may expect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<FileProblem>,
}

/// Everything that a sync of one environment would do, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncPlan {
    pub items: Vec<PlanItem>,
}

/// Compares `files` with what the store knows.
pub fn plan(files: &EnvironmentFiles, agents: &[KnownAgent], servers: &[KnownServer]) -> SyncPlan {
    let mut items = Vec::new();
    plan_agents(files, agents, &mut items);
    plan_servers(files, servers, &mut items);
    for problem in &files.problems {
        items.push(item(PlanKind::File, &problem.file, PlanAction::Error, &problem.file, Some(problem)));
    }
    for warning in &files.warnings {
        let item = item(PlanKind::File, &warning.file, PlanAction::Unchanged, &warning.file, None);
        items.push(PlanItem { warnings: vec![warning.clone()], ..item });
    }
    items.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    SyncPlan { items }
}

fn plan_agents(files: &EnvironmentFiles, known: &[KnownAgent], items: &mut Vec<PlanItem>) {
    let mut known: BTreeMap<&Name, &KnownAgent> = known.iter().map(|agent| (&agent.name, agent)).collect();
    for agent in &files.agents {
        let before = known.remove(&agent.name);
        let action = match (&agent.definition, before) {
            (Err(_), _) => PlanAction::Error,
            (Ok(_), None) => PlanAction::Create,
            (Ok(definition), Some(before))
                if before.revision == agent.revision
                    && before.agents == definition.agents
                    && before.file == agent.file
                    && before.state != AgentState::Error =>
            {
                PlanAction::Unchanged
            }
            (Ok(_), Some(_)) => PlanAction::Update,
        };
        let item = item(PlanKind::Agent, agent.name.as_str(), action, &agent.file, agent.definition.as_ref().err());
        items.push(PlanItem { warnings: agent.warnings.clone(), ..item });
    }
    for gone in known.into_values() {
        // While their directory can't be read, nobody knows whether its file is still there.
        let unread = files.agents_unread.as_ref();
        let action = if unread.is_some() { PlanAction::Error } else { PlanAction::Delete };
        items.push(item(PlanKind::Agent, gone.name.as_str(), action, &gone.file, unread));
    }
}

fn plan_servers(files: &EnvironmentFiles, known: &[KnownServer], items: &mut Vec<PlanItem>) {
    let mut known: BTreeMap<&Name, &KnownServer> = known.iter().map(|server| (&server.name, server)).collect();
    for server in &files.servers {
        let before = known.remove(&server.name);
        let action = match (&server.definition, before) {
            (Err(_), _) => PlanAction::Error,
            (Ok(_), None) => PlanAction::Create,
            (Ok(definition), Some(before)) if before.hash == server_hash(definition) => PlanAction::Unchanged,
            (Ok(_), Some(_)) => PlanAction::Update,
        };
        let problem = server.definition.as_ref().err();
        items.push(item(PlanKind::McpServer, server.name.as_str(), action, &server.file, problem));
    }
    for gone in known.into_values() {
        // While its file can't be read, nobody knows whether the server is still in it.
        let unread = files.problems.iter().find(|problem| problem.file == gone.file);
        let action = if unread.is_some() { PlanAction::Error } else { PlanAction::Delete };
        items.push(item(PlanKind::McpServer, gone.name.as_str(), action, &gone.file, unread));
    }
}

fn item(kind: PlanKind, name: &str, action: PlanAction, file: &str, problem: Option<&FileProblem>) -> PlanItem {
    PlanItem {
        kind,
        name: name.to_owned(),
        action,
        file: file.to_owned(),
        problem: problem.cloned(),
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::placeholder::VariableScope;
    use super::super::servers::parse_servers;
    use super::super::{AgentFile, parse_prompt, revision_of};
    use super::*;

    fn agent(name: &str, text: &str) -> AgentFile {
        let (name, file, bytes) = (Name::new(name).unwrap(), format!("agents/{name}.prompt"), text.as_bytes().to_vec());
        let definition = parse_prompt(&name, &file, &bytes);
        AgentFile {
            revision: revision_of(&bytes),
            name,
            file,
            bytes,
            definition,
            further: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn known(agent: &AgentFile, state: AgentState) -> KnownAgent {
        KnownAgent {
            name: agent.name.clone(),
            revision: agent.revision.clone(),
            state,
            file: agent.file.clone(),
            agents: Vec::new(),
        }
    }

    fn files(agents: Vec<AgentFile>, servers: &str) -> EnvironmentFiles {
        let none = BTreeMap::new();
        let parsed = parse_servers("s.json", servers, &VariableScope { process: &none, file: Ok(&none) });
        EnvironmentFiles {
            warnings: Vec::new(),
            agents,
            agents_unread: None,
            servers: parsed.servers,
            problems: parsed.problems,
            variables: Ok(BTreeMap::new()),
            read: Vec::new(),
            hash_without_agents: String::new(),
        }
    }

    fn actions(plan: &SyncPlan) -> Vec<(&str, PlanAction)> {
        plan.items.iter().map(|item| (item.name.as_str(), item.action)).collect()
    }

    #[test]
    fn agents_are_created_updated_deleted_kept_and_reported() {
        let same = agent("same", "---\n---\na");
        let healed = agent("healed", "---\n---\na");
        let changed = agent("changed", "---\n---\nb");
        let knowns = [
            known(&same, AgentState::Paused),
            known(&healed, AgentState::Error),
            KnownAgent { revision: "old".into(), ..known(&changed, AgentState::Ok) },
            known(&agent("gone", ""), AgentState::Ok),
            known(&agent("broken", ""), AgentState::Ok),
        ];
        let broken = agent("broken", "---\nmodle: x\n---\n");
        let found = plan(&files(vec![same, healed, changed, agent("new", "---\n---\n"), broken], "{}"), &knowns, &[]);
        let expected = [
            ("broken", PlanAction::Error),
            ("changed", PlanAction::Update),
            ("gone", PlanAction::Delete),
            ("healed", PlanAction::Update),
            ("new", PlanAction::Create),
            ("same", PlanAction::Unchanged),
        ];
        assert_eq!(actions(&found), expected);
        assert_eq!(found.items[0].problem.as_ref().and_then(|problem| problem.line), Some(2));
    }

    #[test]
    fn servers_are_compared_by_what_they_say() {
        let files = files(
            Vec::new(),
            "{ \"servers\": { \"a\": { \"url\": \"https://a\" }, \"b\": { \"url\": \"https://b\" } } }",
        );
        let hash = server_hash(files.servers[0].definition.as_ref().unwrap());
        let server = |name: &str, hash: &str| KnownServer {
            name: Name::new(name).unwrap(),
            hash: hash.into(),
            file: "s.json".into(),
        };
        let found = plan(&files, &[], &[server("a", &hash), server("b", "old"), server("c", "x")]);
        assert_eq!(
            actions(&found),
            [("a", PlanAction::Unchanged), ("b", PlanAction::Update), ("c", PlanAction::Delete)]
        );
    }

    #[test]
    fn a_server_of_an_unreadable_file_is_never_deleted() {
        let server = KnownServer { name: Name::new("a").unwrap(), hash: "x".into(), file: "s.json".into() };
        let found = plan(&files(Vec::new(), "{ nonsense"), &[], &[server]);
        assert_eq!(actions(&found), [("a", PlanAction::Error), ("s.json", PlanAction::Error)]);
    }
}
