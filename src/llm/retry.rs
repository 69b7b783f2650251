//! Whether and when a failed attempt is made again. The rules are pure; [`exchange`] is the loop that follows them.
//!
//! - At most [`MAX_ATTEMPTS`] attempts, after rate limits, server errors, lost connections, cut streams and silence. Never after a
//!   refusal that would be the same again (400, 401, 403, 404, 413, 422) or about money. `x-should-retry` overrules that, both ways.
//! - The wait is what the provider says (`retry-after-ms`, `Retry-After` in seconds or as an HTTP date) up to [`LONGEST_WAIT`], plus a
//!   little jitter; a longer one ends the turn and is named. Else, also where it says 0 or a time that has passed, half a second, doubled
//!   each time up to 8 s, less up to a quarter.
//! - A wait that would reach the deadline is not begun: the caller gets the real error while it can still use it.
//! - All calls to one provider share a [`RetryBudget`], so that many runs together don't beat a provider that is down. A wait that the
//!   provider names takes nothing from it: whoever keeps to it doesn't beat.
//! - The sink is told of every attempt that is made again, and that what was already shown of it is void.

use super::ProviderErrorKind;
use super::body::Assembly;
use super::error::{Failure, ProviderError, Retry};
use super::turn::{FailedAttempt, TurnLimits, TurnReply, TurnSink};
use super::wire::{Call, Endpoint};
use crate::clock::ClockExt;
use crate::domain::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(super) const MAX_ATTEMPTS: u32 = 4;
/// The longest wait that a provider may ask for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(120);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
const NAMED_WAIT_JITTER: Duration = Duration::from_millis(250);

/// How long to wait before the next attempt; `None` = don't. `attempt` counts those made, `jitter` is random in `0.0..1.0`, `left` the
/// time to the deadline.
pub(super) fn next_wait(retry: Retry, attempt: u32, jitter: f64, left: Option<Duration>) -> Option<Duration> {
    if attempt >= MAX_ATTEMPTS {
        return None;
    }
    let wait = match retry {
        Retry::Never => return None,
        Retry::After(named) if named > LONGEST_WAIT => return None,
        Retry::After(named) => named + NAMED_WAIT_JITTER.mul_f64(jitter),
        Retry::Backoff => {
            let doubled = FIRST_BACKOFF * 2_u32.saturating_pow(attempt.saturating_sub(1));
            doubled.min(LONGEST_BACKOFF).mul_f64(1.0 - 0.25 * jitter)
        }
    };
    left.is_none_or(|left| wait < left).then_some(wait)
}

/// What a kind of failure allows. The wait is named by the headers, or else by the `report` itself.
pub(super) fn allowed(
    kind: ProviderErrorKind,
    headers: Option<&HeaderMap>,
    report: Option<Duration>,
    now: Timestamp,
) -> Retry {
    let worth_it = matches!(
        kind,
        ProviderErrorKind::RateLimited
            | ProviderErrorKind::Server
            | ProviderErrorKind::Connection
            | ProviderErrorKind::CutStream
            | ProviderErrorKind::Timeout
    );
    // The provider's own word counts for more than the kind.
    let worth_it = match headers.and_then(|headers| headers.get("x-should-retry")).map(|value| value.as_bytes()) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => worth_it,
    };
    if !worth_it {
        return Retry::Never;
    }
    let named = headers.and_then(|headers| named_wait(headers, now));
    let is_a_wait = |wait: &Duration| !wait.is_zero();
    named.filter(is_a_wait).or(report.filter(is_a_wait)).map_or(Retry::Backoff, Retry::After)
}

/// The wait that a response names, if it names a sensible one.
fn named_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok()).map(|ms| ms / 1000.0);
    let after = text(RETRY_AFTER.as_str());
    let seconds = millis.or_else(|| after?.parse::<f64>().ok());
    if let Some(seconds) = seconds {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(after?).ok()?;
    Some(Timestamp::from_millis(date.as_millisecond()).since(now))
}

/// Twenty retries at once, then one every three seconds, over all calls to a provider.
#[derive(Debug)]
pub struct RetryBudget {
    state: Mutex<(f64, Timestamp)>,
}

impl RetryBudget {
    const FULL: f64 = 20.0;
    const SECONDS_PER_RETRY: f64 = 3.0;

    /// Takes one retry out, if one is there.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = now.since(state.1).as_secs_f64() / Self::SECONDS_PER_RETRY;
        let tokens = (state.0 + grown).min(Self::FULL);
        let granted = tokens >= 1.0;
        *state = (if granted { tokens - 1.0 } else { tokens }, now);
        granted
    }
}

impl Default for RetryBudget {
    /// A full one, whatever the time is when it is first asked.
    fn default() -> Self {
        Self { state: Mutex::new((Self::FULL, Timestamp::from_millis(0))) }
    }
}

/// A sink that remembers whether anything was shown.
pub(super) struct Watched<'a> {
    sink: &'a mut dyn TurnSink,
    shown: bool,
}

impl TurnSink for Watched<'_> {
    fn text(&mut self, delta: &str) {
        self.shown = true;
        self.sink.text(delta);
    }

    fn failed(&mut self, attempt: &FailedAttempt) {
        self.sink.failed(attempt);
    }

    fn restarted(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.sink.restarted();
        }
    }
}

/// Sends `call` until a whole reply is there, no retry is allowed, time is up, or the caller calls it off. The error of a model that isn't
/// there names those that are.
pub(super) async fn exchange<A: Assembly>(
    endpoint: &Endpoint,
    call: &Call<'_>,
    fresh: &(dyn Fn() -> A + Send + Sync),
    sink: &mut dyn TurnSink,
    limits: &TurnLimits,
) -> Result<TurnReply, ProviderError> {
    let overdue = async {
        match limits.deadline {
            Some(at) => endpoint.clock().sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let done = tokio::select! {
        biased;
        () = limits.cancel.cancelled() => {
            Err(endpoint.error(call.model, None, ProviderErrorKind::Cancelled, "the call was cancelled"))
        }
        () = overdue => {
            Err(endpoint.error(call.model, None, ProviderErrorKind::Timeout, "the deadline passed before the answer was complete"))
        }
        done = attempts(endpoint, call, fresh, sink, limits.deadline) => done,
    };
    match done {
        Err(error) => Err(endpoint.with_known_models(error, call.models, &limits.cancel).await),
        done => done,
    }
}

async fn attempts<A: Assembly>(
    endpoint: &Endpoint,
    call: &Call<'_>,
    fresh: &(dyn Fn() -> A + Send + Sync),
    sink: &mut dyn TurnSink,
    deadline: Option<Timestamp>,
) -> Result<TurnReply, ProviderError> {
    let mut sink = Watched { sink, shown: false };
    let mut attempt = 1;
    loop {
        let Failure { error, retry } = match endpoint.once(call, fresh(), &mut sink).await {
            Ok(reply) => return Ok(TurnReply { wire_attempts: attempt, ..reply }),
            Err(failure) => failure,
        };
        let now = endpoint.clock().now();
        let wait = next_wait(retry, attempt, random_fraction(), deadline.map(|at| at.since(now)));
        let Some(wait) = wait else { return Err(given_up(error, retry, attempt)) };
        if retry == Retry::Backoff && !endpoint.budget().take(now) {
            return Err(out_of_retries(given_up(error, retry, attempt)));
        }
        tracing::warn!(provider = %error.provider, model = %error.model, kind = %error.kind, attempt,
            wait_ms = wait.as_millis(), "the model call failed and is made again");
        sink.failed(&FailedAttempt { error, attempt, most: MAX_ATTEMPTS, wait });
        endpoint.clock().sleep(wait).await;
        sink.restarted();
        attempt += 1;
    }
}

fn given_up(mut error: ProviderError, retry: Retry, attempts: u32) -> ProviderError {
    if attempts > 1 {
        error.message = format!("{} (after {attempts} attempts)", error.message);
    }
    if let Retry::After(wait) = retry {
        let fix = error.hint.unwrap_or_else(|| "run it again after that".to_owned());
        error.hint = Some(format!("the provider asks to wait {} s; {fix}", wait.as_secs_f64().ceil()));
    }
    error
}

/// Says that it was a limit of ours, and no other.
fn out_of_retries(mut error: ProviderError) -> ProviderError {
    let fix = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    error.hint =
        Some(format!("many calls to `{}` fail at the moment, and they share their retries{fix}", error.provider));
    error.message = format!("{} (no retry is left)", error.message);
    error
}

/// Spreads retries of many callers. Without operating-system randomness they are merely not spread.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use reqwest::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn backoff_doubles_up_to_a_cap_and_ends_after_the_last_attempt() {
        let wait = |attempt, jitter| next_wait(Retry::Backoff, attempt, jitter, None);
        assert_eq!(wait(1, 0.0), Some(Duration::from_millis(500)));
        assert_eq!(wait(2, 0.0), Some(Duration::from_secs(1)));
        assert_eq!(wait(3, 0.0), Some(Duration::from_secs(2)));
        assert_eq!(wait(3, 1.0), Some(Duration::from_millis(1_500)));
        assert_eq!(wait(MAX_ATTEMPTS, 0.0), None);
    }

    #[test]
    fn a_wait_past_the_deadline_or_past_reason_is_not_begun() {
        let after = Retry::After(Duration::from_secs(10));
        assert_eq!(next_wait(after, 1, 0.0, Some(Duration::from_secs(11))), Some(Duration::from_secs(10)));
        assert_eq!(next_wait(after, 1, 0.0, Some(Duration::from_secs(10))), None);
        assert_eq!(next_wait(Retry::After(Duration::from_secs(121)), 1, 0.0, None), None);
        assert_eq!(next_wait(Retry::Never, 1, 0.0, None), None);
    }

    #[test]
    fn the_named_wait_is_read_in_every_form() {
        let now = Timestamp::from_millis(1_445_412_470_000);
        let allowed = |pairs: &[(&'static str, &'static str)]| {
            allowed(ProviderErrorKind::RateLimited, Some(&headers(pairs)), None, now)
        };
        assert_eq!(allowed(&[("retry-after", "2")]), Retry::After(Duration::from_secs(2)));
        assert_eq!(
            allowed(&[("retry-after", "2"), ("retry-after-ms", "150")]),
            Retry::After(Duration::from_millis(150))
        );
        assert_eq!(allowed(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Retry::After(Duration::from_secs(10)));
        assert_eq!(allowed(&[("retry-after", "soon")]), Retry::Backoff);
        assert_eq!(allowed(&[("retry-after", "-1")]), Retry::Backoff);
        for at_once in ["0", "0.0", "Wed, 21 Oct 2015 07:27:00 GMT", "Wed, 21 Oct 2015 07:27:50 GMT"] {
            assert_eq!(allowed(&[("retry-after", at_once)]), Retry::Backoff, "{at_once}");
        }
        assert_eq!(allowed(&[("retry-after-ms", "0")]), Retry::Backoff);
        assert_eq!(allowed(&[("retry-after", "2"), ("x-should-retry", "false")]), Retry::Never);
        for kind in [ProviderErrorKind::BadRequest, ProviderErrorKind::NotFound] {
            let asked = headers(&[("x-should-retry", "true"), ("retry-after", "2")]);
            let after = Retry::After(Duration::from_secs(2));
            assert_eq!(super::allowed(kind, Some(&asked), None, now), after, "the provider knows better: {kind}");
        }
        let report = Some(Duration::from_secs(13));
        let limited = |headers: &HeaderMap| super::allowed(ProviderErrorKind::RateLimited, Some(headers), report, now);
        assert_eq!(limited(&headers(&[])), Retry::After(Duration::from_secs(13)));
        assert_eq!(limited(&headers(&[("retry-after", "0")])), Retry::After(Duration::from_secs(13)));
        let at_once = super::allowed(ProviderErrorKind::RateLimited, None, Some(Duration::ZERO), now);
        assert_eq!(at_once, Retry::Backoff);
        assert_eq!(limited(&headers(&[("retry-after", "2")])), Retry::After(Duration::from_secs(2)));
    }

    #[test]
    fn refusals_and_money_are_final() {
        let now = Timestamp::from_millis(0);
        let polite = headers(&[("retry-after", "1")]);
        for kind in [
            ProviderErrorKind::Billing,
            ProviderErrorKind::Auth,
            ProviderErrorKind::BadRequest,
            ProviderErrorKind::NotFound,
            ProviderErrorKind::ContextOverflow,
            ProviderErrorKind::Malformed,
        ] {
            assert_eq!(allowed(kind, Some(&polite), Some(Duration::from_secs(1)), now), Retry::Never, "{kind}");
        }
        assert_eq!(allowed(ProviderErrorKind::CutStream, None, None, now), Retry::Backoff);
    }

    #[test]
    fn whoever_gives_up_names_the_wait_and_what_helps() {
        let error = |hint: Option<&str>| ProviderError {
            provider: "p".into(),
            model: "m".into(),
            status: Some(429),
            kind: ProviderErrorKind::RateLimited,
            message: "limited".into(),
            hint: hint.map(str::to_owned),
        };
        let after = Retry::After(Duration::from_millis(1_200));
        let given = given_up(error(Some("run fewer agents at once")), after, 4);
        assert_eq!(given.message, "limited (after 4 attempts)");
        assert_eq!(given.hint.unwrap(), "the provider asks to wait 2 s; run fewer agents at once");
        let bare = given_up(error(None), after, 1).hint.unwrap();
        assert_eq!(bare, "the provider asks to wait 2 s; run it again after that");
    }

    #[test]
    fn the_budget_runs_dry_and_grows_back_with_time() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let budget = RetryBudget::default();
        let granted = (0..30).filter(|_| budget.take(clock.now())).count();
        assert_eq!(granted, 20);
        clock.advance(Duration::from_secs(3));
        assert!(budget.take(clock.now()) && !budget.take(clock.now()));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!((0..30).filter(|_| budget.take(clock.now())).count(), 20);
    }
}
