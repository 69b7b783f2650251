//! What README.md and `claude-desktop-config.json` tell people to type and to paste is read by the same parsers that will read it then.

use super::commands;
use crate::config::{VariableScope, parse_prompt, parse_servers, parse_settings};
use crate::domain::Name;
use crate::tools;
use clap::error::ErrorKind;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
const CLAUDE_DESKTOP: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/claude-desktop-config.json"));

/// The fenced blocks of the README in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fenced = README.split("```").skip(1).step_by(2);
    let found: Vec<&str> = fenced
        .filter_map(|block| block.split_once('\n'))
        .filter(|(of, _)| *of == language)
        .map(|(_, text)| text)
        .collect();
    assert!(!found.is_empty(), "the README has no block of `{language}`");
    found
}

/// A line of shell as words: quoted text is one, and a comment is none.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, ' ') => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The commands that stand in the text between backticks, without `stn`. Flags alone are for the command before them.
fn inline() -> Vec<Vec<String>> {
    let text: String = README.split("```").step_by(2).collect();
    let mut commands: Vec<Vec<String>> = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        let words = words(&quoted.replace('\n', " ")).into_iter().map(filled);
        if quoted.starts_with("stn ") {
            commands.push(words.skip(1).collect());
        } else if let (true, Some(command)) = (quoted.starts_with('-'), commands.last().cloned()) {
            commands.push(command.into_iter().chain(words).collect());
        }
    }
    commands
}

/// A word of an example; what stands for a run becomes the id of one.
fn filled(word: String) -> String {
    if word == "<id>" { "0195f3a3-c000-8001-8000-000000000001".to_owned() } else { word }
}

/// What of a line is for `stn`: all behind its name, or behind the `--` of the program that starts it.
fn for_stn(line: &str) -> Option<Vec<String>> {
    let words = words(line);
    let starts_ours = words.starts_with(&["cargo".into(), "run".into()]);
    let at = words.iter().position(|word| word == "stn" || (starts_ours && word == "--"))?;
    Some(words[at + 1..].to_vec())
}

#[track_caller]
fn understood(arguments: &[String]) {
    understood_but_for(arguments, None);
}

#[track_caller]
fn understood_but_for(arguments: &[String], allowed: Option<ErrorKind>) {
    let table = tools::table();
    let tree = commands::tree(table.iter().map(|tool| &tool.spec));
    let all = std::iter::once("stn").chain(arguments.iter().map(String::as_str));
    if let Err(error) = tree.try_get_matches_from(all)
        && Some(error.kind()) != allowed
    {
        panic!("stn {arguments:?}: {error}");
    }
}

#[test]
fn every_command_of_the_readme_is_one() {
    let lines: Vec<Vec<String>> = blocks("sh").into_iter().flat_map(str::lines).filter_map(for_stn).collect();
    let named = |line: &Vec<String>| line.first().map(String::as_str).unwrap_or_default().to_owned();
    let commands: BTreeSet<String> = lines.iter().map(named).collect();
    assert_eq!(
        commands.iter().map(String::as_str).collect::<Vec<_>>(),
        ["agent", "api-key", "config", "role", "secret", "serve", "stdio", "sync", "user", "variable"]
    );
    lines.iter().for_each(|line| understood(line));
}

#[test]
fn every_command_in_the_text_of_the_readme_is_one() {
    let lines = inline();
    let named: BTreeSet<String> = lines.iter().map(|line| line.join(" ")).collect();
    for line in ["mcp-server accept everything -e staging", "run list", "stdio -e staging --tools all", "agent create"]
    {
        assert!(named.contains(line), "{named:?}");
    }
    // Where the text only names a command, its arguments may be missing.
    lines.iter().for_each(|line| understood_but_for(line, Some(ErrorKind::MissingRequiredArgument)));
}

#[test]
fn every_server_that_people_are_told_to_attach_is_read_and_ours_is_started_by_a_command_that_exists() {
    let none = BTreeMap::new();
    let scope = VariableScope { process: &none, file: Ok(&none) };
    let (mut ours, mut theirs) = (0, 0);
    for text in blocks("json").into_iter().chain([CLAUDE_DESKTOP]) {
        let whole: Value = serde_json::from_str(text).unwrap();
        if let Some(entry) = whole["mcpServers"].get("station") {
            assert_eq!(entry["command"], "stn");
            let arguments: Vec<String> = serde_json::from_value(entry["args"].clone()).unwrap();
            understood(&arguments);
            ours += 1;
        } else {
            let read = parse_servers("README.md", text, &scope);
            assert!(read.problems.is_empty(), "{:?}", read.problems);
            for server in read.servers {
                assert!(server.definition.is_ok(), "{:?}", server.definition);
                theirs += 1;
            }
        }
    }
    assert_eq!((ours, theirs), (2, 2), "Cursor's entry and Claude Desktop's; the two servers of the example");
}

#[test]
fn the_settings_and_the_agent_of_the_readme_are_read() {
    for settings in blocks("yaml") {
        parse_settings("README.md", settings, &BTreeMap::new()).unwrap();
    }
    for prompt in blocks("") {
        parse_prompt(&Name::new("log-reader").unwrap(), "README.md", prompt.as_bytes()).unwrap();
    }
}
