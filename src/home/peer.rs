//! Who may use the local socket: the home's user and root, but no process that the owner has started, directly or through any number of
//! forks. Otherwise an attached MCP server, which runs as the same user, would be the local owner with all its rights.
//!
//! On Linux the owner is a child subreaper ([`super::Subreaper`]): a process that forks twice to lose its parent is adopted by the
//! owner and so keeps it as an ancestor. On macOS there is no such thing; the walk is the best effort there.
//!
//! An owner that is the first process of a container adopts every orphan there, also those of `docker exec` sessions, and refuses them;
//! the sessions themselves have no visible parent and come in.
//!
//! What this can't see: the kernel notes the peer's pid when it connects, and the walk happens afterwards. A child that connects, hands the
//! socket to a sibling and ends is refused, because its pid is gone, unless the system has given that pid to an unrelated process within
//! that moment. Nor can it see a helper outside that acts on a child's behalf (a service manager, a container engine). The wall against
//! hostile servers is their sandbox, which doesn't show them the socket.

use super::process_tree::{Process, process};
use std::io;
use tokio::net::unix::UCred;

/// Longer chains of ancestors than this don't occur; it bounds the walk whatever /proc shows.
const MOST_ANCESTORS: usize = 1024;

/// How often a chain that changes while it is read is read again.
const ATTEMPTS: usize = 5;

/// Decides about peers of one owner.
#[derive(Debug, Clone, Copy)]
pub struct PeerCheck {
    owner: u32,
    uid: u32,
}

/// Why a peer may not use the socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("user {uid} is neither the station's user nor root")]
    OtherUser { uid: u32 },
    #[error("the process can't be seen from here (it ended, or lives in another pid namespace)")]
    NoPid,
    #[error("process {pid} was started by the station, and its children may not use its local socket")]
    Descendant { pid: u32 },
    #[error("the ancestors of process {pid} can't be followed to the first one (is /proc mounted with hidepid?)")]
    Untraceable { pid: u32 },
}

impl PeerCheck {
    /// The check of the owner that runs this.
    pub fn of_this_process() -> Self {
        Self { owner: std::process::id(), uid: nix::unistd::geteuid().as_raw() }
    }

    /// Whether the process behind these credentials may come in.
    pub fn admit(&self, peer: &UCred) -> Result<(), Refusal> {
        self.admit_user(peer.uid())?;
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0).ok_or(Refusal::NoPid)?;
        self.admit_process(pid, process)
    }

    fn admit_user(&self, uid: u32) -> Result<(), Refusal> {
        if uid == self.uid || uid == 0 { Ok(()) } else { Err(Refusal::OtherUser { uid }) }
    }

    /// Reads the chain until two readings agree, because a parent may end, and its pid be given away, between two steps of one reading.
    fn admit_process(&self, pid: u32, look: impl Fn(u32) -> io::Result<Process>) -> Result<(), Refusal> {
        let mut before = None;
        for _ in 0..ATTEMPTS {
            let chain = self.chain(pid, &look)?;
            if chain.is_some() && chain == before {
                return Ok(());
            }
            before = chain;
        }
        Err(Refusal::Untraceable { pid })
    }

    /// `pid` and its ancestors up to the first process; `None` when an ancestor vanished on the way.
    fn chain(&self, pid: u32, look: impl Fn(u32) -> io::Result<Process>) -> Result<Option<Vec<Process>>, Refusal> {
        let peer = look(pid).map_err(|_| Refusal::NoPid)?;
        if peer.zombie {
            return Err(Refusal::NoPid);
        }
        let mut chain = vec![peer];
        let mut next = peer.parent;
        while next != 0 {
            if next == self.owner {
                return Err(Refusal::Descendant { pid });
            }
            if chain.len() == MOST_ANCESTORS {
                return Err(Refusal::Untraceable { pid });
            }
            let Ok(ancestor) = look(next) else { return Ok(None) };
            next = ancestor.parent;
            chain.push(ancestor);
        }
        Ok(Some(chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    const OWNER: PeerCheck = PeerCheck { owner: 100, uid: 1000 };

    /// Parents by pid.
    fn tree(pairs: &[(u32, u32)]) -> impl Fn(u32) -> io::Result<Process> {
        let parents: BTreeMap<u32, u32> = pairs.iter().copied().collect();
        move |pid| {
            let parent = *parents.get(&pid).ok_or(io::ErrorKind::NotFound)?;
            Ok(Process { pid, parent, started: u64::from(pid), zombie: false })
        }
    }

    #[test]
    fn only_the_owner_s_user_and_root_come_in() {
        assert_eq!(OWNER.admit_user(1000), Ok(()));
        assert_eq!(OWNER.admit_user(0), Ok(()));
        assert_eq!(OWNER.admit_user(1001), Err(Refusal::OtherUser { uid: 1001 }));
    }

    #[test]
    fn a_shell_beside_the_owner_comes_in_and_the_owner_s_offspring_does_not() {
        let processes = tree(&[(1, 0), (50, 1), (60, 50), (100, 50), (200, 100), (300, 200)]);
        assert_eq!(OWNER.admit_process(60, &processes), Ok(()));
        assert_eq!(OWNER.admit_process(200, &processes), Err(Refusal::Descendant { pid: 200 }));
        assert_eq!(OWNER.admit_process(300, &processes), Err(Refusal::Descendant { pid: 300 }));
    }

    #[test]
    fn the_owner_may_talk_to_itself() {
        assert_eq!(OWNER.admit_process(100, tree(&[(1, 0), (100, 1)])), Ok(()));
    }

    #[test]
    fn a_process_that_has_ended_is_refused() {
        assert_eq!(OWNER.admit_process(60, tree(&[(1, 0)])), Err(Refusal::NoPid));
        let zombie = |pid| Ok(Process { pid, parent: 1, started: 1, zombie: true });
        assert_eq!(OWNER.admit_process(60, zombie), Err(Refusal::NoPid));
    }

    #[test]
    fn a_hidden_ancestor_or_a_circle_is_refused() {
        assert_eq!(OWNER.admit_process(60, tree(&[(60, 50)])), Err(Refusal::Untraceable { pid: 60 }));
        assert_eq!(OWNER.admit_process(60, tree(&[(60, 50), (50, 60)])), Err(Refusal::Untraceable { pid: 60 }));
    }

    #[test]
    fn a_process_whose_parent_ends_during_the_walk_is_looked_at_again() {
        let looks = Cell::new(0);
        let adopted_meanwhile = |pid| {
            looks.set(looks.get() + 1);
            match pid {
                60 => Ok(Process { pid, parent: if looks.get() < 3 { 55 } else { 100 }, started: 1, zombie: false }),
                55 => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(Process { pid, parent: 0, started: 0, zombie: false }),
            }
        };
        assert_eq!(OWNER.admit_process(60, adopted_meanwhile), Err(Refusal::Descendant { pid: 60 }));
    }
}
