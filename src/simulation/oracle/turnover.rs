//! What the oracle knows of workers that come and go without having died.

use super::task::Place;
use super::worker::{Life, Worker};
use super::{Oracle, Phase};
use crate::scheduler::STOP_LIMIT;
use crate::scheduler::types::{Action, FailReason, KillReason, TaskId, Time, WorkerId};

impl Worker {
    /// One of those that are wanted: there, or on its way, and with a task where it is not to stay.
    fn is_one(&self) -> bool {
        match self.life {
            Life::Leaving(_) | Life::Gone => false,
            Life::Vacant(_) | Life::Starting(_) | Life::Up => self.killed.is_none() || !self.dismissed,
        }
    }

    fn stays(&self) -> bool {
        self.is_one() && !self.dismissed
    }
}

impl Oracle {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
    }

    fn ones(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_one()).count()
    }

    pub(super) fn recycle(&mut self, id: WorkerId, now: Time) -> bool {
        let Some(worker) = self.current(id) else { return false };
        if worker.life != Life::Up || worker.killed.is_some() || worker.dismissed {
            return false;
        }
        self.dismiss(id.slot as usize, now);
        true
    }

    pub(super) fn restart_all(&mut self, now: Time) {
        if !self.is_open() {
            return;
        }
        self.corners.restarted += 1;
        let old = |worker: &Worker| worker.is_one() && !matches!(worker.life, Life::Vacant(_));
        let old: Vec<_> = (0..self.workers.len()).filter(|&slot| old(&self.workers[slot])).collect();
        for slot in old {
            self.dismiss(slot, now);
        }
    }

    pub(super) fn resize(&mut self, workers: usize, now: Time) {
        if !self.is_open() {
            return;
        }
        self.corners.grown += u64::from(workers > self.wanted);
        self.corners.shrunk += u64::from(workers < self.wanted);
        self.wanted = workers;
        while self.workers.iter().filter(|worker| worker.stays()).count() > workers {
            // Who is of the least use goes: whoever is dead or not there, then who has nothing to do; the last of them.
            let staying = self.workers.iter().enumerate().rev().filter(|(_, worker)| worker.stays());
            let use_of = |worker: &Worker| match worker.life {
                Life::Vacant(_) => 1,
                _ if worker.killed.is_some() => 0,
                Life::Starting(_) => 2,
                Life::Up if worker.held.is_empty() => 3,
                Life::Up | Life::Leaving(_) | Life::Gone => 4,
            };
            let (slot, _) = staying.min_by_key(|(_, worker)| use_of(worker)).expect("there are too many");
            self.dismiss(slot, now);
        }
        self.fill(now);
    }

    pub(super) fn unfit(&mut self, id: WorkerId, now: Time) {
        let open = self.is_open();
        let Some(worker) = self.current(id) else { return self.standby_unfit(id, now) };
        if open && worker.killed.is_none() && matches!(worker.life, Life::Starting(_)) {
            worker.life = Life::Leaving(None);
            self.corners.unfit += 1;
            self.break_pool(now);
        }
    }

    pub(super) fn break_pool(&mut self, now: Time) {
        self.fail_all(FailReason::PoolBroken);
        self.phase = Phase::Broken;
        self.owed.push(Action::Broken);
        self.stop(now);
    }

    fn dismiss(&mut self, slot: usize, now: Time) {
        self.release_standby(slot, now);
        let worker = &mut self.workers[slot];
        let id = worker.id;
        worker.dismissed = true;
        let (life, killed, busy) = (worker.life, worker.killed.is_some(), !worker.held.is_empty());
        match life {
            Life::Vacant(_) => worker.life = Life::Gone,
            Life::Starting(_) if !killed => drop(self.doom(id, KillReason::Shutdown)),
            Life::Up if !killed => {
                self.corners.recycled += 1;
                self.corners.recycled_at_work += u64::from(busy);
                self.touch(id);
                self.let_go(slot, now);
            }
            Life::Starting(_) | Life::Up | Life::Leaving(_) | Life::Gone => {}
        }
        self.fill(now);
    }

    /// One that gets no more leaves, if it has nothing left.
    pub(super) fn let_go(&mut self, slot: usize, now: Time) {
        let open = self.is_open();
        let worker = &mut self.workers[slot];
        let used_up = worker.allowed == Some(0);
        let done = worker.can_be_asked() && worker.held.is_empty() && (worker.dismissed || used_up);
        if done && open {
            self.corners.used_up += u64::from(used_up);
            worker.life = Life::Leaving(Some(now + STOP_LIMIT));
            worker.dismissed = true;
            let id = worker.id;
            self.touch(id);
            self.owed.push(Action::Stop(id));
            self.release_standby(slot, now);
            self.fill(now);
        }
    }

    /// Somebody for everybody who is missing, in the first place that is free; but not while as many as are wanted
    /// still leave.
    pub(super) fn fill(&mut self, now: Time) {
        while self.is_open() && self.ones() < self.wanted {
            let gone = |worker: &Worker| worker.life == Life::Gone;
            if self.workers.iter().filter(|worker| !gone(worker)).count() >= 2 * self.wanted {
                self.corners.full_houses += 1;
                return;
            }
            self.corners.overlaps +=
                u64::from(self.workers.iter().any(|worker| matches!(worker.life, Life::Leaving(_))));
            if let Some(slot) =
                self.workers.iter().position(|worker| gone(worker) && worker.standby.is_none())
            {
                self.workers[slot].early_deaths = 0;
                self.start(slot, now);
            } else {
                let worker = Worker::new(self.workers.len() as u32, self.terms, now);
                self.owed.push(Action::Spawn(worker.id));
                self.workers.push(worker);
            }
        }
    }

    /// There are never more at work than are wanted, but for those that were too many when the pool was made smaller.
    pub(super) fn check_strength(&self) {
        let staying = self.workers.iter().filter(|worker| worker.stays()).count();
        assert!(!self.is_open() || staying <= self.wanted, "{staying} workers, {} are wanted", self.wanted);
    }

    /// Those first in the queue that a worker is on its way to: a cancelling shutdown leaves them alone.
    pub(super) fn spared(&mut self) -> Vec<TaskId> {
        let starts = |worker: &&Worker| matches!(worker.life, Life::Starting(_)) && worker.killed.is_none();
        let starting = self.workers.iter().filter(starts).count();
        // A backoff that is over stands in the queue, and the oracle cannot always tell that it is.
        let waits = |place| matches!(place, Place::Waiting { .. } | Place::Backoff(_));
        let queue = self.queue.iter().copied();
        let waiting = queue.filter(|&id| self.tasks.get(id).is_some_and(|task| waits(task.place)));
        let spared: Vec<_> = waiting.take(starting).collect();
        self.corners.spared_for_starters += spared.len() as u64;
        spared
    }
}
