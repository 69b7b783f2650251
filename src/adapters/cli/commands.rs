//! The command tree: what only the command line has by hand, every tool's command from its spec.

use super::{accept, call, config, fields, init, respond, run, secret, serve, stdio, sync};
use crate::domain::nearest;
use crate::error::{Error, Result};
use crate::tools::{EnvironmentUse, ToolSpec};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The nouns, in the order of the help.
const NOUNS: &[(&str, &str)] = &[
    ("agent", "Agents: prompts with a model, tools and limits"),
    ("run", "Runs: executions of agents"),
    ("request", "Requests: what runs ask people"),
    ("environment", "Environments: units of isolation"),
    ("mcp-server", "Attached MCP servers"),
    ("tool", "Tools of attached MCP servers"),
    ("variable", "Plain variables for the servers of an environment"),
    ("secret", "Secrets: values that are kept encrypted and never shown"),
    ("config", "The configuration: what is in force, and what is wrong with its files"),
    ("user", "Users: whom API keys belong to"),
    ("role", "Roles of users, by environment"),
    ("api-key", "API keys: how programs and people elsewhere come to the station"),
];

/// Commands that need no tool of the table to be parsed.
pub(super) const WITHOUT_TOOLS: [&str; 4] = ["init", "serve", "daemon", "stdio"];

/// Ids of the flags that every command takes, as they are written; no field of a tool can be called like that.
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
            let set = || variables.get(variable).filter(|value| !value.trim().is_empty());
            matches.get_one::<String>(id).or_else(set).cloned()
        };
        Self {
            environment: given(ENVIRONMENT, "STN_ENVIRONMENT"),
            json: matches.get_flag(JSON),
            quiet: matches.get_flag(QUIET),
            url: given(URL, "STN_URL"),
            // As a file has it, so with the end of its line.
            key: given(KEY, "STN_KEY").map(|key| key.trim().to_owned()),
        }
    }
}

/// What the flag `id` was given, wherever it stands among the words; variables don't count.
pub(super) fn flag<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a str> {
    matches.try_get_one::<String>(id).ok().flatten().map(String::as_str)
}

/// Refuses what `stn init` and `stn serve` could only ignore: they are about a whole home of this machine.
pub(super) fn refuse_place(verb: &str, matches: &ArgMatches) -> Result<()> {
    let Some(given) = [ENVIRONMENT, URL, KEY].into_iter().find(|id| flag(matches, id).is_some()) else { return Ok(()) };
    Err(Error::invalid_input(format!(
        "`stn {verb}` is about the home on this machine, and `{given}` means nothing to it"
    ))
    .hint("leave it out; STN_HOME says which home is meant")
    .field(given.trim_start_matches('-')))
}

/// Refuses `-e` for a tool that concerns the station as a whole. STN_ENVIRONMENT is meant for the other commands of its shell.
pub(super) fn refuse_environment(spec: &ToolSpec, matches: &ArgMatches) -> Result<()> {
    match (spec.environment, flag(matches, ENVIRONMENT)) {
        (EnvironmentUse::None, Some(environment)) => {
            let message =
                format!("`{}` concerns all environments, and `-e {environment}` means nothing to it", spec.name);
            let error = Error::invalid_input(message).field("environment");
            Err(error.hint(format!("leave it out, or ask `stn environment get {environment}`")))
        }
        _ => Ok(()),
    }
}

/// Refuses a key that goes nowhere: only a remote station asks for one.
pub(super) fn refuse_idle_key(matches: &ArgMatches, options: &Options) -> Result<()> {
    if options.url.is_some() || flag(matches, KEY).is_none() {
        return Ok(());
    }
    Err(Error::invalid_input("`--key` is for a remote station, and none is named")
        .hint("name it with `--url` or STN_URL; the local station needs no key")
        .field("key"))
}

/// The first word of a command line that is neither a flag nor the value of one: the command.
pub(super) fn first_word(args: &[OsString]) -> Option<&str> {
    let mut words = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default());
    while let Some(word) = words.next() {
        // `-qe` is `-q -e`.
        let environment = word.strip_prefix('-').is_some_and(|short| short.trim_start_matches('q') == "e");
        if environment || [ENVIRONMENT, URL, KEY].contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
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
        "config_check" => config::check_command(spec),
        "run_respond" => respond::command(spec),
        "secret_set" => secret::set_command(spec),
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
        for (given, key) in [("k\n", Some("k")), (" k \r\n", Some("k")), ("\n", None)] {
            let variables = [("STN_KEY".to_owned(), given.to_owned())].into();
            assert_eq!(Options::read(leaf, &variables).key.as_deref(), key, "{given:?}");
        }
    }

    #[test]
    fn a_flag_that_means_nothing_to_its_command_is_refused_and_its_variable_is_not() {
        let parse = |line: &str| {
            let matches = whole().try_get_matches_from(line.split(' ')).unwrap();
            let mut leaf = &matches;
            while let Some((_, deeper)) = leaf.subcommand() {
                leaf = deeper;
            }
            leaf.clone()
        };
        for (line, field) in [
            ("stn serve --url http://h", "url"),
            ("stn --key k serve", "key"),
            ("stn -e staging serve", "environment"),
            ("stn init -e staging", "environment"),
        ] {
            assert_eq!(refuse_place("serve", &parse(line)).unwrap_err().field_name(), Some(field), "{line}");
        }
        assert!(refuse_place("serve", &parse("stn serve --json")).is_ok());
        let table = tools::table();
        let list = &table.get("environment_list").unwrap().spec;
        assert!(refuse_environment(list, &parse("stn environment list -e staging")).is_err());
        assert!(refuse_environment(list, &parse("stn environment list")).is_ok());
        assert!(
            refuse_environment(&table.get("agent_list").unwrap().spec, &parse("stn agent list -e staging")).is_ok()
        );
        let idle_key = |line: &str, variable: &str| {
            let matches = parse(line);
            let variables = [(variable.to_owned(), "http://h".to_owned())].into();
            refuse_idle_key(&matches, &Options::read(&matches, &variables))
        };
        assert_eq!(idle_key("stn agent list --key k", "STN_HOME").unwrap_err().field_name(), Some("key"));
        assert!(idle_key("stn agent list --key k", "STN_URL").is_ok());
        assert!(idle_key("stn agent list --key k --url http://h", "STN_HOME").is_ok());
        assert!(idle_key("stn agent list", "STN_KEY").is_ok());
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
