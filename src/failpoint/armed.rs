//! What `STN_FAILPOINTS` asks for, and breaking when it is due.

use super::Failpoint;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The variable that says where to break, and when.
pub const VARIABLE: &str = "STN_FAILPOINTS";

/// By place: how often it has been reached.
static REACHED: [AtomicU64; Failpoint::ALL.len()] = [const { AtomicU64::new(0) }; Failpoint::ALL.len()];
/// By name: at which times a place breaks. Tests of a whole process are what this is for, so it belongs to the process.
static DUE: Mutex<BTreeMap<&'static str, Vec<u64>>> = Mutex::new(BTreeMap::new());

/// Takes up `asked`: `NAME=panic` or `NAME=panic@N`, comma-separated, where the N-th time counts (1 by default). What can't be read is told.
pub fn arm(asked: &str) -> Result<(), String> {
    let mut due: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    for item in asked.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, at) = read(item)?;
        due.entry(name).or_default().push(at);
    }
    *DUE.lock().unwrap_or_else(PoisonError::into_inner) = due;
    Ok(())
}

fn read(item: &str) -> Result<(&'static str, u64), String> {
    let malformed = || format!("{VARIABLE}: `{item}` is no failpoint; write NAME=panic or NAME=panic@N");
    let (name, action) = item.split_once('=').ok_or_else(malformed)?;
    let at = match action.split_once('@') {
        None => 1,
        Some((_, at)) => at.parse().ok().filter(|at| *at > 0).ok_or_else(malformed)?,
    };
    if action.split('@').next() != Some("panic") {
        return Err(malformed());
    }
    let known = Failpoint::ALL.iter().find(|(_, known)| *known == name);
    let names = || Failpoint::ALL.map(|(_, known)| known).join(", ");
    known
        .map(|(_, known)| (*known, at))
        .ok_or_else(|| format!("{VARIABLE}: no failpoint `{name}`; there are {}", names()))
}

impl Failpoint {
    /// Breaks here, if that was asked for. A panic quotes what `at_hand` gives.
    #[expect(clippy::panic, reason = "that is what it is for")]
    pub fn reach(self, at_hand: impl FnOnce() -> String) {
        let Some(at) = Self::ALL.iter().position(|(place, _)| *place == self) else { return };
        let (name, times) = (Self::ALL[at].1, REACHED[at].fetch_add(1, Ordering::Relaxed) + 1);
        // The lock is given back before the panic.
        let is_due =
            DUE.lock().unwrap_or_else(PoisonError::into_inner).get(name).is_some_and(|due| due.contains(&times));
        if is_due {
            panic!("failpoint `{name}`, time {times}, with {}", at_hand());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_known_place_and_a_time() {
        assert_eq!(read("run.turn=panic"), Ok(("run.turn", 1)));
        assert_eq!(read("tool.result=panic@30"), Ok(("tool.result", 30)));
        for bad in ["run.turn", "run.turn=abort", "run.turn=panic@0", "run.turn=panic@x", "nowhere=panic"] {
            let told = arm(bad).unwrap_err();
            assert!(told.contains(VARIABLE) && told.contains(bad.split('=').next().unwrap()), "{told}");
        }
    }
}
