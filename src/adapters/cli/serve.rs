//! `stn serve`: becoming the owner of the home.

use super::{Serve, terminal};
use crate::config::{ServeFlags, parse_duration};
use crate::home::Home;
use crate::redact::Redactor;
use crate::secrets::Stretched;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

/// Tells an owner that was started in the background that the stretched passphrase is on its stdin.
pub(super) const STRETCHED_ARGUMENT: &str = "--stretched-on-stdin";

/// The command.
pub(super) fn command() -> Command {
    Command::new("serve")
        .visible_alias("daemon")
        .about("Serve this home: execute runs, listen for HTTP and MCP")
        .long_about(
            "Owns the home until Ctrl-C: executes runs, and listens on `http.listen` of station.yml (127.0.0.1:8080) and on the local \
             socket. Another owner is asked to hand over.",
        )
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDR")
                .value_parser(address)
                .conflicts_with("background")
                .help("Address and port for HTTP, instead of station.yml's"),
        )
        .arg(
            Arg::new("behind-proxy")
                .long("behind-proxy")
                .action(ArgAction::SetTrue)
                .help("A proxy on this machine stands in front, as `http.behind_proxy: true` says"),
        )
        .arg(
            Arg::new("background")
                .long("background")
                .action(ArgAction::SetTrue)
                .help("No TCP: serve the local socket only, unless somebody else does"),
        )
        .arg(
            Arg::new("idle")
                .long("idle")
                .value_name("DURATION")
                .value_parser(idle)
                .help("End after this time without clients and runs, such as 10m"),
        )
        .arg(
            Arg::new("stretched")
                .long(STRETCHED_ARGUMENT.trim_start_matches('-'))
                .action(ArgAction::SetTrue)
                .requires("background")
                .hide(true),
        )
}

/// What the arguments ask for.
pub(super) fn options(
    matches: &ArgMatches,
    home: Home,
    variables: BTreeMap<String, String>,
    redactor: Redactor,
) -> Serve {
    Serve {
        home,
        variables,
        redactor,
        flags: ServeFlags {
            listen: matches.get_one("listen").copied(),
            behind_proxy: matches.get_flag("behind-proxy"),
        },
        background: matches.get_flag("background"),
        idle: matches.get_one("idle").copied(),
        ask: terminal::passphrase,
        stretched: if matches.get_flag("stretched") { stretched() } else { None },
    }
}

/// What the command that has started this process hands it. Not through the buffer of stdin, which would keep a copy.
fn stretched() -> Option<Stretched> {
    Stretched::read(File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

fn idle(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_duration_are_checked_before_anything_is_opened() {
        let parse = |arguments: &[&str]| command().try_get_matches_from([&["serve"], arguments].concat());
        let matches = parse(&["--background", "--idle", "10m"]).unwrap();
        assert_eq!(matches.get_one::<Duration>("idle"), Some(&Duration::from_secs(600)));
        assert!(parse(&["--idle", "soon"]).is_err());
        for wrong in ["8080", "localhost:8080"] {
            let error = parse(&["--listen", wrong]).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("such as 127.0.0.1:8080"), "{error}");
        }
        assert!(parse(&["--listen", "127.0.0.1:0", "--background"]).is_err());
    }
}
