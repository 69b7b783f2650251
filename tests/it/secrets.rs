//! Secrets through the doors: set without being shown, used by a child, a header and a provider, and kept under a key that a start checks
//! before it touches anything.

use crate::support::counter::Counter;
use crate::support::fake_llm::{FakeLlm, Turn};
use crate::support::home::{Output, TestHome, within};
use crate::support::http::{Http, Listening};
use crate::support::stdio::StdioClient;
use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const FIRST: &str = "tok-first-QkX7mZ";
const SECOND: &str = "tok-second-9vLpR2";

/// What a listener was sent as `Authorization`, by the first part of the path.
type Seen = Arc<Mutex<BTreeSet<(String, String)>>>;

/// A listener that lets nobody in and notes the keys they came with.
fn doorman() -> (Listening, Seen) {
    let seen = Seen::default();
    let noting = Arc::clone(&seen);
    let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap| {
        let part = uri.path().split('/').nth(1).unwrap_or_default().to_owned();
        let key = headers.get("authorization").map_or("", |key| key.to_str().unwrap()).to_owned();
        noting.lock().unwrap().insert((part, key));
        std::future::ready(StatusCode::UNAUTHORIZED)
    });
    (Listening::start(router), seen)
}

fn has_seen(seen: &Seen, part: &str, key: &str) -> bool {
    seen.lock().unwrap().contains(&(part.to_owned(), key.to_owned()))
}

/// The variable `TOKEN` of a living process.
fn token_of(pid: i64) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|variable| variable.strip_prefix("TOKEN=").map(str::to_owned))
}

fn set(home: &TestHome, name: &str, value: &str) -> Value {
    home.stn_with_input(&["secret", "set", name, "--json"], value).ok().json()
}

fn server(home: &TestHome, name: &str) -> Value {
    home.json(&["mcp-server", "get", name])
}

#[test]
fn a_secret_reaches_its_child_its_header_and_its_provider_and_is_shown_by_no_door() {
    let (gate, seen) = doorman();
    let settings = format!(
        "providers: {{ sealed: {{ api: openai_chat, base_url: '{}/model', api_key: '{{{{ secret.TOKEN }}}}' }} }}\n",
        gate.url
    );
    let home = TestHome::with_agent("asker", &settings);
    home.write_agent("development", "asker", "model: sealed/any\n");
    let counter = Counter::beside(&home);
    let mut local = counter.server(&json!({}));
    local["env"] = json!({ "TOKEN": "{{ secret.TOKEN }}" });
    let remote =
        json!({ "url": format!("{}/remote", gate.url), "headers": { "Authorization": "Bearer {{ secret.TOKEN }}" } });
    home.write_servers("development", &json!({ "counter": local, "remote": remote }));
    let serve = home.serve();

    let lacking = within("the server to say what it lacks", || {
        let server = server(&home, "counter");
        (server["state"] == "error").then_some(server)
    });
    let problem = lacking["problem"].as_str().unwrap();
    for part in ["`TOKEN`", "environments/development/test.json", "`stn secret set TOKEN -e development`"] {
        assert!(problem.contains(part), "{problem}");
    }
    let run = home.stn(&["agent", "run", "asker", "hi"]);
    assert!(run.code != 0 && run.stderr.contains("stn secret set TOKEN -e development"), "{run:?}");
    assert_eq!(counter.starts(), [0_i64; 0]);

    let view = set(&home, "TOKEN", &format!("{FIRST}\n"));
    assert_eq!(
        (&view["version"], &view["maskable"], &view["environment"]),
        (&json!(1), &json!(true), &json!("development"))
    );
    within("the server to be ready", || (server(&home, "counter")["state"] == "ready").then_some(()));
    let first = *counter.starts().last().unwrap();
    assert_eq!(token_of(first).as_deref(), Some(FIRST));
    within("the remote server to be asked", || has_seen(&seen, "remote", &format!("Bearer {FIRST}")).then_some(()));
    let refused = home.stn(&["agent", "run", "asker", "hi"]);
    assert!(has_seen(&seen, "model", &format!("Bearer {FIRST}")), "{refused:?}");

    assert_eq!(set(&home, "TOKEN", SECOND)["version"], 2);
    within("the server to start again", || {
        let latest = *counter.starts().last()?;
        (latest != first && token_of(latest)? == SECOND).then_some(())
    });
    within("the new header", || has_seen(&seen, "remote", &format!("Bearer {SECOND}")).then_some(()));

    let http = Http::new(&home, &serve);
    let stdio = StdioClient::connect(&home);
    let listed = [
        home.stn(&["secret", "list"]).ok().stdout,
        home.stn(&["secret", "list", "--json"]).ok().stdout,
        http.get("/api/v1/secrets").with(200).body,
        home.stn(&["call", "secret_list"]).ok().stdout,
        stdio.call("secret_list", &json!({})).to_string(),
    ];
    for text in &listed {
        assert!(text.contains("TOKEN") && !text.contains(FIRST) && !text.contains(SECOND), "{text}");
    }
    let shown = [server(&home, "counter"), server(&home, "remote"), home.json(&["mcp-server", "list"])];
    assert!(!json!(shown).to_string().contains(SECOND), "{shown:?}");
    for (file, (_, bytes)) in files(&home.path()) {
        assert!(!holds(&bytes, FIRST) && !holds(&bytes, SECOND), "{} holds a value", file.display());
    }
    let rest = http.post("/api/v1/secrets", &json!({ "name": "OTHER", "value": "over rest, also kept" })).with(200);
    assert!(!rest.body.contains("over rest"), "{}", rest.body);
    let _gone = http.delete("/api/v1/secrets/OTHER").with(200);
    let missing = http.delete("/api/v1/secrets/OTHER").with(404);
    assert!(missing.body.contains("`OTHER`"), "{}", missing.body);
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn a_model_sets_no_secret_and_a_command_line_carries_none() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let stdio = StdioClient::connect(&home);
    let tools = stdio.request("tools/list", &json!({})).to_string();
    assert!(!tools.contains("secret_set") && !tools.contains("secret_delete"), "{tools}");
    let call = json!({ "name": "secret_set", "arguments": { "name": "TOKEN", "value": FIRST } });
    let refused = stdio.request("tools/call", &call).to_string();
    assert!(refused.contains("for people") && !refused.contains(FIRST), "{refused}");
    for arguments in [
        &["secret", "set", "TOKEN", FIRST][..],
        &["secret", "set", "TOKEN", "--value", FIRST],
        &["call", "secret_set", r#"{"name":"TOKEN","value":"tok-first-QkX7mZ"}"#],
    ] {
        let Output { code, stdout, stderr } = home.stn(arguments);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("command line") && !stderr.contains(FIRST) && stdout.is_empty(), "{stderr}");
    }
    let empty = home.stn_with_input(&["secret", "set", "TOKEN"], "");
    assert!(empty.code == 2 && empty.stderr.contains("no value"), "{empty:?}");
    let long = home.stn_with_input(&["secret", "set", "TOKEN"], &"x".repeat(70_000));
    assert!(long.code == 2 && long.stderr.contains("70000 bytes, and a secret has 1 to 65536"), "{long:?}");
    let bad_name = home.stn_with_input(&["secret", "set", "a-b"], FIRST);
    assert!(bad_name.code == 2 && bad_name.stderr.contains("`a-b`"), "{bad_name:?}");
    let short = home.stn_with_input(&["secret", "set", "PIN", "-e", "production"], "1234567");
    assert!(short.code == 2 && short.stderr.contains("7 bytes") && !short.stderr.contains("1234567"), "{short:?}");
    let flagged = home.stn_with_input(&["secret", "set", "PIN", "--json"], "1234567").ok().json();
    assert_eq!(flagged["maskable"], false);
    let from_stdin = format!("{{\"name\":\"TOKEN\",\"value\":\"{FIRST}\"}}");
    let set = home.stn_with_input(&["call", "secret_set", "-"], &from_stdin).ok().json();
    assert_eq!(set["name"], "TOKEN");
}

/// Every file below `root` that isn't a socket: its mode and its bytes.
fn files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() => {
                let mode = entry.metadata().unwrap().permissions().mode();
                found.insert(path.clone(), (mode, fs::read(&path).unwrap()));
            }
            _ => {}
        }
    }
    found
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Each way to start a station must end with 78, say `parts`, and leave every byte of the home as it is.
fn refused_untouched(home: &TestHome, parts: &[&str]) {
    let before = files(&home.path());
    let in_background: [&[&str]; 2] = [&["agent", "run", "hello", "hi"], &["stdio"]];
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["secret", "list"]].iter().chain(&in_background) {
        let Output { code, stderr, .. } = home.stn(command);
        assert_eq!(code, 78, "{command:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{command:?}: `{part}` is missing in: {stderr}");
        }
        assert!(files(&home.path()) == before, "{command:?} has changed the home: {stderr}");
    }
}

#[test]
fn a_value_that_nothing_can_carry_is_refused_and_one_that_a_header_cannot_is_named_with_its_server() {
    let home = TestHome::new();
    let nul = home.stn_with_input(&["secret", "set", "TOKEN"], "one\0two-three");
    assert!(nul.code == 2 && nul.stderr.contains("NUL character"), "{nul:?}");
    assert_eq!(home.json(&["secret", "list"])["items"], json!([]));
    let pem = "-----BEGIN KEY-----\nMIIB-not-really\n-----END KEY-----\n";
    let _set = home.stn_with_input(&["secret", "set", "PEM"], pem).ok();
    home.write_servers(
        "development",
        &json!({ "far": { "url": "http://127.0.0.1:9/mcp", "headers": { "Authorization": "Bearer {{ secret.PEM }}" } } }),
    );
    let _serve = home.serve();
    let told = within("the server to be refused", || {
        let problem = home.json(&["mcp-server", "get", "far"])["problem"].as_str().map(str::to_owned);
        problem.filter(|problem| problem.contains("PEM"))
    });
    for part in ["server `far`", "test.json", "`PEM`", "line break", "stn secret set PEM"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("MIIB"), "{told}");
}

#[test]
fn a_wrong_or_exposed_key_ends_a_start_with_78_and_changes_nothing() {
    let mut home = TestHome::new();
    let _set = set(&home, "TOKEN", FIRST);
    let (master, root, secrets) =
        (home.path().join("secrets/master.key"), home.path().join("secrets/root.json"), home.path().join("secrets"));
    let key = fs::read(&master).unwrap();

    home.write("station.yml", "log: { file: station.log }\n");
    fs::write(&master, [7; 32]).unwrap();
    refused_untouched(&home, &["master.key", "is not the one", "root.json"]);
    fs::write(&master, &key).unwrap();
    for (path, wrong, right) in [(&master, 0o644, 0o600), (&root, 0o644, 0o600), (&secrets, 0o750, 0o700)] {
        mode(path, wrong);
        refused_untouched(&home, &[path.to_str().unwrap(), "chmod"]);
        mode(path, right);
    }
    let elsewhere = home.beside().join("elsewhere");
    fs::rename(&master, &elsewhere).unwrap();
    refused_untouched(&home, &["master.key", "missing"]);
    std::os::unix::fs::symlink(&elsewhere, &master).unwrap();
    refused_untouched(&home, &["master.key", "symlink"]);
    fs::remove_file(&master).unwrap();

    mode(&elsewhere, 0o644);
    home.set("STN_MASTER_KEY_FILE", elsewhere.to_str().unwrap());
    refused_untouched(&home, &["elsewhere", "mode 644", "chmod 600"]);
    mode(&elsewhere, 0o600);
    assert_eq!(home.json(&["secret", "list"])["items"][0]["name"], "TOKEN", "the key may lie elsewhere");
    home.set("STN_MASTER_KEY_FILE", "");

    fs::copy(&elsewhere, &master).unwrap();
    let text = fs::read_to_string(&root).unwrap();
    fs::write(&root, "{").unwrap();
    refused_untouched(&home, &["root.json", "backup"]);
    fs::remove_file(&root).unwrap();
    let lost = home.stn(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(lost.code == 78 && lost.stderr.contains("root.json is missing"), "{lost:?}");
    assert!(!root.exists(), "a new root could open nothing");
    fs::write(&root, text).unwrap();
    mode(&root, 0o600);
    assert_eq!(home.json(&["secret", "list"])["items"][0]["maskable"], true, "it opens again");
}

#[test]
fn a_passphrase_keeps_the_home_and_every_start_needs_it() {
    let mut home = TestHome::new();
    let file = home.beside().join("passphrase");
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        mode(&file, 0o600);
    };
    let path = file.to_str().unwrap();
    write("too short\n");
    let short = home.stn(&["init", "--passphrase-file", path]);
    assert!(short.code == 78 && short.stderr.contains("9 bytes; it needs 12"), "{short:?}");
    assert!(!home.path().exists(), "a passphrase that can't be used leaves no home behind");
    let nobody = home.stn(&["init", "--passphrase"]);
    assert!(nobody.code == 2 && nobody.stderr.contains("no terminal"), "{nobody:?}");

    write("correct horse battery\n");
    let made = home.stn(&["init", "--passphrase-file", path]).ok();
    assert!(made.stderr.contains("STN_PASSPHRASE_FILE") && !made.stderr.contains("agent run"), "{made:?}");
    let root: Value = serde_json::from_str(&home.read("secrets/root.json")).unwrap();
    assert_eq!((&root["kdf"], &root["iterations"]), (&json!("pbkdf2-hmac-sha256"), &json!(600_000)));
    assert!(!home.path().join("secrets/master.key").exists());
    let unasked = home.stn(&["secret", "list"]);
    assert!(unasked.code == 78 && unasked.stderr.contains("STN_PASSPHRASE_FILE"), "{unasked:?}");
    let background = home.stn(&["agent", "run", "hello", "hi"]);
    assert!(background.code == 78 && background.stderr.contains("nobody is here to be asked"), "{background:?}");

    home.set("STN_PASSPHRASE_FILE", path);
    let _set = set(&home, "TOKEN", FIRST);
    write("wrong horse battery\n");
    refused_untouched(&home, &["passphrase", "is not the one"]);
    write("correct horse battery");
    assert_eq!(home.json(&["secret", "list"])["items"][0]["name"], "TOKEN");
    assert!(!home.read("secrets/root.json").contains("horse"));
    // This command runs where the file is; the background owner that it starts does not.
    home.set("STN_PASSPHRASE_FILE", "passphrase");
    assert_eq!(home.json(&["agent", "run", "hello", "hi"])["status"], "completed");
    // What the command has stretched, the owner needn't stretch again: it was told where it is, and not what.
    let arguments = fs::read(format!("/proc/{}/cmdline", home.owner().unwrap())).unwrap();
    assert!(holds(&arguments, "--stretched-on-stdin") && !holds(&arguments, "horse"));
}

#[test]
fn a_secret_that_is_a_word_of_the_stations_own_is_refused() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    for own in [
        "completed",
        "complete",
        "  completed ",
        "first line\nenvironment_list\n",
        &"ab".repeat(100),
        &format!("the first line\n{}", "ab".repeat(100)),
        "environment",
        "agent_create",
        "production",
        "anthropic",
        " \t      ",
    ] {
        let refused = home.stn_with_input(&["secret", "set", "WEAK", "--json"], own);
        assert_eq!(refused.code, 2, "`{own}`: {refused:?}");
        let why = if own.contains("abab") { "repeats its beginning" } else { "word that Station itself uses" };
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    assert_eq!(home.json(&["secret", "list"])["items"], json!([]));
    assert_eq!(home.json(&["agent", "run", "hello", "hi"])["status"], "completed");
}

#[test]
fn a_value_that_is_part_of_a_name_is_refused_told_of_when_it_becomes_one_and_freed_with_its_secret() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write_agent("development", "deploy-bot", "input: { schema: { passphrase: string } }\n");
    home.write_servers("development", &Counter::beside(&home).servers(&json!({})));
    let _serve = home.serve();
    within("the server", || (server(&home, "counter")["state"] == "ready").then_some(()));
    for (name, value, what) in [
        ("BOT", "deploy-bot", "the name of agent `deploy-bot`"),
        ("FIELD", "passphrase", "a field of an agent: `passphrase`"),
        ("TOOL", "counter__", "the name of tool `counter__"),
        ("postgres", "postgres", "the name of secret `postgres`"),
    ] {
        let refused = home.stn_with_input(&["secret", "set", name], value);
        assert!(refused.code == 2 && refused.stderr.contains(what), "{refused:?}");
    }
    let _set = set(&home, "LATER", "later-bot");
    assert_eq!(home.json(&["config", "check"])["warnings"], 0);
    home.write_agent("development", "later-bot", "");
    let _synced = home.stn(&["sync"]).ok();
    let report = home.json(&["config", "check"]);
    let warning = &report["problems"][0];
    assert_eq!((&report["warnings"], &warning["file"]), (&json!(1), &json!("secret LATER of environment development")));
    assert!(
        warning["message"].as_str().unwrap().contains("name of agent") && !warning.to_string().contains("later-bot")
    );
    let names = || home.json(&["agent", "list"])["items"].to_string();
    assert!(!names().contains("later-bot"), "{}", names());
    let _another = set(&home, "LATER", SECOND);
    assert!(names().contains("later-bot"), "{}", names());
    assert_eq!(home.json(&["config", "check"])["warnings"], 0);
    let _deleted = home.stn(&["secret", "delete", "LATER"]).ok();
    let kept = home.stn(&["agent", "run", "hello", SECOND, "--json"]).ok().stdout;
    assert!(!kept.contains(SECOND), "what isn't part of a name stays known: {kept}");
}

#[test]
fn setting_a_secret_to_what_it_is_leaves_its_servers_alone() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let counter = Counter::beside(&home);
    let mut local = counter.server(&json!({}));
    local["env"] = json!({ "TOKEN": "{{ secret.TOKEN }}" });
    home.write_servers("development", &json!({ "counter": local }));
    let _serve = home.serve();
    let _set = set(&home, "TOKEN", FIRST);
    within("the server", || (server(&home, "counter")["state"] == "ready").then_some(()));
    let starts = counter.starts();
    assert_eq!(set(&home, "TOKEN", FIRST)["version"], 2);
    assert_eq!((&server(&home, "counter")["state"], counter.starts()), (&json!("ready"), starts.clone()));
    let _set = set(&home, "TOKEN", SECOND);
    within("the server to start again", || (counter.starts().len() > starts.len()).then_some(()));
}

#[test]
fn a_run_asks_each_turn_with_the_key_as_it_is_then() {
    let none = || Turn::calling("nothing", &json!({}));
    let llm = FakeLlm::start([none().held(), none(), none()]);
    let settings = llm.settings().replace("api_key: test", "api_key: '{{ secret.MODEL }}'");
    let home = TestHome::with_agent("asker", &settings);
    let _set = set(&home, "MODEL", FIRST);
    let queued = |input: &str| {
        let queued = home.json(&["agent", "run", "asker", input, "--detach"]);
        queued["id"].as_str().unwrap().to_owned()
    };
    let run = queued("go");
    llm.wait_for(0);
    let _set = set(&home, "MODEL", SECOND);
    llm.release();
    let _ended = home.run_in(&run, "failed");
    assert_eq!(llm.keys(0), [format!("Bearer {FIRST}")]);
    assert_eq!((llm.keys(1), llm.keys(2)), (vec![format!("Bearer {SECOND}")], vec![format!("Bearer {SECOND}")]));

    let held = FakeLlm::start([none().held(), Turn::saying("Done.")]);
    home.write("station.yml", &held.settings().replace("api_key: test", "api_key: '{{ secret.MODEL }}'"));
    home.kill_owner();
    let run = queued("once more");
    held.wait_for(0);
    let _deleted = home.stn(&["secret", "delete", "MODEL"]).ok();
    held.release();
    let failed = home.run_in(&run, "failed");
    assert!(failed.to_string().contains("stn secret set MODEL"), "{failed}");
    assert_eq!(held.asked(1), 0, "a deleted key is sent nowhere");
}

#[test]
fn a_key_that_is_the_name_of_its_provider_is_a_word_and_no_secret() {
    let llm = FakeLlm::start([Turn::saying("Hello.")]);
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write(
        "station.yml",
        &format!(
            "providers: {{ lm-studio: {{ api: openai_chat, base_url: '{}/v1', api_key: lm-studio }} }}\n\
             environments: {{ development: {{ model: lm-studio/m1 }} }}\n",
            llm.url
        ),
    );
    let run = home.json(&["agent", "run", "hello", "is lm-studio up?"]);
    assert_eq!((&run["status"], &run["model"]["provider"]), (&json!("completed"), &json!("lm-studio")), "{run}");
    assert_eq!(home.json(&["run", "list"])["items"][0]["id"], run["id"]);
    assert!(home.json(&["config", "get"])["keys"].is_array());
}

#[test]
fn a_secret_hides_itself_in_its_own_environment_and_leaves_the_audit_readable() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let _set = set(&home, "BLIND", "forecaster");
    home.write_agent("development", "forecaster", "");
    let _synced = home.stn(&["sync"]).ok();
    let _set = home.stn_with_input(&["secret", "set", "DATABASE", "-e", "production"], "Winter2026!prod-db").ok();
    let _paused = home.stn(&["agent", "pause", "forecaster"]).ok();
    let audited = home.read("audit/development.jsonl");
    let pause = audited.lines().find(|line| line.contains("agent.pause")).expect("a row");
    let pause: Value = serde_json::from_str(pause).unwrap();
    assert_eq!(pause["target"], "forecaster", "{pause}");
    // Who may not look at production learns nothing of its secrets by guessing.
    let created =
        home.json(&["call", "agent_create", r#"{"name":"guess","prompt":"Winter2026!prod-db and forecaster"}"#]);
    assert_eq!(created["prompt"], "Winter2026!prod-db and [redacted:BLIND]");
    let there = home.json(&[
        "call",
        "agent_create",
        r#"{"name":"guess","prompt":"Winter2026!prod-db","environment":"production"}"#,
    ]);
    assert_eq!(there["prompt"], "[redacted:DATABASE]");
}

#[test]
fn what_was_kept_before_it_became_a_secret_leaves_by_no_stream() {
    let llm = FakeLlm::start([Turn::saying("It says later-a-secret-7Fq.")]);
    let home = TestHome::with_agent("reader", &llm.settings());
    let run = home.json(&["agent", "run", "reader", "go"]);
    let _set = set(&home, "LATER", "later-a-secret-7Fq");
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let path = format!("/api/v1/runs/{}/events", run["id"].as_str().unwrap());
    let streamed: Vec<String> = http.events(&path, None).map(|event| event.data.to_string()).collect();
    let paged = http.get(&path).with(200).body;
    for told in [streamed.concat(), paged] {
        assert!(told.contains("[redacted:LATER]") && !told.contains("later-a-secret-7Fq"), "{told}");
    }
}

#[test]
fn a_key_without_its_quotes_or_at_the_wrong_place_is_not_repeated() {
    for wrong in [
        "{ p: { api: openai_chat, base_url: 'http://127.0.0.1:9/v1', api_key: 1234567890123 } }",
        "{ p: sk-misplaced-1234567890123 }",
    ] {
        let home = TestHome::new();
        home.write("station.yml", &format!("providers: {wrong}\n"));
        let refused = home.stn(&["status"]);
        assert!(refused.code == 78 && !refused.stderr.contains("1234567890123"), "{refused:?}");
        assert!(refused.stderr.contains("station.yml:1:"), "{refused:?}");
    }
}

#[test]
fn neither_a_station_nor_its_children_leave_a_core_file() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write_servers("development", &Counter::beside(&home).servers(&json!({})));
    // As far up as this machine lets it be, which has to be something to be taken down.
    let mut shell = home.program("sh");
    shell.args(["-c", "ulimit -c \"$(ulimit -Hc)\" && [ \"$(ulimit -c)\" != 0 ] && exec \"$0\" tool list --json"]);
    shell.arg(env!("CARGO_BIN_EXE_stn"));
    let _spawned = crate::support::home::run(shell, "").ok();
    let owner = home.owner().expect("the background owner");
    let ready = || (server(&home, "counter")["state"] == "ready").then_some(());
    within("the server", ready);
    let child_of_owner = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{owner}"))
    };
    let child = within("the server's process", || home.processes().into_iter().find(child_of_owner));
    for pid in [owner, child] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
}

#[test]
fn what_was_asked_before_it_became_a_secret_is_not_told_when_it_is_answered() {
    let ask = Turn::calling("ask_user", &json!({ "question": "is it later-a-secret-7Fq?" }));
    let llm = FakeLlm::start([ask, Turn::saying("Done.")]);
    let home = TestHome::with_agent_using(&[], "asker", &llm.settings());
    home.write_agent("development", "asker", "tools: [ask_user]\n");
    let _synced = home.stn(&["sync"]).ok();
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let run = http.post("/api/v1/agents/asker/queue", &json!({ "input": "go" })).with(202).json();
    let id = run["id"].as_str().unwrap();
    let _parked = home.run_in(id, "input_required");
    let _set = set(&home, "LATER", "later-a-secret-7Fq");
    let mut events = http.events(&format!("/api/v1/runs/{id}/events"), None);
    let asked = events.find(|event| event.name == "request.opened").expect("the request").data.to_string();
    assert!(asked.contains("[redacted:LATER]"), "{asked}");
    let _answered = home.stn(&["run", "respond", id, "yes"]).ok();
    let rest: Vec<String> = events.map(|event| event.data.to_string()).collect();
    assert!(rest.concat().contains("[redacted:LATER]") && !rest.concat().contains("later-a-secret-7Fq"), "{rest:?}");
}

#[test]
fn a_providers_key_that_is_a_secret_of_one_environment_is_none_of_another() {
    let home = TestHome::new();
    home.write(
        "station.yml",
        "providers: { sealed: { api: openai_chat, base_url: 'http://127.0.0.1:9/v1', api_key: '{{ secret.PKEY }}' } }\n\
         environments: { production: { model: sealed/m } }\n",
    );
    let _created = home.stn(&["init"]).ok();
    let _set = home.stn_with_input(&["secret", "set", "PKEY", "-e", "production"], "payroll-swordfish").ok();
    let _serve = home.serve();
    let _built = home.stn(&["status"]).ok();
    let _tried = home.stn(&["agent", "run", "hello", "hi", "-e", "production"]);
    let guessed = home.stn(&["agent", "get", "payroll-swordfish"]);
    assert!(guessed.code == 4 && guessed.stderr.contains("`payroll-swordfish`"), "{guessed:?}");
    let there = home.stn(&["agent", "get", "payroll-swordfish", "-e", "production"]);
    assert!(there.code == 4 && !there.stderr.contains("payroll-swordfish"), "{there:?}");
}
