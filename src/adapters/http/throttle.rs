//! How often a source may fail to log in.

use crate::domain::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures of one source within a window.
const MOST_FAILURES: u32 = 100;

const WINDOW: Duration = Duration::from_secs(60);

/// Sources that are told apart at one time; further ones share a window.
const MOST_SOURCES: usize = 4096;

/// Counts failures per source in fixed windows. A key that is right is never held back: 256 random bits need no help against guessing,
/// and a neighbour on the same address must not lock the owner out. What this bounds is the audit.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    windows: Mutex<HashMap<Option<IpAddr>, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    opened_at: Timestamp,
    failures: u32,
}

impl Throttle {
    /// Notes a failure. An error is the time until the source may fail again.
    pub(super) fn fail(&self, source: Option<IpAddr>, now: Timestamp) -> Result<(), Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST_SOURCES && !windows.contains_key(&source) {
            windows.retain(|_, window| now < window.opened_at + WINDOW);
        }
        let source = if windows.len() < MOST_SOURCES || windows.contains_key(&source) { source } else { None };
        let window = windows.entry(source).or_insert(Window { opened_at: now, failures: 0 });
        if now >= window.opened_at + WINDOW {
            *window = Window { opened_at: now, failures: 0 };
        }
        if window.failures >= MOST_FAILURES {
            return Err((window.opened_at + WINDOW).since(now));
        }
        window.failures += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u16) -> Option<IpAddr> {
        Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, last]))
    }

    #[test]
    fn a_source_is_held_back_until_its_window_is_over() {
        let (throttle, start) = (Throttle::default(), Timestamp::from_millis(0));
        for _ in 0..MOST_FAILURES {
            assert_eq!(throttle.fail(source(1), start), Ok(()));
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(throttle.fail(source(1), later), Err(Duration::from_secs(40)));
        assert_eq!(throttle.fail(source(2), later), Ok(()));
        assert_eq!(throttle.fail(source(1), start + WINDOW), Ok(()));
    }

    #[test]
    fn the_number_of_sources_is_bounded() {
        let (throttle, start) = (Throttle::default(), Timestamp::from_millis(0));
        for last in 0..5_000 {
            let _held_back = throttle.fail(source(last), start);
        }
        assert!(throttle.windows.lock().unwrap().len() <= MOST_SOURCES + 1);
        assert_eq!(throttle.fail(source(9_999), start + WINDOW), Ok(()));
        assert!(throttle.windows.lock().unwrap().len() <= 2);
    }
}
