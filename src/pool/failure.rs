//! Everything known about a task that ended without an answer of its own, and the words for it.

use std::sync::Arc;

use serde::Serialize;

use super::evidence::{Oom, bytes_in_words, earlier_in_words, which_in_words};
use super::memory::MemoryUse;
use super::slot::Outcome;
use crate::scheduler::types::{FailReason, KillReason, TaskId};
use crate::supervisor::Exit;

/// Why, as the Python side tells exceptions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The worker died.
    WorkerCrashed,
    /// The time-out was over.
    TaskTimeout,
    /// It took more memory than it may.
    TaskMemoryExceeded,
    /// Workers cannot be started.
    PoolBroken,
    /// The pool was shut down at once.
    PoolShutdown,
    /// A task whose value it needs failed or was cancelled.
    DependencyFailed,
}

impl FailureKind {
    /// As it is serialized.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerCrashed => "worker_crashed",
            Self::TaskTimeout => "task_timeout",
            Self::TaskMemoryExceeded => "task_memory_exceeded",
            Self::PoolBroken => "pool_broken",
            Self::PoolShutdown => "pool_shutdown",
            Self::DependencyFailed => "dependency_failed",
        }
    }

    /// The name of the exception that a Python caller gets.
    pub fn exception_name(self) -> &'static str {
        match self {
            Self::WorkerCrashed => "disttask.WorkerCrashed",
            Self::TaskTimeout => "disttask.TaskTimeout",
            Self::TaskMemoryExceeded => "disttask.TaskMemoryExceeded",
            Self::PoolBroken => "disttask.PoolBroken",
            Self::PoolShutdown => "disttask.PoolShutdown",
            Self::DependencyFailed => "disttask.DependencyFailed",
        }
    }
}

/// What is known.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// One sentence or two for the user.
    pub message: Arc<str>,
    /// The task's number in its pool.
    pub task: u64,
    /// The function's name.
    pub name: String,
    /// The submitter's words for it.
    pub tags: Vec<String>,
    /// How often it was begun.
    pub attempts: u32,
    /// The worker that ran it last.
    pub pid: Option<i32>,
    /// Its exit status, where it left by itself.
    pub exit_status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel's out-of-memory killer ended it, if that is known.
    pub oom_killed: Option<bool>,
    /// The most bytes that it had in memory, as far as is known.
    pub peak_memory: Option<u64>,
    /// By how many bytes it was to grow at most, where it was ended for that.
    pub memory_limit: Option<u64>,
    /// By how many it had.
    pub memory_growth: Option<u64>,
    /// The last lines that the worker wrote to its stderr.
    pub stderr: String,
    /// Its Python stacks when a fatal signal came.
    pub stack: String,
    /// How the earlier attempts ended, the last ones at least.
    pub earlier_attempts: Vec<String>,
    /// The item of a chunk that it was at.
    pub item: Option<u32>,
    /// The outcome of the task that failed first, where this one only needed its value.
    #[serde(skip)]
    pub cause: Option<Box<Outcome>>,
}

/// How a worker process ended, kept until its successor ends.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) pid: i32,
    pub(super) exit: Exit,
    pub(super) stderr: String,
    pub(super) stack: String,
    pub(super) peak_memory: Option<u64>,
    /// What was last sent to it with a limit on memory, and what was seen.
    pub(super) memory: Option<MemoryUse>,
    /// Where it was killed, and not by us.
    pub(super) oom: Option<Oom>,
    /// The item that it was at, if what it ran was a chunk.
    pub(super) item: Option<u32>,
    /// What was wrong with the link or the handshake, if that is why.
    pub(super) problem: Option<String>,
    /// For what we have ended it.
    pub(super) killed: Option<KillReason>,
}

impl Ended {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            pid: 0,
            exit: Exit::Unknown,
            stderr: String::new(),
            stack: String::new(),
            peak_memory: None,
            memory: None,
            oom: None,
            item: None,
            problem: None,
            killed: None,
        }
    }

    /// Whether the kernel's out-of-memory killer ended it: that sends SIGKILL.
    fn oom_killed(&self) -> Option<bool> {
        match self.exit {
            Exit::Signal(libc::SIGKILL) => self.oom.and_then(|oom| oom.killed),
            Exit::Status(_) | Exit::Signal(_) => Some(false),
            Exit::Unknown => None,
        }
    }
}

impl Failure {
    /// Bytes that it keeps in memory, about.
    pub(super) fn size(&self) -> usize {
        let lists = self.tags.iter().chain(&self.earlier_attempts).map(String::len);
        self.name.len() + self.stderr.len() + self.stack.len() + lists.sum::<usize>()
    }

    pub(super) fn new(
        reason: FailReason,
        task: u64,
        name: &str,
        ended: Option<&Ended>,
        earlier_attempts: Vec<String>,
    ) -> Self {
        let pid = ended.map(|ended| ended.pid);
        let worker = pid.map_or_else(|| "the worker".to_owned(), |pid| format!("worker pid {pid}"));
        let (kind, attempts, ended, message) = match reason {
            FailReason::Crashed { tries, killed, .. } => {
                let how = describe(ended, killed);
                let which = which_in_words(tries);
                let given_up = killed.is_none() && 1 < tries.made && tries.made < tries.allowed;
                let limit = if given_up { "; its crash_limit is reached" } else { "" };
                let facts = facts_in_words(ended, &earlier_attempts);
                let message =
                    format!("{worker} {how} while it ran task {task} ({name}){which}{limit}{facts}");
                (FailureKind::WorkerCrashed, tries.made, ended, message)
            }
            FailReason::TimedOut { tries, limit, .. } => {
                let which = which_in_words(tries);
                let limit = limit.map_or_else(String::new, |limit| format!(" of {} s", limit.as_secs_f64()));
                let message = format!(
                    "task {task} ({name}) ran longer than its timeout{limit}{which}; {worker} was killed"
                );
                (FailureKind::TaskTimeout, tries.made, ended, message)
            }
            FailReason::OverMemory { tries, .. } => {
                let (how, which) = (memory_in_words(ended), which_in_words(tries));
                let message = format!("task {task} ({name}) {how}{which}; {worker} was killed");
                (FailureKind::TaskMemoryExceeded, tries.made, ended, message)
            }
            FailReason::PoolBroken
            | FailReason::PoolShutdown
            | FailReason::DependencyFailed(_)
            | FailReason::Cancelled => {
                let message = format!("the pool was shut down before task {task} ({name}) had finished");
                (FailureKind::PoolShutdown, 0, None, message)
            }
        };
        let exit = ended.map(|ended| ended.exit);
        let memory = ended.and_then(|ended| ended.memory).filter(|_| kind == FailureKind::TaskMemoryExceeded);
        Self {
            kind,
            message: message.into(),
            task,
            name: name.to_owned(),
            tags: Vec::new(),
            attempts,
            pid: ended.map(|ended| ended.pid),
            exit_status: exit
                .and_then(|exit| if let Exit::Status(status) = exit { Some(status) } else { None }),
            signal: exit.and_then(|exit| if let Exit::Signal(signal) = exit { Some(signal) } else { None }),
            oom_killed: ended.and_then(Ended::oom_killed),
            peak_memory: ended.and_then(|ended| ended.peak_memory),
            memory_limit: memory.map(|memory| memory.limit),
            memory_growth: memory.map(|memory| memory.grown),
            stderr: ended.map(|ended| ended.stderr.clone()).unwrap_or_default(),
            stack: ended.map(|ended| ended.stack.clone()).unwrap_or_default(),
            earlier_attempts,
            item: ended.and_then(|ended| ended.item),
            cause: None,
        }
    }
}

impl Failure {
    /// The pool is broken, for this reason, which all its tasks share.
    pub(super) fn broken(why: &Arc<str>, task: u64, name: &str) -> Self {
        Self {
            kind: FailureKind::PoolBroken,
            message: Arc::clone(why),
            task,
            name: name.to_owned(),
            tags: Vec::new(),
            attempts: 0,
            pid: None,
            exit_status: None,
            signal: None,
            oom_killed: None,
            peak_memory: None,
            memory_limit: None,
            memory_growth: None,
            stderr: String::new(),
            stack: String::new(),
            earlier_attempts: Vec::new(),
            item: None,
            cause: None,
        }
    }

    /// The task needed the value of another one, which ended so. Of a row of such tasks, the first one's end counts.
    pub(super) fn unmet(task: u64, name: &str, of: TaskId, outcome: Option<Outcome>) -> Self {
        let (message, cause) = match outcome {
            Some(Outcome::Failed(failure)) if failure.kind == FailureKind::DependencyFailed => {
                let why = failure.message.split_once(": ").map_or("", |(_, why)| why);
                (why.to_owned(), failure.cause.as_deref().cloned())
            }
            Some(Outcome::Cancelled) => {
                (format!("it needs the value of task {}, which was cancelled", of.0), outcome)
            }
            outcome => (format!("it needs the value of task {}, which failed", of.0), outcome),
        };
        let message: Arc<str> = format!("task {task} ({name}) was not run: {message}").into();
        let failure = Self::broken(&message, task, name);
        Self { kind: FailureKind::DependencyFailed, cause: cause.map(Box::new), ..failure }
    }

    /// For people: the stack, and the last words, of which it may be a part.
    pub fn details(&self) -> String {
        let apart = !self.stack.is_empty() && !self.stderr.contains(&self.stack);
        match (apart, &*self.stderr) {
            (false, stderr) => stderr.to_owned(),
            (true, "") => self.stack.clone(),
            (true, stderr) => format!("{}\n\nThe last lines of its stderr:\n{stderr}", self.stack),
        }
    }
}

/// What is known besides how it ended.
fn facts_in_words(ended: Option<&Ended>, earlier: &[String]) -> String {
    let peak = ended.and_then(|ended| ended.peak_memory);
    let peak = peak.map(|peak| format!("; its peak memory was at least {}", bytes_in_words(peak)));
    format!("{}{}", peak.unwrap_or_default(), earlier_in_words(earlier))
}

/// By how much it grew, and what its limit was.
fn memory_in_words(ended: Option<&Ended>) -> String {
    let Some(MemoryUse { limit, grown }) = ended.and_then(|ended| ended.memory) else {
        return "grew its worker by more than its max_memory".to_owned();
    };
    let (limit, grown) = (bytes_in_words(limit), bytes_in_words(grown));
    format!("grew its worker by {grown}, more than its max_memory of {limit}")
}

/// How an attempt ended that was not the last: "worker pid 7 exited with status 7".
pub(super) fn end_in_words(ended: &Ended) -> String {
    let how = match ended.killed {
        Some(KillReason::Timeout) => "was killed, as it ran longer than its timeout".to_owned(),
        Some(KillReason::Memory) => format!("was killed, as its task {}", memory_in_words(Some(ended))),
        killed => describe(Some(ended), killed),
    };
    format!("worker pid {} {how}", ended.pid)
}

/// "exited with status 7", "was killed by signal 11 (SIGSEGV)" …
fn describe(ended: Option<&Ended>, killed: Option<KillReason>) -> String {
    let ours = match killed {
        Some(KillReason::Frozen) => Some("stopped responding (its heartbeat stood still) and was killed"),
        Some(KillReason::Requested) => Some("was restarted on request"),
        Some(
            KillReason::Shutdown
            | KillReason::Timeout
            | KillReason::Memory
            | KillReason::Cancelled
            | KillReason::StartTimeout,
        ) => Some("was killed"),
        None => None,
    };
    if let Some(ours) = ours {
        return ours.to_owned();
    }
    let Some(ended) = ended else { return "died".to_owned() };
    let how = match ended.exit {
        Exit::Status(status) => format!("exited with status {status}"),
        // Our own doing, for the reason below.
        Exit::Signal(libc::SIGKILL) if ended.problem.is_some() => "was killed".to_owned(),
        Exit::Signal(signal) => {
            let oom = ended.oom.filter(|_| signal == libc::SIGKILL);
            let name = oom.map(|oom| format!(" (SIGKILL{})", oom.in_words()));
            format!("was killed by signal {signal}{}", name.as_deref().unwrap_or(signal_name(signal)))
        }
        Exit::Unknown => "died (its exit status was taken by somebody else's waitpid)".to_owned(),
    };
    match &ended.problem {
        Some(problem) => format!("{how} ({problem})"),
        None => how,
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (SIGKILL; perhaps the kernel was out of memory)", // where it does not count
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGHUP => " (SIGHUP)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGXCPU => " (SIGXCPU)",
        _ => "",
    }
}

/// Why workers cannot be started.
pub(super) fn broken_text(executable: &str, ended: Option<&Ended>) -> String {
    let Some(ended) = ended else {
        return "the pool is broken: its workers cannot be started".to_owned();
    };
    let mut text = format!(
        "the pool is broken: its workers die before they are ready; the last one {} (interpreter: {executable})",
        if ended.pid == 0 {
            ended.problem.clone().unwrap_or_default()
        } else {
            format!("{}, pid {}", describe(Some(ended), None), ended.pid)
        }
    );
    if !ended.stderr.is_empty() {
        text.push_str("; its last words:\n");
        text.push_str(&ended.stderr);
    }
    text
}
