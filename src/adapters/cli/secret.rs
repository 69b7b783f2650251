//! `stn secret set NAME`: the value comes from a prompt that doesn't show it, or from stdin, and never from the command line, which
//! everybody on the machine can read.

use super::failure::Failure;
use super::fields;
use super::output::Output;
use super::render;
use super::target::Target;
use super::terminal;
use crate::error::{Error, Result};
use crate::tools::ToolSpec;
use clap::{Arg, ArgMatches, Command};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::io::IsTerminal;

const AS_ARGUMENT: &str = "value-as-argument";
const AS_OPTION: &str = "value-as-option";

/// The command. What would be a value on the command line is known too, so that it can be refused with the reason.
pub(super) fn set_command(spec: &ToolSpec) -> Command {
    fields::command(spec, "set", &["value"])
        .arg(Arg::new(AS_ARGUMENT).hide(true).num_args(1..).allow_hyphen_values(true))
        .arg(Arg::new(AS_OPTION).long("value").hide(true).num_args(1))
        .after_help("The value is asked for at a terminal, without an echo, and else read from stdin: pass show token | stn secret set TOKEN")
}

/// Reads the value and sets it.
pub(super) async fn set(target: &Target, output: Output, matches: &ArgMatches, spec: &ToolSpec) -> Result<u8, Failure> {
    if [AS_ARGUMENT, AS_OPTION].iter().any(|id| matches.get_raw(id).is_some()) {
        let error = Error::invalid_input(
            "a secret's value doesn't go on the command line, which others on this machine can read",
        );
        let hint =
            "leave it out and type it when asked, or give it on stdin; change a value that has already been shown";
        return Err(error.hint(hint).field("value").into());
    }
    let mut input = fields::input(matches, spec)?;
    let name = input.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let value =
        if std::io::stdin().is_terminal() { terminal::hidden(&format!("value of {name}: "))? } else { from_stdin()? };
    if value.expose_secret().is_empty() {
        let error = Error::invalid_input(format!("no value for `{name}` was given")).field("value");
        return Err(error.hint(format!("pipe it in: `pass show token | stn secret set {name}`")).into());
    }
    input.insert("value".into(), value.expose_secret().into());
    render::show(output, spec.name, &target.call(spec.name, input).await?)?;
    Ok(0)
}

/// `failure` to show what the tool `name` has answered; where that was a new key, with what to do about one that nobody has seen.
pub(super) fn unseen(failure: Failure, name: &str, answer: &Value) -> Failure {
    let id = answer.get("id").and_then(Value::as_str).filter(|_| name == "api_key_create");
    let Some(id) = id else { return failure };
    let why = match &failure {
        Failure::Error(error) | Failure::Configuration(error) => error.message().to_owned(),
        Failure::ClosedPipe => "whoever read stdout has gone".to_owned(),
    };
    Error::unavailable(format!("{why}; the key `{id}` was made, and nobody has seen it"))
        .hint(format!("`stn api-key delete {id}` ends it; then make another one"))
        .into()
}

/// All of stdin, without one line break at its end: `echo` and editors add one.
fn from_stdin() -> Result<SecretString> {
    let text = zeroize::Zeroizing::new(fields::source("-")?);
    let without = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(SecretString::from(without))
}

/// Refuses `text` as the input of a tool that takes a secret, unless it only says where the input is.
pub(super) fn refuse_on_command_line(spec: &ToolSpec, text: &str) -> Result<()> {
    let takes_a_secret = spec.input.get("properties").and_then(Value::as_object).is_some_and(|properties| {
        properties.values().any(|schema| schema.get("writeOnly") == Some(&Value::Bool(true)))
    });
    if !takes_a_secret || text == "-" || text.starts_with('@') {
        return Ok(());
    }
    let command = spec.cli.map_or(spec.name, |cli| cli.verb);
    Err(Error::invalid_input(format!(
        "`{}` takes a secret, and a command line can be read by others on this machine",
        spec.name
    ))
    .hint(format!("use `stn {command}`, or give the JSON on stdin with `-`, or in a file with `@file`")))
}
