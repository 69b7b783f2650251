//! The owner adopts what its children leave behind, so that nothing can escape from under it, and therefore has to collect it too.

use super::process_tree::{Process, children};
use crate::clock::{ClockExt, SharedClock};
use crate::error::Result;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::time::Duration;

/// How often adopted processes that have ended are collected.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How long ended orphans are waited for, and how often they are looked at meanwhile.
const END_WITHIN: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// This process as the one that orphans among its descendants are given to.
#[derive(Debug)]
pub struct Subreaper {
    /// Children that were there before, of a shell that became this program; they are none of ours.
    before: Vec<Process>,
}

impl Subreaper {
    /// Makes this process one (`PR_SET_CHILD_SUBREAPER`, prctl(2)). Call it before the first child is started. Outside Linux nothing is
    /// adopted.
    pub fn start() -> Result<Self> {
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true).map_err(|errno| {
            crate::error::Error::internal("the kernel refuses to make this process a child subreaper").source(errno)
        })?;
        Ok(Self { before: children(std::process::id()).unwrap_or_default() })
    }

    /// Collects orphans that have ended, until dropped. `is_ours` must be true for every child that this process has started and not yet
    /// waited for.
    pub async fn collect_orphans(&self, clock: &SharedClock, is_ours: impl Fn(u32) -> bool + Send) {
        let mut sweeps = Sweeps::default();
        loop {
            clock.sleep(SWEEP_EVERY).await;
            for pid in sweeps.next(self.orphans().await, &is_ours) {
                tracing::debug!(pid, "collected an adopted process that had ended");
            }
        }
    }

    /// Kills the orphans that are still there, and those whom these leave behind: what a server has set free must not outlive the station.
    /// To be called when the servers have ended.
    pub async fn end_orphans(&self, clock: &SharedClock, is_ours: impl Fn(u32) -> bool + Send) {
        // The first process of a container adopts everybody's orphans, and its end is theirs.
        if std::process::id() == 1 {
            return;
        }
        let ending = async {
            loop {
                let mut living = self.orphans().await;
                living.retain(|process| !process.zombie && !is_ours(process.pid));
                if living.is_empty() {
                    return;
                }
                for Process { pid, .. } in living {
                    tracing::warn!(pid, "a process that an attached server had set free is killed");
                    let _already_gone = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
                clock.sleep(LOOK_EVERY).await;
            }
        };
        let _in_time = clock.timeout(END_WITHIN, ending).await;
    }

    /// The present children but for those that were there before.
    async fn orphans(&self) -> Vec<Process> {
        // Reading all of /proc takes milliseconds on a busy machine.
        let mut found = match tokio::task::spawn_blocking(|| children(std::process::id())).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "can't list child processes");
                Vec::new()
            }
            Err(_stopping) => Vec::new(),
        };
        found.retain(|child| {
            !self.before.iter().any(|before| (before.pid, before.started) == (child.pid, child.started))
        });
        found
    }
}

/// What earlier looks at the children have seen.
///
/// A child is known to its waiter a moment after it was forked, and may end within that moment. So a process is collected only when an
/// earlier sweep has already seen it ended: by then its waiter has either collected or registered it.
#[derive(Debug, Default)]
struct Sweeps {
    ended_before: Vec<Process>,
}

impl Sweeps {
    /// Collects the orphans among `children` and returns their pids. `is_ours` says of a pid whether somebody in this process waits for it.
    fn next(&mut self, mut children: Vec<Process>, is_ours: impl Fn(u32) -> bool) -> Vec<u32> {
        children.retain(|child| child.zombie && !is_ours(child.pid));
        let due = children.iter().filter(|orphan| self.ended_before.contains(orphan));
        let collected = due.map(|orphan| orphan.pid).filter(|pid| collect(*pid)).collect();
        self.ended_before = children;
        collected
    }
}

fn collect(pid: u32) -> bool {
    waitpid(Pid::from_raw(pid.cast_signed()), Some(WaitPidFlag::WNOHANG)).is_ok()
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
        let mut sweeps = Sweeps::default();
        assert_eq!(sweeps.next(vec![process], |_| false), [] as [u32; 0]);
        assert_eq!(sweeps.next(vec![process], |_| false), [process.pid]);
        assert!(child.wait().is_err(), "the child was already collected");
    }

    #[test]
    fn a_child_that_somebody_waits_for_is_left_to_them() {
        let (mut child, process) = ended_child();
        let mut sweeps = Sweeps::default();
        for _ in 0..3 {
            assert_eq!(sweeps.next(vec![process], |pid| pid == process.pid), [] as [u32; 0]);
        }
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_recycled_pid_is_a_new_process() {
        let (mut child, process) = ended_child();
        let mut sweeps = Sweeps::default();
        let earlier = Process { started: process.started.wrapping_sub(1), ..process };
        sweeps.next(vec![earlier], |_| false);
        assert_eq!(sweeps.next(vec![process], |_| false), [] as [u32; 0]);
        assert!(child.wait().unwrap().success());
    }

    /// A process without a parent but this one.
    fn orphan() -> u32 {
        let script = "sleep 60 </dev/null >/dev/null 2>&1 & echo $!";
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        let orphan: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert_eq!(process(orphan).unwrap().parent, std::process::id());
        orphan
    }

    #[tokio::test]
    async fn what_a_child_leaves_behind_is_adopted_and_collected() {
        let subreaper = Subreaper::start().unwrap();
        let orphan = orphan();
        kill(Pid::from_raw(orphan.cast_signed()), Signal::SIGKILL).unwrap();
        let manual = ManualClock::at(Timestamp::from_millis(0));
        let clock: SharedClock = manual.clone();
        let gone = async {
            while process(orphan).is_ok() {
                manual.advance(SWEEP_EVERY);
                tokio::task::yield_now().await;
            }
        };
        // Children of tests that run at the same time are theirs.
        tokio::select! {
            () = subreaper.collect_orphans(&clock, |pid| pid != orphan) => panic!("it stopped"),
            () = gone => {}
        }
    }

    #[tokio::test]
    async fn an_orphan_is_killed_at_the_end_and_who_was_there_before_is_not() {
        let first = Subreaper::start().unwrap();
        let orphan = orphan();
        let clock = crate::clock::SystemClock::shared();
        Subreaper::start().unwrap().end_orphans(&clock, |pid| pid != orphan).await;
        assert!(!process(orphan).unwrap().zombie, "it was there before");
        first.end_orphans(&clock, |pid| pid != orphan).await;
        assert!(process(orphan).is_ok_and(|process| process.zombie), "it is left to be collected");
        assert!(collect(orphan));
    }
}
