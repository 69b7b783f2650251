//! What a followed run looks like on stderr: a line per finished step and per wait for a model, and on a terminal a spinner that says
//! what is going on.

use super::outcome::is_held;
use super::output::Output;
use super::sanitize::one_line;
use crate::domain::{Event, EventType, ModelChoice, Run};
use crate::tools::run::activity::activity;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::time::Duration;

/// Characters of a call's arguments and of an error on a step's line.
const SHOWN: usize = 120;

/// Shows events as they come.
pub(super) struct Progress {
    output: Output,
    spinner: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn start(output: Output, run: &Run) -> Self {
        let progress = Self { output, spinner: output.is_interactive().then(spinner) };
        progress.line(&format!("run {} of {} in {}", run.id, run.agent.name, run.environment));
        progress.line(&model_line(&run.model));
        if let Some(line) = is_held(run) {
            progress.line(&line);
        }
        progress
    }

    /// `depth`: how many calls of agents lead to the run whose event it is.
    pub(super) fn show(&self, event: &Event, depth: usize) {
        let indent = "  ".repeat(depth);
        match event.r#type {
            EventType::StepCompleted | EventType::StepFailed => {
                self.line(&format!("{indent}{}", step_line(&event.data)))
            }
            EventType::StepProgress if event.data.get("wait_ms").is_some() => {
                self.line(&format!("{indent}{}", one_line(text(&event.data, "message"), SHOWN)));
            }
            EventType::RunResumed => self.line(&format!("{indent}the run goes on")),
            EventType::RunRewound => self.line("the station has lost the latest steps; what follows is told again"),
            _ => {}
        }
        if let (Some(spinner), Some(what)) = (&self.spinner, activity(event)) {
            spinner.set_message(one_line(&what, SHOWN));
        }
    }

    /// A line above the spinner.
    pub(super) fn line(&self, line: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| self.output.note(line)),
            None => self.output.note(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// Which model, and why: never a silent choice.
fn model_line(model: &ModelChoice) -> String {
    format!("model {}/{} ({})", model.provider, model.id, model.reason)
}

/// `turn 1  filesystem__read_text_file {"path":"README.md"}  12 ms`
fn step_line(data: &Value) -> String {
    let step = data.get("step").unwrap_or(&Value::Null);
    let name = text(step, "name");
    let what = match (text(step, "kind"), step.get("arguments")) {
        ("model", _) if name == "plan" => name.to_owned(),
        ("model", _) => format!("model {name}"),
        ("tool", Some(arguments)) if arguments.is_object() => format!("{name} {arguments}"),
        _ => name.to_owned(),
    };
    let turn = step.get("turn").and_then(Value::as_i64).unwrap_or_default();
    let mut line = format!("turn {turn}  {}", one_line(&what, SHOWN));
    if let Some(ms) = step.get("duration_ms").and_then(Value::as_i64) {
        line.push_str(&format!("  {}", duration(ms)));
    }
    if let Some(attempts) = step.get("result").and_then(|result| result.get("wire_attempts")) {
        line.push_str(&format!("  {attempts} attempts"));
    }
    let status = text(step, "status");
    if !matches!(status, "completed" | "") {
        line.push_str(&format!("  {}", status.replace('_', " ")));
    }
    if let Some(error) = step.get("error").and_then(Value::as_str) {
        line.push_str(&format!(": {}", one_line(error, SHOWN)));
    }
    line
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `12 ms`, `3.4 s`, `2 min 5 s`.
pub(super) fn duration(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_is_one_line_with_what_was_called_and_how_it_went() {
        let read = json!({ "step": {
            "kind": "tool", "turn": 1, "name": "filesystem__read_text_file", "arguments": { "path": "README.md" },
            "status": "completed", "duration_ms": 12, "error": null
        } });
        assert_eq!(step_line(&read), r#"turn 1  filesystem__read_text_file {"path":"README.md"}  12 ms"#);
        let failed = json!({ "step": {
            "kind": "model", "turn": 2, "name": "openai/m", "status": "failed", "duration_ms": 3_456, "error": "no\nnetwork"
        } });
        assert_eq!(step_line(&failed), "turn 2  model openai/m  3.4 s  failed: no network");
        let busy = json!({ "step": {
            "kind": "model", "turn": 1, "name": "openai/m", "status": "completed", "duration_ms": 9_100, "result": { "wire_attempts": 2 }
        } });
        assert_eq!(step_line(&busy), "turn 1  model openai/m  9.1 s  2 attempts");
        let long =
            json!({ "step": { "kind": "tool", "turn": 3, "name": "a__b", "arguments": { "x": "y".repeat(500) } } });
        assert!(step_line(&long).chars().count() < 140);
    }

    #[test]
    fn durations_read_like_durations() {
        assert_eq!((duration(7), duration(61_000)), ("7 ms".into(), "1 min 1 s".into()));
    }
}
