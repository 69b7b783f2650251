//! The one error of Station. It knows its audience (the caller: `message`, `hint`, `field`; the log: `source`) and knows neither
//! HTTP nor JSON-RPC: each door translates the [`ErrorKind`] by its own table.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::error::Error as StdError;
use std::fmt;

/// What kind of failure it is; the stable, machine-readable part of an error.
///
/// | kind | REST | CLI exit |
/// |---|---|---|
/// | `invalid_input` | 400 | 2 |
/// | `unauthenticated` | 401 | 3 |
/// | `permission_denied` | 403 | 3 |
/// | `not_found` | 404 | 4 |
/// | `not_acceptable` | 406 | 2 |
/// | `conflict` | 409 | 5 |
/// | `payload_too_large` | 413 | 2 |
/// | `rate_limited` | 429 | 6 |
/// | `unavailable` | 503 | 6 |
/// | `timeout` | 504 | 6 |
/// | `cancelled` | - | 130 |
/// | `internal` | 500 | 70 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    InvalidInput,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    NotAcceptable,
    Conflict,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    Timeout,
    Cancelled,
    Internal,
}

impl ErrorKind {
    /// The spelling used on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::NotAcceptable => "not_acceptable",
            Self::Conflict => "conflict",
            Self::PayloadTooLarge => "payload_too_large",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with an audience. `message` names the value and the reason, `hint` the fix; `source` is for the log alone.
pub struct Error {
    body: Box<Body>,
}

struct Body {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    field: Option<String>,
    details: Option<Value>,
    request_id: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The part of an [`Error`] that leaves the process; the door adds its `request_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorReport {
    pub kind: ErrorKind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($name:ident => $kind:ident),+ $(,)?) => {
        $(
            #[doc = concat!("An error of kind [`ErrorKind::", stringify!($kind), "`].")]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            }
        )+
    };
}

impl Error {
    /// An error of `kind` with a message for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            body: Box::new(Body {
                kind,
                message: message.into(),
                hint: None,
                field: None,
                details: None,
                request_id: None,
                source: None,
            }),
        }
    }

    constructors! {
        invalid_input => InvalidInput,
        unauthenticated => Unauthenticated,
        permission_denied => PermissionDenied,
        not_found => NotFound,
        not_acceptable => NotAcceptable,
        conflict => Conflict,
        payload_too_large => PayloadTooLarge,
        rate_limited => RateLimited,
        unavailable => Unavailable,
        timeout => Timeout,
        cancelled => Cancelled,
        internal => Internal,
    }

    /// The fix, as an instruction to the caller.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    /// The input field that is at fault, as a path such as `input.userInput`.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.body.field = Some(field.into());
        self
    }

    /// Structured facts beside the message (candidates, positions, statuses).
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.body.details = Some(details);
        self
    }

    /// The request that failed, under which the log has more.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.body.request_id = Some(id.into());
        self
    }

    /// The cause, which goes to the log and never to the caller.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.body.source = Some(source.into());
        self
    }

    /// Puts the operation and its object in front of the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.body.message = format!("{context}: {}", self.body.message);
        self
    }

    /// The same error in other words: `text` for each of its texts, `json` for its details. The cause stays, for the log.
    #[must_use]
    pub fn reworded(mut self, text: impl Fn(String) -> String, json: impl FnOnce(Value) -> Value) -> Self {
        self.body.message = text(self.body.message);
        self.body.hint = self.body.hint.map(&text);
        self.body.field = self.body.field.map(&text);
        self.body.details = self.body.details.map(json);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.body.kind
    }

    pub fn message(&self) -> &str {
        &self.body.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.body.hint.as_deref()
    }

    pub fn field_name(&self) -> Option<&str> {
        self.body.field.as_deref()
    }

    /// What may leave the process. The message of an `internal` error stays: it is written for callers like every other.
    pub fn report(&self) -> ErrorReport {
        ErrorReport {
            kind: self.body.kind,
            message: self.body.message.clone(),
            hint: self.body.hint.clone(),
            field: self.body.field.clone(),
            details: self.body.details.clone(),
            request_id: self.body.request_id.clone(),
        }
    }
}

impl From<ErrorReport> for Error {
    fn from(report: ErrorReport) -> Self {
        let mut error = Self::new(report.kind, report.message);
        error.body.hint = report.hint;
        error.body.field = report.field;
        error.body.details = report.details;
        error.body.request_id = report.request_id;
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.body.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.body.kind, self.body.message)?;
        if let Some(source) = &self.body.source {
            write!(f, " (cause: {source})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.body.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_wire_and_leaves_the_source_behind() {
        let error =
            Error::not_found("agent `x` doesn't exist").hint("stn agent list").field("agent").source("disk on fire");
        let json = serde_json::to_string(&error.report()).unwrap();
        assert!(!json.contains("disk on fire"));
        let back = Error::from(serde_json::from_str::<ErrorReport>(&json).unwrap());
        assert_eq!(back.report(), error.report());
    }
}
