//! Input that can't work, through the doors: the error names the value, the reason and the fix; nothing is changed by it; the rest works.

use crate::support::home::{Output, Serve, TestHome};
use crate::support::http::{Answer, Http};
use crate::support::mcp_client::{RawStdio, result, tool_error};
use crate::support::store_dump::Dump;
use serde_json::{Value, json};

/// A served home, with one client per door.
struct Doors {
    http: Http,
    mcp: RawStdio,
    _serve: Serve,
    home: TestHome,
}

impl Doors {
    fn open() -> Self {
        let home = TestHome::new();
        let _created = home.stn(&["init"]).ok();
        Self::of(home)
    }

    fn of(home: TestHome) -> Self {
        let serve = home.serve();
        let (http, mcp) = (Http::new(&home, &serve), RawStdio::initialized(&home, &["--tools", "all"]));
        Self { http, mcp, _serve: serve, home }
    }

    /// Does `act`, which must leave files and stores as they were, and the sample agent in working order.
    fn harmless(mut self, act: impl FnOnce(&mut Self)) {
        let before = Dump::of(&self.home.path());
        act(&mut self);
        before.assert_same(&Dump::of(&self.home.path()));
        let ran = self.home.json(&["agent", "run", "hello", "What does README.md say?"]);
        assert_eq!(ran["status"], "completed", "{ran}");
    }
}

/// The command said no: nothing on stdout, and on stderr all of `parts`.
#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    said(&output.stderr, parts);
}

#[track_caller]
fn said(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not said in: {}", text.chars().take(2_000).collect::<String>());
    }
}

/// REST said no, with this status.
#[track_caller]
fn declined(answer: Answer, status: u16, parts: &[&str]) {
    let document = answer.with(status).json();
    assert!(document["kind"].is_string(), "{document}");
    said(&format!("{} {}", document["message"], document["hint"]).replace("\\\"", "\""), parts);
}

/// A tool said no, over MCP.
#[track_caller]
fn errors(answer: &Value, kind: &str, parts: &[&str]) {
    let error = tool_error(answer);
    assert_eq!(error["kind"], kind, "{error}");
    said(&format!("{} {}", error["message"], error["hint"]), parts);
}

#[test]
fn an_unknown_agent() {
    Doors::open().harmless(|doors| {
        let parts = ["agent `helo` doesn't exist", "`development`", "did you mean `hello`?"];
        refused(&doors.home.stn(&["agent", "run", "helo", "x"]), 4, &parts);
        refused(&doors.home.stn(&["agent", "get", "helo"]), 4, &parts);
        declined(doors.http.post("/api/v1/agents/helo/queue", &json!({ "input": "x" })), 404, &parts);
        errors(&doors.mcp.call("agent_run", &json!({ "agent": "helo", "input": "x" })), "not_found", &parts);
        refused(&doors.home.stn(&["agent", "run", "99", "x"]), 4, &["agent `99` doesn't exist", "stn agent list"]);
        refused(&doors.home.stn(&["agent", "get", "../hello"]), 2, &["`../hello`"]);
    });
}

#[test]
fn an_unknown_provider() {
    Doors::open().harmless(|doors| {
        let parts = ["provider `nope` is not known", "use one of openai, anthropic", "`providers` in station.yml"];
        refused(&doors.home.stn(&["agent", "run", "hello", "x", "--model", "nope/x"]), 2, &parts);
        let given = json!({ "agent": "hello", "input": "x", "model": "nope/x" });
        let queued = json!({ "input": "x", "model": "nope/x" });
        declined(doors.http.post("/api/v1/agents/hello/queue", &queued), 400, &parts);
        errors(&doors.mcp.call("agent_run", &given), "invalid_input", &parts);
    });
}

#[test]
fn an_error_in_json_is_the_same_error() {
    Doors::open().harmless(|doors| {
        let refused = doors.home.stn(&["agent", "run", "helo", "x", "--json"]);
        assert_eq!((refused.code, refused.stdout.as_str()), (4, ""));
        let report: Value = serde_json::from_str(&refused.stderr).unwrap();
        let report = report.get("error").unwrap_or(&report);
        assert_eq!((&report["kind"], &report["field"]), (&json!("not_found"), &json!("agent")), "{report}");
        assert_eq!(report["hint"], "did you mean `hello`?");
    });
}

const BROKEN: &str = "---\nmax_steps: 3\ntools: [\"filesystem__*\"\n---\nBe brief.\n";

#[test]
fn broken_yaml() {
    let doors = Doors::open();
    doors.home.write("environments/development/agents/broken.prompt", BROKEN);
    doors.harmless(|doors| {
        let synced = doors.home.stn(&["sync"]);
        assert_eq!(synced.code, 1, "{synced:?}");
        said(&synced.stdout, &["error", "environments/development/agents/broken.prompt"]);
        let plan = doors.http.post("/api/v1/environments/development/sync", &json!({})).with(200).json();
        let over_mcp = doors.mcp.call("environment_sync", &json!({}));
        for plan in [&plan, &result(&over_mcp)["structuredContent"]] {
            let items = plan["items"].as_array().unwrap();
            let broken = items.iter().find(|item| item["name"] == "broken").unwrap();
            assert_eq!(broken["action"], "error", "{broken}");
            assert_eq!(broken["problem"]["file"], "environments/development/agents/broken.prompt", "{broken}");
            assert_eq!(broken["problem"]["line"], 3, "{broken}");
            assert!(items.iter().any(|item| item["name"] == "hello" && item["action"] == "unchanged"), "{plan}");
        }
        let told = doors.home.stn(&["agent", "run", "broken", "x"]);
        refused(&told, 2, &["environments/development/agents/broken.prompt:3:"]);
    });
}

#[test]
fn picoschema_nonsense() {
    let doors = Doors::open();
    let file = "environments/development/agents/vague.prompt";
    doors.home.write(file, "---\ninput:\n  schema:\n    b: numbr\n---\nBe brief.\n");
    doors.harmless(|doors| {
        let given = json!({ "name": "unclear", "prompt": "Be brief.", "input_schema": { "a": "strng" } });
        let parts = ["unclear.prompt", "`strng`", "did you mean `string`?"];
        let schema = given["input_schema"].to_string();
        refused(&doors.home.stn(&["agent", "create", "unclear", "Be brief.", "--input-schema", &schema]), 2, &parts);
        declined(doors.http.post("/api/v1/agents", &given), 400, &parts);
        errors(&doors.mcp.call("agent_create", &given), "invalid_input", &parts);
        let update = json!({ "agent": "hello", "output_schema": { "a(list)": "string" } });
        errors(
            &doors.mcp.call("agent_update", &update),
            "invalid_input",
            &["hello.prompt", "`list` is none of array, object, enum"],
        );

        let synced = doors.home.stn(&["sync"]);
        assert_eq!(synced.code, 1, "{synced:?}");
        said(&format!("{}{}", synced.stdout, synced.stderr), &[file, "`numbr`", "did you mean `number`?"]);
        let plan = doors.http.post("/api/v1/environments/development/sync", &json!({})).with(200).json();
        let over_mcp = doors.mcp.call("environment_sync", &json!({}));
        for plan in [&plan, &result(&over_mcp)["structuredContent"]] {
            let items = plan["items"].as_array().unwrap();
            let vague = items.iter().find(|item| item["name"] == "vague").unwrap();
            assert_eq!((&vague["action"], &vague["problem"]["line"]), (&json!("error"), &json!(4)), "{vague}");
            let others = items.iter().filter(|item| item["name"] != "vague");
            assert!(others.into_iter().all(|item| item["action"] == "unchanged"), "{plan}");
        }
        refused(&doors.home.stn(&["agent", "run", "vague", "x"]), 2, &[&format!("{file}:4:"), "`numbr`"]);
    });
}

#[test]
fn an_agent_whose_file_breaks_keeps_its_last_good_revision() {
    let doors = Doors::open();
    let before = doors.home.json(&["agent", "get", "hello"]);
    doors.home.write("environments/development/agents/hello.prompt", BROKEN);
    doors.harmless(|doors| {
        assert_eq!(doors.home.stn(&["sync"]).code, 1);
        let after = doors.home.json(&["agent", "get", "hello"]);
        assert_eq!((&after["state"], &after["revision"]), (&json!("error"), &before["revision"]));
        said(after["problem"].as_str().unwrap(), &["environments/development/agents/hello.prompt:3:"]);
    });
}

#[test]
fn settings_that_make_no_sense() {
    for (text, parts) in [
        ("http:\n  lisen: 127.0.0.1:1\n", ["station.yml:2", "`http.lisen`", "listen"]),
        ("runs:\n  workers: many\n", ["station.yml:2", "`runs.workers`", "many"]),
        (
            "http:\n  allowed_origins: [\"https://app.example/chat\"]\n",
            ["station.yml:2", "`http.allowed_origins.0`: `https://app.example/chat` is no origin", "without a path"],
        ),
        ("http:\n  allowed_hosts: [\"*.example\"]\n", ["station.yml:2", "`http.allowed_hosts.0`", "no wildcards"]),
        ("default_environment: nowhere\n", ["station.yml", "nowhere", "environments/nowhere"]),
        (
            "environments:\n  prodution: { auto_accept_commands: false }\n",
            ["station.yml:2", "`environments.prodution`", "did you mean `production`?"],
        ),
    ] {
        let home = TestHome::new();
        let _created = home.stn(&["init"]).ok();
        let good = home.read("station.yml");
        let _listed = home.stn(&["agent", "list"]).ok();
        home.write("station.yml", text);
        let before = Dump::of(&home.path());
        for command in [&["agent", "list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            refused(&home.stn(command), 78, &parts);
        }
        before.assert_same(&Dump::of(&home.path()));
        home.write("station.yml", &good);
        let _ran = home.stn(&["agent", "run", "hello", "What is here?"]).ok();
    }
}

#[test]
fn a_key_file_that_is_not_there_or_that_others_may_read() {
    let mut home = TestHome::new();
    let file = home.beside().join("station.key");
    home.set("STN_MASTER_KEY_FILE", file.to_str().unwrap());
    let makes_no_home = |home: &TestHome, parts: &[&str]| {
        for command in [&["agent", "list"][..], &["serve", "--listen", "127.0.0.1:0"], &["init"], &["stdio"]] {
            refused(&home.stn(command), 78, parts);
            assert!(
                !home.path().exists(),
                "`stn {command:?}` has left a home that its key can't be chosen for any more"
            );
        }
    };
    makes_no_home(&home, &["station.key` doesn't exist"]);
    let write = |bytes: &[u8], mode: u32| {
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    write(&[7; 32], 0o644);
    makes_no_home(&home, &["station.key` has mode 644", "chmod 600"]);
    write(b"no key", 0o600);
    makes_no_home(&home, &["station.key` holds no key", "openssl rand"]);
    home.set("STN_MASTER_KEY_FILE", "");
    home.set("STN_PASSPHRASE_FILE", file.to_str().unwrap());
    makes_no_home(&home, &["has 6 bytes; it needs 12"]);
    write(b"correct horse battery", 0o600);
    let _made = home.stn(&["init"]).ok();
    assert!(!home.path().join("secrets/master.key").exists());
}

#[test]
fn an_unknown_tool() {
    Doors::open().harmless(|doors| {
        let parts = ["tool `agent_rum` doesn't exist", "did you mean `agent_run`?"];
        refused(&doors.home.stn(&["call", "agent_rum", "{}"]), 4, &parts);
        let parts = ["tool `filesystem__read_text_file` doesn't exist", "`stn tool call filesystem__read_text_file`"];
        refused(&doors.home.stn(&["call", "filesystem__read_text_file", "{}"]), 4, &parts);
        let unknown = doors.mcp.call("agent_rum", &json!({}));
        assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
        let parts = ["`filesystem__raed_text_file`", "`filesystem__read_text_file`"];
        refused(&doors.home.stn(&["tool", "call", "filesystem__raed_text_file", "{}"]), 4, &parts);
        declined(doors.http.post("/api/v1/tools/filesystem__raed_text_file/call", &json!({})), 404, &parts);
        errors(&doors.mcp.call("tool_call", &json!({ "tool": "filesystem__raed_text_file" })), "not_found", &parts);
        refused(&doors.home.stn(&["tool", "get", "filesystem__raed_text_file"]), 4, &parts);
    });
}

const NEEDY: &str = r#"{
  "mcpServers": {
    "needy": {
      "command": "true",
      "args": ["{{ .NO_SUCH_VARIABLE }}"]
    }
  }
}
"#;

#[test]
fn a_missing_variable() {
    let doors = Doors::open();
    doors.home.write("environments/development/test.json", NEEDY);
    doors.harmless(|doors| {
        let synced = doors.home.stn(&["sync"]);
        assert_eq!(synced.code, 1, "{synced:?}");
        let parts = ["NO_SUCH_VARIABLE", "environments/development/test.json", "needy"];
        said(&synced.stdout, &parts);
        let plan = doors.http.post("/api/v1/environments/development/sync", &json!({})).with(200).json();
        let over_mcp = doors.mcp.call("environment_sync", &json!({ "dry_run": true }));
        for plan in [&plan, &result(&over_mcp)["structuredContent"]] {
            let items = plan["items"].as_array().unwrap();
            let needy = items.iter().find(|item| item["name"] == "needy").unwrap();
            assert_eq!(needy["action"], "error", "{needy}");
            let problem = &needy["problem"];
            let place = (&problem["file"], &problem["line"]);
            assert_eq!(place, (&json!("environments/development/test.json"), &json!(5)), "{needy}");
            said(problem["message"].as_str().unwrap(), &["NO_SUCH_VARIABLE"]);
        }
    });
}

/// A `station.yml` with a provider whose key is a secret, which nothing uses by default.
const KEPT_SECRET: &str = r#"
providers:
  vault: { api: openai_chat, base_url: "http://127.0.0.1:1/v1", api_key: "{{ secret.VAULT_KEY }}" }
"#;

#[test]
fn a_secret_that_a_provider_needs() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write("station.yml", KEPT_SECRET);
    Doors::of(home).harmless(|doors| {
        let parts = ["`providers.vault.api_key`", "secret `VAULT_KEY`", "stn secret set VAULT_KEY -e development"];
        refused(&doors.home.stn(&["agent", "run", "hello", "x", "--model", "vault/m"]), 6, &parts);
        let given = json!({ "agent": "hello", "input": "x", "model": "vault/m" });
        errors(&doors.mcp.call("agent_run", &given), "unavailable", &parts);
        let queued = doors.http.post("/api/v1/agents/hello/queue", &json!({ "input": "x", "model": "vault/m" }));
        declined(queued, 503, &parts);
    });
}

#[test]
fn a_secret_on_a_servers_command_line() {
    let doors = Doors::open();
    doors
        .home
        .write("environments/development/test.json", &NEEDY.replace("{{ .NO_SUCH_VARIABLE }}", "{{ secret.TOKEN }}"));
    doors.harmless(|doors| {
        assert_eq!(doors.home.stn(&["sync"]).code, 1);
        let synced = doors.mcp.call("environment_sync", &json!({}));
        let items = result(&synced)["structuredContent"]["items"].as_array().unwrap();
        let problem = &items.iter().find(|item| item["name"] == "needy").unwrap()["problem"];
        assert_eq!((&problem["severity"], &problem["line"]), (&json!("error"), &json!(5)), "{problem}");
        said(problem["message"].as_str().unwrap(), &["`needy`", "secret `TOKEN`"]);
        said(problem["hint"].as_str().unwrap(), &["`env` or `headers`"]);
    });
}

#[test]
fn a_command_that_does_not_exist() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write_servers("development", &json!({ "ghost": { "command": "/no/such/program", "args": ["--stdio"] } }));
    Doors::of(home).harmless(|doors| {
        let tools = doors.home.json(&["tool", "list"]);
        assert!(!tools["items"].as_array().unwrap().is_empty(), "the other servers' tools are there: {tools}");
        let ghost = doors.home.json(&["mcp-server", "get", "ghost"]);
        assert_eq!(ghost["file"], "environments/development/test.json", "{ghost}");
        said(ghost["problem"].as_str().unwrap_or_else(|| panic!("no problem: {ghost}")), &["/no/such/program"]);
        let parts = ["ghost", "/no/such/program"];
        refused(&doors.home.stn(&["tool", "call", "ghost__look", "{}"]), 6, &parts);
        declined(doors.http.post("/api/v1/tools/ghost__look/call", &json!({})), 503, &parts);
        errors(&doors.mcp.call("tool_call", &json!({ "tool": "ghost__look" })), "unavailable", &parts);
    });
}

#[test]
fn a_prompt_of_ten_megabytes() {
    Doors::open().harmless(|doors| {
        let prompt = "Be brief. ".repeat(1024 * 1024);
        let file = doors.home.beside().join("prompt.txt");
        std::fs::write(&file, &prompt).unwrap();
        let parts = ["environments/development/agents/big.prompt", "10485", "at most 1 MiB"];
        refused(&doors.home.stn(&["agent", "create", "big", &format!("@{}", file.display())]), 2, &parts);
        let given = json!({ "name": "big", "prompt": prompt });
        declined(doors.http.post("/api/v1/agents", &given), 400, &parts);
        errors(&doors.mcp.call("agent_create", &given), "invalid_input", &parts);
        let update = json!({ "agent": "hello", "prompt": prompt });
        errors(&doors.mcp.call("agent_update", &update), "invalid_input", &["agents/hello.prompt", "at most 1 MiB"]);
    });
}

#[test]
fn an_environment_called_dot_dot() {
    Doors::open().harmless(|doors| {
        refused(&doors.home.stn(&["agent", "list", "-e", ".."]), 2, &["`..`"]);
        refused(&doors.home.stn(&["environment", "get", ".."]), 2, &["`..`"]);
        refused(&doors.home.stn(&["sync", ".."]), 2, &["`..`"]);
        refused(&doors.home.stn(&["stdio", "-e", ".."]), 2, &["`..`"]);
        declined(doors.http.get("/api/v1/agents?environment=.."), 400, &["`..`"]);
        declined(doors.http.get("/api/v1/agents?environment=..%2f..%2fdata"), 400, &["`../../data`"]);
        let bound = doors.mcp.call("agent_list", &json!({ "environment": ".." }));
        errors(&bound, "permission_denied", &["`..`", "`development`"]);
        refused(&doors.home.stn(&["agent", "list", "-e", "stagin"]), 4, &["`stagin`", "staging"]);
    });
}

#[test]
fn an_unknown_field() {
    Doors::open().harmless(|doors| {
        let given = json!({ "name": "x", "promt": "Be brief." });
        let parts = ["`agent_create` has no field `promt`", "did you mean `prompt`?"];
        refused(&doors.home.stn(&["call", "agent_create", &given.to_string()]), 2, &parts);
        declined(doors.http.post("/api/v1/agents", &given), 400, &parts);
        errors(&doors.mcp.call("agent_create", &given), "invalid_input", &parts);
        // In what an agent is given, and on the command line.
        let parts = ["userImput"];
        let given = json!({ "agent": "hello", "input": { "userImput": "x" } });
        declined(doors.http.post("/api/v1/agents/hello/queue", &json!({ "input": given["input"] })), 400, &parts);
        errors(&doors.mcp.call("agent_run", &given), "invalid_input", &parts);
        refused(&doors.home.stn(&["agent", "run", "hello", &given["input"].to_string()]), 2, &parts);
        refused(&doors.home.stn(&["agent", "list", "--limt", "3"]), 2, &["--limt", "--limit"]);
        refused(&doors.home.stn(&["agent", "run", "hello", "{oops"]), 2, &["not valid JSON"]);
    });
}
