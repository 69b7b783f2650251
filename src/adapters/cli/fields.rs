//! A tool's input fields as arguments of a command, by the tool's own schema.
//!
//! Fields that the spec names as positionals are given by position, every other one as `--kebab-case`: text and integers as they are, a
//! boolean as a flag, an array by repeating the option, anything else as JSON. JSON, and an agent's prompt, may be `-` (read stdin) or
//! `@file`. Where a null removes a key (PATCH), `--unset FIELD` gives it.

use super::commands::ENVIRONMENT;
use super::request::{MOST_BODY_BYTES, too_large};
use crate::error::{Error, ErrorKind, Result};
use crate::tools::{Method, ToolSpec};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::io::Read;

/// The id of `--unset`; it can't be a field's name.
const UNSET: &str = "--unset";

/// How a field is written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Flag,
    Choice(Vec<String>),
    /// Repeated; `true` when the items are texts, else they are JSON.
    List(bool),
    Json,
}

/// One field of a tool's input.
#[derive(Debug)]
struct Field<'a> {
    name: &'a str,
    kind: Kind,
    required: bool,
    nullable: bool,
    about: String,
}

/// The command named `verb` that takes the input of `spec`, without the fields in `omitted`.
pub(super) fn command(spec: &ToolSpec, verb: &'static str, omitted: &[&str]) -> Command {
    let mut command = Command::new(verb).about(spec.title).long_about(spec.description);
    let fields: Vec<Field<'_>> = fields(spec).into_iter().filter(|field| !omitted.contains(&field.name)).collect();
    for name in positionals(spec) {
        match fields.iter().find(|field| field.name == *name) {
            Some(field) => command = command.arg(argument(field).required(field.required)),
            None if *name == "environment" => command = command.arg(environment()),
            None => {}
        }
    }
    for field in fields.iter().filter(|field| !positionals(spec).contains(&field.name)) {
        command = command.arg(argument(field).long(kebab(field.name)).required(field.required));
    }
    if takes_nulls(spec) {
        command = command.arg(unset(&fields));
    }
    command
}

/// The tool's input as the arguments give it. `environment` is among it only where it is a positional.
pub(super) fn input(matches: &ArgMatches, spec: &ToolSpec) -> Result<Map<String, Value>> {
    let mut input = Map::new();
    for field in fields(spec) {
        if let Some(value) = value_of(matches, &field)? {
            input.insert(field.name.to_owned(), value);
        }
    }
    if positionals(spec).contains(&"environment")
        && let Some(environment) = matches.get_one::<String>("environment")
    {
        // Given before or after the command's name; clap knows of conflicts only with the latter.
        if let Ok(Some(other)) = matches.try_get_one::<String>(ENVIRONMENT)
            && other != environment
        {
            let message = format!("both `{environment}` and `-e {other}` name an environment");
            return Err(Error::invalid_input(message).hint("give only one of them").field("environment"));
        }
        input.insert("environment".into(), environment.as_str().into());
    }
    if takes_nulls(spec) {
        for name in matches.get_many::<String>(UNSET).into_iter().flatten() {
            let name = name.replace('-', "_");
            if input.insert(name.clone(), Value::Null).is_some() {
                let option = kebab(&name);
                return Err(Error::invalid_input(format!("`{option}` is both given and unset")).field(name));
            }
        }
    }
    Ok(input)
}

/// JSON given on the command line: as it is, `-` for stdin, `@path` for a file.
pub(super) fn json(text: &str, what: &str) -> Result<Value> {
    json_text(&source(text)?, what)
}

/// JSON in a text; `what` is for the error.
pub(super) fn json_text(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|cause| {
        Error::invalid_input(format!("{what} is not valid JSON: {cause}"))
            .hint("quote it for the shell: '{\"key\": \"value\"}'")
    })
}

/// What `-` (stdin) and `@path` (a file) stand for; other text is itself.
pub(super) fn source(text: &str) -> Result<String> {
    if text == "-" {
        return bounded(std::io::stdin().lock(), "stdin", MOST_BODY_BYTES);
    }
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let file = std::fs::File::open(path).map_err(|cause| unreadable(&format!("`{path}`"), &cause));
    let read = file.and_then(|file| bounded(file, &format!("`{path}`"), MOST_BODY_BYTES));
    read.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => error.hint("`@` takes the path of a text file"),
        _ => error,
    })
}

/// The text that `reader`, called `place`, gives, unless it is longer than `most` bytes: it might never end.
fn bounded(reader: impl Read, place: &str, most: usize) -> Result<String> {
    let mut all = Vec::new();
    reader.take(most as u64 + 1).read_to_end(&mut all).map_err(|cause| unreadable(place, &cause))?;
    if all.len() > most {
        return Err(too_large(&format!("the text from {place}")));
    }
    String::from_utf8(all).map_err(|_| unreadable(place, &"it is not UTF-8"))
}

fn unreadable(place: &str, reason: &dyn Display) -> Error {
    Error::invalid_input(format!("can't read text from {place}: {reason}"))
}

fn positionals(spec: &ToolSpec) -> &'static [&'static str] {
    spec.cli.map_or(&[], |cli| cli.positionals)
}

fn takes_nulls(spec: &ToolSpec) -> bool {
    spec.rest.is_some_and(|rest| rest.method == Method::Patch)
}

fn fields(spec: &ToolSpec) -> Vec<Field<'_>> {
    let required = spec.input.get("required").and_then(Value::as_array);
    let properties = spec.input.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| Field {
            name,
            kind: kind(schema),
            required: required.is_some_and(|required| required.iter().any(|required| required == name)),
            nullable: is_nullable(schema),
            about: schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
        .collect()
}

fn kind(schema: &Value) -> Kind {
    if let Some(choices) = choices(schema) {
        return Kind::Choice(choices);
    }
    if let Some(only) = only_alternative(schema) {
        return kind(only);
    }
    let types = types(schema);
    let is = |name: &str| types.contains(&name);
    if is("string") {
        Kind::Text
    } else if is("integer") {
        Kind::Integer
    } else if is("boolean") {
        Kind::Flag
    } else if is("array") {
        let items = schema.get("items").map(kind);
        Kind::List(matches!(items, Some(Kind::Text | Kind::Choice(_))))
    } else {
        Kind::Json
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten()
}

fn only_alternative(schema: &Value) -> Option<&Value> {
    let mut real = alternatives(schema).filter(|schema| types(schema) != ["null"]);
    real.next().filter(|_| real.next().is_none())
}

/// The texts of an `enum`, of a constant, or of alternatives that are nothing else. schemars writes variants with a comment as constants
/// and groups the others.
fn choices(schema: &Value) -> Option<Vec<String>> {
    if let Some(constant) = schema.get("const") {
        return constant.as_str().map(|text| vec![text.to_owned()]);
    }
    if let Some(listed) = schema.get("enum").and_then(Value::as_array) {
        return Some(listed.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    }
    let real = alternatives(schema).filter(|schema| types(schema) != ["null"]);
    let texts: Vec<String> = real.map(choices).collect::<Option<Vec<_>>>()?.concat();
    (!texts.is_empty()).then_some(texts)
}

fn is_nullable(schema: &Value) -> bool {
    types(schema).is_empty() && alternatives(schema).next().is_none()
        || types(schema).contains(&"null")
        || alternatives(schema).any(is_nullable)
}

fn argument(field: &Field<'_>) -> Arg {
    let name = field.name.to_owned();
    let about = match field.kind {
        Kind::Json => format!("{} (JSON, `-` for stdin, or @file)", field.about),
        _ if field.name == "prompt" => format!("{} (`-` for stdin, or @file)", field.about),
        _ => field.about.clone(),
    };
    let argument = Arg::new(name.clone()).help(about.trim().to_owned()).value_name(name.to_ascii_uppercase());
    match &field.kind {
        Kind::Text => argument,
        Kind::Integer => argument.value_parser(value_parser!(i64)).allow_negative_numbers(true),
        Kind::Flag => argument.action(ArgAction::SetTrue),
        Kind::Choice(choices) => argument.value_parser(PossibleValuesParser::new(choices.clone())),
        Kind::List(_) => argument.action(ArgAction::Append).value_name(singular(&name)),
        Kind::Json => argument.value_name("JSON"),
    }
}

fn environment() -> Arg {
    Arg::new("environment").value_name("ENVIRONMENT").help("The environment; without it, -e or the default one")
}

fn unset(fields: &[Field<'_>]) -> Arg {
    let removable = fields.iter().filter(|field| field.nullable && !field.required);
    let names: Vec<String> = removable.map(|field| kebab(field.name)).collect();
    Arg::new(UNSET)
        .long("unset")
        .value_name("FIELD")
        .help("Remove a key; may be repeated")
        .action(ArgAction::Append)
        .value_parser(PossibleValuesParser::new(names))
}

fn value_of(matches: &ArgMatches, field: &Field<'_>) -> Result<Option<Value>> {
    // A command may leave fields out; asking clap for those would be a mistake.
    let name = field.name;
    if !matches!(matches.try_contains_id(name), Ok(true)) {
        return Ok(None);
    }
    let one = || matches.get_one::<String>(name);
    let value = match &field.kind {
        Kind::Integer => matches.get_one::<i64>(name).map(|number| Value::from(*number)),
        Kind::Flag => matches.get_flag(name).then_some(Value::Bool(true)),
        Kind::Text if name == "prompt" => one().map(|text| source(text)).transpose()?.map(Value::from),
        Kind::Text | Kind::Choice(_) => one().map(|text| Value::from(text.as_str())),
        Kind::Json => one().map(|text| json(text, &format!("`{}`", kebab(name)))).transpose()?,
        Kind::List(texts) => {
            let items = matches.get_many::<String>(name).into_iter().flatten();
            let read = |item: &String| {
                if *texts { Ok(Value::from(item.as_str())) } else { json(item, &format!("`{}`", kebab(name))) }
            };
            Some(items.map(read).collect::<Result<Vec<_>>>()?.into())
        }
    };
    Ok(value)
}

fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

/// `TAG` for `tags`: what one repetition gives.
fn singular(name: &str) -> String {
    name.strip_suffix('s').unwrap_or(name).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;
    use serde_json::json;

    fn parse(tool: &str, arguments: &[&str]) -> Result<Value> {
        let table = tools::table();
        let spec = &table.get(tool).unwrap().spec;
        let words = std::iter::once(&"verb").chain(arguments);
        let matches = command(spec, "verb", &[]).try_get_matches_from(words).unwrap_or_else(|error| panic!("{error}"));
        input(&matches, spec).map(Value::Object)
    }

    #[test]
    fn arguments_become_the_input_that_the_schema_describes() {
        let cases: &[(&str, &[&str], Value)] = &[
            ("agent_get", &["1"], json!({ "agent": "1" })),
            (
                "run_list",
                &["--status", "input_required", "--limit", "5"],
                json!({ "status": "input_required", "limit": 5 }),
            ),
            (
                "agent_create",
                &[
                    "helper",
                    "Be kind.",
                    "--tags",
                    "a",
                    "--tags",
                    "b",
                    "--max-steps",
                    "3",
                    "--input-schema",
                    "{\"type\":\"object\"}",
                ],
                json!({
                    "name": "helper", "prompt": "Be kind.", "tags": ["a", "b"], "max_steps": 3, "input_schema": { "type": "object" }
                }),
            ),
            (
                "agent_update",
                &["helper", "--unset", "model", "--unset", "max-steps"],
                json!({ "agent": "helper", "model": null, "max_steps": null }),
            ),
            ("environment_sync", &["staging", "--dry-run"], json!({ "environment": "staging", "dry_run": true })),
            ("environment_get", &[], json!({})),
            (
                "role_set",
                &["ann", "staging", "operator"],
                json!({ "user": "ann", "environment": "staging", "role": "operator" }),
            ),
            ("role_set", &["ann", "*", "--unset", "role"], json!({ "user": "ann", "environment": "*", "role": null })),
            (
                "run_respond",
                &["1f3a", "result", "--result", "ok", "--step", "4"],
                json!({ "run": "1f3a", "decision": "result", "result": "ok", "step": 4 }),
            ),
            (
                "tool_call",
                &["files__read", "{\"path\":\"a\"}"],
                json!({ "tool": "files__read", "arguments": { "path": "a" } }),
            ),
        ];
        for (tool, arguments, expected) in cases {
            let mut given = parse(tool, arguments).unwrap();
            given.sort_all_objects();
            let mut expected = expected.clone();
            expected.sort_all_objects();
            assert_eq!(given, expected, "{tool} {arguments:?}");
        }
    }

    #[test]
    fn two_environments_in_one_command_are_refused() {
        let table = tools::table();
        let tree = super::super::commands::tree(table.iter().map(|tool| &tool.spec));
        let given = |line: &str| {
            let matches = tree.clone().try_get_matches_from(line.split(' ')).unwrap();
            input(matches.subcommand().unwrap().1, &table.get("environment_sync").unwrap().spec)
        };
        for line in ["stn sync staging -e production", "stn -e production sync staging"] {
            assert_eq!(given(line).unwrap_err().field_name(), Some("environment"), "{line}");
        }
        assert!(given("stn sync staging -e staging").is_ok());
    }

    #[test]
    fn text_is_read_no_further_than_a_station_would() {
        let from = |reader: &mut dyn Read| bounded(reader, "stdin", 4);
        assert_eq!(from(&mut &b"four"[..]).unwrap(), "four");
        assert_eq!(from(&mut std::io::repeat(b'x')).unwrap_err().kind(), ErrorKind::PayloadTooLarge);
        assert_eq!(from(&mut &b"\xff"[..]).unwrap_err().message(), "can't read text from stdin: it is not UTF-8");
        // A device never ends.
        let error = source("@/dev/zero").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
        assert!(error.message().contains("`/dev/zero`"), "{error}");
    }

    #[test]
    fn the_values_of_an_enum_are_known_before_anything_is_sent() {
        let table = tools::table();
        let command = command(&table.get("run_respond").unwrap().spec, "respond", &[]);
        let error = command.try_get_matches_from(["respond", "1f3a", "retyr"]).unwrap_err().to_string();
        assert!(error.contains("'retry'"), "{error}");
    }

    #[test]
    fn an_enum_is_found_however_its_schema_is_written() {
        let grouped = json!({ "oneOf": [{ "enum": ["a", "b"] }, { "const": "c" }] });
        assert_eq!(
            kind(&json!({ "anyOf": [grouped, { "type": "null" }] })),
            Kind::Choice(vec!["a".into(), "b".into(), "c".into()])
        );
        assert_eq!(kind(&json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] })), Kind::Integer);
        assert_eq!(kind(&json!({ "oneOf": [{ "const": "c" }, { "type": "object" }] })), Kind::Json);
    }

    #[test]
    fn only_what_a_null_removes_can_be_unset() {
        let table = tools::table();
        let command = command(&table.get("agent_update").unwrap().spec, "update", &[]);
        assert!(command.clone().try_get_matches_from(["update", "a", "--unset", "prompt"]).is_err());
        assert!(command.try_get_matches_from(["update", "a", "--unset", "display-name"]).is_ok());
    }

    #[test]
    fn a_field_that_is_given_and_unset_is_refused() {
        let error = parse("agent_update", &["a", "--model", "x/y", "--unset", "model"]).unwrap_err();
        assert_eq!(error.field_name(), Some("model"));
    }

    #[test]
    fn a_prompt_can_come_from_a_file_and_broken_json_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prompt.txt");
        std::fs::write(&path, "From a file.\n").unwrap();
        let given = parse("agent_create", &["helper", &format!("@{}", path.display())]).unwrap();
        assert_eq!(given["prompt"], "From a file.\n");
        let error = parse("tool_call", &["a__b", "{"]).unwrap_err();
        assert!(error.message().contains("`arguments` is not valid JSON"), "{error}");
        assert!(parse("agent_create", &["helper", "@/does/not/exist"]).is_err());
    }
}
