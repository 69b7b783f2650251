//! The redactor that stands before every sink: whatever leaves the process or is kept passes it, and no value of a secret gets through.
//!
//! It is the second line. The first is that secrets are references until the last hop; but a server echoes what it was given, an error
//! quotes a header, and a model repeats what it has read. Here the known values are looked for, as they are and in the spellings in which
//! programs hand text on (`spellings.rs` lists them), and replaced by `[redacted:NAME]`.
//!
//! Who holds a redactor looks for the secrets of all environments, or for those of one ([`Redactor::within`]). The log is the station's and
//! has all; what an environment keeps and answers has its own, because whoever sees a text vanish there learns that it is a secret.
//!
//! What it can't know: a value shorter than [`SHORTEST`] bytes (it would be found everywhere), one that was cut in pieces, or one that
//! was transformed beyond those spellings. The values are in this process's memory for as long as they are known.

mod json;
mod patterns;
mod spellings;
mod stream;
mod view;

pub use stream::RedactedStream;

use crate::domain::Name;
use patterns::Patterns;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use view::View;

/// The least bytes that a value must have to be looked for.
pub const SHORTEST: usize = 8;

/// The most values that are remembered for one name of a scope; earlier ones go first.
const VALUES_OF_A_NAME: usize = 16;

/// The scope of the keys that models are called with. They concern every environment.
pub const PROVIDERS: &str = "providers";

/// The scope of what the station itself must not tell, such as the local key. It concerns every environment.
pub const STATION: &str = "station";

/// The scope of the secrets of an environment.
pub fn scope_of(environment: &Name) -> String {
    format!("environment {environment}")
}

/// The texts that a value is looked for as: itself, without the white space around it, and its longer lines.
pub fn texts_of(value: &str) -> Vec<&str> {
    spellings::texts(value)
}

/// Whether a long `value` repeats its own beginning: looking for it would take a time that grows with the square of a text like it.
pub fn repeats_itself(value: &str) -> bool {
    patterns::repeats_itself(value)
}

/// Knows the values of secrets and takes them out of what it is given. Cheap to clone; all clones know the same values.
#[derive(Clone, Default)]
pub struct Redactor {
    shared: Arc<Shared>,
    /// The one scope that is looked at beside [`PROVIDERS`] and [`STATION`]; absent = all.
    only: Option<Arc<str>>,
}

#[derive(Default)]
struct Shared {
    /// By scope: names and values. Also held while the patterns are made from them, so that the last change wins.
    known: Mutex<BTreeMap<String, Vec<(String, SecretString)>>>,
    /// By scope: what is looked for. A scope without values has none.
    patterns: RwLock<BTreeMap<String, Arc<Patterns>>>,
}

impl Redactor {
    /// One that looks for the values of `scope` and of the station, and not for those of other scopes.
    pub fn within(&self, scope: &str) -> Self {
        Self { shared: Arc::clone(&self.shared), only: Some(scope.into()) }
    }

    /// Knows exactly `named` in `scope` from now on: the secrets of an environment after they were loaded or changed.
    pub fn replace(&self, scope: &str, named: Vec<(String, SecretString)>) {
        self.change(scope, |known| {
            *known = named;
            true
        });
    }

    /// Knows one value more. An earlier value of that name stays known, because it may still be on its way somewhere.
    pub fn add(&self, scope: &str, name: &str, value: &SecretString) {
        self.change(scope, |values| {
            let same = |(other, known): &(String, SecretString)| {
                other == name && known.expose_secret() == value.expose_secret()
            };
            if values.iter().any(same) {
                return false;
            }
            if values.iter().filter(|(other, _)| other == name).count() >= VALUES_OF_A_NAME
                && let Some(oldest) = values.iter().position(|(other, _)| other == name)
            {
                values.remove(oldest);
            }
            values.push((name.to_owned(), value.clone()));
            true
        });
    }

    /// Forgets those values of `scope` that `forget` accepts.
    pub fn forget(&self, scope: &str, forget: impl Fn(&str) -> bool) {
        self.change(scope, |values| {
            let before = values.len();
            values.retain(|(_, value)| !forget(value.expose_secret()));
            values.len() < before
        });
    }

    /// Forgets the values of `scope`.
    pub fn remove(&self, scope: &str) {
        self.change(scope, |values| !std::mem::take(values).is_empty());
    }

    /// `change` tells whether it changed anything.
    fn change(&self, scope: &str, change: impl FnOnce(&mut Vec<(String, SecretString)>) -> bool) {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let values = known.entry(scope.to_owned()).or_default();
        if !change(values) {
            return;
        }
        let named = values.iter().map(|(name, value)| (name.as_str(), value.expose_secret()));
        let made = match Patterns::new(named) {
            Ok(made) => made,
            Err(error) => {
                tracing::error!(%error, "secrets can't be looked for: those known before still are");
                return;
            }
        };
        let mut patterns = self.shared.patterns.write().unwrap_or_else(PoisonError::into_inner);
        match made {
            Some(made) => patterns.insert(scope.to_owned(), Arc::new(made)),
            None => patterns.remove(scope),
        };
    }

    /// Whether nothing is known, and everything passes as it is.
    pub fn is_empty(&self) -> bool {
        self.view().is_none()
    }

    /// `text` without the known values; borrowed when there was none.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.view().and_then(|view| view.redact(text.as_bytes())) {
            // What is taken out begins and ends between characters.
            Some(redacted) => Cow::Owned(String::from_utf8_lossy(&redacted).into_owned()),
            None => Cow::Borrowed(text),
        }
    }

    /// As [`Self::text`], for a string that is owned.
    pub fn string(&self, text: String) -> String {
        match self.text(&text) {
            Cow::Owned(redacted) => redacted,
            Cow::Borrowed(_) => text,
        }
    }

    /// `bytes` without the known values; borrowed when there was none.
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.view().and_then(|view| view.redact(bytes)) {
            Some(redacted) => Cow::Owned(redacted),
            None => Cow::Borrowed(bytes),
        }
    }

    /// `value` without the known values, in strings, keys and numbers. What spans an array or object replaces the whole of it.
    pub fn json(&self, mut value: Value) -> Value {
        self.json_in_place(&mut value);
        value
    }

    /// As [`Self::json`]. `true` when something was replaced.
    pub fn json_in_place(&self, value: &mut Value) -> bool {
        self.view().is_some_and(|view| json::value(&view, value))
    }

    /// JSON text without the known values; borrowed, byte for byte, when there was none. Only the strings and numbers that hold one are
    /// written anew. Text that is no JSON is treated as [`Self::text`] does.
    pub fn json_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.view().and_then(|view| json::text(&view, text)) {
            Some(redacted) => Cow::Owned(redacted),
            None => Cow::Borrowed(text),
        }
    }

    /// As [`Self::json_text`], for JSON that passes through raw.
    pub fn raw(&self, raw: Box<RawValue>) -> Box<RawValue> {
        match self.json_text(raw.get()) {
            Cow::Borrowed(_) => raw,
            Cow::Owned(text) => RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        }
    }

    /// A filter for what comes in pieces.
    pub fn stream(&self) -> RedactedStream {
        RedactedStream::new(self.clone())
    }

    /// What is looked for; `None` while nothing is known.
    fn view(&self) -> Option<View> {
        let patterns = self.shared.patterns.read().unwrap_or_else(PoisonError::into_inner);
        View::of(match &self.only {
            None => patterns.values().cloned().collect(),
            Some(only) => {
                [STATION, PROVIDERS, &**only].iter().filter_map(|scope| patterns.get(*scope)).cloned().collect()
            }
        })
    }
}

/// Tells how many values are known, and none of them.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Redactor").field("values", &known.values().map(Vec::len).sum::<usize>()).finish()
    }
}

#[cfg(test)]
mod tests;
