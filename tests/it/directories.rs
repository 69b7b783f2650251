//! Directories of environments that are not as a start makes them: each is told as a fault of its environment, and stops nothing else.

use crate::support::home::TestHome;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

/// Puts a link to `target` in the place of this directory of the home.
fn replace_by_link(home: &TestHome, directory: &str, target: &str) {
    let path = home.path().join(directory);
    if path.exists() {
        fs::rename(&path, home.beside().join(format!("old-{}", home.number()))).unwrap();
    }
    symlink(target, path).unwrap();
}

/// What `status` says is wrong with the environment.
fn problems(home: &TestHome, environment: &str) -> Vec<String> {
    let status = home.json(&["status"]);
    let all = status["environments"].as_array().unwrap();
    let found = all.iter().find(|shown| shown["name"] == environment).unwrap();
    let problems = found["problems"].as_array().unwrap().iter();
    problems
        .map(|problem| format!("{}: {}", problem["file"].as_str().unwrap(), problem["message"].as_str().unwrap()))
        .collect()
}

#[test]
fn an_odd_directory_is_a_fault_of_its_environment_and_stops_no_other() {
    let home = TestHome::with_agent("kept", "");
    let _synced = home.stn(&["sync"]).ok();
    replace_by_link(&home, "environments/staging/agents", "../shared/agents");
    replace_by_link(&home, "environments/production/workspace", "/nowhere");
    for is_served in [false, true] {
        let _serve = is_served.then(|| home.serve());
        assert_eq!(home.json(&["agent", "get", "kept"])["state"], "ok");
        let run = home.json(&["agent", "run", "kept", "hello"]);
        assert_eq!(run["status"], "completed", "{run:#}");
        for (environment, directory) in [("staging", "agents"), ("production", "workspace")] {
            let file = format!("environments/{environment}/{directory}");
            let told = [format!("{file}: it is a link to a directory that doesn't exist")];
            assert_eq!(problems(&home, environment), told);
            let synced = home.stn(&["sync", environment]);
            assert!(synced.code == 1 && synced.stdout.contains(&file), "{synced:?}");
            let checked = home.stn(&["config", "check"]);
            let line = format!("{file}: error: it is a link to a directory that doesn't exist");
            assert!(checked.code == 78 && checked.stdout.contains(&line), "{checked:?}");
        }
        assert_eq!(problems(&home, "development"), Vec::<String>::new());
    }
}

#[test]
fn agents_behind_a_link_out_of_their_environment_stay_in_force_say_why_and_leave_its_servers_alone() {
    let home = TestHome::with_agent_using(&["filesystem"], "kept", "");
    let _synced = home.stn(&["sync"]).ok();
    let known = home.json(&["agent", "get", "kept"]);
    replace_by_link(&home, "environments/development/agents", home.beside().to_str().unwrap());
    let _serve = home.serve();
    let reason = "environments/development/agents: the directory is a link out of its environment";
    assert_eq!(problems(&home, "development"), [reason]);
    let shown = home.json(&["agent", "get", "kept"]);
    assert_eq!((&shown["state"], &shown["problem"]), (&json!("error"), &json!(reason)));
    let run = home.json(&["agent", "run", "kept", "hello"]);
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(shown["revision"], known["revision"]);
    assert_eq!(home.json(&["mcp-server", "get", "filesystem"])["state"], "ready");
    let refused = home.stn(&["agent", "create", "outsider", "Be brief."]);
    assert!(refused.code == 5 && refused.stderr.contains("link out of its environment"), "{refused:?}");
    assert!(!home.beside().join("outsider.prompt").exists());

    fs::remove_file(home.path().join("environments/development/agents")).unwrap();
    home.write_agent("development", "kept", "max_steps: 3\n");
    let _mended = home.stn(&["sync"]).ok();
    let mended = home.json(&["agent", "get", "kept"]);
    assert_eq!((&mended["state"], &mended["problem"]), (&json!("ok"), &Value::Null));
}
