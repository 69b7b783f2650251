//! Agents that call agents.

use super::{Bench, Say};
use crate::config::Settings;
use crate::domain::{AgentDefinition, AuditOutcome, Name, Run, RunErrorKind, RunId, RunStatus, StepStatus, WaitingFor};
use crate::llm::{Message, TurnRequest};
use crate::store::RunFilter;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

pub(super) const CALL: (&str, &str) = ("agent__child", r#"{"userInput":"do"}"#);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn parent(agent: &mut AgentDefinition) {
    agent.tools = vec![];
    agent.agents = vec![name("child")];
}

pub(super) fn child(agent: &mut AgentDefinition) {
    agent.name = name("child");
    agent.tools = vec![];
    agent.description = Some("Does it.".into());
    agent.timeout_ms = Some(86_400_000);
    agent.prompt = "{{role \"system\"}}Child.{{role \"user\"}}{{userInput}}".into();
}

impl Bench {
    /// `helper`, who may call `child`, at work.
    async fn family(script: Vec<Say>, workers: u32) -> Self {
        let bench = Self::with_workers(script, Settings::default(), workers);
        bench.agent(parent).await;
        bench.agent(child).await;
        bench.start().await;
        bench
    }

    /// What `run` has called, the oldest first.
    pub(super) async fn called_by(&self, run: RunId) -> Vec<Run> {
        let filter = RunFilter { parent: Some(run), limit: 100, ..RunFilter::default() };
        let mut runs = self.environment.store.runs(&filter).await.unwrap();
        runs.reverse();
        runs
    }

    async fn waiting(&self, run: RunId) -> Vec<Run> {
        self.until(run, |run| run.waiting_for == Some(WaitingFor::Child)).await;
        self.called_by(run).await
    }
}

/// The child answers at once; its caller calls it, and is content.
fn content(request: &TurnRequest) -> Say {
    match (request.system.as_deref(), request.messages.last()) {
        (Some("Child."), _) => Say::Text("from the child"),
        (_, Some(Message::ToolResults(_))) => Say::Text("thanks"),
        _ => Say::Calls(vec![CALL]),
    }
}

#[tokio::test]
async fn a_child_is_a_run_of_its_own_whose_output_is_the_result_of_the_call() {
    let bench = Bench::family(vec![Say::Calls(vec![CALL]), Say::Text("from the child"), Say::Text("thanks")], 1).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(
        (run.status, &run.output, run.attempt),
        (RunStatus::Completed, &Some(json!("thanks")), 1),
        "{:?}",
        run.error
    );
    assert_eq!((run.children, run.turns), (1, 2));
    let called = bench.called_by(run.id).await.remove(0);
    assert_eq!(
        (called.status, called.parent_run_id, called.parent_step),
        (RunStatus::Completed, Some(run.id), Some(2))
    );
    assert_eq!((called.input, called.principal.name.as_str()), (json!({ "userInput": "do" }), "helper"));
    assert_eq!(called.cause.key, Some(format!("{}-2", run.id)));
    let offered = &bench.model.request(0).tools[0];
    assert_eq!(offered.name, "agent__child");
    assert!(offered.description.as_ref().unwrap().contains("Does it."));
    assert_eq!(bench.model.last_results()[0].content, "from the child");
    let step = bench.step(run.id, 2, 1).await.step;
    assert_eq!(step.result.unwrap()["_meta"]["io.station/run"], json!(called.id));
    use AuditOutcome::Done;
    assert_eq!(bench.audited("agent.run").await, [Done, Done, Done, Done], "the submit and the end of each");
    assert!(bench.audited("tool.call").await.is_empty());
}

#[tokio::test]
async fn sixty_four_parents_that_each_wait_for_a_child_finish_on_eight_workers() {
    let bench = Bench::with_workers(vec![], Settings::default(), 8);
    bench.agent(parent).await;
    bench.agent(child).await;
    *bench.model.respond.lock().unwrap() = Some(content);
    let mut parents = Vec::new();
    for _ in 0..64 {
        parents.push(bench.submit().await);
    }
    bench.start().await;
    for run in parents {
        let run = bench.settled(run).await;
        assert_eq!((run.status, run.children), (RunStatus::Completed, 1), "{:?}", run.error);
    }
    assert_eq!(bench.model.times_asked(), 3 * 64);
}

#[tokio::test]
async fn a_caller_goes_on_when_all_calls_of_its_turn_have_ended_also_those_of_tools() {
    let list = ("files__list_directory", r#"{"path":"."}"#);
    let bench = Bench::new(vec![]);
    bench
        .agent(|agent| {
            parent(agent);
            agent.tools = vec!["files__*".into()];
        })
        .await;
    bench.agent(child).await;
    bench.start().await;
    *bench.model.script.lock().unwrap() =
        vec![Say::Calls(vec![CALL, list, CALL]), Say::Text("a"), Say::Text("a"), Say::Text("thanks")].into();
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.children), (Some(json!("thanks")), 2), "{:?}", run.error);
    let results = bench.model.last_results();
    assert_eq!((results.len(), results[0].content.as_str(), results[2].content.as_str()), (3, "a", "a"));
}

#[tokio::test]
async fn a_child_that_starts_its_parent_is_refused_with_the_cycle_named() {
    let bench = Bench::new(vec![
        Say::Calls(vec![CALL]),
        Say::Calls(vec![("agent__helper", r#"{"userInput":"do"}"#)]),
        Say::Text("I can't"),
        Say::Text("pity"),
    ]);
    bench.agent(parent).await;
    bench
        .agent(|agent| {
            child(agent);
            agent.agents = vec![name("helper")];
        })
        .await;
    bench.start().await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("pity")));
    let called = bench.called_by(run).await.remove(0);
    let step = bench.step(called.id, 2, 1).await.step;
    assert_eq!(step.status, StepStatus::Failed);
    assert!(step.error.unwrap().contains("helper -> child -> helper"));
    assert!(bench.called_by(called.id).await.is_empty());
}

#[tokio::test]
async fn agents_call_each_other_at_most_five_deep() {
    let bench = Bench::new(vec![]);
    let names = ["helper", "b", "c", "d", "e", "f"];
    for (at, own) in names.into_iter().enumerate() {
        let next = names.get(at + 1).map(|next| name(next));
        bench
            .agent(|agent| {
                agent.name = name(own);
                agent.tools = vec![];
                agent.agents = next.into_iter().collect();
            })
            .await;
    }
    bench.start().await;
    let call = |tool| Say::Calls(vec![(tool, r#"{"userInput":"do"}"#)]);
    let down = ["agent__b", "agent__c", "agent__d", "agent__e", "agent__f"].map(call);
    let up = ["e", "d", "c", "b", "helper"].map(Say::Text);
    *bench.model.script.lock().unwrap() = down.into_iter().chain(up).collect();
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.output, Some(json!("helper")), "{:?}", run.error);
    let mut last = run;
    while let Some(next) = bench.called_by(last.id).await.pop() {
        last = next;
    }
    assert_eq!(last.agent.name.as_str(), "e");
    let refused = bench.step(last.id, 2, 1).await.step.error.unwrap();
    assert!(refused.contains("5 deep") && refused.contains("helper -> b -> c -> d -> e -> f"), "{refused}");
}

#[tokio::test]
async fn what_becomes_of_a_child_is_told_to_its_caller_who_goes_on() {
    let bench = Bench::family(vec![Say::Calls(vec![CALL]), Say::Fail, Say::Text("so be it")], 2).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("so be it")));
    let told = bench.model.last_results().remove(0);
    assert!(told.is_error && told.content.contains("`child` failed (provider)"), "{}", told.content);

    let hanging = vec![Say::Calls(vec![CALL]), Say::Wait(Arc::default(), ""), Say::Text("so be it")];
    let bench = Bench::family(hanging, 2).await;
    let run = bench.submit().await;
    let called = bench.waiting(run).await.remove(0);
    bench.model.asked(2).await;
    bench.call("run_cancel", json!({ "run": called.id })).await;
    assert_eq!(bench.settled(run).await.output, Some(json!("so be it")));
    assert!(bench.model.last_results()[0].content.contains("was cancelled"));
}

#[tokio::test]
async fn a_child_that_is_paused_or_given_the_wrong_input_is_refused_and_told() {
    let calls = vec![CALL, ("agent__child", r#"{"input":"do"}"#), ("agent__child", "[1]")];
    let bench = Bench::family(vec![Say::Calls(calls), Say::Text("well")], 2).await;
    bench.call("agent_pause", json!({ "agent": "child" })).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.children), (Some(json!("well")), 0), "{:?}", run.error);
    let told = bench.model.last_results();
    assert!(told.iter().all(|result| result.is_error));
    assert!(told[0].content.contains("stn agent resume child -e development"), "{}", told[0].content);
    assert!(told[1].content.contains("userInput"), "{}", told[1].content);
    assert!(told[2].content.contains("JSON object"), "{}", told[2].content);
}

#[tokio::test]
async fn a_child_that_does_not_exist_fails_the_run_by_name() {
    let bench = Bench::new(vec![]);
    bench.agent(parent).await;
    bench.start().await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.error_kind, Some(RunErrorKind::Tool));
    assert!(run.error.unwrap().contains("`child` doesn't exist"));
}

#[tokio::test]
async fn a_cancel_ends_the_whole_tree_and_stops_what_executes() {
    let bench = Bench::family(vec![Say::Calls(vec![CALL]), Say::Wait(Arc::default(), "")], 2).await;
    let run = bench.submit().await;
    let called = bench.waiting(run).await.remove(0);
    bench.model.asked(2).await;
    // The commit that was waited for is told before its worker hears of it.
    for _ in 0..1_000_000 {
        if bench.workers.running() == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.workers.running(), 1, "who waits has given its worker back");
    let cancelled = bench.call("run_cancel", json!({ "run": run })).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(bench.settled(called.id).await.status, RunStatus::Cancelled);
    assert_eq!(bench.step(run, 2, 1).await.step.status, StepStatus::Failed);
}

#[tokio::test]
async fn a_caller_whose_time_is_up_while_it_waits_times_out_and_takes_its_child_along() {
    let bench = Bench::family(vec![Say::Calls(vec![CALL]), Say::Wait(Arc::default(), "")], 2).await;
    let run = bench.submit().await;
    let called = bench.waiting(run).await.remove(0);
    bench.model.asked(2).await;
    while !bench.until(run, |_| true).await.status.is_terminal() {
        bench.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let run = bench.settled(run).await;
    assert_eq!(run.error_kind, Some(RunErrorKind::Timeout));
    assert!(run.duration_ms.unwrap() >= 60_000);
    assert_eq!(bench.settled(called.id).await.status, RunStatus::Cancelled);
}

#[tokio::test]
async fn who_waits_goes_on_waiting_under_the_next_owner() {
    let go = Arc::new(Notify::new());
    let script =
        vec![Say::Calls(vec![CALL]), Say::Wait(go.clone(), "lost"), Say::Text("from the child"), Say::Text("thanks")];
    let bench = Bench::family(script, 2).await;
    let run = bench.submit().await;
    let called = bench.waiting(run).await.remove(0);
    bench.model.asked(2).await;
    let next = crate::store::Owner("next".into());
    assert_eq!(bench.environment.store.take_over(&next).await.unwrap(), 1, "the child alone");
    go.notify_one();
    let run = bench.settled(run).await;
    assert_eq!((run.output, run.children), (Some(json!("thanks")), 1), "{:?}", run.error);
    assert_eq!(bench.settled(called.id).await.output, Some(json!("from the child")));
}
