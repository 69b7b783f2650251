//! Reading on after a fault, so that a check can tell every one.

use super::fields::Fields;
use super::keys::Keys;
use super::problem::FileProblem;
use crate::domain::Name;

/// What is wrong, in the order in which it is found.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<FileProblem>);

/// A file with at least one fault.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) first: Box<FileProblem>,
    pub(super) further: Vec<FileProblem>,
}

impl From<FileProblem> for Faulty {
    fn from(first: FileProblem) -> Self {
        Self { first: Box::new(first), further: Vec::new() }
    }
}

impl Faults {
    /// What could be read; a fault is kept.
    pub(super) fn take<T>(&mut self, read: Result<T, FileProblem>) -> Option<T> {
        read.map_err(|problem| self.0.push(problem)).ok()
    }

    /// The map `key`, if it is there, with the keys that it may have checked.
    pub(super) fn section<'a>(&mut self, of: &Fields<'a>, key: &str, keys: &Keys) -> Option<Fields<'a>> {
        let found = self.take(of.map(key)).flatten()?;
        self.0.extend(found.faults(keys));
        Some(found)
    }

    /// The maps under `key`, by their checked names; one that says nothing is left out.
    pub(super) fn named<'a>(&mut self, root: &Fields<'a>, key: &str, keys: &Keys) -> Vec<(Name, Fields<'a>)> {
        let Some(outer) = self.take(root.map(key)).flatten() else { return Vec::new() };
        let mut found = Vec::new();
        for text in outer.keys() {
            let name = Name::new(text).map_err(|invalid| outer.key_problem(text, invalid.to_string()));
            let Some(name) = self.take(name) else { continue };
            found.extend(self.section(&outer, text, keys).map(|fields| (name, fields)));
        }
        found
    }

    /// `read`, unless something was wrong.
    pub(super) fn or<T>(self, read: T) -> Result<T, Faulty> {
        let mut faults = self.0.into_iter();
        match faults.next() {
            None => Ok(read),
            Some(first) => Err(Faulty { first: Box::new(first), further: faults.collect() }),
        }
    }
}
