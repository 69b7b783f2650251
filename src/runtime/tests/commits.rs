//! A crash after each single commit of a caller and of what it calls. What a kill leaves of a store is its log up to some commit; so a
//! whole tree is run once, and then taken up anew from each beginning of the log that it has written.

use super::children::{CALL, child, parent};
use super::{Bench, Say};
use crate::config::Settings;
use crate::domain::{Name, Run, RunId, RunStatus, Step, StepKind, StepStatus, WaitingFor};
use crate::home::{Home, Layout};
use crate::llm::{Message, TurnRequest};
use crate::store::RunFilter;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stood in a store when the crash came: the caller's status, what it waits for, its calls that have an outcome, and the statuses of
/// the runs that it has called.
type Moment = (RunStatus, Option<WaitingFor>, usize, Vec<RunStatus>);

/// The store's file and its log, below a home.
fn store_files(root: &Path) -> [PathBuf; 2] {
    let home = Home::at(root, Layout::Home, &BTreeMap::new()).unwrap();
    let file = home.data_db(&Name::new("development").unwrap());
    let log = file.with_extension("db-wal");
    [file, log]
}

/// How long the log was after each of its commits. Its header has 32 bytes, and each frame 24 before its page; the last frame of a commit
/// says how many pages the store has then (SQLite, "Database File Format", section 4).
fn commits(log: &[u8]) -> Vec<usize> {
    let word = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let frame = 24 + usize::try_from(word(8)).unwrap();
    assert!(word(12) == 0 && log.len() < 1_000 * frame, "nothing of the log was moved into the store's file yet");
    (32..log.len()).step_by(frame).filter(|at| word(at + 4) != 0).map(|at| at + frame).collect()
}

/// Runs a caller whose first answer is `calls`, each of which comes to `end`, then crashes it after each of its commits and lets the next
/// owner go on.
async fn survives(calls: usize, respond: fn(&TurnRequest) -> Say, end: RunStatus) -> BTreeSet<String> {
    let bench = Bench::with_workers(vec![], Settings::default(), 1);
    bench.agent(parent).await;
    bench.agent(child).await;
    *bench.model.respond.lock().unwrap() = Some(respond);
    bench.start().await;
    let run = bench.submit().await;
    assert_eq!(bench.settled(run).await.output, Some(json!("thanks")));
    let [file, log] = store_files(bench.station.home.root()).map(|path| std::fs::read(path).unwrap());
    let mut moments = BTreeSet::new();
    for length in commits(&log) {
        let keep = tempfile::tempdir().unwrap();
        let [to_file, to_log] = store_files(keep.path());
        std::fs::create_dir_all(to_file.parent().unwrap()).unwrap();
        std::fs::write(to_file, &file).unwrap();
        std::fs::write(to_log, &log[..length]).unwrap();
        let next = Bench::in_home(keep, vec![], Settings::default(), 1, "next");
        *next.model.respond.lock().unwrap() = Some(respond);
        // Before the first submit there is nothing to go on with.
        if next.environment.store.run(run).await.unwrap().is_some() {
            moments.insert(format!("{:?}", next.moment(run).await));
            next.start().await;
            next.has_ended_well(run, calls, end).await;
        }
    }
    moments
}

impl Bench {
    async fn moment(&self, run: RunId) -> Moment {
        let Run { status, waiting_for, .. } = self.environment.store.run(run).await.unwrap().unwrap();
        let journal = self.journal(run).await;
        let ended = journal.iter().filter(|row| row.step.kind == StepKind::Tool && row.step.ended_at.is_some()).count();
        (status, waiting_for, ended, self.called_by(run).await.into_iter().map(|run| run.status).collect())
    }

    /// The caller got what each call came to, each of which became one run that came to `end`, whenever the crash came.
    async fn has_ended_well(&self, run: RunId, calls: usize, end: RunStatus) {
        let moment = self.moment(run).await;
        let ended = self.settled(run).await;
        assert_eq!(ended.output, Some(json!("thanks")), "{moment:?}: {:?}", ended.error);
        let called = self.called_by(run).await;
        let steps: BTreeSet<_> = called.iter().map(|run| run.parent_step).collect();
        assert_eq!((called.len(), steps.len()), (calls, calls), "{moment:?}: one run of each call");
        assert!(called.iter().all(|run| run.status == end), "{moment:?}: {called:#?}");
        let all = self.environment.store.runs(&RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap();
        assert_eq!(all.len(), 1 + calls, "{moment:?}");
        let journal = self.journal(run).await;
        let asked: Vec<_> = journal.iter().filter(|row| row.step.kind == StepKind::Tool).collect();
        assert_eq!(asked.len(), calls, "{moment:?}: one step of each call, with one try");
        for Step { status, result, error, .. } in asked.iter().map(|row| &row.step) {
            let result = result.as_ref().map(|result| result["content"][0]["text"].clone());
            match end {
                RunStatus::Completed => {
                    let told = Some(json!("from the child"));
                    assert_eq!((*status, result), (StepStatus::Completed, told), "{moment:?}: {error:?}");
                }
                _ => {
                    assert_eq!((*status, result), (StepStatus::Failed, None), "{moment:?}");
                    let error = error.as_deref().unwrap();
                    assert!(error.contains("agent `child` failed (provider) in run"), "{moment:?}: {error}");
                }
            }
        }
        assert_eq!(self.audited("agent.run").await.len(), 2 * (1 + calls), "{moment:?}: a submit and an end of each");
    }
}

/// The child answers at once; its caller calls it as often as the name says, and is content.
fn calls_once(request: &TurnRequest) -> Say {
    calling(request, vec![CALL], Say::Text("from the child"))
}

fn calls_twice(request: &TurnRequest) -> Say {
    calling(request, vec![CALL, CALL], Say::Text("from the child"))
}

/// The child's provider refuses it.
fn calls_in_vain(request: &TurnRequest) -> Say {
    calling(request, vec![CALL], Say::Fail)
}

fn calling(request: &TurnRequest, calls: Vec<(&'static str, &'static str)>, child: Say) -> Say {
    match (request.system.as_deref(), request.messages.last()) {
        (Some("Child."), _) => child,
        (_, Some(Message::ToolResults(_))) => Say::Text("thanks"),
        _ => Say::Calls(calls),
    }
}

#[tokio::test]
async fn a_crash_after_any_commit_leaves_one_run_of_a_call_and_its_caller_gets_the_result() {
    use RunStatus::{Completed, Failed, Queued, Running};
    let waits = Some(WaitingFor::Child);
    for (respond, end) in [(calls_once as fn(&TurnRequest) -> Say, Completed), (calls_in_vain, Failed)] {
        let moments = survives(1, respond, end).await;
        let all: [Moment; 8] = [
            (Running, None, 0, vec![]),
            // Submitted, and its caller doesn't wait yet.
            (Running, None, 0, vec![Queued]),
            // Its caller has given its worker back.
            (Running, waits, 0, vec![Queued]),
            (Running, waits, 0, vec![Running]),
            // Its end has woken its caller, who has the result by then.
            (Queued, None, 1, vec![end]),
            (Running, None, 1, vec![end]),
            (Completed, None, 1, vec![end]),
            (Queued, None, 0, vec![]),
        ];
        // A free worker takes the first run up with its submit.
        for moment in &all[..7] {
            assert!(moments.contains(&format!("{moment:?}")), "no crash came at {moment:?}: {moments:#?}");
        }
        let known: BTreeSet<String> = all.iter().map(|moment| format!("{moment:?}")).collect();
        assert!(moments.is_subset(&known), "a moment that nobody has thought of: {moments:#?}");
    }
}

#[tokio::test]
async fn a_crash_after_any_commit_of_two_calls_leaves_one_run_of_each() {
    let moments = survives(2, calls_twice, RunStatus::Completed).await;
    let half = (RunStatus::Running, Some(WaitingFor::Child), 1, vec![RunStatus::Completed, RunStatus::Running]);
    assert!(moments.contains(&format!("{half:?}")), "{moments:#?}");
}
