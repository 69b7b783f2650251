//! Following a run: what it tells, and what those tell that it has called, over as many owners as it takes.

use super::connection;
use super::failure::Failure;
use super::feed::Feed;
use super::outcome::{self, Notice};
use super::progress::Progress;
use super::target::Target;
use super::tree::Calls;
use crate::clock::ClockExt;
use crate::domain::{Event, Run, RunId, WaitingFor};
use crate::error::Result;
use serde_json::{Map, Value};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// The pause between two waits for a run.
pub(super) const WAIT_ON_AFTER: Duration = Duration::from_millis(250);

/// How many requests in a row may fail while owners end and start. The pause after each doubles.
pub(super) const MOST_FAILED: u32 = 5;

/// When to stop following.
pub(super) enum Until {
    /// The run has ended, or somebody has to answer.
    Settled,
    Ended,
}

/// A run, what it has called, and how far both were shown.
pub(super) struct Following<'a> {
    target: &'a Target,
    progress: &'a Progress,
    run: &'a Run,
    until: Until,
    feed: Feed<'a>,
    calls: Calls<'a>,
    /// What the run has told and isn't shown yet: it goes on telling while those are shown that it has called. `None`: it has told all.
    ahead: VecDeque<Option<Rc<Event>>>,
    /// That was heard on the way.
    pub(super) notice: Notice,
}

impl<'a> Following<'a> {
    pub(super) fn new(target: &'a Target, progress: &'a Progress, run: &'a Run, until: Until) -> Self {
        let (feed, calls) = (Feed::new(target, run.id), Calls::new(target));
        Self { target, progress, run, until, feed, calls, ahead: VecDeque::new(), notice: Notice::default() }
    }

    /// Shows what happens until the run has ended, or somebody has to answer if that is enough. Then it can be called again, and goes on
    /// where it was.
    pub(super) async fn go_on(&mut self) -> Result<(), Failure> {
        loop {
            if self.ahead.is_empty() && self.hears_that_it_is_settled().await? {
                return Ok(());
            }
            let Some(Some(event)) = self.ahead.front().cloned() else { return Ok(()) };
            if self.shows_what_was_called(&event).await? {
                return Ok(());
            }
            self.progress.show(&event, 0);
            self.notice.hear(&event);
            self.ahead.pop_front();
            if event.r#type.is_terminal() {
                self.ahead = VecDeque::from([None]);
                return Ok(());
            }
            if outcome::is_parked(&event) {
                match self.until {
                    // An answer may have come since.
                    Until::Settled if needs_an_answer(self.target, self.run).await? => return Ok(()),
                    Until::Settled => {}
                    Until::Ended => tell_and_watch_on(self.progress, self.run, &event),
                }
            }
        }
    }

    /// Hears the next event; whether somebody has to answer by what it says.
    async fn hears_that_it_is_settled(&mut self) -> Result<bool, Failure> {
        let event = self.feed.next().await?.map(Rc::new);
        self.ahead.push_back(event.clone());
        is_settled_below(self.target, self.progress, self.run, &self.until, event.as_deref()).await
    }

    /// Shows the runs that `event` tells of, and hears meanwhile what comes after it; whether somebody has to answer by what that says.
    async fn shows_what_was_called(&mut self, event: &Event) -> Result<bool, Failure> {
        let Self { target, progress, run, until, feed, calls, ahead, .. } = self;
        let shown = calls.show(progress, event, 1);
        tokio::pin!(shown);
        loop {
            tokio::select! {
                biased;
                shown = &mut shown => return Ok(shown.map(|()| false)?),
                next = feed.next(), if !matches!(ahead.back(), Some(None)) => {
                    let next = next?.map(Rc::new);
                    ahead.push_back(next.clone());
                    if is_settled_below(target, progress, run, until, next.as_deref()).await? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Whether the run has told all.
    fn is_over(&self) -> bool {
        matches!(self.ahead.front(), Some(None))
    }
}

/// Follows a run until it has ended, or a person has to answer. What only lacks the keys of this process is given them.
pub(super) async fn follow_and_bring_keys(following: &mut Following<'_>) -> Result<(), Failure> {
    let (target, run) = (following.target, following.run);
    let mut given = HashSet::new();
    loop {
        following.go_on().await?;
        if following.is_over() {
            return Ok(());
        }
        loop {
            let now = outcome::parse(&again(target, run.id).await?)?;
            // It has its keys again, or somebody else has answered meanwhile.
            if is_under_way(&now) {
                break;
            }
            if !bring_keys_again(target, following.progress, &now, &mut given).await? {
                return Ok(());
            }
        }
    }
}

/// Whether a run below waits for a person, and following ends with that. Who watches to the end is told. An answer may have come since.
async fn is_settled_below(
    target: &Target,
    progress: &Progress,
    run: &Run,
    until: &Until,
    event: Option<&Event>,
) -> Result<bool, Failure> {
    let Some(event) = event.filter(|event| outcome::is_asked_below(event)) else { return Ok(false) };
    match until {
        Until::Settled => needs_an_answer(target, run).await,
        Until::Ended => {
            tell_and_watch_on(progress, run, event);
            Ok(false)
        }
    }
}

fn tell_and_watch_on(progress: &Progress, run: &Run, event: &Event) {
    outcome::waits(run.id, event).iter().for_each(|line| progress.line(line));
    progress.line("watching on, for it goes on once it is answered; Ctrl-C stops watching");
}

async fn needs_an_answer(target: &Target, run: &Run) -> Result<bool, Failure> {
    Ok(outcome::parse(&again(target, run.id).await?)?.needs_an_answer())
}

/// The keys of this process went with the owner that was given them, if that one has ended; its successor is given them again, for the run
/// and for whatever it has called, and for each of them once: keys that don't help won't help the second time.
async fn bring_keys_again(
    target: &Target,
    progress: &Progress,
    now: &Run,
    given: &mut HashSet<(RunId, Option<u32>)>,
) -> Result<bool, Failure> {
    if !target.brings_keys() {
        return Ok(false);
    }
    let owner = target.connect().await?.owner();
    let lost = now.requests.iter().filter(|request| request.waiting_for == WaitingFor::Provider);
    let lost: Vec<RunId> = lost.map(|request| request.run_id).filter(|id| given.insert((*id, owner))).collect();
    if lost.is_empty() {
        return Ok(false);
    }
    progress.line("the station was restarted and is given the provider key again");
    for id in lost {
        let answer = [("run", id.to_string()), ("decision", "retry".to_owned())];
        let answer = answer.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        match target.call("run_respond", answer).await {
            // Whether it came, the run shows; and the next owner is another.
            Err(Failure::Error(error)) if connection::passes(&error) => {}
            given => given.map(drop)?,
        }
    }
    Ok(true)
}

/// Whether nobody has to do anything but wait.
pub(super) fn is_under_way(run: &Run) -> bool {
    !run.status.is_terminal() && !run.needs_an_answer()
}

/// A run that there was a moment ago. Asked again while an owner ends and another starts.
pub(super) async fn again(target: &Target, run: RunId) -> Result<Value, Failure> {
    let mut failed = 0;
    loop {
        match get(target, &run.to_string()).await {
            Err(Failure::Error(error)) if failed < MOST_FAILED && connection::passes(&error) => {
                target.clock.sleep(WAIT_ON_AFTER * 2_u32.pow(failed)).await;
                failed += 1;
            }
            done => return done,
        }
    }
}

/// The run `run`, by its id or the beginning of it.
pub(super) async fn get(target: &Target, run: &str) -> Result<Value, Failure> {
    target.call("run_get", Map::from_iter([("run".to_owned(), run.into())])).await
}
