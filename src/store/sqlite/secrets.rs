//! Data keys, wrapped, and secrets, sealed. Nothing here can be read without the home's key.

use super::transaction::Tx;
use crate::domain::AuditEntry;
use crate::error::{Error, Result};
use crate::store::{DataKeyRow, Seal, SecretRow};
use rusqlite::{Connection, OptionalExtension, Row};

/// Sealings under one key, at most: with random nonces of 96 bits, more would make a repeated nonce likely.
const MOST_SEALED: i64 = 1 << 32;

/// All data keys, by generation.
pub(super) fn data_keys(conn: &Connection) -> Result<Vec<DataKeyRow>> {
    let mut statement = conn.prepare_cached("SELECT * FROM data_keys ORDER BY generation")?;
    let rows = statement.query_map([], key_from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Adds a data key, which is the one that seals from now on.
pub(super) fn data_key_add(tx: &mut Tx<'_>, key: &DataKeyRow) -> Result<()> {
    let known = data_keys(tx.conn)?;
    if known.iter().any(|known| known.generation >= key.generation) {
        return Err(Error::conflict(format!("there is a data key of generation {} or later", key.generation)));
    }
    tx.conn.execute("UPDATE data_keys SET state = 'retiring' WHERE state = 'active'", [])?;
    tx.conn
        .prepare_cached(
            "INSERT INTO data_keys (generation, wrapped, kek_id, state, sealed, created_at) VALUES (?1, ?2, ?3, 'active', 0, ?4)",
        )?
        .execute((key.generation, &key.wrapped, &key.kek_id, tx.now))?;
    Ok(())
}

/// Secrets after `after`, by name.
pub(super) fn list(conn: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<SecretRow>> {
    let mut statement = conn.prepare_cached("SELECT * FROM secrets WHERE name > ?1 ORDER BY name LIMIT ?2")?;
    let rows = statement.query_map((after.unwrap_or_default(), limit), from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn get(conn: &Connection, name: &str) -> Result<Option<SecretRow>> {
    Ok(conn.prepare_cached("SELECT * FROM secrets WHERE name = ?1")?.query_row([name], from_row).optional()?)
}

/// Puts a new version of a secret in the place of the one before. `seal` is told the place that the record is bound to.
pub(super) fn put(tx: &mut Tx<'_>, name: &str, generation: u32, seal: Seal, audit: AuditEntry) -> Result<SecretRow> {
    tx.require_audit()?;
    count(tx, generation)?;
    let (id, version) = match get(tx.conn, name)? {
        Some(known) => (known.id, known.version + 1),
        None => {
            let new = "INSERT INTO secrets (name, version, generation, record, created_at, updated_at)
                       VALUES (?1, 0, ?2, x'', ?3, ?3) RETURNING id";
            let id = tx.conn.prepare_cached(new)?.query_row((name, generation, tx.now), |row| row.get(0))?;
            (id, 1)
        }
    };
    let record = seal(id, version)?;
    tx.conn
        .prepare_cached("UPDATE secrets SET version = ?2, generation = ?3, record = ?4, updated_at = ?5 WHERE id = ?1")?
        .execute((id, version, generation, record, tx.now))?;
    tx.audit(audit)?;
    get(tx.conn, name)?.ok_or_else(|| Error::internal("a secret vanished while it was written"))
}

/// One sealing more under this key.
fn count(tx: &Tx<'_>, generation: u32) -> Result<()> {
    let counted = tx
        .conn
        .prepare_cached(
            "UPDATE data_keys SET sealed = sealed + 1 WHERE generation = ?1 AND state = 'active' AND sealed < ?2",
        )?
        .execute((generation, MOST_SEALED))?;
    if counted == 1 {
        return Ok(());
    }
    Err(Error::unavailable(format!("the data key of generation {generation} may seal nothing more"))
        .hint("it has sealed 2^32 values, or another key has taken its place"))
}

/// Forgets a secret. `false` when there was none.
pub(super) fn delete(tx: &mut Tx<'_>, name: &str, audit: AuditEntry) -> Result<bool> {
    tx.require_audit()?;
    let deleted = tx.conn.prepare_cached("DELETE FROM secrets WHERE name = ?1")?.execute([name])? > 0;
    if deleted {
        tx.audit(audit)?;
    }
    Ok(deleted)
}

fn key_from_row(row: &Row<'_>) -> rusqlite::Result<DataKeyRow> {
    let state: String = row.get("state")?;
    Ok(DataKeyRow {
        generation: row.get("generation")?,
        wrapped: row.get("wrapped")?,
        kek_id: row.get("kek_id")?,
        is_active: state == "active",
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<SecretRow> {
    Ok(SecretRow {
        id: row.get("id")?,
        name: row.get("name")?,
        version: row.get("version")?,
        generation: row.get("generation")?,
        record: row.get("record")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
