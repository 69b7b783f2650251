//! The command tree: what only the command line has by hand, every tool's command from its spec.

use super::{accept, call, fields, init, run, serve, stdio, sync};
use crate::domain::nearest;
use crate::tools::ToolSpec;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The nouns, in the order of the help.
const NOUNS: [(&str, &str); 5] = [
    ("agent", "Agents: prompts with a model, tools and limits"),
    ("run", "Runs: executions of agents"),
    ("environment", "Environments: units of isolation"),
    ("mcp-server", "Attached MCP servers"),
    ("tool", "Tools of attached MCP servers"),
];

/// Commands that need no tool of the table to be parsed.
pub(super) const WITHOUT_TOOLS: [&str; 4] = ["init", "serve", "daemon", "stdio"];

/// Ids of the flags that every command takes; no field of a tool can be called like that.
pub(super) const ENVIRONMENT: &str = "--environment";
const JSON: &str = "--json";
const QUIET: &str = "--quiet";
const URL: &str = "--url";
const KEY: &str = "--key";

/// The flags that every command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) environment: Option<String>,
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) url: Option<String>,
    pub(super) key: Option<String>,
}

impl Options {
    /// What the flags say, else the variables `STN_ENVIRONMENT`, `STN_URL` and `STN_KEY`.
    pub(super) fn read(matches: &ArgMatches, variables: &BTreeMap<String, String>) -> Self {
        let given = |id: &str, variable: &str| {
            let set = || variables.get(variable).filter(|value| !value.is_empty());
            matches.get_one::<String>(id).or_else(set).cloned()
        };
        Self {
            environment: given(ENVIRONMENT, "STN_ENVIRONMENT"),
            json: matches.get_flag(JSON),
            quiet: matches.get_flag(QUIET),
            url: given(URL, "STN_URL"),
            key: given(KEY, "STN_KEY"),
        }
    }
}

/// `stn`, with a command for each of `specs` that names one.
pub(super) fn tree<'a>(specs: impl Iterator<Item = &'a ToolSpec>) -> Command {
    let mut nouns: Vec<Command> = Vec::new();
    let mut short: Vec<Command> = Vec::new();
    for spec in specs {
        let Some(cli) = spec.cli else { continue };
        match cli.verb.split_once(' ') {
            Some((noun, verb)) => {
                let leaf = of_tool(spec, verb);
                match nouns.iter().position(|command| command.get_name() == noun) {
                    Some(at) => nouns[at] = std::mem::take(&mut nouns[at]).subcommand(leaf),
                    None => nouns.push(self::noun(noun).subcommand(leaf)),
                }
            }
            None => short.push(of_tool(spec, cli.verb)),
        }
    }
    if let Some(run) = nouns.iter_mut().find(|command| command.get_name() == "run") {
        *run = std::mem::take(run).subcommand(run::watch_command());
    }
    short.sort_by(|one, other| one.get_name().cmp(other.get_name()));
    nouns.sort_by_key(|command| NOUNS.iter().position(|(noun, _)| *noun == command.get_name()));
    Command::new("stn")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Station: a self-hosted runtime for AI agents whose core is an MCP server")
        .after_help("Data goes to stdout, everything else to stderr. The home is $STN_HOME, else ~/.config/station.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .infer_long_args(false)
        .args(global_flags())
        .subcommands([init::command(), serve::command(), stdio::command()])
        .subcommands(short)
        .subcommand(call::command())
        .subcommands(nouns)
}

/// The command that was probably meant, where clap finds none that is close enough: it wants more likeness than a short word has.
pub(super) fn meant(tree: &Command, args: &[OsString], error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let words = args.iter().filter_map(|arg| arg.to_str());
    let at = words.fold(tree, |at, word| at.find_subcommand(word).unwrap_or(at));
    nearest(word, at.get_subcommands().map(Command::get_name)).map(str::to_owned)
}

fn of_tool(spec: &ToolSpec, verb: &'static str) -> Command {
    match spec.name {
        "agent_run" => run::agent_run_command(spec),
        "mcp_server_accept" => accept::command(spec),
        "environment_sync" => sync::command(spec),
        _ => fields::command(spec, verb, &[]),
    }
}

fn noun(name: &'static str) -> Command {
    let about = NOUNS.iter().find(|(noun, _)| *noun == name).map(|(_, about)| *about);
    Command::new(name).about(about.unwrap_or_default()).subcommand_required(true).arg_required_else_help(true)
}

fn global_flags() -> [Arg; 5] {
    let text = |id: &'static str, name: &'static str| Arg::new(id).long(name).global(true).help_heading("Everywhere");
    let flag = |id: &'static str, name: &'static str| text(id, name).action(ArgAction::SetTrue);
    [
        text(ENVIRONMENT, "environment")
            .short('e')
            .value_name("ENV")
            .help("The environment to act in [env: STN_ENVIRONMENT]"),
        flag(JSON, "json").help("Print data, and errors, as JSON"),
        flag(QUIET, "quiet").short('q').help("No more on stderr than errors"),
        text(URL, "url").value_name("URL").help("A remote station [env: STN_URL]"),
        text(KEY, "key")
            .value_name("KEY")
            .help("The key for it; the variable keeps it out of the process list [env: STN_KEY]"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;

    fn whole() -> Command {
        let table = tools::table();
        tree(table.iter().map(|tool| &tool.spec))
    }

    #[test]
    fn verify_cli() {
        whole().debug_assert();
        tree(std::iter::empty()).debug_assert();
    }

    #[test]
    fn every_tool_with_a_verb_is_a_command_and_every_noun_says_what_it_is() {
        let whole = whole();
        for tool in tools::table().iter() {
            let Some(cli) = tool.spec.cli else { continue };
            let mut command = &whole;
            for word in cli.verb.split(' ') {
                command = command.find_subcommand(word).unwrap_or_else(|| panic!("`{}` is missing", cli.verb));
                assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{}", cli.verb);
            }
        }
    }

    #[test]
    fn flags_count_wherever_they_stand_and_before_variables() {
        let matches = whole().try_get_matches_from(["stn", "--json", "agent", "-e", "staging", "list", "-q"]).unwrap();
        let leaf = matches.subcommand().unwrap().1.subcommand().unwrap().1;
        let variables = [("STN_ENVIRONMENT", "x"), ("STN_URL", "http://h"), ("STN_KEY", "")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let options = Options::read(leaf, &variables);
        let expected = Options {
            environment: Some("staging".into()),
            json: true,
            quiet: true,
            url: Some("http://h".into()),
            key: None,
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn a_slip_of_the_keyboard_names_the_command_that_was_meant() {
        let error = whole().try_get_matches_from(["stn", "agent", "lsit"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("'list'"), "{error}");
        let args = ["stn", "agent", "rnu"].map(OsString::from);
        let error = whole().try_get_matches_from(args.clone()).unwrap_err();
        assert_eq!(meant(&whole(), &args, &error).as_deref(), Some("run"));
    }

    #[test]
    fn commands_that_need_no_tools_are_there_without_them() {
        let bare = tree(std::iter::empty());
        for name in WITHOUT_TOOLS {
            assert!(bare.find_subcommand(name).is_some(), "{name}");
        }
    }
}
