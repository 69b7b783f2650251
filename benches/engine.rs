//! What the engine adds to a run, per journal row: the whole time less the time inside the model, beside the time of a lone commit.
//!
//! `cargo bench --bench engine`. The model is in this process and answers at once, and the tool is the built-in `filesystem`, whose own work
//! counts as Station's. The files lie in the system's temporary directory; set `TMPDIR` to measure another disk.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::print_stdout, reason = "a benchmark is there to print its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run has nothing to say")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/station.rs"]
mod station_here;

use async_trait::async_trait;
use measure::{median, now, outcome, target};
use serde_json::json;
use station::domain::Usage;
use station::llm::{Finish, Message, Provider, ProviderError, ToolCall, TurnLimits, TurnReply, TurnRequest, TurnSink};
use station_here::Bench;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TURNS: usize = 200;
/// Before and after each run, because the disk is not the same at all times.
const BARE_COMMITS: usize = 500;
const ROUNDS: usize = 5;

/// The target: this many lone commits and this much besides, per row.
const COMMITS_PER_ROW: f64 = 3.0;
const MS_PER_ROW: f64 = 0.5;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{:<32} {:>6} {:>8} {:>12} {:>12} {:>15} {:>12}",
        "", "rows", "commits", "in fakes ms", "cost/row ms", "lone commit ms", "cost/commit"
    );
    for calls in [1, 4] {
        let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| round(calls, &runtime)).collect();
        rounds.sort_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
        let (cost, limit) = rounds[ROUNDS / 2];
        let verdict =
            target(&format!("<= {COMMITS_PER_ROW} x a lone commit + {MS_PER_ROW} ms = {limit:.3} ms"), cost <= limit);
        println!("    the middle round: {cost:.3} ms per row; {verdict}");
    }
    outcome()
}

/// What a row cost, and what it might have.
fn round(calls: usize, runtime: &tokio::runtime::Runtime) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let mut commits = bare::bare(&folder.path().join("before.db"), BARE_COMMITS);
    let ran = runtime.block_on(run_of(calls, folder.path()));
    commits.extend(bare::bare(&folder.path().join("after.db"), BARE_COMMITS));
    let lone = median(&commits);
    let cost = ran.wall.saturating_sub(ran.in_fakes).as_secs_f64() * 1e3 / ran.rows as f64;
    println!(
        "{:<32} {:>6} {:>8} {:>12.2} {cost:>12.3} {lone:>15.3} {:>11.2}x",
        format!("{TURNS} turns, calls in each: {calls}"),
        ran.rows,
        ran.commits,
        ran.in_fakes.as_secs_f64() * 1e3,
        cost / lone,
    );
    (cost, COMMITS_PER_ROW * lone + MS_PER_ROW)
}

struct Ran {
    rows: u64,
    commits: u64,
    wall: Duration,
    in_fakes: Duration,
}

/// From the submit to the answer with the run's end.
async fn run_of(calls: usize, folder: &Path) -> Ran {
    let model = Arc::new(Reader { calls, inside: AtomicU64::new(0) });
    let bench = Bench::open(folder, true, |models| models.with_provider("fake", model.clone())).await;
    let agent = json!({
        "name": "bench", "prompt": "{{userInput}}", "model": "fake/reader", "tools": ["filesystem__*"], "max_steps": TURNS + 1,
    });
    bench.call("agent_create", agent).await;
    let before = bench.stats();
    let begin = now();
    let run = bench.call("agent_run", json!({ "agent": "bench", "input": "read", "wait_ms": 600_000 })).await;
    let wall = begin.elapsed();
    assert_eq!(run["status"], "completed", "{run}");
    let rows = run["steps"].as_u64().unwrap();
    assert_eq!(rows, (TURNS * (1 + calls) + 1) as u64);
    let commits = bench.stats().commits - before.commits;
    bench.close().await;
    Ran { rows, commits, wall, in_fakes: Duration::from_nanos(model.inside.load(Ordering::Relaxed)) }
}

/// A model that reads the same file in every turn, and then has an answer.
#[derive(Debug)]
struct Reader {
    calls: usize,
    /// Nanoseconds that were spent here.
    inside: AtomicU64,
}

impl Reader {
    fn reply(&self, request: &TurnRequest) -> TurnReply {
        let answered = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
        let call = |at| ToolCall {
            id: format!("call-{answered}-{at}"),
            name: "filesystem__read_text_file".into(),
            arguments: r#"{"path":"notes.md"}"#.into(),
        };
        let calls: Vec<ToolCall> = if answered < TURNS { (0..self.calls).map(call).collect() } else { Vec::new() };
        TurnReply {
            text: if calls.is_empty() { "The harbour opens at six.".into() } else { String::new() },
            finish: if calls.is_empty() { Finish::Stop } else { Finish::ToolCalls },
            calls,
            native: None,
            usage: Some(Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() }),
            notice: None,
            wire_attempts: 1,
        }
    }
}

#[async_trait]
impl Provider for Reader {
    fn name(&self) -> &str {
        "fake"
    }

    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        _: &TurnLimits,
    ) -> Result<TurnReply, ProviderError> {
        let begin = now();
        let reply = self.reply(request);
        sink.text(&reply.text);
        let spent = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.inside.fetch_add(spent, Ordering::Relaxed);
        Ok(reply)
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        Ok(vec!["reader".into()])
    }
}
