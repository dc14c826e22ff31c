//! Workers that come and go without having died: recycled, restarted, more or fewer of them.
//!
//! A worker is *dismissed*: it gets nothing more, ends what it has begun, is told to leave, and its place is retired. As
//! soon as it has nothing more to do another place is opened, where one is wanted: the next process starts while the old
//! one runs its exit handlers. Not before, so that never more tasks run at once than there are to be workers.

use std::num::NonZeroU32;

use super::planted::Bug;
use super::standby::StandbyState;
use super::timer::Timer;
use super::types::{Action, KillReason, Time, WorkerId};
use super::worker::{Standing, Worker, WorkerState};
use super::{Phase, STOP_LIMIT, Scheduler};

/// Places with a process, for each worker that is wanted: the second is for one that leaves and takes its time.
const PLACES_PER_WORKER: usize = 2;

impl Scheduler {
    /// Each worker process is sent so many tasks at most, and then replaced.
    pub fn limit_tasks(&mut self, limit: NonZeroU32) {
        self.workers.limit_tasks(limit.get());
    }

    /// Workers run code of the user's before they are ready, which takes as long as it takes: only one that shows no sign
    /// of life for [`super::START_LIMIT`] is given up.
    pub fn allow_slow_starts(&mut self) {
        self.slow_starts = true;
        for id in self.workers.ids() {
            self.timers.clear(Timer::Start(id));
        }
    }

    /// Replace a worker when it has ended what it is at. `false`: it is not there, or leaves already.
    pub fn recycle(&mut self, id: WorkerId, now: Time) -> bool {
        let Some(worker) = self.workers.current(id) else { return false };
        if worker.state != WorkerState::Up || worker.leaving {
            return false;
        }
        self.dismiss(id.slot, now);
        true
    }

    /// Replace all of them so. What is sent from now on is sent to new ones.
    pub fn restart_all(&mut self, now: Time) {
        if !self.replaces() {
            return;
        }
        let old: Vec<_> = self.workers.ids().filter(|id| self.workers.slot(id.slot).counts()).collect();
        for id in old {
            if self.workers.slot(id.slot).state != WorkerState::Vacant {
                self.dismiss(id.slot, now);
            }
        }
    }

    /// From now on there are to be so many workers. Those that are too many end what they are at.
    ///
    /// # Panics
    /// With no workers at all.
    pub fn resize(&mut self, workers: u32, now: Time) {
        assert!(workers > 0, "a pool has at least one worker");
        if !self.replaces() {
            return;
        }
        self.wanted = workers;
        while self.staying() > workers as usize {
            let slots = 0..self.workers.iter().count() as u32;
            let least =
                slots.filter(|&slot| self.stays(slot)).max_by_key(|&slot| (self.dispensable(slot), slot));
            let Some(slot) = least else { break };
            self.dismiss(slot, now);
        }
        self.fill(now);
    }

    fn stays(&self, slot: u32) -> bool {
        let worker = self.workers.slot(slot);
        worker.counts() && !worker.leaving
    }

    fn staying(&self) -> usize {
        self.workers.iter().filter(|worker| worker.counts() && !worker.leaving).count()
    }

    /// The higher, the less is lost with the place.
    fn dispensable(&self, slot: u32) -> u8 {
        let worker = self.workers.slot(slot);
        match worker.state {
            WorkerState::Killed(_) => 4,
            WorkerState::Vacant => 3,
            WorkerState::Starting => 2,
            WorkerState::Up if worker.held.is_empty() => 1,
            WorkerState::Up | WorkerState::Draining | WorkerState::Retired => 0,
        }
    }

    /// Whether this very process has completed a task.
    #[must_use]
    pub fn has_served(&self, id: WorkerId) -> bool {
        let worker = self.workers.iter().nth(id.slot as usize);
        let current = worker.filter(|worker| worker.incarnation == id.incarnation);
        current.is_some_and(|worker| worker.seldom.standing == Standing::Proven)
    }

    /// Whether a place that becomes empty is filled again.
    #[must_use]
    pub fn replaces(&self) -> bool {
        match self.phase {
            Phase::Running | Phase::Draining => true,
            Phase::Stopping | Phase::Broken | Phase::Finished => false,
        }
    }

    /// This place is given up as soon as its process has nothing to do.
    fn dismiss(&mut self, slot: u32, now: Time) {
        let id = self.workers.id(slot);
        self.release_standby(slot, now);
        match self.workers.slot(slot).state {
            WorkerState::Vacant => {
                self.timers.clear(Timer::Restart(slot));
                self.retire(slot);
            }
            WorkerState::Starting => {
                self.kill(id, KillReason::Shutdown);
                self.workers.change(slot, |worker| worker.leaving = true);
            }
            WorkerState::Killed(_) => self.workers.change(slot, |worker| worker.leaving = true),
            WorkerState::Up => {
                self.workers.change(slot, |worker| worker.leaving = true);
                let worker = self.workers.slot(slot);
                if worker.has_prefetched() && !self.has(Bug::DismissesWithoutTakingBack) {
                    self.take_back(slot, worker.unbegun());
                }
                self.leave_if_done(slot, now);
            }
            WorkerState::Draining | WorkerState::Retired => return,
        }
        self.fill(now);
    }

    /// A worker that gets nothing more is told to go when it has nothing left.
    pub(super) fn leave_if_done(&mut self, slot: u32, now: Time) {
        let worker = self.workers.slot(slot);
        let done = worker.state == WorkerState::Up && worker.held.is_empty() && worker.retracting.is_none();
        if !done || worker.may_take() || !self.replaces() {
            return;
        }
        let id = self.workers.id(slot);
        self.workers.change(slot, |worker| {
            worker.leaving = true;
            worker.state = WorkerState::Draining;
        });
        self.timers.set(Timer::Leave(id), now + STOP_LIMIT);
        self.actions.push_back(Action::Stop(id));
        self.release_standby(slot, now);
        self.fill(now);
    }

    /// Open places for the workers that are wanted and not there.
    pub(super) fn fill(&mut self, now: Time) {
        if !self.replaces() {
            return;
        }
        let early = self.has(Bug::RefillsTooEarly);
        let count = |worker: &&Worker| worker.counts() && !(early && worker.leaving);
        let places = |worker: &&Worker| worker.state != WorkerState::Retired;
        while self.workers.iter().filter(count).count() < self.wanted as usize
            && self.workers.iter().filter(places).count() < PLACES_PER_WORKER * self.wanted as usize
        {
            let slot = self.workers.vacate();
            self.spawn(slot, now);
        }
    }

    /// Whether this process is not ready yet, and can become so.
    #[must_use]
    pub fn is_starting(&self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.iter().nth(id.slot as usize) else { return false };
        let starts = worker.incarnation == id.incarnation && worker.state == WorkerState::Starting;
        let standby = worker.seldom.standby.filter(|standby| standby.incarnation == id.incarnation);
        self.replaces() && (starts || standby.is_some_and(|standby| standby.state == StandbyState::Starting))
    }

    /// The process is there, and says that it cannot be made ready: its initializer failed. That breaks the pool, as
    /// everybody expects who knows `ProcessPoolExecutor`; trying again would hide it.
    pub fn handle_unfit(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.workers.current(id) else { return self.standby_unfit(id, now) };
        if worker.state == WorkerState::Starting && self.replaces() {
            // It leaves by itself, and may have something to say before (what it logged goes through a queue, say).
            self.timers.clear(Timer::Start(id));
            self.workers.set(id.slot, WorkerState::Draining);
            self.break_pool(now);
        }
    }
}
