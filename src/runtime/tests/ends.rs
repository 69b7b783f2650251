//! The ways in which a run ends before its model has answered.

use super::children::{child, parent};
use super::{Bench, Say};
use crate::config::parse_settings;
use crate::domain::{AgentDefinition, AuditOutcome, EventType, OnInDoubt, Run, RunErrorKind, RunStatus, StepStatus};
use crate::events::Followed;
use crate::llm::{Finish, Message};
use crate::store::Owner;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

fn failed(run: &Run, kind: RunErrorKind, says: &[&str]) {
    assert_eq!((run.status, run.error_kind), (RunStatus::Failed, Some(kind)), "{:?}", run.error);
    let error = run.error.as_deref().unwrap_or_default();
    for said in says {
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_run_that_has_used_its_turns_fails_without_making_the_last_calls() {
    let list = || Say::Calls(vec![("files__list_directory", r#"{"path":"."}"#)]);
    let bench = Bench::new(vec![list(), list(), list()]);
    bench.agent(|agent| agent.max_steps = Some(2)).await;
    bench.start().await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed(&run, RunErrorKind::StepLimit, &["limit of 2 turns", "`max_steps`", "`files__list_directory`", "raise"]);
    assert_eq!((run.turns, run.steps), (2, 3));
    use AuditOutcome::{Done, Failed};
    assert_eq!(bench.audited("agent.run").await, [Done, Failed]);
}

#[tokio::test]
async fn a_model_that_takes_too_long_times_the_run_out() {
    let bench = Bench::started(vec![Say::Wait(Arc::default(), "")]).await;
    let run = bench.submit().await;
    bench.model.asked(1).await;
    bench.clock.advance(Duration::from_secs(61));
    failed(&bench.settled(run).await, RunErrorKind::Timeout, &["timeout"]);
    let step = bench.step(run, 1, 1).await.step;
    assert_eq!(step.status, StepStatus::Failed);
    assert!(step.error.unwrap().contains("timeout"));
}

#[tokio::test]
async fn a_cancel_ends_a_model_call_under_way() {
    let bench = Bench::started(vec![Say::Wait(Arc::default(), "")]).await;
    let run = bench.submit().await;
    bench.model.asked(1).await;
    let answer = bench.call("run_cancel", json!({ "run": run })).await;
    assert_eq!(answer["status"], "cancelled");
    assert_eq!(bench.step(run, 1, 1).await.step.status, StepStatus::Failed);
}

#[tokio::test]
async fn a_cancel_ends_a_tool_call_under_way_and_says_that_it_may_have_acted() {
    let calls = Say::Calls(vec![("misfits__hang", "{}"), ("files__list_directory", r#"{"path":"."}"#)]);
    let bench = Bench::started(vec![calls]).await;
    let run = bench.submit().await;
    bench.step_ended(run, 3).await;
    bench.call("run_cancel", json!({ "run": run })).await;
    assert_eq!(bench.settled(run).await.status, RunStatus::Cancelled);
    let step = bench.step(run, 2, 1).await.step;
    assert_eq!(step.status, StepStatus::InDoubt);
    assert!(step.error.unwrap().contains("cancelled"));
    assert_eq!(bench.step(run, 3, 1).await.step.status, StepStatus::Completed);
}

#[tokio::test]
async fn a_cancel_that_came_before_the_executor_is_obeyed() {
    let bench = Bench::new(vec![Say::Text("too late")]);
    bench.agent(|_| {}).await;
    let claim = bench.claimed_by_the_dead().await;
    let store = &bench.environment.store;
    store.cancel(claim.run.id, bench.audit()).await.unwrap();
    bench.start().await;
    assert_eq!(bench.settled(claim.run.id).await.status, RunStatus::Cancelled);
    assert_eq!(bench.model.times_asked(), 0);
}

#[tokio::test]
async fn a_provider_that_refuses_fails_the_run_with_its_words() {
    let bench = Bench::started(vec![Say::Fail]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed(&run, RunErrorKind::Provider, &["scripted refused the key", "401", "use another key"]);
    assert_eq!(bench.step(run.id, 1, 1).await.step.status, StepStatus::Failed);
}

#[tokio::test]
async fn an_answer_without_a_word_fails_where_it_was_cut_off() {
    let other = Finish::Other("unexpected_tool_call".into());
    let script = [Finish::Length, Finish::Refusal, Finish::Stop, other].map(|finish| Say::Cut("", finish));
    let bench = Bench::started(script.into()).await;
    let mut ended = Vec::new();
    for _ in 0..4 {
        let run = bench.submit().await;
        ended.push(bench.settled(run).await);
    }
    failed(&ended[0], RunErrorKind::Provider, &["`scripted/m`", "cut off"]);
    failed(&ended[1], RunErrorKind::Provider, &["declined"]);
    assert_eq!(ended[2].output, Some(json!("")), "an agent may be told to be silent");
    let notice = &bench.step(ended[2].id, 1, 1).await.step.result.unwrap()["notice"];
    assert_eq!(notice, "the model ended its answer without saying anything");
    failed(&ended[3], RunErrorKind::Provider, &["`scripted/m`", "`unexpected_tool_call`"]);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_given_with_a_word_on_that() {
    let ends = [Finish::Length, Finish::Refusal, Finish::Other("pause_turn".into()), Finish::Stop];
    let bench = Bench::started(ends.map(|finish| Say::Cut("The first half", finish)).into()).await;
    for notice in [
        json!("the answer was cut off at the end of what the model may write or hold"),
        json!("the model, or its provider's filter, ended the answer early"),
        json!("the answer may not be whole: the provider ended it with `pause_turn`"),
        json!(null),
    ] {
        let run = bench.submit().await;
        assert_eq!(bench.settled(run).await.output, Some(json!("The first half")));
        let result = bench.step(run, 1, 1).await.step.result.unwrap();
        assert_eq!(result.get("notice").cloned().unwrap_or_default(), notice);
    }
}

#[tokio::test]
async fn a_wait_for_the_model_is_told_while_it_lasts_and_stays_in_the_step() {
    let bench = Bench::new(vec![Say::Limited("fine"), Say::Text("at once")]);
    bench.agent(|_| {}).await;
    let run = bench.submit().await;
    let mut follower = bench.station.events.follow(run);
    bench.start().await;
    let event = loop {
        match follower.next().await {
            Followed::Event(event) if event.r#type == EventType::StepProgress => break event,
            Followed::Event(event) => assert!(!event.r#type.is_terminal(), "nothing was told"),
            Followed::Lagged => panic!("lagged"),
        }
    };
    let message = "asked again in 9 s (attempt 2 of 4): scripted answered 429: slow down";
    let told = json!({ "step": 1, "progress": 1.0, "total": 4.0, "message": message, "wait_ms": 8_100 });
    assert_eq!(event.data, told);
    assert_eq!(bench.settled(run).await.output, Some(json!("fine")));
    assert_eq!(bench.step(run, 1, 1).await.step.result.unwrap()["wire_attempts"], 2);
    let run = bench.submit().await;
    bench.settled(run).await;
    assert_eq!(bench.step(run, 1, 1).await.step.result.unwrap().get("wire_attempts"), None);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_because_it_was_cut_off_is_told_so_to_the_model_and_to_people() {
    let cut = || Say::Cut("{\"n\": 1, \"text\": \"aa", Finish::Length);
    let bench = Bench::new(vec![cut(), cut()]);
    bench.agent(|agent| agent.output_schema = Some(json!({ "type": "object" }))).await;
    bench.start().await;
    let run = bench.submit().await;
    failed(&bench.settled(run).await, RunErrorKind::OutputSchema, &["no JSON", "the answer was cut off"]);
    let Some(Message::User { text }) = bench.model.request(1).messages.pop() else { panic!("nothing was asked") };
    assert!(text.contains("the answer was cut off"), "{text}");
}

#[tokio::test]
async fn the_limit_of_output_is_the_providers_and_whoever_is_cut_off_by_it_is_told_its_key() {
    let yaml = "providers:\n  scripted: { api: openai_chat, base_url: 'http://127.0.0.1:1', max_output_tokens: 1 }\n";
    let settings = parse_settings("station.yml", yaml, &BTreeMap::new()).unwrap();
    let calls =
        vec![("files__list_directory", r#"{"path":"."}"#), ("files__write_file", r#"{"path":"a","content":"ha"#)];
    let script = vec![Say::CutCalls(calls), Say::Cut("The first half", Finish::Length), Say::Cut("", Finish::Length)];
    let bench = Bench::with(script, settings);
    bench.agent(|_| {}).await;
    bench.start().await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("The first half")));
    assert_eq!(bench.model.request(0).max_output_tokens, Some(1));
    let results = bench.model.last_results();
    assert!(!results[0].is_error, "{results:?}");
    assert!(results[1].is_error && results[1].content.contains("cut off"), "{results:?}");
    assert!(results[1].content.contains("smaller"), "{results:?}");
    let notice = "the answer was cut off after 1 token: `providers.scripted.max_output_tokens` allows no more";
    for seq in [1, 4] {
        assert_eq!(bench.step(run, seq, 1).await.step.result.unwrap()["notice"], notice);
    }
    let run = bench.submit().await;
    failed(
        &bench.settled(run).await,
        RunErrorKind::Provider,
        &["`scripted/m`", "`providers.scripted.max_output_tokens`"],
    );
}

#[tokio::test]
async fn every_call_that_was_cut_off_is_told_so_also_that_of_an_agent_and_a_question() {
    for half in [("agent__child", r#"{"userInput":"d"#), ("ask_user", r#"{"question":"Wh"#)] {
        let bench = Bench::new(vec![Say::CutCalls(vec![half]), Say::Text("smaller, then")]);
        let calls_both = |agent: &mut AgentDefinition| {
            parent(agent);
            agent.tools = vec!["ask_user".into()];
        };
        bench.agent(calls_both).await;
        bench.agent(child).await;
        bench.start().await;
        let run = bench.submit().await;
        assert_eq!(bench.settled(run).await.output, Some(json!("smaller, then")), "{half:?}");
        let told = bench.model.last_results().remove(0);
        assert!(told.is_error && told.content.contains("cut off") && told.content.contains("smaller"), "{told:?}");
        assert!(bench.called_by(run).await.is_empty());
    }
}

#[tokio::test]
async fn a_drain_finds_no_intent_whose_call_never_left() {
    let bench = Bench::new(vec![Say::Calls(vec![("misfits__hang", "{}"); 20])]);
    bench.agent(|agent| agent.timeout_ms = Some(86_400_000)).await;
    bench.start().await;
    let run = bench.submit().await;
    bench.until_journaled(run, 17).await;
    bench.tasks.soft().cancel();
    while bench.environment.store.run(run).await.unwrap().unwrap().status == RunStatus::Running {
        bench.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let journal = bench.journal(run).await;
    assert_eq!(journal.len(), 17, "the model call, and the sixteen calls that may be under way at once");
    assert!(journal[1..].iter().all(|row| row.step.status == StepStatus::Started));
    // Cancelled while nobody runs it, its calls are closed all the same.
    bench.call("run_cancel", json!({ "run": run })).await;
    assert!(bench.journal(run).await[1..].iter().all(|row| row.step.status == StepStatus::InDoubt));
    use AuditOutcome::{Done, Failed};
    assert_eq!(bench.audited("agent.run").await, [Done, Failed]);
}

#[tokio::test]
async fn a_stop_from_inside_lets_the_calls_land_that_are_under_way() {
    let bench = Bench::new(vec![Say::Calls(vec![("misfits__die", "{}"), ("others__late", "{}")])]);
    let land = bench.station.home.workspace_dir(&bench.environment.name).join("land");
    nix::unistd::mkfifo(&land, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut land = std::fs::File::options().read(true).write(true).open(land).unwrap();
    bench.agent(|agent| agent.on_in_doubt = OnInDoubt::Fail).await;
    bench.start().await;
    let run = bench.submit().await;
    bench.step_ended(run, 2).await;
    land.write_all(b"\n").unwrap();
    failed(&bench.settled(run).await, RunErrorKind::Tool, &["step 2", "`fail`"]);
    let late = bench.step(run, 3, 1).await.step;
    assert_eq!(late.status, StepStatus::Completed, "{late:?}");
    assert_eq!(late.result.unwrap()["content"][0]["text"], "landed");
}

#[tokio::test]
async fn more_calls_than_may_be_under_way_at_once_are_all_made() {
    let list = ("files__list_directory", r#"{"path":"."}"#);
    let bench = Bench::started(vec![Say::Calls(vec![list; 40]), Say::Text("seen")]).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.steps), (Some(json!("seen")), 42));
    assert_eq!(bench.model.last_results().len(), 40);
}

#[tokio::test]
async fn a_tool_pattern_that_matches_nothing_fails_the_run_by_name() {
    let bench = Bench::new(vec![Say::Text("never")]);
    bench.agent(|agent| agent.tools = vec!["files__read_txt_file".into(), "github__*".into()]).await;
    bench.start().await;
    let run = bench.submit().await;
    let says = ["`files__read_txt_file`", "`github__*`", "stn tool list"];
    failed(&bench.settled(run).await, RunErrorKind::Tool, &says);
    assert_eq!(bench.model.times_asked(), 0);
}

#[tokio::test]
async fn a_panic_ends_its_run_and_leaves_the_worker_alive() {
    let bench = Bench::started(vec![Say::Panic, Say::Text("fine")]).await;
    let broken = bench.submit().await;
    failed(&bench.settled(broken).await, RunErrorKind::Internal, &["fault inside Station"]);
    let next = bench.submit().await;
    assert_eq!(bench.settled(next).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn a_draining_station_hands_its_runs_back_within_the_same_attempt() {
    let bench = Bench::new(vec![Say::Wait(Arc::default(), ""), Say::Text("done elsewhere")]);
    bench.agent(|agent| agent.timeout_ms = Some(86_400_000)).await;
    bench.start().await;
    let run = bench.submit().await;
    bench.model.asked(1).await;
    bench.tasks.soft().cancel();
    let mut follower = bench.station.events.follow(run);
    // The patience begins when the executor has seen the signal.
    while bench.environment.store.run(run).await.unwrap().unwrap().status == RunStatus::Running {
        bench.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let waiting = bench.submit().await;
    assert_eq!(bench.environment.store.run(waiting).await.unwrap().unwrap().status, RunStatus::Queued);
    let (workers, tasks) = (super::Workers::new(1, Owner("next".into())), super::Tasks::new());
    super::super::start(&bench.station, &workers, &tasks).await;
    follower.next().await;
    let run = bench.settled(run).await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1), "{:?}", run.error);
    assert_eq!(bench.step(run.id, 1, 2).await.step.status, StepStatus::Completed);
}

#[tokio::test]
async fn an_executor_whose_run_was_taken_over_writes_nothing_more() {
    let go = Arc::new(Notify::new());
    let bench = Bench::started(vec![Say::Wait(go.clone(), "stale"), Say::Text("fresh")]).await;
    let run = bench.submit().await;
    bench.model.asked(1).await;
    assert_eq!(bench.environment.store.take_over(&Owner("other".into())).await.unwrap(), 1);
    go.notify_one();
    let run = bench.settled(run).await;
    assert_eq!(run.output, Some(json!("fresh")));
    let lost = bench.step(run.id, 1, 1).await.step;
    assert_eq!((lost.status, lost.result), (StepStatus::Failed, None));
}
