//! `stn call TOOL JSON`: any tool of the station, by its name; and `stn tool call`, whose result may be an error of the tool.

use super::commands;
use super::failure::Failure;
use super::fields;
use super::outcome::FAILED;
use super::output::Output;
use super::render;
use super::secret;
use super::target::Target;
use crate::error::{Error, Result};
use crate::tools::{EnvironmentUse, ToolSpec};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

/// The command.
pub(super) fn command() -> Command {
    Command::new("call")
        .about("Call a tool of the station by its name")
        .long_about("Calls any tool of the station with a JSON object, and prints its output as JSON. For tools of attached servers: stn tool call.")
        .arg(Arg::new("tool").value_name("TOOL").required_unless_present("list").help("Such as agent_list"))
        .arg(Arg::new("input").value_name("JSON").help("The input, `-` for stdin, or @file; without it, {}"))
        .arg(
            Arg::new("list")
                .long("list")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["tool", "input"])
                .help("List the tools; with --json, with their input schemas"),
        )
}

/// Calls the tool, or lists all.
pub(super) async fn run(target: &Target, output: Output, matches: &ArgMatches) -> Result<u8, Failure> {
    if matches.get_flag("list") {
        let items: Vec<Value> = target.table().iter().map(|tool| listed(&tool.spec)).collect();
        render::show(output, "call", &json!({ "items": items, "next_cursor": null }))?;
        return Ok(0);
    }
    let tool = matches.get_one::<String>("tool").map(String::as_str).unwrap_or_default();
    commands::refuse_environment(target.spec(tool)?, matches)?;
    let input = match matches.get_one::<String>("input") {
        Some(text) => {
            secret::refuse_on_command_line(target.spec(tool)?, text)?;
            object(fields::json(text, "the input")?)?
        }
        None => Map::new(),
    };
    output.json(&target.call(tool, input).await?)?;
    Ok(0)
}

fn listed(spec: &ToolSpec) -> Value {
    json!({
        "name": spec.name,
        "title": spec.title,
        "description": spec.description,
        "scope": spec.scope.as_str(),
        "effect": spec.effect,
        "input_schema": spec.input_for(spec.environment == EnvironmentUse::None),
    })
}

fn object(input: Value) -> Result<Map<String, Value>> {
    match input {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::invalid_input("the input is not a JSON object").hint("write it like '{\"agent\": \"hello\"}'")),
    }
}

/// Shows the result of an attached tool: its text as it is, everything else as JSON. An error of the tool is no failure of the station.
pub(super) fn show_result(output: Output, result: &Value) -> Result<u8, Failure> {
    let blocks = result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if output.json || blocks.is_empty() {
        output.json(result)?;
    } else {
        for block in blocks {
            match (block.get("type").and_then(Value::as_str), block.get("text").and_then(Value::as_str)) {
                (Some("text"), Some(text)) => output.text(text)?,
                _ => output.json(block)?,
            }
        }
    }
    let failed = result.get("isError") == Some(&Value::Bool(true));
    if failed {
        output.note("the tool answered with an error");
    }
    Ok(if failed { FAILED } else { 0 })
}
