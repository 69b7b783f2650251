//! Who may call whom: child agents have to exist, and no chain of calls may come back to its beginning.

use super::environment::AgentFile;
use super::prompt::agents_problem;
use crate::domain::{Name, nearest};
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
        return Err(ChildFault { reason: format!("agent `{missing}` doesn't exist"), hint: Some(hint) });
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
    let children = |file: &AgentFile| file.definition.as_ref().map(|agent| agent.agents.clone()).unwrap_or_default();
    let all: ChildAgents = agents.iter().map(|(name, file)| (name.clone(), children(file))).collect();
    for (name, file) in agents.iter_mut().filter(|(_, file)| file.definition.is_ok()) {
        if let Err(fault) = check_children(name, &all) {
            file.definition = Err(agents_problem(&file.file, &file.bytes, &fault.reason, fault.hint));
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
