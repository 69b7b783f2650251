//! What a station keeps and what people wrote, as text that can be compared before and after.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files by path (as bytes), table rows by store, table and contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    files: BTreeMap<String, Vec<u8>>,
    rows: Vec<String>,
}

/// The table that notes what was done: it is meant to grow.
const NOTES: &str = "'audit'";

/// What is told of an agent whose file doesn't parse. It changes when the file is looked at.
const STATE_OF_AGENTS: [(&str, &str); 2] = [("agents", "problem"), ("agents", "updated_at")];

impl Dump {
    /// `station.yml`, everything below `environments/`, and every table of every store but those notes.
    pub fn of(home: &Path) -> Self {
        let mut files = BTreeMap::from([("station.yml".to_owned(), fs::read(home.join("station.yml")).unwrap())]);
        collect(&home.join("environments"), &mut files);
        let mut stores = vec![home.join("station.db")];
        stores.extend(fs::read_dir(home.join("data")).unwrap().map(|entry| entry.unwrap().path()));
        stores.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        stores.sort();
        Self { files, rows: stores.iter().flat_map(|store| rows(store)).collect() }
    }

    /// Fails with what differs.
    #[track_caller]
    pub fn assert_same(&self, after: &Self) {
        for (path, bytes) in &self.files {
            assert_eq!(after.files.get(path), Some(bytes), "the file {path} has changed");
        }
        for path in after.files.keys() {
            assert!(self.files.contains_key(path), "the file {path} is new");
        }
        // Row by row, so that one which is there twice has to be there twice again.
        let (mut new, mut gone) = (after.rows.clone(), Vec::new());
        for row in &self.rows {
            match new.binary_search(row) {
                Ok(at) => drop(new.remove(at)),
                Err(_) => gone.push(row),
            }
        }
        assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
    }
}

/// An audit row: what was done, what came of it, and what it was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    pub action: String,
    pub outcome: String,
    pub target: Option<String>,
}

/// The audit rows of a store that belong to a request, in order.
pub fn audit_of(store: &Path, request: &str) -> Vec<Audited> {
    let connection = open(store);
    let mut statement =
        connection.prepare("SELECT action, outcome, target FROM audit WHERE request_id = ?1 ORDER BY seq").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok(Audited { action: row.get(0)?, outcome: row.get(1)?, target: row.get(2)? });
    statement.query_map([request], read).unwrap().map(Result::unwrap).collect()
}

/// Where the failed logins of a control store came from, in order.
pub fn sources_of_failed_logins(store: &Path) -> Vec<String> {
    let sql = "SELECT json_extract(details, '$.source') FROM audit WHERE action = 'station.login' ORDER BY seq";
    let connection = open(store);
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// What a store has recorded of a denial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub action: String,
    pub origin: String,
    /// The id of who was denied it.
    pub who: String,
}

/// The denials in a store, by the request that was denied.
pub fn denials(store: &Path) -> Vec<(String, Denial)> {
    let connection = open(store);
    let mut statement = connection
        .prepare("SELECT request_id, action, origin, principal_id FROM audit WHERE outcome = 'denied' ORDER BY seq")
        .unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, Denial { action: row.get(1)?, origin: row.get(2)?, who: row.get(3)? }))
    };
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

fn open(store: &Path) -> Connection {
    Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn rows(store: &Path) -> Vec<String> {
    let connection = open(store);
    let tables = format!(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT IN ({NOTES})"
    );
    let mut statement = connection.prepare(&tables).unwrap();
    let tables: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let store = store.file_stem().unwrap().to_string_lossy();
    let mut all = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let fields = columns.iter().enumerate().filter(|(_, column)| !is_state(&table, column));
            let fields: Vec<String> =
                fields.map(|(at, column)| format!("{column}={}", text(row.get_ref(at).unwrap()))).collect();
            all.push(format!("{store}.{table}: {}", fields.join(" ")));
        }
    }
    all.sort();
    all
}

fn is_state(table: &str, column: &str) -> bool {
    STATE_OF_AGENTS.contains(&(table, column))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).escape_debug().to_string(),
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.to_string_lossy().into_owned(), fs::read(&path).unwrap());
        }
    }
}
