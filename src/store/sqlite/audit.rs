//! Audit rows.

use super::column::Json;
use crate::domain::{AuditEntry, PrincipalRef};
use crate::error::Result;
use crate::store::AuditRow;
use rusqlite::{Connection, Row, named_params};

/// Inserts an entry and gives its position.
pub(super) fn insert(conn: &Connection, entry: &AuditEntry) -> Result<i64> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO audit (at, principal_kind, principal_id, principal_name, origin, cause, action, target, environment,
                            outcome, reason, request_id, config_revision, details)
         VALUES (:at, :principal_kind, :principal_id, :principal_name, :origin, :cause, :action, :target, :environment,
                 :outcome, :reason, :request_id, :config_revision, :details)",
    )?;
    Ok(statement.insert(named_params! {
        ":at": entry.at,
        ":principal_kind": entry.principal.kind,
        ":principal_id": entry.principal.id,
        ":principal_name": entry.principal.name,
        ":origin": entry.origin,
        ":cause": Json(&entry.cause),
        ":action": entry.action,
        ":target": entry.target,
        ":environment": entry.environment,
        ":outcome": entry.outcome,
        ":reason": entry.reason,
        ":request_id": entry.request_id,
        ":config_revision": entry.config_revision,
        ":details": entry.details.as_ref().map(Json),
    })?)
}

/// Rows after `seq`, oldest first.
pub(super) fn after(conn: &Connection, seq: i64, limit: u32) -> Result<Vec<AuditRow>> {
    let mut statement = conn.prepare_cached("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let rows = statement.query_map((seq, limit), from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The position of the newest row, 0 without any.
pub(super) fn last_seq(conn: &Connection) -> Result<i64> {
    Ok(conn.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| row.get(0))?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let principal = PrincipalRef {
        kind: row.get("principal_kind")?,
        id: row.get("principal_id")?,
        name: row.get("principal_name")?,
    };
    let entry = AuditEntry {
        at: row.get("at")?,
        principal,
        origin: row.get("origin")?,
        cause: row.get::<_, Json<_>>("cause")?.0,
        action: row.get("action")?,
        target: row.get("target")?,
        environment: row.get("environment")?,
        outcome: row.get("outcome")?,
        reason: row.get("reason")?,
        request_id: row.get("request_id")?,
        config_revision: row.get("config_revision")?,
        details: row.get::<_, Option<Json<_>>>("details")?.map(|details| details.0),
    };
    Ok(AuditRow { seq: row.get("seq")?, entry })
}
