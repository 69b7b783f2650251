//! Who is here: what tells a background owner that nobody needs it any more.

use crate::clock::SharedClock;
use crate::domain::Timestamp;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// Counts open requests and streams. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Activity {
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    open: usize,
    latest: Timestamp,
}

/// Somebody is here until this is dropped.
#[derive(Debug)]
pub struct Active(Activity);

impl Activity {
    /// Counts from now on, as if somebody had just left.
    pub fn new(clock: SharedClock) -> Self {
        let latest = clock.now();
        Self { clock, state: Arc::new(Mutex::new(State { open: 0, latest })) }
    }

    /// Somebody came.
    pub fn enter(&self) -> Active {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
        Active(self.clone())
    }

    /// Somebody has shown that they are there.
    pub(super) fn seen(&self) {
        let now = self.clock.now();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).latest = now;
    }

    /// Since when nobody is here; `None` while somebody is.
    pub fn idle_since(&self) -> Option<Timestamp> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.open == 0).then_some(state.latest)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open = state.open.saturating_sub(1);
        state.latest = now;
    }
}

impl Active {
    /// A body that keeps this until it has been sent or given up.
    pub(super) fn during(self, body: Body) -> Body {
        Body::new(Counted { body, _active: self })
    }
}

struct Counted {
    body: Body,
    _active: Active,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn nobody_is_here_once_the_last_body_is_gone() {
        let clock = ManualClock::at(Timestamp::from_millis(1_000));
        let activity = Activity::new(clock.clone());
        assert_eq!(activity.idle_since(), Some(Timestamp::from_millis(1_000)));
        let (one, body) = (activity.enter(), activity.enter().during(Body::from("x")));
        assert_eq!(HttpBody::size_hint(&body).exact(), Some(1));
        drop(one);
        assert_eq!(activity.idle_since(), None);
        clock.advance(Duration::from_secs(1));
        drop(body);
        assert_eq!(activity.idle_since(), Some(Timestamp::from_millis(2_000)));
    }
}
