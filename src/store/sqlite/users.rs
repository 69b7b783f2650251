//! Users and their roles.

use super::column::Json;
use super::transaction::Tx;
use crate::domain::{Name, Role, Roles, User, UserState};
use crate::error::{Error, Result};
use crate::store::{UserChange, UserHandle};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// What [`from_row`] reads, of `users` under the name `u`.
pub(super) const COLUMNS: &str =
    "u.id AS user_id, u.name AS user_name, u.display_name, u.state, u.created_at AS user_created_at,
    u.updated_at, u.deleted_at AS user_deleted_at,
    (SELECT json_group_object(environment, role) FROM roles WHERE roles.user_id = u.id) AS roles";

pub(super) fn list(conn: &Connection, after: Option<&Name>, limit: u32) -> Result<Vec<User>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM users u WHERE u.deleted_at IS NULL AND (?1 IS NULL OR u.name > ?1) ORDER BY u.name LIMIT ?2"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after, limit], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn find(conn: &Connection, handle: &UserHandle) -> Result<Option<User>> {
    let (condition, value): (_, &dyn rusqlite::ToSql) = match handle {
        UserHandle::Id(id) => ("u.id = ?1", id),
        UserHandle::Name(name) => ("u.name = ?1 AND u.deleted_at IS NULL", name),
    };
    let sql = format!("SELECT {COLUMNS} FROM users u WHERE {condition}");
    Ok(conn.prepare_cached(&sql)?.query_row([value], from_row).optional()?)
}

pub(super) fn create(tx: &Tx<'_>, name: &Name, display_name: Option<String>) -> Result<User> {
    let mut inserted = tx.conn.prepare_cached(
        "INSERT INTO users (name, display_name, state, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4) RETURNING id",
    )?;
    let id: i64 = inserted
        .query_row(params![name, display_name, UserState::Active, tx.now], |row| row.get(0))
        .map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => Error::conflict(format!("user `{name}` exists already"))
                .hint("choose another name, or change that user with `user_update` (`stn user update`)")
                .field("name"),
            _ => error.into(),
        })?;
    living(tx.conn, id)
}

pub(super) fn update(tx: &Tx<'_>, id: i64, change: UserChange) -> Result<User> {
    let before = living(tx.conn, id)?;
    let display_name = change.display_name.unwrap_or(before.display_name);
    let state = change.state.unwrap_or(before.state);
    tx.conn
        .prepare_cached("UPDATE users SET display_name = ?2, state = ?3, updated_at = ?4 WHERE id = ?1")?
        .execute(params![id, display_name, state, tx.now])?;
    living(tx.conn, id)
}

pub(super) fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    living(tx.conn, id)?;
    tx.conn
        .prepare_cached("UPDATE users SET deleted_at = ?2, updated_at = ?2 WHERE id = ?1")?
        .execute(params![id, tx.now])?;
    tx.conn
        .prepare_cached("UPDATE api_keys SET deleted_at = ?2 WHERE user_id = ?1 AND deleted_at IS NULL")?
        .execute(params![id, tx.now])?;
    Ok(())
}

pub(super) fn role_set(tx: &Tx<'_>, id: i64, environment: Option<&Name>, role: Option<Role>) -> Result<User> {
    living(tx.conn, id)?;
    let environment = environment.map_or(Roles::EVERYWHERE, Name::as_str);
    match role {
        Some(role) => tx
            .conn
            .prepare_cached("INSERT OR REPLACE INTO roles (user_id, environment, role) VALUES (?1, ?2, ?3)")?
            .execute(params![id, environment, role])?,
        None => tx
            .conn
            .prepare_cached("DELETE FROM roles WHERE user_id = ?1 AND environment = ?2")?
            .execute(params![id, environment])?,
    };
    tx.conn.prepare_cached("UPDATE users SET updated_at = ?2 WHERE id = ?1")?.execute(params![id, tx.now])?;
    living(tx.conn, id)
}

/// The user, unless it is deleted: it may have been meanwhile.
pub(super) fn living(conn: &Connection, id: i64) -> Result<User> {
    let found = find(conn, &UserHandle::Id(id))?.filter(|user| user.deleted_at.is_none());
    found.ok_or_else(|| {
        Error::not_found(format!("user {id} doesn't exist any more"))
            .hint("`stn user list` shows the users")
            .field("user")
    })
}

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<User> {
    let Json(by_environment): Json<BTreeMap<String, Role>> = row.get("roles")?;
    let mut roles = Roles::default();
    for (environment, role) in by_environment {
        // A name that can't be one stands for no environment there is.
        match environment.as_str() {
            Roles::EVERYWHERE => roles.set(None, Some(role)),
            name => roles.named.extend(Name::new(name).ok().map(|name| (name, role))),
        }
    }
    Ok(User {
        id: row.get("user_id")?,
        name: row.get("user_name")?,
        display_name: row.get("display_name")?,
        state: row.get("state")?,
        roles,
        created_at: row.get("user_created_at")?,
        updated_at: row.get("updated_at")?,
        deleted_at: row.get("user_deleted_at")?,
    })
}
