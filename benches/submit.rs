//! Durable submits through dispatch, with their audit rows and lines, beside one commit per row on the same disk.
//!
//! `cargo bench --bench submit`. Nothing executes the runs: what is measured ends with the answer to `agent_run`, after its commit. The files
//! lie in the system's temporary directory; set `TMPDIR` to measure another disk.
//!
//! `cargo bench --bench submit -- 6400` makes only so many submits of 64 clients, so that the counter of commits can be compared with what
//! `strace -f -c -e trace=fdatasync,fsync` counts; with 0 it shows what opening costs.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::print_stdout, reason = "a benchmark is there to print its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run has nothing to say")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/station.rs"]
mod station_here;

use measure::{median, now, outcome, target};
use serde_json::json;
use station_here::{Bench, call};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const BARE_COMMITS: usize = 2_000;
const LONE_SUBMITS: usize = 1_000;
const CLIENTS: usize = 64;
const SUBMITS: usize = 6_400;
/// Each with a bare loop of its own, because the disk is not the same at all times.
const ROUNDS: usize = 3;

const ROWS_PER_COMMIT: f64 = 16.0;
const OVER_BARE: f64 = 8.0;
/// On a disk whose lone commits are faster than this, a commit is no longer what a submit waits for.
const SLOW_DISK: f64 = 500.0;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let only = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    if let Some(submits) = only {
        let counted = runtime.block_on(submits_of(CLIENTS, submits, folder.path()));
        println!("{} submits in {} commits", counted.submits, counted.commits);
        return ExitCode::SUCCESS;
    }
    println!("{:<46} {:>9} {:>10} {:>14} {:>8}", "", "rows/s", "commits/s", "rows/commit", "ratio");
    for round in 0..ROUNDS {
        let folder = folder.path().join(round.to_string());
        std::fs::create_dir(&folder).unwrap();
        let times = bare::bare(&folder.join("bare.db"), BARE_COMMITS);
        let bare = Counted { submits: times.len(), commits: times.len() as u64, time: times.iter().sum() };
        let lone = runtime.block_on(submits_of(1, LONE_SUBMITS, &folder.join("lone")));
        let grouped = runtime.block_on(submits_of(CLIENTS, SUBMITS, &folder.join("grouped")));
        bare.print("bare loop, one small row per commit", &bare);
        lone.print("1 client, agent_run through dispatch", &bare);
        grouped.print("64 clients, agent_run through dispatch", &bare);
        println!("    lone commit: p50 {:.3} ms; {}", median(&times), grouped.verdict(&bare));
    }
    outcome()
}

struct Counted {
    submits: usize,
    commits: u64,
    time: Duration,
}

impl Counted {
    fn rate(&self) -> f64 {
        self.submits as f64 / self.time.as_secs_f64()
    }

    fn per_commit(&self) -> f64 {
        self.submits as f64 / self.commits as f64
    }

    fn print(&self, name: &str, bare: &Self) {
        let commits = self.commits as f64 / self.time.as_secs_f64();
        let (rate, ratio) = (self.rate(), self.rate() / bare.rate());
        println!("{name:<46} {rate:>9.0} {commits:>10.0} {:>14.1} {ratio:>7.2}x", self.per_commit());
    }

    fn verdict(&self, bare: &Self) -> String {
        let grouped = target(">= 16 rows per commit", self.per_commit() >= ROWS_PER_COMMIT);
        let ratio = if bare.rate() < SLOW_DISK {
            target(">= 8 x the bare loop", self.rate() >= OVER_BARE * bare.rate())
        } else {
            ">= 8 x the bare loop: asked only below 500 bare commits/s".to_owned()
        };
        format!("{grouped}; {ratio}")
    }
}

/// `clients` that each wait for their answer before they submit again.
async fn submits_of(clients: usize, total: usize, folder: &Path) -> Counted {
    let bench = Bench::open(folder, false, |models| models).await;
    let agent = json!({ "name": "bench", "prompt": "{{userInput}}", "model": "offline/rules-1" });
    bench.call("agent_create", agent).await;
    let before = bench.stats();
    let begin = now();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let station = Arc::clone(&bench.station);
        running.spawn(async move {
            for _ in 0..total / clients {
                call(&station, "agent_run", json!({ "agent": "bench", "input": "hello" })).await;
            }
        });
    }
    running.join_all().await;
    let time = begin.elapsed();
    let after = bench.stats();
    let submits = usize::try_from(after.operations - before.operations).unwrap();
    assert_eq!(submits, total, "every submit is one operation of the writer");
    bench.close().await;
    Counted { submits, commits: after.commits - before.commits, time }
}
