//! The owner adopts what its children leave behind, so that nothing can escape from under it, and therefore has to collect it too.

use super::process_tree::{Process, children};
use crate::clock::{ClockExt, SharedClock};
use crate::error::Result;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

/// How often adopted processes that have ended are collected.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Makes this process the one that orphans among its descendants are given to (`PR_SET_CHILD_SUBREAPER`, prctl(2)). Call it before the
/// first child is started. Does nothing outside Linux.
pub fn become_subreaper() -> Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| {
        crate::error::Error::internal("the kernel refuses to make this process a child subreaper").source(errno)
    })?;
    Ok(())
}

/// Collects ended orphans, never a child that somebody here waits for.
///
/// A child is known to its waiter a moment after it was forked, and may end within that moment. So a process is collected only when an
/// earlier sweep has already seen it ended: by then its waiter has either collected or registered it.
#[derive(Debug, Default)]
pub struct OrphanReaper {
    ended_before: Vec<Process>,
}

impl OrphanReaper {
    /// Collects the orphans among `ended` (children of this process that are zombies) and returns their pids. `is_ours` says of a pid
    /// whether somebody in this process waits for it.
    fn sweep(&mut self, ended: Vec<Process>, is_ours: impl Fn(u32) -> bool) -> Vec<u32> {
        let orphans: Vec<Process> = ended.into_iter().filter(|process| !is_ours(process.pid)).collect();
        let due = orphans.iter().filter(|orphan| self.ended_before.contains(orphan));
        let collected = due.map(|orphan| orphan.pid).filter(|pid| collect(*pid)).collect();
        self.ended_before = orphans;
        collected
    }
}

fn collect(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).is_ok())
}

fn ended_children() -> io::Result<Vec<Process>> {
    let mut found = children(std::process::id())?;
    found.retain(|child| child.zombie);
    Ok(found)
}

/// Collects orphans until dropped. `is_ours` must be true for every child that this process has started and not yet waited for.
pub async fn reap_orphans(clock: SharedClock, is_ours: impl Fn(u32) -> bool + Send) {
    let mut reaper = OrphanReaper::default();
    loop {
        clock.sleep(SWEEP_EVERY).await;
        // Reading all of /proc takes milliseconds on a busy machine.
        let ended = match tokio::task::spawn_blocking(ended_children).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                tracing::debug!(%error, "can't list child processes");
                continue;
            }
            Err(_stopping) => return,
        };
        for pid in reaper.sweep(ended, &is_ours) {
            tracing::debug!(pid, "collected an adopted process that had ended");
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::super::process_tree::process;
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;
    use std::process::{Child, Command};

    /// A child that has ended and that nobody has waited for.
    fn ended_child() -> (Child, Process) {
        let child = Command::new("true").spawn().unwrap();
        while !process(child.id()).unwrap().zombie {
            std::thread::yield_now();
        }
        let ended = process(child.id()).unwrap();
        (child, ended)
    }

    #[test]
    fn an_orphan_is_collected_once_two_sweeps_have_seen_it() {
        let (mut child, process) = ended_child();
        let mut reaper = OrphanReaper::default();
        assert_eq!(reaper.sweep(vec![process], |_| false), [] as [u32; 0]);
        assert_eq!(reaper.sweep(vec![process], |_| false), [process.pid]);
        assert!(child.wait().is_err(), "the child was already collected");
    }

    #[test]
    fn a_child_that_somebody_waits_for_is_left_to_them() {
        let (mut child, process) = ended_child();
        let mut reaper = OrphanReaper::default();
        for _ in 0..3 {
            assert_eq!(reaper.sweep(vec![process], |pid| pid == process.pid), [] as [u32; 0]);
        }
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_recycled_pid_is_a_new_process() {
        let (mut child, process) = ended_child();
        let mut reaper = OrphanReaper::default();
        let earlier = Process { started: process.started.wrapping_sub(1), ..process };
        reaper.sweep(vec![earlier], |_| false);
        assert_eq!(reaper.sweep(vec![process], |_| false), [] as [u32; 0]);
        assert!(child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn what_a_child_leaves_behind_is_adopted_and_collected() {
        become_subreaper().unwrap();
        let script = "sleep 60 </dev/null >/dev/null 2>&1 & echo $!";
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        let orphan: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert_eq!(process(orphan).unwrap().parent, std::process::id());
        nix::sys::signal::kill(Pid::from_raw(orphan.cast_signed()), nix::sys::signal::SIGKILL).unwrap();
        let manual = ManualClock::at(Timestamp::from_millis(0));
        let gone = async {
            while process(orphan).is_ok() {
                manual.advance(SWEEP_EVERY);
                tokio::task::yield_now().await;
            }
        };
        // Children of tests that run at the same time are theirs.
        tokio::select! {
            () = reap_orphans(manual.clone(), |pid| pid != orphan) => panic!("it stopped"),
            () = gone => {}
        }
    }
}
