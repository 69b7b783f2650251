//! `stn sync`: takes up what the files say, in one environment or in all.

use super::commands;
use super::failure::Failure;
use super::fields;
use super::outcome::FAILED;
use super::output::Output;
use super::render;
use super::target::Target;
use crate::error::Error;
use crate::tools::ToolSpec;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

/// The command.
pub(super) fn command(spec: &ToolSpec) -> Command {
    fields::command(spec, "sync", &[])
        .arg(
            Arg::new("all")
                .long("all")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["environment", commands::ENVIRONMENT])
                .help("Every environment, one after the other"),
        )
        .after_help("Ends with 1 when a file could not be taken up.")
}

/// Syncs, shows what happened, and ends with 1 when something in the files is broken.
pub(super) async fn run(target: &Target, output: Output, matches: &ArgMatches, spec: &ToolSpec) -> Result<u8, Failure> {
    let input = fields::input(matches, spec)?;
    if matches.get_flag("all")
        && let Some(environment) = commands::flag(matches, commands::ENVIRONMENT)
    {
        // Clap sees the conflict only where both stand behind the command's name.
        let message = format!("`--all` and `-e {environment}` don't go together");
        return Err(Error::invalid_input(message).hint("give only one of them").field("environment").into());
    }
    if !matches.get_flag("all") {
        let synced = target.call(spec.name, input).await?;
        show(output, spec, &synced)?;
        return Ok(code(&synced));
    }
    let mut all = Vec::new();
    for environment in environments(target).await? {
        let mut input = input.clone();
        input.insert("environment".into(), environment.into());
        all.push(target.call(spec.name, input).await?);
    }
    let code = all.iter().map(code).max().unwrap_or_default();
    if output.json {
        output.json(&Value::Array(all))?;
    } else {
        for synced in &all {
            show(output, spec, synced)?;
        }
    }
    Ok(code)
}

fn show(output: Output, spec: &ToolSpec, synced: &Value) -> Result<(), Failure> {
    if output.json {
        return output.json(synced);
    }
    let mut shown = synced.clone();
    let items = shown.get_mut("items").and_then(Value::as_array_mut);
    // What is no agent and no server has no name, only a file.
    let files = items.into_iter().flatten().filter(|item| item.get("kind").is_some_and(|kind| kind == "file"));
    files.filter_map(|item| item.get_mut("name")).for_each(|name| *name = Value::Null);
    let note = shown.as_object_mut().and_then(|shown| shown.remove("station_yml_changed"));
    render::show(output, spec.name, &shown)?;
    if let Some(note) = note.as_ref().and_then(Value::as_str) {
        output.note(format_args!("warning: {note}"));
    }
    Ok(())
}

async fn environments(target: &Target) -> Result<Vec<String>, Failure> {
    let list = target.call("environment_list", Map::from_iter([("limit".to_owned(), 200.into())])).await?;
    let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names: Option<Vec<String>> = items.iter().map(|item| item.get("name")?.as_str().map(str::to_owned)).collect();
    Ok(names.ok_or_else(|| Error::unavailable("the station's list of environments can't be read"))?)
}

fn code(synced: &Value) -> u8 {
    let items = synced.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let broken = items.iter().any(|item| item.get("action").is_some_and(|action| action == "error"));
    if broken { FAILED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_broken_file_makes_the_exit_code_1() {
        assert_eq!(code(&json!({ "items": [{ "action": "create" }] })), 0);
        assert_eq!(code(&json!({ "items": [{ "action": "create" }, { "action": "error" }] })), FAILED);
    }
}
