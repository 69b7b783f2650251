//! What a call means whose result didn't come: whether its server can have acted, and what is done about it.

use super::stop::explain;
use crate::domain::{OnInDoubt, ToolEffect};
use crate::error::{Error, ErrorKind};

/// Whether the server can have acted on a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acted {
    /// It answered, if only with an error or too much, or was never reached: there is nothing to decide.
    Known,
    /// The call left, and nobody can tell what became of it.
    Unknown,
}

/// What is done with a call whose outcome nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Make it again, with the same key.
    Again,
    /// Tell the model that it failed: it changed nothing.
    Tell,
    /// Tell the model that nobody knows.
    Skip,
    /// Park the run until somebody decides.
    Ask,
    /// End the run.
    Fail,
}

impl Acted {
    /// Judges a failure of [`Gateway::call`](crate::gateway::Gateway::call). A server's own error carries `rpc` in its details, and one of a
    /// call that reached nobody carries `acted: false`; of the rest, whatever isn't known to be harmless is in doubt.
    pub(super) fn by(error: &Error) -> Self {
        let is_answer = error.report().details.is_some_and(|details| details.get("rpc").is_some());
        let is_known = is_answer || is_unsent(error);
        match error.kind() {
            ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::Unavailable | ErrorKind::Internal if !is_known => {
                Self::Unknown
            }
            _ => Self::Known,
        }
    }
}

impl Verdict {
    /// `retried`: the call was made again already, in this execution, after its outcome got lost.
    pub(super) fn on(effect: ToolEffect, policy: OnInDoubt, retried: bool) -> Self {
        match (effect.is_repeatable(), policy) {
            (true, _) if retried => Self::Tell,
            (true, _) => Self::Again,
            (false, OnInDoubt::Retry) if !retried => Self::Again,
            (false, OnInDoubt::Retry | OnInDoubt::Ask) => Self::Ask,
            (false, OnInDoubt::Skip) => Self::Skip,
            (false, OnInDoubt::Fail) => Self::Fail,
        }
    }
}

/// Is it certain that the call never reached anybody who could act on it?
pub(super) fn is_unsent(error: &Error) -> bool {
    error.report().details.is_some_and(|details| details.get("acted") == Some(&false.into()))
}

/// Why a call has no result, for its step and the model.
pub(super) fn reason(error: &Error) -> String {
    let reason = explain(error);
    match error.kind() {
        ErrorKind::PayloadTooLarge => {
            format!(
                "{reason}. The call was made, and only its answer is lost: ask for less, and don't repeat what it may have changed"
            )
        }
        _ => reason,
    }
}

/// What the model is shown of a call whose outcome stays unknown.
pub(super) fn unknown(reason: &str) -> String {
    format!(
        "the outcome of this call is unknown: {reason}. It may or may not have taken effect; check before you repeat it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Effect;
    use serde_json::json;

    #[test]
    fn only_a_call_that_was_answered_or_never_left_is_no_doubt() {
        assert_eq!(Acted::by(&Error::unavailable("the connection ended")), Acted::Unknown);
        assert_eq!(Acted::by(&Error::timeout("no answer")), Acted::Unknown);
        assert_eq!(Acted::by(&Error::unavailable("boom").details(json!({ "rpc": { "code": -1 } }))), Acted::Known);
        assert_eq!(Acted::by(&Error::unavailable("not running").details(json!({ "acted": false }))), Acted::Known);
        assert_eq!(Acted::by(&Error::not_found("no such tool")), Acted::Known);
        assert_eq!(Acted::by(&Error::payload_too_large("64 MiB")), Acted::Known);
    }

    #[test]
    fn a_policy_decides_only_where_repeating_is_not_safe() {
        let read = ToolEffect { effect: Effect::Read, idempotent: false, open_world: false, trusted: true };
        let write = ToolEffect { effect: Effect::Write, ..read };
        for policy in [OnInDoubt::Ask, OnInDoubt::Retry, OnInDoubt::Skip, OnInDoubt::Fail] {
            assert_eq!(Verdict::on(read, policy, false), Verdict::Again);
            assert_eq!(Verdict::on(read, policy, true), Verdict::Tell);
        }
        assert_eq!(Verdict::on(write, OnInDoubt::Ask, false), Verdict::Ask);
        assert_eq!(Verdict::on(write, OnInDoubt::Retry, false), Verdict::Again);
        assert_eq!(Verdict::on(write, OnInDoubt::Retry, true), Verdict::Ask);
        assert_eq!(Verdict::on(write, OnInDoubt::Skip, false), Verdict::Skip);
        assert_eq!(Verdict::on(write, OnInDoubt::Fail, false), Verdict::Fail);
    }
}
