//! Who is whose child, as the operating system shows it.

use std::io;

/// A process at one moment. `started` (clock ticks since boot, or microseconds on macOS) tells it from a later process with its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// 0 for a process without a visible parent.
    pub(super) parent: u32,
    pub(super) started: u64,
    pub(super) zombie: bool,
}

/// The process with this pid; an error of kind `NotFound` when none is visible.
#[cfg(target_os = "linux")]
pub(super) fn process(pid: u32) -> io::Result<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(pid, &stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/PID/stat"))
}

/// All children of `parent`.
#[cfg(target_os = "linux")]
pub(super) fn children(parent: u32) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended since the listing is no child any more.
        found.extend(process(pid).ok().filter(|process| process.parent == parent));
    }
    Ok(found)
}

/// proc_pid_stat(5): `pid (comm) state ppid ...`, `starttime` as field 22. The comm may hold anything, also `)` and spaces, so what
/// follows is counted from the last `)`.
#[cfg(target_os = "linux")]
fn parse_stat(pid: u32, stat: &[u8]) -> Option<Process> {
    let after_comm = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(&stat[after_comm..]).ok()?.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        zombie: *fields.first()? == "Z",
    })
}

/// The process with this pid; an error of kind `NotFound` when none is visible.
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "libproc has no safe wrapper")]
pub(super) fn process(pid: u32) -> io::Result<Process> {
    use nix::libc;
    let number = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let mut facts = std::mem::MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).map_err(io::Error::other)?;
    // SAFETY: the buffer is valid for `size` bytes, and all-zero bytes are a valid `proc_bsdinfo` should the call write less.
    let (written, facts) = unsafe {
        let written = libc::proc_pidinfo(number, libc::PROC_PIDTBSDINFO, 0, facts.as_mut_ptr().cast(), size);
        (written, facts.assume_init())
    };
    if written < size {
        return Err(io::ErrorKind::NotFound.into());
    }
    let started = facts.pbi_start_tvsec * 1_000_000 + facts.pbi_start_tvusec;
    Ok(Process { pid, parent: facts.pbi_ppid, started, zombie: facts.pbi_status == libc::SZOMB })
}

/// Empty: without a child subreaper there are no adopted children to look for.
#[cfg(target_os = "macos")]
pub(super) fn children(_parent: u32) -> io::Result<Vec<Process>> {
    Ok(Vec::new())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = b"42 (a) S 1 (b\xff)) Z 7 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 99 18 19";
        let parsed = parse_stat(42, stat).unwrap();
        assert_eq!(parsed, Process { pid: 42, parent: 7, started: 99, zombie: true });
        assert_eq!(parse_stat(42, b"42 (cut"), None);
        assert_eq!(parse_stat(42, b"42 (cut) S 1 2"), None);
    }

    #[test]
    fn this_process_and_its_child_are_found() {
        let me = process(std::process::id()).unwrap();
        assert_eq!(me.parent, std::os::unix::process::parent_id());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(me.pid).unwrap().iter().any(|found| found.pid == child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
