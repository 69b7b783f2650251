//! What is wrong with a file, and where.

use crate::error::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;

/// A place in a text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Whether the file counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// What the problem is about isn't in force.
    #[default]
    Error,
    /// It is in force, and something of it has no effect.
    Warning,
}

/// One fault in one file. `Display` writes `file:line:column: message`, as compilers do, so that editors can jump there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileProblem {
    /// The file as people know it, relative to the home; or the environment variable that holds the value.
    pub file: String,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What it is about, as a dotted path: `http.listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub message: String,
    /// The fix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default)]
    pub severity: Severity,
}

impl FileProblem {
    pub(super) fn new(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: None,
            message: message.into(),
            hint: None,
            severity: Severity::Error,
        }
    }

    /// What keeps the directory `file` from being read at all.
    pub fn of(file: &str, error: &Error) -> Self {
        let problem = Self::new(file, error.message());
        match error.hint_text() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    #[must_use]
    pub(super) fn at(mut self, position: Position) -> Self {
        let number = |found: usize| u32::try_from(found).ok();
        self.line = number(position.line);
        self.column = number(position.column);
        self
    }

    #[must_use]
    pub(super) fn about(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// `file:line:column`, as much of it as is known.
    pub fn place(&self) -> String {
        let numbers = self.line.into_iter().chain(self.line.and(self.column));
        numbers.fold(self.file.clone(), |place, number| format!("{place}:{number}"))
    }

    #[must_use]
    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

impl From<FileProblem> for Error {
    fn from(problem: FileProblem) -> Self {
        let error = Self::invalid_input(problem.to_string()).details(json!({
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
        }));
        match problem.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_problem_names_its_place_as_compilers_do_and_becomes_an_error_with_details() {
        let problem = FileProblem::new("environments/development/agents/x.prompt", "unknown key `modle`")
            .at(Position { line: 3, column: 5 })
            .hint("known keys: model");
        assert_eq!(problem.to_string(), "environments/development/agents/x.prompt:3:5: unknown key `modle`");
        let report = Error::from(problem).report();
        assert_eq!(report.kind, ErrorKind::InvalidInput);
        assert_eq!(report.details.unwrap()["line"], 3);
        assert_eq!(report.hint.as_deref(), Some("known keys: model"));
    }
}
