//! Models that ask a person, and people who answer: on the command line and over REST.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::TestHome;
use crate::support::http::Http;
use crate::support::stdio::StdioClient;
use serde_json::{Value, json};

/// An agent `worker` whose model asks which way to go, and then is done.
fn curious() -> (FakeLlm, TestHome) {
    let question = json!({ "question": "Which way?", "choices": ["left", "right"] });
    let fake = FakeLlm::start([Turn::calling("ask_user", &question), Turn::saying("All done.")]);
    let home = TestHome::with_agent("worker", &fake.settings());
    home.write_agent("development", "worker", "tools: [ask_user]\n");
    let _synced = home.stn(&["sync"]).ok();
    (fake, home)
}

/// What the model was told when it went on, each time.
fn told(fake: &FakeLlm) -> Vec<Value> {
    fake.bodies(1).iter().map(|body| body["messages"].as_array().unwrap().last().unwrap()["content"].clone()).collect()
}

#[test]
fn a_question_is_shown_listed_and_answered_on_the_command_line() {
    let (fake, home) = curious();
    let ran = home.stn(&["agent", "run", "worker", "go"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{ran:?}");
    let asked = home.json(&["request", "list"])["items"][0].clone();
    let id = asked["run_id"].as_str().unwrap();
    for part in ["asks: Which way?", "choices: left, right", &format!("stn run respond {id} 'TEXT'")] {
        assert!(ran.stderr.contains(part), "`{part}` in {}", ran.stderr);
    }
    assert_eq!((&asked["question"], &asked["choices"]), (&json!("Which way?"), &json!(["left", "right"])));
    let expires_at = asked["expires_at"].as_str().unwrap();
    assert!(expires_at > asked["opened_at"].as_str().unwrap() && ran.stderr.contains(expires_at), "{asked:#}");
    let listed = home.stn(&["request", "list"]).ok().stdout;
    assert!(listed.contains("EXPIRES") && listed.contains("Which way?"), "{listed}");

    let refused = home.stn(&["run", "respond", id, "--answer", "up"]);
    assert!(refused.code == 2 && refused.stderr.contains("left, right"), "{refused:?}");
    let decided = home.stn(&["run", "respond", id, "skip"]);
    assert!(
        decided.code == 5 && decided.stderr.contains(&format!("stn run respond {id} --answer 'TEXT'")),
        "{decided:?}"
    );
    let answered = home.stn(&["run", "respond", id, "left"]).ok();
    assert!(answered.stdout.contains(id), "{answered:?}");
    assert_eq!(home.run_in(id, "completed")["output"], "All done.");
    assert_eq!(told(&fake), [json!("left")]);
    assert_eq!(home.json(&["request", "list"])["items"], json!([]));
    let again = home.stn(&["run", "respond", id, "--answer", "right"]);
    assert_eq!(again.code, 5, "{again:?}");
    assert!(again.stderr.contains("in step 2 was answered at"), "{}", again.stderr);
}

#[test]
fn a_question_is_listed_and_answered_over_rest_once() {
    let (fake, home) = curious();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let queued = http.post("/api/v1/agents/worker/queue", &json!({ "input": "go" })).with(202).json();
    let id = queued["id"].as_str().unwrap();
    let waited = http.post(&format!("/api/v1/runs/{id}/wait"), &json!({})).with(200).json();
    assert_eq!((&waited["status"], &waited["waiting_for"]), (&json!("input_required"), &json!("question")));
    let listed = http.get("/api/v1/requests").with(200).json();
    assert_eq!(listed["items"], waited["requests"]);
    assert!(listed["items"][0]["expires_at"].is_string(), "{listed:#}");
    let respond = format!("/api/v1/runs/{id}/respond");
    let refused = http.post(&respond, &json!({ "answer": "up" })).with(400).json();
    assert_eq!(refused["field"], "answer", "{refused:#}");
    let answered = http.post(&respond, &json!({ "answer": "right" })).with(200).json();
    assert_eq!((&answered["id"], &answered["waiting_for"]), (&json!(id), &Value::Null));
    let _late = http.post(&respond, &json!({ "answer": "left" })).with(409);
    assert_eq!(home.run_in(id, "completed")["output"], "All done.");
    assert_eq!(told(&fake), [json!("right")]);
}

#[test]
fn whoever_runs_a_parent_is_told_at_every_door_what_its_child_asks() {
    let parent =
        FakeLlm::start([Turn::calling("agent__asker", &json!({ "userInput": "ask" })), Turn::saying("All done.")]);
    let question = json!({ "question": "Which way?", "choices": ["left", "right"] });
    let asker = FakeLlm::start([Turn::calling("ask_user", &question), Turn::saying("Left it is.")]);
    let other = format!("  other: {{ api: openai_chat, base_url: \"{}/v1\", api_key: test }}\n", asker.url);
    let home = TestHome::with_agent("unused", &format!("{}{other}", parent.settings()));
    home.write_agent("development", "topask", "agents: [asker]\n");
    home.write_agent("development", "asker", "model: other/m\ntools: [ask_user]\n");
    let _synced = home.stn(&["sync"]).ok();

    let ran = home.stn(&["-q", "agent", "run", "topask", "go"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{ran:?}");
    let asked = home.json(&["request", "list"])["items"][0].clone();
    let child = asked["run_id"].as_str().unwrap().to_owned();
    let id = home.run(&child)["parent_run_id"].as_str().unwrap().to_owned();
    let told = [
        format!("run {child} asks: Which way?"),
        "choices: left, right".to_owned(),
        format!("stn run respond {child} 'TEXT'"),
        format!("`stn run wait {id}` waits on"),
    ];
    let waited = home.stn(&["run", "wait", &id]);
    assert_eq!(waited.code, 6, "{waited:?}");
    let watching = home.start(&["run", "watch", &id]);
    crate::support::home::within("the question", || watching.stderr().contains("watching on").then_some(()));
    for said in [&ran.stderr, &waited.stderr] {
        for part in &told {
            assert!(said.contains(part), "`{part}` in {said}");
            assert_eq!(said.matches(part.as_str()).count(), 1, "{said}");
        }
    }
    assert!(told[..3].iter().all(|part| watching.stderr().contains(part)), "{}", watching.stderr());
    assert_eq!(home.run(&id)["requests"], json!([asked]));
    assert_eq!(home.json(&["status"])["environments"][0]["live_runs"], 1, "the parent");

    let client = StdioClient::connect(&home);
    let over_mcp = client.request("tools/call", &json!({ "name": "run_wait", "arguments": { "run": id } }));
    let text = over_mcp["result"]["content"].to_string();
    for part in [
        "Which way? (one of: left, right)",
        &format!("stn run respond {child} 'TEXT'"),
        &format!("run_wait with run {id}"),
    ] {
        assert!(text.contains(part), "`{part}` in {text}");
    }
    assert_eq!(over_mcp["result"]["structuredContent"]["requests"], json!([asked]), "{over_mcp:#}");

    let misplaced = home.stn(&["run", "respond", &id, "left"]);
    assert!(misplaced.code == 5 && misplaced.stderr.contains(&format!("stn run respond {child}")), "{misplaced:?}");
    let _answered = home.stn(&["run", "respond", &child, "left"]).ok();
    assert_eq!(home.stn(&["run", "wait", &id]).ok().stdout, "All done.\n");
    assert_eq!(watching.end().ok().stdout, "All done.\n");
}

#[test]
fn whoever_answers_a_question_brings_the_key_that_went_with_the_owner() {
    let question = json!({ "question": "Which way?" });
    let fake = FakeLlm::start([Turn::calling("ask_user", &question), Turn::saying("All done.")]);
    let mut home = TestHome::with_agent("worker", "");
    home.write_agent("development", "worker", "tools: [ask_user]\n");
    home.set("OPENAI_API_KEY", "test").set("OPENAI_BASE_URL", &format!("{}/v1", fake.url));
    let id = home.start_run("worker", "go");
    let asked = home.stn(&["run", "wait", &id]);
    assert!(asked.code == 6 && asked.stderr.contains("Which way?"), "{asked:?}");
    home.kill_owner();
    assert_eq!(home.stn(&["run", "wait", &id]).code, 6, "another owner, which has no key");
    let _answered = home.stn(&["run", "respond", &id, "left"]).ok();
    assert_eq!(home.run_in(&id, "completed")["output"], "All done.");
}
