//! MCP servers and whether their commands may run, and the sync that brings them in together with the agents.

use super::agents;
use super::transaction::Tx;
use crate::domain::{AuditEntry, CommandState, Name};
use crate::error::{Error, Result};
use crate::store::{ServerPut, ServerRow, SyncChanges};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::HashSet;

/// How many milliseconds the accepted command of a server that is in no file any more is remembered: an hour. Long enough for a checkout of
/// another branch and back, too short for bringing back one that somebody took out for good.
const AWAY: i64 = 60 * 60 * 1000;

/// All servers, by name.
pub(super) fn list(conn: &Connection) -> Result<Vec<ServerRow>> {
    let mut statement = conn.prepare_cached("SELECT * FROM servers WHERE away_since IS NULL ORDER BY name")?;
    let rows = statement.query_map([], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn get(conn: &Connection, name: &Name) -> Result<Option<ServerRow>> {
    let mut statement = conn.prepare_cached("SELECT * FROM servers WHERE name = ?1 AND away_since IS NULL")?;
    Ok(statement.query_row([name], from_row).optional()?)
}

/// What is remembered of a server that is away.
fn away(conn: &Connection, name: &Name) -> Result<Option<ServerRow>> {
    let mut statement = conn.prepare_cached("SELECT * FROM servers WHERE name = ?1 AND away_since IS NOT NULL")?;
    Ok(statement.query_row([name], from_row).optional()?)
}

/// Accepts exactly the command that was shown.
pub(super) fn accept(tx: &mut Tx<'_>, name: &Name, command_hash: &str, audit: AuditEntry) -> Result<ServerRow> {
    tx.require_audit()?;
    let mut server = get(tx.conn, name)?.ok_or_else(|| {
        Error::not_found(format!("MCP server `{name}` doesn't exist"))
            .hint("list the servers with `stn mcp-server list`")
    })?;
    if server.command_hash.as_deref() != Some(command_hash) {
        return Err(Error::conflict(format!("the command of MCP server `{name}` isn't the one that was shown"))
            .hint("look at the command again, then accept that"));
    }
    server.command_state = CommandState::Accepted;
    server.updated_at = tx.now;
    put(tx, &server)?;
    tx.audit(audit)?;
    Ok(server)
}

/// Applies a sync: agents, servers and the files' state that they came from.
pub(super) fn apply_sync(tx: &mut Tx<'_>, changes: &SyncChanges, audit: AuditEntry) -> Result<()> {
    tx.require_audit()?;
    for write in &changes.put {
        agents::put(tx, write)?;
    }
    for name in &changes.delete {
        agents::forget(tx, name)?;
    }
    for (name, problem) in &changes.broken {
        agents::mark_broken(tx, name, problem)?;
    }
    replace_all(tx, &changes.servers)?;
    put_config_revision(tx, Some(&changes.config_revision))?;
    tx.audit(audit)
}

/// Notes the files' state that is in force from now on. Without one, it stays.
pub(super) fn put_config_revision(tx: &Tx<'_>, revision: Option<&str>) -> Result<()> {
    let Some(revision) = revision else { return Ok(()) };
    tx.conn
        .prepare_cached(
            "INSERT INTO sync_state (id, config_revision, synced_at) VALUES (1, ?1, ?2)
             ON CONFLICT DO UPDATE SET config_revision = excluded.config_revision, synced_at = excluded.synced_at
             WHERE config_revision <> excluded.config_revision",
        )?
        .execute((revision, tx.now))?;
    Ok(())
}

/// The files' state that was applied last.
pub(super) fn config_revision(conn: &Connection) -> Result<Option<String>> {
    let mut statement = conn.prepare_cached("SELECT config_revision FROM sync_state")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

fn replace_all(tx: &Tx<'_>, servers: &[ServerPut]) -> Result<()> {
    let wanted: HashSet<&Name> = servers.iter().map(|server| &server.name).collect();
    tx.conn.prepare_cached("DELETE FROM servers WHERE away_since + ?1 <= ?2")?.execute((AWAY, tx.now))?;
    for known in list(tx.conn)? {
        if !wanted.contains(&known.name) {
            send_away(tx, &known)?;
        }
    }
    for wanted in servers {
        let known = get(tx.conn, &wanted.name)?;
        let back = away(tx.conn, &wanted.name)?;
        let next = merged(wanted, known.as_ref().or(back.as_ref()), tx);
        if known.as_ref() != Some(&next) {
            put(tx, &ServerRow { updated_at: tx.now, ..next })?;
        }
    }
    Ok(())
}

/// Forgets a server that is in no file any more, but for a command that was accepted.
fn send_away(tx: &Tx<'_>, server: &ServerRow) -> Result<()> {
    if server.command_hash.is_some() && server.command_state == CommandState::Accepted {
        let mut statement = tx.conn.prepare_cached("UPDATE servers SET away_since = ?1 WHERE name = ?2")?;
        statement.execute((tx.now, &server.name))?;
    } else {
        tx.conn.prepare_cached("DELETE FROM servers WHERE name = ?1")?.execute([&server.name])?;
    }
    Ok(())
}

fn merged(wanted: &ServerPut, known: Option<&ServerRow>, tx: &Tx<'_>) -> ServerRow {
    let accepted_before = known.is_some_and(|known| {
        known.command_state == CommandState::Accepted && known.command_hash == wanted.command_hash
    });
    let accepted = wanted.command_hash.is_none() || wanted.auto_accept || accepted_before;
    ServerRow {
        name: wanted.name.clone(),
        file: wanted.file.clone(),
        hash: wanted.hash.clone(),
        command_hash: wanted.command_hash.clone(),
        command_state: if accepted { CommandState::Accepted } else { CommandState::Pending },
        created_at: known.map_or(tx.now, |known| known.created_at),
        updated_at: known.map_or(tx.now, |known| known.updated_at),
    }
}

fn put(tx: &Tx<'_>, server: &ServerRow) -> Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO servers (name, file, hash, command_hash, command_state, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            &server.name,
            &server.file,
            &server.hash,
            &server.command_hash,
            server.command_state,
            server.created_at,
            server.updated_at,
        ))?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ServerRow> {
    Ok(ServerRow {
        name: row.get("name")?,
        file: row.get("file")?,
        hash: row.get("hash")?,
        command_hash: row.get("command_hash")?,
        command_state: row.get("command_state")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
