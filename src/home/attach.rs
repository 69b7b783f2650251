//! Reaching the owner of a home, waiting for it, or becoming it.

use super::client::{LocalClient, exchange, open, request};
use super::lock::in_use;
use super::{Home, OwnerLock, OwnerMode, read_owner};
use crate::clock::{ClockExt, SharedClock};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an owner may take to answer the handshake or a request to drain.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a short command's call is waited for.
pub(super) const COMMAND_WITHIN: Duration = Duration::from_secs(5);

/// How long an owner may take to hand back its runs and let go of the home.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How often a waiting process looks again.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

const HANDSHAKE_BYTES: usize = 64 * 1024;

/// The answer to `GET /local/handshake`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The owner's version of Station.
    pub version: String,
    /// Its number for everything that both sides of the socket and the stores share; only equal ones work together.
    pub schema: u32,
    pub pid: u32,
    pub mode: OwnerMode,
}

/// How a short command came in.
#[derive(Debug)]
pub enum Door {
    /// Another process owns the home and does the work.
    Attached(LocalClient),
    /// Nobody did; this process owns the home for its one call.
    Owned(OwnerLock),
}

impl Handshake {
    /// An error when the owner's schema is not `schema`.
    fn require(&self, schema: u32) -> Result<()> {
        if self.schema == schema {
            return Ok(());
        }
        let ours = env!("CARGO_PKG_VERSION");
        let (version, theirs, pid) = (&self.version, self.schema, self.pid);
        let fix = match self.mode {
            OwnerMode::Serve => "restart that `stn serve` with this program".to_owned(),
            OwnerMode::Background | OwnerMode::Command => {
                format!("end it with `kill {pid}`; the next call starts this program")
            }
        };
        Err(Error::conflict(format!(
            "the home belongs to process {pid}, stn {version} with schema {theirs}; this is stn {ours} with schema {schema}"
        ))
        .hint(fix))
    }
}

/// A connection to the owner of `home`; `None` when nobody listens.
async fn connect(home: &Home) -> Result<Option<UnixStream>> {
    Ok(connect_somewhere(home).await?.map(|(stream, _)| stream))
}

/// The owner may listen elsewhere than this process would: its environment may have named another directory for long paths.
async fn connect_somewhere(home: &Home) -> Result<Option<(UnixStream, PathBuf)>> {
    let expected = home.socket().to_owned();
    if let Some(stream) = open(&expected).await? {
        return Ok(Some((stream, expected)));
    }
    match read_owner(home).map(|owner| owner.socket) {
        Some(socket) if socket != expected => Ok(open(&socket).await?.map(|stream| (stream, socket))),
        _ => Ok(None),
    }
}

/// A client of the owner of `home`, once the handshake shows that both speak `schema`. `None` when there is no owner, or one that
/// isn't listening yet or any more.
pub async fn attach(home: &Home, schema: u32, clock: &SharedClock) -> Result<Option<LocalClient>> {
    let Some((stream, socket)) = connect_somewhere(home).await? else { return Ok(None) };
    let shaking_hands = async {
        let request = request(Method::GET, "/local/handshake", &[], Bytes::new())?;
        exchange(stream, request).await?.success().await?.bytes(HANDSHAKE_BYTES).await
    };
    let body = match clock.timeout(ANSWER_WITHIN, shaking_hands).await {
        Some(Err(error)) if error.kind() == ErrorKind::Unavailable => return Ok(None),
        Some(body) => body?,
        None => return Err(silent(home)),
    };
    let owner: Handshake = serde_json::from_slice(&body).map_err(|cause| {
        Error::conflict(format!("what listens on `{}` doesn't answer like a station", socket.display()))
            .hint("it may be another version; restart it with this program")
            .source(cause)
    })?;
    owner.require(schema)?;
    Ok(Some(LocalClient::new(socket, owner)))
}

fn silent(home: &Home) -> Error {
    let who = read_owner(home).map_or_else(|| "the station".to_owned(), |owner| format!("process {}", owner.pid));
    Error::timeout(format!("{who} owns the home `{}` and doesn't answer", home.root().display()))
        .hint("see its log, or end it")
}

/// For short commands: a client when somebody owns the home, else the home itself for one call. Waits up to 5 s for another short
/// command, or for an owner that is just starting or ending. One that says nothing may be ending: it is looked for once more.
pub async fn attach_or_own(home: &Home, schema: u32, clock: &SharedClock) -> Result<Door> {
    let deadline = clock.now() + COMMAND_WITHIN;
    let mut was_silent = false;
    loop {
        match attach(home, schema, clock).await {
            Ok(Some(client)) => return Ok(Door::Attached(client)),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Timeout && !was_silent => {
                was_silent = true;
                continue;
            }
            Err(error) => return Err(error),
        }
        if let Some(lock) = OwnerLock::try_acquire(home, OwnerMode::Command, clock.now())? {
            return Ok(Door::Owned(lock));
        }
        if clock.now() >= deadline {
            return Err(in_use(home));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

/// For `stn serve`: asks whoever owns the home to drain (`POST /local/drain`), and waits up to 10 s for it to let go. The owner may be of
/// any version: this is how a new one replaces an old one.
pub async fn take_over(home: &Home, clock: &SharedClock) -> Result<OwnerLock> {
    if let Some(lock) = OwnerLock::try_acquire(home, OwnerMode::Serve, clock.now())? {
        return Ok(lock);
    }
    let deadline = clock.now() + DRAIN_WITHIN;
    // An owner that is just starting doesn't listen yet; it is asked as soon as it does. When one lets go, a client that misses it may
    // start the next one before the lock is taken here: that one is asked too.
    let mut asked = None;
    loop {
        let owner = read_owner(home);
        if asked.as_ref() != Some(&owner) && ask_to_drain(home, clock).await? {
            asked = Some(owner);
        }
        if let Some(lock) = OwnerLock::try_acquire(home, OwnerMode::Serve, clock.now())? {
            return Ok(lock);
        }
        if clock.now() >= deadline {
            return Err(in_use(home).context("the home was not handed over within 10 s"));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

/// True when the owner has agreed; false when there is none to ask, or it went away meanwhile.
async fn ask_to_drain(home: &Home, clock: &SharedClock) -> Result<bool> {
    let Some(stream) = connect(home).await? else { return Ok(false) };
    let asking = async {
        let request = request(Method::POST, "/local/drain", &[], Bytes::new())?;
        exchange(stream, request).await?.success().await
    };
    match clock.timeout(ANSWER_WITHIN, asking).await {
        Some(Ok(_agreed)) => Ok(true),
        Some(Err(error)) if error.kind() == ErrorKind::Unavailable => Ok(false),
        Some(Err(error)) => Err(error.context("the owner of the home refuses to hand it over")),
        None => Err(silent(home)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestHome, answer, answer_handshakes, handshake, read_request};
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn nobody_is_there_in_a_new_home() {
        let home = TestHome::created();
        assert!(connect(&home).await.unwrap().is_none());
        assert!(attach(&home, 1, &SystemClock::shared()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_owner_of_the_same_schema_is_attached_to() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Background);
        let clock = SystemClock::shared();
        tokio::select! {
            () = answer_handshakes(&listener, 4) => {}
            client = attach(&home, 4, &clock) => assert_eq!(client.unwrap().unwrap().owner(), &handshake(4)),
        }
    }

    #[tokio::test]
    async fn another_schema_is_an_error_that_names_both_versions_and_the_fix() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Background);
        let clock = SystemClock::shared();
        let error = tokio::select! {
            () = answer_handshakes(&listener, 3) => unreachable!(),
            client = attach(&home, 4, &clock) => client.unwrap_err(),
        };
        for part in ["9.9.9", "schema 3", env!("CARGO_PKG_VERSION"), "schema 4"] {
            assert!(error.message().contains(part), "{error} lacks {part}");
        }
        assert!(error.hint_text().unwrap().contains(&format!("kill {}", std::process::id())));
    }

    #[tokio::test]
    async fn an_owner_that_says_nothing_is_given_up() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Background);
        let manual = ManualClock::at(Timestamp::from_millis(0));
        let clock: SharedClock = manual.clone();
        let (client, _held) = tokio::join!(attach(&home, 1, &clock), async {
            let mut held = listener.accept_checked().await.unwrap();
            read_request(&mut held).await;
            manual.advance(ANSWER_WITHIN);
            held
        });
        assert_eq!(client.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[tokio::test]
    async fn an_owner_that_listens_elsewhere_is_found_by_its_lock_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("x".repeat(110));
        let with = |scratch: &str| {
            let scratch = directory.path().join(scratch);
            std::fs::create_dir_all(&scratch).unwrap();
            let environment = [("TMPDIR".to_owned(), scratch.display().to_string())].into();
            Home::at(&root, super::super::Layout::Home, &environment).unwrap()
        };
        let (theirs, ours) = (with("a"), with("b"));
        assert_ne!(theirs.socket(), ours.socket());
        super::super::create(&theirs, &[]).unwrap();
        let lock = OwnerLock::try_acquire(&theirs, OwnerMode::Serve, Timestamp::from_millis(0)).unwrap().unwrap();
        let listener = super::super::LocalListener::bind(&theirs, &lock).unwrap();
        let (connected, accepted) = tokio::join!(connect(&ours), listener.accept_checked());
        assert!(connected.unwrap().is_some() && accepted.is_ok());
    }

    #[tokio::test]
    async fn a_short_command_owns_a_free_home_and_attaches_to_a_served_one() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        let Door::Owned(lock) = attach_or_own(&home, 1, &clock).await.unwrap() else { panic!("nobody owned it") };
        assert_eq!(lock.info().mode, OwnerMode::Command);
        drop(lock);
        let (_lock, listener) = home.own(OwnerMode::Serve);
        tokio::select! {
            () = answer_handshakes(&listener, 1) => {}
            door = attach_or_own(&home, 1, &clock) => assert!(matches!(door.unwrap(), Door::Attached(_))),
        }
    }

    #[tokio::test]
    async fn a_short_command_waits_for_another_one_for_five_seconds() {
        let home = TestHome::created();
        let manual = ManualClock::at(Timestamp::from_millis(0));
        let clock: SharedClock = manual.clone();
        let held = OwnerLock::try_acquire(&home, OwnerMode::Command, clock.now()).unwrap();
        let (door, ()) = tokio::join!(attach_or_own(&home, 1, &clock), async { manual.advance(COMMAND_WITHIN) });
        assert_eq!(door.unwrap_err().kind(), ErrorKind::Unavailable);
        let (door, ()) = tokio::join!(attach_or_own(&home, 1, &clock), async {
            drop(held);
            manual.advance(LOOK_EVERY);
        });
        assert!(matches!(door.unwrap(), Door::Owned(_)));
    }

    #[tokio::test]
    async fn an_owner_that_says_nothing_is_looked_for_once_more_by_a_short_command() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Background);
        let manual = ManualClock::at(Timestamp::from_millis(0));
        let clock: SharedClock = manual.clone();
        let silence = async || {
            let mut held = listener.accept_checked().await.unwrap();
            read_request(&mut held).await;
            manual.advance(ANSWER_WITHIN);
            held
        };
        let body = serde_json::to_string(&handshake(1)).unwrap();
        let successor = async { (silence().await, answer(&listener, "200 OK", &body).await) };
        let (door, _held) = tokio::join!(attach_or_own(&home, 1, &clock), successor);
        assert!(matches!(door.unwrap(), Door::Attached(_)));
        let (door, _held) = tokio::join!(attach_or_own(&home, 1, &clock), async { (silence().await, silence().await) });
        assert_eq!(door.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[tokio::test]
    async fn taking_over_asks_the_owner_to_drain_and_gets_the_home() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        let (lock, listener) = home.own(OwnerMode::Background);
        let (taken, asked) = tokio::join!(take_over(&home, &clock), async {
            let asked = answer(&listener, "202 Accepted", "").await;
            drop(listener);
            drop(lock);
            asked
        });
        assert_eq!(asked, "POST /local/drain");
        assert_eq!(taken.unwrap().info().mode, OwnerMode::Serve);
    }

    #[tokio::test]
    async fn an_owner_that_comes_before_the_successor_is_asked_as_well() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        let (lock, listener) = home.own(OwnerMode::Background);
        let owners = async {
            let _first = answer(&listener, "202 Accepted", "").await;
            drop((listener, lock));
            let (_lock, listener) = home.own(OwnerMode::Command);
            answer(&listener, "202 Accepted", "").await
        };
        let successor = take_over(&home, &clock);
        tokio::pin!(successor);
        let asked = tokio::select! {
            biased;
            asked = owners => asked,
            taken = &mut successor => panic!("{taken:?}"),
        };
        assert_eq!(asked, "POST /local/drain");
        assert_eq!(successor.await.unwrap().info().mode, OwnerMode::Serve);
    }

    #[tokio::test]
    async fn an_owner_that_refuses_to_drain_keeps_the_home() {
        let home = TestHome::created();
        let clock = SystemClock::shared();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let (taken, _) = tokio::join!(take_over(&home, &clock), answer(&listener, "403 Forbidden", ""));
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
