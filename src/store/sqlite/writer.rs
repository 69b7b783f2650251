//! The writer: one thread owns a store's only read-write connection and groups commits. It takes what waits, runs each operation in a
//! savepoint of one transaction, commits once, tells followers and the audit file, and only then answers. There is no timer: the disk's
//! fsync of one batch is the time in which the next one gathers, and a lone operation waits for nobody.

use super::audit_file::AuditFile;
use super::connection::PATIENCE;
use super::transaction::{Told, Tx};
use crate::clock::SharedClock;
use crate::error::{Error, ErrorReport, Result};
use crate::events::Events;
use rusqlite::{Connection, ErrorCode};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Operations of one commit, at most; what comes after waits one fsync longer.
const BATCH: usize = 256;

/// Operations that wait for the writer before callers have to.
const WAITING: usize = 1024;

/// WAL pages (4 KiB) that are copied back when nobody waits.
const CHECKPOINT_PAGES: i64 = 1_000;

/// WAL pages (16 MiB) at which the writer makes room even under load, so that the log is overwritten instead of growing.
const RESTART_PAGES: i64 = 4_096;

/// How long making room may wait for readers.
const RESTART_PATIENCE: Duration = Duration::from_millis(100);

/// How much a writer has done. `operations / commits` is what group commit gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterStats {
    pub commits: u64,
    pub operations: u64,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    operations: AtomicU64,
}

/// The sending end. Dropping it lets the thread finish what waits and close the file.
#[derive(Debug)]
pub(super) struct Writer {
    operations: Option<mpsc::Sender<Box<dyn Queued>>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

/// One operation with its caller's end, whatever its type.
trait Queued: Send {
    /// Runs the operation; `true` keeps its changes.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;

    /// Answers the caller. `failure` is why the batch didn't commit.
    fn settle(self: Box<Self>, failure: Option<&ErrorReport>);
}

impl fmt::Debug for dyn Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queued")
    }
}

struct Operation<T, F> {
    act: Option<F>,
    done: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Queued for Operation<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(act) = self.act.take() else { return false };
        // A panic is this caller's failure alone: its savepoint is rolled back, and nothing else of it survives.
        let done = catch_unwind(AssertUnwindSafe(|| act(tx)))
            .unwrap_or_else(|_panic| Err(Error::internal("an operation of the store panicked")));
        let keep = done.is_ok();
        self.done = Some(done);
        keep
    }

    fn settle(self: Box<Self>, failure: Option<&ErrorReport>) {
        let outcome = match (self.done, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(failure.clone().into()),
            (Some(done), None) => done,
            (None, None) => Err(gone()),
        };
        // A caller that stopped waiting has nothing to hear.
        let _left = self.answer.send(outcome);
    }
}

impl Writer {
    /// Starts the thread. `name` is the store's.
    pub(super) fn start(
        conn: Connection,
        audit: AuditFile,
        clock: SharedClock,
        events: Events,
        name: &str,
    ) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let (operations, waiting) = mpsc::channel(WAITING);
        let (restart_at, broken) = (RESTART_PAGES, None);
        let mut desk =
            Desk { conn, waiting, audit, clock, events, counters: Arc::clone(&counters), restart_at, broken };
        let thread = std::thread::Builder::new()
            .name(format!("store-{name}"))
            .spawn(move || desk.work())
            .map_err(|error| Error::unavailable("the store's writer can't be started").source(error))?;
        Ok(Self { operations: Some(operations), thread: Some(thread), counters })
    }

    /// Runs `act` in the next transaction and answers after its commit. An operation that was handed over is done even if its caller
    /// stops waiting.
    pub(super) async fn write<T, F>(&self, act: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let operation = Box::new(Operation { act: Some(act), done: None, answer });
        let operations = self.operations.as_ref().ok_or_else(gone)?;
        operations.send(operation).await.map_err(|_closed| gone())?;
        answered.await.map_err(|_closed| gone())?
    }

    pub(super) fn stats(&self) -> WriterStats {
        WriterStats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            operations: self.counters.operations.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Writer {
    /// Waits for the thread, so that the file is closed once its store is gone: the home's next owner opens it right away.
    fn drop(&mut self) {
        self.operations = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a store's writer ended in a panic");
        }
    }
}

fn gone() -> Error {
    Error::unavailable("the store is closed").hint("restart the station")
}

/// What the thread holds.
struct Desk {
    conn: Connection,
    waiting: mpsc::Receiver<Box<dyn Queued>>,
    audit: AuditFile,
    clock: SharedClock,
    events: Events,
    counters: Arc<Counters>,
    restart_at: i64,
    /// Set for good when a commit failed in the disk: what the kernel dropped then, no later fsync brings back.
    broken: Option<ErrorReport>,
}

impl Desk {
    fn work(&mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut operations = vec![first];
            let outcome = self.batch(&mut operations);
            let failure = match outcome {
                Ok(told) => {
                    self.tell(told);
                    None
                }
                Err(error) => {
                    tracing::error!(?error, operations = operations.len(), "a batch of the store failed");
                    Some(error.report())
                }
            };
            for operation in operations {
                operation.settle(failure.as_ref());
            }
            if failure.is_none()
                && let Err(error) = self.checkpoint()
            {
                tracing::warn!(%error, "a checkpoint of the store failed");
            }
        }
    }

    fn batch(&mut self, operations: &mut Vec<Box<dyn Queued>>) -> Result<Told> {
        if let Some(failure) = &self.broken {
            return Err(failure.clone().into());
        }
        if self.audit.is_behind() {
            self.audit.catch_up(&self.conn);
        }
        let told = self.transact(operations).inspect_err(|_| self.roll_back())?;
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.operations.fetch_add(operations.len() as u64, Ordering::Relaxed);
        Ok(told)
    }

    fn transact(&mut self, operations: &mut Vec<Box<dyn Queued>>) -> Result<Told> {
        execute(&self.conn, "BEGIN IMMEDIATE")?;
        let mut tx = Tx::new(&self.conn, self.clock.now(), self.audit.is_behind());
        let mut next = 0;
        while let Some(operation) = operations.get_mut(next) {
            tx.now = self.clock.now();
            in_savepoint(&mut tx, operation.as_mut())?;
            next += 1;
            if next == operations.len() && next < BATCH {
                operations.extend(self.waiting.try_recv().ok());
            }
        }
        let told = tx.into_told();
        if let Err(error) = execute(&self.conn, "COMMIT") {
            return Err(self.failed_commit(error));
        }
        Ok(told)
    }

    fn failed_commit(&mut self, error: rusqlite::Error) -> Error {
        let in_the_disk = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        let error = Error::from(error);
        if in_the_disk {
            let error = error.hint("check the disk, then restart the station: nothing more is written until then");
            self.broken = Some(error.report());
            return error;
        }
        error
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = execute(&self.conn, "ROLLBACK")
        {
            tracing::error!(%error, "a batch of the store couldn't be rolled back");
        }
    }

    /// Followers and the audit file hear of a batch before its callers do, so that whoever has an answer can rely on both.
    fn tell(&mut self, told: Told) {
        for event in told.events {
            self.events.publish(event);
        }
        self.audit.append(&told.audit);
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let (pages, copied) = wal(&self.conn, "PRAGMA wal_checkpoint(NOOP)")?;
        if pages >= self.restart_at {
            self.conn.busy_timeout(RESTART_PATIENCE)?;
            let restarted = wal(&self.conn, "PRAGMA wal_checkpoint(RESTART)");
            self.conn.busy_timeout(PATIENCE)?;
            // A reader that stays in the log must not cost every batch that patience again.
            let (left, copied) = restarted?;
            self.restart_at = RESTART_PAGES + if copied < left { left } else { 0 };
        } else if pages - copied >= CHECKPOINT_PAGES && self.waiting.is_empty() {
            wal(&self.conn, "PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }
}

/// Pages in the log, and how many of them have been copied back.
fn wal(conn: &Connection, pragma: &str) -> rusqlite::Result<(i64, i64)> {
    conn.prepare_cached(pragma)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// An error here is the whole batch's.
fn in_savepoint(tx: &mut Tx<'_>, operation: &mut dyn Queued) -> Result<()> {
    execute(tx.conn, "SAVEPOINT operation")?;
    let mark = tx.mark();
    let keep = operation.run(tx);
    if tx.conn.is_autocommit() {
        // On some errors, such as a full disk, SQLite ends the whole transaction by itself.
        return Err(
            Error::unavailable("the store gave up a batch of writes").hint("check the disk's free space and try again")
        );
    }
    if !keep {
        execute(tx.conn, "ROLLBACK TO operation")?;
        tx.forget_since(mark);
    }
    execute(tx.conn, "RELEASE operation")?;
    Ok(())
}

#[cfg(test)]
mod tests;
