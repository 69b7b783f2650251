//! Changes one variable of `variables.yml` and leaves the rest as its author wrote it.

use super::super::placeholder::is_name;
use super::super::variables::parse_variables;
use super::{refused, splice};
use crate::domain::quoted;
use crate::error::{Error, Result};
use serde_json::Value;

/// The most bytes of a value: what one environment variable of a process on Linux can hold (`MAX_ARG_STRLEN`).
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024;

/// Whether a variable can have this name and this value.
pub fn check_variable(name: &str, value: &str) -> Result<()> {
    if !is_name(name) {
        return Err(Error::invalid_input(format!("{} is no variable name", quoted(name)))
            .hint("letters, digits and `_` are allowed, and no digit first")
            .field("name"));
    }
    if value.contains('\0') {
        return Err(Error::invalid_input(format!("the value of `{name}` has a NUL character, which no process takes"))
            .hint("leave it out")
            .field("value"));
    }
    if value.len() > MAX_VARIABLE_BYTES {
        return Err(Error::payload_too_large(format!(
            "the value of `{name}` has {} bytes, and {MAX_VARIABLE_BYTES} are allowed",
            value.len()
        ))
        .hint("put it into a file and the file's path into the variable")
        .field("value"));
    }
    Ok(())
}

/// The text of the variables file that people know as `file`, with `name` set to `value`, or without it. Refused with the reason where
/// the file is broken, where the variable can't be changed on its own, and where the result would say anything else than the old text
/// with this one change.
pub fn update_variable(file: &str, text: &str, name: &str, value: Option<&str>) -> Result<String> {
    let mut expected = parse_variables(file, text)?;
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let new = value.map(|value| Value::String(value.to_owned()));
    let changed =
        splice::change(text, &[name], new.as_ref(), newline).map_err(|reason| refused(file, name, &reason))?;
    match value {
        Some(value) => expected.insert(name.to_owned(), value.to_owned()),
        None => expected.remove(name),
    };
    match parse_variables(file, &changed) {
        Ok(found) if found == expected => Ok(changed),
        _ => Err(refused(file, name, "the result would say something else than was asked for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "environments/development/variables.yml";

    #[test]
    fn only_the_variable_s_own_line_changes() {
        let text = "# where things are\nROOT: /data # the disk\n\nNAME: 'old'\n";
        let set = |name, value| update_variable(FILE, text, name, Some(value)).unwrap();
        assert_eq!(set("NAME", "new"), "# where things are\nROOT: /data # the disk\n\nNAME: new\n");
        assert_eq!(set("ROOT", "/x"), "# where things are\nROOT: \"/x\" # the disk\n\nNAME: 'old'\n");
        assert_eq!(set("MORE", "1"), format!("{text}MORE: \"1\"\n"));
        let gone = update_variable(FILE, text, "ROOT", None).unwrap();
        assert_eq!(gone, "# where things are\n\nNAME: 'old'\n");
        assert_eq!(update_variable(FILE, "# none yet\n", "A", Some("b")).unwrap(), "# none yet\nA: b\n");
        assert_eq!(update_variable(FILE, "A: 1\r\n", "B", Some("c")).unwrap(), "A: 1\r\nB: c\r\n");
    }

    #[test]
    fn every_value_is_read_back_as_it_was_given() {
        for value in
            ["", "no", "012", "1.10", "a\"b\\c", "two\nlines\r\n", "$HOME {{ .X }}", "ünï\u{1F600}", " a ", "# x"]
        {
            let text = update_variable(FILE, "A: 1\n", "B", Some(value)).unwrap();
            assert_eq!(parse_variables(FILE, &text).unwrap()["B"], value, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_changed_on_its_own_is_refused_with_the_reason() {
        let refusal = |text: &str| update_variable(FILE, text, "B", Some("2")).unwrap_err().to_string();
        assert!(refusal("A: &a 1\nB: *a\n").contains("alias"), "{}", refusal("A: &a 1\nB: *a\n"));
        assert!(refusal("A: [1]\n").contains("single value"));
        assert!(check_variable("1A", "").is_err() && check_variable("A-B", "").is_err());
        assert!(
            check_variable("A", "a\0b").is_err() && check_variable("A", &"x".repeat(MAX_VARIABLE_BYTES + 1)).is_err()
        );
    }
}
