//! The stores in SQLite: one file each, one `writer` thread with group commit, query-only readers.
//!
//! Here is the mapping from the traits to SQL and back, and nothing else: what an act means is said by the traits, and who may do it by
//! `tools/`. A new table group is a file here (operations take a `transaction::Tx`, queries a connection), its tables come with a
//! migration, and the traits' implementations in this file and in `control` only hand over.

mod agents;
mod api_keys;
mod audit;
mod audit_file;
mod budgets;
mod children;
mod column;
mod connection;
mod control;
mod ending;
mod expiry;
mod files;
mod journal;
mod migrate;
mod park;
mod queue;
mod requests;
mod run_state;
mod runs;
mod secrets;
mod servers;
mod steps;
mod submit;
mod transaction;
mod users;
mod writer;

pub use connection::refuse_foreign;
pub use control::SqliteControl;
pub use migrate::SCHEMA;
pub use writer::WriterStats;

use crate::clock::SharedClock;
use crate::domain::{
    AgentId, Answer, AuditEntry, Budget, EnvironmentNumber, Event, Name, PrincipalRef, Request, Run, RunId, Step,
    Timestamp, WaitingFor,
};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::store::{
    AgentKey, AgentRow, AgentWrite, Ancestor, AuditRow, Cancelled, Claim, DataKeyRow, Ending, FormerAgent, Grant,
    JournalBatch, JournalRow, Owner, PendingFile, RunFilter, Seal, SecretRow, ServerRow, Store, Submit, Submitted,
    SyncChanges, Written,
};
use async_trait::async_trait;
use audit_file::AuditFile;
use connection::{Readers, open_writer};
use journal::Journaled;
use std::path::Path;
use writer::Writer;

/// One environment's store, kept in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    name: Name,
    number: EnvironmentNumber,
    // Before the writer: the last connection to be closed is the one that may write, so that SQLite can tidy up its log.
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens or creates the store of `environment` at `path` and repairs `audit_file` from its rows. Blocks. `unavailable` when the file
    /// can't be opened or was written by a later version. An audit file that can't be written is no error here: the store opens, and
    /// refuses whatever is new until it can.
    pub fn open(
        path: &Path,
        audit_file: &Path,
        environment: (Name, EnvironmentNumber),
        clock: SharedClock,
        events: Events,
    ) -> Result<Self> {
        let (name, number) = environment;
        let in_store = |error: Error| error.context(format!("store `{}`", path.display()));
        let mut conn = open_writer(path).map_err(in_store)?;
        migrate::migrate(&mut conn, migrate::ENVIRONMENT).map_err(in_store)?;
        let mut audit = AuditFile::new(audit_file, name.as_str());
        audit.catch_up(&conn);
        let writer = Writer::start(conn, audit, clock, events, name.as_str())?;
        Ok(Self { name, number, readers: Readers::new(path), writer })
    }

    /// What the writer has done since it was opened.
    pub fn stats(&self) -> WriterStats {
        self.writer.stats()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn agents(&self, after: Option<&Name>, limit: u32) -> Result<Vec<AgentRow>> {
        let after = after.cloned();
        self.readers.read(move |conn| agents::list(conn, after.as_ref(), limit)).await
    }

    async fn agent(&self, key: &AgentKey) -> Result<Option<AgentRow>> {
        let key = key.clone();
        self.readers.read(move |conn| agents::get(conn, &key)).await
    }

    async fn former_agent(&self, key: &AgentKey) -> Result<Option<FormerAgent>> {
        let (key, environment) = (key.clone(), self.name.clone());
        self.readers.read(move |conn| agents::former(conn, &environment, &key)).await
    }

    async fn agent_write(&self, write: AgentWrite, audit: AuditEntry) -> Result<AgentRow> {
        self.writer.write(move |tx| agents::write(tx, write, audit)).await
    }

    async fn agent_delete(&self, name: &Name, replaces: Option<&str>, audit: AuditEntry) -> Result<bool> {
        let (environment, name, replaces) = (self.name.clone(), name.clone(), replaces.map(str::to_owned));
        self.writer.write(move |tx| agents::delete(tx, &environment, &name, replaces.as_deref(), audit)).await
    }

    async fn file_promise(&self, file: &str, bytes: Vec<u8>, replaces: Option<&str>, audit: AuditEntry) -> Result<()> {
        let (file, replaces) = (file.to_owned(), replaces.map(str::to_owned));
        self.writer.write(move |tx| files::change(tx, &file, &bytes, replaces.as_deref(), audit)).await
    }

    async fn agent_pause(&self, name: &Name, paused: bool, audit: AuditEntry) -> Result<AgentRow> {
        let (name, environment) = (name.clone(), self.name.clone());
        self.writer.write(move |tx| agents::pause(tx, &environment, &name, paused, audit)).await
    }

    async fn pending_files(&self) -> Result<Vec<PendingFile>> {
        self.readers.read(files::pending).await
    }

    async fn file_written(&self, id: i64) -> Result<()> {
        self.writer.write(move |tx| files::kept(tx, id)).await
    }

    async fn apply_sync(&self, changes: SyncChanges, audit: AuditEntry) -> Result<()> {
        self.writer.write(move |tx| servers::apply_sync(tx, &changes, audit)).await
    }

    async fn config_revision(&self) -> Result<Option<String>> {
        self.readers.read(servers::config_revision).await
    }

    async fn servers(&self) -> Result<Vec<ServerRow>> {
        self.readers.read(servers::list).await
    }

    async fn server_accept(&self, name: &Name, command_hash: &str, audit: AuditEntry) -> Result<ServerRow> {
        let (name, command_hash) = (name.clone(), command_hash.to_owned());
        self.writer.write(move |tx| servers::accept(tx, &name, &command_hash, audit)).await
    }

    async fn data_keys(&self) -> Result<Vec<DataKeyRow>> {
        self.readers.read(secrets::data_keys).await
    }

    async fn data_key_add(&self, key: DataKeyRow) -> Result<()> {
        self.writer.write(move |tx| secrets::data_key_add(tx, &key)).await
    }

    async fn secrets(&self, after: Option<&str>, limit: u32) -> Result<Vec<SecretRow>> {
        let after = after.map(str::to_owned);
        self.readers.read(move |conn| secrets::list(conn, after.as_deref(), limit)).await
    }

    async fn secret_put(&self, name: &str, generation: u32, seal: Seal, audit: AuditEntry) -> Result<SecretRow> {
        let name = name.to_owned();
        self.writer.write(move |tx| secrets::put(tx, &name, generation, seal, audit)).await
    }

    async fn secret_delete(&self, name: &str, audit: AuditEntry) -> Result<bool> {
        let name = name.to_owned();
        self.writer.write(move |tx| secrets::delete(tx, &name, audit)).await
    }

    async fn submitted(
        &self,
        principal: &PrincipalRef,
        agent: AgentId,
        key: &str,
        input: &serde_json::Value,
    ) -> Result<Option<Run>> {
        let (environment, principal, key, input) =
            (self.name.clone(), principal.clone(), key.to_owned(), input.clone());
        self.readers.read(move |conn| submit::submitted(conn, &environment, (&principal, agent, &key), &input)).await
    }

    async fn submit(&self, submit: Submit) -> Result<Submitted> {
        if submit.id.environment() != self.number {
            let (id, name) = (submit.id, &self.name);
            return Err(Error::internal(format!("run `{id}` belongs to another environment than `{name}`")));
        }
        let environment = self.name.clone();
        self.writer.write(move |tx| submit::submit(tx, &environment, submit)).await
    }

    async fn claim(&self, owner: &Owner, want: u32) -> Result<Vec<Claim>> {
        let (environment, owner) = (self.name.clone(), owner.clone());
        self.writer.write(move |tx| queue::claim(tx, &environment, &owner, want)).await
    }

    async fn journal_rows(&self, run: RunId) -> Result<Vec<JournalRow>> {
        self.readers.read(move |conn| steps::journal(conn, run)).await
    }

    async fn journal(&self, grant: &Grant, batch: JournalBatch) -> Result<Written> {
        let grant = same(grant);
        match self.writer.write(move |tx| journal::journal(tx, &grant, batch)).await? {
            Journaled::Whole(written) => Ok(written),
            Journaled::OutcomesOnly => Err(transaction::audit_unavailable()),
        }
    }

    async fn park(&self, grant: &Grant, waiting_for: WaitingFor, steps: &[i64]) -> Result<Written> {
        let (environment, grant, steps) = (self.name.clone(), same(grant), steps.to_vec());
        self.writer.write(move |tx| park::park(tx, &environment, &grant, waiting_for, &steps)).await
    }

    async fn wait_for_children(&self, grant: &Grant) -> Result<Written> {
        let (environment, grant) = (self.name.clone(), same(grant));
        self.writer.write(move |tx| children::wait(tx, &environment, &grant)).await
    }

    async fn lineage(&self, run: RunId) -> Result<Vec<Ancestor>> {
        self.readers.read(move |conn| children::lineage(conn, run)).await
    }

    async fn budgets(&self, run: RunId) -> Result<Vec<Budget>> {
        self.readers.read(move |conn| budgets::of(conn, run)).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<RunId>> {
        self.readers.read(move |conn| children::overdue(conn, now)).await
    }

    async fn time_out(&self, run: RunId) -> Result<bool> {
        let environment = self.name.clone();
        self.writer.write(move |tx| children::time_out(tx, &environment, run)).await
    }

    async fn unanswered(&self, now: Timestamp) -> Result<Vec<RunId>> {
        self.readers.read(move |conn| expiry::unanswered(conn, now)).await
    }

    async fn expire(&self, run: RunId) -> Result<bool> {
        let environment = self.name.clone();
        self.writer.write(move |tx| expiry::expire(tx, &environment, run)).await
    }

    async fn called_off(&self) -> Result<Vec<RunId>> {
        self.readers.read(children::called_off).await
    }

    async fn answer(&self, run: RunId, seq: Option<i64>, answer: Answer, audit: AuditEntry) -> Result<Run> {
        let environment = self.name.clone();
        self.writer.write(move |tx| park::answer(tx, &environment, run, seq, &answer, audit)).await
    }

    async fn requests(&self, after: Option<(Timestamp, RunId, i64)>, limit: u32) -> Result<Vec<Request>> {
        let environment = self.name.clone();
        self.readers.read(move |conn| requests::list(conn, &environment, after, limit)).await
    }

    async fn release(&self, grant: &Grant) -> Result<Written> {
        let (environment, grant) = (self.name.clone(), same(grant));
        self.writer.write(move |tx| queue::release(tx, &environment, &grant)).await
    }

    async fn finish(&self, grant: &Grant, ending: Ending) -> Result<Written> {
        let (environment, grant) = (self.name.clone(), same(grant));
        self.writer.write(move |tx| ending::finish(tx, &environment, &grant, ending)).await
    }

    async fn cancel(&self, run: RunId, audit: AuditEntry) -> Result<Cancelled> {
        let environment = self.name.clone();
        self.writer.write(move |tx| ending::cancel(tx, &environment, run, audit)).await
    }

    async fn cancel_requested(&self, run: RunId) -> Result<bool> {
        self.readers.read(move |conn| runs::cancel_requested(conn, run)).await
    }

    async fn take_over(&self, owner: &Owner) -> Result<u64> {
        let (environment, owner) = (self.name.clone(), owner.clone());
        self.writer.write(move |tx| queue::take_over(tx, &environment, &owner)).await
    }

    async fn live_runs(&self) -> Result<u64> {
        self.readers.read(runs::live).await
    }

    async fn runs_under_way(&self) -> Result<u64> {
        self.readers.read(runs::under_way).await
    }

    async fn run(&self, id: RunId) -> Result<Option<Run>> {
        let environment = self.name.clone();
        self.readers.read(move |conn| runs::get(conn, &environment, id)).await
    }

    async fn runs_by_prefix(&self, prefix: &str, limit: u32) -> Result<Vec<RunId>> {
        let prefix = prefix.to_owned();
        self.readers.read(move |conn| runs::by_prefix(conn, &prefix, limit)).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let (environment, filter) = (self.name.clone(), filter.clone());
        self.readers.read(move |conn| runs::list(conn, &environment, &filter)).await
    }

    async fn steps(&self, run: RunId, after: Option<(i64, i64)>, limit: u32) -> Result<Vec<Step>> {
        self.readers.read(move |conn| steps::list(conn, run, after, limit)).await
    }

    async fn events_after(&self, run: RunId, seq: i64, limit: u32) -> Result<Vec<Event>> {
        self.readers.read(move |conn| runs::events_after(conn, run, seq, limit)).await
    }

    async fn audit_intent(&self, entry: AuditEntry) -> Result<()> {
        let record = move |tx: &mut transaction::Tx<'_>| {
            tx.require_audit()?;
            tx.audit(entry)
        };
        self.writer.write(record).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.writer.write(move |tx| tx.audit(entry)).await
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.readers.read(move |conn| audit::after(conn, seq, limit)).await
    }
}

/// The grant as an operation carries it to the writer's thread. It doesn't outlive the call, so its holder stays the only one.
fn same(grant: &Grant) -> Grant {
    Grant { run_id: grant.run_id, epoch: grant.epoch }
}

#[cfg(test)]
mod tests;
