//! `GET /runs/{run}/events` for whoever accepts `text/event-stream`: what happens to a run, as server-sent events. Everybody else gets the
//! answer of the tool, a page of what is stored, which ends. What is stored comes first, then what happens, without a gap and
//! without a repetition: the reader follows from before it reads the store, and leaves out what the store has told it already.
//!
//! `id:` is `epoch-seq`. Events that are only live (`model.delta`, `step.progress`) have no id; a reader that comes back has missed them.

use super::tool::{context, path_fields};
use super::{Problem, query_of};
use crate::adapters::http::Doors;
use crate::clock::{ClockExt, SharedClock};
use crate::domain::{Event, EventType, RunId, nearest};
use crate::error::{Error, Result};
use crate::events::{Followed, Follower};
use crate::store::Store;
use crate::tools::{Act, Answer, dispatch};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The tool whose route this is.
pub(super) const TOOL: &str = "run_events";

pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// A comment this often keeps proxies from cutting a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events that are read from the store at a time.
const PAGE: u32 = 200;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The last event that a reader has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    /// Unknown when only a number was given.
    epoch: Option<i64>,
    seq: i64,
}

/// Where a reader stands towards the stored events.
#[derive(Debug, PartialEq)]
enum Standing {
    /// Its last event is stored, or it has none.
    Behind,
    /// It has seen the run's last event.
    Finished,
    /// It has seen what no longer is: the history that it followed was lost with an epoch that never committed.
    Ahead,
}

/// Whether the request names the stream among what it accepts. `*/*`, which most clients send unasked, doesn't.
pub(super) fn is_stream_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    let mut kinds = accepted.flat_map(|accepted| accepted.split(',')).filter_map(|range| range.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM))
}

/// Answers with the events as they happen.
pub(super) async fn follow(doors: &Doors, request: Request) -> Response {
    match open(doors, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn open(doors: &Doors, mut request: Request) -> Result<Response, Problem> {
    let ctx = context(request.extensions())?;
    let position = position_of(request.headers(), &query_of(request.uri())?)?;
    let path = path_fields(&mut request).await?;
    let run = path.into_iter().find(|(name, _)| name == "run").map(|(_, run)| run).unwrap_or_default();
    let Answer::Following { run, environment, follower } =
        dispatch(&doors.station, ctx, Act::Subscribe { run }).await?
    else {
        return Err(Error::internal("following a run was answered with something else").into());
    };
    let store = Arc::clone(&environment.store);
    let standing = standing(&*store, run, position).await?;
    if standing == Standing::Finished {
        // The one status after which an `EventSource` doesn't come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut feed = Feed::new(run, store, follower, doors.station.clock.clone(), doors.stopping().clone());
    match standing {
        Standing::Ahead => feed.rewind(position).await?,
        _ => feed.seq = position.seq,
    }
    let frames =
        stream::unfold(feed, async |mut feed| feed.next().await.map(|frame| (Ok::<_, Infallible>(frame), feed)));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// `Last-Event-ID` goes before `?after=`: a browser that reconnects repeats its first address.
fn position_of(headers: &HeaderMap, query: &[(String, String)]) -> Result<Position> {
    if let Some((unknown, _)) = query.iter().find(|(name, _)| name != "after") {
        let error = Error::invalid_input(format!("a stream of events has no query field `{}`", unknown.escape_debug()))
            .field(unknown);
        return Err(match nearest(unknown, ["after"]) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint(
                "it takes `after`; a page of what is stored takes more, and comes without `Accept: text/event-stream`",
            ),
        });
    }
    let (text, field) = match (headers.get(LAST_EVENT_ID), query) {
        (Some(id), _) => (id.to_str().unwrap_or("\u{fffd}"), "Last-Event-ID"),
        (None, [(_, after)]) => (after.as_str(), "after"),
        (None, []) => return Ok(Position::default()),
        (None, _) => return Err(Error::invalid_input("`after` is given twice").field("after")),
    };
    parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(80).collect();
        Error::invalid_input(format!("`{field}` is `{}`", shown.escape_debug()))
            .hint("give the `id` of an event, such as `1-7`, or its `seq`")
            .field(field)
    })
}

fn parse(text: &str) -> Option<Position> {
    let (epoch, seq) = match text.split_once('-') {
        Some((epoch, seq)) => (Some(epoch.parse().ok().filter(|epoch| *epoch >= 0)?), seq),
        None => (None, text),
    };
    Some(Position { epoch, seq: seq.parse().ok().filter(|seq| *seq >= 0)? })
}

async fn standing(store: &dyn Store, run: RunId, position: Position) -> Result<Standing> {
    if position.seq == 0 {
        return Ok(Standing::Behind);
    }
    let seen = store.events_after(run, position.seq - 1, 1).await?.into_iter().find(|event| event.seq == position.seq);
    Ok(match seen {
        Some(event) if position.epoch.is_some_and(|epoch| epoch != event.epoch) => Standing::Ahead,
        Some(event) if event.r#type.is_terminal() => Standing::Finished,
        Some(_) => Standing::Behind,
        None => Standing::Ahead,
    })
}

/// One reader's stream.
struct Feed {
    run: RunId,
    store: Arc<dyn Store>,
    follower: Follower,
    clock: SharedClock,
    stopping: CancellationToken,
    /// The last stored event that the reader has, or will have after `waiting`.
    seq: i64,
    /// Steps that have ended for this reader: what is still told of them was told before.
    over: BTreeSet<i64>,
    /// Read and not yet sent.
    waiting: VecDeque<Event>,
    /// The store may hold more than what was read.
    unread: bool,
    ended: bool,
}

impl Feed {
    fn new(
        run: RunId,
        store: Arc<dyn Store>,
        follower: Follower,
        clock: SharedClock,
        stopping: CancellationToken,
    ) -> Self {
        let (over, waiting) = (BTreeSet::new(), VecDeque::new());
        Self { run, store, follower, clock, stopping, seq: 0, over, waiting, unread: true, ended: false }
    }

    /// Tells the reader to forget what it has, and starts over.
    async fn rewind(&mut self, from: Position) -> Result<()> {
        let first = self.store.events_after(self.run, 0, 1).await?;
        let epoch = first.first().map_or(0, |event| event.epoch);
        self.waiting.push_back(Event {
            run_id: self.run,
            epoch,
            seq: 0,
            r#type: EventType::RunRewound,
            at: self.clock.now(),
            data: json!({ "seen": { "epoch": from.epoch, "seq": from.seq } }),
        });
        Ok(())
    }

    /// The next piece of the stream. `None` at its end: the run has ended, the station stops, or the store can't be read.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.ended |= event.r#type.is_terminal();
                return Some(frame(&event));
            }
            if self.ended {
                return None;
            }
            if self.unread {
                self.read().await?;
                continue;
            }
            let keep_alive = self.clock.sleep(KEEP_ALIVE);
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                followed = self.follower.next() => self.take(followed),
                () = keep_alive => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }

    /// Takes up the next page of stored events.
    async fn read(&mut self) -> Option<()> {
        let read = self.store.events_after(self.run, self.seq, PAGE).await;
        let events = read.inspect_err(|error| tracing::error!(?error, run = %self.run, "events can't be read")).ok()?;
        self.unread = events.len() == PAGE as usize;
        events.into_iter().for_each(|event| self.tell(event));
        Some(())
    }

    /// A stored event, in turn.
    fn tell(&mut self, event: Event) {
        self.seq = event.seq;
        match (event.r#type, step_of(&event)) {
            (EventType::StepStarted, Some(step)) => _ = self.over.remove(&step),
            (EventType::StepCompleted | EventType::StepFailed, Some(step)) => _ = self.over.insert(step),
            _ => {}
        }
        self.waiting.push_back(event);
    }

    /// Takes up what was published. Stored events that come out of turn are read from the store, in turn.
    fn take(&mut self, followed: Followed) {
        let Followed::Event(event) = followed else {
            self.unread = true;
            return;
        };
        if event.r#type.is_transient() {
            if step_of(&event).is_none_or(|step| !self.over.contains(&step)) {
                self.waiting.push_back(event);
            }
        } else if event.seq == self.seq + 1 {
            self.tell(event);
        } else if event.seq > self.seq {
            self.unread = true;
        }
    }
}

/// The step that an event tells of.
fn step_of(event: &Event) -> Option<i64> {
    // What is stored has the whole step.
    let step = event.data.get("step")?;
    step.get("seq").unwrap_or(step).as_i64()
}

fn frame(event: &Event) -> Bytes {
    // JSON has no raw line breaks, so one `data` line holds it.
    let data = serde_json::to_string(event).unwrap_or_default();
    let name = event.r#type.as_str();
    let text = if event.r#type.is_transient() {
        format!("event: {name}\ndata: {data}\n\n")
    } else {
        format!("event: {name}\nid: {}-{}\ndata: {data}\n\n", event.epoch, event.seq)
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(last_event_id: Option<&'static str>, after: &[&str]) -> Result<Position> {
        let id = last_event_id.map(|id| (LAST_EVENT_ID, HeaderValue::from_static(id)));
        let query: Vec<_> = after.iter().map(|after| ("after".to_owned(), (*after).to_owned())).collect();
        position_of(&id.into_iter().collect(), &query)
    }

    #[test]
    fn the_last_event_id_goes_before_the_address() {
        assert_eq!(given(None, &[]).unwrap(), Position::default());
        assert_eq!(given(None, &["7"]).unwrap(), Position { epoch: None, seq: 7 });
        assert_eq!(given(Some("2-9"), &["7"]).unwrap(), Position { epoch: Some(2), seq: 9 });
        for bad in ["x", "-1", "1-", "1-x", "1--2", ""] {
            assert!(given(Some(bad), &[]).is_err(), "{bad}");
        }
        assert!(given(None, &["1", "2"]).is_err());
    }

    #[test]
    fn the_stream_is_for_those_who_name_it() {
        let wanted = |accepted: &[&'static str]| {
            let accepted = accepted.iter().map(|accepted| (header::ACCEPT, HeaderValue::from_static(accepted)));
            is_stream_wanted(&accepted.collect())
        };
        for stream in ["text/event-stream", "Text/Event-Stream;q=0.9, */*", "application/json, text/event-stream"] {
            assert!(wanted(&[stream]), "{stream}");
        }
        assert!(wanted(&["application/json", "text/event-stream"]));
        for page in [&[][..], &["*/*"], &["application/json"], &["text/*"], &["text/event-streams"]] {
            assert!(!wanted(page), "{page:?}");
        }
    }

    #[test]
    fn an_unknown_query_field_names_the_known_one() {
        let error = position_of(&HeaderMap::new(), &[("aftr".into(), "1".into())]).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean `after`?"));
    }
}
