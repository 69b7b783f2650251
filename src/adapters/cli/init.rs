//! `stn init`: makes the home, and says where it is. Any other command would have made it as well.

use super::failure::Failure;
use super::output::Output;
use crate::home::Home;
use clap::Command;
use serde_json::json;

/// The command.
pub(super) fn command() -> Command {
    Command::new("init").about("Create the home, with a sample agent").long_about(
        "Creates the home with a sample agent, unless it is there. Every command does so when it finds no home.",
    )
}

/// Tells where the home is and what to do next; `created` when it was empty before.
pub(super) fn tell(output: Output, home: &Home, created: bool) -> Result<(), Failure> {
    let root = home.root().display().to_string();
    if output.json {
        return output.json(&json!({ "home": root, "created": created }));
    }
    output.text(&root)?;
    output.note("next: `stn agent run hello \"What does README.md say?\"`, or `stn serve`");
    Ok(())
}
