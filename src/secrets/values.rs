//! The values of an environment's secrets, in memory, for whoever needs one at the last hop.

use crate::domain::{Name, Piece, SecretText};
use crate::error::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The values of one environment. Cheap to clone; all clones see every change.
#[derive(Clone)]
pub struct Values {
    environment: Name,
    /// `None` for a secret whose record can't be opened.
    known: Arc<RwLock<BTreeMap<String, Option<SecretString>>>>,
}

impl Values {
    /// Those of an environment that has none.
    pub fn none(environment: Name) -> Self {
        Self { environment, known: Arc::default() }
    }

    pub(super) fn put(&self, name: &str, value: Option<SecretString>) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
    }

    pub(super) fn remove(&self, name: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The length of a value in bytes; `None` where there is none that can be read.
    pub fn length(&self, name: &str) -> Option<usize> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name)?.as_ref().map(|value| value.expose_secret().len())
    }

    /// The value of the secret `name`, which `needed_by` needs. `unavailable`, with the command that sets it, where there is none.
    pub fn get(&self, name: &str, needed_by: &dyn fmt::Display) -> Result<SecretString> {
        let environment = &self.environment;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (problem, fix) = match known.get(name) {
            Some(Some(value)) => return Ok(value.clone()),
            Some(None) => ("can't be decrypted", "set it again"),
            None => ("isn't set", "set it"),
        };
        let command = format!("stn secret set {name} -e {environment}");
        let message = format!("{needed_by} needs the secret `{name}`, which {problem} in environment `{environment}`");
        Err(Error::unavailable(message).hint(format!("{fix} with `{command}`")))
    }

    /// `text` with the values in the place of its references.
    pub fn fill(&self, text: &SecretText, needed_by: &dyn fmt::Display) -> Result<SecretString> {
        let mut filled = zeroize::Zeroizing::new(String::new());
        for piece in text.pieces() {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Secret(name) => filled.push_str(self.get(name, needed_by)?.expose_secret()),
            }
        }
        Ok(SecretString::from(filled.as_str()))
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Values").field("environment", &self.environment).field("names", &known.keys()).finish()
    }
}
