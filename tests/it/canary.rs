//! Secrets that are looked for wherever they could have come to. The looking is done by `tests/soak/canary.py`, which takes any `stn`.

use crate::support::peers;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lets the script look at a run of the program `stn`, and gives what it tells.
fn looked_at(stn: &Path, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/canary.py");
    let mut look = Command::new(peers::python());
    look.arg("-B").arg(script).args(arguments).env("STN", stn).env("STN_TEST_PEERS", peers::directory());
    let looked = look.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "{said}\n{failed}");
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["turns"], &found["hits"]), (&json!(30), &json!([])), "{said}");
    found
}

/// The program with failpoints, which `tests/run` builds beside the other.
fn with_failpoints() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_stn")).with_file_name("stn-failpoints");
    assert!(built.is_file(), "`{}` is missing: `tests/run` builds it", built.display());
    built
}

#[test]
fn five_secrets_are_found_nowhere_after_a_run_of_thirty_turns() {
    let found = looked_at(Path::new(env!("CARGO_BIN_EXE_stn")), &[]);
    assert_eq!(found["panics"], json!([]));
}

#[test]
fn nor_after_panics_that_quote_them() {
    let found = looked_at(&with_failpoints(), &["--panics"]);
    let all = ["act", "model.request", "run.turn", "server.start", "store.journal", "tool.result"];
    assert_eq!(found["panics"], json!(all));
}

#[test]
fn a_program_without_failpoints_refuses_to_be_told_of_them_and_one_with_them_knows_its_own() {
    let home = crate::support::home::TestHome::new();
    let told = |program: &Path, failpoints: &str| {
        let mut command = home.program(program);
        command.args(["run", "list"]).env("STN_FAILPOINTS", failpoints);
        let ended = crate::support::home::run(command, "");
        (ended.code, ended.stderr)
    };
    let (code, said) = told(Path::new(env!("CARGO_BIN_EXE_stn")), "act=panic");
    assert!(code == 78 && said.contains("STN_FAILPOINTS"), "{said}");
    let (code, said) = told(&with_failpoints(), "nowhere=panic");
    assert!(code == 78 && said.contains("`nowhere`") && said.contains("tool.result"), "{said}");
}
