//! Owners that are killed: runs go on, finished calls are not made again, and a call in flight is decided by what is known of its effect.

use crate::support::counter::Counter;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{Serve, TestHome, within};
use crate::support::stdio::StdioClient;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A home with counters, an agent `worker` that calls them once, and a model that follows `last` with it.
struct Scene {
    fake: FakeLlm,
    counter: Counter,
    served: RefCell<Vec<Serve>>,
    home: TestHome,
}

/// Who owns a home.
#[derive(Clone, Copy)]
enum Kind {
    Background,
    Serve,
}

const KINDS: [Kind; 2] = [Kind::Background, Kind::Serve];

impl Scene {
    /// The model first calls `tool`. `effects` is the operator's word on the tools.
    fn of(tool: &str, effects: &Value, last: Turn) -> Self {
        Self::with(&[("counter", effects)], tool, last)
    }

    /// The model first calls `tool` of all these servers, side by side; each has the operator's word on its tools.
    fn with(servers: &[(&str, &Value)], tool: &str, last: Turn) -> Self {
        let call = |turn: Turn, name: &str| turn.and_calling(&format!("{name}__{tool}"), r#"{"note": "once"}"#);
        let calls = servers.iter().fold(Turn::default(), |turn, (name, _)| call(turn, name));
        let fake = FakeLlm::start([calls, last]);
        let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
        let home = TestHome::with_agent_using(&names, "worker", &fake.settings());
        let counter = Counter::beside(&home);
        let servers: serde_json::Map<_, _> =
            servers.iter().map(|(name, effects)| ((*name).to_owned(), counter.server(effects))).collect();
        home.write_servers("development", &servers.into());
        Self { fake, counter, served: RefCell::default(), home }
    }

    /// An owner for a home that has none.
    fn bring_owner(&self, kind: Kind) {
        match kind {
            Kind::Background => drop(StdioClient::connect(&self.home)),
            Kind::Serve => self.served.borrow_mut().push(self.home.serve()),
        }
    }

    /// Kills the owner, and brings the next.
    fn change_owner(&self, kind: Kind) {
        self.home.kill_owner();
        self.bring_owner(kind);
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
fn a_run_goes_on_with_the_prompt_and_the_model_that_it_began_with() {
    let scene = Scene::of("count", &json!({}), done().held());
    let id = scene.between_the_calls();
    let began = scene.home.run(&id);
    scene.home.kill_owner();
    let settings = scene.home.read("station.yml");
    scene.home.write("station.yml", &settings.replace("fake/m", "fake/another"));
    scene
        .home
        .write("environments/development/agents/worker.prompt", "---\nmax_steps: 9\n---\nQuite another prompt.\n");
    scene.fake.release();
    let _waited = scene.home.stn(&["run", "wait", &id]).ok();
    scene.ends_well(&id);
    let ended = scene.home.run(&id);
    assert_eq!((&ended["agent"], &ended["model"]), (&began["agent"], &began["model"]));
    let asked = scene.fake.bodies(1);
    assert_eq!((asked.len(), &asked[1]), (2, &asked[0]));
    let now = scene.home.json(&["agent", "get", "worker"]);
    assert_ne!(now["revision"], began["agent"]["revision"], "the new prompt was taken up");
}

#[test]
fn a_cut_off_call_that_only_reads_is_made_again_with_the_same_key() {
    for kind in KINDS {
        let scene = Scene::of("hold", &json!({ "hold": { "effect": "read" } }), done());
        scene.bring_owner(kind);
        let id = scene.home.start_run("worker", "go");
        for calls in 1..=2 {
            scene.counter.wait_for_calls(calls);
            scene.change_owner(kind);
        }
        scene.counter.wait_for_calls(3);
        scene.counter.open_gate();
        assert_eq!(scene.home.run_in(&id, "completed")["output"], "All done.");
        let calls = scene.counter.calls();
        let key = &calls[0]["key"];
        assert!(key.is_string() && calls.len() == 3 && calls.iter().all(|call| call["key"] == *key), "{calls:#?}");
        let processes: BTreeSet<_> = calls.iter().map(|call| call["pid"].as_i64()).collect();
        assert_eq!(processes.len(), 3, "{calls:#?}");
        let steps = scene.home.steps(&id);
        let tries = steps.iter().filter(|step| step["kind"] == "tool");
        let tries: Vec<_> = tries.map(|step| json!([step["try"], step["status"], step["idempotency_key"]])).collect();
        assert_eq!(tries, [json!([1, "failed", key]), json!([2, "failed", key]), json!([3, "completed", key])]);
    }
}

#[test]
fn any_other_cut_off_call_waits_for_a_person_and_a_servers_own_word_changes_nothing() {
    let word = |effect: &str| json!({ "hold": { "effect": effect } });
    let (write, destructive, none) = (word("write"), word("destructive"), json!({}));
    for kind in KINDS {
        // The server itself says that `hold` only reads.
        let scene = Scene::with(&[("writes", &write), ("destroys", &destructive), ("unsaid", &none)], "hold", done());
        scene.bring_owner(kind);
        let id = scene.home.start_run("worker", "go");
        scene.counter.wait_for_calls(3);
        for _killed in 0..2 {
            scene.change_owner(kind);
            let run = scene.home.run_in(&id, "input_required");
            assert_eq!(run["waiting_for"], "in_doubt", "{run:#}");
            let steps = scene.home.steps(&id);
            let states: Vec<_> = steps.iter().map(|step| step["status"].as_str().unwrap()).collect();
            assert_eq!(states, ["completed", "in_doubt", "in_doubt", "in_doubt"], "{steps:#?}");
        }
        assert_eq!(scene.counter.calls().len(), 3, "nothing is repeated before somebody has decided");
        scene.counter.open_gate();
    }
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
    for words in [vec!["retyr"], vec!["--answer", "retyr"]] {
        let mistyped = scene.home.stn(&[vec!["run", "respond", retry.as_str()], words].concat());
        assert_eq!(mistyped.code, 2, "{mistyped:?}");
        let command = format!("stn run respond {retry} 'retry, skip or result'");
        for part in ["`retyr`", "retry, skip, result", "did you mean `retry`?", &command] {
            assert!(mistyped.stderr.contains(part), "`{part}` in {}", mistyped.stderr);
        }
    }
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
