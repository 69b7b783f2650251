//! What an answer has to be, and a plan before it.

use super::{Bench, Say};
use crate::config::Settings;
use crate::domain::{RunErrorKind, RunStatus, StepStatus};
use crate::llm::Message;
use serde_json::{Value, json};

fn number() -> Option<Value> {
    Some(json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] }))
}

async fn with_schema(script: Vec<Say>) -> Bench {
    let bench = Bench::new(script);
    bench.agent(|agent| agent.output_schema = number()).await;
    bench.start().await;
    bench
}

#[tokio::test]
async fn an_answer_that_fits_its_schema_is_the_output_as_a_value() {
    let bench = with_schema(vec![Say::Text("```json\n{\"n\": 7}\n```")]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.turns), (Some(json!({ "n": 7 })), 1), "{:?}", run.error);
    let system = bench.model.request(0).system.unwrap();
    assert!(system.starts_with("Help.") && system.contains("\"required\":[\"n\"]"), "{system}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_repaired_in_one_turn_that_names_what_is_wrong() {
    let bench = with_schema(vec![Say::Text("{\"n\": \"seven\"}"), Say::Text("{\"n\": 7}")]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.turns, run.steps), (Some(json!({ "n": 7 })), 2, 2), "{:?}", run.error);
    let asked = bench.model.request(1).messages;
    let Some(Message::User { text }) = asked.last() else { panic!("{asked:?}") };
    assert!(text.contains("`/n`") && text.contains("integer"), "{text}");
    assert!(matches!(&asked[1], Message::Assistant { text, .. } if text.contains("seven")));
}

#[tokio::test]
async fn a_repair_may_look_things_up_and_there_is_only_one() {
    let list = Say::Calls(vec![("files__list_directory", r#"{"path":"."}"#)]);
    let bench = with_schema(vec![Say::Text("seven"), list, Say::Text("still seven"), Say::Text("{\"n\": 7}")]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.status, run.error_kind), (RunStatus::Failed, Some(RunErrorKind::OutputSchema)));
    assert!(run.error.unwrap().contains("no JSON"));
    assert_eq!(bench.model.times_asked(), 3);
}

#[tokio::test]
async fn a_repair_is_allowed_where_the_answer_took_the_last_turn() {
    let bench = Bench::new(vec![Say::Text("seven"), Say::Text("{\"n\": 7}")]);
    bench
        .agent(|agent| {
            agent.output_schema = number();
            agent.max_steps = Some(1);
        })
        .await;
    bench.start().await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!({ "n": 7 })));
}

#[tokio::test]
async fn a_plan_is_made_without_tools_kept_as_a_step_and_carried_out() {
    let read = Say::Calls(vec![("files__read_text_file", r#"{"path":"a"}"#)]);
    let bench = Bench::new(vec![Say::Text("1. read a"), read, Say::Text("read")]);
    bench.agent(|agent| agent.plan = true).await;
    bench.start().await;
    bench.write_file("a", "one");
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.turns), (Some(json!("read")), 3), "{:?}", run.error);
    let step = bench.step(run.id, 1, 1).await.step;
    assert_eq!((step.name.as_str(), step.status, step.turn), ("plan", StepStatus::Completed, 1));
    assert_eq!(step.result.unwrap()["text"], "1. read a");
    assert_eq!(bench.step(run.id, 2, 1).await.step.name, "scripted/m");
    let (first, second) = (bench.model.request(0), bench.model.request(1));
    assert!(first.tools.is_empty() && !second.tools.is_empty());
    assert!(matches!(&first.messages[..], [Message::User { text }] if text.contains("files__read_text_file")));
    assert!(
        matches!(&second.messages[..], [_, Message::Assistant { text, .. }, Message::User { .. }] if text == "1. read a")
    );
}

#[tokio::test]
async fn calls_that_a_plan_asks_for_are_not_made() {
    let write = Say::Calls(vec![("files__write_file", r#"{"path":"a","content":"x"}"#)]);
    let bench = Bench::new(vec![write, Say::Text("done")]);
    bench.agent(|agent| agent.plan = true).await;
    bench.start().await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.steps), (Some(json!("done")), 2), "{:?}", run.error);
    assert!(!bench.station.home.workspace_dir(&bench.environment.name).join("a").exists());
}

#[tokio::test]
async fn a_plan_that_took_the_only_turn_of_a_station_fails_by_name() {
    let mut settings = Settings::default();
    settings.runs.max_steps = 1;
    let bench = Bench::with(vec![Say::Text("1. nothing")], settings);
    bench
        .agent(|agent| {
            agent.plan = true;
            agent.max_steps = None;
        })
        .await;
    bench.start().await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.error_kind, Some(RunErrorKind::StepLimit));
    assert!(run.error.unwrap().contains("plan"));
}

#[tokio::test]
async fn a_paused_agent_takes_no_run_and_what_was_queued_waits_for_the_resume() {
    let bench = Bench::new(vec![Say::Text("one"), Say::Text("two")]);
    bench.agent(|_| {}).await;
    let queued = bench.submit().await;
    let paused = bench.call("agent_pause", json!({ "agent": "helper" })).await;
    assert_eq!(paused["state"], "paused");
    bench.start().await;
    let refused =
        crate::tools::call(&bench.station, super::context(), "agent_run", json!({ "agent": "helper", "input": "go" }));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.kind(), crate::error::ErrorKind::Conflict);
    assert!(refused.hint_text().unwrap().contains("stn agent resume helper -e development"), "{refused:?}");
    for _ in 0..3 {
        bench.clock.advance(std::time::Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.until(queued, |_| true).await.status, RunStatus::Queued);
    assert_eq!(bench.call("agent_resume", json!({ "agent": "helper" })).await["state"], "ok");
    assert_eq!(bench.settled(queued).await.output, Some(json!("one")));
    let next = bench.submit().await;
    assert_eq!(bench.settled(next).await.output, Some(json!("two")));
}

#[tokio::test]
async fn a_run_that_executes_when_its_agent_is_paused_goes_on() {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let bench = Bench::started(vec![Say::Wait(go.clone(), "done")]).await;
    let run = bench.submit().await;
    bench.model.asked(1).await;
    bench.call("agent_pause", json!({ "agent": "helper" })).await;
    go.notify_one();
    assert_eq!(bench.settled(run).await.output, Some(json!("done")));
}
