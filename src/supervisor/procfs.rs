//! What a process uses, read from `/proc`. `statm`, not `smaps_rollup`, which takes a millisecond at 2 GB.

use std::fs;
use std::time::Duration;

/// The unit of the times in `/proc/PID/stat` as user programs see it: fixed at 100 per second by the kernel's
/// user interface on every architecture that Python 3.11 supports.
const TICKS_PER_SECOND: u64 = 100;

/// Memory and processor time of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident set size.
    pub memory_bytes: u64,
    /// User and system time since the process began.
    pub cpu: Duration,
}

/// Its resident set. `None` when the process is gone.
pub fn resident_bytes(pid: i32) -> Option<u64> {
    resident(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)
}

/// Of that, what stands in no file and no shared memory: what the process has made itself. `None` when it is gone.
pub fn private_bytes(pid: i32) -> Option<u64> {
    private(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)
}

/// `None` when the process is gone.
pub fn usage(pid: i32) -> Option<Usage> {
    let memory_bytes = resident_bytes(pid)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Usage { memory_bytes, cpu: cpu_time(&stat)? })
}

fn resident(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn private(statm: &str) -> Option<u64> {
    let shared: u64 = statm.split_ascii_whitespace().nth(2)?.parse().ok()?;
    Some(resident(statm)?.saturating_sub(shared * rustix::param::page_size() as u64))
}

fn cpu_time(stat: &str) -> Option<Duration> {
    // The second field is the command in parentheses, and may hold spaces and parentheses itself.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself() {
        let usage = usage(std::process::id().cast_signed()).expect("we are alive");
        assert!(usage.memory_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn what_is_shared_does_not_count() {
        let page = rustix::param::page_size() as u64;
        assert_eq!(private("900 70 30 1 0 200 0"), Some(40 * page));
        assert_eq!(private("900 70 80 1 0 200 0"), Some(0), "the counts are not of one moment");
        assert_eq!(private("0 0 0 0 0 0 0"), Some(0), "a zombie");
        assert_eq!(private(""), None);
    }

    #[test]
    fn a_command_name_with_parentheses_confuses_nobody() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
    }
}
