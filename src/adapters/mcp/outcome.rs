//! What an answer looks like to an MCP client.

use crate::domain::{Request, Run, RunStatus, WaitingFor, resume_command};
use crate::error::Error;
use crate::mcp::serve::{JsonObject, ToolOutcome};
use serde_json::Value;

/// Where a result carries the error beside its text.
const ERROR: &str = "io.station/error";

/// The tools whose caller wants the run's outcome: there a failed run is a failed call. Everywhere else it is a fact that was looked up.
const FOLLOW_A_RUN: [&str; 2] = ["agent_run", "run_wait"];

/// The outcome of a tool that gave `output`.
pub(super) fn of_output(tool: &str, output: Value) -> ToolOutcome {
    let run = FOLLOW_A_RUN.contains(&tool).then(|| serde_json::from_value::<Run>(output.clone()).ok()).flatten();
    ToolOutcome {
        is_error: run.as_ref().is_some_and(|run| run.status == RunStatus::Failed),
        text: run.as_ref().map(what_next).unwrap_or_default(),
        structured: Some(output),
        meta: None,
    }
}

/// What the caller does about a run that isn't over; empty when it is.
fn what_next(run: &Run) -> String {
    let id = run.id;
    let asked = || run.requests.iter().map(asked).collect::<Vec<_>>().join(" ");
    match run.status {
        RunStatus::Queued | RunStatus::Running if run.needs_an_answer() => {
            format!("A run that it has called asks a person: {} Use run_wait with run {id} afterwards.", asked())
        }
        RunStatus::Queued if run.agent_paused => {
            let resume = resume_command(&run.agent.name, &run.environment);
            format!("The run is queued until its agent goes on: {resume}; use run_wait with run {id} afterwards.")
        }
        RunStatus::Queued | RunStatus::Running => format!("The run goes on; use run_wait with run {id}."),
        RunStatus::InputRequired if run.waiting_for == Some(WaitingFor::Question) => {
            format!("The run asks a person: {} Use run_wait with run {id} afterwards.", asked())
        }
        RunStatus::InputRequired => {
            format!(
                "The run waits for a person, who answers it with `stn run respond {id}`; use run_wait with run {id} afterwards."
            )
        }
        RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => String::new(),
    }
}

/// What is asked, and the command that answers it.
fn asked(request: &Request) -> String {
    let choices = match request.choices.as_slice() {
        [] => String::new(),
        choices => format!(" (one of: {})", choices.join(", ")),
    };
    let what = match (&request.question, request.waiting_for) {
        (Some(question), _) => question.clone(),
        (None, WaitingFor::InDoubt) => {
            format!("did the call of `{}` happen?", request.tool.as_deref().unwrap_or("a tool"))
        }
        (None, WaitingFor::Provider) => format!("`{}` needs the key of its model provider again.", request.agent),
        (None, _) => format!("`{}` waits for a decision.", request.agent),
    };
    format!("{what}{choices} Answered with `{}`.", request.answer_with)
}

/// The outcome of an act that failed: the report as text, because that is what models read, and in `_meta`, where programs find it.
pub(super) fn of_error(error: &Error, request_id: &str) -> ToolOutcome {
    let mut report = error.report();
    report.request_id = Some(request_id.to_owned());
    let json = serde_json::to_value(&report).unwrap_or_default();
    ToolOutcome {
        structured: None,
        text: json.to_string(),
        is_error: true,
        meta: Some(JsonObject::from_iter([(ERROR.to_owned(), json)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(status: &str) -> Value {
        json!({
            "id": "018f3a3c-0000-8001-8000-000000000000", "environment": "development",
            "agent": { "id": 1, "name": "hello", "revision": "r" }, "status": status, "waiting_for": null, "input": {}, "output": null,
            "error": null, "error_kind": null, "model": { "provider": "offline", "id": "rules-1", "reason": "x" }, "origin": "mcp_stdio",
            "cause": { "kind": "call" }, "principal": { "kind": "local_owner", "id": "local", "name": "local owner" },
            "parent_run_id": null, "attempt": 1, "turns": 1, "steps": 1,
            "usage": { "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0, "cost_microusd": 0 },
            "config_revision": null, "created_at": "2025-11-24T16:00:00.120Z", "started_at": null, "ended_at": null, "duration_ms": null
        })
    }

    #[test]
    fn a_failed_run_is_a_failed_call_of_who_waited_for_it_and_a_fact_to_who_looks() {
        let outcome = of_output("agent_run", run("failed"));
        assert!(outcome.is_error);
        assert_eq!(outcome.structured.unwrap()["status"], "failed");
        assert!(!of_output("run_get", run("failed")).is_error);
        assert!(!of_output("agent_run", run("completed")).is_error);
    }

    #[test]
    fn a_run_that_goes_on_says_how_to_wait_for_it() {
        let text = of_output("agent_run", run("running")).text;
        assert_eq!(text, "The run goes on; use run_wait with run 018f3a3c-0000-8001-8000-000000000000.");
        assert!(of_output("agent_run", run("completed")).text.is_empty());
        let mut held = run("queued");
        held["agent_paused"] = json!(true);
        assert!(of_output("run_wait", held).text.contains("`stn agent resume hello -e development`"));
    }

    #[test]
    fn a_run_that_waits_for_a_person_further_down_says_what_is_asked_and_how_it_is_answered() {
        let child = "018f3a3c-0000-8001-8000-000000000001";
        let mut waits = run("running");
        waits["waiting_for"] = json!("child");
        let request = |waiting_for: &str, step: i64| {
            json!({ "run_id": child, "environment": "development", "agent": "asker", "waiting_for": waiting_for, "step": step,
                "tool": "mail__send", "question": null, "opened_at": "2025-11-24T16:00:00Z", "answer_with": format!("answer {step}") })
        };
        let mut question = request("question", 2);
        (question["question"], question["choices"]) = (json!("Which way?"), json!(["left", "right"]));
        waits["requests"] = json!([question, request("in_doubt", 3), request("provider", 4)]);
        assert_eq!(
            of_output("run_wait", waits).text,
            "A run that it has called asks a person: Which way? (one of: left, right) Answered with `answer 2`. \
             did the call of `mail__send` happen? Answered with `answer 3`. `asker` needs the key of its model provider again. \
             Answered with `answer 4`. Use run_wait with run 018f3a3c-0000-8001-8000-000000000000 afterwards."
        );
    }

    #[test]
    fn an_error_is_in_the_text_and_in_meta() {
        let outcome = of_error(&Error::not_found("agent `x` doesn't exist").hint("h"), "r1");
        let text: Value = serde_json::from_str(&outcome.text).unwrap();
        assert_eq!(
            text,
            json!({ "kind": "not_found", "message": "agent `x` doesn't exist", "hint": "h", "request_id": "r1" })
        );
        assert_eq!(outcome.meta.unwrap()["io.station/error"], text);
        assert!(outcome.is_error && outcome.structured.is_none());
    }
}
