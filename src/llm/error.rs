//! Failures of providers: what kind, in whose words, and what to do about it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// A turn that could not be had. `message` names provider, model, status and reason; `hint` is the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    pub provider: String,
    pub model: String,
    /// The HTTP status, if an answer came.
    pub status: Option<u16>,
    pub kind: ProviderErrorKind,
    pub message: String,
    pub hint: Option<String>,
}

/// What went wrong, in the terms that decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderErrorKind {
    RateLimited,
    /// The key is missing, wrong, or may not do this.
    Auth,
    /// No credit, or a spend limit: waiting doesn't help.
    Billing,
    /// No such model or address.
    NotFound,
    BadRequest,
    /// The conversation is larger than the model's window or the provider's body limit.
    ContextOverflow,
    /// The provider failed or is overloaded.
    Server,
    /// No answer: name resolution, connection, TLS.
    Connection,
    /// The answer ended before its end marker.
    CutStream,
    /// The answer is not what the dialect says, or larger than what is accepted.
    Malformed,
    /// The deadline passed, or the provider was silent for too long.
    Timeout,
    Cancelled,
}

impl ProviderErrorKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Auth => "auth",
            Self::Billing => "billing",
            Self::NotFound => "not_found",
            Self::BadRequest => "bad_request",
            Self::ContextOverflow => "context_overflow",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::CutStream => "cut_stream",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for ProviderErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One attempt's failure, with the word on whether another one makes sense.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: ProviderError,
    pub(super) retry: Retry,
}

/// Whether and when an attempt may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Backoff,
    /// The provider named the time.
    After(Duration),
}

/// A provider's own report of an error, in any of the shapes that are met: `{"error":{"message","type","code"}}`, the same inside
/// `{"type":"error"}`, `{"error":"text"}`, `{"message"}`, `{"detail"}`, plain text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// `type`, `code`, `status`, Anthropic's `details.error_code` and the `reason`s of Google's details, as far as they are there.
    marks: Vec<String>,
    pub(super) message: String,
    /// How long to wait, where the report itself says it, as Google's do.
    pub(super) wait: Option<Duration>,
    /// A quota that is only full again tomorrow.
    daily: bool,
    /// What the prompt takes and what the server has for it, in tokens, where a report of an overflow says both, as llama-server's do.
    pub(super) window: Option<(u64, u64)>,
}

/// Longest report that is shown, in characters.
const SHOWN: usize = 600;

/// The longest code in a report, in bytes.
const LONGEST_MARK: usize = 64;

const BILLING: [&str; 7] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "enforced_spend_limit_reached",
    "spend_limit_exceeded",
];
/// Google's words for a key that it doesn't know, under status 400.
const WRONG_KEY: &str = "API_KEY_INVALID";
/// Google's word for every limit that is reached; its message speaks of quota and billing also where waiting helps.
const EXHAUSTED: &str = "RESOURCE_EXHAUSTED";
const OVERFLOW: [&str; 3] = ["context_length_exceeded", "exceed_context_size_error", "request_too_large"];
const BILLING_WORDS: [&str; 3] = ["credit balance is too low", "spend limit", "exceeded your current quota"];
const OVERFLOW_WORDS: [&str; 5] = [
    "prompt is too long",
    "maximum context length",
    "input token count",
    "exceeds the available context size",
    "input length exceeds the context length",
];

impl Fault {
    /// Reads a report out of a response body.
    pub(super) fn parse(body: &str) -> Self {
        match serde_json::from_str::<Value>(body) {
            Ok(value) => Self::from_value(&value),
            Err(_) => Self { marks: marks_in(body), ..Self::saying(shown(body)) },
        }
    }

    /// A report with nothing but a text.
    pub(super) fn saying(message: String) -> Self {
        Self { message, ..Self::default() }
    }

    /// Reads a report out of a JSON value: a whole body or its `error` member. Google's streams put it into a list.
    pub(super) fn from_value(value: &Value) -> Self {
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        let inner = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let mark = |found: Option<&Value>| match found {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let error_code = inner.get("details").and_then(|details| details.get("error_code"));
        let details = inner.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let reasons = details.iter().map(|detail| detail.get("reason"));
        // Beside an error that is a text.
        let beside = |key: &str| value.get(key).filter(|_| inner.is_string());
        let marks = [
            inner.get("type"),
            inner.get("code"),
            inner.get("status"),
            error_code,
            beside("status"),
            beside("status_code"),
        ];
        let marks = marks.into_iter().chain(reasons);
        let text = inner.as_str().or_else(|| inner.get("message")?.as_str()).or_else(|| value.get("detail")?.as_str());
        Self {
            marks: marks.filter_map(mark).collect(),
            message: text.map_or_else(|| shown(&inner.to_string()), shown),
            wait: details.iter().find_map(|detail| seconds(detail.get("retryDelay")?.as_str()?)),
            daily: details.iter().any(is_daily_quota),
            window: number(inner, "n_prompt_tokens").zip(number(inner, "n_ctx")),
        }
    }

    fn marked(&self, marks: &[&str]) -> bool {
        self.marks.iter().any(|mark| marks.contains(&mark.as_str()))
    }

    fn says(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// What this report means. The status may be absent: errors also come inside a stream that began with 200.
    pub(super) fn kind(&self, status: Option<u16>) -> ProviderErrorKind {
        if self.marked(&[EXHAUSTED]) {
            return if self.daily { ProviderErrorKind::Billing } else { ProviderErrorKind::RateLimited };
        }
        if status == Some(402) || self.marked(&BILLING) || self.says(&BILLING_WORDS) {
            return ProviderErrorKind::Billing;
        }
        if self.marked(&[WRONG_KEY]) {
            return ProviderErrorKind::Auth;
        }
        if status == Some(413) || self.marked(&OVERFLOW) || self.says(&OVERFLOW_WORDS) {
            return ProviderErrorKind::ContextOverflow;
        }
        if self.marked(&["model_not_found"]) {
            return ProviderErrorKind::NotFound;
        }
        match status {
            Some(401 | 403) => ProviderErrorKind::Auth,
            Some(404) => ProviderErrorKind::NotFound,
            Some(429) => ProviderErrorKind::RateLimited,
            Some(408 | 409) => ProviderErrorKind::Server,
            Some(500..) => ProviderErrorKind::Server,
            Some(300..) => ProviderErrorKind::BadRequest,
            _ => self.kind_by_mark(),
        }
    }

    fn kind_by_mark(&self) -> ProviderErrorKind {
        let kinds: [(&[&str], ProviderErrorKind); 4] = [
            (&["rate_limit_error", "rate_limit_exceeded", "429"], ProviderErrorKind::RateLimited),
            (&["authentication_error", "permission_error", "invalid_api_key", "401", "403"], ProviderErrorKind::Auth),
            (&["not_found_error", "model_not_found", "404"], ProviderErrorKind::NotFound),
            (&["invalid_request_error", "invalid_prompt", "400", "422"], ProviderErrorKind::BadRequest),
        ];
        let found = kinds.into_iter().find(|(marks, _)| self.marked(marks));
        found.map_or(ProviderErrorKind::Server, |(_, kind)| kind)
    }
}

/// The marks in the beginning of a report that was too long to be read: where there are none, in no JSON, it has none.
fn marks_in(beginning: &str) -> Vec<String> {
    if !beginning.trim_start().starts_with(['{', '[']) {
        return Vec::new();
    }
    let values = ["\"type\"", "\"code\"", "\"status\"", "\"error_code\"", "\"reason\""].into_iter().flat_map(|key| {
        beginning.split(key).skip(1).filter_map(|rest| {
            let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
            value.split_once('"').map(|(value, _)| value.to_owned())
        })
    });
    values.filter(|value| value.len() <= LONGEST_MARK).collect()
}

fn number(report: &Value, key: &str) -> Option<u64> {
    report.get(key)?.as_u64()
}

/// A protobuf duration, such as `13s` or `0.5s`.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}

fn is_daily_quota(detail: &Value) -> bool {
    let violations = detail.get("violations").and_then(Value::as_array).into_iter().flatten();
    violations.filter_map(|violation| violation.get("quotaId")?.as_str()).any(|id| id.contains("PerDay"))
}

/// Text of somebody else, bounded and on one line.
pub(super) fn shown(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = words.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if words.chars().count() > SHOWN {
        line.push('…');
    }
    if line.is_empty() { "(no text)".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: Option<u16>, body: &str) -> ProviderErrorKind {
        Fault::parse(body).kind(status)
    }

    #[test]
    fn money_is_told_from_rate_limits() {
        let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        assert_eq!(kind(Some(429), quota), ProviderErrorKind::Billing);
        let spend = r#"{"type":"error","error":{"type":"invalid_request_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        assert_eq!(kind(Some(400), spend), ProviderErrorKind::Billing);
        let rate =
            r#"{"error":{"message":"Rate limit reached","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
        assert_eq!(kind(Some(429), rate), ProviderErrorKind::RateLimited);
    }

    #[test]
    fn an_overflow_is_recognised_in_every_providers_words() {
        for body in [
            r#"{"error":{"message":"x","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}"#,
            r#"{"error":{"code":400,"type":"exceed_context_size_error","message":"m","n_prompt_tokens":9,"n_ctx":4}}"#,
            r#"{"error":"the input length exceeds the context length"}"#,
        ] {
            assert_eq!(kind(Some(400), body), ProviderErrorKind::ContextOverflow, "{body}");
        }
    }

    #[test]
    fn googles_reports_name_the_wait_the_wrong_key_and_the_quota_that_is_full_for_today() {
        let exhausted = |quota: &str| {
            let details = serde_json::json!([
                { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "quotaId": quota }] },
                { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s" },
            ]);
            let message = "You exceeded your current quota, please check your plan and billing details.";
            let error = serde_json::json!({ "code": 429, "status": EXHAUSTED, "message": message, "details": details });
            Fault::from_value(&serde_json::json!({ "error": error }))
        };
        let minute = exhausted("GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
        assert_eq!(
            (minute.kind(Some(429)), minute.kind(None)),
            (ProviderErrorKind::RateLimited, ProviderErrorKind::RateLimited)
        );
        assert_eq!(minute.wait, Some(Duration::from_millis(13_500)));
        let day = exhausted("GenerateRequestsPerDayPerProjectPerModel-FreeTier");
        assert_eq!(day.kind(Some(429)), ProviderErrorKind::Billing);
        let key = r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]"#;
        assert_eq!(kind(Some(400), key), ProviderErrorKind::Auth);
        let window = r#"{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (4).","status":"INVALID_ARGUMENT"}}"#;
        assert_eq!(kind(Some(400), window), ProviderErrorKind::ContextOverflow);
    }

    #[test]
    fn an_error_inside_a_stream_is_judged_by_its_type() {
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(kind(None, overloaded), ProviderErrorKind::Server);
        let invalid = r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad"}}"#;
        assert_eq!(kind(None, invalid), ProviderErrorKind::BadRequest);
        assert_eq!(kind(None, r#"{"error":{"code":429,"message":"slow down"}}"#), ProviderErrorKind::RateLimited);
    }

    #[test]
    fn every_shape_of_report_gives_its_text() {
        for (body, text) in [
            (r#"{"error":"no such model"}"#, "no such model"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"message":"m"}"#, "m"),
            ("<html>\n bad  gateway</html>", "<html> bad gateway</html>"),
            ("", "(no text)"),
        ] {
            assert_eq!(Fault::parse(body).message, text);
        }
    }
}
