//! A text that may refer to secrets.

use serde::{Deserialize, Serialize};

/// A part of a [`SecretText`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    Text(String),
    /// The name of a secret.
    Secret(String),
}

/// A text with references to secrets in it, such as `Bearer {{ secret.TOKEN }}`. It never holds a value: those are put in where the text
/// leaves the process. That it is in pieces keeps a value of a variable that looks like a reference from being one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretText(Vec<Piece>);

impl SecretText {
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self(pieces)
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The secrets that it refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Secret(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(vec![Piece::Text(text)])
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}
