//! Models that ask a person.

use super::{Bench, Say};
use crate::domain::{AuditOutcome, EventType, QUESTION_EXPIRY, RunStatus, StepStatus, WaitingFor};
use crate::error::{Error, ErrorKind};
use crate::tools;
use serde_json::{Value, json};
use std::time::Duration;

const WHICH: (&str, &str) = ("ask_user", r#"{"question":"Which one?","choices":["left","right"]}"#);
const WHY: (&str, &str) = ("ask_user", r#"{"question":"Why?"}"#);

/// `helper`, who may ask, at work.
async fn curious(script: Vec<Say>) -> Bench {
    let bench = Bench::new(script);
    bench.agent(|agent| agent.tools = vec!["files__*".into(), "ask_user".into()]).await;
    bench.start().await;
    bench
}

/// The workers look again, whatever they were doing when the time came.
fn three_days_later(bench: &Bench) {
    bench.clock.advance(QUESTION_EXPIRY);
    bench.station.admission.wake();
}

async fn refused(bench: &Bench, answer: Value) -> Error {
    tools::call(&bench.station, super::context(), "run_respond", answer).await.unwrap_err()
}

#[tokio::test]
async fn a_question_parks_the_run_and_its_answer_is_the_result_of_the_call() {
    let bench = curious(vec![Say::Calls(vec![WHICH]), Say::Text("left it is")]).await;
    let run = bench.submit().await;
    let parked = bench.settled(run).await;
    assert_eq!((parked.status, parked.waiting_for), (RunStatus::InputRequired, Some(WaitingFor::Question)));
    assert!(bench.model.request(0).tools.iter().any(|tool| tool.name == "ask_user"));
    let asked = &parked.requests[0];
    assert_eq!((asked.question.as_deref(), asked.step), (Some("Which one?"), Some(2)));
    assert_eq!(asked.choices, ["left", "right"]);
    assert_eq!(asked.answer_with, format!("stn run respond {run} 'TEXT' --step 2"));
    let listed = bench.call("request_list", json!({})).await;
    assert_eq!(listed["items"], json!(parked.requests));
    let step = bench.step(run, 2, 1).await.step;
    assert_eq!((step.status, step.waiting_for), (StepStatus::Started, Some(WaitingFor::Question)));
    // A night is no part of the run's minute.
    bench.clock.advance(Duration::from_secs(86_400));
    assert_eq!(
        refused(&bench, json!({ "run": run, "answer": "Left" })).await.hint_text(),
        Some("did you mean `left`?")
    );
    let answered = bench.call("run_respond", json!({ "run": run, "answer": "left" })).await;
    assert_eq!(answered["status"], "queued");
    let ended = bench.until(run, |run| run.status.is_terminal()).await;
    assert_eq!(ended.output, Some(json!("left it is")), "{:?}", ended.error);
    assert_eq!(bench.model.last_results()[0].content, "left");
    assert_eq!(bench.step(run, 2, 1).await.step.status, StepStatus::Completed);
    assert_eq!(bench.call("request_list", json!({})).await["items"], json!([]));
    let events = bench.environment.store.events_after(run, 0, 100).await.unwrap();
    let opened = events.iter().find(|event| event.r#type == EventType::RequestOpened).unwrap();
    assert_eq!(opened.data["requests"][0]["question"], "Which one?");
    assert!(bench.audited("tool.call").await.is_empty());
}

#[tokio::test]
async fn several_questions_of_a_turn_are_answered_each_by_itself() {
    let list = ("files__list_directory", r#"{"path":"."}"#);
    let bench = curious(vec![Say::Calls(vec![WHICH, list, WHY]), Say::Text("fine")]).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.requests.len(), 2);
    let unclear = refused(&bench, json!({ "run": run, "answer": "left" })).await;
    assert_eq!((unclear.kind(), unclear.field_name()), (ErrorKind::Conflict, Some("step")));
    let decided = async |step: Option<i64>| {
        let refused = refused(&bench, json!({ "run": run, "decision": "retry", "step": step })).await;
        refused.hint_text().unwrap_or_default().to_owned()
    };
    let [first, second] = [2, 4].map(|step| format!("stn run respond {run} --answer 'TEXT' --step {step}"));
    assert_eq!(decided(Some(4)).await, format!("give it: {second}"), "what was given is kept");
    for unclear in [None, Some(3)] {
        assert_eq!(decided(unclear).await, format!("give it: {first}, or {second}"));
    }
    bench.call("run_respond", json!({ "run": run, "answer": "because", "step": 4 })).await;
    assert_eq!(bench.settled(run).await.requests.len(), 1);
    bench.call("run_respond", json!({ "run": run, "answer": "right" })).await;
    assert_eq!(bench.until(run, |run| run.status.is_terminal()).await.output, Some(json!("fine")));
    let results = bench.model.last_results();
    assert_eq!((results[0].content.as_str(), results[2].content.as_str()), ("right", "because"));
}

#[tokio::test]
async fn what_is_no_answer_is_refused_and_the_run_waits_on() {
    let bench = curious(vec![Say::Calls(vec![WHY])]).await;
    let run = bench.submit().await;
    bench.settled(run).await;
    for (answer, kind) in [
        (json!({ "run": run, "decision": "retry" }), ErrorKind::Conflict),
        (json!({ "run": run, "answer": " " }), ErrorKind::InvalidInput),
        (json!({ "run": run }), ErrorKind::InvalidInput),
        (json!({ "run": run, "answer": "x", "decision": "skip" }), ErrorKind::InvalidInput),
        (json!({ "run": run, "answer": "x", "step": 1 }), ErrorKind::Conflict),
    ] {
        assert_eq!(refused(&bench, answer.clone()).await.kind(), kind, "{answer}");
    }
    assert_eq!(bench.settled(run).await.status, RunStatus::InputRequired);
    let cancelled = bench.call("run_cancel", json!({ "run": run })).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(bench.step(run, 2, 1).await.step.status, StepStatus::Failed);
}

#[tokio::test]
async fn a_question_that_is_none_is_told_to_the_model_and_only_who_lists_it_may_ask() {
    let none = Say::Calls(vec![("ask_user", r#"{"choices":["a","b"]}"#)]);
    let bench = curious(vec![none, Say::Text("sorry")]).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("sorry")));
    assert!(bench.model.last_results()[0].content.contains("question"));

    let bench = Bench::started(vec![Say::Calls(vec![WHY]), Say::Text("pity")]).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("pity")));
    assert!(bench.model.last_results()[0].content.contains("no tool `ask_user`"));
}

#[tokio::test]
async fn a_question_that_was_cut_off_before_it_was_asked_is_asked_under_the_next_owner() {
    let bench = Bench::new(vec![Say::Calls(vec![WHY]), Say::Text("I see")]);
    bench.agent(|agent| agent.tools = vec!["ask_user".into()]).await;
    bench.start().await;
    let run = bench.submit().await;
    bench.settled(run).await;
    let (workers, tasks) = (super::Workers::new(1, crate::store::Owner("next".into())), super::Tasks::new());
    super::super::start(&bench.station, &workers, &tasks).await;
    assert_eq!(bench.settled(run).await.waiting_for, Some(WaitingFor::Question), "nobody takes over what is parked");
    bench.call("run_respond", json!({ "run": run, "answer": "because" })).await;
    assert_eq!(bench.until(run, |run| run.status.is_terminal()).await.output, Some(json!("I see")));
}

#[tokio::test]
async fn a_question_that_nobody_answers_expires_and_the_model_goes_on_without_the_answer() {
    let bench = curious(vec![Say::Calls(vec![WHY]), Say::Text("without, then")]).await;
    let run = bench.submit().await;
    let asked = bench.settled(run).await.requests.remove(0);
    assert_eq!(asked.expires_at, Some(asked.opened_at + QUESTION_EXPIRY));
    three_days_later(&bench);
    let ended = bench.until(run, |run| run.status.is_terminal()).await;
    assert_eq!(ended.output, Some(json!("without, then")), "three days are no part of its minute: {:?}", ended.error);
    let told = bench.model.last_results().remove(0);
    assert!(told.is_error && told.content.contains("nobody has answered within 72 hours"), "{}", told.content);
    assert_eq!(bench.step(run, 2, 1).await.step.status, StepStatus::Failed);
    let events = bench.environment.store.events_after(run, 0, 100).await.unwrap();
    let expired = events.iter().find(|event| event.r#type == EventType::RequestExpired).unwrap();
    assert_eq!(expired.data["steps"], json!([2]));
    assert_eq!(bench.audited("request.expire").await, [AuditOutcome::Done]);
    let late = refused(&bench, json!({ "run": run, "answer": "because" })).await;
    assert_eq!((late.kind(), late.field_name()), (ErrorKind::Conflict, Some("answer")));
    assert!(late.message().contains("in step 2 has expired unanswered"), "{late}");
}

#[tokio::test]
async fn a_question_that_expired_while_nobody_was_there_expires_with_the_next_owner() {
    let bench = Bench::new(vec![Say::Calls(vec![WHY]), Say::Text("without, then")]);
    bench.agent(|agent| agent.tools = vec!["ask_user".into()]).await;
    // An owner that does what is submitted to it, and looks at nothing else.
    bench.workers.attach(&bench.station, &bench.tasks);
    let run = bench.submit().await;
    bench.settled(run).await;
    bench.clock.advance(QUESTION_EXPIRY + Duration::from_secs(1));
    let late = refused(&bench, json!({ "run": run, "answer": "because" })).await;
    assert!(late.kind() == ErrorKind::Conflict && late.message().contains("has expired"), "{late}");
    assert_eq!(bench.settled(run).await.status, RunStatus::InputRequired, "nobody has told it");
    let (workers, tasks) = (super::Workers::new(1, crate::store::Owner("next".into())), super::Tasks::new());
    super::super::start(&bench.station, &workers, &tasks).await;
    assert_eq!(bench.until(run, |run| run.status.is_terminal()).await.output, Some(json!("without, then")));
}

/// `helper`, who calls `child`, who asks and then says this.
async fn with_a_child_that_asks(last: &'static str) -> Bench {
    let call = super::children::CALL;
    let bench = Bench::new(vec![Say::Calls(vec![call]), Say::Calls(vec![WHY]), Say::Text(last), Say::Text("thanks")]);
    bench.agent(super::children::parent).await;
    let asks = |agent: &mut crate::domain::AgentDefinition| {
        super::children::child(agent);
        agent.tools = vec!["ask_user".into()];
    };
    bench.agent(asks).await;
    bench.start().await;
    bench
}

#[tokio::test]
async fn whoever_waits_for_a_run_is_told_what_a_run_below_it_asks() {
    let bench = with_a_child_that_asks("because").await;
    let run = bench.submit().await;
    // The clock stands still: it is the question that ends the wait.
    let waited = bench.call("run_wait", json!({ "run": run })).await;
    assert_eq!((&waited["status"], &waited["waiting_for"]), (&json!("running"), &json!("child")), "{waited:#}");
    let asked = &waited["requests"][0];
    let child = bench.called_by(run).await.remove(0).id;
    assert_eq!(
        (&asked["run_id"], &asked["agent"], &asked["question"]),
        (&json!(child), &json!("child"), &json!("Why?"))
    );
    assert_eq!(bench.call("request_list", json!({})).await["items"], waited["requests"]);
    for answer in [json!({ "run": run, "answer": "x" }), json!({ "run": run, "decision": "retry" })] {
        let refused = refused(&bench, answer).await;
        assert_eq!((refused.kind(), refused.field_name()), (ErrorKind::Conflict, Some("run")));
        assert!(
            refused.hint_text().unwrap().contains(&format!("stn run respond {child} 'TEXT' --step 2")),
            "{refused}"
        );
    }
    bench.call("run_respond", json!({ "run": child, "answer": "so" })).await;
    let ended = bench.call("run_wait", json!({ "run": run })).await;
    assert_eq!((&ended["output"], &ended["requests"]), (&json!("thanks"), &Value::Null), "{ended:#}");
}

#[tokio::test]
async fn a_childs_question_that_expires_takes_nothing_of_its_callers_time() {
    let bench = with_a_child_that_asks("without, then").await;
    let run = bench.submit().await;
    bench.until(run, |run| run.waiting_for == Some(WaitingFor::Child)).await;
    let child = bench.called_by(run).await.remove(0).id;
    bench.settled(child).await;
    three_days_later(&bench);
    let ended = bench.until(run, |run| run.status.is_terminal()).await;
    assert_eq!(ended.output, Some(json!("thanks")), "{:?}", ended.error);
}
