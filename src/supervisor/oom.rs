//! What the kernel says of its out-of-memory killer: a count, of a control group's or of the whole machine. It does not
//! say whom it has ended.

use std::fs;
use std::path::{Path, PathBuf};

const VMSTAT: &str = "/proc/vmstat";

/// Whose processes a count is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScope {
    /// The worker's control group.
    Cgroup,
    /// Every process of the machine.
    Machine,
}

/// Where the count stands that concerns a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomCounter {
    /// Of whom.
    pub scope: OomScope,
    file: PathBuf,
    /// The group, as `/proc/PID/cgroup` names it for a process that has ended, too: version 2 does that.
    group: Option<String>,
}

/// Finds the counter of a process. Most are in the group of the one before, so that is not looked for again.
#[derive(Debug, Default)]
pub struct OomCounters {
    last: Option<(String, OomCounter)>,
}

impl OomCounters {
    /// The counter of the group that the process is in.
    pub fn of(&mut self, pid: i32) -> OomCounter {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if let Some((known, counter)) = &self.last
            && *known == groups
        {
            return counter.clone();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let found = places(&groups, &mounts).into_iter().find(|file| count_in(file).is_some());
        let counter = match found {
            Some(file) => {
                let unified = file.ends_with("memory.events");
                let group = unified_group(&groups).filter(|_| unified).map(str::to_owned);
                OomCounter { scope: OomScope::Cgroup, file, group }
            }
            None => OomCounter { scope: OomScope::Machine, file: PathBuf::from(VMSTAT), group: None },
        };
        self.last = Some((groups, counter.clone()));
        counter
    }
}

impl OomCounter {
    /// How many it has ended so far. `None`: this kernel does not say (before 4.13), or the group is gone.
    pub fn count(&self) -> Option<u64> {
        count_in(&self.file)
    }

    /// Whether the process, living or not waited for, is known to be in this group still.
    pub fn is_still_of(&self, pid: i32) -> bool {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        self.group.is_some() && unified_group(&groups) == self.group.as_deref()
    }
}

/// How many it has ended on the whole machine.
pub fn oom_kills_of_machine() -> Option<u64> {
    count_in(Path::new(VMSTAT))
}

/// Which group of version 2.
fn unified_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

fn count_in(file: &Path) -> Option<u64> {
    count(&fs::read_to_string(file).ok()?)
}

/// `oom_kill 2`: the same in `memory.events`, `memory.oom_control` and `vmstat`.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Files that may have the count of a process, by its `/proc/PID/cgroup` and our `mountinfo`: the best first. Where its
/// group has no memory controller, that of the next one above is as good, for it counts those below.
fn places(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for group in groups.lines() {
        // hierarchy:controllers:path; version 2 has no controllers there.
        let mut fields = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_end_matches(" (deleted)");
        let first = controllers.split(',').any(|controller| controller == "memory");
        if !first && !controllers.is_empty() {
            continue;
        }
        for (root, at) in mounts.lines().filter_map(|line| mounted(line, first)) {
            let Ok(below) = Path::new(path).strip_prefix(root) else { continue };
            let folder = Path::new(at).join(below);
            if first {
                found.push(folder.join("memory.oom_control"));
            } else {
                let inside = folder.ancestors().take_while(|folder| folder.starts_with(at));
                found.extend(inside.map(|folder| folder.join("memory.events")));
            }
        }
    }
    found
}

/// Which part of the groups is mounted, and where, if this line is about that: of version 1 the memory controller.
fn mounted(line: &str, first: bool) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    let (root, at) = (left.next()?, left.next()?);
    let (kind, options) = (right.next()?, right.nth(1)?);
    let wanted = if first {
        kind == "cgroup" && options.split(',').any(|option| option == "memory")
    } else {
        kind == "cgroup2"
    };
    wanted.then_some((root, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    fn texts(paths: &[PathBuf]) -> Vec<&str> {
        paths.iter().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn the_count_is_read_from_each_kind_of_file() {
        let events = "low 0\nhigh 0\nmax 41\noom 2\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(count(events), Some(2));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 17\n"), Some(17));
        assert_eq!(count("pgfault 7\noom_kill 0\nnuma_hit 9\n"), Some(0));
        assert_eq!(count("low 0\nhigh 0\nmax 0\noom 0\n"), None, "a kernel that does not count them");
        assert_eq!(count(""), None);
    }

    #[test]
    fn the_group_of_version_2_or_one_above() {
        let found = places("0::/user.slice/session-3.scope\n", MOUNTS);
        let expected = [
            "/sys/fs/cgroup/user.slice/session-3.scope/memory.events",
            "/sys/fs/cgroup/user.slice/memory.events",
            "/sys/fs/cgroup/memory.events",
        ];
        assert_eq!(texts(&found), expected);
    }

    #[test]
    fn the_group_of_version_1() {
        let groups = "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/y\n";
        assert_eq!(texts(&places(groups, MOUNTS)), ["/sys/fs/cgroup/memory/docker/abc/memory.oom_control"]);
    }

    #[test]
    fn a_container_sees_a_part_of_the_tree() {
        let mounts = "31 23 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = places("0::/docker/abc/inner (deleted)\n", mounts);
        assert_eq!(texts(&found), ["/sys/fs/cgroup/inner/memory.events", "/sys/fs/cgroup/memory.events"]);
        assert!(places("0::/elsewhere\n", mounts).is_empty(), "its own group cannot be seen");
    }

    #[test]
    fn garbage_names_no_file() {
        assert!(places("", MOUNTS).is_empty());
        assert!(places("0:memory\n::\nx\n", "").is_empty());
        assert!(places("0::/a\n", "no line of that form\n1 2 3 - cgroup2\n").is_empty());
    }

    #[test]
    fn a_process_has_a_counter_and_those_of_one_group_have_the_same() {
        let mut counters = OomCounters::default();
        let pid = std::process::id().cast_signed();
        let own = counters.of(pid);
        assert!(own.count().is_some(), "{own:?}");
        assert_eq!(counters.of(pid), own);
        assert_eq!(own.is_still_of(pid), own.group.is_some());
        assert!(!own.is_still_of(i32::MAX));
        assert!(oom_kills_of_machine().is_some());
        assert_eq!(counters.of(i32::MAX).scope, OomScope::Machine, "no such process");
    }
}
