//! `run_respond`: settles what a parked run waits for. For people only: a model never answers for one.

use super::find;
use crate::domain::{
    ASK_USER, Answer, Decision, Effect, Request, Run, RunId, RunStatus, Scope, StepKind, StepStatus, UNANSWERED,
    WaitingFor, nearest,
};
use crate::error::{Error, Result};
use crate::tools::{Call, EnvironmentUse, Exposure, Method, ToolSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The run's id, or the unique beginning of it.
    pub run: String,
    /// `retry` calls again with the same idempotency key, `skip` tells the model that the outcome is unknown, `result` takes `result` for it.
    /// For a call in doubt, or a run that waits for its provider (`retry`).
    pub decision: Option<Decision>,
    /// For a question: the answer. One of its choices, where it has any.
    pub answer: Option<String>,
    /// The step in doubt, without it every one that is; or the question that is answered, where there are several.
    #[schemars(range(min = 1))]
    pub step: Option<i64>,
    /// With `result`: what the call is taken to have returned.
    pub result: Option<String>,
}

pub fn spec() -> ToolSpec {
    ToolSpec::new::<Input, Run>("run_respond", Scope::RunsRespond)
        .describe(
            "Answer a waiting run",
            "Answers a question of a run, or settles a tool call that was cut off and that nobody could decide: retry it, skip it, or give its result.",
        )
        .changes(Effect::Write, false)
        .environment(EnvironmentUse::OfRun)
        .exposure(Exposure::PersonOnly)
        .rest(Method::Post, "/runs/{run}/respond")
        .cli("run respond", &["run", "decision"])
}

pub async fn respond(call: Call, input: Input) -> Result<Run> {
    let _one_at_a_time = call.station.models.answering.lock().await;
    let run = find(&call, &input.run).await?;
    if run.status != RunStatus::InputRequired && run.needs_an_answer() {
        return Err(asked_below(&run));
    }
    let answer = match (input.decision, input.answer) {
        (None, Some(answer)) if input.result.is_none() => {
            match run.waiting_for.filter(|_| run.status == RunStatus::InputRequired) {
                Some(WaitingFor::Question) => to_question(&run, input.step, answer)?,
                Some(other) => return Err(no_decision(&run, other, input.step, &answer)),
                None => return Err(asks_nothing(&call, &run, input.step).await?),
            }
        }
        (Some(decision), None) => to_doubt(&run, input.step, decision, input.result)?,
        _ => {
            let error = Error::invalid_input("give either `decision` or `answer`").field("decision");
            return Err(error.hint("`answer` is for questions, `decision` for everything else that a run waits for"));
        }
    };
    // Before the commit: from then on a worker may take the run up, and would miss them.
    let brought = bring_keys(&call, &run).await?;
    let answered = call.environment()?.store.answer(run.id, input.step, answer, call.audit(run.id)).await;
    if answered.is_err() {
        brought.into_iter().for_each(|run| call.station.models.forget(run));
    }
    let run = answered?;
    call.station.admission.wake();
    Ok(run)
}

/// Keeps the keys that the caller brings for the run, and for those that wait for it, where they were started with such keys and have none
/// any more: their owner may have ended since. A call that was started with its caller's keys has them through all above it. Returns whose
/// keys these are now.
async fn bring_keys(call: &Call, run: &Run) -> Result<Vec<RunId>> {
    let Some(brought) = &call.ctx.provider_variables else { return Ok(Vec::new()) };
    let models = &call.station.models;
    let awaits_keys = |id: RunId| id == run.id && run.waiting_for == Some(WaitingFor::Provider);
    let lineage = call.environment()?.store.lineage(run.id).await?;
    let through = lineage.iter().rposition(|one| one.caller_credentials).map_or(0, |last| last + 1);
    let lacking: Vec<RunId> = lineage[..through]
        .iter()
        .map(|one| one.run)
        .filter(|id| awaits_keys(*id) || models.brought(*id).is_none())
        .collect();
    for id in &lacking {
        models.remember(*id, Arc::clone(brought));
    }
    Ok(lacking)
}

/// The run itself asks nothing: those that it waits for do.
fn asked_below(run: &Run) -> Error {
    let commands: Vec<&str> = run.requests.iter().map(|request| request.answer_with.as_str()).collect();
    Error::conflict(format!("run `{}` asks nothing itself, and waits for runs that do", run.id))
        .hint(format!("answer there: {}", commands.join(", or ")))
        .field("run")
}

/// A decision, which is for what isn't a question.
fn to_doubt(run: &Run, step: Option<i64>, decision: Decision, result: Option<String>) -> Result<Answer> {
    if run.waiting_for == Some(WaitingFor::Question) {
        return Err(Error::conflict(format!("run `{}` waits for the answer to a question", run.id))
            .hint(format!("give it: {}", how_to_answer(run, step)))
            .field("decision"));
    }
    match (decision, result) {
        (Decision::Result, None) => Err(Error::invalid_input("`result` is missing")
            .hint(format!("say what the call returned: {}", Request::result_command(run.id, step)))
            .field("result")),
        (Decision::Retry | Decision::Skip, Some(_)) => {
            let message = "`result` goes with the decision `result` only";
            Err(Error::invalid_input(message).field("result"))
        }
        (decision, result) => Ok(Answer { decision, result }),
    }
}

/// The command that answers the question in `step`, or each of those that a run asks, where no step says which.
fn how_to_answer(run: &Run, step: Option<i64>) -> String {
    let asked: Vec<Option<i64>> = run.requests.iter().map(|request| request.step).collect();
    match asked.as_slice() {
        _ if asked.contains(&step) => Request::answer_command(run.id, step),
        [] | [_] => Request::answer_command(run.id, None),
        several => {
            let each = several.iter().map(|step| Request::answer_command(run.id, *step));
            each.collect::<Vec<_>>().join(", or ")
        }
    }
}

/// What to say to whoever gives a text to a run that waits for a decision: probably it is the word of one, mistyped.
fn no_decision(run: &Run, waiting_for: WaitingFor, step: Option<i64>, text: &str) -> Error {
    let (what, words): (&str, &[&str]) = match waiting_for {
        WaitingFor::InDoubt => ("for a decision on a call in doubt", &["retry", "skip", "result"]),
        _ => ("for something else than an answer", &["retry"]),
    };
    let shown: String = text.chars().take(80).collect();
    let (shown, all) = (shown.escape_debug(), words.join(", "));
    let message =
        format!("run `{}` asks no question, it waits {what}, and `{shown}` is none of its decisions: {all}", run.id);
    let meant =
        nearest(text, words.iter().copied()).map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    let command = Request::command(run.id, waiting_for, step);
    Error::invalid_input(message).hint(format!("{meant}decide with `{command}`")).field("answer")
}

/// What to say to whoever answers a run that asks nothing: it never did, or not any more.
async fn asks_nothing(call: &Call, run: &Run, step: Option<i64>) -> Result<Error> {
    let rows = call.environment()?.store.journal_rows(run.id).await?;
    let asked = rows.iter().map(|row| &row.step).rfind(|asked| {
        asked.name == ASK_USER && asked.kind == StepKind::Tool && step.is_none_or(|step| asked.seq == step)
    });
    let told = asked.and_then(|asked| match (asked.status, asked.error.as_deref()) {
        (StepStatus::Completed, _) => Some((asked, "was answered", "the run has gone on with that answer")),
        (StepStatus::Failed, Some(UNANSWERED)) => {
            Some((asked, "has expired unanswered", "the run has gone on without an answer"))
        }
        _ => None,
    });
    let error = match told {
        Some((asked, what, since)) => {
            let (id, seq, at) = (run.id, asked.seq, asked.ended_at.unwrap_or(asked.started_at));
            Error::conflict(format!("the question of run `{id}` in step {seq} {what} at {at}"))
                .hint(format!("{since}: `stn run get {id}` shows it"))
        }
        None => Error::conflict(format!("run `{}` asks no question", run.id))
            .hint("`stn request list` shows what runs wait for"),
    };
    Ok(error.field("answer"))
}

/// The answer to a question, which has to be one of its choices where it has any.
fn to_question(run: &Run, step: Option<i64>, answer: String) -> Result<Answer> {
    if answer.trim().is_empty() {
        return Err(Error::invalid_input("the answer is empty").field("answer"));
    }
    // Which of several is meant without a step is asked by the store.
    let meant = |request: &&Request| request.step == step || (step.is_none() && run.requests.len() == 1);
    let choices = run.requests.iter().find(meant).map(|request| request.choices.as_slice()).unwrap_or_default();
    if !choices.is_empty() && !choices.contains(&answer) {
        let listed = format!("`{}` is none of the choices: {}", answer.escape_debug(), choices.join(", "));
        let error = Error::invalid_input(listed).field("answer");
        return Err(match nearest(&answer, choices.iter().map(String::as_str)) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error,
        });
    }
    Ok(Answer { decision: Decision::Result, result: Some(answer) })
}
