//! Agents and their revisions.

use super::column::Json;
use super::transaction::Tx;
use super::{files, queue, servers};
use crate::domain::{AgentDefinition, AgentId, AuditEntry, Name, resume_command};
use crate::error::{Error, Result};
use crate::store::{AgentKey, AgentRow, AgentWrite, FormerAgent};
use rusqlite::{Connection, OptionalExtension, Row};

const SELECT: &str = "SELECT a.*, v.definition FROM agents a
                      JOIN agent_revisions v ON v.agent_id = a.id AND v.revision = a.revision";

/// The problem of an agent that isn't there any more.
const GONE: &str =
    "its file is gone: no new run is taken, and those that it has go on with the revision that they were started with";

/// Agents after `after`, by name.
pub(super) fn list(conn: &Connection, after: Option<&Name>, limit: u32) -> Result<Vec<AgentRow>> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE a.name > ?1 ORDER BY a.name LIMIT ?2"))?;
    let rows = statement.query_map((after.map_or("", Name::as_str), limit), from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn get(conn: &Connection, key: &AgentKey) -> Result<Option<AgentRow>> {
    let found = match key {
        AgentKey::Id(id) => conn.prepare_cached(&format!("{SELECT} WHERE a.id = ?1"))?.query_row([id], from_row),
        AgentKey::Name(name) => {
            conn.prepare_cached(&format!("{SELECT} WHERE a.name = ?1"))?.query_row([name], from_row)
        }
    };
    Ok(found.optional()?)
}

/// What is left of an agent that isn't there any more. Its revisions say its name.
pub(super) fn former(conn: &Connection, environment: &Name, key: &AgentKey) -> Result<Option<FormerAgent>> {
    const OF_AGENT: &str = "SELECT v.agent_id, v.revision, v.definition, v.created_at,
                                   (SELECT paused_at FROM paused_without_file p WHERE p.agent_id = v.agent_id) AS paused_at
                            FROM agent_revisions v WHERE v.agent_id NOT IN (SELECT id FROM agents)";
    const LAST: &str = "ORDER BY v.agent_id DESC, v.created_at DESC, v.rowid DESC LIMIT 1";
    let read = |row: &Row<'_>| former_row(row, environment);
    let last = match key {
        AgentKey::Id(id) => {
            conn.prepare_cached(&format!("{OF_AGENT} AND v.agent_id = ?1 {LAST}"))?.query_row([id], read)
        }
        AgentKey::Name(name) => {
            conn.prepare_cached(&format!("{OF_AGENT} AND v.definition ->> 'name' = ?1 {LAST}"))?.query_row([name], read)
        }
    };
    let Some(last) = last.optional()? else { return Ok(None) };
    let unended = unended(conn, last.id)?;
    Ok(Some(FormerAgent { last, unended }))
}

fn former_row(row: &Row<'_>, environment: &Name) -> rusqlite::Result<AgentRow> {
    let definition = row.get::<_, Json<AgentDefinition>>("definition")?.0;
    let at = row.get("created_at")?;
    Ok(AgentRow {
        id: row.get("agent_id")?,
        paused_at: row.get("paused_at")?,
        revision: row.get("revision")?,
        file: format!("environments/{environment}/agents/{}.prompt", definition.name),
        problem: Some(GONE.to_owned()),
        definition,
        created_at: at,
        updated_at: at,
    })
}

/// Commits a revision that somebody asked for, and promises its file.
pub(super) fn write(tx: &mut Tx<'_>, write: AgentWrite, audit: AuditEntry) -> Result<AgentRow> {
    tx.require_audit()?;
    let name = write.definition.name.clone();
    let known = get(tx.conn, &AgentKey::Name(name.clone()))?;
    expect_revision(&name, known.as_ref(), write.expected.as_deref())?;
    put(tx, &write)?;
    let replaces = known.map(|agent| agent.revision);
    files::promise(tx, &write.file, Some(&write.bytes), replaces.as_deref())?;
    servers::put_config_revision(tx, audit.config_revision.as_deref())?;
    tx.audit(audit)?;
    get(tx.conn, &AgentKey::Name(name))?.ok_or_else(|| Error::internal("an agent vanished while it was written"))
}

fn expect_revision(name: &Name, known: Option<&AgentRow>, expected: Option<&str>) -> Result<()> {
    match (known, expected) {
        (None, None) => Ok(()),
        (Some(agent), Some(expected)) if agent.revision == expected => Ok(()),
        (Some(_), None) => Err(Error::conflict(format!("agent `{name}` exists already"))
            .hint("choose another name, or update the agent")
            .field("name")),
        (Some(agent), Some(expected)) => {
            Err(Error::conflict(format!("agent `{name}` is at revision `{}`, not at `{expected}`", agent.revision))
                .hint("read the agent again and repeat the change"))
        }
        (None, Some(_)) => {
            Err(Error::conflict(format!("agent `{name}` doesn't exist any more")).hint("create it anew"))
        }
    }
}

/// Pauses an agent, or resumes it. Asked for again, it stays as it is. Of an agent whose file is gone a pause can only be lifted.
pub(super) fn pause(
    tx: &mut Tx<'_>,
    environment: &Name,
    name: &Name,
    paused: bool,
    audit: AuditEntry,
) -> Result<AgentRow> {
    tx.require_audit()?;
    tx.conn
        .prepare_cached("UPDATE agents SET paused_at = iif(?2, coalesce(paused_at, ?3), NULL) WHERE name = ?1")?
        .execute((name, paused, tx.now))?;
    let key = AgentKey::Name(name.clone());
    let agent = match get(tx.conn, &key)? {
        None if !paused && resume_without_file(tx, name)? => {
            former(tx.conn, environment, &key)?.map(|former| former.last)
        }
        agent => agent,
    };
    let agent = agent.ok_or_else(|| {
        Error::not_found(format!("agent `{name}` doesn't exist")).hint("list the agents with `stn agent list`")
    })?;
    match paused {
        true => queue::hold(tx, agent.id)?,
        false => queue::let_go(tx, agent.id)?,
    }
    tx.audit(audit)?;
    Ok(agent)
}

/// Lets the runs go on that the pause of an agent without a file holds. `false`: there is no such pause.
fn resume_without_file(tx: &Tx<'_>, name: &Name) -> Result<bool> {
    Ok(tx.conn.prepare_cached("DELETE FROM paused_without_file WHERE name = ?1")?.execute([name])? > 0)
}

/// Forgets an agent and promises that its file goes.
pub(super) fn delete(
    tx: &mut Tx<'_>,
    environment: &Name,
    name: &Name,
    replaces: Option<&str>,
    audit: AuditEntry,
) -> Result<bool> {
    tx.require_audit()?;
    let Some(agent) = get(tx.conn, &AgentKey::Name(name.clone()))? else { return Ok(false) };
    holds_nothing(tx, environment, &agent)?;
    tx.conn.prepare_cached("DELETE FROM agents WHERE id = ?1")?.execute([agent.id])?;
    files::promise(tx, &agent.file, None, replaces)?;
    servers::put_config_revision(tx, audit.config_revision.as_deref())?;
    tx.audit(audit)?;
    Ok(true)
}

/// Without its agent nobody could say any more when the runs that a pause holds may go on.
fn holds_nothing(tx: &Tx<'_>, environment: &Name, agent: &AgentRow) -> Result<()> {
    let held = unended(tx.conn, agent.id)?;
    if agent.paused_at.is_none() || held == 0 {
        return Ok(());
    }
    let name = &agent.definition.name;
    let runs = if held == 1 { "a run that hasn't ended".to_owned() } else { format!("{held} runs that haven't ended") };
    Err(Error::conflict(format!("agent `{name}` is paused and has {runs}")).hint(format!(
        "let them go on with {}, or end them with `stn run cancel`, before it is deleted",
        resume_command(name, environment)
    )))
}

/// The agent's runs that haven't ended.
fn unended(conn: &Connection, agent: AgentId) -> Result<i64> {
    let mut statement = conn.prepare_cached(
        "SELECT count(*) FROM runs WHERE agent_id = ?1 AND status IN ('queued', 'running', 'input_required')",
    )?;
    Ok(statement.query_row([agent], |row| row.get(0))?)
}

/// Puts a revision in force. An agent at that revision already is only cleared of its problem.
pub(super) fn put(tx: &Tx<'_>, write: &AgentWrite) -> Result<()> {
    take_back(tx, write)?;
    let id: AgentId = tx
        .conn
        .prepare_cached(
            "INSERT INTO agents (name, revision, file, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT (name) DO UPDATE SET
                 updated_at = iif(revision IS excluded.revision AND problem IS NULL, updated_at, excluded.updated_at),
                 revision = excluded.revision, file = excluded.file, problem = NULL
             RETURNING id",
        )?
        .query_row((&write.definition.name, &write.revision, &write.file, tx.now), |row| row.get(0))?;
    // The definition is written anew even for known bytes: a later version may read more out of them.
    tx.conn
        .prepare_cached(
            "INSERT INTO agent_revisions (agent_id, revision, definition, bytes, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET definition = excluded.definition",
        )?
        .execute((id, &write.revision, Json(&write.definition), &write.bytes, tx.now))?;
    Ok(())
}

/// An agent that was paused when its file went away is what it was: its runs know it by its id.
fn take_back(tx: &Tx<'_>, write: &AgentWrite) -> Result<()> {
    let name = &write.definition.name;
    tx.conn
        .prepare_cached(
            "INSERT INTO agents (id, name, revision, file, paused_at, created_at, updated_at)
             SELECT agent_id, name, ?2, ?3, paused_at, ?4, ?4 FROM paused_without_file WHERE name = ?1",
        )?
        .execute((name, &write.revision, &write.file, tx.now))?;
    tx.conn.prepare_cached("DELETE FROM paused_without_file WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Removes an agent whose file is gone from the list. Its revisions stay for the runs that are pinned to them, and its pause for those that
/// it holds.
pub(super) fn forget(tx: &Tx<'_>, name: &Name) -> Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT INTO paused_without_file (name, agent_id, paused_at)
             SELECT name, id, paused_at FROM agents WHERE name = ?1 AND paused_at IS NOT NULL",
        )?
        .execute([name])?;
    tx.conn.prepare_cached("DELETE FROM agents WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Notes why an agent's file doesn't parse. The revision in force stays.
pub(super) fn mark_broken(tx: &Tx<'_>, name: &Name, problem: &str) -> Result<()> {
    tx.conn
        .prepare_cached("UPDATE agents SET problem = ?2, updated_at = ?3 WHERE name = ?1 AND problem IS NOT ?2")?
        .execute((name, problem, tx.now))?;
    Ok(())
}

/// What a revision says, also of an agent that was deleted. `None`: there never was such a revision.
pub(super) fn definition(conn: &Connection, agent: AgentId, revision: &str) -> Result<Option<AgentDefinition>> {
    let found = conn
        .prepare_cached("SELECT definition FROM agent_revisions WHERE agent_id = ?1 AND revision = ?2")?
        .query_row((agent, revision), |row| row.get::<_, Json<AgentDefinition>>(0))
        .optional()?;
    Ok(found.map(|definition| definition.0))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    Ok(AgentRow {
        id: row.get("id")?,
        paused_at: row.get("paused_at")?,
        revision: row.get("revision")?,
        file: row.get("file")?,
        problem: row.get("problem")?,
        definition: row.get::<_, Json<_>>("definition")?.0,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
