//! What follows from a worker's exit: for the task that it had, for its place, and for the pool.

use std::time::Duration;

use super::task::Place;
use super::worker::{Life, Worker};
use super::{Oracle, Phase};
use crate::scheduler::restart::{EARLY_DEATH_LIMIT, RESTART_BASE, RESTART_CAP};
use crate::scheduler::types::{Action, Assignment, FailReason, KillReason, Time, WorkerId};

impl Oracle {
    pub(super) fn exit(&mut self, id: WorkerId, begun: Option<Assignment>, now: Time) {
        let Some(worker) = self.current(id).filter(|worker| worker.is_process()) else { return };
        let Worker { life, killed, .. } = *worker;
        worker.life = Life::Vacant(now);
        if killed.is_none() && life != Life::Leaving {
            self.totals.worker_deaths += 1;
        }
        if let Life::Busy(run, _) = life {
            self.lose(id, run, begun == Some(run), killed, now);
        }
        self.stop_if_drained(now);
        let starting = matches!(life, Life::Starting(_));
        let early = starting && matches!(killed, None | Some(KillReason::StartTimeout));
        match self.phase {
            Phase::Open | Phase::Draining if early => self.die_early(id, now),
            Phase::Open | Phase::Draining => self.start(id.slot as usize, now),
            Phase::Stopping | Phase::Broken => {
                self.workers[id.slot as usize].life = Life::Gone;
                self.finish_if_all_gone();
            }
        }
    }

    /// A result that had arrived would have ended the task before.
    fn lose(
        &mut self,
        worker: WorkerId,
        run: Assignment,
        begun: bool,
        killed: Option<KillReason>,
        now: Time,
    ) {
        let submitted = self.tasks.submitted();
        let task = self.tasks.at(run.task);
        if !begun {
            task.place = Place::Waiting { returned: true };
        } else if killed == Some(KillReason::Timeout) {
            self.fail(run.task, FailReason::TimedOut { worker });
        } else if let Some(wait) = task.charge(killed.is_none()) {
            task.place = Place::Backoff(now + wait);
            task.behind = submitted;
            self.totals.retried += 1;
        } else {
            let attempts = task.dispatches;
            self.fail(run.task, FailReason::Crashed { worker, attempts, killed });
        }
    }

    /// It never came up: others are not started as fast as they die, and not for ever.
    fn die_early(&mut self, id: WorkerId, now: Time) {
        self.early_deaths += 1;
        if self.early_deaths > EARLY_DEATH_LIMIT && !self.workers.iter().any(Worker::is_up) {
            self.fail_all(FailReason::PoolBroken);
            self.phase = Phase::Broken;
            self.owed.push(Action::Broken);
            return self.stop(now);
        }
        let wait = match self.early_deaths {
            1 => Duration::ZERO,
            n => RESTART_CAP.min(RESTART_BASE * 2_u32.pow((n - 2).min(16))),
        };
        if wait.is_zero() {
            self.start(id.slot as usize, now);
        } else {
            self.workers[id.slot as usize].life = Life::Vacant(now + wait);
        }
    }
}
