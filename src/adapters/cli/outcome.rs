//! How a run ended, told: the answer alone on stdout, everything else on stderr, and the exit code.

use super::failure::{Failure, INTERRUPTED};
use super::output::Output;
use super::target::Target;
use crate::domain::{Run, RunId, RunStatus, WaitingFor};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// A run that failed, or a tool that answered with an error.
pub(super) const FAILED: u8 = 1;
/// A run that isn't over: somebody has to answer, or to wait on.
pub(super) const NOT_OVER: u8 = 6;

/// Tells what became of `run`, and returns the exit code.
pub(super) async fn tell(target: &Target, output: Output, run: &Value) -> Result<u8, Failure> {
    let parsed = parse(run)?;
    if output.json {
        output.json(run)?;
    }
    let id = parsed.id;
    match parsed.status {
        RunStatus::Completed => {
            if let Some(notice) = notice(target, id).await? {
                output.note(format_args!("note: {notice}"));
            }
            if !output.json {
                answer(output, parsed.output.as_ref())?;
            }
            Ok(0)
        }
        RunStatus::Failed => {
            let kind = run.get("error_kind").and_then(Value::as_str).unwrap_or("unknown");
            output.always(format_args!(
                "error: run {id} failed ({kind}): {}",
                parsed.error.as_deref().unwrap_or("no reason given")
            ));
            output.always(format_args!("hint: `stn run steps {id}` shows what it did"));
            Ok(FAILED)
        }
        RunStatus::Cancelled => {
            output.always(format_args!("run {id} was cancelled"));
            Ok(INTERRUPTED)
        }
        RunStatus::InputRequired => {
            for line in what_it_waits_for(id, parsed.waiting_for) {
                output.always(line);
            }
            Ok(NOT_OVER)
        }
        RunStatus::Queued | RunStatus::Running => {
            output.always(format_args!("run {id} is {}; `stn run wait {id}` waits on", parsed.status.as_str()));
            Ok(NOT_OVER)
        }
    }
}

/// What a parked run waits for, and the commands that let it go on.
pub(super) fn what_it_waits_for(id: RunId, waiting_for: Option<WaitingFor>) -> Vec<String> {
    let respond = format!("stn run respond {id}");
    match waiting_for {
        Some(WaitingFor::InDoubt) => vec![
            format!("run {id} waits for a decision: a tool call was cut off, and nobody can tell whether it happened"),
            format!("hint: `stn run steps {id}` shows the call; then one of"),
            format!("  {respond} retry                    call again, with the same idempotency key"),
            format!("  {respond} skip                     tell the model that the outcome is unknown"),
            format!("  {respond} result --result 'TEXT'   take TEXT for what the call returned"),
        ],
        Some(WaitingFor::Provider) => vec![
            format!("run {id} waits for a model provider: the key that it was started with is gone"),
            "hint: set the provider's key (OPENAI_API_KEY, ANTHROPIC_API_KEY) for this command, which brings it along"
                .to_owned(),
            format!("  {respond} retry"),
        ],
        other => {
            let what = serde_json::to_value(other).ok();
            let what = what.as_ref().and_then(Value::as_str).unwrap_or("somebody").to_owned();
            vec![
                format!("run {id} waits for: {}", what.replace('_', " ")),
                "hint: once that is there".to_owned(),
                format!("  {respond} retry"),
            ]
        }
    }
}

/// The run in a tool's output.
pub(super) fn parse(run: &Value) -> Result<Run> {
    serde_json::from_value(run.clone())
        .map_err(|cause| Error::unavailable("the station answered with something that is no run").source(cause))
}

/// A text as it is, anything else as JSON.
fn answer(output: Output, answer: Option<&Value>) -> Result<(), Failure> {
    match answer {
        Some(Value::String(text)) => output.text(text),
        Some(Value::Null) | None => Ok(()),
        Some(other) => output.json(other),
    }
}

/// What the last model call had to say beside its answer, such as that no language model was used.
async fn notice(target: &Target, run: RunId) -> Result<Option<String>, Failure> {
    let mut cursor = None;
    let mut last = None;
    loop {
        let mut input = Map::from_iter([("run".to_owned(), run.to_string().into()), ("limit".to_owned(), 200.into())]);
        input.extend(cursor.take().map(|cursor: Value| ("cursor".to_owned(), cursor)));
        let page = target.call("run_steps", input).await?;
        let steps = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if let Some(step) = steps.iter().rev().find(|step| step.get("kind").is_some_and(|kind| kind == "model")) {
            last = step.pointer("/result/notice").and_then(Value::as_str).map(str::to_owned);
        }
        match page.get("next_cursor").filter(|next| next.is_string()) {
            Some(next) => cursor = Some(next.clone()),
            None => return Ok(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_run_names_the_exact_commands() {
        let id = RunId::parse("0195f3a3-c000-8001-8000-000000000001").unwrap();
        let lines = what_it_waits_for(id, Some(WaitingFor::InDoubt)).join("\n");
        for decision in ["retry", "skip", "result --result 'TEXT'"] {
            assert!(lines.contains(&format!("stn run respond {id} {decision}")), "{lines}");
        }
        assert!(what_it_waits_for(id, Some(WaitingFor::Approval))[0].ends_with("approval"));
    }
}
