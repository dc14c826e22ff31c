//! What somebody does not want any more: taken back where it waits, stopped where it runs.

use super::Scheduler;
use super::planted::Bug;
use super::task::TaskState;
use super::timer::Timer;
use super::types::{Assignment, Cancel, TaskId, Time, WorkerId};
use super::worker::WorkerState;

impl Scheduler {
    /// Take back a task that no worker has begun.
    pub fn cancel(&mut self, id: TaskId, now: Time) -> Cancel {
        match self.tasks.get(id).map(|task| (task.state, task.attempt)) {
            None => return Cancel::TooLate,
            Some((TaskState::Sent(worker), attempt)) => {
                return Cancel::Sent(worker, Assignment { task: id, attempt });
            }
            Some((TaskState::Queued, _)) => {
                self.tasks.remove(id);
                self.ready.note_cancelled(|task| self.tasks.is_queued(task));
            }
            Some((TaskState::Waiting, _)) => {
                self.tasks.remove(id);
                self.dependencies.forget(id);
            }
            Some((TaskState::Backoff, _)) => {
                self.tasks.remove(id);
                if !self.has(Bug::ForgetsToClearTheRetry) {
                    self.timers.clear(Timer::Retry(id));
                }
            }
        }
        self.totals.cancelled += 1;
        self.stop_if_drained(now);
        Cancel::Cancelled
    }

    /// After [`Cancel::Sent`]: it was taken back, unbegun. It is forgotten here, as with [`Cancel::Cancelled`].
    pub fn cancel_taken_back(&mut self, id: WorkerId, run: Assignment, now: Time) {
        if self.forget_taken_back(id, run) {
            self.totals.cancelled += 1;
            self.dispatch(now);
            self.stop_if_drained(now);
            self.leave_if_done(id.slot, now);
        }
    }

    /// After [`Cancel::Sent`]: it could not be taken back. Its worker is killed for it, as soon as nothing waits there that
    /// the kill might hit instead, and the task ends cancelled, unless an answer comes first. `false`: it has ended.
    pub fn kill_task(&mut self, id: WorkerId, run: Assignment, _now: Time) -> bool {
        let known =
            self.workers.current(id).is_some_and(|worker| worker.held.iter().any(|held| held.run() == run));
        if !known {
            return false;
        }
        self.tasks.known(run.task).doomed = true;
        self.workers.change(id.slot, |worker| worker.sentenced = worker.state == WorkerState::Up);
        self.execute(id);
        true
    }
}
