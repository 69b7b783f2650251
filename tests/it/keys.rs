//! API keys as those who come with them see them, through the doors of a real `stn serve`: for how long they are taken, from where, where
//! they lead, and what is said when they aren't.

use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{Output, Serve, TestHome, within};
use crate::support::http::{Answer, Http};
use crate::support::mcp_client::{Endpoint, modern, result};
use crate::support::store_dump::{denials, sources_of_failed_logins};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use station::home::ApiKey;

/// A served home.
struct Station {
    home: TestHome,
    serve: Serve,
    /// With the home's own key.
    owner: Http,
}

/// A new key.
struct Key {
    id: String,
    text: String,
}

impl Station {
    fn open() -> Self {
        let home = TestHome::new();
        let _created = home.stn(&["init"]).ok();
        Self::of(home)
    }

    fn of(home: TestHome) -> Self {
        let serve = home.serve();
        Self { owner: Http::new(&home, &serve), serve, home }
    }

    fn key(&self, input: &Value) -> Key {
        let made = self.owner.post("/api/v1/api-keys", input).with(201).json();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        Key { id: text("id"), text: text("key") }
    }

    /// The key of a new user who has this role everywhere.
    fn key_of(&self, user: &str, role: &str) -> Key {
        let _created = self.owner.post("/api/v1/users", &json!({ "name": user })).with(201);
        let grant = json!({ "environment": "*", "role": role });
        let _granted = self.owner.send_json("PATCH", &format!("/api/v1/users/{user}/roles"), &grant).with(200);
        self.key(&json!({ "name": user, "user": user }))
    }

    fn with(&self, key: &str) -> Http {
        Http::with_key(&self.serve.url, key)
    }

    /// `stn` with `--url` and `--key`.
    fn stn(&self, key: &str, arguments: &[&str]) -> Output {
        self.home.stn(&[&["--url", &self.serve.url, "--key", key], arguments].concat())
    }

    /// The doors of the failed logins with this key, in order.
    fn failed_logins(&self, id: &str) -> Vec<String> {
        let all = denials(&self.home.path().join("station.db")).into_iter().map(|(_, denial)| denial);
        all.filter(|denial| denial.action == "station.login" && denial.who == id).map(|denial| denial.origin).collect()
    }
}

/// The command said no.
#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "no `{part}` in {output:?}");
    }
}

/// The answer says that there is no such key, or not any more.
#[track_caller]
fn unauthenticated(answer: Answer, part: &str) {
    let answer = answer.with(401);
    assert!(answer.header("www-authenticate").contains("invalid_token"), "{answer:?}");
    let document = answer.json();
    assert_eq!(document["kind"], "unauthenticated", "{document}");
    assert!(document["message"].as_str().unwrap().contains(part), "{document}");
}

/// Ends a key in one of four ways; the way is the name of its user. Returns what its bearer is told then.
fn end(station: &Station, key: &Key, way: &str) -> &'static str {
    let (of_key, of_user) = (format!("/api/v1/api-keys/{}", key.id), format!("/api/v1/users/{way}"));
    let owner = &station.owner;
    let (done, told) = match way {
        "deleted" => (owner.delete(&of_key), "was deleted"),
        "expired" => (owner.send_json("PATCH", &of_key, &json!({ "expires_in": "1ms" })), "expired at"),
        "suspended" => {
            (owner.send_json("PATCH", &of_user, &json!({ "state": "suspended" })), "is suspended or deleted")
        }
        "gone" => (owner.delete(&of_user), "deleted"),
        _ => unreachable!(),
    };
    let _done = done.with(200);
    told
}

#[test]
fn a_key_that_has_ended_is_refused_at_every_door_with_the_next_request_and_what_is_open_ends() {
    let llm = FakeLlm::start([Turn::saying("Done.").held()]);
    let station = Station::of(TestHome::with_agent("slow", &llm.settings()));
    let run = station.owner.post("/api/v1/agents/slow/queue", &json!({ "input": "go" })).with(202).json();
    let events = format!("/api/v1/runs/{}/events", run["id"].as_str().unwrap());
    llm.wait_for(0);
    for user in ["deleted", "expired", "suspended", "gone"] {
        let key = station.key_of(user, "viewer");
        let http = station.with(&key.text);
        // Everything is open while the key is good.
        let _good = http.get("/api/v1/agents").with(200);
        let _good = station.stn(&key.text, &["agent", "list"]).ok();
        let (mut session, _) = Endpoint::legacy(&http, "/mcp", "2025-11-25");
        assert_eq!(result(&session.call("agent_list", &json!({})))["isError"], false);
        assert_eq!(result(&Endpoint::modern(&http, "/mcp").call("agent_list", &json!({})))["isError"], false);
        let mut stream = http.events(&events, None);
        assert_eq!(stream.next().unwrap().name, "run.queued");
        let told = end(&station, &key, user);
        // The stream ends, though the run goes on.
        assert!(stream.by_ref().all(|event| event.name != "run.completed"), "{user}");
        drop(stream);
        unauthenticated(http.send("GET", &events, &[("accept", "text/event-stream")], None), told);
        unauthenticated(http.get("/api/v1/agents"), told);
        let list = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/list", "params": {} });
        unauthenticated(session.post(&[], &list), told);
        let params = modern(json!({}));
        let list = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/list", "params": params });
        unauthenticated(Endpoint::modern(&http, "/mcp").post(&[("mcp-method", "tools/list")], &list), told);
        refused(&station.stn(&key.text, &["agent", "list"]), 3, &[told, &key.id]);
        let doors = ["rest", "rest", "mcp_http", "mcp_http", "rest"];
        assert_eq!(station.failed_logins(&key.id), doors, "{user}");
        // Others are still here.
        let _good = station.owner.get("/api/v1/agents").with(200);
    }
    llm.release();
}

#[test]
fn a_key_of_another_station_is_told_which_one_doesn_t_know_it_and_where_to_look() {
    let (station, other) = (Station::open(), Station::open());
    let foreign = other.key(&json!({ "name": "ci" }));
    let url = format!("`{}`", station.serve.url);
    let parts = ["belongs to the one station that made it", &foreign.id, &url, "`stn api-key list`"];
    refused(&station.stn(&foreign.text, &["agent", "list"]), 3, &parts);
    refused(&station.stn(&foreign.text, &["agent", "run", "hello", "x"]), 3, &parts);
    refused(&station.stn(&foreign.text, &["call", "agent_create", "{\"name\":\"a\",\"prompt\":\"b\"}"]), 3, &parts);
    refused(&station.stn(&other.home.key(), &["status"]), 3, &["belongs to the one station", &url]);
    refused(&station.stn("sk-123", &["status"]), 3, &["no key, or not a whole one", &url]);
    let without = station.home.stn(&["--url", &station.serve.url, "status"]);
    refused(&without, 3, &["this needs a key", "`--key` or STN_KEY", &url, "`stn api-key list`"]);
    // Nothing came of it, and the key is good where it belongs.
    assert_eq!(station.owner.get("/api/v1/runs").with(200).json()["items"], json!([]));
    let _good = other.stn(&foreign.text, &["agent", "list"]).ok();
}

#[test]
fn what_is_no_key_is_refused_before_it_is_sent_and_a_line_break_behind_one_is_none_of_it() {
    let mut station = Station::open();
    let key = station.key(&json!({ "name": "ci" }));
    let _taken = station.stn(&format!(" {}\n", key.text), &["agent", "list"]).ok();
    let broken = key.text.replacen("_key_", "_key\n", 1);
    for wrong in [broken.as_str(), &key.text[..40], &"k".repeat(100_000)] {
        let output = station.stn(wrong, &["agent", "list"]);
        refused(&output, 3, &["the key is not valid", "`stn_key_<id>_<secret>`", &station.serve.url]);
        assert!(!output.stderr.contains(&key.id) && !output.stderr.contains("kkkk"), "{output:?}");
    }
    let url = station.serve.url.clone();
    let _set = station.home.set("STN_KEY", &format!("{}\n", key.text));
    let _taken = station.home.stn(&["--url", &url, "agent", "list"]).ok();
}

#[test]
fn a_key_in_an_environment_that_isn_t_its_own_is_told_where_it_leads_at_every_door() {
    let station = Station::open();
    let key = station.key(&json!({ "name": "ci", "environments": ["staging"], "role": "developer" }));
    let parts = ["key `ci`", key.id.as_str(), "`development`", "only in `staging`"];
    refused(&station.stn(&key.text, &["agent", "run", "hello", "x"]), 3, &parts);
    refused(&station.stn(&key.text, &["agent", "list", "-e", "development"]), 3, &parts);
    let http = station.with(&key.text);
    let over_rest = http.get("/api/v1/agents?environment=development").with(403).json();
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": modern(json!({ "name": "agent_list" })) });
    let over_mcp = ["/mcp/development", "/mcp"].map(|path| {
        let answer = Endpoint::modern(&http, path).post(&[("mcp-method", "tools/call")], &call).with(403);
        assert_eq!(answer.header("x-request-id"), answer.json()["request_id"]);
        answer.json()
    });
    for error in [&over_rest, &over_mcp[0], &over_mcp[1]] {
        assert_eq!(error["kind"], "permission_denied", "{error}");
        assert!(parts.iter().all(|part| error["message"].as_str().unwrap().contains(part)), "{error}");
        assert!(error["hint"].as_str().unwrap().contains(&format!("`stn api-key update {}`", key.id)), "{error}");
    }
    let _good = station.stn(&key.text, &["agent", "list", "-e", "staging"]).ok();
    // Where the role is what it lacks, the role is named, and those that would do.
    let parts = ["key `ci`", "(developer)", "`staging`", "`secrets:list`", "admin"];
    refused(&station.stn(&key.text, &["secret", "list", "-e", "staging"]), 3, &parts);
    assert_eq!(station.owner.get("/api/v1/runs").with(200).json()["items"], json!([]));
}

#[test]
fn a_wrong_secret_is_refused_like_an_unknown_key_and_a_typo_before_anything_is_looked_up() {
    let station = Station::open();
    let key = station.key(&json!({ "name": "ci" }));
    // The id of a key that is there, with the secret of another one and the checksum that goes with them.
    let other = ApiKey::generate().unwrap();
    let (unknown, secret) = (other.reveal(), other.reveal().expose_secret()[19..62].to_owned());
    let wrong = whole(&format!("stn_key_{}_{secret}", key.id));
    let typo = format!("{}{}", &key.text[..key.text.len() - 1], if key.text.ends_with('x') { 'y' } else { 'x' });
    let told = [unknown.expose_secret(), &wrong, &typo].map(|key| {
        let answer = station.with(key).get("/api/v1/agents").with(401).json();
        (answer["message"].clone(), answer["hint"].clone())
    });
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]));
    assert_eq!(station.failed_logins(&key.id), ["rest"], "of the wrong secret");
    assert_eq!(station.failed_logins(other.id()), ["rest"]);
    assert_eq!(station.failed_logins("-"), ["rest"], "of the typo, which stands for no key");
    let _good = station.with(&key.text).get("/api/v1/agents").with(200);
}

#[test]
fn nothing_is_read_of_a_key_before_its_secret_is_proved() {
    let station = Station::open();
    let key = station.key(&json!({ "name": "ci" }));
    // What can't be read would be an error of the station, and what takes long to read would tell that there is such a key.
    let store = rusqlite::Connection::open(station.home.path().join("station.db")).unwrap();
    let broken = store.execute("UPDATE api_keys SET sources = 'no list' WHERE id = ?1", [&key.id]).unwrap();
    assert_eq!(broken, 1);
    let secret = ApiKey::generate().unwrap().reveal().expose_secret()[19..62].to_owned();
    let wrong = whole(&format!("stn_key_{}_{secret}", key.id));
    unauthenticated(station.with(&wrong).get("/api/v1/agents"), "the key is not valid here");
    let _unreadable = station.with(&key.text).get("/api/v1/agents").with(500);
}

/// The key that begins like this, with its checksum.
fn whole(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut checksum = [b'0'; 6];
    for digit in checksum.iter_mut().rev() {
        *digit = digits[(rest % 62) as usize];
        rest /= 62;
    }
    format!("{body}{}", std::str::from_utf8(&checksum).unwrap())
}

#[test]
fn a_key_is_taken_from_its_networks_alone_and_says_when_it_was_used() {
    let station = Station::open();
    let near = station.key(&json!({ "name": "near", "sources": ["10.0.0.0/8", "127.0.0.1/32"] }));
    let far = station.key(&json!({ "name": "far", "sources": ["10.0.0.0/8"] }));
    let unused = station.home.json(&["api-key", "get", &near.id]);
    assert_eq!(unused["last_used_at"], Value::Null);
    let _good = station.stn(&near.text, &["agent", "list"]).ok();
    let used = within("the use to be written down", || {
        let shown = station.home.json(&["api-key", "get", &near.id]);
        shown["last_used_at"].as_str().map(str::to_owned)
    });
    assert!(used.as_str() >= unused["created_at"].as_str().unwrap(), "{used}");
    let parts = ["key `far`", &far.id, "not taken from this address", "`stn api-key update"];
    refused(&station.stn(&far.text, &["agent", "list"]), 3, &parts);
    let denied = station.with(&far.text).get("/api/v1/agents").with(403).json();
    assert_eq!(denied["kind"], "permission_denied", "{denied}");
    assert_eq!(station.home.json(&["api-key", "get", &far.id])["last_used_at"], Value::Null);
    // Nobody but the connection says where it is from, and whoever stands behind a proxy is told what is missing.
    let claimed =
        station.with(&far.text).send("GET", "/api/v1/agents", &[("x-forwarded-for", "10.1.2.3")], None).with(403);
    assert!(claimed.body.contains("`127.0.0.1`") && claimed.body.contains("`http.behind_proxy`"), "{claimed:?}");
    // From its next request on it may come from elsewhere.
    let _changed = station.home.stn(&["api-key", "update", &far.id, "--unset", "sources"]).ok();
    let _good = station.stn(&far.text, &["agent", "list"]).ok();
}

#[test]
fn behind_a_proxy_a_key_comes_from_where_the_proxy_says() {
    let mut home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let near = home.json(&["api-key", "create", "near", "--sources", "127.0.0.1/32"]);
    let far = home.json(&["api-key", "create", "far", "--sources", "10.0.0.0/8"]);
    let text = |made: &Value| made["key"].as_str().unwrap().to_owned();
    let (near, far) = (text(&near), text(&far));
    let wrong = ApiKey::generate().unwrap();
    let serve = home.set("STN_HTTP_BEHIND_PROXY", "true").serve();
    let ask = |key: &str, from: &str| {
        Http::with_key(&serve.url, key).send("GET", "/api/v1/agents", &[("x-forwarded-for", from)], None)
    };
    let _taken = ask(&far, "127.0.0.1, 10.1.2.3").with(200);
    let elsewhere = ask(&far, "10.1.2.3, 192.0.2.1").with(403);
    assert!(elsewhere.body.contains("`192.0.2.1`") && !elsewhere.body.contains("behind_proxy"), "{elsewhere:?}");
    let _far = ask(&near, "192.0.2.1").with(403);
    let _near = ask(&near, "[::ffff:127.0.0.1]:5000").with(200);
    // Each address fails for itself, and the audit tells them apart.
    let fail = |from: &str| ask(wrong.reveal().expose_secret(), from).status;
    let failed = (0..=200).take_while(|_| fail("198.51.100.7") == 401).count();
    assert!((1..=200).contains(&failed), "{failed} failed before one was held back");
    assert_eq!((fail("198.51.100.7"), fail("198.51.100.8")), (429, 401));
    let sources = sources_of_failed_logins(&home.path().join("station.db"));
    assert_eq!(sources.last().unwrap(), "198.51.100.8");
    assert_eq!(sources.iter().filter(|source| *source == "198.51.100.7").count(), failed);
    // Whoever can't be told apart isn't let in; probes of the machine itself need no proxy.
    let unsaid = Http::with_key(&serve.url, &home.key()).get("/api/v1/agents").with(400).json();
    assert!(unsaid["message"].as_str().unwrap().contains("`X-Forwarded-For` is missing"), "{unsaid}");
    let malformed = ask(&near, "127.0.0.1, somebody").with(400).json();
    assert!(malformed["message"].as_str().unwrap().contains("`somebody`"), "{malformed}");
    let _healthy = Http::anonymous(&serve.url).get("/healthz").with(200);
    let shown = home.json(&["config", "get", "http.behind_proxy"]);
    assert_eq!(shown["keys"][0]["variable"], "STN_HTTP_BEHIND_PROXY", "{shown}");
}

#[test]
fn a_flag_says_as_the_setting_does_that_a_proxy_stands_in_front() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write("station.yml", "default_environment: development\nhttp: { behind_proxy: false }\n");
    let far = home.json(&["api-key", "create", "far", "--sources", "10.0.0.0/8"]);
    let serve = home.serve_with(&["--behind-proxy"]);
    let http = Http::with_key(&serve.url, far["key"].as_str().unwrap());
    let from = |from: &str| http.send("GET", "/api/v1/agents", &[("x-forwarded-for", from)], None);
    let _taken = from("127.0.0.1, 10.1.2.3").with(200);
    let _elsewhere = from("10.1.2.3, 192.0.2.1").with(403);
    let _unsaid = http.get("/api/v1/agents").with(400);
    let shown = home.json(&["config", "get", "http.behind_proxy"]);
    assert_eq!((&shown["keys"][0]["value"], &shown["keys"][0]["source"]), (&json!(true), &json!("flag")), "{shown}");
}

#[test]
fn a_key_is_good_for_90_days_and_at_most_365_and_is_replaced_by_a_second_one() {
    let station = Station::open();
    let until = |arguments: &[&str]| station.home.stn(&[&["api-key", "create", "ci", "--json"], arguments].concat());
    let day = |made: &Value, field: &str| made[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // The row is written a moment after the expiry was reckoned.
    let days = |made: &Value| (day(made, "expires_at").duration_since(day(made, "created_at")).as_hours() + 1) / 24;
    let (first, second) = (until(&[]).ok().json(), until(&["--expires-in", "365d"]).ok().json());
    assert_eq!((days(&first), days(&second)), (90, 365));
    for text in ["366d", "99999999999d"] {
        refused(&until(&["--expires-in", text]), 2, &[&format!("`{text}`"), "at most 365 days", "at most `365d`"]);
    }
    // Both are good until the first is deleted.
    let keys = [&first, &second].map(|made| made["key"].as_str().unwrap());
    for key in keys {
        let _good = station.stn(key, &["agent", "list"]).ok();
    }
    let _deleted = station.home.stn(&["api-key", "delete", first["id"].as_str().unwrap()]).ok();
    refused(&station.stn(keys[0], &["agent", "list"]), 3, &["was deleted"]);
    let _good = station.stn(keys[1], &["agent", "list"]).ok();
}

#[test]
fn a_source_that_fails_too_often_is_held_back_at_every_door_and_a_good_key_from_there_is_not() {
    let station = Station::open();
    let key = station.key(&json!({ "name": "ci" }));
    let wrong = ApiKey::generate().unwrap();
    let text = wrong.reveal().expose_secret().to_owned();
    let http = station.with(&text);
    let mut failed = 0;
    let held_back = loop {
        let answer = http.get("/api/v1/agents");
        if answer.status == 429 {
            break answer;
        }
        failed += 1;
        let _refused = answer.with(401);
        assert!(failed <= 200, "nothing is held back");
    };
    assert!(held_back.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=60).contains(&seconds)));
    assert_eq!(held_back.json()["kind"], "rate_limited");
    let _held_back = station.with(&text).send("POST", "/mcp", &[], Some("{}".into())).with(429);
    refused(&station.stn(&text, &["agent", "list"]), 6, &["too many requests without a valid key", "wait"]);
    // The audit has the failures, and not what was held back.
    assert_eq!(station.failed_logins(wrong.id()).len(), failed);
    let _good = station.stn(&key.text, &["agent", "list"]).ok();
    let _good = station.with(&key.text).get("/api/v1/agents").with(200);
}

#[test]
fn a_key_that_may_only_run_agents_is_given_the_answer_of_its_run() {
    let station = Station::open();
    let key = station.key(&json!({ "name": "runner", "scopes": ["agents:run"] }));
    let ran = station.stn(&key.text, &["agent", "run", "hello", "hi"]);
    assert!(ran.code == 0 && !ran.stdout.trim().is_empty(), "{ran:?}");
    assert!(ran.stderr.contains("`runs:read`") && !ran.stderr.contains("doesn't exist"), "{ran:?}");
    let told = station.stn(&key.text, &["agent", "run", "hello", "hi", "--json"]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["status"], "completed");
    assert_eq!(station.home.json(&["run", "list"])["items"].as_array().unwrap().len(), 2, "none was started twice");
}

#[test]
fn a_key_for_one_environment_is_told_how_to_go_there_and_one_that_could_do_nothing_is_refused() {
    let station = Station::open();
    let there = station.key(&json!({ "name": "there", "environments": ["production"] }));
    refused(&station.stn(&there.text, &["agent", "list"]), 3, &["`-e production`", "an admin can change that"]);
    let nothing = json!({ "name": "x", "environments": ["production"], "scopes": ["keys:write"] });
    let answer = station.owner.post("/api/v1/api-keys", &nothing).with(400);
    assert!(answer.body.contains("it could do nothing"), "{}", answer.body);
    let route = station.home.stn(&["--url", &format!("{}/api/v1", station.serve.url), "--key", &there.text, "status"]);
    refused(&route, 2, &["it names a route", "leave out `/api/v1`"]);
}

#[test]
fn a_users_keys_that_end_with_it_are_told_by_the_audit() {
    let station = Station::open();
    let key = station.key_of("anna", "viewer");
    let _deleted = station.home.stn(&["user", "delete", "anna"]).ok();
    let audited = station.home.read("audit/station.jsonl");
    let row = audited.lines().find(|line| line.contains("user.delete")).expect("a row");
    let row: Value = serde_json::from_str(row).unwrap();
    assert_eq!(row["details"]["keys"], json!([key.id]), "{row}");
}

#[test]
fn a_new_key_that_could_not_be_shown_is_told_with_how_to_end_it() {
    let station = Station::open();
    let mut create = station.home.program(env!("CARGO_BIN_EXE_stn"));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let told = create.args(["api-key", "create", "lost"]).stdout(full).output().unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    let keys = station.home.json(&["api-key", "list"]);
    let id = keys["items"].as_array().unwrap().iter().find(|key| key["name"] == "lost").unwrap()["id"].clone();
    assert!(told.contains(&format!("`stn api-key delete {}`", id.as_str().unwrap())), "{told}");
}
