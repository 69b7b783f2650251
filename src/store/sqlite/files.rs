//! Promised files: rows of the transaction that changes what they say, kept until the file is on the disk.

use super::transaction::Tx;
use crate::domain::AuditEntry;
use crate::error::Result;
use crate::store::PendingFile;
use rusqlite::{Connection, Row};

/// Promises that `file` will have `bytes`, or will be gone.
pub(super) fn promise(tx: &Tx<'_>, file: &str, bytes: Option<&[u8]>, replaces: Option<&str>) -> Result<()> {
    tx.conn
        .prepare_cached("INSERT INTO pending_files (file, bytes, replaces, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((file, bytes, replaces, tx.now))?;
    Ok(())
}

/// Promises a file that is no agent's.
pub(super) fn change(
    tx: &mut Tx<'_>,
    file: &str,
    bytes: &[u8],
    replaces: Option<&str>,
    audit: AuditEntry,
) -> Result<()> {
    tx.require_audit()?;
    promise(tx, file, Some(bytes), replaces)?;
    tx.audit(audit)
}

/// All promises, in the order in which they were made.
pub(super) fn pending(conn: &Connection) -> Result<Vec<PendingFile>> {
    let mut statement = conn.prepare_cached("SELECT id, file, bytes, replaces FROM pending_files ORDER BY id")?;
    let rows = statement.query_map([], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets a promise that was kept.
pub(super) fn kept(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.conn.prepare_cached("DELETE FROM pending_files WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<PendingFile> {
    Ok(PendingFile {
        id: row.get("id")?,
        file: row.get("file")?,
        bytes: row.get("bytes")?,
        replaces: row.get("replaces")?,
    })
}
