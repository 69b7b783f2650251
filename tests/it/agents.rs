//! Agents that call agents, through the doors: one run of a tree is seen, ended, paid for and killed like the whole of it.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{TestHome, within};
use crate::support::stdio::StdioClient;
use serde_json::{Value, json};

/// `parent` calls `child`; each has a model of its own.
struct Family {
    parent: FakeLlm,
    child: FakeLlm,
    home: TestHome,
}

impl Family {
    /// The models' lines, and what else stands in the parent's front matter.
    fn new(last: Turn, child: impl IntoIterator<Item = Turn>, front_matter: &str) -> Self {
        let parent = FakeLlm::start([Turn::calling("agent__child", &json!({ "userInput": "do it" })), last]);
        let child = FakeLlm::start(child);
        let other = format!("  other: {{ api: openai_chat, base_url: \"{}/v1\", api_key: test }}\n", child.url);
        let home = TestHome::with_agent("unused", &format!("{}{other}", parent.settings()));
        home.write_agent("development", "parent", &format!("agents: [child]\n{front_matter}"));
        home.write_agent("development", "child", "model: other/m\n");
        let _synced = home.stn(&["sync"]).ok();
        Self { parent, child, home }
    }

    /// The only run that `parent` has called.
    fn only_call_of(&self, parent: &str) -> Value {
        let called = self.home.json(&["run", "list", "--parent", parent]);
        let [only] = called["items"].as_array().unwrap().as_slice() else { panic!("{called:#}") };
        only.clone()
    }

    /// The call of a run that waits for it.
    fn waited_for(&self, parent: &str) -> Value {
        within("the parent to wait for its child", || (self.home.run(parent)["waiting_for"] == "child").then_some(()));
        self.only_call_of(parent)
    }
}

fn done() -> Turn {
    Turn::saying("All done.")
}

#[test]
fn a_call_of_an_agent_is_a_run_that_every_door_shows_below_its_caller() {
    let family = Family::new(done(), [Turn::saying("from the child")], "");
    let ran = family.home.stn(&["agent", "run", "parent", "go"]).ok();
    assert_eq!(ran.stdout, "All done.\n");
    let listed = family.home.json(&["run", "list"]);
    let [called, caller] = listed["items"].as_array().unwrap().as_slice() else { panic!("{listed:#}") };
    let (id, below) = (caller["id"].as_str().unwrap(), called["id"].as_str().unwrap());
    assert_eq!((&caller["agent"]["name"], &caller["children"]), (&json!("parent"), &json!(1)));
    assert_eq!((&called["parent_run_id"], &called["parent_step"]), (&json!(id), &json!(2)), "{called:#}");
    assert_eq!((&called["principal"]["kind"], &called["origin"]), (&json!("agent"), &json!("run")), "{called:#}");
    assert_eq!((&called["output"], &called["model"]["provider"]), (&json!("from the child"), &json!("other")));
    assert!(ran.stderr.contains(&format!("run {below} of child")), "{}", ran.stderr);
    let table = family.home.stn(&["run", "list"]).ok().stdout;
    let line = table.lines().find(|line| line.starts_with(below)).unwrap();
    assert!(table.contains("CALLED BY") && line.ends_with(id), "{table}");
    let shown = family.home.stn(&["run", "get", id]).ok().stdout;
    let tree = shown.split("runs that it has called:").nth(1).unwrap_or_else(|| panic!("no tree in {shown}"));
    assert!(tree.contains(below) && tree.contains("child") && tree.contains("completed"), "{shown}");
    let told = family.parent.bodies(1)[0]["messages"].to_string();
    assert!(told.contains("from the child"), "{told}");

    let client = StdioClient::connect(&family.home);
    let seen = client.request("tools/call", &json!({ "name": "run_list", "arguments": { "parent": id } }));
    assert_eq!(seen["result"]["structuredContent"]["items"][0]["id"], *below, "{seen:#}");
    let seen = client.request("tools/call", &json!({ "name": "run_get", "arguments": { "run": below } }));
    assert_eq!(seen["result"]["structuredContent"], *called, "{seen:#}");
}

#[test]
fn a_circle_of_agents_is_refused_and_named() {
    let family = Family::new(done(), [], "");
    let before = family.home.read("environments/development/agents/child.prompt");
    let refused = family.home.stn(&["agent", "update", "child", "--agents", "parent"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("child -> parent -> child"), "{}", refused.stderr);
    assert_eq!(family.home.read("environments/development/agents/child.prompt"), before);
    family.home.write_agent("development", "child", "agents: [parent]\n");
    let synced = family.home.stn(&["sync"]);
    assert_ne!(synced.code, 0, "{synced:?}");
    assert!(format!("{}{}", synced.stdout, synced.stderr).contains("-> parent -> child"), "{synced:?}");
}

#[test]
fn an_agent_whose_first_file_names_the_wrong_agents_is_refused_with_that_reason() {
    let home = TestHome::with_agent("kept", "");
    home.write_agent("development", "first", "agents: [second]\n");
    home.write_agent("development", "second", "agents: [first]\n");
    home.write_agent("development", "third", "agents: [nobody]\n");
    assert_eq!(home.stn(&["sync"]).code, 1);
    for (agent, fault) in [("first", "first -> second -> first"), ("third", "agent `nobody` doesn't exist")] {
        for command in [
            &["agent", "run", agent, "go"][..],
            &["agent", "get", agent],
            &["agent", "pause", agent],
            &["agent", "update", agent, "--max-steps", "2"],
        ] {
            let refused = home.stn(command);
            assert_eq!(refused.code, 2, "{command:?}: {refused:?}");
            for part in [fault, &format!("agents/{agent}.prompt:2:")] {
                assert!(refused.stderr.contains(part), "`{part}` in {}", refused.stderr);
            }
        }
    }
}

#[test]
fn a_cancel_of_the_caller_ends_the_whole_tree() {
    let family = Family::new(done(), [Turn::saying("never").held()], "");
    let id = family.home.start_run("parent", "go");
    family.child.wait_for(0);
    let below = family.waited_for(&id);
    assert_eq!(below["status"], "running");
    let _cancelled = family.home.stn(&["run", "cancel", &id]).ok();
    for run in [id.as_str(), below["id"].as_str().unwrap()] {
        assert_eq!(family.home.run_in(run, "cancelled")["output"], Value::Null);
    }
    assert_eq!(family.parent.asked(1), 0);
}

#[test]
fn a_tree_outlives_owners_that_are_killed_while_its_child_works() {
    let family = Family::new(done(), [Turn::saying("from the child").held()], "");
    let id = family.home.start_run("parent", "go");
    for killed in 0..2 {
        family.child.wait_for_more(0, killed);
        let _waits = family.waited_for(&id);
        family.home.kill_owner();
        let _next = family.home.stn(&["run", "wait", &id, "--wait-ms", "1"]);
    }
    family.child.wait_for_more(0, 2);
    family.child.release();
    assert_eq!(family.home.run_in(&id, "completed")["output"], "All done.");
    assert_eq!(family.only_call_of(&id)["output"], "from the child");
    assert_eq!((family.parent.asked(0), family.parent.asked(1)), (1, 1));
}

#[test]
fn keys_that_went_with_an_owner_are_brought_again_to_the_whole_tree_by_whoever_follows_it() {
    // The child is no parent: its call of itself fails, and it goes on.
    let fake = FakeLlm::start([Turn::calling("agent__child", &json!({ "userInput": "do it" })), done().held()]);
    let mut home = TestHome::with_agent("child", "");
    home.write_agent("development", "child", "model: openai/m\n");
    home.write_agent("development", "parent", "model: openai/m\nagents: [child]\n");
    home.set("OPENAI_API_KEY", "test").set("OPENAI_BASE_URL", &format!("{}/v1", fake.url));
    let _synced = home.stn(&["sync"]).ok();
    let following = home.start(&["agent", "run", "parent", "go"]);
    for killed in 0..3 {
        fake.wait_for_more(1, killed);
        home.kill_owner();
    }
    fake.wait_for_more(1, 3);
    fake.release();
    let ended = following.end().ok();
    assert_eq!(ended.stdout, "All done.\n");
    // Each owner is given them once: for the child that asks, and for the parent that waits for it.
    assert_eq!(ended.stderr.matches("is given the provider key again").count(), 3, "{}", ended.stderr);
    assert_eq!((fake.asked(0), fake.asked(1)), (2, 5));
    let of_child = |part: &str| ended.stderr.lines().filter(|line| line.starts_with(part)).count();
    let told = ["  run ", "  turn 1  model", "  turn 1  agent__child", "  turn 2  model"].map(of_child);
    // Three calls of the model were cut off.
    assert_eq!(told, [1, 1, 1, 4], "what a child does is told once: {}", ended.stderr);
}

#[test]
fn a_callers_key_reaches_the_child_of_a_parent_that_needs_none_and_without_it_the_call_fails() {
    let parent = [Turn::calling("agent__child", &json!({ "userInput": "do it" })), done()];
    let (parent, child) = (FakeLlm::start(parent), FakeLlm::start([Turn::saying("with the caller's key")]));
    let mut home = TestHome::with_agent("child", &parent.settings());
    home.write_agent("development", "child", "model: openai/m\n");
    home.write_agent("development", "parent", "agents: [child]\n");
    let _synced = home.stn(&["sync"]).ok();
    let told = |home: &TestHome| {
        let ran = home.json(&["agent", "run", "parent", "go"]);
        assert_eq!(ran["status"], "completed", "{ran:#}");
        home.steps(ran["id"].as_str().unwrap()).into_iter().find(|step| step["kind"] == "tool").unwrap()
    };
    let step = told(&home);
    assert_eq!(step["status"], "failed", "{step:#}");
    assert!(step["error"].as_str().unwrap().contains("provider `openai` has no API key"), "{step:#}");
    home.set("OPENAI_API_KEY", "test").set("OPENAI_BASE_URL", &format!("{}/v1", child.url));
    let step = told(&home);
    assert_eq!(step["status"], "completed", "{step:#}");
    assert!(step["result"].to_string().contains("with the caller's key"), "{step:#}");
}

#[test]
fn a_tree_has_one_budget_and_whoever_reaches_it_says_whose_it_is() {
    // Each call of the fake models is 10 tokens.
    let child = [Turn::calling("nothing__here", &json!({})), Turn::saying("never")];
    let family = Family::new(done(), child, "limits: { tokens: 20 }\n");
    let home = &family.home;
    assert_eq!(home.json(&["agent", "get", "parent"])["limits"], json!({ "tokens": 20, "cost_usd": null }));
    let ran = home.stn(&["agent", "run", "parent", "go"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let listed = home.json(&["run", "list"]);
    let id = listed["items"][1]["id"].as_str().unwrap();
    for run in [id, listed["items"][0]["id"].as_str().unwrap()] {
        let run = home.run(run);
        assert_eq!((&run["status"], &run["error_kind"]), (&json!("failed"), &json!("budget")), "{run:#}");
        let error = run["error"].as_str().unwrap();
        for part in [&format!("agent `parent` in run {id}"), "20 tokens", "20 are used", "raise `limits.tokens`"] {
            assert!(error.contains(part), "`{part}` in {error}");
        }
    }
    assert!(ran.stderr.contains("the budget is used up"), "{}", ran.stderr);
    assert_eq!((family.parent.asked(1), family.child.asked(1)), (0, 0));
}

#[test]
fn a_server_that_reports_no_usage_serves_runs_without_limits_and_fails_those_with_them() {
    let fake = FakeLlm::start([done().uncounted()]);
    let home = TestHome::with_agent("unused", &fake.settings());
    home.write_agent("development", "free", "");
    home.write_agent("development", "limited", "limits: { tokens: 1000000 }\n");
    let _synced = home.stn(&["sync"]).ok();
    let free = home.json(&["agent", "run", "free", "go"]);
    assert_eq!((&free["output"], &free["usage"]["output_tokens"]), (&json!("All done."), &json!(0)), "{free:#}");
    assert_eq!(home.steps(free["id"].as_str().unwrap())[0]["usage"], Value::Null);
    let ran = home.stn(&["agent", "run", "limited", "go"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in ["provider `fake`", "model `fake/m`", "agent `limited`", "`limits.tokens`", "reports usage"] {
        assert!(ran.stderr.contains(part), "`{part}` in {}", ran.stderr);
    }
    let failed = home.json(&["run", "list", "--agent", "limited"])["items"][0].clone();
    assert_eq!((&failed["status"], &failed["error_kind"]), (&json!("failed"), &json!("budget")), "{failed:#}");
}

#[test]
fn money_is_limited_through_a_door_and_only_where_the_price_is_known() {
    let family = Family::new(done(), [Turn::saying("from the child")], "");
    let home = &family.home;
    let updated = home.json(&["agent", "update", "parent", "--limits", r#"{ "cost_usd": 0.000042 }"#]);
    assert_eq!(updated["limits"], json!({ "tokens": null, "cost_usd": 0.000042 }));
    let refused = home.stn(&["agent", "run", "parent", "go"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("`fake/m`") && refused.stderr.contains("models.prices"), "{}", refused.stderr);
    let settings = home.read("station.yml");
    let price = "{ input: 1, output: 5 }";
    let prices = format!("prices: {{ fake/m: {price}, other/m: {price} }}");
    home.write("station.yml", &settings.replace("default: fake/m", &format!("default: fake/m, {prices}")));
    home.kill_owner();
    // 7 and 3 tokens are 22 millionths: two calls reach the limit.
    let ran = home.stn(&["agent", "run", "parent", "go"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("0.000042 USD") && ran.stderr.contains("0.000044 USD are used"), "{}", ran.stderr);
    let raised = home.json(&["agent", "update", "parent", "--limits", r#"{ "cost_usd": "0.5", "tokens": 1000 }"#]);
    assert_eq!(raised["limits"], json!({ "tokens": 1000, "cost_usd": 0.5 }));
    assert_eq!(home.stn(&["agent", "run", "parent", "go"]).ok().stdout, "All done.\n");
    let file = "environments/development/agents/parent.prompt";
    let before = home.read(file);
    let shown = home.json(&["agent", "get", "parent"])["limits"].to_string();
    let same = home.json(&["agent", "update", "parent", "--limits", &shown]);
    assert_eq!((&same["limits"], home.read(file)), (&raised["limits"], before), "what is shown can be given back");
    let none = home.json(&["agent", "update", "parent", "--limits", r#"{ "cost_usd": null, "tokens": null }"#]);
    assert_eq!((&none["limits"], home.read(file).contains("limits")), (&Value::Null, false));
    let _limited = home.stn(&["agent", "update", "parent", "--limits", &shown]).ok();
    let unlimited = home.json(&["agent", "update", "parent", "--unset", "limits"]);
    assert_eq!(unlimited["limits"], Value::Null);
    assert!(!home.read("environments/development/agents/parent.prompt").contains("limits"));
    for (wrong, why) in [
        (r#"{ "cost_usd": 0 }"#, "`limits.cost_usd`"),
        (r#"{ "cost_usd": "1e3" }"#, "`limits.cost_usd`: `1e3` is no amount of USD, such as 0.50"),
        (r#"{ "cost_usd": -1 }"#, "limits.cost_usd"),
        (r#"{ "tokens": 0 }"#, "`limits.tokens`: 0 is less than the minimum of 1"),
        (r#"{ "tokens": 4000000001 }"#, "`limits.tokens`: 4000000001 is greater than the maximum of 4000000000"),
        (r#"{ "token": 1 }"#, "limits"),
    ] {
        let refused = home.stn(&["agent", "update", "parent", "--limits", wrong]);
        assert_eq!(refused.code, 2, "{wrong}: {refused:?}");
        assert!(refused.stderr.contains(why), "{wrong}: {}", refused.stderr);
    }
}
