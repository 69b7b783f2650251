//! `stn init`: makes the home, and says where it is. Any other command would have made it as well.

use super::failure::Failure;
use super::output::Output;
use super::terminal;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::secrets::{self, NewPassphrase};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use secrecy::ExposeSecret;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The command.
pub(super) fn command() -> Command {
    Command::new("init")
        .about("Create the home, with a sample agent")
        .long_about(
            "Creates the home with a sample agent, unless it is there. Every command does so when it finds no home. Secrets are kept under a \
             random key in secrets/master.key, unless a passphrase is chosen here; then every start needs it.",
        )
        .arg(
            Arg::new("passphrase")
                .long("passphrase")
                .action(ArgAction::SetTrue)
                .conflicts_with("passphrase_file")
                .help("Ask for a passphrase that the secrets are kept under"),
        )
        .arg(
            Arg::new("passphrase_file")
                .long("passphrase-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Take that passphrase from a file (mode 0600)"),
        )
}

/// The passphrase that is asked for or named, of 12 bytes at least.
pub(super) fn passphrase(matches: &ArgMatches) -> Result<Option<NewPassphrase>> {
    if let Some(path) = matches.get_one::<PathBuf>("passphrase_file") {
        return NewPassphrase::from_file(path).map(Some);
    }
    if !matches.get_flag("passphrase") {
        return Ok(None);
    }
    if !terminal::is_there() {
        return Err(Error::invalid_input("a passphrase is asked for, and there is no terminal to ask on")
            .hint("write it to a file with mode 0600 and give that with `--passphrase-file`")
            .field("passphrase"));
    }
    let first = terminal::hidden("new passphrase: ")?;
    let passphrase = NewPassphrase::typed(first.clone())?;
    if terminal::hidden("the same again: ")?.expose_secret() != first.expose_secret() {
        return Err(Error::invalid_input("the passphrases differ")
            .hint("start again; nothing was made")
            .field("passphrase"));
    }
    Ok(Some(passphrase))
}

/// Tells where the home is and what to do next; `created` when it was empty before.
pub(super) fn tell(
    output: Output,
    home: &Home,
    variables: &BTreeMap<String, String>,
    created: bool,
) -> Result<(), Failure> {
    let root = home.root().display().to_string();
    if output.json {
        return output.json(&json!({ "home": root, "created": created }));
    }
    output.text(&root)?;
    output.note(if secrets::asks_a_person(home, variables)? {
        "next: `stn serve` here, which asks for the passphrase; what starts by itself takes it from the file that STN_PASSPHRASE_FILE names"
    } else if created {
        "next: `stn agent run hello \"What does README.md say?\"`, or `stn serve`"
    } else {
        "next: `stn agent list`, or `stn serve`"
    });
    Ok(())
}
