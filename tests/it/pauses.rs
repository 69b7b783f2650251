//! Agents that are paused, and what becomes of their runs.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, within};
use crate::support::stdio::StdioClient;
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
            "stn agent resume worker -e development",
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

#[test]
fn a_run_that_a_pause_holds_says_so_to_whoever_looks_waits_or_watches() {
    let (_fake, home, id) = asking();
    let _paused = home.stn(&["agent", "pause", "worker"]).ok();
    assert_eq!(home.run(&id)["agent_paused"], Value::Null, "it isn't queued");
    let _answered = home.stn(&["run", "respond", &id, "left"]).ok();
    assert_eq!(home.run(&id)["agent_paused"], json!(true));
    let why = format!("run {id} is queued, and its agent is paused; `stn agent resume worker -e development`");
    let limited = home.stn(&["run", "wait", &id, "--wait-ms", "1"]);
    assert!(limited.code == 6 && limited.stderr.contains(&why), "{limited:?}");
    let following = [home.start(&["run", "wait", &id]), home.start(&["run", "watch", &id])];
    within("both to be told", || following.iter().all(|one| one.stderr().contains(&why)).then_some(()));
    let client = StdioClient::connect(&home);
    let over_mcp =
        client.request("tools/call", &json!({ "name": "run_wait", "arguments": { "run": id, "wait_ms": 1 } }));
    assert!(
        over_mcp["result"]["content"].to_string().contains("stn agent resume worker -e development"),
        "{over_mcp:#}"
    );
    let _resumed = home.stn(&["agent", "resume", "worker"]).ok();
    for one in following {
        assert_eq!(one.end().ok().stdout, "All done.\n");
    }
    assert_eq!(home.run(&id)["agent_paused"], Value::Null);
}
