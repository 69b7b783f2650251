//! Real time, the middle of many measurements, and how a target is printed and remembered.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The middle one of `times`, of which there is at least one, in milliseconds.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64() * 1e3
}

static MISSED: AtomicBool = AtomicBool::new(false);

/// The last column of a table: the target, and whether it `is` met.
pub(crate) fn target(text: &str, is: bool) -> String {
    MISSED.fetch_or(!is, Ordering::Relaxed);
    format!("{text}: {}", if is { "met" } else { "MISSED" })
}

/// How the program ends: a failure once a target was missed.
pub(crate) fn outcome() -> ExitCode {
    if MISSED.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
