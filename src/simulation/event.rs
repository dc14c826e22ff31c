//! Everything that can be said to the scheduler, as a value: so that it can be logged before it is applied,
//! told to the oracle as well, and said again later.

use std::time::Duration;

use crate::scheduler::types::{Assignment, Cancel, Completion, Shutdown, TaskId, TaskSpec, Time, WorkerId};
use crate::scheduler::{Scheduler, SubmitError};

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Submit(TaskSpec),
    Cancel(TaskId),
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
    /// The answer to a retraction: so many are back.
    Retracted(WorkerId, usize),
    /// One that is to be cancelled was taken back.
    TakenBack(WorkerId, Assignment),
    /// The process is gone; the last dispatch that it began.
    Exit(WorkerId, Option<Assignment>),
    /// There never was a process; whether the cause may pass.
    SpawnFailed(WorkerId, bool),
    Beat(WorkerId, u64),
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
    Completion(Completion),
}

impl Event {
    pub(super) fn feed(self, scheduler: &mut Scheduler, now: Time) -> Answer {
        match self {
            Self::Submit(spec) => return Answer::Submitted(scheduler.submit(spec, now)),
            Self::Cancel(id) => return Answer::Cancel(scheduler.cancel(id, now)),
            Self::Restart(id) => return Answer::Restarted(scheduler.restart_worker(id, now)),
            Self::Recycle(id) => return Answer::Restarted(scheduler.recycle(id, now)),
            Self::Completed(id, done, ran) => {
                return Answer::Completion(scheduler.handle_completed(id, done, ran, now));
            }
            Self::Retracted(id, count) => scheduler.handle_retracted(id, count, now),
            Self::TakenBack(id, run) => scheduler.cancel_taken_back(id, run, now),
            Self::Shutdown(mode) => scheduler.shutdown(mode, now),
            Self::RestartAll => scheduler.restart_all(now),
            Self::Resize(workers) => scheduler.resize(workers, now),
            Self::Ready(id) => scheduler.handle_ready(id, now),
            Self::Unfit(id) => scheduler.handle_unfit(id, now),
            Self::Exit(id, begun) => scheduler.handle_exit(id, begun, now),
            Self::SpawnFailed(id, transient) => scheduler.handle_spawn_failed(id, transient, now),
            Self::Beat(id, count) => scheduler.handle_beat(id, count, now),
            Self::Pause(gap) => scheduler.handle_pause(gap),
            Self::Timeout => scheduler.handle_timeout(now),
        }
        Answer::Nothing
    }
}
