//! An environment's directory as the Go Station writes it: it loads unchanged, and its agents run.

use crate::support::home::TestHome;
use crate::support::peers;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

const FORECASTER: &str = "---\r\nmetadata:\r\n  name: \"Cost Forecaster\"\r\n  description: |\r\n    | a | b |\r\n    |---|---|\r\n    --- and so on\r\n  tags: [\"finops\"]\r\n  max_steps: 4\r\nmodel: gpt-5-mini\r\nsandbox: python\r\ncloudshipai: { memory: \"costs\" }\r\nnotify: true\r\nschedule: { cron: \"0 0 7 * * *\", enabled: true }\r\ninput:\r\n  schema:\r\n    region?: string, where to look\r\n---\r\n{{role \"system\"}}\r\nYou forecast\tcosts.\r\n{{cloudship_memory}}\r\n{{role \"user\"}}\r\n{{region}} {{userInput}}\r\n";
const READER: &str = "---\nmax_steps: 8\ntools: [\"__list_directory\"]\n---\n{{role \"system\"}}\nYou read logs.\n{{role \"user\"}}\n{{userInput}}\n";
const SERVERS: &str = "{ \"name\": \"t\", \"description\": \"d\", \"servers\": { \"File System\": { \"builtin\": \"filesystem\", \"args\": [\"{{ .ROOT }}\"] } } }\n";
const VARIABLES: &str = "ROOT: .\nODD: \"a \\\"quote\\\", a \\\\ backslash, $HOME and ü\"\nLINES: |\n  two\n  lines\n";

#[test]
fn a_directory_of_the_go_station_loads_unchanged_and_its_agents_run() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let at = |file: &str| format!("environments/default/{file}");
    let files = [
        (at("agents/Cost Forecaster.prompt"), FORECASTER),
        (at("agents/Log_READER.prompt"), READER),
        (at("template.json"), SERVERS),
        (at("shop.openapi.json"), "{ \"openapi\": \"3.0.0\" }\n"),
        (at("variables.yml"), VARIABLES),
    ];
    for (file, text) in &files {
        home.write(file, text);
    }
    let synced = home.stn(&["sync", "default"]).ok();
    for told in ["`sandbox` has no effect", "`schedule` has no effect", "`file-system`", "no OpenAPI"] {
        assert!(synced.stderr.contains(told), "{told}: {synced:?}");
    }
    let agent = home.json(&["agent", "get", "Cost Forecaster", "-e", "default"]);
    assert_eq!(
        ["name", "display_name", "state", "max_steps", "model"].map(|key| &agent[key]),
        [&json!("cost-forecaster"), &json!("Cost Forecaster"), &json!("ok"), &json!(4), &json!("gpt-5-mini")]
    );
    assert_eq!(agent["input_schema"]["properties"]["region"]["type"], json!(["string", "null"]));
    for name in ["Cost Forecaster", "Log_READER"] {
        let model = "offline/rules-1";
        let run: Value = home.json(&["agent", "run", name, "hello", "-e", "default", "--model", model]);
        assert_eq!(run["status"], "completed", "{run:#}");
    }
    for (file, text) in &files {
        assert_eq!(fs::read(home.path().join(file)).unwrap(), text.as_bytes(), "{file}");
    }
}

/// Forms of the files in the Go Station's own repository.
const INVESTIGATOR: &str = "---\nmodel: openai/gpt-4o\nmetadata:\n  name: incident-investigator\n  version: \"2.0\"\n  agent_id: 9\n  max_steps: \"8\"\n  tags:\n    - sre\ntools:\n  - __list_directory\n\nharness:\n  enabled: true\n  max_steps: 100\n\nworkspace:\n  mode: sandbox\n  scope: session\n\nsandbox:\n  mode: docker\n\nskills:\n  sources:\n    - /skills/user/\n\nmemory:\n  sources:\n    - .station/AGENTS.md\ninput:\n  schema:\n    mode: [deep, quick]\n    region:\n      type: string\n      description: where it happened\n      required: false\n      default: us-east-1\n---\n\n{{role \"system\"}}\nYou investigate in {{region}}, {{mode}}.\n{{role \"user\"}}\n{{userInput}}\n";
const REPORTER: &str = "---\nmetadata: { name: \"Reporter\" }\noutput:\n  format: json\n  type: object\n  properties:\n    cause: { type: string }\n  required: [cause]\n---\n{{role \"user\"}}\n{{userInput}}\n";
const TEMPLATE: &str = "{\n  \"name\": \"finops-demo\",\n  \"description\": \"FinOps Demo Bundle\",\n  \"version\": \"1.0.0\",\n  \"mcpServers\": {\n    \"files\": { \"builtin\": \"filesystem\" }\n  }\n}\n";

#[test]
fn files_of_the_go_station_s_own_repository_load_and_what_of_them_has_no_effect_is_told() {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write("environments/default/agents/incident-investigator.prompt", INVESTIGATOR);
    home.write("environments/default/agents/Reporter.prompt", REPORTER);
    home.write("environments/default/template.json", TEMPLATE);
    let synced = home.stn(&["sync", "default"]).ok();
    for key in ["workspace", "skills", "memory", "harness", "sandbox", "metadata.version", "metadata.agent_id"] {
        assert!(synced.stderr.contains(&format!("`{key}` has no effect here")), "{key}: {synced:?}");
    }
    let agent = home.json(&["agent", "get", "incident-investigator", "-e", "default"]);
    assert_eq!((&agent["state"], &agent["max_steps"]), (&json!("ok"), &json!(8)));
    let input = &agent["input_schema"];
    assert_eq!(
        (&input["properties"]["mode"]["enum"], &input["required"]),
        (&json!(["deep", "quick"]), &json!(["userInput"]))
    );
    assert_eq!(input["properties"]["region"]["default"], "us-east-1");
    let reporter = home.json(&["agent", "get", "Reporter", "-e", "default"]);
    assert_eq!(reporter["output_schema"]["required"], json!(["cause"]));
    let servers = home.json(&["mcp-server", "list", "-e", "default"]);
    assert_eq!(servers["items"][0]["name"], "files", "{servers:#}");
    let model = "offline/rules-1";
    let run = home.json(&["agent", "run", "incident-investigator", "hello", "-e", "default", "--model", model]);
    assert_eq!(run["status"], "completed", "{run:#}");
}

const PRINTER: &str = "---\nmetadata:\n  name: \"Env Printer\"\n  description: \"Prints\"\n  tags: [\"station\",\"agent\"]\nmodel: gpt-5-mini\nmax_steps: 5\ntools:\n  - \"__get-env\"\n  - \"__echo\"\n  - \"__agent_cost_forecaster\"\n---\n\n{{role \"system\"}}\nYou print.\n\n{{role \"user\"}}\n{{userInput}}\n";

/// Values that break whatever pastes them into a text.
const ODD: [(&str, &str); 6] = [
    ("QUOTES", "a \"quoted\" 'word' \\\"end"),
    ("BACKSLASHES", "C:\\new\\table\\\\ \\"),
    ("LINES", "first\nsecond\r\n\tthird\n"),
    ("DOLLAR", "$HOME ${HOME} $(id) `id` %PATH% {{ .QUOTES }} {{ secret.NONE }}"),
    ("UNICODE", "grün \u{65e5}\u{672c} \u{1f600} e\u{301} \u{202e}"),
    ("ZIP", "012"),
];

/// The living process whose first arguments end with `script`, as the kernel has it: its arguments and its environment.
fn seen_by_the_kernel(home: &TestHome, script: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let split = |text: Vec<u8>| -> Vec<String> {
        let parts = text.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0);
        parts.map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
    };
    let mut processes = home.processes().into_iter();
    let (pid, arguments) = processes
        .find_map(|pid| {
            let arguments = split(fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|text| !text.is_empty())?);
            arguments.get(1).is_some_and(|first| first.ends_with(script)).then_some((pid, arguments))
        })
        .expect("the server runs");
    let environ = split(fs::read(format!("/proc/{pid}/environ")).unwrap());
    let environ = environ.iter().map(|entry| entry.split_once('=').unwrap());
    (arguments, environ.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn an_agent_of_the_go_station_calls_a_real_server_s_tool_and_another_agent_and_every_value_arrives_as_it_is() {
    const EVERYTHING: &str = "@modelcontextprotocol/server-everything/dist/index.js";
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    home.write("station.yml", "environments: { default: { auto_accept_commands: true } }\n");
    let marker = home.path().display().to_string();
    let mut args = vec![peers::npm(EVERYTHING), "stdio".to_owned(), marker];
    args.extend(ODD.map(|(name, _)| format!("--{name}={{{{ .{name} }}}}")));
    let env: BTreeMap<String, String> =
        ODD.iter().map(|(name, _)| (format!("GO_{name}"), format!("{{{{ .{name} }}}}"))).collect();
    let template = json!({
        "name": "default", "description": "MCP servers",
        "mcpServers": { "everything": { "command": peers::node(), "args": args, "env": env } }
    });
    let variables: String = ODD.map(|(name, value)| format!("{name}: {}\n", json!(value))).concat();
    for (file, text) in [
        ("template.json", template.to_string().as_str()),
        ("variables.yml", &variables.replace("\"012\"", "012")),
        ("agents/Env Printer.prompt", PRINTER),
        // A run's model is its own: the child's has to be one that answers without a key.
        ("agents/Cost Forecaster.prompt", &FORECASTER.replace("gpt-5-mini", "offline/rules-1")),
    ] {
        home.write(&format!("environments/default/{file}"), text);
    }
    let synced = home.stn(&["sync", "default"]).ok();
    assert!(!synced.stderr.contains("__agent_"), "{synced:?}");
    let agent = home.json(&["agent", "get", "Env Printer", "-e", "default"]);
    assert_eq!((&agent["agents"], &agent["tools"]), (&json!(["cost-forecaster"]), &json!(["__get-env", "__echo"])));

    let plan = "call get-env {}\ncall agent__cost-forecaster {\"userInput\": \"next month\"}\ncall echo {\"message\": \"done\"}";
    let run: Value = home.json(&["agent", "run", "Env Printer", plan, "-e", "default", "--model", "offline/rules-1"]);
    assert_eq!(run["status"], "completed", "{run:#}");
    let steps = home.json(&["run", "steps", run["id"].as_str().unwrap()]);
    let tools: Vec<&Value> = steps["items"].as_array().unwrap().iter().filter(|step| step["kind"] == "tool").collect();
    let names: Vec<&str> = tools.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["everything__get-env", "agent__cost-forecaster", "everything__echo"]);
    assert!(tools.iter().all(|step| step["status"] == "completed"), "{steps:#}");
    assert_eq!(tools[2]["result"]["content"][0]["text"], "Echo: done");
    let told: BTreeMap<String, String> =
        serde_json::from_str(tools[0]["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    let (arguments, environ) = seen_by_the_kernel(&home, EVERYTHING);
    for (at, (name, value)) in ODD.iter().enumerate() {
        assert_eq!(arguments[at + 4], format!("--{name}={value}"));
        assert_eq!(
            (&environ[&format!("GO_{name}")], &told[&format!("GO_{name}")]),
            (&(*value).into(), &(*value).into())
        );
    }
    let child = home.json(&["run", "list", "-e", "default", "--agent", "cost-forecaster"]);
    assert_eq!(child["items"][0]["parent_run_id"], run["id"], "{child:#}");
}

/// Both use the same directory by default, and both have a `station.db` in it.
#[test]
fn a_home_of_the_go_station_is_left_as_it_is_while_its_database_is_there_and_begins_in_default_without_it() {
    let home = TestHome::new();
    home.write("config.yaml", "ai_provider: openai\n").write("environments/default/agents/Log_READER.prompt", READER);
    home.write("environments/default/template.json", TEMPLATE);
    let database = home.path().join("station.db");
    let theirs = rusqlite::Connection::open(&database).unwrap();
    let tables = ["goose_db_version", "environments", "agents", "users", "settings"];
    for table in tables {
        theirs.execute_batch(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")).unwrap();
    }
    drop(theirs);
    let entries = || {
        let mut names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        (names, fs::read(&database).unwrap())
    };
    let before = entries();
    for command in [&["agent", "list", "-e", "default"][..], &["config", "check"], &["init"], &["serve"], &["stdio"]] {
        let refused = home.stn(command);
        assert_eq!(refused.code, 78, "{command:?}: {refused:?}");
        for told in ["station.db` is another program's database", "move it away, or set STN_HOME"] {
            assert!(refused.stderr.contains(told), "{command:?}: {refused:?}");
        }
        assert!(entries() == before, "{command:?} has changed something");
    }
    fs::rename(&database, home.beside().join("theirs.db")).unwrap();
    assert!(!home.stn(&["init"]).ok().stderr.contains("hello"), "there is no such agent");
    let agents = home.json(&["agent", "list"]);
    assert_eq!(agents["items"][0]["name"], "log_reader", "{agents:#}");
    let run = home.json(&["agent", "run", "Log_READER", "hello", "--model", "offline/rules-1"]);
    assert_eq!((&run["status"], &run["environment"]), (&json!("completed"), &json!("default")), "{run:#}");
    // Another program's database in the place of an environment's.
    home.kill_owner();
    let store = home.path().join("data/default.db");
    for file in [store.clone(), store.with_extension("db-wal"), store.with_extension("db-shm")] {
        let _isnt_there = fs::remove_file(file);
    }
    fs::copy(home.beside().join("theirs.db"), &store).unwrap();
    for command in [&["agent", "list"][..], &["config", "check"]] {
        let refused = home.stn(command);
        assert!(
            refused.code == 78 && refused.stderr.contains("data/default.db` is another"),
            "{command:?}: {refused:?}"
        );
    }
    assert_eq!(fs::read(&store).unwrap(), before.1);
}
