//! How deep a template nests. Its parser and whatever walks its tree call themselves for every level, so that a template of some thousand
//! levels would end the process; it is refused before anybody parses it.

/// Parentheses and brackets inside one expression.
const MOST_NESTED: usize = 32;
/// Blocks inside each other, with their `else if`.
const MOST_BLOCKS: usize = 64;

/// What nests too deeply, with the offset where it does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// Reads `template` as Handlebars' grammar has it: strings, `[names in brackets]`, comments and escapes.
pub(super) fn check(template: &str) -> Result<(), TooDeep> {
    let mut blocks: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(found) = template[at..].find("{{") {
        let open = at + found;
        at = open + 2;
        let backslashes = template[..open].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if backslashes == 1 {
            continue;
        }
        let inside = template[at..].trim_start_matches(['{', '~', ' ', '\t', '\r', '\n']);
        let begin = template.len() - inside.len();
        if let Some(comment) = inside.strip_prefix('!') {
            let (text, end) = comment.strip_prefix("--").map_or((comment, "}}"), |text| (text, "--"));
            let start = template.len() - text.len();
            at = text.find(end).map_or(template.len(), |length| start + length);
            continue;
        }
        match (inside.chars().next(), blocks.last_mut()) {
            (Some('#'), _) => blocks.push(1),
            (Some('/'), _) => drop(blocks.pop()),
            (_, Some(block)) if inside.starts_with("else") => *block += 1,
            _ if template[open..].starts_with("{{{{") => blocks.push(1),
            _ => {}
        }
        if blocks.iter().sum::<usize>() > MOST_BLOCKS {
            let reason = format!("more than {MOST_BLOCKS} blocks stand inside each other");
            return Err(TooDeep { at: open, reason });
        }
        at = expression(template, begin)?;
    }
    Ok(())
}

/// The end of the expression whose inside begins at `begin`.
fn expression(template: &str, begin: usize) -> Result<usize, TooDeep> {
    let mut open: usize = 0;
    let mut at = begin;
    while let Some(c) = template[at..].chars().next() {
        let rest = &template[at..];
        if rest.starts_with("}}") {
            return Ok(at + 2);
        }
        match c {
            '"' | '\'' => {
                at = string_end(template, at);
                continue;
            }
            '(' | '[' => open += 1,
            ')' | ']' => open = open.saturating_sub(1),
            _ => {}
        }
        if c == '[' && splits_a_string(template, at) {
            return Err(TooDeep { at, reason: "a name in brackets has a quote without its partner".to_owned() });
        }
        if open > MOST_NESTED {
            let reason = format!("more than {MOST_NESTED} parentheses or brackets stand inside each other");
            return Err(TooDeep { at, reason });
        }
        at += c.len_utf8();
    }
    Ok(template.len())
}

/// Behind the string that begins with the quote at `start`.
fn string_end(template: &str, start: usize) -> usize {
    let quote = template.as_bytes()[start];
    let mut escaped = false;
    let length = template.as_bytes()[start + 1..].iter().position(|byte| {
        let ends = *byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    length.map_or(template.len(), |length| start + length + 2)
}

/// Whether the first `]` behind the `[` at `start` lies in a string: then the two ways to read the bracket, as a list and as a name, end at
/// different places.
fn splits_a_string(template: &str, start: usize) -> bool {
    let close = template[start..].find(']').map_or(template.len(), |length| start + length);
    let mut at = start + 1;
    while at < close {
        at = match template.as_bytes()[at] {
            b'"' | b'\'' => string_end(template, at),
            _ => at + 1,
        };
    }
    at > close
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(template: &str) -> bool {
        check(template).is_err()
    }

    #[test]
    fn what_nests_too_deeply_is_refused_however_it_is_written() {
        let deep = |open: &str, close: &str| format!("a{}x{}b", open.repeat(100), close.repeat(100));
        assert!(refused(&format!("{{{{json {}}}}}", deep("(eq ", " a)"))));
        assert!(refused(&format!("{{{{json {}", "(eq ".repeat(100))));
        assert!(refused(&format!("{{{{json {}}}}}", deep("[", "]"))));
        assert!(refused(&format!("{{{{json {}", "(eq \")\" ".repeat(100))));
        assert!(refused(&format!("{{{{json \"}}}}\" {}", "(eq ".repeat(100))));
        assert!(refused(&format!("{{{{json [a\"] \"}}}}\" {}", "(eq ".repeat(100))));
        assert!(refused(&format!("\\\\{{{{json {}", "(eq ".repeat(100))));
        assert!(refused(&deep("{{#if x}}", "{{/if}}")));
        assert!(refused(&deep("{{~ #if \"{{/if}}\" }}", "{{/if}}")));
        assert!(refused(&format!("{{{{#if x}}}}{}{{{{/if}}}}", "{{else if y}}".repeat(100))));
    }

    #[test]
    fn prose_and_many_expressions_beside_each_other_are_no_nesting() {
        for fine in [
            "((((".repeat(1_000),
            "{{role \"user\"}} it's (((((((((((((((((((((((((((((((((((((((((((((((((((".to_owned(),
            "{{#if (eq a \"(\")}}{{items.[0].name}}{{else}}{{json [\"a\", \"b\"]}}{{/if}}".repeat(1_000),
            "{{! don't (((((((((((((((((((((((((((((((((((((((((((((((( }}{{!-- it's {{ -- }}".repeat(10),
            "\\{{ don't }} ((((((((((((((((((((((((((((((((((((((((((((((((((((".to_owned(),
            "{{#if x}}ä{{/if}}".repeat(1_000),
            "{{".to_owned(),
            "{{\"".to_owned(),
            "{{[".to_owned(),
        ] {
            assert_eq!(check(&fine), Ok(()), "{fine}");
        }
    }
}
