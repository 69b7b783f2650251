//! REST: routes, statuses, problem documents, queueing and following, as an HTTP client sees them.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{Serve, TestHome};
use crate::support::http::{Answer, Event, Http};
use crate::support::mcp_client::{Endpoint, result};
use serde_json::{Value, json};
use station::tools::{self, Method};
use std::io::{Read, Write};
use std::net::TcpStream;

struct Served {
    http: Http,
    serve: Serve,
    home: TestHome,
}

fn served() -> Served {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let serve = home.serve();
    Served { http: Http::new(&home, &serve), serve, home }
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

/// `path` with something in the place of each field.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "nothing-like-it" } else { part });
    format!("/api/v1{}", parts.collect::<Vec<_>>().join("/"))
}

/// The problem document, which must say what RFC 9457 and the table of errors want.
#[track_caller]
fn problem(answer: Answer, status: u16, kind: &str) -> Value {
    let answer = answer.with(status);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
    let document = answer.json();
    assert_eq!(document["type"], format!("urn:station:error:{kind}"), "{document}");
    assert_eq!((&document["kind"], &document["status"]), (&json!(kind), &json!(status)), "{document}");
    assert_eq!(document["detail"], document["message"], "{document}");
    assert!(document["title"].is_string() && !document["message"].as_str().unwrap().is_empty(), "{document}");
    assert_eq!(document["request_id"], answer.header("x-request-id"), "{document}");
    document
}

#[test]
fn every_tool_with_a_route_answers_there_and_only_to_its_methods() {
    let Served { http, serve, home: _home } = served();
    let nobody = Http::anonymous(&serve.url);
    for spec in tools::table().iter().map(|tool| &tool.spec) {
        let Some(rest) = spec.rest else { continue };
        let (method, path) = (method(rest.method), filled(rest.path));
        let body = (method != "GET" && method != "DELETE").then(|| json!({}));
        let answer = match &body {
            Some(body) => http.send_json(method, &path, body),
            None => http.send(method, &path, &[], None),
        };
        assert!(!answer.body.contains("there is no route") && answer.status != 405, "{method} {path}: {answer:?}");
        let _refused = problem(nobody.send(method, &path, &[], None), 401, "unauthenticated");
        let other = http.send("PUT", &path, &[], None);
        assert!(other.header("allow").contains(method), "{other:?}");
        let _refused = problem(other, 405, "invalid_input");
    }
    let lost = problem(http.get("/api/v1/agent"), 404, "not_found");
    assert_eq!(lost["hint"], "did you mean `/api/v1/agents`?");
}

#[test]
fn openapi_3_1_lists_every_route() {
    let Served { http, serve: _serve, home: _home } = served();
    let answer = http.get("/api/v1/openapi.json").with(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    for spec in tools::table().iter().map(|tool| &tool.spec) {
        let Some(rest) = spec.rest else { continue };
        let operation = &document["paths"][format!("/api/v1{}", rest.path)][method(rest.method).to_lowercase()];
        assert_eq!(operation["operationId"], spec.name);
        let schema = &operation["responses"][rest.success.to_string()]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{operation}");
    }
    for by_hand in ["/healthz", "/readyz"] {
        assert!(document["paths"][by_hand]["get"].is_object(), "{by_hand}");
    }
    let events = &document["paths"]["/api/v1/runs/{run}/events"]["get"]["responses"]["200"]["content"];
    assert!(events["text/event-stream"].is_object(), "{events}");
}

/// Every schema that a document gives for something.
fn schemas<'a>(document: &'a Value, found: &mut Vec<&'a Value>) {
    match document {
        Value::Object(fields) => {
            found.extend(fields.get("schema"));
            fields.values().for_each(|field| schemas(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| schemas(item, found)),
        _ => {}
    }
}

#[test]
fn openapi_is_valid_by_the_official_schema_and_so_is_every_schema_in_it() {
    let Served { http, serve: _serve, home: _home } = served();
    let document = http.get("/api/v1/openapi.json").with(200).json();
    let official = serde_json::from_str(include_str!("support/openapi/schema-3.1-2022-10-07.json")).unwrap();
    let official = jsonschema::validator_for(&official).unwrap();
    let faults: Vec<String> =
        official.iter_errors(&document).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let mut broken = document.clone();
    broken["paths"]["/api/v1/agents"]["get"]["responses"]["200"] = json!({ "content": {} });
    assert!(!official.is_valid(&broken), "the official schema wants a description of each response");
    let mut found = Vec::new();
    schemas(&document["paths"], &mut found);
    assert!(found.len() > tools::table().iter().count(), "{}", found.len());
    for schema in found.into_iter().chain(document["components"]["schemas"].as_object().unwrap().values()) {
        assert!(jsonschema::meta::is_valid(schema), "{schema:#}");
    }
}

#[test]
fn a_run_is_queued_with_202_and_found_at_its_location() {
    let Served { http, serve: _serve, home: _home } = served();
    let queued = http.post("/api/v1/agents/hello/queue", &json!({ "input": "What is here?" })).with(202);
    let (location, run) = (queued.header("location").to_owned(), queued.json());
    assert_eq!(location, format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
    assert!(["queued", "running"].contains(&run["status"].as_str().unwrap()), "{run}");
    let ended = http.post(&format!("{location}/wait"), &json!({})).with(200).json();
    assert_eq!((&ended["id"], &ended["status"]), (&run["id"], &json!("completed")));
    assert_eq!(http.get(&location).with(200).json(), ended);
    // By the agent's number too, and once per key.
    let number = run["agent"]["id"].as_i64().unwrap();
    let keyed = json!({ "input": "What is here?", "idempotency_key": "k" });
    let first = http.post(&format!("/api/v1/agents/{number}/queue"), &keyed).with(202).json();
    // Which may have ended by now.
    let again = http.post(&format!("/api/v1/agents/{number}/queue"), &keyed);
    assert!([200, 202].contains(&again.status), "{again:?}");
    assert_eq!(first["id"], again.json()["id"]);
    let other = json!({ "input": "Something else", "idempotency_key": "k" });
    let _conflict = problem(http.post("/api/v1/agents/hello/queue", &other), 409, "conflict");
}

#[test]
fn agents_are_created_changed_and_deleted() {
    let Served { http, serve: _serve, home } = served();
    let given = json!({ "name": "brief", "prompt": "Be brief.", "description": "Short answers" });
    let created = http.post("/api/v1/agents", &given).with(201);
    assert_eq!(created.header("location"), "/api/v1/agents/brief?environment=development");
    let first = created.json();
    assert_eq!(first["state"], "ok");
    assert!(home.read("environments/development/agents/brief.prompt").contains("Short answers"));
    let _taken = problem(http.post("/api/v1/agents", &given), 409, "conflict");
    // Absent leaves, null removes.
    let changed =
        http.send_json("PATCH", "/api/v1/agents/brief", &json!({ "description": null, "max_steps": 3 })).with(200);
    let second = changed.json();
    assert_eq!((&second["description"], &second["max_steps"]), (&Value::Null, &json!(3)));
    assert_eq!(second["prompt"], first["prompt"]);
    assert_ne!(second["revision"], first["revision"]);
    let stale = json!({ "revision": first["revision"], "max_steps": 4 });
    let _conflict = problem(http.send_json("PATCH", "/api/v1/agents/brief", &stale), 409, "conflict");
    assert_eq!(http.delete("/api/v1/agents/brief").with(200).json(), json!({ "deleted": "brief" }));
    let _gone = problem(http.get("/api/v1/agents/brief"), 404, "not_found");
}

#[test]
fn the_place_of_a_new_agent_is_in_its_environment() {
    let Served { http, serve: _serve, home: _home } = served();
    let given = json!({ "name": "brief", "prompt": "Be brief." });
    let created = http.post("/api/v1/agents?environment=staging", &given).with(201);
    let place = created.header("location");
    assert_eq!(place, "/api/v1/agents/brief?environment=staging");
    assert_eq!(http.get(place).with(200).json(), created.json());
}

#[test]
fn the_status_is_that_of_the_station_or_of_the_environment_that_is_named_through_every_door() {
    let Served { http, serve: _serve, home } = served();
    let shown = |status: &Value| {
        let names = |list: &str, field: &str| {
            let items = status[list].as_array().unwrap().iter();
            items.map(|item| item[field].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        (names("environments", "name"), names("mcp_servers", "environment"))
    };
    let whole = shown(&http.get("/api/v1/status").with(200).json());
    assert_eq!(whole, shown(&home.json(&["status"])));
    assert_eq!((whole.0.len(), whole.1), (3, vec!["development".to_owned()]));
    let staging = (vec!["staging".to_owned()], Vec::new());
    assert_eq!(shown(&http.get("/api/v1/status?environment=staging").with(200).json()), staging);
    assert_eq!(shown(&home.json(&["status", "-e", "staging"])), staging);
    let over_mcp = Endpoint::modern(&http, "/mcp/staging").call("station_status", &json!({}));
    assert_eq!(shown(&result(&over_mcp)["structuredContent"]), staging);
    let nowhere = problem(http.get("/api/v1/status?environment=nowhere"), 404, "not_found");
    assert_eq!(nowhere["hint"], "environments here: development, production, staging");
    let unknown = home.stn(&["status", "-e", "nowhere"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
}

#[test]
fn a_run_that_is_waited_for_to_its_end_is_answered_with_200() {
    let Served { http, serve: _serve, home: _home } = served();
    let asked = json!({ "input": "What is here?", "wait_ms": 30_000 });
    let ended = http.post("/api/v1/agents/hello/queue", &asked).with(200);
    assert_eq!(ended.json()["status"], "completed");
}

#[test]
fn lists_go_on_where_their_cursor_says_and_no_cursor_fits_another_list() {
    let Served { http, serve: _serve, home: _home } = served();
    for name in ["a", "b", "c"] {
        let _created = http.post("/api/v1/agents", &json!({ "name": name, "prompt": "Be brief." })).with(201);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/agents?limit=3".to_owned();
    let cursor = loop {
        let page = http.get(&path).with(200).json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/agents?limit=3&cursor={cursor}"),
            None => break path.rsplit('=').next().unwrap().to_owned(),
        }
    };
    assert_eq!(seen, ["a", "b", "c", "hello"]);
    let _other = problem(http.get(&format!("/api/v1/runs?cursor={cursor}")), 400, "invalid_input");
    let other = format!("/api/v1/agents?environment=staging&cursor={cursor}");
    let _other = problem(http.get(&other), 400, "invalid_input");
}

#[test]
fn errors_are_problem_documents_with_the_status_of_their_kind() {
    let Served { http, serve, home: _home } = served();
    let queue = "/api/v1/agents/hello/queue";
    let cases = [
        (http.get("/api/v1/agents?limit=0"), 400, "invalid_input", "limit"),
        (http.get("/api/v1/agents?limit=many"), 400, "invalid_input", "limit"),
        (http.get("/api/v1/agents?limt=5"), 400, "invalid_input", "limt"),
        (http.get("/api/v1/agents?limit=1&limit=2"), 400, "invalid_input", "limit"),
        (http.get("/api/v1/agents?token=k"), 400, "invalid_input", "token"),
        (http.get("/healthz?access_token=k"), 400, "invalid_input", "access_token"),
        (
            http.post("/api/v1/agents/hello/queue?environment=staging", &json!({ "environment": "staging" })),
            400,
            "invalid_input",
            "environment",
        ),
        (http.post(queue, &json!({ "agent": "hello" })), 400, "invalid_input", "agent"),
        (http.post("/api/v1/agents/hello/queue?input=x", &json!({})), 400, "invalid_input", "input"),
        (http.post(queue, &json!({ "inptu": "x" })), 400, "invalid_input", "inptu"),
        (http.post(queue, &json!([])), 400, "invalid_input", ""),
        (http.send("POST", queue, &[("content-type", "application/json")], Some("{".into())), 400, "invalid_input", ""),
        (
            http.send(
                "DELETE",
                "/api/v1/agents/hello",
                &[("content-type", "application/json")],
                Some("{\"a\":1}".into()),
            ),
            400,
            "invalid_input",
            "a",
        ),
        (http.send("POST", queue, &[("content-type", "text/plain")], Some("x".into())), 415, "not_acceptable", ""),
        (http.get("/api/v1/agents/helo"), 404, "not_found", "agent"),
        (http.get("/api/v1/agents?environment=nowhere"), 404, "not_found", "environment"),
        (http.get("/api/v1/runs/00000000"), 404, "not_found", "run"),
        (http.get("/api/v1/runs/x"), 400, "invalid_input", "run"),
        (http.send("GET", "/api/v1/agents", &[("host", "evil.example.com")], None), 403, "permission_denied", ""),
        (
            http.send("GET", "/api/v1/agents", &[("origin", "https://evil.example.com")], None),
            403,
            "permission_denied",
            "",
        ),
        (Http::anonymous(&serve.url).get("/api/v1/agents"), 401, "unauthenticated", ""),
    ];
    for (answer, status, kind, field) in cases {
        let document = problem(answer, status, kind);
        assert_eq!(document["field"].as_str().unwrap_or_default(), field, "{document}");
    }
    let meant = problem(http.get("/api/v1/agents?limt=5"), 400, "invalid_input");
    assert_eq!(meant["hint"], "did you mean `limit`?");
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let Served { http: _http, serve, home } = served();
    let authority = serve.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(authority).unwrap();
    let request = format!(
        "POST /api/v1/agents/hello/queue HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 12000000\r\nconnection: close\r\n\r\n",
        home.key()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("urn:station:error:payload_too_large"), "{answer}");
}

#[test]
fn health_is_open_and_everything_else_needs_the_key() {
    let Served { http, serve, home: _home } = served();
    let nobody = Http::anonymous(&serve.url);
    for open in ["/healthz", "/readyz"] {
        let _open = nobody.get(open).with(200);
    }
    let closed =
        ["/", "/api/v1/openapi.json", "/api/v1/status", "/api/v1/nothing", "/mcp", "/healthz/", "/local/handshake"];
    for closed in closed {
        let refused = nobody.get(closed);
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{closed}: {refused:?}");
        let document = problem(refused, 401, "unauthenticated");
        let hint = document["hint"].as_str().unwrap();
        assert!(hint.contains("`stn status`") && !hint.contains("local.key"), "{document}");
        let wrong = nobody.send("GET", closed, &[("authorization", "Bearer stn_wrong")], None);
        let _refused = problem(wrong, 401, "unauthenticated");
    }
    // The local socket's own routes don't exist over TCP, also with the key.
    let _unknown = problem(http.get("/local/handshake"), 404, "not_found");
    let _unknown = problem(http.post("/local/drain", &json!({})), 404, "not_found");
}

/// Events that are stored; those that are only live have no id.
fn stored(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| !event.id.is_empty()).collect()
}

#[test]
fn a_stream_that_was_cut_goes_on_without_a_gap_or_a_repetition() {
    let llm = FakeLlm::start([Turn::saying("Done.").held()]);
    let home = TestHome::with_agent("slow", &llm.settings());
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let run = http.post("/api/v1/agents/slow/queue", &json!({ "input": "go" })).with(202).json();
    let path = format!("/api/v1/runs/{}/events", run["id"].as_str().unwrap());
    llm.wait_for(0);
    // While the model thinks, the stream stands still after what has happened.
    let mut live = http.events(&path, None);
    let mut seen: Vec<Event> = Vec::new();
    while !seen.iter().any(|event| event.name == "step.started") {
        seen.push(live.next().expect("the stream goes on"));
    }
    drop(live);
    let last = stored(&seen).last().unwrap().id.clone();
    let resumed = http.events(&path, Some(&last));
    llm.release();
    seen.extend(resumed);
    let ids: Vec<String> = stored(&seen).iter().map(|event| event.id.clone()).collect();
    // Queued under epoch 0, all else under that of its one claim.
    let counted: Vec<String> = (1..=ids.len()).map(|seq| format!("{}-{seq}", i32::from(seq > 1))).collect();
    assert_eq!(ids, counted);
    assert_eq!(seen.last().unwrap().name, "run.completed");
    for event in &seen {
        assert_eq!((&event.data["type"], &event.data["run_id"]), (&json!(event.name), &run["id"]));
    }
    // From any event on, the rest; and the whole is what was seen.
    let all: Vec<Event> = http.events(&path, None).collect();
    assert_eq!(stored(&all), stored(&seen));
    for (at, id) in ids.iter().enumerate().take(ids.len() - 1) {
        let rest: Vec<Event> = http.events(&path, Some(id)).collect();
        assert_eq!(rest, all[at + 1..], "after {id}");
        let rest: Vec<Event> = http.events(&format!("{path}?after={}", at + 1), None).collect();
        assert_eq!(rest, all[at + 1..], "after seq {}", at + 1);
    }
    // After the last there is nothing to come back for.
    let stream = ("accept", "text/event-stream");
    let _over = http.send("GET", &path, &[stream, ("last-event-id", ids.last().unwrap())], None).with(204);
    // A reader that has seen what isn't there is told to start over.
    let ahead: Vec<Event> = http.events(&path, Some("7-99")).collect();
    assert_eq!(ahead[0].name, "run.rewound");
    assert_eq!(ahead[1..], all);
    let _wrong = problem(http.send("GET", &path, &[stream, ("last-event-id", "x")], None), 400, "invalid_input");
}

#[test]
fn a_stream_tells_what_the_model_says_between_the_beginning_and_the_end_of_its_step() {
    let call = Turn::calling("filesystem__list_allowed_directories", &json!({}));
    let llm = FakeLlm::start([call, Turn::saying("As it is said.").held()]);
    let home = TestHome::with_agent_using(&["filesystem"], "slow", &llm.settings());
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let run = http.post("/api/v1/agents/slow/queue", &json!({ "input": "go" })).with(202).json();
    llm.wait_for(1);
    let mut events = http.events(&format!("/api/v1/runs/{}/events", run["id"].as_str().unwrap()), None);
    let mut seen = Vec::new();
    // The third step is the second answer of the model.
    let third = |event: &Event| event.data["data"]["step"]["seq"] == 3;
    while !seen.last().is_some_and(third) {
        seen.push(events.next().expect("the stream goes on"));
    }
    llm.release();
    seen.extend(events);
    let of_third: Vec<&str> = seen.iter().skip_while(|event| !third(event)).map(|event| event.name.as_str()).collect();
    assert_eq!(of_third[..3], ["step.started", "model.delta", "step.completed"], "{of_third:?}");
    let text: String = seen
        .iter()
        .filter(|event| event.name == "model.delta")
        .map(|event| {
            assert_eq!((event.id.as_str(), &event.data["data"]["step"]), ("", &json!(3)), "{event:?}");
            event.data["data"]["text"].as_str().unwrap()
        })
        .collect();
    assert_eq!(text, "As it is said.");
}

#[test]
fn the_stored_events_of_a_run_are_the_same_whoever_owns_the_home() {
    let home = TestHome::new();
    let run = home.json(&["agent", "run", "hello", "What is here?"]);
    let id = run["id"].as_str().unwrap();
    home.kill_owner();
    let (listed, called) =
        (["run", "events", id], ["call", "run_events", &json!({ "run": id }).to_string()].map(str::to_owned));
    let called = called.each_ref().map(String::as_str);
    let pages = |home: &TestHome| {
        let all = home.json(&listed);
        assert_eq!(home.json(&called), all);
        let first = home.json(&[&listed[..], &["--limit", "2"]].concat());
        let cursor = first["next_cursor"].as_str().expect("there is more");
        let rest = home.json(&[&listed[..], &["--cursor", cursor]].concat());
        let both = [&first, &rest].map(|page| page["items"].as_array().unwrap().clone()).concat();
        assert_eq!((&json!(both), &rest["next_cursor"]), (&all["items"], &Value::Null));
        all
    };
    let by_itself = pages(&home);
    let serve = home.serve();
    assert_eq!(pages(&home), by_itself);
    let over_http = Http::new(&home, &serve).get(&format!("/api/v1/runs/{id}/events")).with(200);
    assert_eq!(over_http.json(), by_itself);
    let types: Vec<&str> =
        by_itself["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], *types.last().unwrap()), ("run.queued", "run.completed"));
}
