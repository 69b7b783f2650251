//! The command line beside a run: its steps as they happen, another model, watching, and cancelling.

use crate::support::counter::Counter;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, within};
use serde_json::json;

/// A home whose agent `worker` calls the counter once, and then waits for the model.
fn held_after_one_call() -> (FakeLlm, TestHome) {
    let call = Turn::calling("counter__count", &json!({ "note": "once" }));
    let fake = FakeLlm::start([call, Turn::saying("All done.").held()]);
    let home = TestHome::with_agent_using(&["counter"], "worker", &fake.settings());
    home.write_servers("development", &Counter::beside(&home).servers(&json!({})));
    (fake, home)
}

#[test]
fn steps_are_told_as_they_happen_and_the_answer_alone_is_on_stdout() {
    let (fake, home) = held_after_one_call();
    let running = home.start(&["agent", "run", "worker", "go"]);
    fake.wait_for(1);
    let step = r#"counter__count {"note":"once"}"#;
    within("the tool's line", || running.stderr().contains(step).then_some(()));
    fake.release();
    let ended = running.end().ok();
    assert_eq!(ended.stdout, "All done.\n");
    assert_eq!(ended.stderr.matches(step).count(), 1, "{}", ended.stderr);
}

#[test]
fn a_run_is_watched_from_its_first_step_to_its_end() {
    let (fake, home) = held_after_one_call();
    let id = home.start_run("worker", "go");
    fake.wait_for(1);
    let watching = home.start(&["run", "watch", &id]);
    within("the step that was before", || watching.stderr().contains("counter__count").then_some(()));
    fake.release();
    assert_eq!(watching.end().ok().stdout, "All done.\n");
}

#[test]
fn a_run_is_cancelled_by_the_beginning_of_its_id() {
    let (fake, home) = held_after_one_call();
    let id = home.start_run("worker", "go");
    fake.wait_for(1);
    let watching = home.start(&["run", "watch", &id]);
    let _cancelled = home.stn(&["run", "cancel", &id[..13]]).ok();
    let run = home.run_in(&id, "cancelled");
    assert_eq!(run["output"], json!(null), "{run:#}");
    let watched = watching.end();
    assert!(watched.code != 0 && watched.stdout.is_empty(), "{watched:?}");
    assert!(watched.stderr.contains("cancelled"), "{watched:?}");
}

#[test]
fn a_run_takes_the_model_that_its_caller_names() {
    let fake = FakeLlm::start([Turn::saying("Here I am.")]);
    let home = TestHome::with_agent("worker", &fake.settings());
    let run = home.json(&["agent", "run", "worker", "go", "--model", "fake/another"]);
    assert_eq!((&run["model"]["id"], &fake.bodies(0)[0]["model"]), (&json!("another"), &json!("another")), "{run:#}");
}

#[test]
fn who_waits_for_a_run_waits_on_however_often_the_owner_is_killed() {
    let (fake, home) = held_after_one_call();
    let id = home.start_run("worker", "go");
    let waits = [&["run", "wait", &id][..], &["run", "wait", &id, "--wait-ms", "600000"]];
    let waiting = waits.map(|words| home.start(words));
    for killed in 0..5 {
        fake.wait_for_more(1, killed);
        home.kill_owner();
    }
    fake.wait_for_more(1, 5);
    fake.release();
    for waiting in waiting {
        assert_eq!(waiting.end().ok().stdout, "All done.\n");
    }
}

#[test]
fn who_follows_a_run_is_told_each_step_once_however_often_the_owner_is_killed() {
    let (fake, home) = held_after_one_call();
    let running = home.start(&["agent", "run", "worker", "go"]);
    for killed in 0..5 {
        fake.wait_for_more(1, killed);
        home.kill_owner();
    }
    fake.wait_for_more(1, 5);
    fake.release();
    let ended = running.end().ok();
    assert_eq!(ended.stdout, "All done.\n");
    let told = |line: &str| ended.stderr.matches(line).count();
    let steps = ["turn 1  model", "turn 1  counter__count", "turn 2  model", "cut off by a restart"].map(told);
    assert_eq!(steps, [1, 1, 6, 5], "{}", ended.stderr);
}
