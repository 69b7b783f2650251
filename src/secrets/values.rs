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

    /// Whether `value` is the one of the secret `name`.
    pub(super) fn is(&self, name: &str, value: &SecretString) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        matches!(known.get(name), Some(Some(now)) if now.expose_secret() == value.expose_secret())
    }

    /// The secrets of whose values `look` says something, by name, with what it says.
    pub fn among<T>(&self, look: impl Fn(&str) -> Option<T>) -> Vec<(String, T)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let looked_at = known.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        looked_at.filter_map(|(name, value)| Some((name.clone(), look(value.expose_secret())?))).collect()
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

    /// The same, for a header of a request: `unavailable` where the value has a character that no header can carry, such as a line break.
    pub fn get_for_header(&self, name: &str, needed_by: &dyn fmt::Display) -> Result<SecretString> {
        let value = self.get(name, needed_by)?;
        if !value.expose_secret().chars().any(|c| c.is_control() && c != '\t') {
            return Ok(value);
        }
        let command = format!("stn secret set {name} -e {}", self.environment);
        let message = format!(
            "{needed_by} needs the secret `{name}` in a header, and no header can carry the line break or other control character in it"
        );
        Err(Error::unavailable(message).hint(format!("set it without one with `{command}`")))
    }

    /// `text` with the values in the place of its references.
    pub fn fill(&self, text: &SecretText, needed_by: &dyn fmt::Display) -> Result<SecretString> {
        filled(text, |name| self.get(name, needed_by))
    }

    /// The same, for a header of a request.
    pub fn fill_header(&self, text: &SecretText, needed_by: &dyn fmt::Display) -> Result<SecretString> {
        filled(text, |name| self.get_for_header(name, needed_by))
    }
}

fn filled(text: &SecretText, value: impl Fn(&str) -> Result<SecretString>) -> Result<SecretString> {
    let mut filled = zeroize::Zeroizing::new(String::new());
    for piece in text.pieces() {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Secret(name) => filled.push_str(value(name)?.expose_secret()),
        }
    }
    Ok(SecretString::from(filled.as_str()))
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Values").field("environment", &self.environment).field("names", &known.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_takes_no_line_break_and_a_process_does() {
        let values = Values::none(Name::new("development").unwrap());
        values.put("PEM", Some("-----BEGIN-----\nabc\n".to_owned().into()));
        values.put("PLAIN", Some("one".to_owned().into()));
        let text = |name: &str| SecretText::new(vec![Piece::Text("Bearer ".into()), Piece::Secret(name.into())]);
        let needed_by = "server `s` (a.json)";
        assert_eq!(values.fill_header(&text("PLAIN"), &needed_by).unwrap().expose_secret(), "Bearer one");
        assert!(values.fill(&text("PEM"), &needed_by).is_ok());
        let refused = values.fill_header(&text("PEM"), &needed_by).unwrap_err();
        assert!(refused.message().starts_with("server `s` (a.json) needs the secret `PEM` in a header"), "{refused}");
        assert!(!format!("{refused:?}").contains("BEGIN"));
    }
}
