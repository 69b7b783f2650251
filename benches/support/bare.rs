//! The yardstick: a loop that commits one small row at a time, with the durability that the store promises.

use super::measure::now;
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

/// How long each of `commits` took, one after the other, in a new file at `path`.
pub(crate) fn bare(path: &Path, commits: usize) -> Vec<Duration> {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
         CREATE TABLE runs (id INTEGER PRIMARY KEY, input TEXT NOT NULL) STRICT",
    )
    .unwrap();
    let mut insert = conn.prepare("INSERT INTO runs (input) VALUES (?1)").unwrap();
    let lone = |_| {
        let begin = now();
        insert.execute([r#"{"userInput":"hello"}"#]).unwrap();
        begin.elapsed()
    };
    (0..commits).map(lone).collect()
}
