//! What workers answer: a task has ended, or an attempt has.

use std::time::Duration;

use super::Scheduler;
use super::planted::Bug;
use super::timer::Timer;
use super::types::{Assignment, Completion, Time, WorkerId};
use super::worker::{Standing, WorkerState};

impl Scheduler {
    /// The process says that this dispatch is done, with a value or an exception. `ran`: how long its function took.
    pub fn handle_completed(
        &mut self,
        id: WorkerId,
        done: Assignment,
        ran: Option<Duration>,
        now: Time,
    ) -> Completion {
        let done = self.fenced(id, done);
        if !self.take_answer(id, done, ran, now) {
            return Completion::Stale;
        }
        self.tasks.remove(done.task);
        self.totals.completed += 1;
        self.dispatch(now);
        self.stop_if_drained(now);
        self.leave_if_done(id.slot, now);
        Completion::Final
    }

    /// As [`Self::handle_completed`], with an exception after which the task is to be tried again, if it may be.
    pub fn handle_raised(
        &mut self,
        id: WorkerId,
        done: Assignment,
        ran: Option<Duration>,
        now: Time,
    ) -> Completion {
        if !self.take_answer(id, done, ran, now) {
            return Completion::Stale;
        }
        let doomed = self.tasks.known(done.task).doomed;
        let again = !doomed && self.try_again(done.task, false, now);
        if !again {
            self.tasks.remove(done.task);
            self.totals.completed += 1;
        }
        self.dispatch(now);
        self.stop_if_drained(now);
        self.leave_if_done(id.slot, now);
        if again { Completion::Again } else { Completion::Final }
    }

    /// A dispatch was answered: it is off its worker's hands. `false`: it was not there.
    fn take_answer(&mut self, id: WorkerId, done: Assignment, ran: Option<Duration>, now: Time) -> bool {
        let deaf = self.has(Bug::IgnoresDrainedResults);
        let keeps_the_row = self.has(Bug::KeepsTheRow);
        let Some(worker) = self.workers.current(id) else { return false };
        match worker.state {
            WorkerState::Up => {}
            WorkerState::Killed(_) if !deaf => {}
            WorkerState::Killed(_)
            | WorkerState::Vacant
            | WorkerState::Starting
            | WorkerState::Draining
            | WorkerState::Retired => return false,
        }
        if !self.workers.release(id, done) {
            return false;
        }
        if let Some(worker) = self.workers.current(id) {
            worker.tasks_done += 1;
            worker.progress = now;
            if !worker.answered {
                worker.answered = true;
                if !keeps_the_row {
                    worker.seldom.standing = Standing::Proven;
                }
            }
        }
        let task = self.tasks.known(done.task);
        let (function, timed) = (task.function, task.timeout().is_some());
        if timed && !self.has(Bug::ForgetsToClearTheDeadline) {
            self.timers.clear(Timer::Attempt(id));
        }
        if let Some(ran) = ran {
            self.estimates.observe(function, ran);
        }
        self.execute(id);
        true
    }
}
