//! `variables.yml`: a flat map of names and plain values, which stay as they are written (`012` is "012").

use super::fields::{Fields, Source};
use super::node::Kind;
use super::placeholder::is_name;
use super::problem::FileProblem;
use super::yaml;
use crate::domain::quoted;
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads the text of the file that people know as `file`.
pub fn parse_variables(file: &str, text: &str) -> Result<BTreeMap<String, String>, FileProblem> {
    let source = Source::file(file);
    let yaml = yaml::parse(text).map_err(|syntax| source.syntax(syntax))?;
    let Some(fields) = Fields::root(source, &yaml.value, &yaml.root)? else { return Ok(BTreeMap::new()) };
    fields.keys().map(|name| Ok((name.to_owned(), without_nul(&fields, name)?))).collect()
}

fn without_nul(fields: &Fields<'_>, name: &str) -> Result<String, FileProblem> {
    let value = value(fields, name)?;
    if value.contains('\0') {
        return Err(fields.problem(name, "it has a NUL character, which no process takes").hint("leave it out"));
    }
    Ok(value)
}

fn value(fields: &Fields<'_>, name: &str) -> Result<String, FileProblem> {
    if !is_name(name) {
        let name_rule = "letters, digits and `_` are allowed, and no digit first";
        let message = format!("{} is no variable name: {name_rule}", quoted(name));
        return Err(fields.key_problem(name, message));
    }
    if let Some(Kind::Scalar(written)) = fields.node_of(name).map(|node| &node.kind) {
        return Ok(if fields.get(name).is_none() { String::new() } else { written.clone() });
    }
    match fields.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(_) | Value::Object(_)) => {
            Err(fields.problem(name, "a variable is a single value, not a list or a map"))
        }
        Some(other) => Ok(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_are_written() {
        let text = "A: no\nB: 012\nC: 1.10\nD: \"x\\ny\"\nE:\nF: true\nG: |\n  two\n  lines\n";
        let found = parse_variables("variables.yml", text).unwrap();
        let expected =
            [("A", "no"), ("B", "012"), ("C", "1.10"), ("D", "x\ny"), ("E", ""), ("F", "true"), ("G", "two\nlines\n")];
        assert_eq!(found, expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        assert!(parse_variables("variables.yml", "# none yet\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_variable_is_refused_with_its_line() {
        let problem = parse_variables("variables.yml", "A: 1\nB: [1]\n").unwrap_err();
        assert_eq!(problem.line, Some(2));
        assert!(parse_variables("variables.yml", "a-b: 1\n").unwrap_err().message.contains("a-b"));
        assert!(parse_variables("variables.yml", "- a\n").is_err());
        let nul = parse_variables("variables.yml", "A: 1\nB: \"a\\0b\"\n").unwrap_err();
        assert!(nul.line == Some(2) && nul.message.contains("`B`: it has a NUL character"), "{nul}");
    }
}
