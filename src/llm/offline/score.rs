//! How well tools fit an input, by the words that they share.

use super::super::ToolDefinition;
use super::arguments::{Filling, fill};
use super::input::{Input, stems};
use super::plan::short_name;
use std::cmp::Reverse;
use std::collections::BTreeSet;

const NAME_WORD: usize = 3;
const IMPLIED_NAME_WORD: usize = 2;
const DESCRIPTION_WORD: usize = 1;
const VALUE: usize = 3;
const WHOLE_NAME: usize = 10;

/// A tool beside an input.
#[derive(Debug)]
pub(super) struct Scored<'a> {
    pub(super) tool: &'a ToolDefinition,
    pub(super) filling: Filling,
    /// What the words alone are worth; 0 = nothing fits.
    pub(super) by_words: usize,
    /// Words of the name that the user wrote themselves.
    pub(super) named: usize,
    /// Words of the name that nothing in the input accounts for.
    unexplained: usize,
}

impl Scored<'_> {
    /// Greater is better. Equal ranks are equal for all the rules can tell.
    pub(super) fn rank(&self) -> (usize, Reverse<usize>) {
        (self.by_words + VALUE * self.filling.used, Reverse(self.unexplained))
    }
}

/// Scores a tool.
pub(super) fn score<'a>(tool: &'a ToolDefinition, input: &Input) -> Scored<'a> {
    let short = short_name(&tool.name);
    let name = stems(&parted(short));
    let known: BTreeSet<&String> = input.words.union(&input.implied).collect();
    let described = stems(tool.description.as_deref().unwrap_or_default());
    let written = name.iter().filter(|word| input.words.contains(*word)).count();
    let in_name = name.iter().filter(|word| known.contains(word)).count();
    let in_description = described.iter().filter(|word| known.contains(word) && !name.contains(*word)).count();
    let whole = input.plain.iter().any(|word| word == short || *word == tool.name);
    let points = NAME_WORD * written + IMPLIED_NAME_WORD * (in_name - written) + DESCRIPTION_WORD * in_description;
    Scored {
        tool,
        filling: fill(&tool.input_schema, input),
        by_words: points + if whole { WHOLE_NAME } else { 0 },
        named: written + if whole { WHOLE_NAME } else { 0 },
        unexplained: name.len() - in_name,
    }
}

/// `readTextFile` as `read Text File`.
fn parted(name: &str) -> String {
    let mut text = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower {
            text.push(' ');
        }
        after_lower = c.is_lowercase();
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Effect;
    use serde_json::json;

    fn rank(name: &str, description: &str, text: &str) -> (usize, Reverse<usize>) {
        let tool = ToolDefinition {
            name: name.into(),
            description: Some(description.into()),
            input_schema: json!({}),
            effect: Effect::Read,
        };
        score(&tool, &Input::read(text)).rank()
    }

    #[test]
    fn the_name_counts_more_than_the_description_and_each_word_once() {
        assert_eq!(rank("s__list_issues", "List issues, issues, issues", "list my issues").0, 6);
        assert_eq!(rank("s__x", "Lists issues", "list my issues").0, 2);
        assert_eq!(rank("s__listIssues", "", "list my issues").0, 6);
        assert!(rank("s__list", "", "list") > rank("s__list_everything", "", "list"));
    }

    #[test]
    fn a_whole_name_outweighs_its_words() {
        assert!(rank("s__list_issues", "", "use list_issues").0 >= WHOLE_NAME + 6);
    }
}
