//! The keys that a map of a file may have. One table serves the parsers, which refuse every other key, and the JSON Schemas that editors
//! read (`schema.rs`), so that the two can't say different things.
//!
//! A new key is a row of its file's table (`prompt.rs`, `servers.rs`, `station_yml.rs`) and the line that reads it.

/// What the value of a key looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A text that says something.
    Text,
    /// Where HTTP is served: an IP address and a port.
    Listen,
    /// An http or https address, or one with placeholders.
    Url,
    /// A text for people; an empty one counts as absent.
    Note,
    Flag,
    /// `true`, `false` or one of these words.
    FlagOr(&'static [&'static str]),
    /// An amount of money: a number, or a text of one.
    Amount,
    /// A whole number from 1 to this.
    Count(u32),
    /// The same, also as a text: the Go Station reads it so.
    CountOrText(u32),
    /// `10m`, or whole seconds.
    Duration,
    Texts,
    TextMap,
    /// Values of any kind by name.
    Values,
    OneOf(&'static [&'static str]),
    /// `provider/model`.
    Model,
    /// `provider/model`, or a model's name alone, as the Go Station writes it.
    AgentModel,
    /// A name as [`crate::domain::Name`] has it.
    Name,
    Map(&'static Keys),
    /// Maps by names that people choose; the text is a pattern of these names, empty = any.
    Named(&'static str, &'static Keys),
    /// A JSON Schema or Picoschema.
    Schema,
}

/// A key, and what it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) about: &'static str,
}

/// Which keys of a map have to be there. The parsers refuse what lacks them in their own words; editors learn it from the schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Needs {
    Nothing,
    /// Each of these.
    All(&'static [&'static str]),
    /// Exactly one of these.
    One(&'static [&'static str]),
    /// This key, unless the map's own name is one of these.
    KeyUnlessNamed(&'static str, &'static [&'static str]),
}

/// All keys of one map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    pub(super) known: &'static [Key],
    pub(super) needs: Needs,
    /// Of the format, but in force only in a later version: refused rather than ignored.
    pub(super) later: &'static [&'static str],
    /// Of the Go Station or of dotprompt, and without effect here: accepted with a warning that says so, and what it means.
    pub(super) idle: &'static [(&'static str, &'static str)],
}

pub(super) const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, about }
}

/// The paths of all keys, with a name in the place of those that people choose.
#[cfg(test)]
pub(super) fn every_place_of(keys: &Keys) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for key in keys.known {
        let begin = |way: &[&str]| -> Vec<String> { way.iter().map(|key| (*key).to_owned()).collect() };
        let (way, inner) = match key.form {
            Form::Map(inner) => (begin(&[key.name]), Some(inner)),
            Form::Named(pattern, inner) => {
                (begin(&[key.name, if pattern.contains('/') { "a/b" } else { "a" }]), Some(inner))
            }
            _ => (begin(&[key.name]), None),
        };
        let deeper = inner.map(every_place_of).unwrap_or_default();
        found.extend(deeper.into_iter().map(|rest| way.iter().cloned().chain(rest).collect()));
        found.push(way);
    }
    found
}

impl Keys {
    /// Keys that are all in force.
    pub(super) const fn of(known: &'static [Key]) -> Self {
        Self { known, needs: Needs::Nothing, later: &[], idle: &[] }
    }

    /// The same keys, some of which have to be there.
    pub(super) const fn needing(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|key| key.name)
    }
}
