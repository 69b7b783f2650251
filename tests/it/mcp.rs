//! Station as an MCP server: both eras, over `stn stdio` line by line and over HTTP message by message.

use crate::authorization::authorization;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::TestHome;
use crate::support::http::Http;
use crate::support::mcp_client::{Endpoint, MODERN, RawStdio, modern, result, tool_error};
use serde_json::{Value, json};
use station::tools::{self, Exposure};
use std::collections::BTreeSet;

/// The versions with a handshake.
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// What is listed to every client, of the set that the design names.
const DEFAULT_TOOLS: [&str; 12] = [
    "agent_create",
    "agent_get",
    "agent_list",
    "agent_update",
    "agent_run",
    "run_get",
    "run_list",
    "run_wait",
    "run_cancel",
    "environment_list",
    "tool_list",
    "station_status",
];

/// What no client may do: it is for people.
const FOR_PEOPLE: [&str; 2] = ["run_respond", "mcp_server_accept"];

fn home() -> TestHome {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home
}

fn names(list: &Value) -> BTreeSet<String> {
    let tools = result(list)["tools"].as_array().unwrap();
    let names: BTreeSet<String> = tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), tools.len(), "a tool is listed twice");
    names
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// All tools but those for people.
fn for_clients() -> BTreeSet<String> {
    let table = tools::table();
    let specs = table.iter().map(|tool| &tool.spec);
    specs.filter(|spec| spec.exposure != Exposure::PersonOnly).map(|spec| spec.name.to_owned()).collect()
}

#[test]
fn every_version_with_a_handshake_is_spoken_over_stdio() {
    let home = home();
    for version in LEGACY {
        let mut stdio = RawStdio::start(&home, &[]);
        let chosen = stdio.initialize(version);
        assert_eq!(chosen["protocolVersion"], version);
        assert_eq!(chosen["serverInfo"]["name"], "station", "{chosen}");
        assert!(chosen["capabilities"]["tools"].is_object(), "{chosen}");
        assert!(chosen["instructions"].as_str().unwrap().contains("development"), "{chosen}");
        assert_eq!(result(&stdio.request("ping", &json!({}))), &json!({}));
        assert_eq!(names(&stdio.request("tools/list", &json!({}))), set(&DEFAULT_TOOLS));
        assert_eq!(stdio.close().code, 0);
    }
}

#[test]
fn every_version_with_a_handshake_is_spoken_over_http() {
    let home = home();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    for version in LEGACY {
        let (mut endpoint, chosen) = Endpoint::legacy(&http, "/mcp", version);
        assert_eq!(chosen["protocolVersion"], version);
        assert_eq!(chosen["serverInfo"]["name"], "station", "{chosen}");
        assert_eq!(names(&endpoint.request("tools/list", json!({}))), set(&DEFAULT_TOOLS));
    }
}

#[test]
fn the_version_without_handshake_is_spoken_over_stdio_and_over_http() {
    let home = home();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let mut stdio = RawStdio::start(&home, &[]);
    let mut endpoint = Endpoint::modern(&http, "/mcp");
    let discovered =
        [stdio.request("server/discover", &modern(json!({}))), endpoint.request("server/discover", json!({}))];
    for discovered in discovered {
        let found = result(&discovered);
        assert!(found["supportedVersions"].as_array().unwrap().contains(&json!(MODERN)), "{found}");
        assert_eq!(found["resultType"], "complete");
        assert!(found["ttlMs"].is_u64() && found["cacheScope"].is_string(), "{found}");
        assert_eq!(found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "station", "{found}");
    }
    assert_eq!(names(&stdio.request("tools/list", &modern(json!({})))), set(&DEFAULT_TOOLS));
    assert_eq!(names(&endpoint.request("tools/list", json!({}))), set(&DEFAULT_TOOLS));
    let unknown = stdio.request(
        "server/discover",
        &json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2099-01-01",
        "io.modelcontextprotocol/clientCapabilities": {} } }),
    );
    assert_eq!(unknown["error"]["code"], -32022, "{unknown}");
}

#[test]
fn all_tools_are_listed_to_who_asks_for_them_and_those_for_people_to_nobody() {
    let home = home();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let mut stdio = RawStdio::initialized(&home, &["--tools", "all"]);
    // Over stdio a client has the developer's rights in its environment, and is shown what it may use.
    let of_a_developer = |tool: &String| authorization(tool).allows("developer_named", "development");
    let expected: BTreeSet<String> = for_clients().into_iter().filter(of_a_developer).collect();
    assert_eq!(names(&stdio.request("tools/list", &json!({}))), expected);
    assert_eq!(names(&Endpoint::modern(&http, "/mcp?tools=all").request("tools/list", json!({}))), for_clients());
    let mut endpoints = [Endpoint::modern(&http, "/mcp"), Endpoint::modern(&http, "/mcp?tools=all")];
    for tool in FOR_PEOPLE {
        for answer in
            [stdio.call(tool, &json!({})), endpoints[0].call(tool, &json!({})), endpoints[1].call(tool, &json!({}))]
        {
            let error = tool_error(&answer);
            assert_eq!(error["kind"], "permission_denied", "{error}");
            assert!(error["hint"].as_str().unwrap().contains("stn "), "{error}");
        }
    }
}

#[test]
fn every_schema_that_is_listed_is_one_and_carries_the_hints_of_its_tool() {
    let home = home();
    let mut stdio = RawStdio::initialized(&home, &["--tools", "all"]);
    let list = stdio.request("tools/list", &json!({}));
    let table = tools::table();
    for listed in result(&list)["tools"].as_array().unwrap() {
        let spec = &table.get(listed["name"].as_str().unwrap()).unwrap().spec;
        for key in ["inputSchema", "outputSchema"] {
            assert_eq!(listed[key]["type"], "object", "{listed}");
            jsonschema::meta::validate(&listed[key]).unwrap_or_else(|problem| panic!("{}: {problem}", spec.name));
        }
        assert_eq!(listed["annotations"]["readOnlyHint"], spec.effect == station::domain::Effect::Read, "{listed}");
        assert_eq!(listed["annotations"]["idempotentHint"], spec.idempotent, "{listed}");
    }
}

#[test]
fn a_run_tells_its_progress_to_who_asked_for_it() {
    let llm = FakeLlm::start([Turn::saying("Done.").held()]);
    let home = TestHome::with_agent("slow", &llm.settings());
    let mut stdio = RawStdio::initialized(&home, &[]);
    let asked = json!({ "name": "agent_run", "arguments": { "agent": "slow", "input": "go" }, "_meta": { "progressToken": "p" } });
    let id = stdio.send("tools/call", &asked);
    llm.wait_for(0);
    llm.release();
    let answer = stdio.answer(id);
    assert_eq!(result(&answer)["structuredContent"]["output"], "Done.", "{answer}");
    let told = stdio.heard.iter().filter(|message| message["method"] == "notifications/progress");
    let told: Vec<&Value> = told.map(|message| &message["params"]).collect();
    assert!(!told.is_empty(), "{:?}", stdio.heard);
    assert!(told.iter().all(|params| params["progressToken"] == "p"), "{told:?}");
    let progress: Vec<f64> = told.iter().map(|params| params["progress"].as_f64().unwrap()).collect();
    assert!(progress.windows(2).all(|pair| pair[0] < pair[1]), "{progress:?}");
    let messages: Vec<&str> = told.iter().map(|params| params["message"].as_str().unwrap()).collect();
    assert!(messages.contains(&"working") && !messages.iter().any(|told| told.contains('.')), "{messages:?}");
}

#[test]
fn a_run_outlives_its_request_and_its_client() {
    let llm = FakeLlm::start([Turn::saying("Done.").held()]);
    let home = TestHome::with_agent("slow", &llm.settings());
    let mut stdio = RawStdio::initialized(&home, &[]);
    let answer = stdio.call("agent_run", &json!({ "agent": "slow", "input": "one", "wait_ms": 1 }));
    assert_ne!(result(&answer)["isError"], true);
    let first = result(&answer)["structuredContent"]["id"].as_str().unwrap();
    let text = result(&answer)["content"].to_string();
    assert!(text.contains("run_wait") && text.contains(first), "{text}");
    llm.wait_for(0);
    let now = stdio.call("run_get", &json!({ "run": first }));
    assert_eq!(result(&now)["structuredContent"]["status"], "running", "{now}");
    // One more, whose client goes away while it waits.
    stdio.send("tools/call", &json!({ "name": "agent_run", "arguments": { "agent": "slow", "input": "two" } }));
    llm.wait_for_more(0, 1);
    assert_eq!(stdio.close().code, 0);
    let mut stdio = RawStdio::initialized(&home, &[]);
    llm.release();
    let listed = stdio.call("run_list", &json!({}));
    let runs = result(&listed)["structuredContent"]["items"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 2, "{runs:#?}");
    for run in runs {
        let waited = stdio.call("run_wait", &json!({ "run": run["id"] }));
        let ended = &result(&waited)["structuredContent"];
        assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!("Done.")), "{waited}");
    }
}

#[test]
fn an_error_of_a_tool_is_a_result_that_programs_and_models_can_read() {
    let home = home();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let (mut legacy, _) = Endpoint::legacy(&http, "/mcp", "2025-11-25");
    let unknown = json!({ "agent": "helo" });
    for answer in [
        RawStdio::initialized(&home, &[]).call("agent_get", &unknown),
        legacy.call("agent_get", &unknown),
        Endpoint::modern(&http, "/mcp").call("agent_get", &unknown),
    ] {
        let error = tool_error(&answer);
        assert_eq!((&error["kind"], &error["field"]), (&json!("not_found"), &json!("agent")), "{error}");
        assert!(error["message"].as_str().unwrap().contains("`helo`"), "{error}");
        assert_eq!(error["hint"], "did you mean `hello`?");
        assert!(error["request_id"].is_string(), "{error}");
    }
    let no_such = legacy.call("agent_gte", &json!({}));
    assert_eq!(no_such["error"]["code"], -32602, "{no_such}");
}

#[test]
fn a_failed_run_is_an_error_that_carries_the_run() {
    let home = TestHome::with_agent("slow", &FakeLlm::start([]).settings());
    let answer = RawStdio::initialized(&home, &[]).call("agent_run", &json!({ "agent": "slow", "input": "go" }));
    assert_eq!(result(&answer)["isError"], true, "{answer}");
    let run = &result(&answer)["structuredContent"];
    assert_eq!((&run["status"], &run["error_kind"]), (&json!("failed"), &json!("provider")), "{answer}");
}

#[test]
fn stdout_carries_the_protocol_only() {
    let mut home = home();
    home.set("STN_LOG", "trace").set("RUST_LOG", "trace");
    let mut stdio = RawStdio::start(&home, &[]);
    stdio.initialize("2025-11-25");
    // Each of these is answered, or passed over; none ends the connection, and nothing but messages is written.
    for line in ["", "this is not JSON", "[]", "{}", "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/nothing\"}"] {
        stdio.send_line(line);
    }
    let ran = stdio.call("agent_run", &json!({ "agent": "hello", "input": "What is here?" }));
    assert_eq!(result(&ran)["structuredContent"]["status"], "completed", "{ran}");
    let ended = stdio.close();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn http_lets_in_who_has_the_key_and_was_not_sent_by_a_web_page() {
    let home = home();
    let serve = home.serve();
    let (http, nobody) = (Http::new(&home, &serve), Http::anonymous(&serve.url));
    let discover = json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": modern(json!({})) });
    let method = ("mcp-method", "server/discover");
    let without_key = Endpoint::modern(&nobody, "/mcp").post(&[method], &discover).with(401);
    assert!(without_key.header("www-authenticate").starts_with("Bearer"), "{:?}", without_key.headers);
    let wrong_key = [method, ("authorization", "Bearer stn_wrong")];
    let wrong = Endpoint::modern(&nobody, "/mcp").post(&wrong_key, &discover).with(401);
    assert!(wrong.header("www-authenticate").contains("invalid_token"), "{:?}", wrong.headers);
    let endpoint = Endpoint::modern(&http, "/mcp");
    let _answer = endpoint.post(&[method], &discover).with(200);
    let foreign_host = endpoint.post(&[method, ("host", "evil.example.com")], &discover);
    assert!([403, 421].contains(&foreign_host.status), "{foreign_host:?}");
    let _refused = endpoint.post(&[method, ("origin", "https://evil.example.com")], &discover).with(403);
    let _refused = endpoint.post(&[method, ("origin", "null")], &discover).with(403);
}

#[test]
fn a_connection_that_is_bound_to_an_environment_refuses_another() {
    let home = home();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let mut stdio = RawStdio::initialized(&home, &["-e", "staging"]);
    let mut endpoint = Endpoint::modern(&http, "/mcp/staging");
    let list = stdio.request("tools/list", &json!({}));
    for tool in result(&list)["tools"].as_array().unwrap() {
        assert!(tool["inputSchema"]["properties"].get("environment").is_none(), "{tool}");
    }
    let other = json!({ "environment": "development" });
    for answer in [stdio.call("agent_list", &other), endpoint.call("agent_list", &other)] {
        let error = tool_error(&answer);
        assert_eq!((&error["kind"], &error["field"]), (&json!("permission_denied"), &json!("environment")), "{error}");
    }
    for answer in
        [stdio.call("agent_list", &json!({})), endpoint.call("agent_list", &json!({ "environment": "staging" }))]
    {
        assert_eq!(result(&answer)["structuredContent"]["items"], json!([]), "{answer}");
    }
    // A run of another environment doesn't exist for it, whatever its id.
    let run = home.start_run("hello", "What is here?");
    for answer in [stdio.call("run_get", &json!({ "run": run })), endpoint.call("run_get", &json!({ "run": run }))] {
        assert_eq!(tool_error(&answer)["kind"], "not_found", "{answer}");
    }
    let nowhere = Endpoint::modern(&http, "/mcp/nowhere");
    let discover = json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": modern(json!({})) });
    let _unknown = nowhere.post(&[("mcp-method", "server/discover")], &discover).with(404);
}
