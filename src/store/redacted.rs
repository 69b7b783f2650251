//! What is kept holds no secret: every write passes the redactor on its way to the store that stands behind this one. Events pass it on
//! their way out too, because a stream of them goes by no other: what was kept before it became a secret is in there as it was.
//!
//! Each method of the traits is here by name, so that whoever adds one has to decide what of it is text. Files that people wrote
//! (agents and their bytes) pass as they are: they are kept under the hash of their content, and lie on the disk beside the store.

use super::{
    AgentKey, AgentRow, AgentWrite, Ancestor, AuditRow, Cancelled, Claim, Closed, ControlStore, DataKeyRow, Ending,
    EnvironmentRow, FormerAgent, Grant, Intent, JournalBatch, JournalRow, Outcome, Owner, PendingFile, RunFilter, Seal,
    SecretRow, ServerRow, Store, Submit, Submitted, SyncChanges, Written,
};
use super::{KeyChange, NewKey, PrincipalStore, UserChange, UserHandle};
use crate::domain::{
    AgentId, Answer, AuditEntry, AuditOutcome, Budget, Event, KeyRecord, Name, PrincipalRef, Request, Role, Run, RunId,
    Step, Timestamp, User, WaitingFor,
};
use crate::error::Result;
use crate::home::KeyProof;
use crate::redact::Redactor;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;

/// A store behind the redactor.
#[derive(Debug)]
pub struct Redacted<S: ?Sized> {
    redactor: Redactor,
    store: Arc<S>,
}

impl<S: ?Sized> Redacted<S> {
    pub fn new(redactor: Redactor, store: Arc<S>) -> Self {
        Self { redactor, store }
    }

    fn audit_entry(&self, mut entry: AuditEntry) -> AuditEntry {
        let text = |text: String| self.redactor.string(text);
        // Who did what to what under which request is the station's own word: whoever sets a secret to a name of ours must not make the
        // record unreadable. Only of what was denied the target is the caller's word, which nobody has checked.
        if entry.outcome == AuditOutcome::Denied {
            entry.target = entry.target.map(text);
        }
        entry.reason = entry.reason.map(text);
        entry.details = entry.details.map(|details| self.redactor.json(details));
        entry
    }

    fn closed(&self, mut closed: Closed) -> Closed {
        closed.result = closed.result.map(|result| self.redactor.json(result));
        closed.shown = closed.shown.map(|shown| self.redactor.string(shown));
        closed.error = closed.error.map(|error| self.redactor.string(error));
        if let Some(native) = &mut closed.native {
            native.json = self.redactor.json_text(&native.json).into_owned();
        }
        closed
    }

    fn outcome(&self, outcome: Outcome) -> Outcome {
        Outcome {
            closed: self.closed(outcome.closed),
            audit: outcome.audit.map(|audit| self.audit_entry(audit)),
            ..outcome
        }
    }

    fn intent(&self, intent: Intent) -> Intent {
        Intent {
            name: self.redactor.string(intent.name),
            arguments: intent.arguments.map(|arguments| self.redactor.json(arguments)),
            call_id: intent.call_id.map(|id| self.redactor.string(id)),
            closed: intent.closed.map(|closed| self.closed(closed)),
            replaces: intent.replaces.map(|outcome| self.outcome(outcome)),
            audit: intent.audit.map(|audit| self.audit_entry(audit)),
            ..intent
        }
    }

    fn batch(&self, batch: JournalBatch) -> JournalBatch {
        if self.redactor.is_empty() {
            return batch;
        }
        JournalBatch {
            outcomes: batch.outcomes.into_iter().map(|outcome| self.outcome(outcome)).collect(),
            intents: batch.intents.into_iter().map(|intent| self.intent(intent)).collect(),
            turns: batch.turns,
            pinned_tools: batch.pinned_tools.map(|tools| self.redactor.json_text(&tools).into_owned()),
        }
    }

    fn ending(&self, ending: Ending) -> Ending {
        match ending {
            Ending::Completed { output } => Ending::Completed { output: self.redactor.json(output) },
            Ending::Failed { kind, message } => Ending::Failed { kind, message: self.redactor.string(message) },
            Ending::Cancelled => Ending::Cancelled,
        }
    }
}

#[async_trait]
impl<S: ControlStore + ?Sized> ControlStore for Redacted<S> {
    async fn environments(&self) -> Result<Vec<EnvironmentRow>> {
        self.store.environments().await
    }

    async fn environment_create(&self, name: &Name, audit: AuditEntry) -> Result<EnvironmentRow> {
        self.store.environment_create(name, self.audit_entry(audit)).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.store.audit(self.audit_entry(entry)).await
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.store.audit_after(seq, limit).await
    }
}

#[async_trait]
impl<S: ControlStore + ?Sized> PrincipalStore for Redacted<S> {
    async fn users(&self, after: Option<&Name>, limit: u32) -> Result<Vec<User>> {
        self.store.users(after, limit).await
    }

    async fn user(&self, handle: &UserHandle) -> Result<Option<User>> {
        self.store.user(handle).await
    }

    async fn user_create(&self, name: &Name, display_name: Option<String>, audit: AuditEntry) -> Result<User> {
        let display_name = display_name.map(|name| self.redactor.string(name));
        self.store.user_create(name, display_name, self.audit_entry(audit)).await
    }

    async fn user_update(&self, id: i64, change: UserChange, audit: AuditEntry) -> Result<User> {
        let display_name = change.display_name.map(|name| name.map(|name| self.redactor.string(name)));
        self.store.user_update(id, UserChange { display_name, ..change }, self.audit_entry(audit)).await
    }

    async fn user_delete(&self, id: i64, audit: AuditEntry) -> Result<()> {
        self.store.user_delete(id, self.audit_entry(audit)).await
    }

    async fn role_set(
        &self,
        id: i64,
        environment: Option<&Name>,
        role: Option<Role>,
        audit: AuditEntry,
    ) -> Result<User> {
        self.store.role_set(id, environment, role, self.audit_entry(audit)).await
    }

    async fn api_keys(&self, user: Option<i64>, after: Option<(Name, String)>, limit: u32) -> Result<Vec<KeyRecord>> {
        self.store.api_keys(user, after, limit).await
    }

    async fn api_key(&self, id: &str) -> Result<Option<KeyRecord>> {
        self.store.api_key(id).await
    }

    async fn api_key_proved(&self, proof: KeyProof) -> Result<Option<KeyRecord>> {
        self.store.api_key_proved(proof).await
    }

    async fn api_key_create(&self, key: NewKey, audit: AuditEntry) -> Result<KeyRecord> {
        self.store.api_key_create(key, self.audit_entry(audit)).await
    }

    async fn api_key_update(&self, id: &str, change: KeyChange, audit: AuditEntry) -> Result<KeyRecord> {
        self.store.api_key_update(id, change, self.audit_entry(audit)).await
    }

    async fn api_key_delete(&self, id: &str, audit: AuditEntry) -> Result<()> {
        self.store.api_key_delete(id, self.audit_entry(audit)).await
    }

    async fn api_key_used(&self, id: &str, at: Timestamp) -> Result<()> {
        self.store.api_key_used(id, at).await
    }

    fn principals_changed(&self) -> watch::Receiver<u64> {
        self.store.principals_changed()
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Redacted<S> {
    async fn agents(&self, after: Option<&Name>, limit: u32) -> Result<Vec<AgentRow>> {
        self.store.agents(after, limit).await
    }

    async fn agent(&self, key: &AgentKey) -> Result<Option<AgentRow>> {
        self.store.agent(key).await
    }

    async fn former_agent(&self, key: &AgentKey) -> Result<Option<FormerAgent>> {
        self.store.former_agent(key).await
    }

    async fn agent_write(&self, write: AgentWrite, audit: AuditEntry) -> Result<AgentRow> {
        self.store.agent_write(write, self.audit_entry(audit)).await
    }

    async fn agent_delete(&self, name: &Name, replaces: Option<&str>, audit: AuditEntry) -> Result<bool> {
        self.store.agent_delete(name, replaces, self.audit_entry(audit)).await
    }

    async fn agent_pause(&self, name: &Name, paused: bool, audit: AuditEntry) -> Result<AgentRow> {
        self.store.agent_pause(name, paused, self.audit_entry(audit)).await
    }

    async fn pending_files(&self) -> Result<Vec<PendingFile>> {
        self.store.pending_files().await
    }

    async fn file_promise(&self, file: &str, bytes: Vec<u8>, replaces: Option<&str>, audit: AuditEntry) -> Result<()> {
        self.store.file_promise(file, bytes, replaces, self.audit_entry(audit)).await
    }

    async fn file_written(&self, id: i64) -> Result<()> {
        self.store.file_written(id).await
    }

    async fn apply_sync(&self, mut changes: SyncChanges, audit: AuditEntry) -> Result<()> {
        // A problem quotes the file.
        changes.broken.iter_mut().for_each(|(_, problem)| *problem = self.redactor.text(problem).into_owned());
        self.store.apply_sync(changes, self.audit_entry(audit)).await
    }

    async fn data_keys(&self) -> Result<Vec<DataKeyRow>> {
        self.store.data_keys().await
    }

    async fn data_key_add(&self, key: DataKeyRow) -> Result<()> {
        self.store.data_key_add(key).await
    }

    async fn secrets(&self, after: Option<&str>, limit: u32) -> Result<Vec<SecretRow>> {
        self.store.secrets(after, limit).await
    }

    async fn secret_put(&self, name: &str, generation: u32, seal: Seal, audit: AuditEntry) -> Result<SecretRow> {
        self.store.secret_put(name, generation, seal, self.audit_entry(audit)).await
    }

    async fn secret_delete(&self, name: &str, audit: AuditEntry) -> Result<bool> {
        self.store.secret_delete(name, self.audit_entry(audit)).await
    }

    async fn config_revision(&self) -> Result<Option<String>> {
        self.store.config_revision().await
    }

    async fn servers(&self) -> Result<Vec<ServerRow>> {
        self.store.servers().await
    }

    async fn server_accept(&self, name: &Name, command_hash: &str, audit: AuditEntry) -> Result<ServerRow> {
        self.store.server_accept(name, command_hash, self.audit_entry(audit)).await
    }

    async fn submitted(
        &self,
        principal: &PrincipalRef,
        agent: AgentId,
        key: &str,
        input: &serde_json::Value,
    ) -> Result<Option<Run>> {
        self.store.submitted(principal, agent, key, &self.redactor.json(input.clone())).await
    }

    async fn submit(&self, submit: Submit) -> Result<Submitted> {
        let input = self.redactor.json(submit.input);
        let audit = self.audit_entry(submit.audit);
        self.store.submit(Submit { input, audit, ..submit }).await
    }

    async fn claim(&self, owner: &Owner, want: u32) -> Result<Vec<Claim>> {
        self.store.claim(owner, want).await
    }

    async fn journal_rows(&self, run: RunId) -> Result<Vec<JournalRow>> {
        self.store.journal_rows(run).await
    }

    async fn journal(&self, grant: &Grant, batch: JournalBatch) -> Result<Written> {
        self.store.journal(grant, self.batch(batch)).await
    }

    async fn park(&self, grant: &Grant, waiting_for: WaitingFor, in_doubt: &[i64]) -> Result<Written> {
        self.store.park(grant, waiting_for, in_doubt).await
    }

    async fn answer(&self, run: RunId, seq: Option<i64>, answer: Answer, audit: AuditEntry) -> Result<Run> {
        let answer = Answer { result: answer.result.map(|result| self.redactor.string(result)), ..answer };
        self.store.answer(run, seq, answer, self.audit_entry(audit)).await
    }

    async fn release(&self, grant: &Grant) -> Result<Written> {
        self.store.release(grant).await
    }

    async fn finish(&self, grant: &Grant, ending: Ending) -> Result<Written> {
        self.store.finish(grant, self.ending(ending)).await
    }

    async fn cancel(&self, run: RunId, audit: AuditEntry) -> Result<Cancelled> {
        self.store.cancel(run, self.audit_entry(audit)).await
    }

    async fn cancel_requested(&self, run: RunId) -> Result<bool> {
        self.store.cancel_requested(run).await
    }

    async fn take_over(&self, owner: &Owner) -> Result<u64> {
        self.store.take_over(owner).await
    }

    async fn wait_for_children(&self, grant: &Grant) -> Result<Written> {
        self.store.wait_for_children(grant).await
    }

    async fn lineage(&self, run: RunId) -> Result<Vec<Ancestor>> {
        self.store.lineage(run).await
    }

    async fn budgets(&self, run: RunId) -> Result<Vec<Budget>> {
        self.store.budgets(run).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<RunId>> {
        self.store.overdue(now).await
    }

    async fn time_out(&self, run: RunId) -> Result<bool> {
        self.store.time_out(run).await
    }

    async fn unanswered(&self, now: Timestamp) -> Result<Vec<RunId>> {
        self.store.unanswered(now).await
    }

    async fn expire(&self, run: RunId) -> Result<bool> {
        self.store.expire(run).await
    }

    async fn called_off(&self) -> Result<Vec<RunId>> {
        self.store.called_off().await
    }

    async fn live_runs(&self) -> Result<u64> {
        self.store.live_runs().await
    }

    async fn runs_under_way(&self) -> Result<u64> {
        self.store.runs_under_way().await
    }

    async fn run(&self, id: RunId) -> Result<Option<Run>> {
        self.store.run(id).await
    }

    async fn runs_by_prefix(&self, prefix: &str, limit: u32) -> Result<Vec<RunId>> {
        self.store.runs_by_prefix(prefix, limit).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        self.store.runs(filter).await
    }

    async fn requests(&self, after: Option<(Timestamp, RunId, i64)>, limit: u32) -> Result<Vec<Request>> {
        self.store.requests(after, limit).await
    }

    async fn steps(&self, run: RunId, after: Option<(i64, i64)>, limit: u32) -> Result<Vec<Step>> {
        self.store.steps(run, after, limit).await
    }

    async fn events_after(&self, run: RunId, seq: i64, limit: u32) -> Result<Vec<Event>> {
        let mut events = self.store.events_after(run, seq, limit).await?;
        for event in &mut events {
            self.redactor.json_in_place(&mut event.data);
        }
        Ok(events)
    }

    async fn audit_intent(&self, entry: AuditEntry) -> Result<()> {
        self.store.audit_intent(self.audit_entry(entry)).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.store.audit(self.audit_entry(entry)).await
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.store.audit_after(seq, limit).await
    }
}
