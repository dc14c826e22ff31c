//! What speaks for this or that cause of a worker's death, and how a task's earlier attempts have ended.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::scheduler::types::{TaskId, Time, Tries};
use crate::supervisor::{Exit, OomCounter, OomCounters, OomScope, oom_kills_of_machine};

/// What the kernel's out-of-memory killer did at most this long before (and at least half of it) may be why a worker has
/// died: one that was killed can take seconds to give its memory back, and only then is its end seen.
const OOM_WINDOW: Duration = Duration::from_secs(20);

/// Ends of earlier attempts that are kept of a task. A poison task's are all alike, and there may be millions.
const EARLIER_ATTEMPTS: usize = 10;

/// Of these, the last so many are named in the message.
const EARLIER_IN_MESSAGE: usize = 3;

/// What is kept of an exception's text: a line.
const RAISED_CHARS: usize = 200;

/// Where the count that concerns a worker stood when it was started.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    counter: OomCounter,
    count: Option<u64>,
    machine: Option<u64>,
}

impl Baseline {
    pub(super) fn of(pid: i32, counters: &mut OomCounters) -> Self {
        let counter = counters.of(pid);
        let count = counter.count();
        Self { counter, count, machine: oom_kills_of_machine() }
    }
}

/// The same, now that it has died.
#[derive(Clone, Copy, Debug)]
struct Now {
    count: u64,
    machine: Option<u64>,
    /// It is known to have died in the group that the count is of.
    unmoved: bool,
}

/// What the out-of-memory killer has to do with the end of a worker that somebody else has sent SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oom {
    /// So many processes it has ended meanwhile.
    ended: u64,
    scope: OomScope,
    /// Whether this is one of them, if that is known.
    pub(super) killed: Option<bool>,
}

/// Looks at the killer's count now and then, so that what it did long ago is not held against it.
#[derive(Debug, Default)]
pub(super) struct OomWatch {
    counter: Option<OomCounter>,
    looked: Time,
    /// The count, and the number of unexplained kills of ours, as of the last look but one; and of the last look.
    older: (u64, u64),
    newer: (u64, u64),
    kills: u64,
}

impl OomWatch {
    /// A worker was started, in whatever group the host is in.
    pub(super) fn started(&mut self, baseline: &Baseline, now: Time) {
        if self.counter.as_ref() != Some(&baseline.counter) {
            let counts = (baseline.count.unwrap_or(0), self.kills);
            (self.older, self.newer) = (counts, counts);
            (self.counter, self.looked) = (Some(baseline.counter.clone()), now);
        }
    }

    /// Time passes.
    pub(super) fn look(&mut self, now: Time) {
        if now.saturating_sub(self.looked) < OOM_WINDOW / 2 {
            return;
        }
        self.looked = now;
        let count = self.counter.as_ref().and_then(OomCounter::count);
        self.older = self.newer;
        self.newer = (count.unwrap_or(self.newer.0), self.kills);
    }

    /// This worker was ended by SIGKILL, and not by us. It has not been waited for.
    pub(super) fn judge(&mut self, pid: i32, baseline: &Baseline) -> Option<Oom> {
        self.kills += 1;
        let unmoved = baseline.counter.is_still_of(pid);
        let now = Now { count: baseline.counter.count()?, machine: oom_kills_of_machine(), unmoved };
        self.weigh(baseline, now)
    }

    fn weigh(&self, baseline: &Baseline, now: Now) -> Option<Oom> {
        let scope = baseline.counter.scope;
        let same = self.counter.as_ref() == Some(&baseline.counter);
        let (before, kills_before) = if same { self.older } else { (baseline.count?, self.kills - 1) };
        let ended = now.count.saturating_sub(before.max(baseline.count?));
        let quiet = baseline.machine.is_some() && now.machine == baseline.machine;
        let killed = match scope {
            _ if quiet => Some(false),
            OomScope::Machine if ended == 0 => Some(false),
            OomScope::Cgroup if ended == 0 && now.unmoved => Some(false),
            // Enough for all that have died so of late.
            OomScope::Cgroup if ended > 0 && now.count - before >= self.kills - kills_before => Some(true),
            OomScope::Cgroup | OomScope::Machine => None,
        };
        Some(Oom { ended, scope, killed })
    }
}

impl Oom {
    /// "; the kernel's out-of-memory killer ended 1 process of this cgroup meanwhile"
    pub(super) fn in_words(self) -> String {
        let processes = if self.ended == 1 { "process" } else { "processes" };
        let scope = match self.scope {
            OomScope::Cgroup => "of this cgroup",
            OomScope::Machine => "of this machine",
        };
        match (self.ended, self.killed) {
            (_, Some(false)) => "; it was not the kernel's out-of-memory killer".to_owned(),
            (0, _) => "; perhaps the kernel was out of memory".to_owned(),
            (ended, _) => {
                format!("; the kernel's out-of-memory killer ended {ended} {processes} {scope} meanwhile")
            }
        }
    }
}

/// How the earlier attempts of tasks have ended that are tried again.
#[derive(Debug, Default)]
pub(super) struct Earlier(HashMap<TaskId, Vec<String>>);

impl Earlier {
    pub(super) fn add(&mut self, task: TaskId, attempt: u32, how: &str) {
        let ends = self.0.entry(task).or_default();
        if ends.len() == EARLIER_ATTEMPTS {
            ends.remove(0);
        }
        ends.push(format!("attempt {attempt}: {how}"));
    }

    /// The task has ended.
    pub(super) fn forget(&mut self, task: TaskId) {
        if !self.0.is_empty() {
            self.0.remove(&task);
        }
    }

    pub(super) fn of(&self, task: TaskId) -> Vec<String> {
        self.0.get(&task).cloned().unwrap_or_default()
    }
}

/// " (attempt 2 of 3)", where it is not the first.
pub(super) fn which_in_words(tries: Tries) -> String {
    let Tries { made, allowed } = tries;
    if made > 1 { format!(" (attempt {made} of {allowed})") } else { String::new() }
}

/// What is noted on an exception that a task raised at last, after these attempts.
pub(super) fn note_in_words(tries: Tries, earlier: &[String]) -> String {
    format!("disttask: attempt {} of {}{}", tries.made, tries.allowed, earlier_in_words(earlier))
}

/// What goes into the message of all that.
pub(super) fn earlier_in_words(earlier: &[String]) -> String {
    let mut text = String::new();
    for end in &earlier[earlier.len().saturating_sub(EARLIER_IN_MESSAGE)..] {
        let _ = write!(text, "; {end}"); // a String takes everything
    }
    text
}

/// An attempt's end by an exception.
pub(super) fn raised_in_words(type_name: &str, message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    format!("it raised {type_name}: {line}").chars().take(RAISED_CHARS).collect()
}

/// The report of a fatal error among what a worker has written to its stderr, where `faulthandler` was told to write there
/// or the interpreter itself has given up. Only the report of what it died of counts, and that is the last.
pub(super) fn report_in(stderr: &str, exit: Exit) -> &str {
    let Exit::Signal(signal) = exit else { return "" };
    let words = match signal {
        libc::SIGSEGV => "Segmentation fault",
        libc::SIGBUS => "Bus error",
        libc::SIGFPE => "Floating",
        libc::SIGILL => "Illegal instruction",
        libc::SIGABRT => "",
        _ => return "",
    };
    let begin = "Fatal Python error: ";
    let at = stderr.rfind(begin).filter(|&at| stderr[at + begin.len()..].starts_with(words));
    at.map_or("", |at| &stderr[at..])
}

/// "35.2 MiB"
pub(super) fn bytes_in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch_with(before: u64, kills: u64) -> (OomWatch, Baseline) {
        let mut counter = OomCounters::default().of(std::process::id().cast_signed());
        counter.scope = OomScope::Cgroup;
        let baseline = Baseline { counter, count: Some(before), machine: Some(50) };
        let mut watch = OomWatch::default();
        watch.started(&baseline, Time::ZERO);
        watch.kills += kills;
        (watch, baseline)
    }

    fn killed(watch: &OomWatch, baseline: &Baseline, count: u64) -> Option<bool> {
        let now = Now { count, machine: Some(60), unmoved: true };
        watch.weigh(baseline, now).expect("the count is known").killed
    }

    #[test]
    fn no_more_is_claimed_than_is_known() {
        let (watch, baseline) = watch_with(7, 1);
        assert_eq!(killed(&watch, &baseline, 7), Some(false), "the count stands still");
        assert_eq!(killed(&watch, &baseline, 8), Some(true));
        let moved = Now { count: 7, machine: Some(60), unmoved: false };
        assert_eq!(
            watch.weigh(&baseline, moved).map(|oom| oom.killed),
            Some(None),
            "the count elsewhere may not"
        );
        let quiet = Now { machine: Some(50), ..moved };
        assert_eq!(watch.weigh(&baseline, quiet).map(|oom| oom.killed), Some(Some(false)), "nowhere");
        let (watch, baseline) = watch_with(7, 2);
        assert_eq!(killed(&watch, &baseline, 9), Some(true), "two workers, and it has ended two");
        assert_eq!(killed(&watch, &baseline, 8), None, "two workers: one of them");
        assert_eq!(
            killed(&watch, &Baseline { count: Some(8), ..baseline }, 8),
            Some(false),
            "before it began"
        );
    }

    #[test]
    fn a_count_of_the_whole_machine_accuses_nobody() {
        let (mut watch, mut baseline) = watch_with(7, 1);
        baseline.counter.scope = OomScope::Machine;
        watch.counter = Some(baseline.counter.clone());
        assert_eq!(killed(&watch, &baseline, 8), None);
        assert_eq!(killed(&watch, &baseline, 7), Some(false));
        baseline.count = None;
        let now = Now { count: 8, machine: None, unmoved: false };
        assert_eq!(watch.weigh(&baseline, now), None, "the kernel did not say");
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let (mut watch, baseline) = watch_with(7, 0);
        watch.newer.0 = 8; // as if it had been read
        let counter = watch.counter.take();
        watch.look(OOM_WINDOW);
        watch.counter = counter;
        watch.kills += 1;
        assert_eq!(killed(&watch, &baseline, 8), Some(false));
        assert_eq!(killed(&watch, &baseline, 9), Some(true));
    }

    #[test]
    fn it_is_said_in_words() {
        let oom = |ended, scope, killed| Oom { ended, scope, killed }.in_words();
        let one = oom(1, OomScope::Cgroup, Some(true));
        assert!(one.ends_with("the kernel's out-of-memory killer ended 1 process of this cgroup meanwhile"));
        assert!(oom(3, OomScope::Machine, None).ends_with("ended 3 processes of this machine meanwhile"));
        assert!(oom(0, OomScope::Cgroup, Some(false)).ends_with("not the kernel's out-of-memory killer"));
        assert!(oom(0, OomScope::Cgroup, None).contains("perhaps"));
        assert_eq!(bytes_in_words(36 << 20), "36.0 MiB");
        assert_eq!(bytes_in_words(3 << 29), "1.50 GiB");
        assert_eq!(raised_in_words("ValueError", "first\nsecond"), "it raised ValueError: first");
        assert!(raised_in_words("E", &"ä".repeat(1000)).chars().count() <= RAISED_CHARS);
    }

    #[test]
    fn earlier_attempts_are_bounded_and_the_last_ones_named() {
        let mut earlier = Earlier::default();
        for attempt in 1..=50 {
            earlier.add(TaskId(1), attempt, "worker pid 1 died");
        }
        let ends = earlier.of(TaskId(1));
        assert_eq!((ends.len(), &*ends[0]), (EARLIER_ATTEMPTS, "attempt 41: worker pid 1 died"));
        let text = earlier_in_words(&ends);
        assert!(text.starts_with("; attempt 48: ") && text.ends_with("; attempt 50: worker pid 1 died"));
        assert_eq!(earlier_in_words(&[]), "");
        let note = note_in_words(Tries { made: 51, allowed: 60 }, &ends[8..]);
        assert_eq!(
            note,
            "disttask: attempt 51 of 60; attempt 49: worker pid 1 died; attempt 50: worker pid 1 died"
        );
        earlier.forget(TaskId(1));
        assert!(earlier.of(TaskId(1)).is_empty());
    }

    #[test]
    fn only_the_report_of_its_own_death_is_taken() {
        let segfault = Exit::Signal(libc::SIGSEGV);
        let text = "before\nFatal Python error: Segmentation fault\n\nStack";
        assert_eq!(report_in(text, segfault), "Fatal Python error: Segmentation fault\n\nStack");
        assert_eq!(report_in(text, Exit::Signal(libc::SIGBUS)), "");
        assert_eq!(report_in(text, Exit::Signal(libc::SIGKILL)), "");
        assert_eq!(report_in(text, Exit::Status(1)), "");
        let gave_up = "Fatal Python error: gc: negative refcount\nPython runtime state: initialized";
        assert_eq!(report_in(gave_up, Exit::Signal(libc::SIGABRT)), gave_up);
        assert_eq!(report_in("", segfault), "");
    }
}
