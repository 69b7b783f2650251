//! How a command can fail, and what the shell is told.

use crate::error::{Error, ErrorKind};
use crate::redact::Redactor;

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// The act failed; the exit code follows from the error's kind.
    Error(Error),
    /// `station.yml`, a key or the home itself can't be used: exit code 78 (`EX_CONFIG` of sysexits).
    Configuration(Error),
    /// Whoever read stdout has gone. No failure: `stn run list | head -1` ends with 0.
    ClosedPipe,
}

pub(super) const MISCONFIGURED: u8 = 78;

/// Ended by Ctrl-C, or a run that was cancelled: 128 + SIGINT, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

impl Failure {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Error(error) => exit_code(error.kind()),
            Self::Configuration(_) => MISCONFIGURED,
            Self::ClosedPipe => 0,
        }
    }
}

impl Failure {
    /// The same failure without the secrets that are known.
    pub(super) fn redacted(self, redactor: &Redactor) -> Self {
        let clean = |error: Error| error.reworded(|text| redactor.string(text), |details| redactor.json(details));
        match self {
            Self::Error(error) => Self::Error(clean(error)),
            Self::Configuration(error) => Self::Configuration(clean(error)),
            Self::ClosedPipe => Self::ClosedPipe,
        }
    }
}

impl From<Error> for Failure {
    /// An error that asks for exit code 78 in its details is about configuration.
    fn from(error: Error) -> Self {
        let details = error.report().details;
        let asked = details.and_then(|details| details.get("exit_code")?.as_u64());
        if asked == Some(u64::from(MISCONFIGURED)) { Self::Configuration(error) } else { Self::Error(error) }
    }
}

/// The CLI's column of the table at [`ErrorKind`].
const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::NotAcceptable | ErrorKind::PayloadTooLarge => 2,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => 3,
        ErrorKind::NotFound => 4,
        ErrorKind::Conflict => 5,
        ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout => 6,
        ErrorKind::Cancelled => INTERRUPTED,
        ErrorKind::Internal => 70,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_exit_code_follows_from_the_kind_unless_the_details_ask_for_78() {
        assert_eq!(Failure::from(Error::not_found("x")).exit_code(), 4);
        assert_eq!(Failure::from(Error::internal("x")).exit_code(), 70);
        let misconfigured = Error::invalid_input("x").details(json!({ "exit_code": 78 }));
        assert_eq!(Failure::from(misconfigured).exit_code(), 78);
        assert_eq!(Failure::ClosedPipe.exit_code(), 0);
    }
}
