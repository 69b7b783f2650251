//! `stn stdio`: MCP over stdin and stdout, for desktop clients and editors.

use super::target::{provider_variables, spawn_owner};
use crate::clock::SharedClock;
use crate::error::Result;
use crate::home::Home;
use crate::home::pipe::{self, OwnerConnector, StdioOptions};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use std::collections::BTreeMap;

/// The command.
pub(super) fn command() -> Command {
    Command::new("stdio")
        .about("Speak MCP over stdin and stdout, for desktop clients and editors")
        .long_about(
            "Connects an MCP client to the station, which is started in the background if need be. Closing the client ends no run.",
        )
        .arg(
            Arg::new("tools")
                .long("tools")
                .value_name("SET")
                .value_parser(PossibleValuesParser::new(["default", "all"]))
                .help("Which of the station's own tools are listed"),
        )
        .arg(
            Arg::new("role")
                .long("role")
                .value_name("ROLE")
                .value_parser(PossibleValuesParser::new(["viewer", "developer", "operator", "admin"]))
                .help("What the client may do at most, in its environment alone; developer without it"),
        )
}

/// Carries lines until the client closes.
pub(super) async fn run(
    matches: &ArgMatches,
    environment: Option<String>,
    home: Home,
    variables: &BTreeMap<String, String>,
    clock: SharedClock,
) -> Result<()> {
    let keys = provider_variables(variables).map(|(name, value)| (name.to_owned(), value));
    let options = StdioOptions {
        environment,
        tools: matches.get_one("tools").cloned(),
        role: matches.get_one("role").cloned(),
        headers: keys.into_iter().collect(),
    };
    let connector =
        OwnerConnector { home, schema: crate::SCHEMA, clock: clock.clone(), spawn: spawn_owner(variables)?, options };
    pipe::run(tokio::io::stdin(), tokio::io::stdout(), connector, &clock).await
}
