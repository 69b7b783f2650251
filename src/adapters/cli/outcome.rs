//! How a run ended, told: the answer alone on stdout, everything else on stderr, and the exit code.

use super::failure::{Failure, INTERRUPTED};
use super::output::Output;
use super::target::Target;
use crate::domain::{Event, EventType, Request, Run, RunId, RunStatus, WaitingFor, resume_command};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// A run that failed, or a tool that answered with an error.
pub(super) const FAILED: u8 = 1;
/// A run that isn't over: somebody has to answer, or to wait on.
pub(super) const NOT_OVER: u8 = 6;

/// What the last model call had to say beside its answer, such as that no language model was used.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Notice {
    /// Nobody listened, or the event left the reply out because it is long: the journal has it.
    #[default]
    Unheard,
    Heard(Option<String>),
}

impl Notice {
    /// Takes up what `event` tells of it.
    pub(super) fn hear(&mut self, event: &Event) {
        let step = event.data.get("step").unwrap_or(&Value::Null);
        match event.r#type {
            EventType::RunRewound => *self = Self::Unheard,
            EventType::StepCompleted if is_model(step) => {
                let reply = step.get("result").filter(|reply| !reply.is_null());
                *self = reply.map_or(Self::Unheard, |reply| Self::Heard(notice_of(reply)));
            }
            _ => {}
        }
    }
}

fn is_model(step: &Value) -> bool {
    step.get("kind").is_some_and(|kind| kind == "model")
}

fn notice_of(reply: &Value) -> Option<String> {
    reply.get("notice").and_then(Value::as_str).map(str::to_owned)
}

/// Tells what became of `run`, and returns the exit code. `notice` is what whoever followed the run has heard.
pub(super) async fn tell(target: &Target, output: Output, run: &Value, notice: Notice) -> Result<u8, Failure> {
    let parsed = parse(run)?;
    if output.json {
        output.json(run)?;
    }
    let id = parsed.id;
    match parsed.status {
        RunStatus::Completed => {
            if !output.json {
                answer(output, parsed.output.as_ref())?;
            }
            // The answer is out; a notice that can't be had is no reason to call the run anything but completed.
            let notice = match notice {
                Notice::Heard(notice) => notice,
                Notice::Unheard if output.quiet => None,
                Notice::Unheard => journaled_notice(target, id).await.unwrap_or_default(),
            };
            if let Some(notice) = notice {
                output.note(format_args!("note: {notice}"));
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
            for line in what_it_waits_for(id, parsed.waiting_for, &parsed.requests) {
                output.always(line);
            }
            Ok(NOT_OVER)
        }
        RunStatus::Queued | RunStatus::Running if parsed.needs_an_answer() => {
            for line in what_is_asked(&parsed.requests) {
                output.always(line);
            }
            output.always(format_args!("run {id} waits for that; `stn run wait {id}` waits on once it is answered"));
            Ok(NOT_OVER)
        }
        RunStatus::Queued | RunStatus::Running => {
            if let Some(line) = is_held(&parsed) {
                output.always(line);
            }
            output.always(format_args!("run {id} is {}; `stn run wait {id}` waits on", parsed.status.as_str()));
            Ok(NOT_OVER)
        }
    }
}

/// Why nobody takes a queued run, if that is so.
pub(super) fn is_held(run: &Run) -> Option<String> {
    let resume = || resume_command(&run.agent.name, &run.environment);
    run.agent_paused.then(|| format!("run {} is queued, and its agent is paused; {} lets it go on", run.id, resume()))
}

/// Waiting for a child or a timer is the run's own affair; `input_required` is ours.
pub(super) fn is_parked(event: &Event) -> bool {
    event.r#type == EventType::RunWaiting && event.data.get("status").is_some_and(|status| status == "input_required")
}

/// Whether a run tells that one below it waits for a person.
pub(super) fn is_asked_below(event: &Event) -> bool {
    event.r#type == EventType::RunWaiting && !is_parked(event) && !requests(event).is_empty()
}

/// What the run `id` waits for, as its event tells: itself, or those below it.
pub(super) fn waits(id: RunId, event: &Event) -> Vec<String> {
    if is_asked_below(event) {
        return what_is_asked(&requests(event));
    }
    let waiting_for = event.data.get("waiting_for").cloned().unwrap_or_default();
    what_it_waits_for(id, serde_json::from_value(waiting_for).ok(), &requests(event))
}

fn requests(event: &Event) -> Vec<Request> {
    event.data.get("requests").and_then(|requests| serde_json::from_value(requests.clone()).ok()).unwrap_or_default()
}

/// What is asked by the runs whose requests these are, each run by its own words.
fn what_is_asked(requests: &[Request]) -> Vec<String> {
    let runs = requests.chunk_by(|one, next| one.run_id == next.run_id);
    let first = runs.filter_map(|of_one| Some((of_one.first()?, of_one)));
    first.flat_map(|(first, of_one)| what_it_waits_for(first.run_id, Some(first.waiting_for), of_one)).collect()
}

/// What a parked run waits for, and the commands that let it go on.
fn what_it_waits_for(id: RunId, waiting_for: Option<WaitingFor>, requests: &[Request]) -> Vec<String> {
    let respond = format!("stn run respond {id}");
    match waiting_for {
        Some(WaitingFor::Question) => requests.iter().flat_map(|request| asks(id, request, requests.len())).collect(),
        Some(WaitingFor::InDoubt) => vec![
            format!("run {id} waits for a decision: a tool call was cut off, and nobody can tell whether it happened"),
            format!("hint: `stn run steps {id}` shows the call; then one of"),
            format!("  {respond} retry                    call again, with the same idempotency key"),
            format!("  {respond} skip                     tell the model that the outcome is unknown"),
            format!("  {respond} result --result 'TEXT'   take TEXT for what the call returned"),
        ],
        Some(WaitingFor::Provider) => vec![
            format!("run {id} waits for a model provider: the key that it was started with is gone"),
            "hint: set the provider's key (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY) for this command, which brings it along"
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

/// A question, and the command that answers it: among several, by its step.
fn asks(id: RunId, request: &Request, of: usize) -> Vec<String> {
    let step = request.step.filter(|_| of > 1).map(|step| format!(" --step {step}")).unwrap_or_default();
    let mut lines = vec![format!("run {id} asks: {}", request.question.as_deref().unwrap_or_default())];
    if !request.choices.is_empty() {
        lines.push(format!("choices: {}", request.choices.join(", ")));
    }
    if let Some(at) = request.expires_at {
        lines.push(format!("it goes on without an answer at {at}"));
    }
    lines.push("hint: answer with".to_owned());
    let by_name = if Request::offers_a_decision(&request.choices) { "--answer " } else { "" };
    lines.push(format!("  stn run respond {id} {by_name}'TEXT'{step}"));
    lines
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

/// The notice as the journal has it. A page is read as a whole, so this is for when the events didn't tell.
async fn journaled_notice(target: &Target, run: RunId) -> Result<Option<String>, Failure> {
    let mut cursor = None;
    let mut last = None;
    loop {
        let mut input = Map::from_iter([("run".to_owned(), run.to_string().into()), ("limit".to_owned(), 200.into())]);
        input.extend(cursor.take().map(|cursor: Value| ("cursor".to_owned(), cursor)));
        let page = target.call("run_steps", input).await?;
        let steps = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if let Some(step) = steps.iter().rev().find(|step| is_model(step)) {
            last = step.get("result").and_then(notice_of);
        }
        match page.get("next_cursor").filter(|next| next.is_string()) {
            Some(next) => cursor = Some(next.clone()),
            None => return Ok(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Remote;
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::{Timestamp, Usage};
    use crate::net::testing::DeafPort;
    use crate::tools;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn the_notice_is_that_of_the_last_model_call_that_the_events_tell_of() {
        let event = |kind: &str, data: Value| -> Event {
            let run = "0195f3a3-c000-8001-8000-000000000001";
            let at = "2026-01-01T00:00:00Z";
            serde_json::from_value(json!({ "run_id": run, "epoch": 1, "seq": 1, "type": kind, "at": at, "data": data }))
                .unwrap()
        };
        let model = |result: Value| event("step.completed", json!({ "step": { "kind": "model", "result": result } }));
        let tool = event("step.completed", json!({ "step": { "kind": "tool", "result": { "notice": "not mine" } } }));
        let after = |events: &[Event]| {
            let mut notice = Notice::default();
            events.iter().for_each(|event| notice.hear(event));
            notice
        };
        let said = model(json!({ "text": "a", "notice": "no language model" }));
        assert_eq!(after(&[]), Notice::Unheard);
        assert_eq!(after(&[said.clone(), tool]), Notice::Heard(Some("no language model".into())));
        assert_eq!(after(&[said.clone(), model(json!({ "text": "b", "notice": null }))]), Notice::Heard(None));
        // A long reply stays out of its event.
        assert_eq!(after(&[said.clone(), model(Value::Null)]), Notice::Unheard);
        assert_eq!(after(&[said, event("run.rewound", json!({}))]), Notice::Unheard);
    }

    #[tokio::test]
    async fn a_run_that_completed_is_told_even_if_its_notice_can_t_be_had() {
        let deaf = DeafPort::new();
        let remote =
            Remote::new(&format!("http://{}", deaf.address()), None, crate::net::http_client().unwrap()).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let target = Target::remote(remote, Arc::new(tools::table()), None, clock);
        let run = json!({
            "id": "0195f3a3-c000-8001-8000-000000000001", "environment": "development",
            "agent": { "id": 1, "name": "hello", "revision": "r" }, "status": "completed", "input": {}, "output": null,
            "model": { "provider": "offline", "id": "rules-1", "reason": "it is there" }, "origin": "cli",
            "cause": { "kind": "call" }, "principal": { "kind": "local_owner", "id": "local", "name": "owner" },
            "attempt": 1, "turns": 1, "steps": 1, "usage": Usage::default(), "created_at": "2026-01-01T00:00:00Z",
        });
        let output = Output { json: false, quiet: false };
        assert_eq!(tell(&target, output, &run, Notice::Unheard).await.unwrap(), 0);
    }

    #[test]
    fn a_parked_run_names_the_exact_commands() {
        let id = RunId::parse("0195f3a3-c000-8001-8000-000000000001").unwrap();
        let lines = what_it_waits_for(id, Some(WaitingFor::InDoubt), &[]).join("\n");
        for decision in ["retry", "skip", "result --result 'TEXT'"] {
            assert!(lines.contains(&format!("stn run respond {id} {decision}")), "{lines}");
        }
        assert!(what_it_waits_for(id, Some(WaitingFor::Approval), &[])[0].ends_with("approval"));
    }
}
