//! Who may call whom: child agents have to exist, and no chain of calls may come back to its beginning.

use super::environment::{AgentFile, slug};
use super::prompt::problem_of;
use crate::domain::{AgentDefinition, Name, nearest, quoted};
use std::collections::BTreeMap;

/// Agents with their children.
pub type ChildAgents = BTreeMap<Name, Vec<Name>>;

/// What is wrong with an agent's children.
#[derive(Debug, PartialEq, Eq)]
pub struct ChildFault {
    pub reason: String,
    pub hint: Option<String>,
}

/// What is wrong with the children of `agent`, one of `all`.
pub fn check_children(agent: &Name, all: &ChildAgents) -> Result<(), ChildFault> {
    let own = all.get(agent).map(Vec::as_slice).unwrap_or_default();
    if let Some(missing) = own.iter().find(|child| !all.contains_key(*child)) {
        let meant = nearest(missing.as_str(), all.keys().map(Name::as_str));
        let hint = meant.map_or_else(
            || "create that agent first, or take it out of `agents`".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        return Err(ChildFault {
            reason: format!("agent {} doesn't exist", quoted(missing.as_str())),
            hint: Some(hint),
        });
    }
    match way_back(agent, all) {
        None => Ok(()),
        Some(chain) => {
            let chain: Vec<&str> = chain.iter().map(|name| name.as_str()).collect();
            let reason = format!("agents can't call each other in a circle: {}", chain.join(" -> "));
            Err(ChildFault {
                reason,
                hint: Some("take one of them out of the `agents` of the one before it".to_owned()),
            })
        }
    }
}

/// How the Go Station begins the tool that calls an agent.
const AGENT_TOOL: &str = "__agent_";

/// What follows [`AGENT_TOOL`] for an agent of this name: there, whatever is no letter and no digit counts as `_`.
fn tool_name(name: &str) -> String {
    let mut found = String::new();
    for c in slug(name).chars().map(|c| if c == '-' { '_' } else { c }) {
        if c != '_' || !found.ends_with('_') {
            found.push(c);
        }
    }
    found
}

/// Whether the agent calls others, or has tools that may mean so.
pub fn calls_agents(definition: &AgentDefinition) -> bool {
    !definition.agents.is_empty() || definition.tools.iter().any(|tool| tool.starts_with(AGENT_TOOL))
}

/// Takes the Go Station's tools that call agents (`__agent_log_reader`) for what they mean: children. Answers those that stay tools because
/// they don't mean exactly one of `names`, each with the reason.
pub fn take_up_agent_tools<'a>(
    definition: &mut AgentDefinition,
    names: impl Iterator<Item = &'a Name> + Clone,
) -> Vec<(String, String)> {
    let mut unclear = Vec::new();
    for tool in definition.tools.iter().filter(|tool| tool.starts_with(AGENT_TOOL)) {
        let meant = tool_name(&tool[AGENT_TOOL.len()..]);
        let found: Vec<&Name> = names.clone().filter(|name| tool_name(name.as_str()) == meant).collect();
        match found.as_slice() {
            [one] if definition.agents.contains(one) => {}
            [one] => definition.agents.push((*one).clone()),
            [] => unclear.push((tool.clone(), format!("{} means no agent of this environment", quoted(tool)))),
            several => {
                let several: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                let reason = format!("{} may mean any of {}", quoted(tool), several.join(", "));
                unclear.push((tool.clone(), reason));
            }
        }
    }
    definition.tools.retain(|tool| !tool.starts_with(AGENT_TOOL) || unclear.iter().any(|(stays, _)| stays == tool));
    unclear
}

/// The shortest chain of calls from `agent` to itself.
fn way_back<'a>(agent: &'a Name, all: &'a ChildAgents) -> Option<Vec<&'a Name>> {
    let mut came_from: BTreeMap<&Name, &Name> = BTreeMap::new();
    let mut next = std::collections::VecDeque::from([agent]);
    while let Some(caller) = next.pop_front() {
        for child in all.get(caller).into_iter().flatten() {
            if child == agent {
                let mut chain = vec![agent, caller];
                while let Some(before) =
                    chain.last().filter(|last| **last != agent).and_then(|last| came_from.get(*last))
                {
                    chain.push(before);
                }
                chain.reverse();
                return Some(chain);
            }
            if !came_from.contains_key(child) {
                came_from.insert(child, caller);
                next.push_back(child);
            }
        }
    }
    None
}

/// Marks the files whose children are wrong. A file that is broken itself is still there to be called: its last good revision may run.
pub(super) fn check_files(agents: &mut BTreeMap<Name, AgentFile>) {
    let names: Vec<Name> = agents.keys().cloned().collect();
    for file in agents.values_mut() {
        let Ok(definition) = &mut file.definition else { continue };
        for (tool, reason) in take_up_agent_tools(definition, names.iter()) {
            let hint = Some("name the agent under `agents`".to_owned());
            file.warnings.push(problem_of(&file.file, &file.bytes, "tools", Some(&tool), &reason, hint).warning());
        }
    }
    let children = |file: &AgentFile| file.definition.as_ref().map(|agent| agent.agents.clone()).unwrap_or_default();
    let all: ChildAgents = agents.iter().map(|(name, file)| (name.clone(), children(file))).collect();
    for (name, file) in agents.iter_mut().filter(|(_, file)| file.definition.is_ok()) {
        if let Err(fault) = check_children(name, &all) {
            file.definition = Err(problem_of(&file.file, &file.bytes, "agents", None, &fault.reason, fault.hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pairs: &[(&str, &[&str])]) -> ChildAgents {
        let name = |text: &&str| Name::new(text).unwrap();
        pairs.iter().map(|(agent, children)| (name(agent), children.iter().map(name).collect())).collect()
    }

    fn fault(agent: &str, all: &ChildAgents) -> Option<String> {
        check_children(&Name::new(agent).unwrap(), all).err().map(|fault| fault.reason)
    }

    #[test]
    fn a_circle_is_told_as_the_chain_that_comes_back() {
        let graph = all(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &["a"]), ("d", &["d"]), ("e", &["a"]), ("f", &[])]);
        assert!(fault("a", &graph).unwrap().ends_with(": a -> c -> a"));
        assert!(fault("b", &graph).unwrap().ends_with(": b -> c -> a -> b"));
        assert!(fault("d", &graph).unwrap().ends_with(": d -> d"));
        assert_eq!((fault("e", &graph), fault("f", &graph)), (None, None), "they are on no circle themselves");
    }

    #[test]
    fn a_child_that_does_not_exist_is_told_with_the_one_that_was_meant() {
        let graph = all(&[("a", &["sumarizer"]), ("summarizer", &[])]);
        let wrong = check_children(&Name::new("a").unwrap(), &graph).unwrap_err();
        assert_eq!(wrong.reason, "agent `sumarizer` doesn't exist");
        assert_eq!(wrong.hint.as_deref(), Some("did you mean `summarizer`?"));
    }
}
