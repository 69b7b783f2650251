//! How often somebody may fail within a minute.

use crate::domain::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(60);

/// Who fails that are told apart at one time; further ones share a window.
const MOST_APART: usize = 4096;

/// What the last row of a minute says.
pub const NOTHING_FURTHER: &str = " (further denials of this minute aren't recorded)";

/// Counts failures per key in fixed windows of a minute. What this bounds is the audit: whoever does what they may is never held back.
#[derive(Debug)]
pub struct Throttle<K> {
    most: u32,
    windows: Mutex<HashMap<Option<K>, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    opened_at: Timestamp,
    failures: u32,
}

impl<K: Hash + Eq> Throttle<K> {
    /// So many failures within a minute.
    pub fn new(most: u32) -> Self {
        Self { most, windows: Mutex::default() }
    }

    /// Notes a failure, and answers how many more there may be in this minute. An error is the time until there may be one again.
    pub fn fail(&self, who: Option<K>, now: Timestamp) -> Result<u32, Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST_APART && !windows.contains_key(&who) {
            windows.retain(|_, window| now < window.opened_at + WINDOW);
        }
        let who = if windows.len() < MOST_APART || windows.contains_key(&who) { who } else { None };
        let window = windows.entry(who).or_insert(Window { opened_at: now, failures: 0 });
        if now >= window.opened_at + WINDOW {
            *window = Window { opened_at: now, failures: 0 };
        }
        let Some(left) = self.most.checked_sub(window.failures + 1) else {
            return Err((window.opened_at + WINDOW).since(now));
        };
        window.failures += 1;
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn source(last: u16) -> Option<IpAddr> {
        Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, last]))
    }

    #[test]
    fn a_source_is_held_back_until_its_window_is_over() {
        let (throttle, start) = (Throttle::new(3), Timestamp::from_millis(0));
        for left in [2, 1, 0] {
            assert_eq!(throttle.fail(source(1), start), Ok(left));
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(throttle.fail(source(1), later), Err(Duration::from_secs(40)));
        assert_eq!(throttle.fail(source(2), later), Ok(2));
        assert_eq!(throttle.fail(source(1), start + WINDOW), Ok(2));
    }

    #[test]
    fn the_number_of_sources_is_bounded() {
        let (throttle, start) = (Throttle::new(100), Timestamp::from_millis(0));
        for last in 0..5_000 {
            let _held_back = throttle.fail(source(last), start);
        }
        assert!(throttle.windows.lock().unwrap().len() <= MOST_APART + 1);
        assert_eq!(throttle.fail(source(9_999), start + WINDOW), Ok(99));
        assert!(throttle.windows.lock().unwrap().len() <= 2);
    }
}
