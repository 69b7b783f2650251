//! Plans: `call <tool> {json}` lines in the user's input.

use super::super::ToolDefinition;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The longest plan.
const MAX_STEPS: usize = 64;

/// What the input says about calls.
#[derive(Debug)]
pub(super) enum Plan<'a> {
    None,
    Steps(Vec<Step<'a>>),
    Broken(Problem),
}

/// One call of a plan.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) tool: &'a ToolDefinition,
    /// JSON text of an object, as it was written.
    pub(super) arguments: String,
}

/// Why a plan can't be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No tool, or more than one, has this name.
    Tool {
        line: usize,
        name: String,
    },
    Json {
        line: usize,
        reason: String,
    },
    TooLong,
}

/// Reads the plan in `text`. A line is part of one when it says `call` and then the name of a tool, or anything and a brace; so
/// "call me back" is prose.
pub(super) fn parse<'a>(text: &str, tools: &'a [ToolDefinition]) -> Plan<'a> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (current, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let Some((name, length)) = call_line(current, tools) else {
            rest = after;
            continue;
        };
        let Some(tool) = find(name, tools) else {
            return Plan::Broken(Problem::Tool { line, name: name.to_owned() });
        };
        // The arguments may go on over the next lines, so they are read from the rest of the text.
        match object(&rest[current.len() - length..]) {
            Ok((arguments, left)) => {
                steps.push(Step { tool, arguments });
                rest = left;
            }
            Err(reason) => return Plan::Broken(Problem::Json { line, reason }),
        }
        if steps.len() > MAX_STEPS {
            return Plan::Broken(Problem::TooLong);
        }
    }
    if steps.is_empty() { Plan::None } else { Plan::Steps(steps) }
}

/// The tool's name, and the length of what follows it on the line.
fn call_line<'t>(line: &'t str, tools: &[ToolDefinition]) -> Option<(&'t str, usize)> {
    let after = line.trim_start().strip_prefix("call ")?.trim_start();
    let end = after.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(after.len());
    let (name, arguments) = after.split_at(end);
    let arguments = arguments.trim_start();
    let is_call = arguments.starts_with('{') || (arguments.is_empty() && tools.iter().any(|tool| named(tool, name)));
    (is_call && !name.is_empty()).then_some((name, arguments.len()))
}

fn find<'a>(name: &str, tools: &'a [ToolDefinition]) -> Option<&'a ToolDefinition> {
    if let Some(tool) = tools.iter().find(|tool| tool.name == name) {
        return Some(tool);
    }
    let mut candidates = tools.iter().filter(|tool| named(tool, name));
    candidates.next().filter(|_| candidates.next().is_none())
}

fn named(tool: &ToolDefinition, name: &str) -> bool {
    tool.name == name || short_name(&tool.name) == name
}

/// The name without its server.
pub(super) fn short_name(name: &str) -> &str {
    name.split_once("__").map_or(name, |(_, short)| short)
}

/// The object that `text` begins with, as written, and what is left after its line.
fn object(text: &str) -> Result<(String, &str), String> {
    if !text.starts_with('{') {
        return Ok(("{}".to_owned(), text.split_once('\n').map_or("", |(_, after)| after)));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let raw = match values.next() {
        Some(Ok(raw)) => raw.get(),
        Some(Err(cause)) => return Err(format!("the JSON is malformed: {cause}")),
        None => return Err("the JSON is missing".to_owned()),
    };
    // A raw value is only skipped over; reading it finds what is wrong inside, such as a broken escape.
    serde_json::from_str::<Map<String, Value>>(raw).map_err(|cause| format!("the JSON is malformed: {cause}"))?;
    let (same_line, after) =
        text[values.byte_offset()..].split_once('\n').unwrap_or((&text[values.byte_offset()..], ""));
    match same_line.trim() {
        "" => Ok((raw.to_owned(), after)),
        extra => Err(format!("`{extra}` follows the JSON")),
    }
}
