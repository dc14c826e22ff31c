//! Tasks that tasks submit, and wait for. Whoever waits for one that nobody has begun is given it, and runs it where he
//! stands: it then is a part of his own task, and of no concern to us.

use super::planted::Bug;
use super::task::TaskState;
use super::timer::Timer;
use super::types::{Assignment, Cancel, TaskId, TaskSpec, Time, WorkerId};
use super::{Phase, Scheduler, SubmitError};

impl Scheduler {
    /// Accept a task that a running one submits. Also while the pool drains: the other one was accepted, and needs it.
    pub fn submit_nested(&mut self, spec: TaskSpec, now: Time) -> Result<TaskId, SubmitError> {
        if self.phase != Phase::Draining || self.cancelling {
            self.check_accepting()?;
        }
        let id = self.tasks.insert(&spec);
        self.ready.push_back(spec.priority, id);
        self.dispatch(now);
        Ok(id)
    }

    /// Give a task that no worker has begun to whoever waits for it. The answers are those of [`Self::cancel`]; one that
    /// lacks values of others is not given away.
    pub fn withdraw(&mut self, id: TaskId, now: Time) -> Cancel {
        match self.tasks.get(id).map(|task| (task.state, task.attempt)) {
            None | Some((TaskState::Waiting, _)) => return Cancel::TooLate,
            Some((TaskState::Sent(worker), attempt)) => {
                return Cancel::Sent(worker, Assignment { task: id, attempt });
            }
            Some((TaskState::Queued, _)) if self.has(Bug::RunsWhatWasGivenAway) => {}
            Some((TaskState::Queued, _)) => {
                self.tasks.remove(id);
                self.ready.note_cancelled(|task| self.tasks.is_queued(task));
            }
            Some((TaskState::Backoff, _)) => {
                self.tasks.remove(id);
                self.timers.clear(Timer::Retry(id));
            }
        }
        self.totals.withdrawn += 1;
        self.stop_if_drained(now);
        Cancel::Cancelled
    }

    /// After [`Cancel::Sent`]: it was taken back, unbegun.
    pub fn withdraw_taken_back(&mut self, id: WorkerId, run: Assignment, now: Time) {
        if self.forget_taken_back(id, run) {
            self.totals.withdrawn += 1;
            self.dispatch(now);
            self.stop_if_drained(now);
            self.leave_if_done(id.slot, now);
        }
    }

    /// It is off that worker's hands, and forgotten. `false`: the process went in the meantime.
    pub(super) fn forget_taken_back(&mut self, id: WorkerId, run: Assignment) -> bool {
        if !self.workers.release(id, run) {
            return false;
        }
        if self.tasks.remove(run.task).timeout().is_some() {
            self.timers.clear(Timer::Attempt(id)); // it was in front, as whatever has a time-out is
        }
        self.workers.allow_again(id.slot, 1);
        self.execute(id); // something else may be to be stopped, and is in front now
        true
    }
}
