//! What the pipe remembers of a client's session, so that a new owner can be told, and a lost request answered. No IO: lines in, lines
//! out.

use super::envelope::{Envelope, Salvaged, Stamped, salvage};
use super::kept::Kept;
use super::words;
use crate::domain::to_hex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How often one `agent_run` is sent before it is taken for the cause of the owner's end.
const MOST_SENDS: u32 = 3;

/// The session of one client over any number of owners. Lines have no line end here.
#[derive(Debug, Default)]
pub(super) struct Session {
    kept: Kept,
    /// The client's requests without an answer, oldest first.
    pending: Vec<Pending>,
    /// Ids of replayed requests, whose answers the client has had already.
    swallow: BTreeSet<String>,
    /// The replayed `initialize` whose answer must come before anything else is sent.
    awaiting: Option<String>,
    held: Vec<String>,
    replays: u64,
    /// The present owner's requests that the client hasn't answered: normal id and its spelling.
    asked: BTreeMap<String, String>,
    /// Such requests of owners that are gone.
    abandoned: BTreeSet<String>,
}

#[derive(Debug)]
struct Pending {
    key: String,
    /// As the client spelled it.
    id: String,
    recovery: Recovery,
}

/// What becomes of a request whose owner went away.
#[derive(Debug)]
enum Recovery {
    /// It goes to the next owner: it can't happen twice.
    Resend { line: String, sends: u32 },
    /// Nobody knows whether it happened.
    Answer,
}

/// Why there will be no answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum GivenUp {
    /// The client has closed its end, and answers were waited for.
    ClientClosed,
    NoOwner,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is passed on as it is.
    Pass,
    /// This is passed on in its place.
    Replace(String),
    /// It goes no further.
    Drop,
}

impl Session {
    /// A line from the client. After this the session knows it, whether it reaches the owner or not.
    pub(super) fn client_says(&mut self, line: &str) -> Fate {
        let Some(envelope) = Envelope::parse(line) else { return Fate::Pass };
        match (envelope.method(), envelope.id_key()) {
            (Some(method), Some(key)) => self.client_request(line, &envelope, method, key),
            (Some(method), None) => {
                self.client_notification(line, &envelope, method);
                Fate::Pass
            }
            (None, Some(key)) => {
                self.asked.remove(&key);
                if self.abandoned.remove(&key) { Fate::Drop } else { Fate::Pass }
            }
            (None, None) => Fate::Pass,
        }
    }

    fn client_request(&mut self, line: &str, envelope: &Envelope<'_>, method: &str, key: String) -> Fate {
        let mut fate = Fate::Pass;
        let keep = || Recovery::Resend { line: line.to_owned(), sends: 1 };
        let is_agent_run = method == "tools/call" && envelope.text_param("name").as_deref() == Some("agent_run");
        let recovery = if self.kept.request(line, envelope, method) {
            keep()
        } else if is_agent_run {
            match stamp(line, envelope) {
                Stamped::Already => keep(),
                Stamped::Now(stamped) => {
                    fate = Fate::Replace(stamped.clone());
                    Recovery::Resend { line: stamped, sends: 1 }
                }
                Stamped::Impossible => Recovery::Answer,
            }
        } else {
            Recovery::Answer
        };
        let id = envelope.id.map_or_else(|| key.clone(), |id| id.get().to_owned());
        self.pending.push(Pending { key, id, recovery });
        fate
    }

    fn client_notification(&mut self, line: &str, envelope: &Envelope<'_>, method: &str) {
        match method {
            "notifications/initialized" => self.kept.initialized = Some(line.to_owned()),
            // A cancelled request may go unanswered, and must not be sent again.
            "notifications/cancelled" => {
                if let Some(key) = envelope.cancelled_key() {
                    self.pending.retain(|pending| pending.key != key);
                }
            }
            _ => {}
        }
    }

    /// A line from the owner. Afterwards [`Session::released`] may have lines for it.
    pub(super) fn owner_says(&mut self, line: &str) -> Fate {
        let Some(envelope) = Envelope::parse(line) else { return Fate::Pass };
        match (envelope.method(), envelope.id_key()) {
            (Some(_), Some(key)) => {
                self.abandoned.remove(&key);
                let id = envelope.id.map_or_else(|| key.clone(), |id| id.get().to_owned());
                self.asked.insert(key, id);
                Fate::Pass
            }
            (Some("notifications/cancelled"), None) => {
                if let Some(key) = envelope.cancelled_key() {
                    self.asked.remove(&key);
                }
                Fate::Pass
            }
            (None, Some(key)) => self.owner_answer(&key, envelope.is_error()),
            _ => Fate::Pass,
        }
    }

    fn owner_answer(&mut self, key: &str, is_error: bool) -> Fate {
        if self.awaiting.as_deref() == Some(key) {
            self.awaiting = None;
        }
        if self.swallow.remove(key) {
            if is_error {
                tracing::warn!(id = key, "the new station refused a part of the client's session");
            }
            return Fate::Drop;
        }
        if let Some(at) = self.pending.iter().position(|pending| pending.key == key) {
            let answered = self.pending.remove(at);
            if let (true, Recovery::Resend { line, .. }) = (is_error, answered.recovery) {
                self.kept.forget(&line);
            }
        }
        Fate::Pass
    }

    /// A line that was too long to pass on, and where it came from. The answer for the client, if it waits for one.
    pub(super) fn too_long(&mut self, beginning: &[u8], from_owner: bool) -> Option<String> {
        let Salvaged { id, has_method } = salvage(beginning);
        if !from_owner {
            return Some(words::request_too_long(id.as_deref().unwrap_or("null")));
        }
        let key = id.filter(|_| !has_method)?;
        let at = self.pending.iter().position(|pending| pending.key == key)?;
        Some(words::answer_too_long(&self.pending.remove(at).id))
    }

    /// The owner is gone. Returns what the client must be told: errors for the requests that can't be sent again, and the withdrawal of
    /// what the owner had asked of it.
    pub(super) fn lost(&mut self) -> Vec<String> {
        self.swallow.clear();
        self.held.clear();
        self.awaiting = None;
        let mut lines = Vec::new();
        for (key, id) in std::mem::take(&mut self.asked) {
            lines.push(words::withdrawal(&id));
            self.abandoned.insert(key);
        }
        let (again, unknown): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| matches!(pending.recovery, Recovery::Resend { sends, .. } if sends < MOST_SENDS));
        self.pending = again;
        lines.extend(unknown.iter().map(|pending| words::interrupted(&pending.id)));
        lines
    }

    /// Errors for everything without an answer: there will be no other owner.
    pub(super) fn give_up(&mut self, why: GivenUp) -> Vec<String> {
        let tell = match why {
            GivenUp::ClientClosed => words::closed,
            GivenUp::NoOwner => words::abandoned,
        };
        std::mem::take(&mut self.pending).iter().map(|pending| tell(&pending.id)).collect()
    }

    /// What a new owner is told at once. If that is the `initialize` of the session, the rest comes out of [`Session::released`] after
    /// its answer: nothing may overtake it.
    pub(super) fn replay(&mut self) -> Vec<String> {
        let first = self.kept.initialize.clone().map(|line| self.replayed(&line));
        let mut rest: Vec<String> = self.kept.initialized.iter().cloned().collect();
        let settings: Vec<String> = self.kept.settings().cloned().collect();
        for line in settings {
            if !self.pending.iter().any(|pending| pending.is(&line)) {
                rest.push(self.replayed(&line));
            }
        }
        for pending in &mut self.pending {
            if let Recovery::Resend { line, sends } = &mut pending.recovery
                && Some(&*line) != self.kept.initialize.as_ref()
            {
                *sends += 1;
                rest.push(line.clone());
            }
        }
        match first {
            None => rest,
            Some(first) => {
                self.awaiting = Envelope::parse(&first).and_then(|envelope| envelope.id_key());
                self.held = rest;
                vec![first]
            }
        }
    }

    /// `line` as the client sent it when its answer is still owed to the client, else under an id of ours, whose answer is swallowed.
    fn replayed(&mut self, line: &str) -> String {
        if self.pending.iter().any(|pending| pending.is(line)) {
            return line.to_owned();
        }
        let Some(envelope) = Envelope::parse(line) else { return line.to_owned() };
        self.replays += 1;
        let id = Value::from(format!("stn.replay.{}", self.replays)).to_string();
        let renamed = envelope.with_id(line, &id);
        self.swallow.insert(id);
        renamed
    }

    /// Whether the client may be listened to: the present owner knows the session.
    pub(super) fn is_ready(&self) -> bool {
        self.awaiting.is_none() && self.held.is_empty()
    }

    /// The lines that waited for the answer to a replayed `initialize`, once it has come.
    pub(super) fn released(&mut self) -> Vec<String> {
        if self.awaiting.is_some() { Vec::new() } else { std::mem::take(&mut self.held) }
    }

    /// Whether no request of the client is without an answer.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// What the client hears after it was given a new owner, whose tools may be others. Clients of the stateless era get no
    /// notifications that they didn't subscribe to.
    pub(super) fn news(&self) -> Option<String> {
        self.kept.initialized.as_ref().map(|_| words::tools_changed())
    }
}

impl Pending {
    fn is(&self, line: &str) -> bool {
        matches!(&self.recovery, Recovery::Resend { line: kept, .. } if kept == line)
    }
}

/// Without randomness there is no key, and the call is like any other.
fn stamp(line: &str, envelope: &Envelope<'_>) -> Stamped {
    let mut bytes = [0_u8; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no randomness for an idempotency key");
        return Stamped::Impossible;
    }
    envelope.stamp(line, &to_hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x":1}}"#;
    const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

    fn open() -> Session {
        let mut session = Session::default();
        assert_eq!(session.client_says(INITIALIZE), Fate::Pass);
        assert_eq!(session.owner_says(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#), Fate::Pass);
        assert_eq!(session.client_says(INITIALIZED), Fate::Pass);
        session
    }

    fn ids(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string()).collect()
    }

    #[test]
    fn a_new_owner_is_told_the_session_in_order_and_its_answers_are_swallowed() {
        let mut session = open();
        for line in [
            r#"{"id":1,"method":"logging/setLevel","params":{"level":"info"}}"#,
            r#"{"id":2,"method":"resources/subscribe","params":{"uri":"a:"}}"#,
            r#"{"id":3,"method":"resources/subscribe","params":{"uri":"b:"}}"#,
            r#"{"id":4,"method":"resources/unsubscribe","params":{"uri":"a:"}}"#,
        ] {
            session.client_says(line);
        }
        for id in 1..=4 {
            session.owner_says(&format!(r#"{{"id":{id},"result":{{}}}}"#));
        }
        assert!(session.lost().is_empty());
        let first = session.replay();
        assert_eq!(first, [r#"{"jsonrpc":"2.0","id":"stn.replay.1","method":"initialize","params":{"x":1}}"#]);
        assert!(!session.is_ready() && session.released().is_empty());
        assert_eq!(session.owner_says(r#"{"id":"stn.replay.1","result":{}}"#), Fate::Drop);
        let rest = session.released();
        assert_eq!(rest[0], INITIALIZED);
        assert_eq!(ids(&rest[1..]), [r#""stn.replay.2""#, r#""stn.replay.3""#]);
        assert!(rest[2].contains("\"b:\""));
        assert!(session.is_ready());
        assert_eq!(session.owner_says(r#"{"id":"stn.replay.3","result":{}}"#), Fate::Drop);
    }

    #[test]
    fn an_initialize_without_an_answer_is_sent_again_and_answered() {
        let mut session = Session::default();
        session.client_says(INITIALIZE);
        assert!(session.lost().is_empty());
        assert_eq!(session.replay(), [INITIALIZE]);
        assert_eq!(session.owner_says(r#"{"id":0,"result":{}}"#), Fate::Pass);
        assert!(session.is_ready() && session.is_idle());
    }

    #[test]
    fn an_agent_run_is_sent_again_with_its_key_and_other_calls_are_answered() {
        let mut session = open();
        let run = r#"{"id":"r","method":"tools/call","params":{"name":"agent_run","arguments":{}}}"#;
        let Fate::Replace(stamped) = session.client_says(run) else { panic!("it gets a key") };
        session.client_says(r#"{"id":9,"method":"tools/call","params":{"name":"agent_create"}}"#);
        let told = session.lost();
        assert_eq!(ids(&told), ["9"]);
        assert!(told[0].contains("-32603") && told[0].contains("unknown"));
        session.replay();
        session.owner_says(r#"{"id":"stn.replay.1","result":{}}"#);
        assert_eq!(session.released(), [INITIALIZED, stamped.as_str()]);
        assert!(!session.is_idle());
        session.owner_says(r#"{"id":"r","result":{}}"#);
        assert!(session.is_idle());
    }

    #[test]
    fn a_run_that_ends_every_owner_is_given_up() {
        let mut session = Session::default();
        session.client_says(r#"{"id":1,"method":"tools/call","params":{"name":"agent_run"}}"#);
        for _ in 1..MOST_SENDS {
            assert!(session.lost().is_empty());
            assert_eq!(session.replay().len(), 1);
        }
        assert_eq!(ids(&session.lost()), ["1"]);
        assert!(session.replay().is_empty());
    }

    #[test]
    fn a_cancelled_request_is_neither_answered_nor_sent_again() {
        let mut session = open();
        session.client_says(r#"{"id":1,"method":"tools/call","params":{"name":"agent_run"}}"#);
        session.client_says(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#);
        assert!(session.is_idle());
        assert!(session.lost().is_empty());
    }

    #[test]
    fn what_the_old_owner_asked_is_withdrawn_and_late_answers_go_no_further() {
        let mut session = open();
        assert_eq!(session.owner_says(r#"{"id":"q1","method":"elicitation/create"}"#), Fate::Pass);
        assert_eq!(session.owner_says(r#"{"id":"q2","method":"roots/list"}"#), Fate::Pass);
        assert_eq!(session.client_says(r#"{"id":"q2","result":{}}"#), Fate::Pass);
        let told = session.lost();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(r#""requestId":"q1""#));
        assert_eq!(session.client_says(r#"{"id":"q1","result":{}}"#), Fate::Drop);
    }

    #[test]
    fn a_refused_subscription_is_not_replayed() {
        let mut session = open();
        session.client_says(r#"{"id":2,"method":"resources/subscribe","params":{"uri":"a:"}}"#);
        session.owner_says(r#"{"id":2,"error":{"code":-32602,"message":"no"}}"#);
        session.lost();
        session.replay();
        session.owner_says(r#"{"id":"stn.replay.1","result":{}}"#);
        assert_eq!(session.released(), [INITIALIZED]);
    }

    #[test]
    fn a_session_of_the_stateless_era_is_replayed_without_ceremony() {
        let mut session = Session::default();
        let run = r#"{"id":1,"method":"tools/call","params":{"name":"agent_run","_meta":{"a":1}}}"#;
        assert!(matches!(session.client_says(run), Fate::Replace(_)));
        session.lost();
        assert_eq!(ids(&session.replay()), ["1"]);
        assert!(session.is_ready());
        assert_eq!(session.news(), None);
    }

    #[test]
    fn a_message_that_is_too_long_is_answered_where_somebody_waits() {
        let mut session = open();
        session.client_says(r#"{"id":5,"method":"tools/call","params":{"name":"x"}}"#);
        let answered = session.too_long(br#"{"jsonrpc":"2.0","id":5,"result":{"a":"#, true).unwrap();
        assert_eq!(ids(&[answered]), ["5"]);
        assert!(session.is_idle());
        assert_eq!(session.too_long(br#"{"jsonrpc":"2.0","method":"notifications/x","#, true), None);
        let refused = session.too_long(br#"{"id":6,"method":"tools/call","params":{"#, false).unwrap();
        assert_eq!(ids(&[refused]), ["6"]);
    }

    #[test]
    fn a_request_under_an_id_that_cannot_be_one_is_left_to_the_owner_alone() {
        let mut session = Session::default();
        for line in [r#"{"id":{"a":1},"method":"tools/list"}"#, r#"{"id":1.5,"method":"tools/list"}"#] {
            assert_eq!(session.client_says(line), Fate::Pass);
        }
        assert!(session.lost().is_empty() && session.give_up(GivenUp::NoOwner).is_empty());
        let refused = session.too_long(br#"{"id":{"a":1},"method":"tools/call","params":{"#, false).unwrap();
        assert_eq!(ids(&[refused]), ["null"]);
    }

    #[test]
    fn what_cannot_be_read_is_passed_on() {
        let mut session = Session::default();
        for line in ["", "not json", r#"[{"id":1,"method":"ping"}]"#] {
            assert_eq!(session.client_says(line), Fate::Pass);
            assert_eq!(session.owner_says(line), Fate::Pass);
        }
        assert!(session.is_idle());
    }
}
