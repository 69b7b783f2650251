//! The command line. Data goes to stdout, everything else to stderr; the exit code says how it went ([`Failure`]).
//!
//! `commands.rs` is the tree of commands with the flags that each of them takes, `fields.rs` makes a tool's input out of arguments, by
//! the tool's own spec. `target.rs` decides where a call goes: a remote station (`--url`), the owner of the home over its socket, or this
//! process for one short command; `request.rs` and `connection.rs` are the way there, `feed.rs` the live events of a run, `follow.rs` and
//! `tree.rs` what is shown of them. `output.rs` is the only place that writes to stdout, `render.rs` and `columns.rs` lay out,
//! `sanitize.rs` cleans what models and tools say.
//!
//! A tool with a `cli` verb is a command by that alone. One that needs more than fields and an output (a question, a stream) gets its own
//! file here and a line in `commands::of_tool` and in [`Session::tool`].

mod accept;
mod call;
mod columns;
mod commands;
mod config;
mod connection;
mod failure;
mod feed;
mod fields;
mod follow;
mod init;
mod outcome;
mod output;
mod problems;
mod progress;
#[cfg(test)]
mod readme;
mod render;
mod request;
mod respond;
mod run;
mod sanitize;
mod secret;
mod serve;
mod stdio;
mod sync;
mod target;
mod terminal;
mod tree;

pub use failure::Failure;

use crate::clock::SystemClock;
use crate::config::ServeFlags;
use crate::error::{Error, Result};
use crate::home::{Home, OwnerLock, Variables};
use crate::redact::Redactor;
use crate::secrets::{Ask, NewPassphrase, Stretched};
use crate::telemetry::{self, LogSettings};
use crate::tools::{self, Station, Table};
use clap::ArgMatches;
use commands::Options;
use connection::Remote;
use futures_util::future::BoxFuture;
use output::Output;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use target::Target;
use tokio::runtime::{Builder, Runtime};

/// How long `stn serve` waits for threads that are still busy once everything has been stopped.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Creates what an empty home lacks; true when it was empty. The environment may name the key of a new one.
pub type FirstUse = fn(&Home, &BTreeMap<String, String>) -> Result<bool>;

/// Gives a home its root, for a passphrase or for what the environment names.
pub type InitRoot = fn(&Home, &BTreeMap<String, String>, Option<NewPassphrase>) -> Result<()>;

/// What the command line needs of the composition root, which it must not know.
#[derive(Debug, Clone, Copy)]
pub struct Deps {
    pub first_use: FirstUse,
    /// Makes sure of `secrets/root.json`, for this passphrase if there is one.
    pub init_root: InitRoot,
    /// Refuses a home in which another program has its database.
    pub refuse_foreign: fn(&Home) -> Result<()>,
    /// Opens the home for one call, and does it.
    pub open: fn(OpenHome) -> BoxFuture<'static, Result<Value>>,
    /// Owns the home until the end.
    pub serve: fn(Serve) -> BoxFuture<'static, Result<()>>,
}

/// One call in this process, while nobody else owns the home.
pub struct OpenHome {
    pub home: Home,
    /// The process's environment.
    pub variables: BTreeMap<String, String>,
    pub lock: OwnerLock,
    pub redactor: Redactor,
    /// Whether what the files say is taken up first.
    pub takes_up_files: bool,
    /// Asks the person for a passphrase.
    pub ask: Ask,
    /// What to do with the opened station.
    pub work: Box<dyn FnOnce(Arc<Station>) -> BoxFuture<'static, Result<Value>> + Send>,
}

impl fmt::Debug for OpenHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenHome").field("home", &self.home).field("lock", &self.lock).finish_non_exhaustive()
    }
}

/// What `stn serve` was told.
#[derive(Debug)]
pub struct Serve {
    pub home: Home,
    /// The process's environment.
    pub variables: BTreeMap<String, String>,
    pub redactor: Redactor,
    pub flags: ServeFlags,
    pub background: bool,
    /// End after this time without clients and runs.
    pub idle: Option<Duration>,
    /// Asks the person for a passphrase.
    pub ask: Ask,
    /// The passphrase as whoever started this process has stretched it.
    pub stretched: Option<Stretched>,
}

/// Runs the command that `args` (with the program's name) give, in `environment`. `redactor` stands before whatever it says.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    redactor: Redactor,
    deps: Deps,
) -> ExitCode {
    let variables = Variables::read(environment);
    let args: Vec<OsString> = args.into_iter().collect();
    // Schemas of tools take a moment to build; `stn --version` and `stn stdio` don't need them.
    let table = if needs_tools(&args) { tools::table() } else { Table::new(Vec::new()) };
    let mut tree = commands::tree(table.iter().map(|tool| &tool.spec));
    let code = match tree.try_get_matches_from_mut(&args) {
        Ok(matches) => Session::new(matches, variables, redactor, deps, table).run(),
        Err(error) => usage(&error, commands::meant(&tree, &args, &error), asks_for_json(&args), &variables.readable),
    };
    ExitCode::from(code)
}

fn needs_tools(args: &[OsString]) -> bool {
    match commands::first_word(args) {
        Some(first) => !commands::WITHOUT_TOOLS.contains(&first),
        None => !args.iter().any(|arg| arg == "--version" || arg == "-V"),
    }
}

/// Help, the version, or what is wrong with the arguments.
fn usage(error: &clap::Error, meant: Option<String>, json: bool, variables: &BTreeMap<String, String>) -> u8 {
    let plain = variables.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let styled = error.render();
    let text = |terminal: bool| if terminal && !plain { styled.ansi().to_string() } else { styled.to_string() };
    if error.use_stderr() && json {
        let failure = Failure::Error(misused(&styled.to_string(), meant));
        Output { json, quiet: false }.failure(&failure);
        return failure.exit_code();
    }
    if error.use_stderr() {
        output::usage(&text(std::io::stderr().is_terminal()));
        if let Some(meant) = meant {
            output::usage(&format!("hint: did you mean `{meant}`?\n"));
        }
        return 2;
    }
    match output::help(&text(output::is_terminal())) {
        Ok(()) => 0,
        Err(failure) => failure.exit_code(),
    }
}

/// Whether `--json` is among the arguments, which clap doesn't tell where it finds them wrong.
fn asks_for_json(args: &[OsString]) -> bool {
    args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// What clap says in `text`, as an error: its first paragraph, with its tip as the hint. Where a command is missing, the text is the help.
fn misused(text: &str, meant: Option<String>) -> Error {
    let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().and_then(|first| first.trim_start().strip_prefix("error: "));
    let Some(message) = first else {
        return Error::invalid_input("the command is not complete").hint("`--help` in its place shows what is missing");
    };
    let tip = paragraphs.find_map(|paragraph| paragraph.trim_start().strip_prefix("tip: ").map(in_one_line));
    let hint = meant.map(|meant| format!("did you mean `{meant}`?")).or(tip);
    Error::invalid_input(in_one_line(message)).hint(hint.unwrap_or_else(|| "`--help` shows the arguments".to_owned()))
}

/// One command, parsed.
struct Session {
    matches: ArgMatches,
    variables: BTreeMap<String, String>,
    /// Why nothing can be done in this environment.
    refused: Option<Error>,
    redactor: Redactor,
    deps: Deps,
    table: Arc<Table>,
    options: Options,
    output: Output,
}

impl Session {
    fn new(matches: ArgMatches, environment: Variables, redactor: Redactor, deps: Deps, table: Table) -> Self {
        let refused = environment.refuse_unreadable().err();
        let variables = environment.readable;
        let options = Options::read(leaf(&matches).1, &variables);
        let output = Output { json: options.json, quiet: options.quiet };
        if let Some(key) = &options.key {
            redactor.add("command line", "STN_KEY", &key.as_str().into());
        }
        Self { matches, variables, refused, redactor, deps, table: Arc::new(table), options, output }
    }

    fn run(mut self) -> u8 {
        let done = match self.refused.take() {
            Some(error) => Err(error.into()),
            None => self.command(),
        };
        match done {
            Ok(code) => code,
            Err(failure) => {
                let failure = failure.redacted(&self.redactor);
                self.output.failure(&failure);
                failure.exit_code()
            }
        }
    }

    fn command(&self) -> Result<u8, Failure> {
        let (verb, matches) = leaf(&self.matches);
        self.check_place(&verb, matches)?;
        match verb.as_str() {
            "init" => {
                let home = Home::resolve(&self.variables)?;
                // Before anything is made: a passphrase that can't be used leaves nothing behind.
                let passphrase = init::passphrase(matches)?;
                (self.deps.init_root)(&home, &self.variables, passphrase)?;
                let created = (self.deps.first_use)(&home, &self.variables)?;
                if let Some(problem) = target::settings_problem(&home, &self.variables) {
                    return Err(problem.into());
                }
                init::tell(self.output, &home, &self.variables, created)?;
                Ok(0)
            }
            "serve" => {
                let serving = serve::options(matches, self.home()?, self.variables.clone(), self.redactor.clone());
                let runtime = threaded()?;
                let served = runtime.block_on((self.deps.serve)(serving));
                // What still blocks a thread after an orderly stop has had its time.
                runtime.shutdown_timeout(LAST_THREADS);
                served?;
                Ok(0)
            }
            "stdio" => {
                self.start_diagnostics()?;
                self.refuse_url("connect the MCP client to `/mcp` of that station over HTTP")?;
                let (environment, clock) = (self.options.environment.clone(), SystemClock::shared());
                let (home, runtime) = (self.home()?, single()?);
                let carried = runtime.block_on(stdio::run(matches, environment, home, &self.variables, clock));
                // A thread reads stdin, and nothing but the client can wake it: to wait for it would be to wait for the client.
                runtime.shutdown_background();
                carried?;
                Ok(0)
            }
            _ => {
                self.start_diagnostics()?;
                single()?.block_on(self.on_station(&verb, matches))
            }
        }
    }

    /// Whether the flags that say where to act mean something to the command, before anything is opened or sent.
    fn check_place(&self, verb: &str, matches: &ArgMatches) -> Result<()> {
        if matches!(verb, "init" | "serve") {
            return commands::refuse_place(verb, matches);
        }
        commands::refuse_idle_key(matches, &self.options)?;
        self.options.environment.as_deref().map_or(Ok(()), target::check_environment)
    }

    /// What is done by a station, wherever it is.
    async fn on_station(&self, verb: &str, matches: &ArgMatches) -> Result<u8, Failure> {
        let target = self.target(verb)?;
        match verb {
            "call" => call::run(&target, self.output, matches).await,
            "run watch" => run::watch(&target, self.output, matches).await,
            _ => self.tool(&target, verb, matches).await,
        }
    }

    /// The command of a tool of the table.
    async fn tool(&self, target: &Target, verb: &str, matches: &ArgMatches) -> Result<u8, Failure> {
        let output = self.output;
        let found = self.table.iter().find(|tool| tool.spec.cli.is_some_and(|cli| cli.verb == verb));
        let spec =
            found.map(|tool| &tool.spec).ok_or_else(|| Error::internal(format!("no tool answers for `stn {verb}`")))?;
        commands::refuse_environment(spec, matches)?;
        match spec.name {
            "agent_run" => run::agent_run(target, output, matches, spec).await,
            "run_wait" => run::wait(target, output, matches, spec).await,
            "run_respond" => respond::run(target, output, matches, spec).await,
            "environment_sync" => sync::run(target, output, matches, spec).await,
            "config_check" => config::check(target, output, matches, spec).await,
            "config_get" => config::get(target, output, matches, spec).await,
            "mcp_server_accept" => accept::run(target, output, matches, spec).await,
            "secret_set" => secret::set(target, output, matches, spec).await,
            "tool_call" => call::show_result(output, &target.call(spec.name, fields::input(matches, spec)?).await?),
            name => {
                let answer = target.call(name, fields::input(matches, spec)?).await?;
                render::show(output, name, &answer).map_err(|failure| secret::unseen(failure, name, &answer))?;
                if name == "run_get" && !output.json {
                    tree::list(target, output, &answer).await?;
                }
                Ok(0)
            }
        }
    }

    fn target(&self, verb: &str) -> Result<Target> {
        let (table, environment, clock) =
            (Arc::clone(&self.table), self.options.environment.clone(), SystemClock::shared());
        let Some(url) = &self.options.url else {
            let (variables, redactor) = (self.variables.clone(), self.redactor.clone());
            // A check changes nothing, so that it tells of a mistyped STN_HOME too.
            let home = if verb == "config check" { self.existing_home()? } else { self.home()? };
            return Ok(Target::local(home, variables, redactor, self.deps, table, environment, clock));
        };
        let remote = Remote::new(url, self.options.key.as_deref(), crate::net::http_client()?)?;
        Ok(Target::remote(remote, table, environment, clock))
    }

    /// The home, created if need be.
    fn home(&self) -> Result<Home> {
        let home = Home::resolve(&self.variables)?;
        if (self.deps.first_use)(&home, &self.variables)? {
            self.output.note(format_args!("created the home `{}` with a sample agent, `hello`", home.root().display()));
        }
        Ok(home)
    }

    fn existing_home(&self) -> Result<Home> {
        let home = Home::resolve(&self.variables)?;
        if home.station_yml().exists() || home.environments_dir().exists() {
            return Ok(home);
        }
        Err(Error::not_found(format!("there is no home in `{}`", home.config_dir().display()))
            .hint("make one with `stn init`, or set STN_HOME to the one that you mean"))
    }

    fn refuse_url(&self, hint: &str) -> Result<()> {
        match &self.options.url {
            Some(url) => Err(Error::invalid_input(format!("this command is for the local station, not for `{url}`"))
                .hint(hint)
                .field("url")),
            None => Ok(()),
        }
    }

    /// Errors of the log only, unless `STN_LOG` asks for more: what a command has to say it says itself.
    fn start_diagnostics(&self) -> Result<()> {
        let level = self.variables.get("STN_LOG").filter(|level| !level.is_empty());
        let colours = self.variables.get("NO_COLOR").is_none_or(String::is_empty);
        let settings = LogSettings {
            level: level.map_or_else(|| "error".into(), Clone::clone),
            colours,
            ..LogSettings::default()
        };
        telemetry::start(&settings, self.redactor.clone())
    }
}

/// The words of the command, and what its last one was given.
fn leaf(matches: &ArgMatches) -> (String, &ArgMatches) {
    let mut words = Vec::new();
    let mut at = matches;
    while let Some((word, deeper)) = at.subcommand() {
        words.push(word);
        at = deeper;
    }
    (words.join(" "), at)
}

/// Clients do one thing at a time.
fn single() -> Result<Runtime> {
    started(Builder::new_current_thread().enable_all().build())
}

fn threaded() -> Result<Runtime> {
    started(Builder::new_multi_thread().enable_all().build())
}

fn started(runtime: std::io::Result<Runtime>) -> Result<Runtime> {
    runtime.map_err(|cause| Error::internal("the runtime can't be started").source(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_an_error_like_any_other_where_json_is_asked_for() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(asks_for_json(&args("stn agent lsit --json")) && asks_for_json(&args("stn --json")));
        assert!(!asks_for_json(&args("stn agent list")) && !asks_for_json(&args("stn call x -- --json")));
        let table = tools::table();
        let said = |line: &str| {
            let mut tree = commands::tree(table.iter().map(|tool| &tool.spec));
            misused(&tree.try_get_matches_from_mut(args(line)).unwrap_err().to_string(), None)
        };
        let error = said("stn --json agent lsit");
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidInput);
        assert_eq!(error.message(), "unrecognized subcommand 'lsit'");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("'list'")), "{error}");
        assert!(said("stn --json agent get").message().contains("<AGENT>"));
        assert_eq!(said("stn agent").message(), "the command is not complete");
    }

    #[test]
    fn the_tools_are_built_only_for_commands_that_need_them() {
        let needs = |line: &str| needs_tools(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for without in [
            "stn --version",
            "stn -V",
            "stn serve --background",
            "stn daemon",
            "stn stdio -e staging",
            "stn -e init stdio",
        ] {
            assert!(!needs(without), "{without}");
        }
        for with in [
            "stn --help",
            "stn agent list",
            "stn -e staging agent list",
            "stn -e serve agent list",
            "stn -qe init agent list",
            "stn --environment serve --url stdio --key init agent list",
            "stn",
        ] {
            assert!(needs(with), "{with}");
        }
    }
}
