//! Secrets that are looked for wherever they could have come to. The looking is done by `tests/soak/canary.py`, which takes any `stn`.

use crate::support::peers;
use std::path::Path;
use std::process::Command;

#[test]
fn five_secrets_are_found_nowhere_after_a_run_of_thirty_turns() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/canary.py");
    let mut look = Command::new(peers::python());
    look.arg("-B").arg(script).env("STN", env!("CARGO_BIN_EXE_stn")).env("STN_TEST_PEERS", peers::directory());
    let looked = look.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "{said}\n{failed}");
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["turns"], &found["hits"]), (&30.into(), &serde_json::json!([])), "{said}");
}
