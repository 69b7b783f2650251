//! Agents that are paused, and what becomes of their runs.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::TestHome;
use serde_json::{Value, json};
use std::fs;

const FILE: &str = "environments/development/agents/worker.prompt";

/// An agent `worker` with a run that asks a person.
fn asking() -> (FakeLlm, TestHome, String) {
    let question = json!({ "question": "Which way?" });
    let fake = FakeLlm::start([Turn::calling("ask_user", &question), Turn::saying("All done.")]);
    let home = TestHome::with_agent("worker", &fake.settings());
    home.write_agent("development", "worker", "tools: [ask_user]\n");
    let _synced = home.stn(&["sync"]).ok();
    let id = home.start_run("worker", "go");
    let _asks = home.run_in(&id, "input_required");
    (fake, home, id)
}

#[test]
fn whoever_means_a_paused_agent_without_a_file_is_told_what_it_holds_and_can_let_it_go_on() {
    let (_fake, home, id) = asking();
    let _paused = home.stn(&["agent", "pause", "worker"]).ok();
    let file = home.read(FILE);
    fs::remove_file(home.path().join(FILE)).unwrap();
    let _synced = home.stn(&["sync"]).ok();
    let answered = home.json(&["run", "respond", &id, "left"]);
    assert_eq!(answered["status"], "queued", "held: {answered:#}");

    for command in [["agent", "get", "worker"], ["agent", "pause", "worker"], ["agent", "delete", "worker"]] {
        let refused = home.stn(&command);
        assert_eq!(refused.code, 4, "{refused:?}");
        for part in [
            "its file is gone",
            "a run of it hasn't ended",
            "paused since 2",
            "stn agent resume worker",
            "stn run cancel",
        ] {
            assert!(refused.stderr.contains(part), "`{part}` in {}", refused.stderr);
        }
    }
    let listed = home.json(&["run", "list", "--agent", "worker"]);
    assert_eq!(listed["items"][0]["id"], json!(id), "{listed:#}");

    let resumed = home.json(&["agent", "resume", "worker"]);
    assert_eq!(resumed["state"], "error", "{resumed:#}");
    assert!(resumed["problem"].as_str().unwrap().contains("its file is gone"), "{resumed:#}");
    assert_eq!(home.run_in(&id, "completed")["output"], "All done.");
    let refused = home.stn(&["agent", "resume", "worker"]);
    assert!(refused.code == 4 && !refused.stderr.contains("paused"), "{refused:?}");
    assert_eq!(home.json(&["run", "list", "--agent", "worker"])["items"][0]["status"], "completed");
    let unknown = home.stn(&["run", "list", "--agent", "wrker"]);
    assert!(unknown.code == 4 && !unknown.stderr.contains("file is gone"), "{unknown:?}");

    home.write(FILE, &file);
    let _synced = home.stn(&["sync"]).ok();
    assert_eq!(home.json(&["agent", "get", "worker"])["problem"], Value::Null);
}
