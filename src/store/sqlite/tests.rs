//! The conformance suite on SQLite, and what only files can show.

use super::*;
use crate::clock::ManualClock;
use crate::domain::{RunErrorKind, RunStatus, StepStatus, Timestamp};
use crate::error::ErrorKind;
use crate::store::conformance::{self, Surroundings, fixture};
use crate::store::{Intent, Outcome};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

fn open(at: &Path, surroundings: Surroundings) -> Result<SqliteStore> {
    let environment = conformance::environment()?;
    let Surroundings { clock, events } = surroundings;
    SqliteStore::open(&at.with_extension("db"), &at.with_extension("jsonl"), environment, clock, events)
}

#[tokio::test]
async fn sqlite_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let make = async |surroundings: Surroundings| -> Result<Arc<dyn Store>> {
        number.set(number.get() + 1);
        let store: Arc<dyn Store> = Arc::new(open(&folder.path().join(number.get().to_string()), surroundings)?);
        Ok(store)
    };
    conformance::run_all(make).await.unwrap();
    assert!(number.get() > 40);
}

/// A store in a folder of its own, that can be closed and opened again.
struct Home {
    folder: TempDir,
    surroundings: Surroundings,
}

impl Home {
    fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(1_764_000_000_000));
        Self { folder: tempfile::tempdir().unwrap(), surroundings: Surroundings { clock, events: Events::default() } }
    }

    fn store(&self) -> Arc<SqliteStore> {
        Arc::new(open(&self.folder.path().join("a"), self.surroundings.clone()).unwrap())
    }

    fn case(&self, store: &Arc<SqliteStore>) -> fixture::Subject {
        fixture::Subject::new(Arc::<SqliteStore>::clone(store), self.surroundings.clone())
    }

    fn audit_file(&self) -> PathBuf {
        self.folder.path().join("a.jsonl")
    }

    /// The `seq` of every line, which have to be whole.
    fn lines(&self) -> Vec<i64> {
        let text = fs::read_to_string(self.audit_file()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines()
            .map(line)
            .inspect(|line| assert_eq!(line["store"], conformance::ENVIRONMENT))
            .map(|line| line["seq"].as_i64().unwrap())
            .collect()
    }
}

async fn record(store: &SqliteStore, case: &fixture::Subject, entries: usize) {
    for number in 0..entries {
        store.audit(case.entry(&format!("act.{number}"))).await.unwrap();
    }
}

#[tokio::test]
async fn every_committed_entry_is_a_line_for_the_owners_eyes() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let store = home.store();
    record(&store, &home.case(&store), 3).await;
    assert_eq!(home.lines(), [1, 2, 3]);
    assert_eq!(fs::metadata(home.audit_file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_act_that_is_rolled_back_leaves_neither_row_nor_line() {
    let home = Home::new();
    let store = home.store();
    let case = home.case(&store);
    let entry = case.entry("undone");
    let undone = store.writer.write::<(), _>(move |tx| tx.audit(entry).and(Err(Error::conflict("no")))).await;
    assert_eq!(undone.unwrap_err().kind(), ErrorKind::Conflict);
    record(&store, &case, 1).await;
    assert_eq!(case.actions().await.unwrap(), ["act.0"]);
    assert_eq!(home.lines(), [1]);
}

#[tokio::test]
async fn a_killed_station_leaves_an_audit_file_that_the_next_start_repairs() {
    let home = Home::new();
    let store = home.store();
    record(&store, &home.case(&store), 1_203).await;
    drop(store);
    let whole = fs::read(home.audit_file()).unwrap();
    let second_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let garbage = [&whole[..second_line], &[0; 20_000]].concat();
    let not_ours = [&whole[..second_line], b"{\"hello\":1}\n\n{\"seq\":".as_slice()].concat();
    let torn = whole[..whole.len() - 7].to_vec();
    for damaged in [Vec::new(), torn, whole[..second_line].to_vec(), garbage, not_ours, b"torn".to_vec()] {
        fs::write(home.audit_file(), &damaged).unwrap();
        drop(home.store());
        assert!(fs::read(home.audit_file()).unwrap() == whole, "{} bytes were left", damaged.len());
    }
    fs::remove_file(home.audit_file()).unwrap();
    drop(home.store());
    assert!(fs::read(home.audit_file()).unwrap() == whole);
}

#[tokio::test]
async fn a_restored_backup_keeps_the_longer_audit_file_aside() {
    let home = Home::new();
    let store = home.store();
    record(&store, &home.case(&store), 2).await;
    drop(store);
    fs::copy(home.folder.path().join("a.db"), home.folder.path().join("backup")).unwrap();
    let store = home.store();
    record(&store, &home.case(&store), 3).await;
    drop(store);
    let long = fs::read(home.audit_file()).unwrap();
    fs::rename(home.folder.path().join("backup"), home.folder.path().join("a.db")).unwrap();
    let store = home.store();
    record(&store, &home.case(&store), 1).await;
    assert_eq!(home.lines(), [1, 2, 3]);
    assert!(fs::read(home.folder.path().join("a.until-5.jsonl")).unwrap() == long);
}

#[tokio::test]
async fn without_its_audit_file_a_store_begins_nothing_and_still_records_what_happens() {
    use fixture::{begins, closed, outcome, tool_call};
    let home = Home::new();
    let store = home.store();
    let case = home.case(&store);
    let agent = case.agent("reader").await.unwrap();
    let (ending, cancelled) = (case.submit(&agent).await.unwrap().run.id, case.submit(&agent).await.unwrap().run.id);
    let claim = case.claim("a").await.unwrap();
    assert_eq!(claim.run.id, ending);
    assert_eq!(store.journal(&claim.grant, begins(vec![tool_call(1, 1)])).await.unwrap(), Written::Done);

    home.surroundings.clock.advance(std::time::Duration::from_secs(1));
    // Closing and opening over a folder in the file's place makes every line fail.
    drop((store, case));
    fs::rename(home.audit_file(), home.folder.path().join("aside")).unwrap();
    fs::create_dir(home.audit_file()).unwrap();
    let store = home.store();
    let case = home.case(&store);
    let kind = |error: Error| error.kind();
    let unavailable = Err(ErrorKind::Unavailable);
    assert_eq!(case.submit(&agent).await.map(|_| ()).map_err(kind), unavailable);
    assert_eq!(case.agent("other").await.map(|_| ()).map_err(kind), unavailable);
    let sync = store.apply_sync(SyncChanges::default(), case.entry("environment.sync")).await;
    assert_eq!(sync.map_err(kind), unavailable);
    assert_eq!(store.claim(&fixture::owner("a"), 5).await.unwrap().len(), 0);
    let refused = store.audit_intent(case.entry("tool.call")).await;
    assert_eq!(refused.map_err(kind), unavailable);
    // A try that is to be made again stays open until it can be.
    let replaces = Some(outcome(1, 1, closed(StepStatus::Failed, "lost".into())));
    let again = begins(vec![Intent { replaces, ..tool_call(1, 2) }]);
    assert_eq!(store.journal(&claim.grant, again).await.map(|_| ()).map_err(kind), unavailable);
    assert_eq!(store.steps(ending, None, 10).await.unwrap()[0].status, StepStatus::Started);

    let mut batch = begins(vec![tool_call(2, 1)]);
    let done = outcome(1, 1, closed(StepStatus::Completed, "ok".into()));
    batch.outcomes = vec![Outcome { audit: Some(case.entry("tool.done")), ..done }];
    assert_eq!(store.journal(&claim.grant, batch.clone()).await.map(|_| ()).map_err(kind), unavailable);
    let steps = store.steps(ending, None, 10).await.unwrap();
    assert_eq!(steps.iter().map(|step| step.status).collect::<Vec<_>>(), [StepStatus::Completed]);
    assert!(matches!(store.cancel(cancelled, case.entry("run.cancel")).await.unwrap(), Cancelled::Done(_)));
    store.audit(case.entry("tool.denied")).await.unwrap();

    fs::remove_dir(home.audit_file()).unwrap();
    assert_eq!(store.journal(&claim.grant, batch).await.unwrap(), Written::Done);
    let done = Ending::Completed { output: "done".into() };
    assert_eq!(store.finish(&claim.grant, done).await.unwrap(), Written::Done);
    case.submit(&agent).await.unwrap();
    let rows = store.audit_after(0, 100).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.entry.action == "tool.done").count(), 1, "the batch was given twice");
    assert_eq!(home.lines(), rows.iter().map(|row| row.seq).collect::<Vec<_>>());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_act_whose_line_cannot_be_written_is_done() {
    let home = Home::new();
    std::os::unix::fs::symlink("/dev/full", home.audit_file()).unwrap();
    let store = home.store();
    let case = home.case(&store);
    let agent = case.agent("reader").await.unwrap();
    assert_eq!(store.agents(None, 10).await.unwrap(), std::slice::from_ref(&agent));
    assert_eq!(case.submit(&agent).await.unwrap_err().kind(), ErrorKind::Unavailable);
    fs::remove_file(home.audit_file()).unwrap();
    case.submit(&agent).await.unwrap();
    assert_eq!(home.lines(), [1, 2]);
}

#[tokio::test]
async fn runs_survive_a_restart_as_they_were() {
    let home = Home::new();
    let store = home.store();
    let case = home.case(&store);
    let claim = case.running().await.unwrap();
    let batch = fixture::begins(vec![fixture::tool_call(1, 1)]);
    assert_eq!(store.journal(&claim.grant, batch).await.unwrap(), Written::Done);
    let before = (case.run(claim.run.id).await.unwrap(), store.steps(claim.run.id, None, 10).await.unwrap());
    drop((store, case));
    let store = home.store();
    let case = home.case(&store);
    assert_eq!((case.run(claim.run.id).await.unwrap(), store.steps(claim.run.id, None, 10).await.unwrap()), before);
    assert_eq!(store.take_over(&fixture::owner("next")).await.unwrap(), 1);
    assert!(case.claim("next").await.unwrap().grant.epoch > claim.grant.epoch);
}

#[tokio::test]
async fn a_run_whose_definition_cannot_be_read_fails_and_stops_nobody() {
    let home = Home::new();
    let store = home.store();
    let case = home.case(&store);
    let (bad, good) = (case.agent("bad").await.unwrap(), case.agent("good").await.unwrap());
    let (failing, working) = (case.submit(&bad).await.unwrap().run.id, case.submit(&good).await.unwrap().run.id);
    let spoil = move |tx: &mut transaction::Tx<'_>| {
        Ok(tx.conn.execute("UPDATE agent_revisions SET definition = '{}' WHERE agent_id = ?1", [bad.id])?)
    };
    store.writer.write(spoil).await.unwrap();
    let claims = store.claim(&fixture::owner("a"), 5).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.run.id).collect::<Vec<_>>(), [working]);
    let run = case.run(failing).await.unwrap();
    assert_eq!((run.status, run.error_kind), (RunStatus::Failed, Some(RunErrorKind::Internal)));
    assert!(run.error.unwrap().contains("`bad`"));
}

#[tokio::test]
async fn a_store_of_a_later_version_is_not_opened() {
    let home = Home::new();
    let store = home.store();
    store.writer.write(|tx| Ok(tx.conn.pragma_update(None, "user_version", SCHEMA + 1)?)).await.unwrap();
    drop(store);
    let refused = open(&home.folder.path().join("a"), home.surroundings.clone()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.message().contains("a.db") && refused.message().contains(&format!("schema {}", SCHEMA + 1)));
}

#[tokio::test]
async fn the_queue_is_read_from_its_index_alone() {
    let home = Home::new();
    let store = home.store();
    for query in [queue::ALL, queue::LENGTH, queue::OLDEST] {
        let explain = format!("EXPLAIN QUERY PLAN {}", query.replace("?1", "1"));
        let plan =
            move |conn: &rusqlite::Connection| Ok(conn.query_row(&explain, [], |row| row.get::<_, String>("detail"))?);
        // Then the list of paused agents, once.
        assert_eq!(store.readers.read(plan).await.unwrap(), "SCAN runs USING COVERING INDEX runs_queued", "{query}");
    }
}

#[tokio::test]
async fn a_run_of_another_environment_is_refused() {
    let home = Home::new();
    let store = home.store();
    let case = home.case(&store);
    let agent = case.agent("reader").await.unwrap();
    let id = RunId::new(Timestamp::from_millis(1), EnvironmentNumber::new(8).unwrap(), 1);
    let submit = Submit { id, ..case.submission(&agent).unwrap() };
    assert_eq!(store.submit(submit).await.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_data_key_that_has_sealed_as_much_as_it_may_seals_nothing_more_and_what_it_sealed_stays() {
    let home = Home::new();
    let store = home.store();
    let key =
        |generation| crate::store::DataKeyRow { generation, wrapped: vec![7], kek_id: "k".into(), is_active: true };
    store.data_key_add(key(1)).await.unwrap();
    drop(store);
    let database = rusqlite::Connection::open(home.folder.path().join("a.db")).unwrap();
    database.execute("UPDATE data_keys SET sealed = 4294967295", []).unwrap();
    drop(database);
    let store = home.store();
    let case = home.case(&store);
    let put = |generation| {
        let seal: crate::store::Seal = Box::new(|_, version| Ok(vec![u8::try_from(version).unwrap()]));
        store.secret_put("TOKEN", generation, seal, case.entry("secret.set"))
    };
    let last = put(1).await.unwrap();
    let refused = put(1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert_eq!(store.secrets(None, 10).await.unwrap(), [last]);
    store.data_key_add(key(2)).await.unwrap();
    assert_eq!(put(2).await.unwrap().version, 2);
}
