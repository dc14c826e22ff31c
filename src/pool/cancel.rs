//! Taking back what waits, and stopping what runs.

use super::core::Core;
use super::slot::Outcome;
use crate::scheduler::types::{Assignment, Cancel, TaskId, Time, WorkerId};

impl Core {
    /// Take back a task that no worker has begun. `false`: too late.
    pub(super) fn cancel(&mut self, id: TaskId) -> bool {
        let now = self.now();
        let cancelled = match self.scheduler.cancel(id, now) {
            Cancel::Cancelled => true,
            Cancel::TooLate => false,
            Cancel::Sent(worker, run) => self.take_back(worker, run, now),
        };
        if cancelled {
            self.resolve(id, Outcome::Cancelled, now);
        }
        self.run_actions(now);
        cancelled
    }

    /// Whether a worker has begun it: one that was only sent there can still be taken back.
    pub(super) fn is_running(&self, id: TaskId) -> bool {
        let begun = self.scheduler.worker_of(id).and_then(|worker| self.begun_by(worker));
        begun.is_some_and(|run| run.task == id)
    }

    fn take_back(&mut self, worker: WorkerId, run: Assignment, now: Time) -> bool {
        let back = self.seat(worker).is_some_and(|seat| seat.retract(run));
        if back {
            self.scheduler.cancel_taken_back(worker, run, now);
        }
        back
    }

    /// As [`Self::cancel`], and where a worker runs it, that is stopped.
    pub(super) fn kill(&mut self, id: TaskId) -> bool {
        if self.cancel(id) {
            return true;
        }
        let now = self.now();
        self.look_at_all(now); // what is done is done
        let sentenced = match self.scheduler.cancel(id, now) {
            Cancel::Sent(worker, run) => self.scheduler.kill_task(worker, run, now),
            Cancel::Cancelled => {
                self.resolve(id, Outcome::Cancelled, now); // it raised, and waited to be tried again
                true
            }
            Cancel::TooLate => false,
        };
        self.run_actions(now);
        sentenced
    }
}
