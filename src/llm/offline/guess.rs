//! Which one tool an input asks for, if the rules can tell.

use super::super::ToolDefinition;
use super::answer;
use super::arguments::commands;
use super::input::Input;
use super::score::{Scored, score};
use crate::domain::Effect;
use serde_json::Value;
use std::cmp::Reverse;

/// Commands that an answer lists at most.
const LISTED: usize = 8;

/// What the rules come to.
#[derive(Debug)]
pub(super) enum Guess<'a> {
    Call {
        tool: &'a ToolDefinition,
        /// JSON text.
        arguments: String,
        /// Commands of tools that fit better by their words but lack a value.
        better: Vec<String>,
    },
    /// An answer that says what to decide.
    Ask(String),
}

/// Applies rules 2 to 5 of the module's list.
pub(super) fn guess<'a>(text: &str, tools: &'a [ToolDefinition]) -> Guess<'a> {
    if tools.is_empty() {
        return Guess::Ask(answer::no_tools());
    }
    let input = Input::read(text);
    let mut scored: Vec<Scored<'a>> = tools.iter().map(|tool| score(tool, &input)).collect();
    // Stable, so that equals stay in the order in which the tools were given.
    scored.sort_by_key(|scored| Reverse(scored.rank()));
    let (reading, changing): (Vec<_>, Vec<_>) = scored.iter().partition(|scored| scored.tool.effect == Effect::Read);
    if let Some(wanted) = changing_wanted(&reading, &changing) {
        return Guess::Ask(answer::changes_something(wanted.tool, &commands(&wanted.tool.name, &wanted.filling)));
    }
    match decided(&reading) {
        Some(guess) => guess,
        None => look_around(&reading).unwrap_or_else(|| {
            let all: Vec<_> = reading.iter().chain(&changing).copied().collect();
            Guess::Ask(answer::nothing_fits(&listed(&all)))
        }),
    }
}

/// A tool that changes something and whose name the user wrote more of than of any reading tool's.
fn changing_wanted<'s, 'a>(reading: &[&Scored<'a>], changing: &[&'s Scored<'a>]) -> Option<&'s Scored<'a>> {
    let most_read = reading.iter().map(|scored| scored.named).max().unwrap_or(0);
    let mut best: Option<&Scored<'a>> = None;
    for scored in changing.iter().filter(|scored| scored.named > most_read) {
        if best.is_none_or(|best| scored.named > best.named) {
            best = Some(scored);
        }
    }
    best
}

/// The call, or the choice, that the words of the input lead to.
fn decided<'a>(reading: &[&Scored<'a>]) -> Option<Guess<'a>> {
    let fitting: Vec<_> = reading.iter().filter(|scored| scored.by_words > 0).copied().collect();
    let best = *fitting.first()?;
    let Some(callable) = fitting.iter().find(|scored| scored.filling.is_complete()) else {
        // Looking around helps whoever lacks a value, but not whoever gave too many.
        best.filling.ambiguous.as_ref()?;
        return Some(Guess::Ask(answer::several_values(&commands(&best.tool.name, &best.filling))));
    };
    let equals: Vec<_> = fitting
        .iter()
        .filter(|other| other.filling.is_complete() && other.rank() == callable.rank())
        .copied()
        .collect();
    if best.filling.ambiguous.is_some() && best.rank() > callable.rank() {
        return Some(Guess::Ask(answer::several_values(&commands(&best.tool.name, &best.filling))));
    }
    if equals.len() > 1 {
        return Some(Guess::Ask(answer::several_tools(&listed(&equals))));
    }
    Some(call(callable, reading))
}

/// A first look for whoever gave nothing to go by.
fn look_around<'a>(reading: &[&Scored<'a>]) -> Option<Guess<'a>> {
    let callable = |scored: &&&Scored<'a>| scored.filling.is_complete() && scored.filling.arguments.is_empty();
    let mut free = reading.iter().filter(callable);
    let lists = |scored: &&&Scored<'a>| scored.tool.name.to_lowercase().contains("list");
    let chosen = reading.iter().filter(callable).find(lists).or_else(|| free.next())?;
    Some(call(chosen, reading))
}

fn call<'a>(chosen: &Scored<'a>, reading: &[&Scored<'a>]) -> Guess<'a> {
    let better = reading.iter().filter(|other| other.by_words > chosen.by_words && !other.filling.is_complete());
    let better = better.flat_map(|other| commands(&other.tool.name, &other.filling)).take(3).collect();
    let arguments = Value::Object(chosen.filling.arguments.clone()).to_string();
    Guess::Call { tool: chosen.tool, arguments, better }
}

fn listed(scored: &[&Scored<'_>]) -> Vec<String> {
    scored.iter().flat_map(|scored| commands(&scored.tool.name, &scored.filling)).take(LISTED).collect()
}
