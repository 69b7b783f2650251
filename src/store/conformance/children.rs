//! Runs that are calls of others.

use super::cases;
use super::fixture::{Subject, begins, closed, ends, model_call, name, outcome, owner, present, tool_call, usage};
use crate::domain::{
    Answer, Budget, Decision, Effect, EventType, Limits, ParentStep, RunErrorKind, RunId, RunStatus, StepStatus,
    ToolEffect, WaitingFor,
};
use crate::error::{ErrorKind, Result};
use crate::store::{Cancelled, Claim, Closed, Ending, Intent, RunFilter, Submit, Written};
use serde_json::json;

cases!(
    the_end_of_a_call_closes_its_step_and_its_caller_goes_on_within_its_attempt,
    a_caller_waits_for_all_of_its_calls_and_nobody_takes_it_over_meanwhile,
    a_caller_whose_calls_have_ended_before_it_waits_is_queued_at_once,
    a_call_of_a_run_that_does_not_wait_for_it_is_refused,
    the_end_of_a_caller_ends_whatever_it_has_called,
    a_caller_is_overdue_unless_somebody_below_waits_for_a_person,
    what_is_asked_below_is_shown_with_all_who_wait_and_told_to_them,
    what_two_calls_wait_for_people_side_by_side_is_given_once,
    a_caller_has_time_while_a_pause_holds_what_it_has_called,
    a_caller_has_the_time_that_nobody_owned_the_home,
    a_budget_is_what_the_whole_tree_below_has_used_whatever_has_become_of_it,
);

/// A claimed run with the open steps `seqs`, each with the run that it has called.
async fn calling(case: &Subject, seqs: &[i64]) -> Result<(Claim, Vec<RunId>)> {
    calling_as(case, "reader", seqs).await
}

async fn calling_as(case: &Subject, agent: &str, seqs: &[i64]) -> Result<(Claim, Vec<RunId>)> {
    let agent = case.agent(agent).await?;
    case.submit(&agent).await?;
    let claim = case.claim("a").await?;
    let effect = ToolEffect { effect: Effect::Write, idempotent: true, open_world: true, trusted: true };
    let call = |seq: &i64| Intent { name: "agent__reader".into(), effect: Some(effect), ..tool_call(*seq, 1) };
    assert_eq!(case.store.journal(&claim.grant, begins(seqs.iter().map(call).collect())).await?, Written::Done);
    let mut called = Vec::new();
    for seq in seqs {
        case.advance(1);
        let parent = Some(ParentStep { run: claim.run.id, step: *seq });
        called.push(case.store.submit(Submit { parent, queue_limit: 0, ..case.submission(&agent)? }).await?.run.id);
    }
    Ok((claim, called))
}

fn done(output: &str) -> Ending {
    Ending::Completed { output: json!(output) }
}

async fn the_end_of_a_call_closes_its_step_and_its_caller_goes_on_within_its_attempt(case: Subject) -> Result<()> {
    let (claim, called) = calling(&case, &[1]).await?;
    let run = claim.run.id;
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
    let waiting = case.run(run).await?;
    assert_eq!(
        (waiting.status, waiting.waiting_for, waiting.children),
        (RunStatus::Running, Some(WaitingFor::Child), 1)
    );
    let told = present(case.store.events_after(run, 0, 100).await?.pop(), "the event")?;
    assert_eq!(told.r#type, EventType::RunWaiting);
    assert_eq!(told.data["children"], json!([{ "run": called[0], "agent": "reader", "step": 1 }]));
    assert_eq!(case.store.journal(&claim.grant, begins(vec![])).await?, Written::Stale, "it is in nobody's hands");
    let child = case.claim("b").await?;
    assert_eq!((child.run.id, child.run.parent_run_id, child.run.parent_step), (called[0], Some(run), Some(1)));
    assert_eq!(case.store.finish(&child.grant, done("read")).await?, Written::Done);
    let step = present(case.store.steps(run, None, 10).await?.pop(), "the step")?;
    assert_eq!(
        (step.status, step.result.map(|result| result["content"][0]["text"].clone())),
        (StepStatus::Completed, Some(json!("read")))
    );
    let again = case.claim("b").await?;
    assert_eq!((again.run.id, again.grant.epoch, again.run.attempt, again.run.waiting_for), (run, 2, 1, None));
    let filter = RunFilter { parent: Some(run), limit: 10, ..RunFilter::default() };
    assert_eq!(case.store.runs(&filter).await?.len(), 1);
    let lineage: Vec<_> = case.store.lineage(called[0]).await?.into_iter().map(|ancestor| ancestor.run).collect();
    assert_eq!(lineage, [run, called[0]]);
    Ok(())
}

async fn a_caller_waits_for_all_of_its_calls_and_nobody_takes_it_over_meanwhile(case: Subject) -> Result<()> {
    let (claim, called) = calling(&case, &[1, 2, 3]).await?;
    let run = claim.run.id;
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
    assert_eq!(case.store.live_runs().await?, 3, "only what executes or can is live");
    assert_eq!(case.store.runs_under_way().await?, 4, "and the one that waits for them is under way");
    let first = case.claim("b").await?;
    assert_eq!(case.store.take_over(&owner("c")).await?, 1, "the one that executes");
    assert_eq!(case.store.finish(&first.grant, done("stale")).await?, Written::Stale);
    let failed = Ending::Failed { kind: RunErrorKind::Provider, message: "no key".to_owned() };
    let first = case.claim("c").await?;
    assert_eq!(case.store.finish(&first.grant, failed).await?, Written::Done);
    case.store.cancel(called[1], case.entry("run.cancel")).await?;
    assert_eq!(case.run(run).await?.waiting_for, Some(WaitingFor::Child));
    let last = case.claim("c").await?;
    assert_eq!(case.store.finish(&last.grant, done("read")).await?, Written::Done);
    assert_eq!(case.run(run).await?.status, RunStatus::Queued);
    assert_eq!(case.store.runs_under_way().await?, 1);
    let steps = case.store.steps(run, None, 10).await?;
    let errors: Vec<_> = steps.iter().map(|step| step.error.clone().unwrap_or_default()).collect();
    assert!(errors[0].contains("failed (provider)") && errors[0].contains("no key"), "{errors:?}");
    assert!(errors[1].contains("was cancelled") && errors[2].is_empty(), "{errors:?}");
    Ok(())
}

async fn a_caller_whose_calls_have_ended_before_it_waits_is_queued_at_once(case: Subject) -> Result<()> {
    let (claim, _) = calling(&case, &[1]).await?;
    let child = case.claim("b").await?;
    assert_eq!(case.store.finish(&child.grant, done("read")).await?, Written::Done);
    assert_eq!(case.run(claim.run.id).await?.status, RunStatus::Running);
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
    let again = case.claim("b").await?;
    assert_eq!((again.run.id, again.run.attempt), (claim.run.id, 1));
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Stale);
    Ok(())
}

async fn a_call_of_a_run_that_does_not_wait_for_it_is_refused(case: Subject) -> Result<()> {
    let (claim, _) = calling(&case, &[1]).await?;
    let agent = present(case.store.agents(None, 1).await?.pop(), "the agent")?;
    let refused = async |step: i64| -> Result<Option<ErrorKind>> {
        let parent = Some(ParentStep { run: claim.run.id, step });
        let submitted = case.store.submit(Submit { parent, ..case.submission(&agent)? }).await;
        Ok(submitted.err().map(|error| error.kind()))
    };
    assert_eq!(refused(2).await?, Some(ErrorKind::Conflict), "there is no such step");
    case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
    assert_eq!(refused(1).await?, Some(ErrorKind::Conflict), "it was called off");
    Ok(())
}

async fn the_end_of_a_caller_ends_whatever_it_has_called(case: Subject) -> Result<()> {
    for way in ["waiting", "executing", "finished"] {
        let (claim, called) = {
            case.store.agent_delete(&name("reader")?, None, case.entry("agent.delete")).await?;
            calling(&case, &[1, 2]).await?
        };
        let child = case.claim("b").await?;
        assert_eq!(child.run.id, called[0]);
        match way {
            "waiting" => {
                assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
                let ended = case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
                assert!(matches!(ended, Cancelled::Done(run) if run.status == RunStatus::Cancelled));
            }
            "executing" => {
                let asked = case.store.cancel(claim.run.id, case.entry("run.cancel")).await?;
                assert!(matches!(asked, Cancelled::Requested(_)));
            }
            _ => {
                let failed = Ending::Failed { kind: RunErrorKind::Tool, message: "no".to_owned() };
                assert_eq!(case.store.finish(&claim.grant, failed).await?, Written::Done);
            }
        }
        assert_eq!(case.run(called[1]).await?.status, RunStatus::Cancelled, "{way}: it was queued");
        assert!(case.store.called_off().await?.contains(&called[0]), "{way}: it executes");
        assert_eq!(case.store.finish(&child.grant, Ending::Cancelled).await?, Written::Done);
        if way == "executing" {
            assert_eq!(case.store.finish(&claim.grant, Ending::Cancelled).await?, Written::Done);
        }
        assert_eq!(case.store.called_off().await?, [], "{way}");
        assert_eq!(case.store.live_runs().await?, 0, "{way}");
        let open = case.store.steps(claim.run.id, None, 10).await?;
        assert!(open.iter().all(|step| step.status == StepStatus::Failed), "{way}: {open:?}");
    }
    Ok(())
}

async fn a_caller_is_overdue_unless_somebody_below_waits_for_a_person(case: Subject) -> Result<()> {
    let (claim, called) = calling(&case, &[1]).await?;
    let run = claim.run.id;
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
    assert!(!case.store.time_out(run).await?, "there is time");
    let child = case.claim("b").await?;
    assert_eq!(case.store.park(&child.grant, WaitingFor::Provider, &[]).await?, Written::Done);
    case.advance(100_000);
    assert_eq!(case.store.overdue(case.now()).await?, []);
    let resume = Answer { decision: Decision::Retry, result: None };
    case.store.answer(called[0], None, resume, case.entry("run.respond")).await?;
    assert_eq!(case.store.overdue(case.now()).await?, [], "the wait for a person counts for nobody");
    case.advance(60_000);
    assert_eq!(case.store.overdue(case.now()).await?, [], "nor does that for a worker that goes on");
    let child = case.claim("b").await?;
    case.advance(59_998);
    assert_eq!(case.store.overdue(case.now()).await?, []);
    case.advance(1);
    assert_eq!(case.store.overdue(case.now()).await?, [run]);
    assert!(case.store.time_out(run).await?);
    assert!(!case.store.time_out(run).await?);
    let ended = case.run(run).await?;
    assert_eq!((ended.status, ended.error_kind), (RunStatus::Failed, Some(RunErrorKind::Timeout)));
    assert_eq!(case.store.called_off().await?, [child.run.id]);
    Ok(())
}

async fn a_caller_has_time_while_a_pause_holds_what_it_has_called(case: Subject) -> Result<()> {
    let (claim, _) = calling(&case, &[1]).await?;
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
    let pause = async |paused| case.store.agent_pause(&name("reader")?, paused, case.entry("agent.pause")).await;
    pause(true).await?;
    case.advance(100_000);
    assert_eq!(case.store.overdue(case.now()).await?, [], "the call is held");
    pause(false).await?;
    case.advance(59_000);
    assert_eq!(case.store.overdue(case.now()).await?, [], "the time for which it was counts for nobody");
    case.advance(1_000);
    assert_eq!(case.store.overdue(case.now()).await?, [claim.run.id]);
    Ok(())
}

/// The last event of a run, if it tells that the run waits: what is asked below it.
async fn told(case: &Subject, run: RunId) -> Result<Option<serde_json::Value>> {
    let last = present(case.store.events_after(run, 0, 100).await?.pop(), "the event")?;
    Ok((last.r#type == EventType::RunWaiting).then(|| last.data["requests"].clone()))
}

async fn what_is_asked_below_is_shown_with_all_who_wait_and_told_to_them(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let mut chain: Vec<Claim> = Vec::new();
    for _ in 0..3 {
        let parent = chain.last().map(|above| ParentStep { run: above.run.id, step: 1 });
        case.store.submit(Submit { parent, ..case.submission(&agent)? }).await?;
        let claim = case.claim("a").await?;
        assert_eq!(case.store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await?, Written::Done);
        chain.push(claim);
    }
    let [top, middle, last] = [&chain[0], &chain[1], &chain[2]].map(|claim| claim.run.id);
    assert_eq!(case.store.wait_for_children(&chain[0].grant).await?, Written::Done);
    assert_eq!(told(&case, top).await?, Some(json!(null)));
    assert_eq!(case.store.park(&chain[2].grant, WaitingFor::InDoubt, &[1]).await?, Written::Done);
    let asked = case.run(last).await?.requests;
    assert_eq!(asked.iter().map(|request| (request.run_id, request.step)).collect::<Vec<_>>(), [(last, Some(1))]);
    assert_eq!(case.run(top).await?.requests, asked);
    assert_eq!(told(&case, top).await?, Some(json!(asked)));
    assert_eq!(case.run(middle).await?.requests, [], "it executes");
    assert_eq!(told(&case, middle).await?, None);
    assert_eq!(case.store.wait_for_children(&chain[1].grant).await?, Written::Done);
    assert_eq!((case.run(middle).await?.requests, told(&case, middle).await?), (asked.clone(), Some(json!(asked))));
    let skip = Answer { decision: Decision::Skip, result: None };
    case.store.answer(last, None, skip, case.entry("run.respond")).await?;
    for run in [top, middle, last] {
        assert_eq!(case.run(run).await?.requests, []);
    }
    Ok(())
}

async fn what_two_calls_wait_for_people_side_by_side_is_given_once(case: Subject) -> Result<()> {
    let (claim, called) = calling(&case, &[1, 2]).await?;
    let run = claim.run.id;
    assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
    for _ in &called {
        let child = case.claim("b").await?;
        assert_eq!(case.store.park(&child.grant, WaitingFor::Provider, &[]).await?, Written::Done);
    }
    case.advance(100_000);
    for child in &called {
        let resume = Answer { decision: Decision::Retry, result: None };
        case.store.answer(*child, None, resume, case.entry("run.respond")).await?;
    }
    assert_eq!(case.store.claim(&owner("b"), 2).await?.len(), 2);
    case.advance(59_000);
    assert_eq!(case.store.overdue(case.now()).await?, [], "the wait for a person counts for nobody");
    case.advance(1_000);
    assert_eq!(case.store.overdue(case.now()).await?, [run], "and once, not for each call");
    Ok(())
}

/// The run asks its model, which takes `tokens` and twice as many back, and then calls an agent.
async fn asks_and_calls(case: &Subject, claim: &Claim, tokens: i64) -> Result<()> {
    assert_eq!(case.store.journal(&claim.grant, begins(vec![model_call(1)])).await?, Written::Done);
    let answered = Closed { usage: Some(usage(tokens)), ..closed(StepStatus::Completed, json!({})) };
    assert_eq!(case.store.journal(&claim.grant, ends(vec![outcome(1, 1, answered)])).await?, Written::Done);
    let effect = ToolEffect { effect: Effect::Write, idempotent: true, open_world: true, trusted: true };
    let call = Intent { name: "agent__reader".into(), effect: Some(effect), ..tool_call(2, 1) };
    assert_eq!(case.store.journal(&claim.grant, begins(vec![call])).await?, Written::Done);
    Ok(())
}

async fn a_budget_is_what_the_whole_tree_below_has_used_whatever_has_become_of_it(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let of_all = Limits { tokens: Some(1_000), cost_microusd: Some(5_000) };
    let of_last = Limits { tokens: Some(7), cost_microusd: None };
    let mut chain: Vec<Claim> = Vec::new();
    for (tokens, limits) in [(10, of_all), (20, Limits::default()), (40, of_last)] {
        let parent = chain.last().map(|above| ParentStep { run: above.run.id, step: 2 });
        case.store.submit(Submit { parent, limits, ..case.submission(&agent)? }).await?;
        let claim = case.claim("a").await?;
        asks_and_calls(&case, &claim, tokens).await?;
        chain.push(claim);
    }
    let [top, middle, last] = [&chain[0], &chain[1], &chain[2]].map(|claim| claim.run.id);
    let reader = || agent.definition.name.clone();
    let whole =
        Budget { run: top, agent: reader(), limits: of_all, tokens: 3 * 70, cost_microusd: 10 * 70, uncounted: None };
    let part =
        Budget { run: last, agent: reader(), limits: of_last, tokens: 3 * 40, cost_microusd: 10 * 40, uncounted: None };
    let is_so = async || -> Result<()> {
        assert_eq!(case.store.budgets(last).await?, [whole.clone(), part.clone()]);
        // One without limits has those above it.
        for run in [middle, top] {
            assert_eq!(case.store.budgets(run).await?.as_slice(), std::slice::from_ref(&whole), "{run}");
        }
        Ok(())
    };
    is_so().await?;
    assert_eq!(case.store.take_over(&owner("b")).await?, 3, "all that executed");
    is_so().await?;
    case.store.cancel(last, case.entry("run.cancel")).await?;
    is_so().await?;
    let other = case.submit(&agent).await?.run.id;
    assert_eq!(case.store.budgets(other).await?, []);
    assert_eq!(case.store.budgets(case.new_id()?).await?, [], "there is no such run");
    Ok(())
}

async fn a_caller_has_the_time_that_nobody_owned_the_home(case: Subject) -> Result<()> {
    for (agent, has_begun) in [("reader", false), ("writer", true)] {
        let (claim, called) = calling_as(&case, agent, &[1]).await?;
        let submitted = case.now();
        assert_eq!(case.store.wait_for_children(&claim.grant).await?, Written::Done);
        if has_begun {
            assert_eq!(case.claim("a").await?.run.id, called[0]);
        }
        case.advance(600_000);
        case.store.take_over(&owner("next")).await?;
        assert_eq!(case.store.overdue(case.now()).await?, [], "the call first has to go on");
        let child = case.claim("next").await?;
        assert_eq!(child.run.id, called[0]);
        assert_eq!(case.store.overdue(case.now()).await?, []);
        assert_eq!(case.store.finish(&child.grant, done("read")).await?, Written::Done);
        let again = case.claim("next").await?;
        assert_eq!(again.deadline, claim.deadline + (case.now().since(submitted)), "begun: {has_begun}");
        assert_eq!(case.store.finish(&again.grant, done("over")).await?, Written::Done);
    }
    Ok(())
}
