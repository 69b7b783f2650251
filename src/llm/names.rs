//! Tool names on the wire. What every provider takes is 1 to 64 characters of `[a-zA-Z0-9_-]`, the first a letter or `_` (Gemini's rule);
//! names that differ are mapped, and back.

use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

const LONGEST: usize = 64;

/// The two-way map of one request. Names that fit are not in it.
#[derive(Debug, Default)]
pub(super) struct NameMap {
    to_wire: HashMap<String, String>,
    from_wire: HashMap<String, String>,
}

impl NameMap {
    /// Gives every name that doesn't fit one that does and that nobody else has.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let mut taken: HashSet<String> = names.clone().filter(|name| fits(name)).map(str::to_owned).collect();
        let mut map = Self::default();
        for name in names.filter(|name| !fits(name)) {
            if map.to_wire.contains_key(name) {
                continue;
            }
            let wire = fitted(name, &taken);
            taken.insert(wire.clone());
            map.from_wire.insert(wire.clone(), name.to_owned());
            map.to_wire.insert(name.to_owned(), wire);
        }
        map
    }

    /// The wire's name for one of ours; also for a tool that is only in the history.
    pub(super) fn wire<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        match self.to_wire.get(name) {
            Some(wire) => Cow::Borrowed(wire),
            None if fits(name) => Cow::Borrowed(name),
            None => Cow::Owned(fitted(name, &HashSet::new())),
        }
    }

    /// Our name for one from the wire; one that was never offered stays as it is.
    pub(super) fn ours(&self, wire: &str) -> String {
        self.from_wire.get(wire).map_or_else(|| wire.to_owned(), Clone::clone)
    }
}

fn fits(name: &str) -> bool {
    name.len() <= LONGEST && begins_well(name) && name.bytes().all(is_allowed)
}

fn begins_well(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn fitted(name: &str, taken: &HashSet<String>) -> String {
    let plain = replaced(name);
    let plain = if begins_well(&plain) { plain } else { format!("_{plain}") };
    if fits(&plain) && !taken.contains(&plain) {
        return plain;
    }
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = plain.chars().take(LONGEST - hash.len() - 1).collect();
    format!("{kept}_{hash}")
}

/// Every character that isn't allowed becomes `_`. Also for call ids that come from another provider.
pub(super) fn replaced(text: &str) -> String {
    text.chars().map(|c| if u8::try_from(c).is_ok_and(is_allowed) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_fitting_and_come_back_as_they_were() {
        let long = "x".repeat(80);
        let names = ["plain_name", "a.b", "a_b", "a/b", long.as_str(), "", "7zip__list", "-x"];
        let map = NameMap::new(names.into_iter());
        let wires: Vec<_> = names.iter().map(|name| map.wire(name).into_owned()).collect();
        assert_eq!(wires.iter().collect::<HashSet<_>>().len(), names.len(), "{wires:?}");
        assert_eq!(wires[0], "plain_name");
        assert_eq!(wires[2], "a_b");
        for (name, wire) in names.iter().zip(&wires) {
            assert!(fits(wire), "{wire}");
            assert_eq!(&map.ours(wire), name);
        }
        assert_eq!(map.ours("never_offered"), "never_offered");
    }
}
