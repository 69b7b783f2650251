//! `stn config`: a check ends with 78 where there are errors, also where no station can start because of them; a schema is printed alone,
//! so that it can be put into a file.

use super::failure::{Failure, MISCONFIGURED};
use super::fields;
use super::output::Output;
use super::render;
use super::target::Target;
use crate::config::{FileProblem, Severity};
use crate::domain::counted;
use crate::error::Error;
use crate::tools::ToolSpec;
use clap::{ArgMatches, Command};
use serde_json::Value;

/// The command of `config_check`.
pub(super) fn check_command(spec: &ToolSpec) -> Command {
    fields::command(spec, "check", &[]).after_help("Ends with 78 when there are errors; warnings alone end with 0.")
}

/// Checks, shows what is wrong in the way of compilers, and ends with 78 when there are errors.
pub(super) async fn check(
    target: &Target,
    output: Output,
    matches: &ArgMatches,
    spec: &ToolSpec,
) -> Result<u8, Failure> {
    let report = target.check_config(spec, fields::input(matches, spec)?).await?;
    let count = |field: &str| report.get(field).and_then(Value::as_u64).unwrap_or_default();
    let (errors, warnings) = (count("errors"), count("warnings"));
    if output.json {
        output.json(&report)?;
    } else {
        let problems: Vec<FileProblem> = serde_json::from_value(report.get("problems").cloned().unwrap_or_default())
            .map_err(|cause| {
                Error::unavailable("the station answered with something that is no report").source(cause)
            })?;
        if !problems.is_empty() {
            output.text(&problems.iter().map(told).collect::<Vec<_>>().join("\n"))?;
        }
        let read = match report.get("read").and_then(Value::as_array).map_or(0, Vec::len) {
            1 => "1 file or variable".to_owned(),
            read => format!("{read} files and variables"),
        };
        let (errors, warnings) = (counted(errors, "error"), counted(warnings, "warning"));
        output.note(format_args!("read {read}: {errors}, {warnings}"));
    }
    Ok(if errors > 0 { MISCONFIGURED } else { 0 })
}

/// `station.yml:4:3: error: ...`, with the fix below it.
fn told(problem: &FileProblem) -> String {
    let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
    let line = format!("{}: {severity}: {}", problem.place(), problem.message);
    match &problem.hint {
        Some(hint) => format!("{line}\n  hint: {hint}"),
        None => line,
    }
}

/// Shows the settings in force, or nothing but the schema that was asked for.
pub(super) async fn get(target: &Target, output: Output, matches: &ArgMatches, spec: &ToolSpec) -> Result<u8, Failure> {
    let mut answer = target.call(spec.name, fields::input(matches, spec)?).await?;
    if let Some(schema) = answer.get("schema").filter(|schema| !schema.is_null()) {
        output.json(schema)?;
        return Ok(0);
    }
    if output.json {
        output.json(&answer)?;
        return Ok(0);
    }
    let changed = answer.as_object_mut().and_then(|answer| answer.remove("station_yml_changed"));
    render::show(output, spec.name, &answer)?;
    if let Some(note) = changed.as_ref().and_then(Value::as_str) {
        output.note(format_args!("warning: {note}"));
    }
    Ok(0)
}
