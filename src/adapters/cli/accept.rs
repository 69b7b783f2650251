//! `stn mcp-server accept`: shows a command, asks, and accepts exactly what was shown.

use super::failure::Failure;
use super::fields;
use super::outcome::FAILED;
use super::output::Output;
use super::render;
use super::target::Target;
use crate::error::{Error, Result};
use crate::tools::ToolSpec;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use std::io::{self, BufRead, IsTerminal, Write};

/// The hash of no command.
const UNSEEN: &str = "-";

/// The command.
pub(super) fn command(spec: &ToolSpec) -> Command {
    fields::command(spec, "accept", &["command_hash"]).arg(
        Arg::new("yes").long("yes").short('y').action(ArgAction::SetTrue).help("Accept what is shown without asking"),
    )
}

/// Shows the command on stderr, asks there, and accepts.
pub(super) async fn run(target: &Target, output: Output, matches: &ArgMatches, spec: &ToolSpec) -> Result<u8, Failure> {
    let mut input = fields::input(matches, spec)?;
    let server = target.call("mcp_server_get", input.clone()).await?;
    let name = server.get("name").and_then(Value::as_str).unwrap_or_default();
    let environment = server.get("environment").and_then(Value::as_str).unwrap_or_default();
    if server.get("transport").is_none_or(Value::is_null) {
        let problem = server.get("problem").and_then(Value::as_str).unwrap_or("its definition can't be read");
        let error = Error::unavailable(format!("MCP server `{name}`: {problem}")).field("server");
        return Err(error.hint("correct its file, then `stn sync`").into());
    }
    let Some(hash) = server.get("command_hash").and_then(Value::as_str) else {
        let message = format!("MCP server `{name}` is no command: there is nothing to accept");
        return Err(Error::conflict(message).field("server").into());
    };
    let Some(command) = server.get("command").filter(|command| !command.is_null()) else {
        // Who may not see the command may not accept it. That is the station's to say, and to record; without a hash nothing is accepted.
        input.insert("command_hash".into(), UNSEEN.into());
        target.call(spec.name, input).await?;
        let message = format!("the command of MCP server `{name}` was not shown, and so nothing was accepted");
        return Err(Error::permission_denied(message).hint("try again").into());
    };
    output
        .always(format_args!("MCP server `{name}` in environment `{environment}` wants to run this on your machine:"));
    for line in lines(command) {
        output.always(line);
    }
    if !matches.get_flag("yes") && !ask(name)? {
        output.always("not accepted");
        return Ok(FAILED);
    }
    input.insert("command_hash".into(), hash.into());
    let accepted = target.call(spec.name, input).await?;
    render::show(output, spec.name, &accepted)?;
    Ok(0)
}

/// All that is accepted: one argument a line, quoted so that blanks and line breaks show, then the directory and the variables' names.
fn lines(command: &Value) -> Vec<String> {
    let texts = |key: &str| {
        let list = command.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(|text| format!("{text:?}")).collect::<Vec<_>>()
    };
    let mut lines: Vec<String> = texts("argv").into_iter().map(|argument| format!("  {argument}")).collect();
    lines.extend(command.get("cwd").and_then(Value::as_str).map(|cwd| format!("in the directory {cwd:?}")));
    lines.extend(
        Some(texts("env").join(", ")).filter(|env| !env.is_empty()).map(|env| format!("with the variables {env}")),
    );
    lines
}

fn ask(server: &str) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::invalid_input(format!(
            "accepting the command of `{server}` needs a person, and there is no terminal to ask on"
        ))
        .hint("read the command above, then repeat this with --yes"));
    }
    let mut stderr = io::stderr();
    let _unread = write!(stderr, "Accept it? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|cause| Error::invalid_input(format!("can't read the answer: {cause}")))?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_quoted_so_that_nothing_hides_in_them() {
        let mut command = json!({ "argv": ["sh", "-c", "echo a\n\u{1b}[2Jb"], "cwd": null, "env": [] });
        let argv = [r#"  "sh""#, r#"  "-c""#, r#"  "echo a\n\u{1b}[2Jb""#];
        assert_eq!(lines(&command), argv);
        command["cwd"] = json!("tools");
        command["env"] = json!(["LD_PRELOAD", "TOKEN"]);
        let rest = [r#"in the directory "tools""#, r#"with the variables "LD_PRELOAD", "TOKEN""#];
        assert_eq!(lines(&command), [&argv[..], &rest].concat());
    }

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("YES"));
        assert!(!is_yes("\n") && !is_yes("yeah"));
    }
}
