//! How deeply a prompt's template nests. The library that compiles it, and whatever walks the result, calls itself once for each level: a
//! template of some thousand levels would end the whole process. So its text is looked through first, without recursion.
//!
//! Only a text that is read here as the library reads it can be bounded. Where one would have to know more of its grammar (lists and maps
//! that are written inside an expression, which Handlebars itself doesn't have), the text is refused.

/// Parentheses inside each other in one expression.
const MOST_NESTED: usize = 32;
/// Blocks inside each other, with their `{{else}}`.
const MOST_BLOCKS: usize = 64;

/// Why a template can't be compiled safely, with the offset where that begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// Refuses a template that nests too deeply. What is no valid Handlebars otherwise is left to the library to tell.
pub(super) fn check(text: &str) -> Result<(), TooDeep> {
    let mut scan = Scan { text, at: 0, blocks: Vec::new() };
    match scan.template() {
        Ok(()) | Err(Stop::Unreadable) => Ok(()),
        Err(Stop::Refused(reason)) => Err(TooDeep { at: scan.at, reason }),
    }
}

/// Why nothing behind a place is looked at.
enum Stop {
    /// The library stops here as well.
    Unreadable,
    Refused(String),
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// The levels of each open block: one, and one for each of its `{{else}}`, which the library nests too.
    blocks: Vec<usize>,
}

impl Scan<'_> {
    fn template(&mut self) -> Result<(), Stop> {
        while let Some(found) = self.rest().find("{{") {
            let before = &self.rest()[..found];
            let is_escaped = before.len() - before.trim_end_matches('\\').len() == 1;
            self.at += found;
            if is_escaped {
                self.skip(2);
                self.skip_if("{{");
            } else if self.rest().starts_with("{{{{") {
                self.raw_block()?;
            } else {
                self.tag()?;
            }
        }
        Ok(())
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn skip_if(&mut self, start: &str) -> bool {
        let is_there = self.rest().starts_with(start);
        self.skip(if is_there { start.len() } else { 0 });
        is_there
    }

    fn skip_spaces(&mut self) {
        self.skip(self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len());
    }

    /// Steps behind the next `end`.
    fn skip_to(&mut self, end: &str) -> Result<(), Stop> {
        let found = self.rest().find(end).ok_or(Stop::Unreadable)?;
        self.skip(found + end.len());
        Ok(())
    }

    /// `{{{{raw}}}}`, in which everything is text, up to its `{{{{/raw}}}}`.
    fn raw_block(&mut self) -> Result<(), Stop> {
        self.skip(4);
        self.expression()?;
        loop {
            let found = self.rest().find("{{{{").ok_or(Stop::Unreadable)?;
            let before = &self.rest()[..found];
            let is_escaped = before.len() - before.trim_end_matches('\\').len() == 1;
            self.skip(found + 4);
            if !is_escaped {
                return self.expression();
            }
        }
    }

    /// One `{{..}}`.
    fn tag(&mut self) -> Result<(), Stop> {
        self.skip(2);
        if self.skip_if("!") {
            return self.comment();
        }
        self.skip_spaces();
        self.skip_if("~");
        self.skip_spaces();
        match self.rest().bytes().next() {
            Some(b'#') => {
                let opened = self.at;
                self.skip(1);
                self.skip_spaces();
                self.no_partial()?;
                self.blocks.push(1);
                self.at = opened;
                self.levels_of_blocks()?;
                self.skip(1);
            }
            Some(b'/') => drop(self.blocks.pop()),
            Some(b'^') => self.inverse()?,
            Some(b'e') if self.rest().starts_with("else") => self.inverse()?,
            Some(b'{') => self.skip(1),
            _ => self.no_partial()?,
        }
        self.expression()
    }

    fn comment(&mut self) -> Result<(), Stop> {
        let after = self.rest().trim_start_matches([' ', '\t', '\r', '\n']);
        match after.strip_prefix("--").map(|text| (text, text.find("--}}"))) {
            Some((text, Some(end))) => {
                self.at = self.text.len() - text.len() + end + "--}}".len();
                Ok(())
            }
            _ => self.skip_to("}}"),
        }
    }

    /// Partials read what stands in brackets in another way; there are none here anyway.
    fn no_partial(&self) -> Result<(), Stop> {
        match self.rest().bytes().next() {
            Some(b'>' | b'*') => Err(Stop::Refused("partials and decorators are not supported in prompts".to_owned())),
            _ => Ok(()),
        }
    }

    fn inverse(&mut self) -> Result<(), Stop> {
        if let Some(levels) = self.blocks.last_mut() {
            *levels += 1;
        }
        self.levels_of_blocks()
    }

    fn levels_of_blocks(&self) -> Result<(), Stop> {
        if self.blocks.iter().sum::<usize>() <= MOST_BLOCKS {
            return Ok(());
        }
        Err(Stop::Refused(format!("more than {MOST_BLOCKS} blocks and `{{{{else}}}}` stand inside each other")))
    }

    /// From behind the opening braces to behind the closing ones.
    fn expression(&mut self) -> Result<(), Stop> {
        let mut levels = 0_usize;
        loop {
            let byte = self.rest().bytes().next().ok_or(Stop::Unreadable)?;
            match byte {
                b'}' if self.rest().starts_with("}}") => {
                    self.skip(2);
                    return Ok(());
                }
                b'(' if levels == MOST_NESTED => {
                    let reason = format!("more than {MOST_NESTED} parentheses stand inside each other");
                    return Err(Stop::Refused(reason));
                }
                b'(' => levels += 1,
                b')' => levels = levels.saturating_sub(1),
                b'"' | b'\'' => self.literal(byte)?,
                b'[' => self.brackets()?,
                b'{' => return Err(Stop::Refused(written_in("a map"))),
                _ => {}
            }
            // What is stepped over is the byte that has been looked at, or the last one of a text or of brackets.
            self.skip(self.rest().chars().next().map_or(1, char::len_utf8));
        }
    }

    /// To the quote that ends the text whose opening quote stands here.
    fn literal(&mut self, quote: u8) -> Result<(), Stop> {
        let mut escaped = false;
        let inside = self.rest().bytes().skip(1).position(|byte| {
            let ends = byte == quote && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        self.skip(inside.ok_or(Stop::Unreadable)? + 1);
        Ok(())
    }

    /// To the bracket that closes the one here. It may be a list or a part of a path; only what ends at the same place in both is read on.
    fn brackets(&mut self) -> Result<(), Stop> {
        let opened = self.at;
        let end = opened + self.rest().find(']').ok_or(Stop::Unreadable)?;
        self.skip(1);
        while self.at < end {
            match self.text.as_bytes()[self.at] {
                quote @ (b'"' | b'\'') => match self.literal(quote) {
                    Ok(()) if self.at < end => {}
                    _ => {
                        return self
                            .refuse_at(opened, "brackets with a quote whose partner is behind them can't be read");
                    }
                },
                b'[' | b'{' => return self.refuse_at(opened, &written_in("a list of lists or maps")),
                _ => {}
            }
            self.skip(1);
        }
        self.at = end;
        Ok(())
    }

    fn refuse_at(&mut self, at: usize, reason: &str) -> Result<(), Stop> {
        self.at = at;
        Err(Stop::Refused(reason.to_owned()))
    }
}

fn written_in(what: &str) -> String {
    format!("{what} can't be written inside an expression; let it be a field of the input")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<(usize, String)> {
        let TooDeep { at, reason } = check(text).err()?;
        Some((text[..at].matches('\n').count() + 1, reason))
    }

    fn nested(levels: usize) -> String {
        format!("{}a{}", "(and 1 ".repeat(levels), ")".repeat(levels))
    }

    #[test]
    fn parentheses_and_blocks_are_nested_so_deep_and_no_deeper() {
        for start in
            ["{{#if ", "{{", "{{{", "{{ ~#if ", "{{json x=", "{{else ", "{{&", "{{{{raw ", "{{#if a}}{{else if "]
        {
            assert_eq!(refused(&format!("{start}{}", nested(32))), None, "{start}");
            let (line, reason) = refused(&format!("a\n\n{start}{}", nested(33))).unwrap();
            assert!(line == 3 && reason.contains("more than 32"), "{start}: {reason}");
        }
        let blocks = |levels: usize| format!("{}x{}", "{{#if a}}\n".repeat(levels), "{{/if}}".repeat(levels));
        assert_eq!(refused(&blocks(64)), None);
        assert_eq!(refused(&blocks(65)).unwrap().0, 65);
        let chain = |links: usize| format!("{{{{#if a}}}}{}{{{{/if}}}}", "{{else if a}}x\n".repeat(links));
        assert_eq!(refused(&chain(63)), None);
        assert_eq!(refused(&chain(64)).unwrap().0, 64);
        assert_eq!(refused(&chain(63).repeat(3)), None, "one beside the other is no nesting");
    }

    #[test]
    fn what_only_looks_like_the_end_of_an_expression_hides_nothing() {
        let deep = "(and \"}})\" ".repeat(65);
        for text in [
            format!("{{{{#if {deep}"),
            format!("\\\\{{{{#if {deep}"),
            format!("\\\\\\{{{{#if {deep}"),
            format!("\\{{{{{{{{{{{{#if {deep}"),
            format!("{{{{x.[a'b{deep}"),
            format!("{{{{x.[}}}} (].y}}}}{{{{json {deep}"),
            format!("{{{{!-- }}}} ' --}}}}{{{{json {deep}"),
            format!("{{{{! -- }}}} ' --}}}}{{{{json {deep}"),
            format!("{{{{! \" }}}}{{{{json {deep}"),
            format!("{{{{!--}}}}{{{{json {deep}"),
            format!("{{{{{{{{raw}}}}}}}} {{{{ ' \\{{{{{{{{ {{{{{{{{/raw}}}}}}}}{{{{json {deep}"),
            format!("{{{{json {}", "[".repeat(1000)),
            format!("{{{{json {}", "{\"a\":".repeat(1000)),
            format!("{{{{> [\"] {deep}"),
            format!("{{{{json {}", "(eq x.[)] ".repeat(65)),
            format!("{{{{json [\"]\" {deep}"),
        ] {
            assert!(refused(&format!("{text}]")).is_some(), "{text}");
        }
    }

    #[test]
    fn what_stands_in_texts_comments_and_between_expressions_is_no_nesting() {
        let many = "([{".repeat(500);
        for text in [
            many.clone(),
            format!("{{{{a}}}} {many} {{{{b.[c d]}}}}"),
            format!("{{{{json \"{many}\"}}}}"),
            format!("{{{{!-- {many} }}}} --}}}}"),
            format!("\\{{{{json {many}}}}}"),
            format!("{{{{{{{{raw}}}}}}}} {{{{#if {many} {{{{{{{{/raw}}}}}}}}"),
            "{{a.[b]}}{{{c}}}{{ {d} }}{{json [1, 2]}}".to_owned(),
            "{{json [\"a\", 'b']}}{{items.[0].name}}{{".to_owned(),
        ] {
            assert_eq!(refused(&text), None, "{text}");
        }
    }
}
