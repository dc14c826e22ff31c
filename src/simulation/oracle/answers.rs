//! What the oracle concludes from what workers answer.

use std::mem;
use std::time::Duration;

use super::Oracle;
use crate::scheduler::types::{Assignment, Completion, TaskId, Time, WorkerId};

impl Oracle {
    pub(super) fn completed(
        &mut self,
        id: WorkerId,
        done: Assignment,
        ran: Option<Duration>,
        now: Time,
    ) -> Completion {
        if !self.answered(id, done, ran, now) {
            return Completion::Stale;
        }
        self.conclude(id, done.task, now)
    }

    pub(super) fn raised(
        &mut self,
        id: WorkerId,
        done: Assignment,
        ran: Option<Duration>,
        now: Time,
    ) -> Completion {
        if !self.answered(id, done, ran, now) {
            return Completion::Stale;
        }
        if !self.tasks.at(done.task).doomed && self.try_again(done, false, now) {
            self.let_go(id.slot as usize, now);
            return Completion::Again;
        }
        self.conclude(id, done.task, now)
    }

    fn conclude(&mut self, worker: WorkerId, id: TaskId, now: Time) -> Completion {
        self.corners.spared += u64::from(self.tasks.at(id).doomed);
        self.end(id);
        self.totals.completed += 1;
        self.stop_if_drained(now);
        self.let_go(worker.slot as usize, now);
        Completion::Final
    }

    /// Whether that worker had this to answer.
    fn answered(&mut self, id: WorkerId, done: Assignment, ran: Option<Duration>, now: Time) -> bool {
        let Some(worker) = self.current(id) else { return false };
        if worker.held.front().is_none_or(|sent| sent.run != done) {
            return false;
        }
        worker.remove(0);
        worker.beat = None; // an answer is a sign of life
        worker.moved = now;
        worker.done += 1;
        worker.useful = true;
        let row = mem::take(&mut worker.early_deaths);
        self.touch(id);
        if let Some(ran) = ran {
            let function = self.function(done.task);
            self.expected.learn(function, ran);
        }
        self.corners.rows_ended_by_work += u64::from(row > 0);
        self.execute(id);
        true
    }
}
