//! An environment's directory as the Go Station writes it: it loads unchanged, and its agents run.

use crate::support::home::TestHome;
use serde_json::{Value, json};
use std::fs;

const FORECASTER: &str = "---\r\nmetadata:\r\n  name: \"Cost Forecaster\"\r\n  description: |\r\n    | a | b |\r\n    |---|---|\r\n    --- and so on\r\n  tags: [\"finops\"]\r\n  max_steps: 4\r\nmodel: gpt-5-mini\r\nsandbox: python\r\nnotify: true\r\nschedule: { cron: \"0 0 7 * * *\", enabled: true }\r\ninput:\r\n  schema:\r\n    region?: string, where to look\r\n---\r\n{{role \"system\"}}\r\nYou forecast\tcosts.\r\n{{role \"user\"}}\r\n{{region}} {{userInput}}\r\n";
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
