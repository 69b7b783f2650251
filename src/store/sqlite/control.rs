//! The control store in SQLite.

use super::audit_file::AuditFile;
use super::connection::{Readers, open_writer};
use super::transaction::Tx;
use super::writer::{Writer, WriterStats};
use super::{api_keys, audit, migrate, users};
use crate::clock::SharedClock;
use crate::domain::{AuditEntry, EnvironmentNumber, KeyRecord, Name, Role, Timestamp, User};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::home::KeyProof;
use crate::store::{AuditRow, ControlStore, EnvironmentRow, KeyChange, NewKey, PrincipalStore, UserChange, UserHandle};
use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};
use std::path::Path;
use tokio::sync::watch;

/// How audit lines name the control store. No environment can have this name.
const STORE: &str = "station";

/// The control store, kept in one SQLite file.
#[derive(Debug)]
pub struct SqliteControl {
    // Before the writer: the last connection to be closed is one that may write, so that SQLite can tidy up its log.
    readers: Readers,
    writer: Writer,
    principals: watch::Sender<u64>,
}

impl SqliteControl {
    /// Opens or creates the store at `path` and repairs `audit_file` from its rows. Blocks. `unavailable` when the file can't be opened or
    /// was written by a later version.
    pub fn open(path: &Path, audit_file: &Path, clock: SharedClock) -> Result<Self> {
        let mut conn =
            open_writer(path).map_err(|error| error.context(format!("control store `{}`", path.display())))?;
        migrate::migrate(&mut conn, migrate::CONTROL)?;
        let mut audit = AuditFile::new(audit_file, STORE);
        audit.catch_up(&conn);
        let writer = Writer::start(conn, audit, clock, Events::default(), STORE)?;
        Ok(Self { readers: Readers::new(path), writer, principals: watch::Sender::new(0) })
    }

    /// What the writer has done since it was opened.
    pub fn stats(&self) -> WriterStats {
        self.writer.stats()
    }

    /// Changes users, roles or keys, and tells those who watch them.
    async fn change<T: Send + 'static>(
        &self,
        audit: AuditEntry,
        work: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let changed = self.writer.write(move |tx| {
            tx.require_audit()?;
            let changed = work(tx)?;
            tx.audit(audit)?;
            Ok(changed)
        });
        let changed = changed.await?;
        self.principals.send_modify(|count| *count = count.wrapping_add(1));
        Ok(changed)
    }
}

#[async_trait]
impl ControlStore for SqliteControl {
    async fn environments(&self) -> Result<Vec<EnvironmentRow>> {
        self.readers.read(environments).await
    }

    async fn environment_create(&self, name: &Name, audit: AuditEntry) -> Result<EnvironmentRow> {
        let name = name.clone();
        self.writer
            .write(move |tx| {
                tx.require_audit()?;
                let row = create(tx.conn, &name, tx.now)?;
                tx.audit(audit)?;
                Ok(row)
            })
            .await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.writer.write(move |tx| tx.audit(entry)).await
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.readers.read(move |conn| audit::after(conn, seq, limit)).await
    }
}

#[async_trait]
impl PrincipalStore for SqliteControl {
    async fn users(&self, after: Option<&Name>, limit: u32) -> Result<Vec<User>> {
        let after = after.cloned();
        self.readers.read(move |conn| users::list(conn, after.as_ref(), limit)).await
    }

    async fn user(&self, handle: &UserHandle) -> Result<Option<User>> {
        let handle = handle.clone();
        self.readers.read(move |conn| users::find(conn, &handle)).await
    }

    async fn user_create(&self, name: &Name, display_name: Option<String>, audit: AuditEntry) -> Result<User> {
        let name = name.clone();
        self.change(audit, move |tx| users::create(tx, &name, display_name)).await
    }

    async fn user_update(&self, id: i64, change: UserChange, audit: AuditEntry) -> Result<User> {
        self.change(audit, move |tx| users::update(tx, id, change)).await
    }

    async fn user_delete(&self, id: i64, audit: AuditEntry) -> Result<()> {
        self.change(audit, move |tx| users::delete(tx, id)).await
    }

    async fn role_set(
        &self,
        id: i64,
        environment: Option<&Name>,
        role: Option<Role>,
        audit: AuditEntry,
    ) -> Result<User> {
        let environment = environment.cloned();
        self.change(audit, move |tx| users::role_set(tx, id, environment.as_ref(), role)).await
    }

    async fn api_keys(&self, user: Option<i64>, after: Option<(Name, String)>, limit: u32) -> Result<Vec<KeyRecord>> {
        self.readers.read(move |conn| api_keys::list(conn, user, after, limit)).await
    }

    async fn api_key(&self, id: &str) -> Result<Option<KeyRecord>> {
        let id = id.to_owned();
        self.readers.read(move |conn| api_keys::find(conn, &id)).await
    }

    async fn api_key_proved(&self, proof: KeyProof) -> Result<Option<KeyRecord>> {
        self.readers.read(move |conn| api_keys::proved(conn, &proof)).await
    }

    async fn api_key_create(&self, key: NewKey, audit: AuditEntry) -> Result<KeyRecord> {
        self.change(audit, move |tx| api_keys::create(tx, &key)).await
    }

    async fn api_key_update(&self, id: &str, change: KeyChange, audit: AuditEntry) -> Result<KeyRecord> {
        let id = id.to_owned();
        self.change(audit, move |tx| api_keys::update(tx, &id, change)).await
    }

    async fn api_key_delete(&self, id: &str, audit: AuditEntry) -> Result<()> {
        let id = id.to_owned();
        self.change(audit, move |tx| api_keys::delete(tx, &id)).await
    }

    async fn api_key_used(&self, id: &str, at: Timestamp) -> Result<()> {
        let id = id.to_owned();
        self.writer.write(move |tx| api_keys::used(tx, &id, at)).await
    }

    fn principals_changed(&self) -> watch::Receiver<u64> {
        self.principals.subscribe()
    }
}

fn environments(conn: &Connection) -> Result<Vec<EnvironmentRow>> {
    let mut statement = conn.prepare_cached("SELECT number, name, created_at FROM environments ORDER BY name")?;
    let rows = statement.query_map([], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn create(conn: &Connection, name: &Name, now: Timestamp) -> Result<EnvironmentRow> {
    let taken = conn
        .prepare_cached("SELECT 1 FROM environments WHERE name = ?1")?
        .query_row([name], |_| Ok(()))
        .optional()?
        .is_some();
    if taken {
        return Err(Error::conflict(format!("environment `{name}` exists already"))
            .hint("choose another name")
            .field("name"));
    }
    conn.prepare_cached(
        "INSERT INTO environments (name, created_at) VALUES (?1, ?2) RETURNING number, name, created_at",
    )?
    .query_row((name, now), from_row)
    .map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Error::conflict(format!(
            "environment `{name}` can't get a number: all {} have been given out",
            EnvironmentNumber::MAX
        ))
        .hint("numbers are never used again; start a new home"),
        _ => error.into(),
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<EnvironmentRow> {
    let number: u16 = row.get("number")?;
    let number =
        EnvironmentNumber::new(number).ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(0, i64::from(number)))?;
    Ok(EnvironmentRow { number, name: row.get("name")?, created_at: row.get("created_at")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::domain::{AuditOutcome, Cause, Origin, Principal};
    use crate::error::ErrorKind;

    fn entry(action: &str) -> AuditEntry {
        AuditEntry {
            at: Timestamp::from_millis(7),
            principal: Principal::local_owner().who,
            origin: Origin::Cli,
            cause: Cause::call(),
            action: action.to_owned(),
            target: None,
            environment: None,
            outcome: AuditOutcome::Done,
            reason: None,
            request_id: "r".to_owned(),
            config_revision: None,
            details: None,
        }
    }

    fn open(folder: &Path) -> SqliteControl {
        let clock = ManualClock::at(Timestamp::from_millis(7));
        SqliteControl::open(&folder.join("station.db"), &folder.join("station.jsonl"), clock).unwrap()
    }

    #[tokio::test]
    async fn an_environment_gets_a_number_that_is_never_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path());
        let clock = ManualClock::at(Timestamp::from_millis(7));
        let [staging, development] = ["staging", "development"].map(|name| Name::new(name).unwrap());
        let first = control.environment_create(&staging, entry("environment.create")).await.unwrap();
        assert_eq!((first.number.get(), &first.name, first.created_at), (1, &staging, clock.now()));
        let taken = control.environment_create(&staging, entry("environment.create")).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Conflict);
        control.writer.write(|tx| Ok(tx.conn.execute("DELETE FROM environments", [])?)).await.unwrap();
        let second = control.environment_create(&development, entry("environment.create")).await.unwrap();
        let third = control.environment_create(&staging, entry("environment.create")).await.unwrap();
        assert_eq!((second.number.get(), third.number.get()), (2, 3));
        assert_eq!(control.environments().await.unwrap(), [second, third]);
        assert_eq!(control.audit_after(0, 10).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn environments_are_refused_once_all_numbers_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path());
        let spend = "INSERT INTO environments (number, name, created_at) VALUES (4095, 'last', 0)";
        control.writer.write(move |tx| Ok(tx.conn.execute(spend, [])?)).await.unwrap();
        let name = Name::new("more").unwrap();
        let refused = control.environment_create(&name, entry("environment.create")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.message().contains("4095"), "{refused}");
    }

    #[tokio::test]
    async fn what_was_recorded_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path());
        control.audit(entry("login.failed")).await.unwrap();
        drop(control);
        assert!(!folder.path().join("station.db-wal").exists(), "a closed store leaves no log behind");
        let control = open(folder.path());
        let rows = control.audit_after(0, 10).await.unwrap();
        assert_eq!(rows, [AuditRow { seq: 1, entry: entry("login.failed") }]);
        let line = std::fs::read_to_string(folder.path().join("station.jsonl")).unwrap();
        assert!(
            line.starts_with(r#"{"store":"station","seq":1,"at":"1970-01-01T00:00:00.007Z","principal":{"#),
            "{line}"
        );
    }
}
