//! The tools of an environment, under the names by which they are called.

use super::effects::{Annotations, Speaker, effect};
use super::names::{full_name, glob_matches, nearest};
use crate::domain::{McpServerDefinition, Name, ToolEffect, check_schema_bounds, quoted};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tool of an attached server.
#[derive(Debug, Clone)]
pub struct CatalogTool {
    /// The full name, `<server>__<tool>` where it fits.
    pub name: String,
    pub server: Name,
    /// The server's own name for it.
    pub tool: String,
    pub title: Option<String>,
    pub description: Option<String>,
    pub input_schema: Value,
    /// As the server gave it, under its own name.
    pub definition: Box<RawValue>,
    pub effect: ToolEffect,
}

/// The part of a definition that Station reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    name: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// What is read out of the definitions of one server.
#[derive(Debug, Default)]
pub(super) struct ReadTools {
    /// Sorted by full name.
    pub(super) tools: Vec<Arc<CatalogTool>>,
    /// Which tools are left out because of their schemas, and why.
    pub(super) problem: Option<String>,
}

/// At most so many tools that are left out are told.
const TOLD: usize = 5;

/// Reads the definitions of one server. One that can't be read is left out and logged; of two with one name the first counts. One whose
/// schema can't be applied to arguments is left out too, and told.
pub(super) fn read_tools(server: &McpServerDefinition, speaker: Speaker, definitions: &[Box<RawValue>]) -> ReadTools {
    let mut tools: Vec<Arc<CatalogTool>> = Vec::with_capacity(definitions.len());
    let mut faulty: Vec<String> = Vec::new();
    for definition in definitions {
        let read: Definition = match serde_json::from_str(definition.get()) {
            Ok(read) => read,
            Err(cause) => {
                tracing::warn!(server = %server.name, %cause, "a tool definition can't be read");
                continue;
            }
        };
        if tools.iter().any(|tool| tool.tool == read.name) {
            continue;
        }
        if let Some(Err(fault)) = read.input_schema.as_ref().map(check_schema_bounds) {
            faulty.push(format!(
                "the tool {} is left out because of its inputSchema: {}",
                quoted(&read.name),
                fault.reason
            ));
            continue;
        }
        tools.push(Arc::new(CatalogTool {
            name: full_name(server.name.as_str(), &read.name),
            server: server.name.clone(),
            effect: effect(read.annotations.unwrap_or_default(), speaker, server.tools.get(&read.name).copied()),
            tool: read.name,
            title: read.title,
            description: read.description,
            input_schema: read.input_schema.filter(Value::is_object).unwrap_or_else(|| json!({ "type": "object" })),
            definition: definition.clone(),
        }));
    }
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    ReadTools { tools, problem: told(&faulty) }
}

fn told(faulty: &[String]) -> Option<String> {
    let more = faulty.len().saturating_sub(TOLD);
    let mut told = faulty.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        told.push_str(&format!("; and {more} more"));
    }
    (!faulty.is_empty()).then_some(told)
}

/// The tool with the full name `name` among sorted `tools`.
pub(super) fn find_tool<'a>(tools: &'a [Arc<CatalogTool>], name: &str) -> Option<&'a Arc<CatalogTool>> {
    tools.binary_search_by(|tool| tool.name.as_str().cmp(name)).ok().map(|at| &tools[at])
}

/// All tools known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Sorted by name, every name once.
    pub tools: Vec<Arc<CatalogTool>>,
}

/// A pattern that selects nothing, or not clearly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` {}", self.reason())]
pub struct UnmatchedPattern {
    pub pattern: String,
    /// `__tool` of several servers; otherwise nothing has this name.
    pub ambiguous: bool,
    /// What it may have meant.
    pub candidates: Vec<String>,
}

impl UnmatchedPattern {
    fn reason(&self) -> String {
        let candidates = self.candidates.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match (self.ambiguous, self.candidates.is_empty()) {
            (true, _) => format!("is the name of several tools: {candidates}"),
            (false, true) => "matches no tool".to_owned(),
            (false, false) => format!("matches no tool; did you mean {candidates}?"),
        }
    }
}

impl Catalog {
    /// Sorts `tools`. Two tools never share a name: full names are unique but for a collision of hashes, where one is dropped.
    pub(super) fn new(mut tools: Vec<Arc<CatalogTool>>) -> Self {
        tools.sort_by(|one, other| one.name.cmp(&other.name));
        tools.dedup_by(|later, first| later.name == first.name);
        Self { tools }
    }

    /// All of them, by full name.
    pub fn iter(&self) -> impl Iterator<Item = &CatalogTool> {
        self.tools.iter().map(Arc::as_ref)
    }

    /// The tool with this full name.
    pub fn find(&self, name: &str) -> Option<&CatalogTool> {
        find_tool(&self.tools, name).map(Arc::as_ref)
    }

    /// Up to three full names that look like `name`.
    pub fn near(&self, name: &str) -> Vec<String> {
        nearest(name, self.tools.iter().map(|tool| tool.name.as_str()))
    }

    /// The tools that any of `patterns` selects, in the order of the catalog: `server__tool` exactly, globs with `*`, and `__tool` where only
    /// one server has it. Every pattern has to select something.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<&CatalogTool>, Vec<UnmatchedPattern>> {
        let (mut selected, mut unmatched) = (BTreeMap::new(), Vec::new());
        for pattern in patterns {
            match self.matching(pattern) {
                Ok(found) => selected.extend(found.into_iter().map(|tool| (tool.name.as_str(), tool))),
                Err(problem) => unmatched.push(problem),
            }
        }
        if unmatched.is_empty() { Ok(selected.into_values().collect()) } else { Err(unmatched) }
    }

    fn matching(&self, pattern: &str) -> Result<Vec<&CatalogTool>, UnmatchedPattern> {
        let problem = |ambiguous, candidates| UnmatchedPattern { pattern: pattern.to_owned(), ambiguous, candidates };
        if let Some(tool) = self.find(pattern) {
            return Ok(vec![tool]);
        }
        let is_glob = pattern.contains('*');
        let tools = self.tools.iter().map(Arc::as_ref);
        let found: Vec<&CatalogTool> = match pattern.strip_prefix("__") {
            Some(tool) => tools.filter(|known| glob_matches(tool, &known.tool)).collect(),
            None if is_glob => tools.filter(|known| glob_matches(pattern, &known.name)).collect(),
            None => Vec::new(),
        };
        match found.len() {
            0 => Err(problem(false, self.near(pattern))),
            1 => Ok(found),
            _ if is_glob => Ok(found),
            _ => Err(problem(true, found.iter().map(|tool| tool.name.clone()).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ServerTransport;
    use crate::mcp::call::raw;

    fn server(name: &str) -> McpServerDefinition {
        McpServerDefinition {
            name: Name::new(name).unwrap(),
            file: "environments/development/servers.json".into(),
            transport: ServerTransport::Http { url: "http://127.0.0.1:1".into(), headers: BTreeMap::new() },
            target: Vec::new(),
            timeout_ms: None,
            disabled: false,
            tools: BTreeMap::new(),
        }
    }

    fn catalog(tools: &[(&str, &str)]) -> Catalog {
        let read = |&(owner, tool): &(&str, &str)| {
            read_tools(&server(owner), Speaker::Server, &[raw(&json!({ "name": tool }))]).tools.remove(0)
        };
        Catalog::new(tools.iter().map(read).collect())
    }

    fn names(selected: Result<Vec<&CatalogTool>, Vec<UnmatchedPattern>>) -> Vec<String> {
        selected.unwrap().into_iter().map(|tool| tool.name.clone()).collect()
    }

    #[test]
    fn patterns_select_exactly_by_glob_and_by_tool() {
        let catalog =
            catalog(&[("git", "log"), ("git", "show"), ("files", "search"), ("web", "search"), ("a", "b__c")]);
        let select = |patterns: &[&str]| catalog.select(&patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(select(&["git__*", "git__log", "__show"])), ["git__log", "git__show"]);
        assert_eq!(names(select(&["*__search"])), ["files__search", "web__search"]);
        assert_eq!(names(select(&["__b__c"])), ["a__b__c"]);
        assert_eq!(names(select(&["__s*"])), ["files__search", "git__show", "web__search"]);
        let problems = select(&["__search", "git__lag", "nothing__*"]).unwrap_err();
        assert_eq!(problems.len(), 3);
        assert!(problems[0].ambiguous && problems[0].candidates == ["files__search", "web__search"]);
        assert_eq!(problems[1].candidates, ["git__log"]);
        assert_eq!(problems[2].to_string(), "`nothing__*` matches no tool");
    }

    #[test]
    fn a_definition_is_kept_as_it_came_and_one_without_a_name_is_left_out() {
        let text = r#"{"name":"t","x-vendor":1.0,"inputSchema":{"b":1,"a":2}}"#;
        let definition = RawValue::from_string(text.to_owned()).unwrap();
        let tools = read_tools(&server("s"), Speaker::Server, &[definition, raw(&json!({ "noName": 1 }))]).tools;
        assert_eq!(tools.len(), 1);
        assert_eq!((tools[0].name.as_str(), tools[0].definition.get()), ("s__t", text));
    }

    #[test]
    fn a_tool_whose_schema_no_argument_can_be_checked_with_is_left_out_and_told_and_no_other() {
        let defs: serde_json::Map<String, Value> =
            (0..3_000).map(|at| (format!("d{at}"), json!({ "$ref": format!("#/$defs/d{}", at + 1) }))).collect();
        let schema = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/d0" } }, "$defs": defs });
        let definitions = [raw(&json!({ "name": "boom", "inputSchema": schema })), raw(&json!({ "name": "good" }))];
        let read = read_tools(&server("s"), Speaker::Server, &definitions);
        assert_eq!(read.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["s__good"]);
        let problem = read.problem.unwrap();
        assert!(problem.contains("`boom`") && problem.contains("more than 64"), "{problem}");
    }
}
