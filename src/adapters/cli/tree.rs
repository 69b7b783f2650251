//! The runs that a run has called, and those that they have called: each a step further in.

use super::failure::Failure;
use super::feed::Feed;
use super::outcome;
use super::output::Output;
use super::progress::{Progress, duration};
use super::target::Target;
use crate::domain::{AGENT_PREFIX, Event, EventType, Run, RunId};
use crate::error::Result;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

/// More calls of one run than this aren't listed.
const MOST: u32 = 200;

/// Lists what `run` has called, below it.
pub(super) async fn list(target: &Target, output: Output, run: &Value) -> Result<(), Failure> {
    let run = outcome::parse(run)?;
    if run.children > 0 {
        output.text(&format!("\nruns that it has called:\n{}", below(target, &run, 1).await?.join("\n")))?;
    }
    Ok(())
}

fn below<'a>(target: &'a Target, run: &'a Run, depth: usize) -> LocalBoxFuture<'a, Result<Vec<String>, Failure>> {
    async move {
        let asked = json!({ "parent": run.id, "environment": run.environment, "limit": MOST });
        let asked: Map<String, Value> = asked.as_object().cloned().unwrap_or_default();
        let page = target.call("run_list", asked).await?;
        let mut lines = Vec::new();
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten().rev() {
            let child = outcome::parse(item)?;
            lines.push(line(&child, depth));
            if child.children > 0 {
                lines.extend(below(target, &child, depth + 1).await?);
            }
        }
        Ok(lines)
    }
    .boxed_local()
}

fn line(run: &Run, depth: usize) -> String {
    let took = run.duration_ms.map(|ms| format!("  {}", duration(ms))).unwrap_or_default();
    format!("{}{}  {}  {}{took}", "  ".repeat(depth), run.id, run.agent.name, run.status.as_str())
}

/// Follows what a run calls, below its own lines.
pub(super) struct Calls<'a> {
    target: &'a Target,
    /// Each is followed once, however often it is told of.
    followed: HashMap<RunId, Followed<'a>>,
}

/// A run that was called, as far as it has been shown.
struct Followed<'a> {
    /// `None` once all was told.
    feed: Option<Feed<'a>>,
    /// What it has told last, until that is shown, and with it what it tells of.
    latest: Option<Rc<Event>>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(target: &'a Target) -> Self {
        Self { target, followed: HashMap::new() }
    }

    /// Shows the runs that `event` tells of, one after the other, each to its end. What they ask is told by the events of the run above.
    /// May be dropped: the next time it goes on where it was, for the same event or for another that tells of the same runs.
    pub(super) fn show<'s>(
        &'s mut self,
        progress: &'s Progress,
        event: &'s Event,
        depth: usize,
    ) -> LocalBoxFuture<'s, Result<()>> {
        async move {
            for (id, agent) in told_of(event) {
                if let Entry::Vacant(new) = self.followed.entry(id) {
                    progress.line(&format!("{}run {id} of {agent}", "  ".repeat(depth)));
                    new.insert(Followed { feed: Some(Feed::new(self.target, id)), latest: None });
                }
                while let Some(event) = self.next_of(id).await? {
                    self.show(progress, &event, depth + 1).await?;
                    progress.show(&event, depth);
                    self.shown(id, &event);
                }
            }
            Ok(())
        }
        .boxed_local()
    }

    /// What `run` tells next; the same again until it is [`Self::shown`].
    async fn next_of(&mut self, run: RunId) -> Result<Option<Rc<Event>>> {
        let Some(Followed { feed, latest }) = self.followed.get_mut(&run) else { return Ok(None) };
        if latest.is_none()
            && let Some(told) = feed.as_mut()
        {
            *latest = told.next().await?.map(Rc::new);
            if latest.is_none() {
                *feed = None;
            }
        }
        Ok(latest.clone())
    }

    fn shown(&mut self, run: RunId, event: &Event) {
        let Some(followed) = self.followed.get_mut(&run) else { return };
        followed.latest = None;
        if event.r#type.is_terminal() {
            followed.feed = None;
        }
    }
}

/// The runs that are called by the one whose event this is: those that it waits for, or the one whose answer it has got.
fn told_of(event: &Event) -> Vec<(RunId, String)> {
    let id = |value: Option<&Value>| value.and_then(Value::as_str).and_then(RunId::parse);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    match event.r#type {
        EventType::RunWaiting => {
            let children = event.data.get("children").and_then(Value::as_array).into_iter().flatten();
            children.filter_map(|child| Some((id(child.get("run"))?, text(child.get("agent"))))).collect()
        }
        EventType::StepCompleted => {
            let name = text(event.data.pointer("/step/name"));
            let run = id(event.data.pointer("/step/result/_meta/io.station~1run"));
            let agent = name.strip_prefix(AGENT_PREFIX);
            run.zip(agent).map(|(run, agent)| (run, agent.to_owned())).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: Value) -> Event {
        let (run, at) = ("0195f3a3-c000-8001-8000-000000000001", "2026-01-01T00:00:00Z");
        let event = json!({ "run_id": run, "epoch": 1, "seq": 1, "type": kind, "at": at, "data": data });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_run_tells_of_its_calls_when_it_waits_and_when_it_has_an_answer() {
        let id = "0195f3a3-c000-8001-8000-000000000002";
        let told = vec![(RunId::parse(id).unwrap(), "child".to_owned())];
        let waiting = json!({ "waiting_for": "child", "children": [{ "run": id, "agent": "child", "step": 2 }] });
        assert_eq!(told_of(&event("run.waiting", waiting)), told);
        let step = json!({ "step": { "name": "agent__child", "result": { "_meta": { "io.station/run": id } } } });
        assert_eq!(told_of(&event("step.completed", step)), told);
        let of_a_server = json!({ "step": { "name": "x__y", "result": { "_meta": { "io.station/run": id } } } });
        assert!(told_of(&event("step.completed", of_a_server)).is_empty(), "a server's word is none");
        assert!(told_of(&event("run.waiting", json!({ "waiting_for": "in_doubt" }))).is_empty());
    }
}
