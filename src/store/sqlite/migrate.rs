//! Brings a store's tables to this version's schema. `PRAGMA user_version` says which migrations a file has seen.

use crate::error::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};

/// The schema that this version writes, and the newest that it reads.
pub const SCHEMA: i64 = ENVIRONMENT.len() as i64;

/// Migrations of the control store, in order. A number belongs to both lists; one that leaves a store as it is, is an empty file.
pub(super) const CONTROL: &[&str] = &[
    include_str!("migrations/0001_control.sql"),
    "",
    "",
    "",
    "",
    include_str!("migrations/0006_principals.sql"),
    "",
    "",
    "",
    "",
    "",
];

/// Migrations of an environment's store, in order.
pub(super) const ENVIRONMENT: &[&str] = &[
    include_str!("migrations/0001_environment.sql"),
    include_str!("migrations/0002_paused_agents.sql"),
    include_str!("migrations/0003_child_runs.sql"),
    include_str!("migrations/0004_secrets.sql"),
    include_str!("migrations/0005_unknown_cost.sql"),
    include_str!("migrations/0006_requests.sql"),
    include_str!("migrations/0007_limits.sql"),
    include_str!("migrations/0008_paused_without_file.sql"),
    include_str!("migrations/0009_given_time.sql"),
    include_str!("migrations/0010_servers_away.sql"),
    include_str!("migrations/0011_calls_first.sql"),
];

const _: () = assert!(CONTROL.len() == ENVIRONMENT.len());

/// Applies what the file hasn't seen, each migration in a transaction of its own. `unavailable` for a file of a later version.
pub(super) fn migrate(conn: &mut Connection, migrations: &[&str]) -> Result<()> {
    let found = schema_of(conn)?;
    let done = usize::try_from(found).ok().filter(|done| *done <= migrations.len());
    let Some(done) = done else {
        return Err(Error::unavailable(format!(
            "the store has schema {found}, and this version of Station knows schemas up to {}",
            migrations.len()
        ))
        .hint("start the newer version of Station that wrote it, or restore a backup made by this one"));
    };
    for (number, sql) in (1i64..).zip(migrations).skip(done) {
        let migration = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        migration.execute_batch(sql)?;
        migration.pragma_update(None, "user_version", number)?;
        migration.commit()?;
    }
    Ok(())
}

fn schema_of(conn: &Connection) -> Result<i64> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_newer_schema_is_refused_by_number() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, ENVIRONMENT).unwrap();
        assert_eq!(schema_of(&conn).unwrap(), SCHEMA);
        migrate(&mut conn, ENVIRONMENT).unwrap();
        conn.pragma_update(None, "user_version", SCHEMA + 41).unwrap();
        let refused = migrate(&mut conn, ENVIRONMENT).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.message().contains(&format!("schema {}", SCHEMA + 41)), "{refused}");
        assert!(refused.message().contains(&format!("up to {SCHEMA}")), "{refused}");
    }

    const FIRST: &str = "CREATE TABLE a (n INTEGER) STRICT";

    fn tables(conn: &Connection) -> Vec<String> {
        let mut names = conn.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
        names.query_map([], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect()
    }

    #[test]
    fn a_store_of_an_earlier_version_gets_what_is_new_and_keeps_what_it_has() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, &[FIRST]).unwrap();
        conn.execute_batch("INSERT INTO a VALUES (7)").unwrap();
        migrate(&mut conn, &[FIRST, "ALTER TABLE a ADD COLUMN m INTEGER; UPDATE a SET m = n + 1"]).unwrap();
        assert_eq!(schema_of(&conn).unwrap(), 2);
        let row = conn.query_row("SELECT n, m FROM a", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row.unwrap(), (7, 8));
    }

    #[test]
    fn a_migration_that_fails_half_way_leaves_the_store_at_its_version() {
        let mut conn = Connection::open_in_memory().unwrap();
        let half = "CREATE TABLE b (n INTEGER) STRICT; DROP TABLE a; INSERT INTO nowhere VALUES (1)";
        migrate(&mut conn, &[FIRST, half]).unwrap_err();
        assert_eq!((schema_of(&conn).unwrap(), tables(&conn)), (1, vec!["a".to_owned()]));
        migrate(&mut conn, &[FIRST, "CREATE TABLE b (n INTEGER) STRICT"]).unwrap();
        assert_eq!((schema_of(&conn).unwrap(), tables(&conn)), (2, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn every_table_is_strict_and_every_column_has_a_comment() {
        for sql in CONTROL.iter().chain(ENVIRONMENT) {
            let mut in_table = false;
            for line in sql.lines() {
                in_table = (in_table || line.starts_with("CREATE TABLE")) && !line.starts_with(')');
                assert!(!line.starts_with(')') || line.starts_with(") STRICT"), "{line}");
                // Constraints and continued lines begin with a keyword.
                let first_word = line.trim_start().split(' ').next().unwrap_or_default();
                let is_column = in_table && line.starts_with("    ") && first_word.contains(char::is_lowercase);
                assert!(!is_column || line.contains("-- "), "no comment: {line}");
            }
        }
    }
}
