//! Models over the wire: aimock, which others wrote, as OpenAI (in both of its dialects), Anthropic, Gemini and Ollama; and a strict fake of
//! ours, which refuses what the real APIs refuse.

use crate::support::aimock::Aimock;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::TestHome;
use crate::support::http::Http;
use crate::support::peers;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// What aimock answers, in every dialect.
fn fixtures() -> Value {
    let call = |id: &str, name: &str, arguments: Value| json!({ "id": id, "name": name, "arguments": arguments });
    let limited = json!({
        "error": { "message": "Rate limit reached", "type": "rate_limit_error", "code": "rate_limit_exceeded" },
        "status": 429,
        "retryAfter": 1,
    });
    let down = json!({ "error": { "message": "upstream exploded", "type": "server_error" }, "status": 500 });
    let answer = json!({ "content": "There you are." });
    json!({ "fixtures": [
        { "match": { "userMessage": "plan my trip", "hasToolResult": false }, "response": { "content": "Let me look.", "toolCalls": [
            call("call_w1", "desk__get_weather", json!({ "city": "Paris" })),
            call("call_w2", "desk__get_weather", json!({ "city": "Tokyo" })),
        ] } },
        { "match": { "userMessage": "plan my trip", "toolResultContains": "25C" }, "response": { "toolCalls": [
            call("call_n1", "desk__save_note", json!({ "text": "Paris 18C, Tokyo 25C" })),
        ] } },
        { "match": { "userMessage": "plan my trip", "toolResultContains": "ok" },
          "response": { "content": "Saved: Paris is 18C, Tokyo is 25C." } },
        { "match": { "userMessage": "limited once", "sequenceIndex": 0 }, "response": limited },
        { "match": { "userMessage": "limited once", "sequenceIndex": 1 }, "response": answer },
        { "match": { "userMessage": "down once", "sequenceIndex": 0 }, "response": down },
        { "match": { "userMessage": "down once", "sequenceIndex": 1 }, "response": answer },
        { "match": { "userMessage": "cut once", "sequenceIndex": 0 }, "response": { "content": "This is going to be cut off" },
          "chunkSize": 8, "latency": 30, "truncateAfterChunks": 2 },
        { "match": { "userMessage": "cut once", "sequenceIndex": 1 }, "response": answer },
        { "match": { "userMessage": "broken arguments", "hasToolResult": false },
          "response": { "toolCalls": [call("call_b1", "desk__get_weather", json!("{\"city\": "))] } },
        { "match": { "userMessage": "broken arguments", "hasToolResult": true }, "response": answer },
        { "match": { "userMessage": "always limited" }, "response": limited },
        { "match": { "userMessage": "always down" }, "response": down },
        { "match": { "userMessage": "always cut" }, "response": { "content": "This is going to be cut off" },
          "chunkSize": 8, "latency": 30, "truncateAfterChunks": 2 },
        { "match": { "userMessage": "wrong key" }, "status": 401, "response": {
            "error": { "message": "Incorrect API key provided", "type": "authentication_error", "code": "invalid_api_key" }, "status": 401 } },
    ] })
}

/// A wire as a person sets it up. `URL` stands for the fake's address.
struct Wire {
    provider: &'static str,
    variables: &'static [(&'static str, &'static str)],
    settings: &'static str,
    /// Why this provider was chosen, as the command line says it.
    reason: &'static str,
    /// Where its requests arrive.
    path: &'static str,
}

const OPENAI: Wire = Wire {
    provider: "openai",
    variables: &[("OPENAI_API_KEY", "test"), ("OPENAI_BASE_URL", "URL/v1")],
    settings: "",
    reason: "(OPENAI_API_KEY is set)",
    path: "/v1/chat/completions",
};
const RESPONSES: Wire = Wire {
    provider: "thinker",
    variables: &[],
    settings: "models: { default: thinker/gpt-6-sol }\nproviders:\n  thinker: { api: openai_responses, base_url: 'URL/v1', api_key: test }\n",
    reason: "(default of the station)",
    path: "/v1/responses",
};
const ANTHROPIC: Wire = Wire {
    provider: "anthropic",
    variables: &[("ANTHROPIC_API_KEY", "test"), ("ANTHROPIC_BASE_URL", "URL")],
    settings: "",
    reason: "(ANTHROPIC_API_KEY is set)",
    path: "/v1/messages",
};
const GEMINI: Wire = Wire {
    provider: "gemini",
    variables: &[("GOOGLE_API_KEY", "test"), ("GEMINI_BASE_URL", "URL/v1beta")],
    settings: "",
    reason: "(GOOGLE_API_KEY is set)",
    path: "/v1beta/models/gemini-3.8-flash:streamGenerateContent",
};
/// It wants no key, so that its model is named.
const OLLAMA: Wire = Wire {
    provider: "ollama",
    variables: &[("OLLAMA_HOST", "URL")],
    settings: "models: { default: ollama/qwen3:8b }\n",
    reason: "(default of the station)",
    path: "/api/chat",
};
const WIRES: [Wire; 5] = [OPENAI, RESPONSES, ANTHROPIC, GEMINI, OLLAMA];

impl Wire {
    /// A home that speaks it to `url`, with the desk attached.
    fn home(&self, url: &str) -> TestHome {
        let mut home = TestHome::with_agent_using(&["desk"], "planner", &self.settings.replace("URL", url));
        for (name, value) in self.variables {
            home.set(name, &value.replace("URL", url));
        }
        let notes = home.beside().join("notes.txt");
        home.write_servers("development", &json!({ "desk": peers::own_server("desk.py", &[notes.to_str().unwrap()]) }));
        home
    }

    /// Where the key is, as hints say it.
    fn key(&self) -> String {
        match self.variables.first() {
            Some((variable, _)) => format!("`{variable}`"),
            None => format!("check the key in `providers.{}.api_key`", self.provider),
        }
    }
}

/// Three turns with parallel calls, on a wire that requests really went over.
fn a_conversation_of_three_turns(wire: &Wire) {
    let aimock = Aimock::start(&fixtures());
    let home = wire.home(&aimock.url);
    let output = home.stn(&["agent", "run", "planner", "plan my trip", "--json"]).ok();
    let run = output.json();
    assert_eq!(run["output"], "Saved: Paris is 18C, Tokyo is 25C.");
    assert_eq!(run["model"]["provider"], wire.provider);
    assert!(output.stderr.contains(wire.reason), "{}", output.stderr);
    assert_eq!(aimock.paths(), [wire.path; 3]);
    let steps = home.steps(run["id"].as_str().unwrap());
    let turns: Vec<_> =
        steps.iter().map(|step| (step["turn"].as_i64().unwrap(), step["kind"].as_str().unwrap())).collect();
    assert_eq!(turns, [(1, "model"), (1, "tool"), (1, "tool"), (2, "model"), (2, "tool"), (3, "model")]);
    let made: Vec<_> = steps.iter().filter(|step| step["kind"] == "tool").collect();
    let texts: Vec<_> = made.iter().map(|step| &step["result"]["content"][0]["text"]).collect();
    assert_eq!(texts, ["Paris: 18C", "Tokyo: 25C", "ok"]);
    assert_eq!(made[1]["arguments"], json!({ "city": "Tokyo" }));
    assert_eq!(fs::read_to_string(home.beside().join("notes.txt")).unwrap(), "Paris 18C, Tokyo 25C\n");
}

/// Starts a run per input, all at once, and waits for them to end.
fn runs(home: &TestHome, inputs: &[&str]) -> Vec<Value> {
    let started: Vec<_> = inputs.iter().map(|input| home.start_run("planner", input)).collect();
    started.iter().map(|id| home.stn(&["run", "wait", id, "--json"]).json()).collect()
}

/// The runs of these inputs, each of which has to be answered in the end, after two requests.
fn faults_that_pass_are_overcome(wire: &Wire, inputs: &[&str]) -> (TestHome, Vec<Value>) {
    let aimock = Aimock::start(&fixtures());
    let home = wire.home(&aimock.url);
    let runs = runs(&home, inputs);
    for (input, run) in inputs.iter().zip(&runs) {
        let ended = (&run["status"], &run["output"]);
        assert_eq!(ended, (&json!("completed"), &json!("There you are.")), "{input}: {run:#}");
        assert_eq!(aimock.requests(input), 2, "{input}: {run:#}");
    }
    (home, runs)
}

fn faults_that_stay_are_told_with_provider_status_and_a_way_out(wire: &Wire) {
    let aimock = Aimock::start(&fixtures());
    let home = wire.home(&aimock.url);
    let key = wire.key();
    let told = [
        ("always limited", "answered 429", "asks to wait 1 s"),
        ("always down", "answered 500", "run it again later"),
        ("always cut", "the answer broke off", "run it again later"),
        ("wrong key", "answered 401", &key),
    ];
    for ((input, reason, hint), run) in told.iter().zip(runs(&home, &told.map(|(input, ..)| input))) {
        assert_eq!((&run["status"], &run["error_kind"]), (&json!("failed"), &json!("provider")), "{input}: {run:#}");
        let error = run["error"].as_str().unwrap();
        for part in [&format!("provider `{}`", wire.provider), *reason, *hint] {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }
}

#[test]
fn three_turns_with_parallel_calls_over_every_wire() {
    std::thread::scope(|threads| {
        for wire in &WIRES {
            threads.spawn(|| a_conversation_of_three_turns(wire));
        }
    });
}

#[test]
fn faults_of_openai_that_pass_are_overcome() {
    let inputs = ["limited once", "down once", "cut once", "broken arguments"];
    let (home, runs) = faults_that_pass_are_overcome(&OPENAI, &inputs);
    let steps = home.steps(runs[3]["id"].as_str().unwrap());
    let broken = (&steps[1]["name"], &steps[1]["status"], &steps[1]["arguments"]);
    assert_eq!(broken, (&json!("desk__get_weather"), &json!("failed"), &json!("{\"city\": ")), "{steps:#?}");
}

#[test]
fn faults_of_anthropic_that_pass_are_overcome() {
    // Not malformed arguments: aimock sends them as `{}` in this dialect. Below, a fake of ours sends them as they are.
    let _runs = faults_that_pass_are_overcome(&ANTHROPIC, &["limited once", "down once", "cut once"]);
}

#[test]
fn faults_of_openai_that_stay_are_told_with_provider_status_and_a_way_out() {
    faults_that_stay_are_told_with_provider_status_and_a_way_out(&OPENAI);
}

#[test]
fn faults_of_anthropic_that_stay_are_told_with_provider_status_and_a_way_out() {
    faults_that_stay_are_told_with_provider_status_and_a_way_out(&ANTHROPIC);
}

#[test]
fn faults_of_ollama_that_pass_are_overcome() {
    let _runs = faults_that_pass_are_overcome(&OLLAMA, &["limited once", "down once", "cut once"]);
}

#[test]
fn faults_of_responses_that_pass_are_overcome() {
    let _runs = faults_that_pass_are_overcome(&RESPONSES, &["limited once", "down once", "cut once"]);
}

#[test]
fn faults_of_responses_that_stay_are_told_with_provider_status_and_a_way_out() {
    faults_that_stay_are_told_with_provider_status_and_a_way_out(&RESPONSES);
}

#[test]
fn faults_of_gemini_that_pass_are_overcome() {
    let _runs = faults_that_pass_are_overcome(&GEMINI, &["limited once", "down once", "cut once"]);
}

#[test]
fn faults_of_gemini_that_stay_are_told_with_provider_status_and_a_way_out() {
    faults_that_stay_are_told_with_provider_status_and_a_way_out(&GEMINI);
}

/// Three turns with thinking before parallel calls and before a single one.
fn thinking_script() -> Vec<Turn> {
    let thought = |text: &str, signature: &str| json!({ "type": "thinking", "thinking": text, "signature": signature });
    vec![
        Turn::saying("Let me look.")
            .thinking(&[
                thought("First Paris – dann Tokio.\n\u{1f9ed} \"quoted\" \\u00e9 </thinking>", "EqQBCkYIARgC+/=="),
                json!({ "type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a==" }),
            ])
            .and_calling("desk__get_weather", r#"{"city": "Paris"}"#)
            .and_calling("desk__get_weather", r#"{"city": "Tokyo"}"#),
        Turn::calling("desk__save_note", &json!({ "text": "noted" })).thinking(&[thought("", "c2lnbmVkIG5vdGhpbmc=")]),
        Turn::saying("Done."),
    ]
}

#[test]
fn thinking_goes_back_to_anthropic_byte_for_byte_and_in_place() {
    let fake = FakeLlm::start(thinking_script());
    let home = ANTHROPIC.home(&fake.url);
    let run = home.json(&["agent", "run", "planner", "go"]);
    assert_eq!(run["output"], "Done.", "{run:#}");
    let last = &fake.bodies(2)[0];
    assert_eq!(last["messages"][1]["content"][0]["signature"], "EqQBCkYIARgC+/==");
    assert_eq!(
        last["messages"][3]["content"][0],
        json!({ "type": "thinking", "thinking": "", "signature": "c2lnbmVkIG5vdGhpbmc=" })
    );
}

#[test]
fn the_fake_itself_refuses_thinking_that_was_changed_or_moved() {
    let fake = FakeLlm::start(thinking_script());
    let http = Http::anonymous(&fake.url);
    let home = ANTHROPIC.home(&fake.url);
    let _run = home.stn(&["agent", "run", "planner", "go"]).ok();
    let good = fake.bodies(1)[0].clone();
    let headers = [("x-api-key", "test"), ("anthropic-version", "2023-06-01")];
    let answered = |body: &Value| http.send("POST", "/v1/messages", &headers, Some(body.to_string()));
    let _accepted = answered(&good).with(200);
    let mut changed = good.clone();
    changed["messages"][1]["content"][0]["signature"] = json!("EqQBCkYIARgC-/==");
    let _refused = answered(&changed).with(400);
    let mut moved = good.clone();
    moved["messages"][1]["content"].as_array_mut().unwrap().swap(0, 1);
    let _refused = answered(&moved).with(400);
    for change in [
        json!({ "max_tokens": null }),
        json!({ "tools": [{ "name": "a.b", "input_schema": { "type": "object" } }] }),
        json!({ "tools": [{ "name": "a_b", "input_schema": { "type": "string" } }] }),
    ] {
        let _refused = answered(&with(&good, &change)).with(400);
    }
    for (headers, status) in [(&headers[..1], 400), (&headers[1..], 401)] {
        let _refused = http.send("POST", "/v1/messages", headers, Some(good.to_string())).with(status);
    }
}

/// The body with these members instead of its own.
fn with(body: &Value, change: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

#[test]
fn the_fake_itself_refuses_calls_without_results_and_results_without_calls() {
    let calls = Turn::default()
        .and_calling("desk__get_weather", r#"{"city": "Paris"}"#)
        .and_calling("desk__get_weather", r#"{"city": "Tokyo"}"#);
    let fake = FakeLlm::start([calls, Turn::saying("Done.")]);
    let home = OPENAI.home(&fake.url);
    let _run = home.stn(&["agent", "run", "planner", "go"]).ok();
    let (http, path, good) = (Http::with_key(&fake.url, "test"), "/v1/chat/completions", fake.bodies(1)[0].clone());
    let _accepted = http.post(path, &good).with(200);
    let messages = good["messages"].as_array().unwrap();
    let last = messages.len() - 1;
    assert_eq!((&messages[last]["role"], &messages[last - 1]["role"]), (&json!("tool"), &json!("tool")));
    let without = |at: usize| [&messages[..at], &messages[at + 1..]].concat();
    let twice = [messages.as_slice(), &messages[last..]].concat();
    let mut late = without(last);
    late.extend([json!({ "role": "user", "content": "and?" }), messages[last].clone()]);
    for change in [
        json!({ "messages": without(last) }),
        json!({ "messages": without(last - 2) }),
        json!({ "messages": twice }),
        json!({ "messages": late }),
        json!({ "messages": [] }),
        json!({ "tools": [] }),
    ] {
        let _refused = http.post(path, &with(&good, &change)).with(400);
    }
    let _refused = Http::anonymous(&fake.url).post(path, &good).with(401);
}

#[test]
fn thinking_is_still_there_when_another_owner_goes_on_with_the_run() {
    let mut script = thinking_script();
    script[2] = Turn::saying("Done.").held();
    let fake = FakeLlm::start(script);
    let home = TestHome::with_agent_using(
        &["desk"],
        "planner",
        &format!(
            "models: {{ default: fake/m }}\nproviders:\n  fake: {{ api: anthropic, base_url: \"{}\", api_key: test }}\n",
            fake.url
        ),
    );
    let notes = home.beside().join("notes.txt");
    home.write_servers("development", &json!({ "desk": peers::own_server("desk.py", &[notes.to_str().unwrap()]) }));
    let id = home.start_run("planner", "go");
    fake.wait_for(2);
    home.kill_owner();
    fake.release();
    let run = home.stn(&["run", "wait", &id, "--json"]).ok().json();
    assert_eq!((&run["output"], fake.asked(2)), (&json!("Done."), 2), "{run:#}");
    assert_eq!(fs::read_to_string(notes).unwrap(), "noted\n");
}

#[test]
fn arguments_that_are_no_json_are_shown_to_the_model_and_no_tool_is_called() {
    let script = || vec![Turn::default().and_calling("desk__save_note", r#"{"text": "half"#), Turn::saying("I see.")];
    for dialect in [OPENAI, ANTHROPIC] {
        let fake = FakeLlm::start(script());
        let home = dialect.home(&fake.url);
        let run = home.json(&["agent", "run", "planner", "go"]);
        assert_eq!(run["output"], "I see.", "{run:#}");
        let steps = home.steps(run["id"].as_str().unwrap());
        assert_eq!(
            (&steps[1]["name"], &steps[1]["status"]),
            (&json!("desk__save_note"), &json!("failed")),
            "{steps:#?}"
        );
        assert!(fake.bodies(1)[0].to_string().contains("JSON"), "{:#}", fake.bodies(1)[0]);
        assert!(!home.beside().join("notes.txt").exists());
    }
}

#[test]
fn a_model_that_is_busy_is_asked_again_after_the_time_it_names() {
    let fake = FakeLlm::start([Turn::saying("Now.").refused_first(429, "2").refused_first(529, "0")]);
    let home = ANTHROPIC.home(&fake.url);
    let run = home.json(&["agent", "run", "planner", "go"]);
    assert_eq!((&run["output"], fake.asked(0)), (&json!("Now."), 3), "{run:#}");
    // Without a named time it would be half a second.
    assert!(fake.gaps(0)[0] >= Duration::from_secs(2), "{:?}", fake.gaps(0));
}

#[test]
fn what_a_run_cost_is_the_sum_of_its_calls_where_a_price_is_known_and_else_nothing_is_said() {
    let script = || vec![Turn::calling("desk__save_note", &json!({ "text": "noted" })), Turn::saying("Done.")];
    // Seven tokens go and three come with every call of the fake.
    for (price, step, run_cost) in [
        ("prices: { fake/m: { input: 2, output: \"10.25\" } }", json!(45), json!(90)),
        ("prices: { fake/other: { input: 2, output: 10.25 } }", json!(null), json!(null)),
    ] {
        let fake = FakeLlm::start(script());
        let home = TestHome::with_agent_using(
            &["desk"],
            "planner",
            &format!(
                "models:\n  default: fake/m\n  {price}\nproviders:\n  fake: {{ api: openai_chat, base_url: \"{}/v1\", api_key: test }}\n",
                fake.url
            ),
        );
        let notes = home.beside().join("notes.txt");
        home.write_servers("development", &json!({ "desk": peers::own_server("desk.py", &[notes.to_str().unwrap()]) }));
        let run = home.json(&["agent", "run", "planner", "go"]);
        assert_eq!(run["output"], "Done.", "{run:#}");
        assert_eq!(run["usage"]["cost_microusd"], run_cost, "{run:#}");
        let steps = home.steps(run["id"].as_str().unwrap());
        let costs: Vec<_> =
            steps.iter().filter(|step| step["kind"] == "model").map(|step| &step["usage"]["cost_microusd"]).collect();
        assert_eq!(costs, [&step, &step]);
    }
}
