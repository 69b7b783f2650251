//! The sentences of the offline rules: plain, and only about what was called and what came back.

use super::super::{ToolCall, ToolDefinition, ToolResult};
use super::input::stems;
use super::plan::Problem;
use std::fmt::Write;

/// The most of one result that an answer repeats, in bytes.
const MAX_QUOTED: usize = 64 << 10;

/// The results, quoted. `planned` is how many calls were to be made, `better` commands that would have fitted better.
pub(super) fn of_results(calls: &[&ToolCall], results: &[&ToolResult], planned: usize, better: &[String]) -> String {
    let mut text = String::new();
    for result in results {
        let arguments = calls.iter().find(|call| call.id == result.call_id).map_or("", |call| call.arguments.as_str());
        let outcome = if result.is_error { "failed" } else { "returned" };
        let _infallible = write!(text, "`{}` was called with `{arguments}` and {outcome}", result.name);
        text.push_str(&quoted(&result.content));
        text.push_str("\n\n");
    }
    if calls.len() < planned {
        let _infallible = writeln!(text, "The plan ended there: {} of {planned} calls were made.\n", calls.len());
    }
    if !better.is_empty() {
        text.push_str("The words of the input fit this better, but a value is missing; give it as the input:\n\n");
        text.push_str(&block(better));
    }
    text.trim_end().to_owned()
}

pub(super) fn no_tools() -> String {
    "Nothing was called: this agent has no tools, and without a language model there is no other way to an answer."
        .to_owned()
}

pub(super) fn several_tools(commands: &[String]) -> String {
    format!(
        "Nothing was called: several tools fit the input equally well. Give one of these lines as the input:\n\n{}",
        block(commands)
    )
}

pub(super) fn several_values(commands: &[String]) -> String {
    format!(
        "Nothing was called: several values of the input could be meant. Give one of these lines as the input:\n\n{}",
        block(commands)
    )
}

pub(super) fn nothing_fits(commands: &[String]) -> String {
    format!(
        "Nothing was called: the input doesn't say which tool to call, or with what. These can be called by giving such a line as the \
         input:\n\n{}",
        block(commands)
    )
}

pub(super) fn changes_something(tool: &ToolDefinition, commands: &[String]) -> String {
    format!(
        "Nothing was called: `{}` fits the input, but it isn't known to change nothing, and such a tool is called only when \
         asked for exactly. Give this as the input:\n\n{}",
        tool.name,
        block(commands)
    )
}

pub(super) fn plan_refused() -> String {
    "Nothing was called: the input has `call` lines, and they are not obeyed here. They are followed only when a person \
     gives them directly, not from a schedule, a trigger or another run."
        .to_owned()
}

pub(super) fn plan_broken(problem: &Problem, tools: &[ToolDefinition]) -> String {
    let reason = match problem {
        Problem::Tool { line, name } => {
            format!("line {line} names `{name}`, which is no tool here, or more than one{}", nearest(name, tools))
        }
        Problem::Json { line, reason } => format!("on line {line}, {reason}"),
        Problem::TooLong => "the plan has too many calls".to_owned(),
    };
    format!("Nothing was called: {reason}.")
}

fn nearest(name: &str, tools: &[ToolDefinition]) -> String {
    let asked = stems(name);
    let shared = |tool: &&ToolDefinition| stems(&tool.name).intersection(&asked).count();
    let mut near: Vec<_> = tools.iter().filter(|tool| shared(tool) > 0).collect();
    near.sort_by_key(|tool| std::cmp::Reverse(shared(tool)));
    let names: Vec<_> = near.iter().take(3).map(|tool| format!("`{}`", tool.name)).collect();
    if names.is_empty() { String::new() } else { format!("; near it: {}", names.join(", ")) }
}

fn block(commands: &[String]) -> String {
    commands.iter().map(|command| format!("    {command}\n")).collect()
}

/// The text between fences longer than any run of backticks in it, so that it stands there as it came.
fn quoted(content: &str) -> String {
    if content.trim().is_empty() {
        return " nothing.".to_owned();
    }
    let mut end = content.len().min(MAX_QUOTED);
    while !content.is_char_boundary(end) {
        end -= 1;
    }
    let longest = content.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let shown = content[..end].trim_end_matches('\n');
    let left = content.len() - end;
    let cut = match left {
        0 => String::new(),
        1 => "\n(1 more byte is left out.)".to_owned(),
        left => format!("\n({left} more bytes are left out.)"),
    };
    format!(":\n\n{fence}\n{shown}\n{fence}{cut}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_can_not_be_left_by_what_it_quotes() {
        assert_eq!(quoted("a ```` b\n"), ":\n\n`````\na ```` b\n`````");
        assert_eq!(quoted(" \n"), " nothing.");
    }

    #[test]
    fn a_long_result_is_cut_at_a_character_and_says_so() {
        let content = "é".repeat(MAX_QUOTED);
        let text = quoted(&format!("x{content}"));
        assert!(text.ends_with("more bytes are left out.)") && text.len() < MAX_QUOTED + 100);
    }
}
