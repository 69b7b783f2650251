//! API keys: of each one what may be shown, and the digest of its secret.

use super::column::Json;
use super::transaction::Tx;
use super::users;
use crate::domain::{KeyLimits, KeyRecord, Name, Timestamp};
use crate::error::{Error, Result};
use crate::home::KeyProof;
use crate::store::{KeyChange, NewKey};
use rusqlite::types::{FromSql, ToSqlOutput, Value};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::Serialize;

/// One query finds a key with its owner and the owner's roles: every request whose key is proved makes it.
fn select(condition: &str) -> String {
    format!(
        "SELECT k.id, k.name, k.role, k.environments, k.scopes, k.sources, k.created_at, k.expires_at, k.last_used_at,
            k.deleted_at, k.created_by, {} FROM api_keys k LEFT JOIN users u ON u.id = k.user_id WHERE {condition}",
        users::COLUMNS
    )
}

pub(super) fn list(
    conn: &Connection,
    user: Option<i64>,
    after: Option<(Name, String)>,
    limit: u32,
) -> Result<Vec<KeyRecord>> {
    let sql = select(
        "k.deleted_at IS NULL AND (?1 IS NULL OR k.user_id = ?1) AND (?2 IS NULL OR (k.name, k.id) > (?2, ?3))
         ORDER BY k.name, k.id LIMIT ?4",
    );
    let (name, id) = after.unzip();
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params![user, name, id, limit], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn find(conn: &Connection, id: &str) -> Result<Option<KeyRecord>> {
    let mut statement = conn.prepare_cached(&select("k.id = ?1"))?;
    Ok(statement.query_row([id], from_row).optional()?)
}

pub(super) fn proved(conn: &Connection, proof: &KeyProof) -> Result<Option<KeyRecord>> {
    // The digest alone: how long a refusal takes must not depend on what else is kept of the key.
    let mut statement = conn.prepare_cached("SELECT hash FROM api_keys WHERE id = ?1")?;
    let digest: Option<[u8; 32]> = statement.query_row([proof.id()], |row| row.get(0)).optional()?;
    if proof.holds(digest.as_ref()) { find(conn, proof.id()) } else { Ok(None) }
}

pub(super) fn create(tx: &Tx<'_>, key: &NewKey) -> Result<KeyRecord> {
    if let Some(user) = key.user {
        users::living(tx.conn, user)?;
    }
    let limits = &key.limits;
    tx.conn
        .prepare_cached(
            "INSERT INTO api_keys (id, name, user_id, hash, role, environments, scopes, sources, created_at, expires_at, created_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            key.id,
            key.name,
            key.user,
            key.digest,
            limits.role,
            Listed(limits.environments.as_ref()),
            Listed(limits.scopes.as_ref()),
            Listed(limits.sources.as_ref()),
            tx.now,
            key.expires_at,
            Json(&key.created_by),
        ])?;
    living(tx.conn, &key.id)
}

pub(super) fn update(tx: &Tx<'_>, id: &str, change: KeyChange) -> Result<KeyRecord> {
    living(tx.conn, id)?;
    let KeyChange { name, limits, expires_at } = change;
    tx.conn
        .prepare_cached(
            "UPDATE api_keys SET name = ?2, role = ?3, environments = ?4, scopes = ?5, sources = ?6, expires_at = ?7 WHERE id = ?1",
        )?
        .execute(params![
            id,
            name,
            limits.role,
            Listed(limits.environments.as_ref()),
            Listed(limits.scopes.as_ref()),
            Listed(limits.sources.as_ref()),
            expires_at,
        ])?;
    living(tx.conn, id)
}

pub(super) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    living(tx.conn, id)?;
    tx.conn.prepare_cached("UPDATE api_keys SET deleted_at = ?2 WHERE id = ?1")?.execute(params![id, tx.now])?;
    Ok(())
}

pub(super) fn used(tx: &Tx<'_>, id: &str, at: Timestamp) -> Result<()> {
    tx.conn.prepare_cached("UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1")?.execute(params![id, at])?;
    Ok(())
}

fn living(conn: &Connection, id: &str) -> Result<KeyRecord> {
    let found = find(conn, id)?.filter(|key| key.deleted_at.is_none());
    found.ok_or_else(|| {
        Error::not_found(format!("API key `{}` doesn't exist any more", id.escape_debug()))
            .hint("`stn api-key list` shows the keys")
            .field("key")
    })
}

/// A list as JSON text; null where there is none, which is no empty list.
struct Listed<'a, T>(Option<&'a T>);

impl<T: Serialize> ToSql for Listed<'_, T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self.0 {
            None => Ok(ToSqlOutput::Owned(Value::Null)),
            Some(list) => {
                let text = serde_json::to_string(list);
                text.map(Into::into).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
            }
        }
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let owner: Option<i64> = row.get("user_id")?;
    let limits = KeyLimits {
        role: row.get("role")?,
        environments: listed(row, "environments")?,
        scopes: listed(row, "scopes")?,
        sources: listed(row, "sources")?,
    };
    let Json(created_by) = row.get("created_by")?;
    Ok(KeyRecord {
        id: row.get("id")?,
        name: row.get("name")?,
        owner: owner.map(|_| users::from_row(row)).transpose()?,
        limits,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        last_used_at: row.get("last_used_at")?,
        deleted_at: row.get("deleted_at")?,
        created_by,
    })
}

fn listed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    Json<T>: FromSql,
{
    Ok(row.get::<_, Option<Json<T>>>(column)?.map(|Json(list)| list))
}
