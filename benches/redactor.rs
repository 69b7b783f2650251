//! What the redactor costs: megabytes a second of text without a secret in it, beside a plain copy of the same text, and how long a value of
//! 64 KiB takes to be known.
//!
//! `cargo bench --bench redactor`

#![expect(clippy::print_stdout, reason = "a benchmark is there to print its figures")]

#[path = "support/measure.rs"]
mod measure;

use measure::{median, now, outcome, target};
use station::redact::Redactor;
use std::hint::black_box;
use std::process::ExitCode;

const ROUNDS: usize = 5;
const PIECE: usize = 4096;

fn main() -> ExitCode {
    let line = r#"{"run_id":"01a2160f-f7ef-8001-8056-8db7519b0c25","seq":7,"type":"step.completed","text":"Line 4711: the quick brown fox"}"#;
    let text = [line; 32_000].join("\n");
    let json = format!("[{}]", [line; 32_000].join(","));
    #[expect(clippy::cast_precision_loss, reason = "a few million bytes")]
    let megabytes = text.len() as f64 / 1e6;
    let speed = |work: &mut dyn FnMut()| megabytes / timed(work) * 1e3;
    let copy = speed(&mut || drop(black_box(black_box(&text).clone())));
    println!("{:<44} {:>10} {:>10}", format!("{megabytes:.1} MB of lines without a secret"), "MB/s", "x copy");
    println!("{:<44} {copy:>10.0} {:>10.2}", "a plain copy", 1.0);
    for secrets in [1, 20, 200] {
        let redactor = Redactor::default();
        redactor.replace("development", (0..secrets).map(|at| (format!("KEY_{at}"), token(at).into())).collect());
        let row = |what: &str, speed: f64| {
            let held = target(">= 50 MB/s", speed >= 50.0);
            println!("{:<44} {speed:>10.0} {:>10.3} {held}", format!("{what}, {secrets} secrets"), speed / copy);
        };
        row("text", speed(&mut || drop(black_box(redactor.text(black_box(&text))))));
        row("JSON as text", speed(&mut || drop(black_box(redactor.json_text(black_box(&json))))));
        row(
            "a stream in pieces of 4 KiB",
            speed(&mut || {
                let mut stream = redactor.stream();
                for piece in black_box(text.as_bytes()).chunks(PIECE) {
                    let _shown = black_box(stream.push(piece));
                }
                let _rest = black_box(stream.finish());
            }),
        );
    }
    let long: String = "\"\\/ä&<>+=%0123456789abcdef".chars().cycle().take(60_000).collect();
    let learned = timed(&mut || Redactor::default().add("development", "LONG", &long.as_str().into()));
    println!(
        "{:<44} {learned:>7.0} ms {}",
        "a value of 60,000 characters is known after",
        target("<= 1000 ms", learned <= 1000.0)
    );
    outcome()
}

/// 40 characters that no two values share the beginning of.
fn token(at: usize) -> String {
    let mut state = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..40)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state >> 58) as usize])
        })
        .collect()
}

/// The middle of several rounds, in milliseconds.
fn timed(work: &mut dyn FnMut()) -> f64 {
    let round = |work: &mut dyn FnMut()| {
        let began = now();
        work();
        now() - began
    };
    median(&(0..ROUNDS).map(|_| round(work)).collect::<Vec<_>>())
}
