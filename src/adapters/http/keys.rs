//! Who comes with a key: the owner of the home with the local one, or whoever an API key stands for.
//!
//! Nothing is remembered from one request to the next, so that what happens to a key counts from the next request on. What is still open
//! then, streams and sessions, ends with its [`Lease`].

use super::Doors;
use crate::clock::ClockExt;
use crate::domain::{KeyRecord, KeyRefusal, Principal, PrincipalKind, PrincipalRef, Timestamp};
use crate::error::Error;
use crate::home::ApiKey;
use crate::mcp::serve::Stay;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How exactly the last use of a key is known. Writing it down for every request would cost a transaction each.
const USED_WITHIN: Duration = Duration::from_secs(60);

/// Who came, and for how long an API key lets them stay.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) principal: Principal,
    /// `None` for the owner of the home.
    pub(super) lease: Option<Lease>,
}

/// Why nobody was let in.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: Error,
    /// For the audit.
    pub(super) reason: &'static str,
    /// Whose key was shown, as far as that is known.
    pub(super) who: PrincipalRef,
    /// Whether it was the key indeed, and not only its name.
    pub(super) is_proved: bool,
}

/// The time for which a request that came with an API key may be answered.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    doors: Doors,
    key: String,
    /// As it came.
    principal: Principal,
    source: Option<IpAddr>,
    expires_at: Timestamp,
    changes: watch::Receiver<u64>,
}

/// When keys were last used, as far as this process has written it down.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<String, Timestamp>>);

impl Uses {
    /// Whether this use is to be written down.
    fn is_news(&self, key: &str, now: Timestamp) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.get(key).is_some_and(|at| now < *at + USED_WITHIN) {
            return false;
        }
        written.insert(key.to_owned(), now);
        true
    }
}

/// Lets in whoever `bearer` stands for, coming from `source`.
pub(super) async fn enter(doors: &Doors, bearer: Option<&str>, source: Option<IpAddr>) -> Result<Entered, Refused> {
    let Some(bearer) = bearer else { return Err(refused("this needs a key", "unauthenticated: no key", None)) };
    // A typo, or a key of something else, is refused before anything is looked up.
    let Ok(presented) = ApiKey::parse(bearer) else {
        return Err(refused("the key is not valid here", "unauthenticated: wrong key", None));
    };
    if let Some(principal) = doors.key.authenticate(bearer) {
        return Ok(Entered { principal, lease: None });
    }
    // Before the look: a change that the look misses is seen by the lease.
    let changes = doors.station.control.principals_changed();
    let (id, now) = (presented.id().to_owned(), doors.station.clock.now());
    let control = &doors.station.control;
    let record = match control.api_key_proved(presented.proof()).await {
        Ok(Some(record)) => record,
        Ok(None) => return Err(refused("the key is not valid here", "unauthenticated: wrong key", Some(id))),
        Err(error) => {
            let reason = "unavailable: the key can't be looked up";
            return Err(Refused { error, reason, who: unknown(Some(id)), is_proved: false });
        }
    };
    if let Some(refusal) = record.refusal(now, source) {
        return Err(not_taken(doors, &record, refusal, source));
    }
    note_use(doors, &record, now);
    let (principal, expires_at) = (record.principal(), record.expires_at);
    let lease = Lease { doors: doors.clone(), key: id, principal: principal.clone(), source, expires_at, changes };
    Ok(Entered { principal, lease: Some(lease) })
}

/// Who says to be this key, or shows none.
pub(super) fn unknown(key: Option<String>) -> PrincipalRef {
    PrincipalRef { kind: PrincipalKind::ApiKey, id: key.unwrap_or_else(|| "-".to_owned()), name: "unknown".into() }
}

fn refused(message: &str, reason: &'static str, key: Option<String>) -> Refused {
    // Where the local key's file is, is nothing for everybody who can reach the port.
    let hint = "send `Authorization: Bearer <key>` with a key of this station: a key belongs to the station that made it, and \
                `stn api-key list` or `stn status` on its machine shows them";
    Refused { error: Error::unauthenticated(message).hint(hint), reason, who: unknown(key), is_proved: false }
}

/// Whoever has the secret may be told what has become of the key.
fn not_taken(doors: &Doors, key: &KeyRecord, refusal: KeyRefusal, source: Option<IpAddr>) -> Refused {
    let (name, id) = (&key.name, &key.id);
    let (error, reason) = match refusal {
        KeyRefusal::Deleted => {
            (Error::unauthenticated(format!("key `{name}` ({id}) was deleted")), "unauthenticated: deleted key")
        }
        KeyRefusal::Expired => {
            let message = format!("key `{name}` ({id}) expired at {}", key.expires_at);
            (Error::unauthenticated(message), "unauthenticated: expired key")
        }
        KeyRefusal::OwnerGone => (
            Error::unauthenticated(format!("the user of key `{name}` ({id}) is suspended or deleted")),
            "unauthenticated: key of a user who is suspended or deleted",
        ),
        KeyRefusal::Source => (
            Error::permission_denied(match source {
                Some(source) => format!("key `{name}` ({id}) is not taken from this address, `{source}`"),
                None => format!("key `{name}` ({id}) is not taken from this address"),
            }),
            "permission_denied: key from a network that it isn't meant for",
        ),
    };
    let hint = match refusal {
        KeyRefusal::Source => {
            let change = format!("an admin can change its `sources`: `stn api-key update {id}`");
            // Whoever comes through a proxy comes from this machine, unless the proxy's word counts.
            let is_unsaid = !doors.station.settings.http.behind_proxy && source.is_some_and(|from| from.is_loopback());
            if is_unsaid { format!("{change}; behind a proxy, set `http.behind_proxy`") } else { change }
        }
        KeyRefusal::OwnerGone => "an admin can make the user active again: `stn user update`".to_owned(),
        KeyRefusal::Deleted | KeyRefusal::Expired => "an admin can make another one: `stn api-key create`".to_owned(),
    };
    Refused { error: error.hint(hint), reason, who: key.principal().who, is_proved: true }
}

/// Writes down that the key was used, at most once a minute, while the request goes on.
fn note_use(doors: &Doors, key: &KeyRecord, now: Timestamp) {
    let is_known = key.last_used_at.is_some_and(|at| now < at + USED_WITHIN);
    if is_known || !doors.0.uses.is_news(&key.id, now) {
        return;
    }
    let (control, id) = (doors.station.control.clone(), key.id.clone());
    doors.tasks.spawn("use of a key", async move {
        if let Err(error) = control.api_key_used(&id, now).await {
            tracing::warn!(key = id, ?error, "the use of a key can't be written down");
        }
    });
}

impl Stay for Lease {
    fn lasts(&self) -> BoxFuture<'_, bool> {
        let mut lease = self.clone();
        Box::pin(async move {
            match lease.changes.has_changed() {
                Ok(false) => lease.doors.station.clock.now() < lease.expires_at,
                Ok(true) | Err(_) => lease.is_good().await,
            }
        })
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.clone().until_it_ends())
    }
}

impl Lease {
    /// Done when the key isn't taken any more, or stands for other rights than it did.
    async fn until_it_ends(mut self) {
        let clock = self.doors.station.clock.clone();
        loop {
            let left = self.expires_at.since(clock.now());
            match clock.timeout(left, self.changes.changed()).await {
                None | Some(Err(_)) => return,
                Some(Ok(())) if self.is_good().await => {}
                Some(Ok(())) => return,
            }
        }
    }

    /// Asks again, and notes until when the key is good now.
    async fn is_good(&mut self) -> bool {
        let station = &self.doors.station;
        let Ok(Some(record)) = station.control.api_key(&self.key).await else { return false };
        self.expires_at = record.expires_at;
        record.refusal(station.clock.now(), self.source).is_none() && record.principal().may_the_same(&self.principal)
    }
}
