//! `{{ .VAR }}` in one text of a server's JSON. A value is put in as it is and never parsed again, so nothing in it can add JSON or
//! another placeholder.

use super::problem::FileProblem;
use crate::domain::{Piece, SecretText, quoted};
use std::collections::BTreeMap;

/// Where variables come from: the process's first (only those that the environment allow-lists), then `variables.yml`.
#[derive(Debug, Clone, Copy)]
pub struct VariableScope<'a> {
    pub process: &'a BTreeMap<String, String>,
    /// Or what is wrong with the file: then nobody knows what it would say.
    pub file: Result<&'a BTreeMap<String, String>, &'a FileProblem>,
}

impl VariableScope<'_> {
    fn get(&self, name: &str) -> Result<Option<&str>, Unfilled> {
        let found = match (self.process.get(name), self.file) {
            (None, Ok(file)) => file.get(name),
            // Not even a default may stand in: the server would be another one than the person has written.
            (None, Err(problem)) => {
                return Err(Unfilled::Unreadable { name: name.to_owned(), problem: problem.to_string() });
            }
            (given, _) => given,
        };
        Ok(found.map(String::as_str))
    }
}

/// Why a text can't be filled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// No source has the variable.
    Missing(String),
    /// `variables.yml` would have to say it, and is broken.
    Unreadable {
        name: String,
        problem: String,
    },
    /// It refers to a secret.
    Secret(String),
    Malformed(String),
}

/// Fills every placeholder of `text`, which may not refer to a secret.
pub(super) fn fill(text: &str, scope: &VariableScope<'_>) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    for piece in fill_but_secrets(text, scope)?.pieces() {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Secret(name) => return Err(Unfilled::Secret(name.clone())),
        }
    }
    Ok(filled)
}

/// Fills every placeholder of `text` but references to secrets, which stay what they are.
pub(super) fn fill_but_secrets(text: &str, scope: &VariableScope<'_>) -> Result<SecretText, Unfilled> {
    let (mut pieces, mut filled, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let end = closing(after).ok_or_else(|| malformed(text, "`{{` is never closed"))?;
        match evaluate(&after[..end], scope) {
            Err(Unfilled::Secret(name)) => {
                pieces.push(Piece::Text(std::mem::take(&mut filled)));
                pieces.push(Piece::Secret(name));
            }
            value => filled.push_str(&value?),
        }
        rest = &after[end + 2..];
    }
    filled.push_str(rest);
    pieces.push(Piece::Text(filled));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Ok(SecretText::new(pieces))
}

/// The name of the secret that `text` is nothing but a reference to: `{{ secret.NAME }}`.
pub(super) fn secret_reference(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim().strip_prefix("secret.")?;
    is_name(name).then_some(name)
}

/// The names of the variables that `text` asks for, whether it is well-formed or not.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    let expressions = text.split("{{").skip(1).map(|after| &after[..closing(after).unwrap_or(after.len())]);
    expressions.filter_map(|expression| {
        let name = pipes(expression).first()?.strip_prefix('.')?;
        is_name(name).then_some(name)
    })
}

/// The offset of the `}}` that isn't inside quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (!quoted && text[at..].starts_with("}}")).then_some(at)
    })
}

fn evaluate(expression: &str, scope: &VariableScope<'_>) -> Result<String, Unfilled> {
    let mut parts = pipes(expression).into_iter();
    let source = parts.next().unwrap_or_default();
    if let Some(name) = source.strip_prefix("secret.") {
        if !is_name(name) || parts.next().is_some() {
            return Err(malformed(expression, "write {{ secret.NAME }}, without a filter"));
        }
        return Err(Unfilled::Secret(name.to_owned()));
    }
    let name = source.strip_prefix('.').filter(|name| is_name(name));
    let name = name.ok_or_else(|| malformed(expression, "write {{ .NAME }} or {{ secret.NAME }}"))?;
    let mut value = scope.get(name)?.map(str::to_owned);
    for filter in parts {
        value = match filter {
            "upper" => value.map(|value| value.to_uppercase()),
            "lower" => value.map(|value| value.to_lowercase()),
            _ => {
                let fallback = filter.strip_prefix("default").and_then(|rest| unquote(rest.trim()));
                let fallback = fallback
                    .ok_or_else(|| malformed(expression, "the filters are default \"...\", upper and lower"))?;
                Some(value.filter(|value| !value.is_empty()).unwrap_or_else(|| fallback.to_owned()))
            }
        };
    }
    value.ok_or_else(|| Unfilled::Missing(name.to_owned()))
}

/// Splits at `|` outside quotes.
fn pipes(expression: &str) -> Vec<&str> {
    let mut quoted = false;
    expression
        .split(|c| {
            quoted ^= c == '"';
            c == '|' && !quoted
        })
        .map(str::trim)
        .collect()
}

fn unquote(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// Whether `name` can name a variable or a secret.
pub fn is_name(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn malformed(text: &str, reason: &str) -> Unfilled {
    Unfilled::Malformed(format!("{}: {reason}", quoted(text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Unfilled> {
        let process = BTreeMap::from([("A".to_owned(), "from process".to_owned())]);
        let file = BTreeMap::from(
            [("A", "from file"), ("B", "b\"}\n{{ .A }}"), ("EMPTY", "")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        fill(text, &VariableScope { process: &process, file: Ok(&file) })
    }

    #[test]
    fn the_process_comes_before_the_file_and_values_are_never_parsed_again() {
        assert_eq!(filled("x {{ .A }}/{{.B}} y").unwrap(), "x from process/b\"}\n{{ .A }} y");
        assert_eq!(filled("nothing here }}").unwrap(), "nothing here }}");
    }

    #[test]
    fn filters_apply_from_left_to_right() {
        assert_eq!(filled("{{ .NONE | default \"a|b}}\" | upper }}").unwrap(), "A|B}}");
        assert_eq!(filled("{{ .A | lower | upper }}").unwrap(), "FROM PROCESS");
        assert_eq!(filled("{{ .EMPTY | default \"x\" }}{{ .EMPTY }}").unwrap(), "x");
    }

    #[test]
    fn what_cannot_be_filled_says_what_is_missing() {
        assert_eq!(filled("{{ .NONE }}"), Err(Unfilled::Missing("NONE".into())));
        assert_eq!(filled("{{ secret.TOKEN }}"), Err(Unfilled::Secret("TOKEN".into())));
        for bad in
            ["{{ secret.A-B }}", "{{ secret.A | upper }}", "{{ A }}", "{{ .A | trim }}", "{{ .A ", "{{ .A-B }}", "{{}}"]
        {
            assert!(matches!(filled(bad), Err(Unfilled::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn a_value_that_looks_like_a_reference_to_a_secret_is_none() {
        let file = BTreeMap::from([("LOOKS".to_owned(), "{{ secret.OTHER }}".to_owned())]);
        let scope = VariableScope { process: &BTreeMap::new(), file: Ok(&file) };
        let found = fill_but_secrets("Bearer {{ secret.TOKEN }}{{ .LOOKS }}", &scope).unwrap();
        assert_eq!(found.secrets().collect::<Vec<_>>(), ["TOKEN"]);
        let expected =
            [Piece::Text("Bearer ".into()), Piece::Secret("TOKEN".into()), Piece::Text("{{ secret.OTHER }}".into())];
        assert_eq!(found.pieces(), expected);
    }

    #[test]
    fn only_a_whole_text_is_a_secret_reference() {
        assert_eq!(secret_reference(" {{ secret.OPENAI_KEY }} "), Some("OPENAI_KEY"));
        assert_eq!(secret_reference("Bearer {{ secret.X }}"), None);
        assert_eq!(secret_reference("{{ secret.X }} {{ secret.Y }}"), None);
    }
}
