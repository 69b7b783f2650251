//! Batches, savepoints, failed commits, and the log.

use super::super::connection::{Readers, open_writer};
use super::*;
use crate::clock::ManualClock;
use crate::domain::{EnvironmentNumber, Event, EventType, RunId, Timestamp};
use crate::error::ErrorKind;
use std::path::Path;

const TABLES: &str = "CREATE TABLE parent (n INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE t (n INTEGER REFERENCES parent (n) DEFERRABLE INITIALLY DEFERRED, x BLOB) STRICT;
    CREATE TABLE audit (seq INTEGER PRIMARY KEY) STRICT";

fn start(folder: &Path, prepare: &str, events: Events) -> (Writer, Readers) {
    let path = folder.join("a.db");
    let conn = open_writer(&path).unwrap();
    conn.execute_batch(TABLES).unwrap();
    conn.execute_batch(prepare).unwrap();
    let mut audit = AuditFile::new(&folder.join("a.jsonl"), "a");
    audit.catch_up(&conn);
    let clock = ManualClock::at(Timestamp::from_millis(0));
    (Writer::start(conn, audit, clock, events, "a").unwrap(), Readers::new(&path))
}

async fn insert(writer: &Writer, n: Option<i64>) -> Result<()> {
    writer.write(move |tx| Ok(tx.conn.execute("INSERT INTO t (n) VALUES (?1)", [n]).map(|_| ())?)).await
}

async fn rows(readers: &Readers) -> i64 {
    readers.read(|conn| Ok(conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)).await.unwrap()
}

/// Keeps the writer busy until the sender is used, so that what is written meanwhile has to wait.
async fn hold(writer: &Writer) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (answer, _ignored) = oneshot::channel::<Result<()>>();
    let act = move |_: &mut Tx<'_>| held.recv().map_err(|gone| Error::internal("the test is gone").source(gone));
    let operation = Box::new(Operation { act: Some(act), done: None, answer });
    writer.operations.as_ref().unwrap().send(operation).await.unwrap();
    release
}

#[tokio::test]
async fn operations_that_wait_are_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, readers) = start(folder.path(), "", Events::default());
    let release = hold(&writer).await;
    let all = futures_util::future::join_all((0..64).map(|_| insert(&writer, None)));
    let (answers, ()) = futures_util::future::join(all, async { release.send(()).unwrap() }).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(rows(&readers).await, 64);
    assert_eq!(writer.stats(), WriterStats { commits: 1, operations: 65 });
}

#[tokio::test]
async fn a_lone_operation_is_committed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, _readers) = start(folder.path(), "", Events::default());
    for _ in 0..3 {
        insert(&writer, None).await.unwrap();
    }
    assert_eq!(writer.stats(), WriterStats { commits: 3, operations: 3 });
}

#[tokio::test]
async fn an_operation_that_fails_or_panics_takes_only_its_own_changes_along() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::default();
    let (writer, readers) = start(folder.path(), "", events.clone());
    let run = RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 1);
    let mut follower = events.follow(run);
    let tell = move |tx: &mut Tx<'_>, seq| {
        let data = serde_json::Value::Null;
        tx.publish(Event { run_id: run, epoch: 1, seq, r#type: EventType::StepStarted, at: tx.now, data });
        Ok(tx.conn.execute("INSERT INTO t (n) VALUES (NULL)", []).map(|_| ())?)
    };
    let release = hold(&writer).await;
    let fails = writer.write::<(), _>(move |tx| tell(tx, 1).and(Err(Error::conflict("no"))));
    let panics = writer.write::<(), _>(move |tx| {
        tell(tx, 2)?;
        panic!("on purpose")
    });
    let works = writer.write(move |tx| tell(tx, 3));
    let all = futures_util::future::join3(fails, panics, works);
    let ((failed, panicked, worked), ()) = futures_util::future::join(all, async { release.send(()).unwrap() }).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(panicked.unwrap_err().kind(), ErrorKind::Internal);
    worked.unwrap();
    assert_eq!(writer.stats().commits, 1);
    assert_eq!(rows(&readers).await, 1);
    let told = futures_util::future::poll_immediate(std::pin::pin!(follower.next())).await;
    assert!(matches!(told, Some(crate::events::Followed::Event(event)) if event.seq == 3));
    insert(&writer, None).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_fails_is_acknowledged_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, readers) = start(folder.path(), "", Events::default());
    let release = hold(&writer).await;
    // The orphan breaks a deferred constraint, which only the commit finds.
    let both = futures_util::future::join(insert(&writer, None), insert(&writer, Some(99)));
    let ((good, orphan), ()) = futures_util::future::join(both, async { release.send(()).unwrap() }).await;
    assert!(good.is_err() && orphan.is_err());
    assert_eq!(rows(&readers).await, 0);
    assert_eq!(writer.stats().commits, 0);
    insert(&writer, None).await.unwrap();
    assert_eq!(rows(&readers).await, 1);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, readers) = start(folder.path(), "PRAGMA max_page_count = 20", Events::default());
    let big = |tx: &mut Tx<'_>| Ok(tx.conn.execute("INSERT INTO t (x) VALUES (zeroblob(400000))", []).map(|_| ())?);
    assert_eq!(writer.write(big).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(rows(&readers).await, 0);
    insert(&writer, None).await.unwrap();
    assert_eq!(rows(&readers).await, 1);
}

#[tokio::test]
async fn the_log_is_overwritten_instead_of_growing() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, _readers) = start(folder.path(), "PRAGMA synchronous = OFF", Events::default());
    for _ in 0..60 {
        let big =
            |tx: &mut Tx<'_>| Ok(tx.conn.execute("INSERT INTO t (x) VALUES (zeroblob(1000000))", []).map(|_| ())?);
        writer.write(big).await.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("a.db-wal")).unwrap().len();
    assert!(log < 20 << 20, "{log} bytes of log after 60 MB of writes");
}

#[tokio::test]
async fn an_operation_is_done_even_if_its_caller_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, readers) = start(folder.path(), "", Events::default());
    let release = hold(&writer).await;
    let left = futures_util::future::poll_immediate(Box::pin(insert(&writer, None))).await;
    assert!(left.is_none());
    release.send(()).unwrap();
    drop(writer);
    assert_eq!(rows(&readers).await, 1);
}

#[test]
fn after_a_commit_that_failed_in_the_disk_nothing_is_written_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let conn = open_writer(&folder.path().join("a.db")).unwrap();
    conn.execute_batch(TABLES).unwrap();
    let (_jobs, waiting) = mpsc::channel(1);
    let mut desk = Desk {
        conn,
        waiting,
        audit: AuditFile::new(&folder.path().join("a.jsonl"), "a"),
        clock: ManualClock::at(Timestamp::from_millis(0)),
        events: Events::default(),
        counters: Arc::default(),
        restart_at: RESTART_PAGES,
        broken: None,
    };
    let attempt = |desk: &mut Desk| {
        let (answer, _answered) = oneshot::channel();
        let act = |tx: &mut Tx<'_>| Ok(tx.conn.execute("INSERT INTO t (n) VALUES (NULL)", [])?);
        desk.batch(&mut vec![Box::new(Operation { act: Some(act), done: None, answer })]).map(|_| ())
    };
    attempt(&mut desk).unwrap();
    let fsync_failed =
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC), None);
    assert_eq!(desk.failed_commit(fsync_failed).kind(), ErrorKind::Unavailable);
    assert_eq!(attempt(&mut desk).unwrap_err().kind(), ErrorKind::Unavailable);
    let rows: i64 = desk.conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}
