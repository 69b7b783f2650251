//! Models that ask a person.

use super::{Bench, Say};
use crate::domain::{EventType, RunStatus, StepStatus, WaitingFor};
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
    assert_eq!(asked.answer_with, format!("stn run respond {run} --answer TEXT --step 2"));
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
