//! What a model thought goes back to OpenAI Responses and to Gemini byte for byte and in its place, whoever owns the home by then.

use crate::support::fake_thinkers::{Api, FakeThinker, Given};
use crate::support::home::TestHome;
use crate::support::http::{Http, Listening};
use crate::support::peers;
use axum::Router;
use serde_json::{Value, json};
use std::fs;

/// Odd on purpose: spaces, escapes and numbers that a JSON library would write differently.
const RESPONSES: [Given; 3] = [
    &[
        r#"{ "id":"rs_1", "type":"reasoning","summary":[{"type":"summary_text","text":"Paris first"}],"encrypted_content":"gAAA\u00e9\/+==", "weight":1.0e2 }"#,
        r#"{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Let me look.","annotations":[]}]}"#,
        r#"{"id":"fc_1","type":"function_call","call_id":"call_1","name":"desk__get_weather","arguments":"{\"city\": \"Paris\"}","status":"completed"}"#,
        r#"{"id":"fc_2","type":"function_call","call_id":"call_2","name":"desk__get_weather","arguments":"{\"city\": \"Tokyo\"}","status":"completed"}"#,
    ],
    &[
        r#"{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"gBBB=="}"#,
        r#"{"id":"fc_3","type":"function_call","call_id":"call_3","name":"desk__save_note","arguments":"{\"text\":\"noted\"}"}"#,
    ],
    &[
        r#"{"type":"reasoning","id":"rs_3","summary":[],"encrypted_content":"gCCC=="}"#,
        r#"{"id":"msg_3","type":"message","role":"assistant","content":[{"type":"output_text","text":"Done."}]}"#,
    ],
];

/// The first of two calls is signed; one has an id, the other none; a signature also stands on an empty text.
const GEMINI: [Given; 3] = [
    &[
        r#"{ "text":"Let me\u0020look." }"#,
        r#"{"functionCall":{"id":"g1","name":"desk__get_weather","args":{"city": "Paris"}}, "thoughtSignature":"EqQB\/+=="}"#,
        r#"{"functionCall":{"name":"desk__get_weather","args":{"city":"Tokyo"}}}"#,
        r#"{"text":"","thoughtSignature":"Em\u0070ty=="}"#,
    ],
    &[r#"{"functionCall":{"name":"desk__save_note","args":{"text":"noted"}},"thoughtSignature":"c2Vjb25k"}"#],
    &[r#"{"text":"Done."}"#, r#"{"text":"","thoughtSignature":"bGFzdA=="}"#],
];

const NEVER: usize = usize::MAX;

fn fake(api: Api, held: usize) -> FakeThinker {
    FakeThinker::start(api, if api == Api::Responses { &RESPONSES } else { &GEMINI }, held)
}

/// A home whose models think, with a key that every owner knows.
fn home(api: Api, fake: &FakeThinker) -> TestHome {
    home_at(api, &fake.url)
}

fn home_at(api: Api, url: &str) -> TestHome {
    let (api, path) = if api == Api::Responses { ("openai_responses", "/v1") } else { ("gemini", "/v1beta") };
    let settings = format!(
        "models: {{ default: thinker/m }}\nproviders:\n  thinker: {{ api: {api}, base_url: \"{}{path}\", api_key: test }}\n",
        url
    );
    let home = TestHome::with_agent_using(&["desk"], "planner", &settings);
    let notes = home.beside().join("notes.txt");
    home.write_servers("development", &json!({ "desk": peers::own_server("desk.py", &[notes.to_str().unwrap()]) }));
    home
}

fn is_done(home: &TestHome, fake: &FakeThinker, run: &Value) {
    assert_eq!(fake.refused(), [""; 0], "{run:#}");
    assert_eq!(run["output"], "Done.", "{run:#}");
    let steps = home.steps(run["id"].as_str().unwrap());
    let made: Vec<_> = steps.iter().filter(|step| step["kind"] == "tool").collect();
    let texts: Vec<_> = made.iter().map(|step| &step["result"]["content"][0]["text"]).collect();
    assert_eq!(texts, ["Paris: 18C", "Tokyo: 25C", "ok"]);
    assert_eq!(fs::read_to_string(home.beside().join("notes.txt")).unwrap(), "noted\n");
}

fn goes_back(api: Api, fake: &FakeThinker) {
    let home = home(api, fake);
    let run = home.json(&["agent", "run", "planner", "go"]);
    is_done(&home, fake, &run);
    assert_eq!([0, 1, 2].map(|turn| fake.bodies(turn).len()), [1; 3]);
}

fn outlives_its_owner(api: Api) {
    let fake = fake(api, 2);
    let home = home(api, &fake);
    let id = home.start_run("planner", "go");
    fake.wait_for(2);
    home.kill_owner();
    fake.release();
    let run = home.stn(&["run", "wait", &id, "--json"]).ok().json();
    is_done(&home, &fake, &run);
    let bodies = fake.bodies(2);
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1], "both owners ask the same, byte for byte");
}

/// The fake itself, with a request that it took: as it was, and with each of these replaced.
fn refuses(api: Api, changes: &[(&str, &str)]) {
    let fake = fake(api, NEVER);
    let home = home(api, &fake);
    let _run = home.stn(&["agent", "run", "planner", "go"]).ok();
    let (http, good) = (Http::anonymous(&fake.url), fake.bodies(1).remove(0));
    let (path, headers) = (api.place(), [("content-type", "application/json"), api.key()]);
    let _taken = http.send("POST", path, &headers, Some(good.clone())).with(200);
    let _without_key = http.send("POST", path, &headers[..1], Some(good.clone())).with(400);
    let _elsewhere = http.send("POST", &path.replace("/v1", "/v2"), &headers, Some(good.clone())).with(400);
    let _put = http.send("PUT", path, &headers, Some(good.clone())).with(400);
    for (from, to) in changes {
        assert!(good.contains(from), "{from} is not in {good}");
        let _refused = http.send("POST", path, &headers, Some(good.replace(from, to))).with(400);
    }
}

#[test]
fn reasoning_goes_back_to_openai_byte_for_byte_and_in_place() {
    goes_back(Api::Responses, &fake(Api::Responses, NEVER));
}

#[test]
fn items_whose_places_a_server_does_not_name_count_once_and_go_back_byte_for_byte() {
    goes_back(Api::Responses, &FakeThinker::without_places(&RESPONSES));
}

#[test]
fn signatures_go_back_to_gemini_byte_for_byte_and_in_place() {
    goes_back(Api::Gemini, &fake(Api::Gemini, NEVER));
}

#[test]
fn a_schema_that_gemini_refuses_goes_out_plainer_and_the_step_names_the_tool() {
    let fake = FakeThinker::refusing_the_schema_of("desk__save_note", &GEMINI);
    let home = home(Api::Gemini, &fake);
    let run = home.json(&["agent", "run", "planner", "go"]);
    assert_eq!(run["output"], "Done.", "{run:#}");
    let refused = fake.refused();
    assert_eq!(refused.len(), 1, "it is learned once for the whole run: {refused:?}");
    assert!(refused[0].contains("parametersJsonSchema"), "{refused:?}");
    let steps = home.steps(run["id"].as_str().unwrap());
    let notice = steps[0]["result"]["notice"].as_str().unwrap();
    assert_eq!(notice, "Gemini refused the input schema of `desk__save_note`; a plainer one was sent");
}

#[test]
fn a_prompt_that_gemini_blocks_ends_the_run_with_the_reason() {
    let blocked = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"}}"#;
    let listening = Listening::start(Router::new().fallback(move || async move { blocked }));
    let home = home_at(Api::Gemini, &listening.url);
    let output = home.stn(&["agent", "run", "planner", "go", "--json"]);
    let run = output.json();
    assert_eq!((&run["status"], &run["error_kind"]), (&json!("failed"), &json!("provider")), "{run:#}");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("declined to answer: Gemini blocked the prompt (PROHIBITED_CONTENT)"), "{error}");
}

#[test]
fn reasoning_is_still_there_when_another_owner_goes_on_with_the_run() {
    outlives_its_owner(Api::Responses);
}

#[test]
fn signatures_are_still_there_when_another_owner_goes_on_with_the_run() {
    outlives_its_owner(Api::Gemini);
}

#[test]
fn the_fake_of_responses_refuses_what_was_changed_left_out_or_moved() {
    let [reasoning, message, ..] = RESPONSES[0] else { panic!("too short") };
    let moved = format!("{message},{reasoning}");
    let changes = [
        (r"gAAA\u00e9\/+==", r"gAAAé/+=="),
        (&*format!("{reasoning},"), ""),
        (&*format!("{reasoning},{message}"), &*moved),
        (r#""call_id":"call_2","output""#, r#""call_id":"call_1","output""#),
        (r#""store":false"#, r#""store":true"#),
        (r#""strict":false"#, r#""strict":true"#),
        (r#""stream":true"#, r#""stream":true,"temperature":1"#),
    ];
    refuses(Api::Responses, &changes);
}

#[test]
fn the_fake_of_gemini_refuses_what_was_changed_left_out_or_moved() {
    let [_, first, second, last] = GEMINI[0] else { panic!("too short") };
    let moved = format!("{second},{first}");
    let changes = [
        (r"EqQB\/+==", "EqQB/+=="),
        (&*format!(",{last}"), ""),
        (&*format!("{first},{second}"), &*moved),
        (r#""functionResponse":{"id":"g1","#, r#""functionResponse":{"#),
        (r#""contents":"#, r#""store":true,"contents":"#),
    ];
    refuses(Api::Gemini, &changes);
}
