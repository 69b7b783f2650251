//! What group commit gains: submits of 64 clients through the store's writer, beside one commit per row on the same disk.
//!
//! `cargo bench --bench group_commit`. The files lie in the system's temporary directory; set `TMPDIR` to measure another disk.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::print_stdout, reason = "a benchmark is there to print its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run has nothing to say")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/measure.rs"]
mod measure;

use measure::{median, now, outcome, target};
use serde_json::json;
use station::clock::SystemClock;
use station::domain::{
    AgentDefinition, AuditEntry, AuditOutcome, Cause, EnvironmentNumber, Limits, ModelChoice, Name, OnInDoubt, Origin,
    Principal, RunId, Timestamp,
};
use station::events::Events;
use station::store::sqlite::SqliteStore;
use station::store::{AgentRow, AgentWrite, Store, Submit};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BARE_COMMITS: usize = 2_000;
const CLIENTS: u64 = 64;
const SUBMITS: u64 = 6_400;
const LONE_SUBMITS: u64 = 300;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let times = bare::bare(&folder.path().join("bare.db"), BARE_COMMITS);
    let bare = Figures { rows: times.len() as u64, commits: times.len() as u64, time: times.iter().sum() };
    let lone = runtime.block_on(submits(folder.path(), "lone", 1, LONE_SUBMITS));
    let grouped = runtime.block_on(submits(folder.path(), "grouped", CLIENTS, SUBMITS));
    println!("{:<38} {:>10} {:>10} {:>14} {:>8}", "", "rows/s", "commits/s", "rows/commit", "ratio");
    for (name, figures) in [
        ("bare loop, one row per commit", &bare),
        ("1 client, whole submits", &lone),
        ("64 clients, whole submits", &grouped),
    ] {
        let seconds = figures.time.as_secs_f64();
        let (rows, commits) = (figures.rows as f64, figures.commits as f64);
        let ratio = (rows / seconds) / (bare.rows as f64 / bare.time.as_secs_f64());
        println!(
            "{name:<38} {:>10.0} {:>10.0} {:>14.1} {ratio:>7.1}x",
            rows / seconds,
            commits / seconds,
            rows / commits
        );
    }
    let verdict = target(">= 16 rows per commit", grouped.rows >= 16 * grouped.commits);
    println!("lone commit: p50 {:.3} ms; {verdict}", median(&times));
    outcome()
}

struct Figures {
    rows: u64,
    commits: u64,
    time: Duration,
}

/// `clients` that each wait for their answer before they submit again.
async fn submits(folder: &Path, name: &str, clients: u64, total: u64) -> Figures {
    let clock = SystemClock::shared();
    let environment = (Name::new("bench").unwrap(), EnvironmentNumber::new(1).unwrap());
    let (file, audit) = (folder.join(format!("{name}.db")), folder.join(format!("{name}.jsonl")));
    let store = SqliteStore::open(&file, &audit, environment, clock.clone(), Events::default()).unwrap();
    let agent = store.agent_write(agent(), entry(clock.now(), "agent.create")).await.unwrap();
    let ids = AtomicU64::new(0);
    let before = store.stats();
    let begin = now();
    let client = || async {
        for _ in 0..total / clients {
            let submit = submission(&agent, clock.now(), ids.fetch_add(1, Ordering::Relaxed));
            store.submit(submit).await.unwrap();
        }
    };
    futures_util::future::join_all((0..clients).map(|_| client())).await;
    let time = begin.elapsed();
    let after = store.stats();
    let figures = Figures { rows: after.operations - before.operations, commits: after.commits - before.commits, time };
    assert_eq!(figures.rows, total);
    figures
}

fn submission(agent: &AgentRow, at: Timestamp, number: u64) -> Submit {
    Submit {
        id: RunId::new(at, EnvironmentNumber::new(1).unwrap(), number),
        agent_id: agent.id,
        revision: agent.revision.clone(),
        model: ModelChoice { provider: "offline".into(), id: "echo".into(), reason: "bench".into() },
        input: json!({ "userInput": "hello" }),
        origin: Origin::Rest,
        cause: Cause::call(),
        principal: Principal::local_owner().who,
        parent: None,
        max_steps: 8,
        timeout_ms: 60_000,
        limits: Limits::default(),
        idempotency_key: None,
        config_revision: None,
        caller_credentials: false,
        reserved_for: None,
        queue_limit: i64::MAX,
        audit: entry(at, "agent.run"),
    }
}

fn agent() -> AgentWrite {
    AgentWrite {
        definition: AgentDefinition {
            name: Name::new("bench").unwrap(),
            display_name: None,
            description: None,
            tags: Vec::new(),
            model: None,
            max_steps: None,
            timeout_ms: None,
            plan: false,
            tools: Vec::new(),
            agents: Vec::new(),
            input_schema: None,
            output_schema: None,
            schedule: None,
            approval: None,
            limits: None,
            retry: None,
            on_in_doubt: OnInDoubt::Ask,
            prompt: "{{userInput}}".to_owned(),
        },
        revision: "r1".to_owned(),
        bytes: b"bench".to_vec(),
        file: "environments/bench/agents/bench.prompt".to_owned(),
        expected: None,
    }
}

fn entry(at: Timestamp, action: &str) -> AuditEntry {
    AuditEntry {
        at,
        principal: Principal::local_owner().who,
        origin: Origin::Rest,
        cause: Cause::call(),
        action: action.to_owned(),
        target: None,
        environment: None,
        outcome: AuditOutcome::Done,
        reason: None,
        request_id: "bench".to_owned(),
        config_revision: None,
        details: None,
    }
}
