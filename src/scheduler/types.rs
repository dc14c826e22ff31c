//! The vocabulary that the scheduler shares with the layers above it.

use std::num::NonZeroU32;
use std::time::Duration;

/// Monotonic time since the pool began. The scheduler never reads a clock: it is told.
pub type Time = Duration;

/// A task, numbered in order of submission within one pool. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// The how-manieth dispatch of a task this is, from 1. It is the *fencing token*: a message that carries an
/// older number comes from a dispatch that has been given up, and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

/// One dispatch of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// What is to run.
    pub task: TaskId,
    /// Which dispatch of it.
    pub attempt: Attempt,
}

/// One worker process: the place in the pool that it fills, and the how-manieth process in that place it is.
/// A fact about an earlier process of the same place is thereby recognised as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    /// The place, from 0 to `max_workers - 1`.
    pub slot: u32,
    /// The process within the place, from 1.
    pub incarnation: u32,
}

/// What runs: tasks of one function are expected to take about as long as each other. The layer above numbers
/// them, in a row from 1. 0 is a function that nothing is known of, and never will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// What the submitter asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskSpec {
    /// What it runs, for an estimate of how long it takes.
    pub function: FunctionId,
    /// Higher runs first; equal priorities run in order of submission.
    pub priority: i32,
    /// How often the task may be run again after its worker died.
    pub retries: u32,
    /// How many worker deaths the task may cause before it is given up, though it has retries left.
    /// `None`: `retries + 1`, so that they are all granted.
    pub crash_limit: Option<NonZeroU32>,
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// Whether a time-out is tried again as well, where there are retries.
    pub retry_timeouts: bool,
    /// So many bytes its worker may grow by while it runs.
    pub max_memory: Option<u64>,
    /// Whether an attempt that took more is tried again as well, where there are retries.
    pub retry_over_memory: bool,
    /// How long it waits before it is tried again.
    pub backoff: Backoff,
}

/// The longest waits before retries. Each wait is uniform below its own bound; in milliseconds, to be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first retry; it doubles with each.
    pub base_ms: u32,
    /// Before any.
    pub cap_ms: u32,
}

/// What became of a message that says "this dispatch is done".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is the answer: the task is resolved with it, and forgotten here.
    Final,
    /// It comes from a dispatch that was given up, or comes for the second time: drop it.
    Stale,
    /// It is an error, and the task is tried again: drop it.
    Again,
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The task had not been dispatched; it is forgotten here and its future is the caller's to resolve.
    Cancelled,
    /// A worker has been sent it, and may not have taken it yet: take it back if you can, and then call
    /// [`crate::scheduler::Scheduler::cancel_taken_back`]; if you cannot, [`crate::scheduler::Scheduler::kill_task`] stops
    /// it all the same.
    Sent(WorkerId, Assignment),
    /// The task has ended: too late.
    TooLate,
}

/// How often a task was begun, of how often that may be. A dispatch that came back unbegun is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// So often, what runs now included: from 1.
    pub made: u32,
    /// With all of its retries.
    pub allowed: u32,
}

/// Why a task ends without an answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// The worker that ran it died, and it may not (or no longer) be retried.
    Crashed {
        /// The process that died last.
        worker: WorkerId,
        /// Which try that was.
        tries: Tries,
        /// Set where the supervisor ended the worker itself.
        killed: Option<KillReason>,
    },
    /// It ran longer than its time-out.
    TimedOut {
        /// The process that was ended for it.
        worker: WorkerId,
        /// Which try that was.
        tries: Tries,
        /// The time-out.
        limit: Option<Duration>,
    },
    /// Its worker grew by more than it may take.
    OverMemory {
        /// The process that was ended for it.
        worker: WorkerId,
        /// Which try that was.
        tries: Tries,
    },
    /// It needs the value of this task, which has ended without one.
    DependencyFailed(TaskId),
    /// It was still waiting when the pool was shut down with `cancel_futures`, or it was stopped on request.
    Cancelled,
    /// The pool gave up: its workers die before they are ready.
    PoolBroken,
    /// The pool was shut down at once, without waiting for accepted work.
    PoolShutdown,
}

/// Why the supervisor ends a worker by force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The attempt that it runs is over its time-out.
    Timeout,
    /// The attempt that it runs takes more memory than it may.
    Memory,
    /// The task that it runs is to be stopped.
    Cancelled,
    /// Its heartbeat stands still: the process is stopped or frozen.
    Frozen,
    /// It did not become ready in time.
    StartTimeout,
    /// The pool is going away.
    Shutdown,
    /// Somebody asked for this worker to be replaced.
    Requested,
}

/// What the driver must now do. Drain with [`crate::scheduler::Scheduler::poll_action`] after each batch of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process, and report it ready or exited.
    Spawn(WorkerId),
    /// Send this dispatch to that worker.
    Dispatch(WorkerId, Assignment),
    /// Take back from that worker what it has not begun: the last so many dispatches, the newest first, up to the first
    /// that it has. Say how many with [`crate::scheduler::Scheduler::handle_retracted`], also where there were none. Fewer
    /// than asked for means that it has gone on to the last of those that are left: nothing else may be a reason, or a
    /// time-out is not enforced (but for the process being gone, which its exit will tell).
    Retract(WorkerId, usize),
    /// End that worker's process group by force, and report the exit.
    Kill(WorkerId, KillReason),
    /// Ask that worker to finish; a kill follows at the shared deadline.
    Stop(WorkerId),
    /// Resolve that task's future with an error.
    Fail(TaskId, FailReason),
    /// The pool is broken: say so, loudly, with the last worker's stderr.
    Broken,
    /// The last worker is gone; nothing more will be asked.
    Finished,
}

/// What the shutting-down does with accepted work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Run everything that was accepted, then stop.
    Drain,
    /// Cancel what has not been dispatched, let the rest finish, then stop.
    CancelPending,
    /// Fail everything and kill the workers now.
    Now,
}

/// What one worker is doing, for `status()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// Its process was asked for and is not ready.
    Starting,
    /// Ready, with nothing to do.
    Idle,
    /// It runs this, or is about to.
    Busy(Assignment),
    /// Told to stop or killed; its exit is awaited.
    Draining,
    /// Its process died; the next one waits for its turn.
    Restarting,
    /// Gone for good.
    Gone,
}
