//! The process's environment, as far as it is text.

use crate::error::Result;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The variables that are UTF-8, and the names of those whose value isn't.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    pub readable: BTreeMap<String, String>,
    pub unreadable: Vec<String>,
}

impl Variables {
    /// Sorts what `std::env::vars_os` gives. A variable whose name isn't UTF-8 is nothing that Station reads.
    pub fn read(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => {
                    variables.readable.insert(name, value);
                }
                (Ok(name), Err(_)) => variables.unreadable.push(name),
                (Err(_), _) => {}
            }
        }
        variables
    }

    /// An error when one of the unreadable variables would count: to ignore it would be to use another home, key or station than was
    /// asked for.
    pub fn refuse_unreadable(&self) -> Result<()> {
        match self.unreadable.iter().find(|name| self.counts(name)) {
            None => Ok(()),
            Some(name) => Err(super::misconfigured(format!("the value of {name} is not UTF-8"))
                .hint(if name.starts_with("STN_") {
                    format!("set {name} to UTF-8 text, or unset it")
                } else {
                    "set STN_HOME to a path that is UTF-8".to_owned()
                })
                .field(name)),
        }
    }

    /// The variables of the home count in their order, as [`super::Home::resolve`] has it.
    fn counts(&self, name: &str) -> bool {
        let set = |name: &str| self.readable.get(name).is_some_and(|value| !value.is_empty());
        let elsewhere = set("STN_HOME") || self.readable.get("STN_LAYOUT").is_some_and(|layout| layout == "system");
        match name {
            "XDG_CONFIG_HOME" => !elsewhere,
            "HOME" => !elsewhere && !self.readable.get("XDG_CONFIG_HOME").is_some_and(|path| path.starts_with('/')),
            _ => name.starts_with("STN_"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn refused(unreadable: &str, readable: &[(&str, &str)]) -> Option<String> {
        let readable = readable.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let broken = (OsString::from(unreadable), OsString::from_vec(b"/tmp/\xff".to_vec()));
        let refused = Variables::read(readable.chain([broken])).refuse_unreadable();
        refused.err().and_then(|error| error.field_name().map(str::to_owned))
    }

    #[test]
    fn an_unreadable_variable_that_counts_is_refused_by_name() {
        for name in ["STN_HOME", "STN_KEY", "XDG_CONFIG_HOME", "HOME"] {
            assert_eq!(refused(name, &[("PATH", "/bin")]).as_deref(), Some(name));
        }
        assert_eq!(refused("STN_HOME", &[("HOME", "/h")]).as_deref(), Some("STN_HOME"));
    }

    #[test]
    fn an_unreadable_variable_that_decides_nothing_is_no_reason_to_end() {
        assert_eq!(refused("LS_COLORS", &[]), None);
        assert_eq!(refused("HOME", &[("STN_HOME", "/h")]), None);
        assert_eq!(refused("HOME", &[("XDG_CONFIG_HOME", "/h")]), None);
        assert_eq!(refused("XDG_CONFIG_HOME", &[("STN_LAYOUT", "system")]), None);
    }
}
