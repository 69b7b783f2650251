//! What goes on between the model and the tools.

use super::{Bench, Say};
use crate::config::Settings;
use crate::domain::{AuditOutcome, EventType, RunStatus, StepStatus};
use crate::events::Followed;
use crate::llm::Message;
use serde_json::{Value, json};

#[tokio::test]
async fn a_run_reads_two_files_at_once_and_a_third_and_answers() {
    let bench = Bench::started(vec![
        Say::Calls(vec![("files__read_text_file", r#"{"path":"a"}"#), ("files__read_text_file", r#"{"path":"b"}"#)]),
        Say::Calls(vec![("files__write_file", r#"{"path":"c","content":"three"}"#)]),
        Say::Text("all done"),
    ])
    .await;
    bench.write_file("a", "one");
    bench.write_file("b", "two");
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.status, &run.output), (RunStatus::Completed, &Some(json!("all done"))), "{:?}", run.error);
    assert_eq!((run.turns, run.steps, run.usage.input_tokens), (3, 6, 30));
    let first = bench.model.request(0);
    assert_eq!((first.system.as_deref(), first.plan_allowed), (Some("Help."), true));
    assert_eq!(first.messages, vec![Message::User { text: "go".into() }]);
    assert!(first.tools.iter().any(|tool| tool.name == "files__read_text_file"));
    let Some(Message::ToolResults(read)) = bench.model.request(1).messages.pop() else { panic!("no results") };
    let read: Vec<(&str, &str)> = read.iter().map(|result| (&*result.call_id, &*result.content)).collect();
    assert_eq!(read, [("call-0", "one"), ("call-1", "two")]);
    let journal = bench.journal(run.id).await;
    assert!(journal.iter().all(|row| row.step.status == StepStatus::Completed));
    let key = format!("{}-2", run.id);
    assert_eq!(journal[1].step.idempotency_key.as_deref(), Some(key.as_str()));
    use AuditOutcome::{Done, Started};
    assert_eq!(bench.audited("tool.call").await, [Done, Done, Started, Done], "a read leaves no intent");
    assert_eq!(bench.audited("agent.run").await, [Done, Done], "the submit and the end");
}

#[tokio::test]
async fn what_the_model_asks_wrongly_is_told_to_it_and_nothing_is_called() {
    let bench = Bench::started(vec![
        Say::Calls(vec![
            ("files__read_text_fil", "{}"),
            ("files__read_text_file", "{\"path\":"),
            ("files__read_text_file", r#"{"path":7}"#),
            ("files__list_allowed_directories", ""),
        ]),
        Say::Text("sorry"),
    ])
    .await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.status, RunStatus::Completed);
    let told = bench.model.last_results();
    assert!(told.iter().all(|result| result.is_error));
    assert!(told[0].content.contains("did you mean `files__read_text_file`"), "{}", told[0].content);
    assert!(told[1].content.contains("not valid JSON"), "{}", told[1].content);
    assert!(told[2].content.contains("/path"), "{}", told[2].content);
    assert!(told[3].content.contains("cut off before its arguments"), "{}", told[3].content);
    let journal = bench.journal(run.id).await;
    assert!(journal[1..5].iter().all(|row| row.step.status == StepStatus::Failed));
    assert_eq!(journal[2].step.arguments, Some(json!("{\"path\":")), "arguments are kept as they came");
    assert!(bench.audited("tool.call").await.is_empty());
}

#[tokio::test]
async fn a_tool_that_fails_is_told_to_the_model() {
    let read = Say::Calls(vec![("files__read_text_file", r#"{"path":"missing"}"#)]);
    let bench = Bench::started(vec![read, Say::Text("not there")]).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.status, RunStatus::Completed);
    assert!(bench.model.last_results()[0].is_error);
    let step = bench.step(run, 2, 1).await.step;
    assert_eq!((step.status, step.result.unwrap()["isError"].clone()), (StepStatus::Completed, json!(true)));
}

#[tokio::test]
async fn a_result_that_no_value_can_hold_is_shown_as_text_and_ends_nothing() {
    let calls = Say::Calls(vec![("misfits__half", "{}"), ("misfits__deep", "{}")]);
    let bench = Bench::started(vec![calls, Say::Text("odd")]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.output, Some(json!("odd")), "{:?}", run.error);
    let shown = bench.model.last_results();
    assert_eq!(shown[0].content, "cut \u{fffd}");
    assert!(shown[1].content.contains("structuredContent"), "{}", shown[1].content);
    for seq in [2, 3] {
        assert_eq!(bench.step(run.id, seq, 1).await.step.status, StepStatus::Completed);
    }
    let answer = bench.call("tool_call", json!({ "tool": "misfits__half" })).await;
    assert_eq!(answer["content"][0]["text"], "cut \u{fffd}");
}

#[tokio::test]
async fn a_large_result_is_cut_for_the_model_and_kept_whole() {
    let mut settings = Settings::default();
    settings.runs.result_bytes = 1000;
    let read = Say::Calls(vec![("files__read_text_file", r#"{"path":"large"}"#)]);
    let bench = Bench::with(vec![read, Say::Text("long")], settings);
    bench.agent(|_| {}).await;
    bench.start().await;
    bench.write_file("large", &"x".repeat(5000));
    let run = bench.submit().await;
    bench.settled(run).await;
    let shown = &bench.model.last_results()[0].content;
    assert!(shown.len() < 1200 && shown.contains("4000 of 5000 bytes") && shown.contains("run_steps"), "{shown}");
    let row = bench.step(run, 2, 1).await;
    let kept = row.step.result.as_ref().and_then(|result| result.pointer("/content/0/text")).and_then(Value::as_str);
    assert_eq!(kept.map(str::len), Some(5000));
    assert_eq!((row.step.truncated, row.shown.as_ref()), (true, Some(shown)));
}

#[tokio::test]
async fn followers_are_told_the_text_while_it_is_written() {
    let bench = Bench::new(vec![Say::Text("hello")]);
    bench.agent(|_| {}).await;
    let run = bench.submit().await;
    let mut follower = bench.station.events.follow(run);
    bench.start().await;
    let mut delta = None;
    loop {
        match follower.next().await {
            Followed::Event(event) if event.r#type == EventType::ModelDelta => delta = Some(event.data),
            Followed::Event(event) if event.r#type.is_terminal() => break,
            _ => {}
        }
    }
    assert_eq!(delta, Some(json!({ "step": 1, "text": "hello" })));
}
