//! Connections: the one that writes, the few that read, and what their errors mean to a caller.

use crate::error::{Error, ErrorKind, Result};
use crate::home::misconfigured;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The first version without the race between a WAL reset and a second connection that can corrupt the file.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a connection waits for a foreign process (a backup, a shell) to let go of the file.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that read at the same time. Their statements are short, and more of them wouldn't be faster on one disk.
const READERS: usize = 4;

/// Refuses the database of another program, before a byte of it is changed: a home may be one that the Go Station uses, which has a
/// `station.db` too. A file that isn't there, or empty, is nobody's. Blocks.
pub fn refuse_foreign(path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() > 0) && is_foreign(path)? {
        return Err(misconfigured(format!("`{}` is another program's database", path.display()))
            .hint("move it away, or set STN_HOME to another directory; nothing in it was changed"));
    }
    Ok(())
}

/// Every store of ours has counted migrations, and an audit. One whose first migration was interrupted has no tables at all.
fn is_foreign(path: &Path) -> Result<bool> {
    let conn = open_to_look(path)?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    Ok(if version == 0 {
        count("SELECT count(*) FROM sqlite_schema")? > 0
    } else {
        count("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'audit'")? == 0
    })
}

/// A connection that changes nothing. Without a journal beside it, a file is read as it is; SQLite would otherwise make files beside one in
/// WAL mode. With one that a crash has left, SQLite makes the index that belongs to it (`-shm`), and changes neither journal nor database.
fn open_to_look(path: &Path) -> Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let wal = PathBuf::from({
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        wal
    });
    let conn = if std::fs::metadata(wal).is_ok_and(|found| found.len() > 0) {
        Connection::open_with_flags(path, flags)?
    } else {
        flags |= OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable(path), flags)?
    };
    conn.busy_timeout(PATIENCE)?;
    Ok(conn)
}

/// The address of a file that is taken to change under nobody's hands.
fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    uri + "?immutable=1"
}

/// Opens the only read-write connection, creating the file (0600) if there is none. That of another program is refused as it is.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    assert_version(rusqlite::version_number())?;
    refuse_foreign(path)?;
    // SQLite gives its `-wal` and `-shm` files the mode of this one.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|error| {
        Error::unavailable(format!("the store `{}` can't be opened: {error}", path.display())).source(error)
    })?;
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(PATIENCE)?;
    // `auto_vacuum` has to come before the first table; checkpoints are the writer thread's own.
    conn.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -4096;
         PRAGMA mmap_size = 0;
         PRAGMA trusted_schema = OFF;",
    )?;
    keep_compiled(&conn, 64)?;
    Ok(conn)
}

/// Keeps `statements` compiled. Without the planner's stability guarantee, SQLite may look at bound values to choose a plan, and then
/// compiles a kept statement again whenever they change; since every return to the cache clears them, that is with each use.
fn keep_compiled(conn: &Connection, statements: usize) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(statements);
    Ok(())
}

fn assert_version(number: i32) -> Result<()> {
    if number < OLDEST_SQLITE {
        let message =
            format!("SQLite {number} can corrupt a store under load; {OLDEST_SQLITE} is the oldest that can't");
        return Err(Error::unavailable(message).hint("build Station with its bundled SQLite"));
    }
    Ok(())
}

/// Query-only connections, opened when they are first needed and kept.
#[derive(Clone)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: Arc::new(path.to_owned()), idle: Arc::default(), turns: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs `query` on the blocking pool, on one snapshot of what is committed.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let readers = self.clone();
        // The turn travels into the task: a caller that stops waiting doesn't let one more connection in.
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|closed| Error::internal("no readers").source(closed))?;
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let conn = readers.take()?;
            let answer = snapshot(&conn, query);
            if conn.is_autocommit() {
                readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            }
            answer
        });
        task.await.map_err(|panicked| Error::internal("a query of the store panicked").source(panicked))?
    }

    fn take(&self) -> Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(conn) => Ok(conn),
            None => open_reader(&self.path),
        }
    }
}

fn snapshot<T>(conn: &Connection, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let transaction = conn.unchecked_transaction()?;
    let answer = query(&transaction);
    transaction.finish()?;
    answer
}

fn open_reader(path: &Path) -> Result<Connection> {
    // Even a reader of a WAL file writes to its `-shm`; `query_only` is what keeps the tables safe.
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(PATIENCE)?;
    conn.execute_batch(
        "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -1024; PRAGMA trusted_schema = OFF;",
    )?;
    keep_compiled(&conn, 32)?;
    Ok(conn)
}

/// A full, locked or failing disk passes, or is for the operator; everything else is a fault of ours.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let (kind, message, hint) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                (ErrorKind::Unavailable, "the disk of the store is full", Some("free some disk space"))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
                ErrorKind::Unavailable,
                "another process holds the store",
                Some("end the program that has the file open"),
            ),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => (
                ErrorKind::Unavailable,
                "the store's files can't be opened or written",
                Some("check their owner and permissions"),
            ),
            Some(ErrorCode::SystemIoFailure) => {
                (ErrorKind::Unavailable, "the disk of the store reports errors", Some("look at the system's log"))
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (ErrorKind::Internal, "the store's file is damaged", Some("restore a backup"))
            }
            _ => (ErrorKind::Internal, "the store failed", None),
        };
        let mapped = Self::new(kind, message).source(error);
        match hint {
            Some(hint) => mapped.hint(hint),
            None => mapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn an_sqlite_with_the_wal_reset_race_is_refused_and_the_first_without_it_accepted() {
        for (version, accepted) in [(3_040_001, false), (3_051_002, false), (3_051_003, true)] {
            assert_eq!(assert_version(version).is_ok(), accepted, "{version}");
        }
    }

    /// Every file of `folder` with its bytes.
    fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
        files.sort();
        files
    }

    #[test]
    fn the_database_of_another_program_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        // Names that mean something in an address.
        let folder = folder.path().join("100% o'db?#ä");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("station.db");
        for journal in ["DELETE", "WAL"] {
            for version in [0, 7, 99] {
                let theirs = Connection::open(&path).unwrap();
                let tables = "CREATE TABLE goose_db_version (id INTEGER); CREATE TABLE environments (name TEXT)";
                let pragmas = format!("PRAGMA journal_mode = {journal}; PRAGMA user_version = {version}");
                theirs
                    .execute_batch(&format!("{pragmas}; {tables}; INSERT INTO environments VALUES ('default')"))
                    .unwrap();
                if journal == "WAL" {
                    // Still open, and all that it has is in the log.
                    let before = std::fs::read(&path).unwrap();
                    assert!(refuse_foreign(&path).is_err());
                    assert_eq!(std::fs::read(&path).unwrap(), before);
                }
                drop(theirs);
                let before = files(&folder);
                let refused = open_writer(&path).unwrap_err();
                assert!(refused.message().ends_with("is another program's database"), "{refused}");
                assert_eq!(refused.report().details.unwrap()["exit_code"], 78);
                assert!(files(&folder) == before, "{journal} {version}: something was changed");
                std::fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn a_store_whose_first_migration_was_interrupted_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::write(&path, "").unwrap();
        drop(open_writer(&path).unwrap());
        assert!(std::fs::metadata(&path).unwrap().len() > 0);
        drop(open_writer(&path).unwrap());
        std::fs::write(&path, "not a database at all").unwrap();
        assert!(open_writer(&path).unwrap_err().message().contains("damaged"));
        assert_eq!(std::fs::read(&path).unwrap(), b"not a database at all");
    }

    #[tokio::test]
    async fn a_reader_sees_only_what_is_committed_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = open_writer(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER) STRICT; BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
        let readers = Readers::new(&path);
        let count = |conn: &Connection| Ok(conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?);
        assert_eq!(readers.read(count).await.unwrap(), 0);
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(readers.read(count).await.unwrap(), 1);
        let write = |conn: &Connection| Ok(conn.execute("INSERT INTO t VALUES (2)", [])?);
        assert!(readers.read(write).await.is_err());
        assert_eq!(readers.read(count).await.unwrap(), 1);
    }

    #[test]
    fn a_kept_statement_is_not_compiled_again_for_another_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = open_writer(&path).unwrap();
        let tables = "CREATE TABLE a (id TEXT PRIMARY KEY) STRICT; CREATE TABLE b (id TEXT PRIMARY KEY) STRICT";
        writer.execute_batch(tables).unwrap();
        for conn in [&writer, &open_reader(&path).unwrap()] {
            for id in ["1", "2", "3"] {
                let mut kept = conn.prepare_cached("SELECT 1 FROM a JOIN b ON b.id = a.id WHERE a.id = ?1").unwrap();
                assert!(!kept.exists([id]).unwrap());
                assert_eq!(kept.get_status(StatementStatus::RePrepare), 0);
            }
        }
    }

    #[tokio::test]
    async fn files_of_a_store_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = open_writer(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER) STRICT").unwrap();
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
