//! Owners that are killed: runs go on, finished calls are not made again, and a call in flight is decided by what is known of its effect.

use crate::support::counter::Counter;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, within};
use serde_json::{Value, json};

/// A home with a counter that an agent `worker` calls once, and a model that follows `last` with it.
struct Scene {
    fake: FakeLlm,
    home: TestHome,
    counter: Counter,
}

impl Scene {
    /// The model first calls `tool`. `effects` is the operator's word on the tools.
    fn of(tool: &str, effects: &Value, last: Turn) -> Self {
        let call = Turn::calling(&format!("counter__{tool}"), &json!({ "note": "once" }));
        let fake = FakeLlm::start([call, last]);
        let home = TestHome::with_agent("worker", &fake.settings());
        let counter = Counter::beside(&home);
        home.write_servers("development", &counter.servers(effects));
        Self { fake, home, counter }
    }

    /// A run that has made its call and waits for the model, which is held.
    fn between_the_calls(&self) -> String {
        let id = self.home.start_run("worker", "go");
        self.fake.wait_for(1);
        let steps = self.home.steps(&id);
        assert_eq!((&steps[1]["kind"], &steps[1]["status"]), (&json!("tool"), &json!("completed")), "{steps:#?}");
        id
    }

    /// The run's end, which has to be a good one, with one call of the tool.
    fn ends_well(&self, id: &str) {
        let run = self.home.run_in(id, "completed");
        assert_eq!(run["output"], "All done.", "{run:#}");
        assert_eq!(self.counter.calls().len(), 1, "{:#?}", self.counter.calls());
        let tools = self.home.steps(id).iter().filter(|step| step["kind"] == "tool").count();
        assert_eq!((tools, self.fake.asked(0)), (1, 1), "{:#?}", self.home.steps(id));
    }
}

fn done() -> Turn {
    Turn::saying("All done.")
}

#[test]
fn a_run_outlives_a_killed_background_owner_and_its_tool_ran_once() {
    let scene = Scene::of("count", &json!({}), done().held());
    let id = scene.between_the_calls();
    scene.home.kill_owner();
    scene.fake.release();
    let waited = scene.home.stn(&["run", "wait", &id]).ok();
    assert_eq!(waited.stdout, "All done.\n");
    scene.ends_well(&id);
}

#[test]
fn a_run_outlives_a_killed_serve_and_goes_on_in_the_next_one() {
    let scene = Scene::of("count", &json!({}), done().held());
    let serve = scene.home.serve();
    let id = scene.between_the_calls();
    assert_eq!(scene.home.owner(), Some(serve.pid()));
    scene.home.kill_owner();
    scene.fake.release();
    let next = scene.home.serve();
    assert_ne!(next.pid(), serve.pid());
    scene.ends_well(&id);
}

#[test]
fn a_run_outlives_owners_that_are_killed_again_and_again() {
    let scene = Scene::of("count", &json!({}), done().held());
    let id = scene.between_the_calls();
    let mut served = Vec::new();
    for killed in 1..=3 {
        scene.home.kill_owner();
        served.push(scene.home.serve());
        scene.fake.wait_for_more(1, killed);
        assert_eq!(scene.home.owner(), served.last().map(|serve| serve.pid()));
    }
    scene.fake.release();
    scene.ends_well(&id);
}

#[test]
fn serve_takes_over_from_the_background_and_runs_go_on() {
    let scene = Scene::of("count", &json!({}), done().held());
    let id = scene.between_the_calls();
    let background = scene.home.owner().unwrap();
    let serve = scene.home.serve();
    assert_ne!(background, serve.pid());
    scene.fake.wait_for_more(1, 1);
    scene.fake.release();
    scene.ends_well(&id);
    assert_eq!(scene.home.run(&id)["attempt"], 1, "handing a run back is no failed attempt");
}

#[test]
fn a_serve_that_is_told_to_end_hands_its_runs_to_the_next_owner() {
    let scene = Scene::of("count", &json!({}), done().held());
    let serve = scene.home.serve();
    let id = scene.between_the_calls();
    assert_eq!(serve.terminate(), Some(0));
    assert_eq!(scene.home.run(&id)["status"], "queued");
    scene.fake.release();
    let waited = scene.home.stn(&["run", "wait", &id]).ok();
    assert_eq!(waited.stdout, "All done.\n");
    scene.ends_well(&id);
}

#[test]
fn a_cut_off_call_that_only_reads_is_made_again_with_the_same_key() {
    let scene = Scene::of("hold", &json!({ "hold": { "effect": "read" } }), done());
    let id = scene.home.start_run("worker", "go");
    scene.counter.wait_for_calls(1);
    scene.home.kill_owner();
    scene.counter.open_gate();
    let waited = scene.home.stn(&["run", "wait", &id]).ok();
    assert_eq!(waited.stdout, "All done.\n");
    let calls = scene.counter.calls();
    let keys: Vec<&Value> = calls.iter().map(|call| &call["key"]).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].is_string(), "{calls:#?}");
    assert_ne!(calls[0]["pid"], calls[1]["pid"]);
    let tries: Vec<Value> = scene.home.steps(&id).into_iter().filter(|step| step["kind"] == "tool").collect();
    let tries: Vec<_> = tries.iter().map(|step| (&step["try"], &step["status"], &step["idempotency_key"])).collect();
    assert_eq!(tries, [(&json!(1), &json!("failed"), keys[0]), (&json!(2), &json!("completed"), keys[0])]);
}

#[test]
fn a_cut_off_call_that_may_have_changed_something_waits_for_a_persons_decision() {
    let scene = Scene::of("hold", &json!({ "hold": { "effect": "write" } }), done());
    let serve = scene.home.serve();
    let ids = ["retry", "skip", "result"].map(|_| scene.home.start_run("worker", "go"));
    scene.counter.wait_for_calls(3);
    scene.home.kill_owner();
    drop(serve);
    scene.counter.open_gate();
    for id in &ids {
        let waited = scene.home.stn(&["run", "wait", id]);
        assert_eq!(waited.code, 6, "{waited:?}");
        assert!(waited.stderr.contains(&format!("stn run respond {id} retry")), "{}", waited.stderr);
        let run = scene.home.run(id);
        assert_eq!((&run["status"], &run["waiting_for"]), (&json!("input_required"), &json!("in_doubt")), "{run:#}");
        let steps = scene.home.steps(id);
        assert_eq!(steps[1]["status"], "in_doubt", "{steps:#?}");
    }
    assert_eq!(scene.counter.calls().len(), 3, "nothing is repeated before somebody has decided");

    let [retry, skip, result] = &ids;
    let key = scene.home.steps(retry)[1]["idempotency_key"].clone();
    let _answered = scene.home.stn(&["run", "respond", retry, "retry"]).ok();
    let _answered = scene.home.stn(&["run", "respond", skip, "skip"]).ok();
    let _answered = scene.home.stn(&["run", "respond", result, "result", "--result", "held by hand"]).ok();
    for id in &ids {
        assert_eq!(scene.home.run_in(id, "completed")["output"], "All done.");
    }
    let calls = scene.counter.calls();
    assert_eq!((calls.len(), &calls[3]["key"]), (4, &key), "{calls:#?}");

    let told: Vec<String> =
        scene.fake.bodies(1).iter().map(|body| body["messages"][2]["content"].to_string()).collect();
    for words in ["held once", "unknown", "held by hand"] {
        assert_eq!(told.iter().filter(|told| told.contains(words)).count(), 1, "`{words}` in {told:#?}");
    }
}

#[test]
fn a_decision_is_taken_once() {
    let scene = Scene::of("hold", &json!({}), done());
    let id = scene.home.start_run("worker", "go");
    scene.counter.wait_for_calls(1);
    scene.home.kill_owner();
    assert_eq!(scene.home.stn(&["run", "wait", &id]).code, 6);
    let _answered = scene.home.stn(&["run", "respond", &id, "skip"]).ok();
    let again = scene.home.stn(&["run", "respond", &id, "retry"]);
    assert_eq!(again.code, 5, "{again:?}");
    let _ended = scene.home.run_in(&id, "completed");
    assert_eq!(scene.counter.calls().len(), 1);
}

#[test]
fn a_run_whose_key_went_with_its_owner_waits_for_a_provider() {
    let fake = FakeLlm::start([done().held()]);
    let mut home = TestHome::with_agent("worker", "");
    let url = format!("{}/v1", fake.url);
    home.set("OPENAI_API_KEY", "test").set("OPENAI_BASE_URL", &url);
    let id = home.start_run("worker", "go");
    fake.wait_for(0);
    home.kill_owner();
    let waited = home.stn(&["run", "wait", &id]);
    assert_eq!(waited.code, 6, "{waited:?}");
    assert_eq!(home.run(&id)["waiting_for"], "provider");
    home.kill_owner();
    let serve = home.serve();
    fake.release();
    let _answered = home.stn(&["run", "respond", &id, "retry"]).ok();
    assert_eq!(home.run_in(&id, "completed")["output"], "All done.");
    drop(serve);
}

#[test]
fn nothing_that_a_killed_owner_has_started_is_left_behind() {
    let scene = Scene::of("count", &json!({}), done().held());
    let _id = scene.between_the_calls();
    assert!(scene.home.processes().len() >= 2, "the owner and the counter");
    scene.home.kill_owner();
    within("its processes to be gone", || scene.home.processes().is_empty().then_some(()));
}
