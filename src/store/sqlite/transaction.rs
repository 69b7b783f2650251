//! What an operation of the writer works with.

use super::audit;
use crate::domain::{AuditEntry, Event, Timestamp};
use crate::error::{Error, Result};
use crate::store::AuditRow;
use rusqlite::Connection;

/// The open transaction of a batch, as one operation sees it. What it emits and audits becomes known after the commit.
pub(super) struct Tx<'c> {
    pub(super) conn: &'c Connection,
    /// Now, as of the operation's begin.
    pub(super) now: Timestamp,
    audit_behind: bool,
    events: Vec<Event>,
    audit: Vec<AuditRow>,
}

/// What a committed batch has to tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) events: Vec<Event>,
    pub(super) audit: Vec<AuditRow>,
}

/// How much had been emitted and audited before an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    events: usize,
    audit: usize,
}

impl<'c> Tx<'c> {
    pub(super) fn new(conn: &'c Connection, now: Timestamp, audit_behind: bool) -> Self {
        Self { conn, now, audit_behind, events: Vec::new(), audit: Vec::new() }
    }

    /// Publishes `event` after the commit. The caller has stored it.
    pub(super) fn publish(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Records an act; it commits together with what the operation does.
    pub(super) fn audit(&mut self, entry: AuditEntry) -> Result<()> {
        let seq = audit::insert(self.conn, &entry)?;
        self.audit.push(AuditRow { seq, entry });
        Ok(())
    }

    /// Lines of earlier acts are missing from the audit file: nothing new may be begun until they are there.
    pub(super) fn audit_is_behind(&self) -> bool {
        self.audit_behind
    }

    /// For operations that begin or change something.
    pub(super) fn require_audit(&self) -> Result<()> {
        if self.audit_behind { Err(audit_unavailable()) } else { Ok(()) }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { events: self.events.len(), audit: self.audit.len() }
    }

    /// Forgets what was emitted and audited since `mark`, because the operation was rolled back.
    pub(super) fn forget_since(&mut self, mark: Mark) {
        self.events.truncate(mark.events);
        self.audit.truncate(mark.audit);
    }

    pub(super) fn into_told(self) -> Told {
        Told { events: self.events, audit: self.audit }
    }
}

/// What is answered while the audit file lacks lines.
pub(super) fn audit_unavailable() -> Error {
    Error::unavailable("nothing new is begun, because the audit file can't be written")
        .hint("free disk space, or fix the permissions of the home's `audit` folder; running work is still recorded")
}
