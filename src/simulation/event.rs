//! Everything that can be said to the scheduler, as a value: so that it can be logged before it is applied,
//! told to the oracle as well, and said again later.

use std::time::Duration;

use crate::scheduler::types::{Assignment, Cancel, Completion, Shutdown, TaskId, TaskSpec, Time, WorkerId};
use crate::scheduler::{Scheduler, SubmitError};

/// The tasks whose values a new task needs; one may be named twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs(pub(super) [Option<TaskId>; 3]);

impl Needs {
    pub(super) fn distinct(self) -> Vec<TaskId> {
        let mut ids: Vec<_> = self.0.into_iter().flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Submit(TaskSpec, Needs),
    /// A task has ended, and its value is there.
    Value(TaskId),
    /// A task has ended without a value.
    NoValue(TaskId),
    Cancel(TaskId),
    /// A running task submits another.
    SubmitNested(TaskSpec),
    /// Somebody waits for a task, and would run it himself.
    Withdraw(TaskId),
    Restart(WorkerId),
    Recycle(WorkerId),
    RestartAll,
    Resize(u32),
    Shutdown(Shutdown),
    Ready(WorkerId),
    /// It cannot be made ready.
    Unfit(WorkerId),
    /// How long the function ran, if that was measured.
    Completed(WorkerId, Assignment, Option<Duration>),
    /// The same, with an exception that is worth another try.
    Raised(WorkerId, Assignment, Option<Duration>),
    /// The answer to a retraction: so many are back.
    Retracted(WorkerId, usize),
    /// One that is to be cancelled was taken back.
    TakenBack(WorkerId, Assignment),
    /// One that somebody waits for was taken back.
    WithdrawnTakenBack(WorkerId, Assignment),
    /// This one could not be taken back, and is to be stopped.
    KillTask(WorkerId, Assignment),
    /// The process is gone; the last dispatch that it began.
    Exit(WorkerId, Option<Assignment>),
    /// There never was a process; whether the cause may pass.
    SpawnFailed(WorkerId, bool),
    Beat(WorkerId, u64, bool),
    /// The process was seen to take more memory than what it runs may.
    OverMemory(WorkerId, Assignment),
    Pause(Duration),
    Timeout,
}

/// What the scheduler returned at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Submitted(Result<TaskId, SubmitError>),
    Cancel(Cancel),
    Restarted(bool),
    Sentenced(bool),
    Completion(Completion),
}

impl Event {
    pub(super) fn feed(self, scheduler: &mut Scheduler, now: Time) -> Answer {
        match self {
            Self::Submit(spec, needs) => {
                return Answer::Submitted(scheduler.submit_after(spec, &needs.distinct(), now));
            }
            Self::Value(id) => scheduler.handle_value(id, now),
            Self::NoValue(id) => scheduler.handle_no_value(id, now),
            Self::SubmitNested(spec) => return Answer::Submitted(scheduler.submit_nested(spec, now)),
            Self::Cancel(id) => return Answer::Cancel(scheduler.cancel(id, now)),
            Self::Withdraw(id) => return Answer::Cancel(scheduler.withdraw(id, now)),
            Self::Restart(id) => return Answer::Restarted(scheduler.restart_worker(id, now)),
            Self::Recycle(id) => return Answer::Restarted(scheduler.recycle(id, now)),
            Self::Completed(id, done, ran) => {
                return Answer::Completion(scheduler.handle_completed(id, done, ran, now));
            }
            Self::Raised(id, done, ran) => {
                return Answer::Completion(scheduler.handle_raised(id, done, ran, now));
            }
            Self::KillTask(id, run) => return Answer::Sentenced(scheduler.kill_task(id, run, now)),
            Self::Retracted(id, count) => scheduler.handle_retracted(id, count, now),
            Self::TakenBack(id, run) => scheduler.cancel_taken_back(id, run, now),
            Self::WithdrawnTakenBack(id, run) => scheduler.withdraw_taken_back(id, run, now),
            Self::Shutdown(mode) => scheduler.shutdown(mode, now),
            Self::RestartAll => scheduler.restart_all(now),
            Self::Resize(workers) => scheduler.resize(workers, now),
            Self::Ready(id) => scheduler.handle_ready(id, now),
            Self::Unfit(id) => scheduler.handle_unfit(id, now),
            Self::Exit(id, begun) => scheduler.handle_exit(id, begun, now),
            Self::SpawnFailed(id, transient) => scheduler.handle_spawn_failed(id, transient, now),
            Self::Beat(id, count, at_work) => scheduler.handle_beat(id, count, at_work, now),
            Self::OverMemory(id, run) => scheduler.handle_over_memory(id, run),
            Self::Pause(gap) => scheduler.handle_pause(gap),
            Self::Timeout => scheduler.handle_timeout(now),
        }
        Answer::Nothing
    }
}
