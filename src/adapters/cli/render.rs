//! Outputs of tools for people: lists as tables, single things as names and values. With `--json` they are left as they are.

use super::columns::{self, Column};
use super::failure::Failure;
use super::output::Output;
use super::problems;
use super::progress::duration;
use super::sanitize::one_line;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Characters of a cell.
const CELL: usize = 200;

/// Shows the output of the tool `name`.
pub(super) fn show(output: Output, name: &str, value: &Value) -> Result<(), Failure> {
    if output.json {
        return output.json(value);
    }
    match (page_of(value), value) {
        (Some([]), _) => output.note("nothing to show"),
        (Some(items), _) => output.text(&table(name, items))?,
        (None, Value::Object(thing)) => output.text(&describe(name, thing))?,
        (None, other) => output.json(other)?,
    }
    problems::tell(output, value);
    if let Some(next) = value.get("next_cursor").and_then(Value::as_str) {
        output.note(format_args!("there is more: --cursor {next}"));
    }
    Ok(())
}

fn page_of(value: &Value) -> Option<&[Value]> {
    value.get("next_cursor")?;
    value.get("items")?.as_array().map(Vec::as_slice)
}

/// A table without rules; as wide as the terminal at most, and in a pipe one line per item.
fn table(name: &str, items: &[Value]) -> String {
    let own = columns::of(name).map(<[Column]>::to_vec);
    let columns = own.unwrap_or_default();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if columns.is_empty() {
        let names = plain_fields(items);
        table.set_header(names.iter().map(|name| name.to_ascii_uppercase().replace('_', " ")));
        for item in items {
            table.add_row(names.iter().map(|name| cell(name, item.get(*name))));
        }
    } else {
        // A column in which nothing stands says nothing.
        let says = |pointer: &str, item: &Value| match item.pointer(pointer) {
            // Nearly everything is done at the first try.
            Some(first) if pointer == columns::TRY => *first != 1,
            value => !cell(pointer, value).is_empty(),
        };
        let used = |(_, pointer): &&Column| items.iter().any(|item| says(pointer, item));
        let columns: Vec<&Column> = columns.iter().filter(used).collect();
        table.set_header(columns.iter().map(|(heading, _)| *heading));
        for item in items {
            table.add_row(columns.iter().map(|(_, pointer)| cell(pointer, item.pointer(pointer))));
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn plain_fields(items: &[Value]) -> Vec<&str> {
    let first = items.first().and_then(Value::as_object);
    let plain = first.into_iter().flatten().filter(|(_, value)| !value.is_object() && !value.is_array());
    plain.map(|(name, _)| name.as_str()).collect()
}

fn cell(name: &str, value: Option<&Value>) -> String {
    one_line(&plain(name, value.unwrap_or(&Value::Null)), CELL)
}

/// A value in a line of text. `name` (or a pointer) tells durations from other numbers.
fn plain(name: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(is) => (if *is { "yes" } else { "no" }).to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if name.ends_with("duration_ms") => {
            number.as_i64().map_or_else(|| number.to_string(), duration)
        }
        Value::Number(number) => number.to_string(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(|item| plain(name, item)).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Names and values; then lists as tables, and long texts as they are.
fn describe(name: &str, thing: &Map<String, Value>) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut below = String::new();
    for (field, value) in thing {
        match value {
            Value::Null => {}
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let columns = if columns::of(field).is_some() { field } else { name };
                let _infallible = write!(below, "\n{}\n{}\n", heading(field), table(columns, items));
                let inner = items.iter().filter_map(|item| item.get("problems")?.as_array());
                let inner: Vec<Value> = inner.flatten().cloned().collect();
                if !inner.is_empty() {
                    let _infallible = write!(below, "\nproblems:\n{}\n", table("problems", &inner));
                }
            }
            Value::String(text) if text.trim_end().contains('\n') => {
                let _infallible = write!(below, "\n{}\n{}\n", heading(field), text.trim_end());
            }
            Value::Object(inner) if inner.values().all(|value| !value.is_object() && !value.is_array()) => {
                let shown = inner.iter().filter(|(_, value)| !value.is_null());
                lines.extend(shown.map(|(part, value)| (format!("{}.{part}", field), cell(part, Some(value)))));
            }
            other => {
                let text = plain(field, other);
                if !text.is_empty() {
                    lines.push((field.clone(), text));
                }
            }
        }
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in lines {
        let _infallible = writeln!(text, "{name:width$}  {value}");
    }
    text + &below
}

fn heading(field: &str) -> String {
    format!("{}:", field.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;
    use serde_json::json;

    #[test]
    fn a_list_is_a_table_of_the_columns_that_say_something() {
        let items = [
            json!({ "id": 1, "name": "hello", "state": "ok", "model": null, "description": "Greets\nyou" }),
            json!({ "id": 12, "name": "x", "state": "error", "model": null, "description": null }),
        ];
        let text = table("agent_list", &items);
        assert_eq!(text, "ID  NAME   STATE  DESCRIPTION\n1   hello  ok     Greets you\n12  x      error");
    }

    #[test]
    fn a_single_thing_is_names_and_values_with_lists_and_long_texts_below() {
        let thing = json!({
            "name": "hello", "tags": ["a", "b"], "model": null, "agent": { "id": 1, "name": "x" }, "duration_ms": 1500,
            "prompt": "One\nTwo\n", "environments": [{ "name": "development", "default": true }]
        });
        let text = describe("x_get", thing.as_object().unwrap());
        assert_eq!(
            text,
            "name         hello\ntags         a, b\nagent.id     1\nagent.name   x\nduration_ms  1.5 s\n\
             \nprompt:\nOne\nTwo\n\nenvironments:\nNAME         DEFAULT\ndevelopment  yes\n"
        );
    }

    #[test]
    fn the_faults_of_an_environment_s_files_stand_below_the_environments() {
        let fault = json!({ "file": "bad.json", "line": 2, "message": "not valid JSON" });
        let status = json!({ "environments": [{ "name": "development", "problems": [fault] }] });
        let text = describe("station_status", status.as_object().unwrap());
        assert!(text.ends_with("\nproblems:\nFILE      LINE  PROBLEM\nbad.json  2     not valid JSON\n"), "{text}");
    }

    #[test]
    fn steps_show_their_tries_once_there_was_a_second_one() {
        let step = |r#try: i64| json!({ "seq": 2, "try": r#try, "name": "a" });
        assert_eq!(table("run_steps", &[step(1)]), "SEQ  NAME\n2    a");
        assert_eq!(table("run_steps", &[step(1), step(2)]), "SEQ  TRY  NAME\n2    1    a\n2    2    a");
    }

    #[test]
    fn every_list_of_the_table_has_its_columns() {
        let table = tools::table();
        let lists = table.iter().filter(|tool| tool.spec.output.pointer("/properties/next_cursor").is_some());
        let without: Vec<&str> = lists.map(|tool| tool.spec.name).filter(|name| columns::of(name).is_none()).collect();
        assert_eq!(without, [] as [&str; 0]);
    }
}
