//! The only place that writes to stdout (beside the stdio pipe): data there, everything else on stderr.

use super::failure::Failure;
use super::sanitize::{clean, escaped_json};
use crate::error::{Error, ErrorKind};
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// What the flags say about output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// `--json`: data is JSON, and so are errors.
    pub(super) json: bool,
    /// `--quiet`: data and errors only.
    pub(super) quiet: bool,
}

impl Output {
    /// Data for people or pipes, cleaned and ended by a newline.
    pub(super) fn text(self, text: &str) -> Result<(), Failure> {
        let text = clean(text);
        write_stdout(text.trim_end_matches('\n'))
    }

    /// Data as JSON: exactly what the tool gave.
    pub(super) fn json(self, value: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|cause| Error::internal("the answer can't be written as JSON").source(cause))?;
        write_stdout(&escaped_json(&text))
    }

    /// A line beside the data. Not with `--quiet`.
    pub(super) fn note(self, line: impl Display) {
        if !self.quiet {
            self.always(line);
        }
    }

    /// A line beside the data that `--quiet` doesn't silence. Nobody reading stderr is no reason to fail.
    pub(super) fn always(self, line: impl Display) {
        let line = line.to_string();
        let _unread = writeln!(io::stderr(), "{}", clean(&line));
    }

    /// `error:` and `hint:`, or the report as JSON.
    pub(super) fn failure(self, failure: &Failure) {
        let (Failure::Error(error) | Failure::Configuration(error)) = failure else { return };
        let report = error.report();
        if self.json {
            let text = serde_json::to_string(&report).unwrap_or_default();
            let _unread = writeln!(io::stderr(), "{}", escaped_json(&text));
            return;
        }
        self.always(format_args!("error: {}", report.message));
        if let Some(hint) = &report.hint {
            self.always(format_args!("hint: {hint}"));
        }
        if let (ErrorKind::Internal, Some(request)) = (error.kind(), &report.request_id) {
            self.always(format_args!("the log has more under request {request}"));
        }
    }

    /// Whether a spinner and questions make sense.
    pub(super) fn is_interactive(self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }
}

/// Whether what is written to stdout is seen by a person.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Text that is already laid out and trusted, such as clap's help.
pub(super) fn help(text: &str) -> Result<(), Failure> {
    write_stdout(text.trim_end_matches('\n'))
}

fn write_stdout(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    written.map_err(|cause| match cause.kind() {
        io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Error::unavailable(format!("can't write to stdout: {cause}")).source(cause).into(),
    })
}

/// A question to the person at the terminal, who answers on the same line.
pub(super) fn prompt(text: &str) {
    let mut stderr = io::stderr();
    let _unread = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// What clap has to say about wrong arguments.
pub(super) fn usage(text: &str) {
    let _unread = write!(io::stderr(), "{text}");
}
