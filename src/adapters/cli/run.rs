//! `stn agent run`, `stn run watch` and `stn run wait`: starting runs and following them.

use super::connection;
use super::failure::{Failure, INTERRUPTED};
use super::fields;
use super::follow::{Following, MOST_FAILED, Until, WAIT_ON_AFTER, again, follow_and_bring_keys, get, is_under_way};
use super::outcome::{self, Notice};
use super::output::Output;
use super::progress::Progress;
use super::target::{Target, request_id};
use crate::clock::ClockExt;
use crate::domain::{Run, RunId, RunStatus};
use crate::error::{ErrorKind, Result};
use crate::tools::ToolSpec;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};
use std::time::Duration;

/// How long one submit waits for the run's end, in milliseconds.
const SUBMIT_WAIT_MS: u64 = 15_000;

/// How long Ctrl-C waits for the run to let go.
const CANCEL_WITHIN: Duration = Duration::from_secs(6);

/// `stn agent run AGENT [INPUT]`.
pub(super) fn agent_run_command(spec: &ToolSpec) -> Command {
    let detach = Arg::new("detach").long("detach").action(ArgAction::SetTrue);
    fields::command(spec, "run", &["wait_ms", "input"])
        .long_about("Runs an agent and follows it to its end. The run outlives this command, save for Ctrl-C, which cancels it.")
        .arg(input_argument())
        .arg(detach.help("Start the run, print its id, and leave it to itself"))
        .after_help(
            "Steps and the choice of the model go to stderr, the answer alone to stdout.\n\
             Exit codes: 0 completed, 1 failed, 6 somebody has to answer first, 130 cancelled.",
        )
}

fn input_argument() -> Arg {
    Arg::new("input").value_name("INPUT").help("A text, a JSON object (it starts with `{`), or `-` for stdin")
}

/// `stn run watch RUN`.
pub(super) fn watch_command() -> Command {
    Command::new("watch")
        .about("Watch a run")
        .long_about("Follows a run to its end, from its first step. Ctrl-C stops watching; the run goes on.")
        .arg(Arg::new("run").value_name("RUN").required(true).help("The run's id, or the unique beginning of it"))
}

/// Starts a run and follows it.
pub(super) async fn agent_run(
    target: &Target,
    output: Output,
    matches: &ArgMatches,
    spec: &ToolSpec,
) -> Result<u8, Failure> {
    let mut input = fields::input(matches, spec)?;
    if let Some(text) = matches.get_one::<String>("input") {
        input.insert("input".into(), run_input(text)?);
    }
    input.insert("wait_ms".into(), 0.into());
    // With a key of its own, a submit whose answer was lost can be made again without starting two runs.
    input.entry("idempotency_key").or_insert(request_id()?.into());
    let interrupt = interrupted();
    tokio::pin!(interrupt);
    let submit = target.call(spec.name, input.clone());
    tokio::pin!(submit);
    let (submitted, called_off) = tokio::select! {
        biased;
        // Only the answer tells whether there is a run to cancel by now.
        () = &mut interrupt => tokio::select! {
            submitted = &mut submit => (submitted?, true),
            () = interrupted() => return Ok(INTERRUPTED),
        },
        submitted = &mut submit => (submitted?, false),
    };
    if called_off {
        let run = outcome::parse(&submitted)?;
        return cancel(target, output, Progress::start(output, &run), &run).await;
    }
    tell_of_broken_file(target, output, &outcome::parse(&submitted)?).await;
    if matches.get_flag("detach") {
        let id = outcome::parse(&submitted)?.id.to_string();
        let shown = if output.json { output.json(&submitted) } else { output.text(&id) };
        return shown.map(|()| 0);
    }
    let run = outcome::parse(&submitted)?;
    let progress = Progress::start(output, &run);
    let mut following = Following::new(target, &progress, &run, Until::Settled);
    let followed = tokio::select! {
        followed = follow_and_bring_keys(&mut following) => Some(followed.map(|()| following.notice)),
        () = &mut interrupt => None,
    };
    match followed {
        Some(Ok(notice)) => {
            drop(progress);
            end(target, output, &run, notice).await
        }
        Some(Err(failure)) if is_hidden(&failure) => {
            progress.line("the key may start a run and not look at it (`runs:read`): waiting for the answer alone");
            tokio::select! {
                answered = answer_of_submit(target, output, spec, input) => answered,
                () = &mut interrupt => cancel(target, output, progress, &run).await,
            }
        }
        Some(Err(failure)) => Err(failure),
        None => cancel(target, output, progress, &run).await,
    }
}

/// Whether the caller may not see what is there: it has just been made.
fn is_hidden(failure: &Failure) -> bool {
    matches!(failure, Failure::Error(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied))
}

/// Asks for the run again by its idempotency key, until it is over: whoever submits is answered, also without the right to look at runs.
async fn answer_of_submit(
    target: &Target,
    output: Output,
    spec: &ToolSpec,
    mut input: Map<String, Value>,
) -> Result<u8, Failure> {
    input.insert("wait_ms".into(), SUBMIT_WAIT_MS.into());
    let mut run = target.call(spec.name, input.clone()).await?;
    while is_under_way(&outcome::parse(&run)?) {
        target.clock.sleep(WAIT_ON_AFTER).await;
        run = target.call(spec.name, input.clone()).await?;
    }
    outcome::tell(target, output, &run, Notice::Heard(None)).await
}

/// Says that the run is of the agent's last good revision, where its file can't be read. The run goes on whether that can be told or not.
async fn tell_of_broken_file(target: &Target, output: Output, run: &Run) {
    let which = [("agent", run.agent.id.to_string()), ("environment", run.environment.to_string())];
    let which = which.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
    let Ok(agent) = target.call("agent_get", which).await else { return };
    if let Some(problem) = agent.get("problem").and_then(Value::as_str) {
        let revision: String = run.agent.revision.chars().take(12).collect();
        output.note(format_args!(
            "warning: the agent's file is broken ({problem}): running its last good revision, {revision}"
        ));
    }
}

/// Follows a run that is there.
pub(super) async fn watch(target: &Target, output: Output, matches: &ArgMatches) -> Result<u8, Failure> {
    let asked = matches.get_one::<String>("run").map(String::as_str).unwrap_or_default();
    let run = outcome::parse(&get(target, asked).await?)?;
    let progress = Progress::start(output, &run);
    let mut following = Following::new(target, &progress, &run, Until::Ended);
    let notice = tokio::select! {
        followed = following.go_on() => followed.map(|()| following.notice)?,
        () = interrupted() => return Ok(INTERRUPTED),
    };
    drop(progress);
    end(target, output, &run, notice).await
}

/// Tells the end of a run that was followed.
async fn end(target: &Target, output: Output, run: &Run, notice: Notice) -> Result<u8, Failure> {
    let telling = async { outcome::tell(target, output, &again(target, run.id).await?, notice).await };
    // Once Ctrl-C was listened for, it no longer ends the process by itself.
    tokio::select! {
        told = telling => told,
        () = interrupted() => Ok(INTERRUPTED),
    }
}

/// Waits, and tells how the run stands then by the exit code too.
pub(super) async fn wait(
    target: &Target,
    output: Output,
    matches: &ArgMatches,
    spec: &ToolSpec,
) -> Result<u8, Failure> {
    let input = fields::input(matches, spec)?;
    if !input.contains_key("wait_ms") {
        let at_once = input.iter().map(|(field, value)| (field.clone(), value.clone()));
        let at_once = at_once.chain([("wait_ms".to_owned(), 0.into())]).collect();
        if let Some(line) = outcome::is_held(&outcome::parse(&target.call(spec.name, at_once).await?)?) {
            output.note(line);
        }
    }
    let run = waited_for(target, spec, input).await?;
    outcome::tell(target, output, &run, Notice::Unheard).await
}

/// The run as it is when nothing more is to be waited for. One request is no more than a part of the wait: a station that stops answers at
/// once, one that breaks doesn't answer, and without `wait_ms` there is no limit to the whole.
async fn waited_for(target: &Target, spec: &ToolSpec, mut input: Map<String, Value>) -> Result<Value, Failure> {
    let clock = &target.clock;
    let until = input.get("wait_ms").and_then(Value::as_u64).map(|limit| clock.now() + Duration::from_millis(limit));
    // Without a limit, the run was looked at before.
    let (mut was_there, mut failed) = (until.is_none(), 0);
    loop {
        let left = until.map(|until| until.since(clock.now()));
        if let Some(left) = left {
            input.insert("wait_ms".into(), u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into());
        }
        match target.ask(spec, input.clone()).await {
            Ok(run) if left.is_some_and(|left| left.is_zero()) || !is_under_way(&outcome::parse(&run)?) => {
                return Ok(run);
            }
            Ok(_) => (was_there, failed) = (true, 0),
            // Where nobody was there from the beginning, nothing was waited for.
            Err(Failure::Error(error))
                if failed < MOST_FAILED && (was_there && connection::passes(&error) || connection::is_lost(&error)) =>
            {
                (was_there, failed) = (true, failed + 1);
            }
            Err(failure) => return Err(failure),
        }
        let wait = WAIT_ON_AFTER * 2_u32.pow(failed);
        clock.sleep(until.map_or(wait, |until| wait.min(until.since(clock.now())))).await;
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Signals can't be received: then Ctrl-C ends the process by itself.
        std::future::pending::<()>().await;
    }
}

/// The first Ctrl-C cancels the run; the second one leaves at once.
async fn cancel(target: &Target, output: Output, progress: Progress, run: &Run) -> Result<u8, Failure> {
    progress.line(&format!("cancelling run {}; Ctrl-C again leaves at once", run.id));
    let input = Map::from_iter([("run".to_owned(), run.id.to_string().into())]);
    let cancelling = target.clock.timeout(CANCEL_WITHIN, target.call("run_cancel", input));
    let cancelled = tokio::select! {
        biased;
        () = interrupted() => return Ok(INTERRUPTED),
        cancelled = cancelling => cancelled.transpose()?,
    };
    let status = cancelled.as_ref().map(outcome::parse).transpose()?.map(|run| run.status);
    progress.line(&what_a_cancel_did(run.id, status));
    drop(progress);
    match &cancelled {
        _ if matches!(status, Some(RunStatus::Completed | RunStatus::Failed)) => {
            end(target, output, run, Notice::Unheard).await?;
        }
        Some(cancelled) if output.json => output.json(cancelled)?,
        _ => {}
    }
    Ok(INTERRUPTED)
}

/// `status` is the run's after the cancel, if there was an answer in time.
fn what_a_cancel_did(run: RunId, status: Option<RunStatus>) -> String {
    match status {
        Some(RunStatus::Cancelled) => "cancelled".to_owned(),
        Some(ended) if ended.is_terminal() => format!("not cancelled: run {run} had {} before", ended.as_str()),
        _ => format!("the run has not let go yet; `stn run get {run}` shows it"),
    }
}

/// `INPUT` of `agent run`: a JSON object where it looks like one, else a text.
fn run_input(text: &str) -> Result<Value> {
    let text = if text == "-" { fields::source(text)? } else { text.to_owned() };
    if text.trim_start().starts_with('{') { fields::json_text(&text, "the input") } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_cancel_did_is_told_by_what_the_run_is_then() {
        let run = RunId::parse("0195f3a3-c000-8001-8000-000000000001").unwrap();
        assert_eq!(what_a_cancel_did(run, Some(RunStatus::Cancelled)), "cancelled");
        let late = what_a_cancel_did(run, Some(RunStatus::Completed));
        assert_eq!(late, format!("not cancelled: run {run} had completed before"));
        for still in [Some(RunStatus::Running), None] {
            assert!(what_a_cancel_did(run, still).contains("has not let go yet"));
        }
    }

    #[test]
    fn an_input_that_starts_with_a_brace_is_json_and_any_other_is_text() {
        assert_eq!(run_input("[1] is a list").unwrap(), json!("[1] is a list"));
        assert_eq!(run_input("@home").unwrap(), json!("@home"));
        assert_eq!(run_input(" {\"q\": 1}").unwrap(), json!({ "q": 1 }));
        assert!(run_input("{oops").unwrap_err().message().contains("the input is not valid JSON"));
    }
}
