//! Runs that may use only so much, together with all that they call. The scripted model takes 10 tokens and gives 1 with every call.

use super::children::{CALL, child, parent};
use super::crash::{completed, intent, write};
use super::workers::queued_in_silence;
use super::{Bench, Say};
use crate::config::Settings;
use crate::domain::{AgentDefinition, Limits, Price, Run, RunErrorKind, RunId, RunStatus, StepKind, StepStatus, Usage};
use crate::error::ErrorKind;
use crate::llm::{Message, TurnRequest};
use crate::store::{AgentWrite, Closed, JournalBatch, Outcome};
use crate::tools;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;

const LIST: (&str, &str) = ("files__list_directory", r#"{"path":"."}"#);

fn tokens(limit: i64) -> Option<Limits> {
    Some(Limits { tokens: Some(limit), cost_microusd: None })
}

fn cost(limit: i64) -> Option<Limits> {
    Some(Limits { tokens: None, cost_microusd: Some(limit) })
}

/// One call of `scripted/m` costs 12 millionths of a dollar.
fn priced() -> Settings {
    let mut settings = Settings::default();
    let price = Price { input: 1_000_000, cached_input: 1_000_000, output: 2_000_000 };
    settings.models.prices.insert("scripted/m".into(), price);
    settings
}

/// `helper` and its `child`, with these limits and tools, at work.
async fn family(script: Vec<Say>, settings: Settings, own: Option<Limits>, of_child: Option<Limits>) -> Bench {
    let bench = Bench::with(script, settings);
    let with = |change: fn(&mut AgentDefinition), limits: Option<Limits>| {
        move |agent: &mut AgentDefinition| {
            change(agent);
            (agent.limits, agent.tools) = (limits, vec!["files__*".into()]);
        }
    };
    bench.agent(with(parent, own)).await;
    bench.agent(with(child, of_child)).await;
    bench.start().await;
    bench
}

/// The run has failed by the budget of the run `whose`, which is one of `agent`.
fn failed_by(run: &Run, whose: RunId, agent: &str) {
    assert_eq!((run.status, run.error_kind), (RunStatus::Failed, Some(RunErrorKind::Budget)), "{:?}", run.error);
    let error = run.error.clone().unwrap();
    assert!(error.contains(&format!("agent `{agent}` in run {whose}")) && error.contains("raise"), "{error}");
}

#[tokio::test]
async fn a_run_whose_tokens_are_used_up_asks_its_model_no_more() {
    // Also where the answer wasn't committed yet, because its only call never left.
    for call in [LIST, ("files__nonsense", "{}")] {
        for (limit, calls) in [(11, 1), (12, 2), (22, 2)] {
            let script = vec![Say::Calls(vec![call]), Say::Calls(vec![call]), Say::Text("done")];
            let bench = family(script, Settings::default(), tokens(limit), None).await;
            let run = bench.submit().await;
            let run = bench.settled(run).await;
            failed_by(&run, run.id, "helper");
            assert!(run.error.unwrap().contains(&format!("{limit} tokens")));
            assert_eq!(bench.model.times_asked(), calls, "{limit}");
            assert_eq!((run.usage.input_tokens, run.turns), (10 * calls as i64, calls as i64));
            assert!(bench.journal(run.id).await.iter().all(|row| row.step.status != StepStatus::Started));
        }
    }
    let bench = family(vec![Say::Calls(vec![LIST]), Say::Text("done")], Settings::default(), tokens(12), None).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("done")), "the call that reaches the limit counts");
}

#[tokio::test]
async fn what_a_child_uses_is_used_of_its_callers_budget() {
    let script = || vec![Say::Calls(vec![CALL]), Say::Text("from the child"), Say::Text("thanks")];
    let bench = family(script(), Settings::default(), tokens(23), None).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("thanks")));
    let bench = family(script(), Settings::default(), tokens(22), None).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed_by(&run, run.id, "helper");
    assert!(run.error.unwrap().contains("22 are used"), "11 of each");
    assert_eq!(bench.model.times_asked(), 2);
    assert_eq!(bench.called_by(run.id).await[0].status, RunStatus::Completed);
}

#[tokio::test]
async fn a_child_that_reaches_its_callers_limit_fails_and_its_caller_with_it() {
    let script = vec![Say::Calls(vec![CALL]), Say::Calls(vec![LIST]), Say::Text("more")];
    let bench = family(script, Settings::default(), tokens(20), tokens(1_000)).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed_by(&run, run.id, "helper");
    failed_by(&bench.called_by(run.id).await[0], run.id, "helper");
    assert_eq!(bench.model.times_asked(), 2);
}

#[tokio::test]
async fn a_child_that_reaches_its_own_limit_fails_and_its_caller_is_told() {
    let script = vec![Say::Calls(vec![CALL]), Say::Calls(vec![LIST]), Say::Text("so be it")];
    let bench = family(script, Settings::default(), tokens(1_000), tokens(11)).await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("so be it")));
    let called = bench.called_by(run).await.remove(0);
    failed_by(&called, called.id, "child");
    let told = bench.model.last_results().remove(0);
    assert!(told.is_error && told.content.contains("`child` failed (budget)"), "{}", told.content);
}

#[tokio::test]
async fn calls_that_are_under_way_together_overrun_by_no_more_than_themselves() {
    fn respond(request: &TurnRequest) -> Say {
        match (request.system.as_deref(), request.messages.last()) {
            (Some("Child."), Some(Message::ToolResults(_))) => Say::Text("more"),
            (Some("Child."), _) => Say::Calls(vec![LIST]),
            _ => Say::Calls(vec![CALL, CALL, CALL]),
        }
    }
    let bench = family(vec![], Settings::default(), tokens(12), None).await;
    *bench.model.respond.lock().unwrap() = Some(respond);
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed_by(&run, run.id, "helper");
    // However they race: the first call, and of each child at most the one that was under way when the limit was reached.
    assert!((2..=4).contains(&bench.model.times_asked()), "{}", bench.model.times_asked());
    for called in bench.called_by(run.id).await {
        failed_by(&called, run.id, "helper");
    }
}

#[tokio::test]
async fn money_is_counted_exactly_and_limits_like_tokens() {
    for (limit, calls) in [(12, 1), (13, 2), (24, 2)] {
        let script = vec![Say::Calls(vec![LIST]), Say::Calls(vec![LIST]), Say::Text("done")];
        let bench = family(script, priced(), cost(limit), None).await;
        let run = bench.submit().await;
        let run = bench.settled(run).await;
        failed_by(&run, run.id, "helper");
        assert!(run.error.unwrap().contains(&format!("0.0000{limit} USD")));
        assert_eq!((bench.model.times_asked(), run.usage.cost_microusd), (calls, Some(12 * calls as i64)));
    }
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_money_is_limited() {
    let bench = family(vec![], Settings::default(), cost(5), None).await;
    let input = json!({ "agent": "helper", "input": "go" });
    let refused = tools::call(&bench.station, super::context(), "agent_run", input).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.message().contains("`scripted/m`"), "{refused}");
    assert!(refused.hint_text().unwrap().contains("`models.prices`"), "{refused}");

    // The limit of a caller holds for the models of its children.
    let bench = Bench::with(vec![Say::Calls(vec![CALL]), Say::Text("without, then")], priced());
    let limited = |agent: &mut AgentDefinition| {
        parent(agent);
        agent.limits = cost(1_000);
    };
    bench.agent(limited).await;
    let other = |agent: &mut AgentDefinition| {
        child(agent);
        agent.model = Some("scripted/other".into());
    };
    bench.agent(other).await;
    bench.start().await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("without, then")));
    let told = bench.model.last_results().remove(0);
    assert!(told.is_error && told.content.contains("`helper` limits `cost_usd`"), "{}", told.content);
    assert!(bench.called_by(run).await.is_empty());
}

#[tokio::test]
async fn a_request_that_is_repeated_under_its_key_is_answered_with_its_run_whatever_is_known_of_prices() {
    let bench = Bench::started(vec![Say::Text("done")]).await;
    let ask = |input: &str| {
        let input = json!({ "agent": "helper", "input": input, "idempotency_key": "once" });
        tools::call(&bench.station, super::context(), "agent_run", input)
    };
    let first = ask("go").await.unwrap();
    let write = AgentWrite {
        definition: AgentDefinition { limits: cost(5), ..super::agent() },
        revision: "r2".into(),
        bytes: b"---".to_vec(),
        file: "environments/development/agents/helper.prompt".into(),
        expected: Some("r1".into()),
    };
    bench.environment.store.agent_write(write, bench.audit()).await.unwrap();
    assert_eq!(ask("go").await.unwrap()["id"], first["id"]);
    assert_eq!(ask("stop").await.unwrap_err().kind(), ErrorKind::Conflict, "the key is that of another input");
    let input = json!({ "agent": "helper", "input": "go", "idempotency_key": "twice" });
    let refused = tools::call(&bench.station, super::context(), "agent_run", input).await.unwrap_err();
    assert!(refused.message().contains("`scripted/m`"), "{refused}");
}

#[tokio::test]
async fn a_run_whose_price_is_gone_when_it_begins_asks_nothing() {
    let bench = Bench::new(vec![]);
    bench.agent(|_| {}).await;
    let run = queued_in_silence(&bench, cost(5).unwrap()).await;
    bench.start().await;
    let run = bench.settled(run).await;
    assert_eq!((run.error_kind, bench.model.times_asked()), (Some(RunErrorKind::Budget), 0));
    assert!(run.error.unwrap().contains("`models.prices` of `scripted/m`"));
}

#[tokio::test]
async fn what_was_used_before_a_crash_counts_after_it() {
    let bench = Bench::new(vec![Say::Text("never")]);
    bench.agent(|agent| agent.limits = tokens(500)).await;
    let claim = bench.claimed_by_the_dead().await;
    let run = claim.run.id;
    let begun = JournalBatch { intents: vec![intent(1, StepKind::Model, run)], turns: 1, ..JournalBatch::default() };
    write(&bench, &claim, begun).await;
    let asked = json!({
        "text": "", "finish": "tool_calls", "tool_calls": [{ "id": "c", "name": "files__nonsense", "arguments": "{}" }]
    });
    let answered = completed(1, asked);
    let usage = Some(Usage { input_tokens: 400, output_tokens: 100, ..Usage::default() });
    let answered = Outcome { closed: Closed { usage, ..answered.closed }, ..answered };
    write(&bench, &claim, JournalBatch { outcomes: vec![answered], turns: 1, ..JournalBatch::default() }).await;
    bench.start().await;
    let run = bench.settled(run).await;
    failed_by(&run, run.id, "helper");
    assert_eq!(bench.model.times_asked(), 0);
}

/// The run has failed because nobody could say what it had used.
fn failed_uncounted(run: &Run, whose: RunId, agent: &str) {
    assert_eq!((run.status, run.error_kind), (RunStatus::Failed, Some(RunErrorKind::Budget)), "{:?}", run.error);
    let error = run.error.clone().unwrap();
    for part in ["provider `scripted`", "`scripted/m`", &format!("agent `{agent}` in run {whose}"), "reports usage"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_limited_run_whose_answer_was_not_counted_fails_before_anything_follows_from_it() {
    for said in [Say::Uncounted("done", vec![]), Say::Uncounted("", vec![LIST])] {
        let bench = family(vec![said, Say::Text("never")], Settings::default(), tokens(1_000), None).await;
        let run = bench.submit().await;
        let run = bench.settled(run).await;
        failed_uncounted(&run, run.id, "helper");
        assert_eq!((bench.model.times_asked(), bench.journal(run.id).await.len()), (1, 1), "no call was made");
    }
    let bench = family(vec![Say::Uncounted("done", vec![])], priced(), cost(1_000), None).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed_uncounted(&run, run.id, "helper");
    assert!(run.error.unwrap().contains("has `limits.cost_usd`"));
}

#[tokio::test]
async fn a_run_without_limits_needs_no_usage_and_makes_none_up() {
    let script = vec![Say::Uncounted("", vec![LIST]), Say::Text("done")];
    let bench = family(script, priced(), None, None).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    assert_eq!(run.output, Some(json!("done")));
    assert_eq!((run.usage.input_tokens, run.usage.cost_microusd), (10, Some(12)), "of the call that was counted");
    let steps = bench.journal(run.id).await;
    assert_eq!(steps[0].step.usage, None);
    assert!(steps.iter().rfind(|row| row.step.kind == StepKind::Model).unwrap().step.usage.is_some());
}

#[tokio::test]
async fn what_a_child_used_uncounted_fails_the_caller_that_is_limited() {
    let script = vec![Say::Calls(vec![CALL]), Say::Uncounted("from the child", vec![]), Say::Text("never")];
    let bench = family(script, Settings::default(), tokens(1_000), None).await;
    let run = bench.submit().await;
    let run = bench.settled(run).await;
    failed_uncounted(&run, run.id, "helper");
    failed_uncounted(&bench.called_by(run.id).await[0], run.id, "helper");
    assert_eq!(bench.model.times_asked(), 2);
}

#[tokio::test]
async fn an_uncounted_answer_fails_its_limited_run_also_after_a_crash() {
    let bench = Bench::new(vec![Say::Text("never")]);
    bench.agent(|agent| agent.limits = tokens(500)).await;
    let claim = bench.claimed_by_the_dead().await;
    let run = claim.run.id;
    let begun = JournalBatch { intents: vec![intent(1, StepKind::Model, run)], turns: 1, ..JournalBatch::default() };
    write(&bench, &claim, begun).await;
    let answered = completed(1, json!({ "text": "done", "finish": "stop", "tool_calls": [] }));
    write(&bench, &claim, JournalBatch { outcomes: vec![answered], turns: 1, ..JournalBatch::default() }).await;
    bench.start().await;
    let run = bench.settled(run).await;
    failed_uncounted(&run, run.id, "helper");
    assert_eq!(bench.model.times_asked(), 0);
}

#[tokio::test]
async fn a_run_keeps_the_limits_that_it_was_started_with() {
    let go = Arc::new(Notify::new());
    let bench = family(vec![Say::Wait(go.clone(), "done")], Settings::default(), tokens(100), None).await;
    let run = bench.submit().await;
    bench.model.asked(1).await;
    let budgets = bench.environment.store.budgets(run).await.unwrap();
    assert_eq!((budgets[0].limits, budgets[0].tokens), (tokens(100).unwrap(), 0));
    let agent = bench.call("agent_get", json!({ "agent": "helper" })).await;
    assert_eq!(agent["limits"], json!({ "tokens": 100, "cost_usd": null }));
    go.notify_one();
    assert_eq!(bench.settled(run).await.output, Some(json!("done")));
}
