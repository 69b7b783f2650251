//! The audit rows of one store as JSON Lines, for whoever reads logs. The rows are the truth: lines are appended after their commit, and
//! whatever is missing or torn is repaired from the rows.

use super::audit;
use crate::domain::AuditEntry;
use crate::error::Result;
use crate::store::AuditRow;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that a repair reads at a time.
const SLICE: u32 = 500;

/// Bytes that a repair looks back at a time.
const WINDOW: u64 = 8 * 1024;

/// One line: which store, which row, and the entry's own fields.
#[derive(Serialize)]
struct Line<'a> {
    store: &'a str,
    seq: i64,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

/// What a repair needs of a line that stands.
#[derive(Deserialize)]
struct Position {
    seq: i64,
}

/// The file's end, in the hands of the store's writer.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    store: Arc<str>,
    /// `None` while lines may be missing.
    file: Option<File>,
}

impl AuditFile {
    /// A file that counts as behind until the first [`AuditFile::catch_up`].
    pub(super) fn new(path: &Path, store: &str) -> Self {
        Self { path: path.to_owned(), store: store.into(), file: None }
    }

    /// Are lines of committed rows missing?
    pub(super) fn is_behind(&self) -> bool {
        self.file.is_none()
    }

    /// Appends the lines of rows that were just committed. A failure leaves the file behind.
    pub(super) fn append(&mut self, rows: &[AuditRow]) {
        let Some(file) = self.file.as_mut() else { return };
        if let Err(error) = write_lines(file, &self.store, rows) {
            self.fail(&error);
        }
    }

    /// Repairs the file from the rows; it is no longer behind if that works.
    pub(super) fn catch_up(&mut self, conn: &Connection) {
        match self.repaired(conn) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Debug) {
        self.file = None;
        tracing::error!(file = %self.path.display(), ?error, "the audit file can't be written; nothing new is begun until it can");
    }

    fn repaired(&self, conn: &Connection) -> Result<File, Box<dyn std::error::Error>> {
        let newest = audit::last_seq(conn)?;
        let mut file = self.open()?;
        let mut last = cut_to_last_line(&file)?;
        if last > newest {
            // The rows are older than the file: a backup was restored. The longer history is kept beside the one that goes on.
            std::fs::rename(&self.path, self.path.with_extension(format!("until-{last}.jsonl")))?;
            file = self.open()?;
            last = 0;
        }
        while last < newest {
            let rows = audit::after(conn, last, SLICE)?;
            let Some(row) = rows.last() else { break };
            last = row.seq;
            write_lines(&mut file, &self.store, &rows)?;
        }
        Ok(file)
    }

    fn open(&self) -> std::io::Result<File> {
        OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&self.path)
    }
}

fn write_lines(file: &mut File, store: &str, rows: &[AuditRow]) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut lines = Vec::with_capacity(rows.len() * 512);
    for row in rows {
        serde_json::to_writer(&mut lines, &Line { store, seq: row.seq, entry: &row.entry })?;
        lines.push(b'\n');
    }
    file.write_all(&lines)
}

/// Cuts off everything after the last whole line that is one of ours, and gives that line's position (0 without any).
fn cut_to_last_line(file: &File) -> std::io::Result<i64> {
    let length = file.metadata()?.len();
    let mut end = length;
    loop {
        let Some(newline) = last_newline_before(file, end)? else {
            set_length(file, length, 0)?;
            return Ok(0);
        };
        let begin = last_newline_before(file, newline)?.map_or(0, |before| before + 1);
        let mut line = vec![0; usize::try_from(newline - begin).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut line, begin)?;
        if let Ok(position) = serde_json::from_slice::<Position>(&line) {
            set_length(file, length, newline + 1)?;
            return Ok(position.seq);
        }
        end = newline;
    }
}

fn set_length(file: &File, length: u64, wanted: u64) -> std::io::Result<()> {
    if wanted < length { file.set_len(wanted) } else { Ok(()) }
}

/// The offset of the last newline that lies before `end`.
fn last_newline_before(file: &File, mut end: u64) -> std::io::Result<Option<u64>> {
    let mut window = [0; WINDOW as usize];
    while end > 0 {
        let begin = end.saturating_sub(WINDOW);
        let part = &mut window[..(end - begin) as usize];
        file.read_exact_at(part, begin)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(begin + at as u64));
        }
        end = begin;
    }
    Ok(None)
}
