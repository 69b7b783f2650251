//! Sessions of the versions before 2026-07-28 over HTTP, and whose they are.
//!
//! rmcp takes a session id from anybody who knows it. Here a session belongs to the principal that opened it; to all others it doesn't exist.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use futures_util::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, LocalSessionManagerError};
use rmcp::transport::streamable_http_server::{SessionId, SessionManager};
use tokio_util::sync::CancellationToken;

use crate::domain::{PrincipalKind, PrincipalRef};

/// How long a session may be silent. Desktop clients are, overnight, and few of them open a new session when theirs is gone.
const SILENCE: Duration = Duration::from_secs(12 * 60 * 60);

/// How many sessions one principal may hold; with one more, the one that was used least recently is closed, of those in which nothing is
/// being answered if there are any. Clients that never close theirs
/// are common, and so are those that keep one for days.
const PER_PRINCIPAL: usize = 100;

/// The header that carries a session's id.
pub(super) const HEADER: &str = "mcp-session-id";

/// The session that a request names.
pub(super) fn id_in(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER)?.to_str().ok()
}

/// The open sessions of one HTTP service.
#[derive(Debug)]
pub(super) struct Sessions {
    inner: LocalSessionManager,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    sessions: HashMap<SessionId, Session>,
    /// Counts openings and uses.
    uses: u64,
}

#[derive(Debug)]
struct Session {
    /// `None` until the answer to `initialize` is on its way; until then nobody may use it.
    owner: Option<Owner>,
    /// The latest of its uses.
    latest: u64,
    /// Shared with everything that is being answered in it.
    busy: Busy,
    closed: CancellationToken,
    /// Fires with the first request or message that names it.
    used: CancellationToken,
}

/// Held while something is being answered in a session.
pub(super) type Busy = Arc<()>;

impl Session {
    fn is_busy(&self) -> bool {
        Arc::strong_count(&self.busy) > 1
    }
}

/// What becomes of a session.
#[derive(Debug, Clone)]
pub(super) struct Fate {
    /// Fires when it ends.
    pub(super) closed: CancellationToken,
    /// Fires when it is used for the first time.
    pub(super) used: CancellationToken,
}

/// A principal without its display name, which may change.
type Owner = (PrincipalKind, String);

fn owner(who: &PrincipalRef) -> Owner {
    (who.kind, who.id.clone())
}

impl Default for Sessions {
    fn default() -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = Some(SILENCE);
        Self { inner, open: Mutex::default() }
    }
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new session to `who`. Returns the session to close for it, if `who` has too many.
    pub(super) fn bind(&self, id: &str, who: &PrincipalRef) -> Option<SessionId> {
        let mut open = self.open();
        let owner = owner(who);
        open.sessions.get_mut(id)?.owner = Some(owner.clone());
        let others = || {
            let theirs = open.sessions.iter().filter(|(_, session)| session.owner.as_ref() == Some(&owner));
            theirs.filter(|(other, _)| ***other != *id)
        };
        if others().count() < PER_PRINCIPAL {
            return None;
        }
        others().min_by_key(|(_, session)| (session.is_busy(), session.latest)).map(|(id, _)| id.clone())
    }

    /// A request of `who` in the session, which is busy until what this gives is dropped. `None` if they haven't opened it.
    pub(super) fn uses(&self, id: &str, who: &PrincipalRef) -> Option<Busy> {
        let mut open = self.open();
        let Open { sessions, uses } = &mut *open;
        let session = sessions.get_mut(id).filter(|session| session.owner == Some(owner(who)))?;
        *uses += 1;
        session.latest = *uses;
        session.used.cancel();
        Some(Arc::clone(&session.busy))
    }

    /// Whether somebody has opened the session.
    pub(super) fn is_owned(&self, id: &str) -> bool {
        self.open().sessions.get(id).is_some_and(|session| session.owner.is_some())
    }

    /// Fires when the session ends.
    pub(super) fn closed(&self, id: &str) -> Option<CancellationToken> {
        self.open().sessions.get(id).map(|session| session.closed.clone())
    }

    /// What becomes of the session; `None` if it has ended.
    pub(super) fn fate(&self, id: &str) -> Option<Fate> {
        let open = self.open();
        let session = open.sessions.get(id)?;
        Some(Fate { closed: session.closed.clone(), used: session.used.clone() })
    }

    fn opened(&self, id: &SessionId) {
        let mut open = self.open();
        open.uses += 1;
        let session = Session {
            owner: None,
            latest: open.uses,
            busy: Busy::default(),
            closed: CancellationToken::new(),
            used: CancellationToken::new(),
        };
        open.sessions.insert(id.clone(), session);
    }

    fn ended(&self, id: &SessionId) {
        if let Some(session) = self.open().sessions.remove(id) {
            session.closed.cancel();
        }
    }
}

/// rmcp's own sessions, with their beginnings and ends watched.
impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (id, transport) = self.inner.create_session().await?;
        self.opened(&id);
        Ok((id, transport))
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.ended(id);
        self.inner.close_session(id).await
    }

    fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<ServerJsonRpcMessage, Self::Error>> + Send {
        self.inner.initialize_session(id, message)
    }

    fn has_session(&self, id: &SessionId) -> impl Future<Output = Result<bool, Self::Error>> + Send {
        self.inner.has_session(id)
    }

    fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error>> + Send
    {
        self.inner.create_stream(id, message)
    }

    fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.accept_message(id, message)
    }

    fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> impl Future<Output = Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error>> + Send
    {
        self.inner.create_standalone_stream(id)
    }

    fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> impl Future<Output = Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error>> + Send
    {
        self.inner.resume(id, last_event_id)
    }
}

#[cfg(test)]
impl Sessions {
    pub(super) fn count(&self) -> usize {
        self.open().sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(id: &str) -> PrincipalRef {
        PrincipalRef { kind: PrincipalKind::ApiKey, id: id.into(), name: id.into() }
    }

    #[test]
    fn a_session_is_nobodys_until_it_is_bound_and_then_its_owners_alone() {
        let sessions = Sessions::default();
        sessions.opened(&"s".into());
        assert_eq!(sessions.uses("s", &who("a")), None);
        assert_eq!(sessions.bind("s", &who("a")), None);
        assert!(sessions.uses("s", &PrincipalRef { name: "renamed".into(), ..who("a") }).is_some());
        assert_eq!(sessions.uses("s", &who("b")), None);
        let closed = sessions.closed("s").unwrap();
        sessions.ended(&"s".into());
        assert!(closed.is_cancelled() && sessions.uses("s", &who("a")).is_none());
    }

    #[test]
    fn the_oldest_session_makes_room_for_one_too_many() {
        let sessions = Sessions::default();
        for number in 0..=PER_PRINCIPAL {
            let id = number.to_string();
            sessions.opened(&id.as_str().into());
            let evicted = sessions.bind(&id, &who("a"));
            assert_eq!(evicted.as_deref(), (number == PER_PRINCIPAL).then_some("0"));
        }
        sessions.opened(&"other".into());
        assert_eq!(sessions.bind("other", &who("b")), None);
    }

    #[test]
    fn the_session_that_was_used_least_recently_makes_room_and_none_in_which_something_is_answered() {
        let sessions = Sessions::default();
        for number in 0..PER_PRINCIPAL {
            sessions.opened(&number.to_string().into());
            assert_eq!(sessions.bind(&number.to_string(), &who("a")), None);
        }
        assert!(sessions.uses("0", &who("a")).is_some() && sessions.uses("1", &who("b")).is_none());
        let answering = sessions.uses("1", &who("a")).unwrap();
        for number in 2..PER_PRINCIPAL {
            assert!(sessions.uses(&number.to_string(), &who("a")).is_some());
        }
        for (further, room) in [("a further one", "0"), ("another", "2")] {
            sessions.opened(&further.into());
            assert_eq!(sessions.bind(further, &who("a")).as_deref(), Some(room));
            sessions.ended(&room.into());
        }
        drop(answering);
        sessions.opened(&"last".into());
        assert_eq!(sessions.bind("last", &who("a")).as_deref(), Some("1"));
    }
}
