//! Runs that an earlier owner left behind go on from their journal, and nothing that was finished is done again.

use super::{Bench, Say};
use crate::domain::{
    AuditOutcome, Decision, Effect, OnInDoubt, RunErrorKind, RunId, RunStatus, StepKind, StepStatus, ToolEffect,
    WaitingFor,
};
use crate::llm::Message;
use crate::store::{Claim, Closed, Intent, JournalBatch, JournalRow, Outcome, Written};
use crate::tools::model::ProviderVariables;
use crate::tools::{self, Context};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const READ: ToolEffect = ToolEffect { effect: Effect::Read, idempotent: true, open_world: false, trusted: true };
const WRITE: ToolEffect = ToolEffect { effect: Effect::Write, idempotent: false, open_world: false, trusted: true };

pub(super) fn intent(seq: i64, kind: StepKind, run: RunId) -> Intent {
    Intent {
        seq,
        turn: 1,
        kind,
        r#try: 1,
        name: "x".into(),
        effect: None,
        idempotency_key: Some(format!("{run}-{seq}")),
        arguments: None,
        call_id: None,
        closed: None,
        replaces: None,
        audit: None,
    }
}

pub(super) fn completed(seq: i64, result: Value) -> Outcome {
    let closed = Closed { result: Some(result), ..Closed::without_result(StepStatus::Completed, None) };
    Outcome { seq, r#try: 1, closed, audit: None }
}

/// What a dead owner wrote: the model asked for `tool`, and the call left.
async fn left_a_call(bench: &Bench, tool: &str, arguments: &str, effect: ToolEffect) -> Claim {
    let claim = bench.claimed_by_the_dead().await;
    let run = claim.run.id;
    let asked = json!({
        "text": "", "finish": "tool_calls", "tool_calls": [{ "id": "c", "name": tool, "arguments": arguments }]
    });
    let call = Intent { name: tool.into(), effect: Some(effect), ..intent(2, StepKind::Tool, run) };
    let model = intent(1, StepKind::Model, run);
    write(bench, &claim, JournalBatch { intents: vec![model], turns: 1, ..JournalBatch::default() }).await;
    let answered =
        JournalBatch { outcomes: vec![completed(1, asked)], intents: vec![call], turns: 1, ..JournalBatch::default() };
    write(bench, &claim, answered).await;
    claim
}

pub(super) async fn write(bench: &Bench, claim: &Claim, batch: JournalBatch) {
    assert_eq!(bench.environment.store.journal(&claim.grant, batch).await.unwrap(), Written::Done);
}

#[tokio::test]
async fn a_model_call_that_was_cut_off_is_made_again_in_its_place() {
    let bench = Bench::new(vec![Say::Text("again")]);
    bench.agent(|_| {}).await;
    let claim = bench.claimed_by_the_dead().await;
    let batch =
        JournalBatch { intents: vec![intent(1, StepKind::Model, claim.run.id)], turns: 1, ..JournalBatch::default() };
    write(&bench, &claim, batch).await;
    bench.start().await;
    let run = bench.settled(claim.run.id).await;
    assert_eq!((run.output, run.turns), (Some(json!("again")), 1));
    let cut = bench.step(run.id, 1, 1).await.step;
    assert_eq!((cut.status, cut.error.as_deref()), (StepStatus::Failed, Some("cut off by a restart")));
    assert_eq!(bench.step(run.id, 1, 2).await.step.status, StepStatus::Completed);
}

#[tokio::test]
async fn finished_calls_are_replayed_and_not_made_again() {
    let bench = Bench::new(vec![Say::Text("done")]);
    bench.agent(|_| {}).await;
    let claim = left_a_call(&bench, "files__write_file", r#"{"path":"a","content":"x"}"#, WRITE).await;
    let result = json!({ "content": [{ "type": "text", "text": "written" }] });
    write(&bench, &claim, JournalBatch { outcomes: vec![completed(2, result)], turns: 1, ..JournalBatch::default() })
        .await;
    bench.start().await;
    assert_eq!(bench.settled(claim.run.id).await.status, RunStatus::Completed);
    assert_eq!(bench.model.times_asked(), 1);
    assert_eq!(bench.model.last_results()[0].content, "written");
    assert!(!bench.station.home.workspace_dir(&bench.environment.name).join("a").exists());
}

#[tokio::test]
async fn an_answer_that_was_journaled_only_has_to_be_finished() {
    let bench = Bench::new(vec![]);
    bench.agent(|_| {}).await;
    let claim = bench.claimed_by_the_dead().await;
    let model = intent(1, StepKind::Model, claim.run.id);
    write(&bench, &claim, JournalBatch { intents: vec![model], turns: 1, ..JournalBatch::default() }).await;
    let said = completed(1, json!({ "text": "said", "finish": "stop", "tool_calls": [] }));
    write(&bench, &claim, JournalBatch { outcomes: vec![said], turns: 1, ..JournalBatch::default() }).await;
    bench.start().await;
    assert_eq!(bench.settled(claim.run.id).await.output, Some(json!("said")));
    assert_eq!(bench.model.times_asked(), 0);
}

#[tokio::test]
async fn a_read_that_was_cut_off_is_made_again_with_the_same_key() {
    let bench = Bench::new(vec![Say::Text("read")]);
    bench.agent(|_| {}).await;
    bench.write_file("a", "one");
    let claim = left_a_call(&bench, "files__read_text_file", r#"{"path":"a"}"#, READ).await;
    bench.start().await;
    let run = bench.settled(claim.run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(bench.model.last_results()[0].content, "one");
    let (cut, again) = (bench.step(run.id, 2, 1).await.step, bench.step(run.id, 2, 2).await.step);
    assert_eq!((cut.status, again.status), (StepStatus::Failed, StepStatus::Completed));
    assert_eq!(cut.idempotency_key, again.idempotency_key);
}

#[tokio::test]
async fn calls_to_be_made_again_are_issued_only_when_it_is_their_turn() {
    let bench = Bench::new(vec![]);
    bench.agent(|agent| agent.timeout_ms = Some(86_400_000)).await;
    let claim = bench.claimed_by_the_dead().await;
    let run = claim.run.id;
    let asked: Vec<Value> =
        (0..20).map(|at| json!({ "id": format!("c{at}"), "name": "misfits__hang", "arguments": "{}" })).collect();
    let asked = json!({ "text": "", "finish": "tool_calls", "tool_calls": asked });
    let model = intent(1, StepKind::Model, run);
    write(&bench, &claim, JournalBatch { intents: vec![model], turns: 1, ..JournalBatch::default() }).await;
    let call = |seq| Intent { name: "misfits__hang".into(), effect: Some(READ), ..intent(seq, StepKind::Tool, run) };
    let intents = (2..22).map(call).collect();
    let outcomes = vec![completed(1, asked)];
    write(&bench, &claim, JournalBatch { outcomes, intents, turns: 1, ..JournalBatch::default() }).await;
    bench.start().await;
    bench.until_journaled(run, 21 + 16).await;
    bench.tasks.soft().cancel();
    while bench.environment.store.run(run).await.unwrap().unwrap().status == RunStatus::Running {
        bench.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let journal = bench.journal(run).await;
    assert_eq!(journal.len(), 21 + 16);
    let first = |row: &&JournalRow| row.step.r#try == 1 && row.step.status == StepStatus::Started;
    assert_eq!(journal.iter().filter(first).count(), 4, "those whose turn didn't come stay as they were left");
}

#[tokio::test]
async fn a_write_that_was_cut_off_waits_for_a_person_who_decides() {
    for decision in [Decision::Retry, Decision::Skip, Decision::Result] {
        let bench = Bench::new(vec![Say::Text("settled")]);
        bench.agent(|_| {}).await;
        let claim = left_a_call(&bench, "files__write_file", r#"{"path":"a","content":"x"}"#, WRITE).await;
        let run = claim.run.id;
        bench.start().await;
        let parked = bench.settled(run).await;
        assert_eq!((parked.status, parked.waiting_for), (RunStatus::InputRequired, Some(WaitingFor::InDoubt)));
        assert_eq!(bench.step(run, 2, 1).await.step.status, StepStatus::InDoubt);
        assert_eq!(bench.audited("tool.call").await, [AuditOutcome::Failed]);
        let result = (decision == Decision::Result).then_some("it was there");
        bench.call("run_respond", json!({ "run": run, "decision": decision, "result": result })).await;
        let ended = bench.until(run, |run| run.status.is_terminal()).await;
        assert_eq!(ended.output, Some(json!("settled")), "{:?}", ended.error);
        assert_eq!(bench.model.times_asked(), 1);
        let shown = bench.model.last_results().remove(0);
        let written = bench.station.home.workspace_dir(&bench.environment.name).join("a").exists();
        match decision {
            Decision::Retry => {
                assert!(written && !shown.is_error);
                assert_eq!(bench.step(run, 2, 2).await.step.status, StepStatus::Completed);
            }
            Decision::Skip => assert!(!written && shown.is_error && shown.content.contains("unknown")),
            Decision::Result => assert!(!written && !shown.is_error && shown.content == "it was there"),
        }
    }
}

#[tokio::test]
async fn an_agent_may_have_decided_beforehand() {
    for (policy, ended) in
        [(OnInDoubt::Skip, None), (OnInDoubt::Retry, None), (OnInDoubt::Fail, Some(RunErrorKind::Tool))]
    {
        let bench = Bench::new(vec![Say::Text("on")]);
        bench.agent(|agent| agent.on_in_doubt = policy).await;
        let claim = left_a_call(&bench, "files__write_file", r#"{"path":"a","content":"x"}"#, WRITE).await;
        bench.start().await;
        let run = bench.settled(claim.run.id).await;
        assert_eq!(run.error_kind, ended, "{:?}", run.error);
        let written = bench.station.home.workspace_dir(&bench.environment.name).join("a").exists();
        assert_eq!(written, policy == OnInDoubt::Retry);
    }
}

#[tokio::test]
async fn a_run_goes_on_with_the_tools_that_it_was_started_with() {
    let bench = Bench::new(vec![Say::Calls(vec![("gone__tool", "{}")]), Say::Text("pity")]);
    bench.agent(|_| {}).await;
    let claim = bench.claimed_by_the_dead().await;
    let pinned =
        json!([{ "name": "gone__tool", "description": "d", "input_schema": {}, "effect": READ, "definition": "00" }]);
    let model = intent(1, StepKind::Model, claim.run.id);
    let pinned_tools = Some(pinned.to_string());
    write(&bench, &claim, JournalBatch { intents: vec![model], turns: 1, pinned_tools, ..JournalBatch::default() })
        .await;
    bench.start().await;
    assert_eq!(bench.settled(claim.run.id).await.output, Some(json!("pity")));
    let offered: Vec<String> = bench.model.request(0).tools.into_iter().map(|tool| tool.name).collect();
    assert_eq!(offered, ["gone__tool"]);
    let told = bench.model.last_results().remove(0);
    assert!(told.is_error && told.content.contains("gone__tool"), "{}", told.content);
    assert!(matches!(bench.model.request(1).messages[1], Message::Assistant { .. }));
}

#[tokio::test]
async fn a_run_whose_key_is_gone_waits_for_its_provider() {
    let bench = Bench::new(vec![]);
    bench.agent(|agent| agent.model = None).await;
    let variables = BTreeMap::from([("OPENAI_API_KEY".to_owned(), "sk-test".to_owned())]);
    let brought = Some(Arc::new(ProviderVariables::from_map(&variables)));
    let context = Context { provider_variables: brought, ..super::context() };
    let run =
        tools::call(&bench.station, context, "agent_run", json!({ "agent": "helper", "input": "go" })).await.unwrap();
    let run: crate::domain::Run = serde_json::from_value(run).unwrap();
    bench.station.models.forget(run.id);
    bench.start().await;
    let parked = bench.settled(run.id).await;
    assert_eq!((parked.status, parked.waiting_for), (RunStatus::InputRequired, Some(WaitingFor::Provider)));
}

/// As the engine offers a child agent.
const CHILD: ToolEffect = ToolEffect { effect: Effect::Write, idempotent: true, open_world: true, trusted: true };

#[tokio::test]
async fn a_call_of_an_agent_that_was_cut_off_becomes_one_run_whether_it_was_one_by_then_or_not() {
    for was_submitted in [false, true] {
        let bench = Bench::new(vec![Say::Text("from the child"), Say::Text("thanks")]);
        bench
            .agent(|agent| {
                agent.tools = vec![];
                agent.agents = vec![crate::domain::Name::new("child").unwrap()];
            })
            .await;
        bench
            .agent(|agent| {
                agent.name = crate::domain::Name::new("child").unwrap();
                agent.tools = vec![];
            })
            .await;
        let claim = left_a_call(&bench, "agent__child", r#"{"userInput":"do"}"#, CHILD).await;
        let run = claim.run.id;
        if was_submitted {
            let context = Context {
                parent: Some(crate::domain::ParentStep { run, step: 2 }),
                ..Context::new(
                    crate::domain::Principal::agent(claim.run.as_principal(), bench.environment.name.clone()),
                    crate::domain::Origin::Run,
                    "t".into(),
                )
            };
            let input =
                json!({ "agent": "child", "input": { "userInput": "do" }, "idempotency_key": format!("{run}-2") });
            tools::call(&bench.station, context, "agent_run", input).await.unwrap();
        }
        bench.start().await;
        let ended = bench.settled(run).await;
        assert_eq!((ended.output, ended.children), (Some(json!("thanks")), 1), "{:?}", ended.error);
        assert_eq!(bench.model.last_results()[0].content, "from the child");
        assert_eq!(bench.journal(run).await.len(), 3, "the call is one step with one try");
    }
}
