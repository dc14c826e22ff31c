//! The worker table, and placement: which worker takes the next task.

use std::collections::VecDeque;

use super::held::Held;
use super::restart::EarlyDeaths;
use super::slots::SlotSet;
use super::standby::Standby;
use super::types::{Assignment, Time, WorkerId};
#[cfg(any(test, debug_assertions))]
use super::worker::PREFETCH_TASKS;
use super::worker::{PACK_NANOS, PACK_STALE, PREFETCH_NANOS, Standing, Worker, WorkerState};

#[derive(Debug)]
pub(crate) struct WorkerTable {
    workers: Vec<Worker>,
    /// Idle places; the one that was busy last is at the end. It is taken first: its caches are hot, and it may not
    /// have gone to sleep yet.
    idle: Vec<u32>,
    /// Busy places that may be sent more.
    open: SlotSet,
    /// Places that can be asked for something back.
    ahead: SlotSet,
    /// How many have been, and have not answered.
    retracting: usize,
    /// How many have something to do.
    busy: usize,
    /// The place that was sent something last.
    warm: u32,
    /// A worker with as much work as this (by estimate) is sent no more: at most [`PREFETCH_NANOS`].
    depth: u64,
    /// How many tasks each process is sent, if there is a limit.
    allowance: Option<u32>,
}

impl WorkerTable {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            workers: (0..count).map(|_| Worker::vacant()).collect(),
            idle: Vec::with_capacity(count as usize),
            open: SlotSet::new(count),
            ahead: SlotSet::new(count),
            retracting: 0,
            busy: 0,
            warm: 0,
            depth: PREFETCH_NANOS,
            allowance: None,
        }
    }

    /// Each process is sent so many tasks at most, those included that start just now.
    pub(crate) fn limit_tasks(&mut self, limit: u32) {
        self.allowance = Some(limit);
        for slot in 0..self.workers.len() as u32 {
            self.change(slot, |worker| worker.allowance = Some(limit));
        }
    }

    /// A place without a process: the first that was retired, or a new one.
    pub(crate) fn vacate(&mut self) -> u32 {
        let free = |worker: &Worker| worker.state == WorkerState::Retired && worker.seldom.standby.is_none();
        let retired = self.workers.iter().position(free);
        let slot = retired.unwrap_or(self.workers.len()) as u32;
        if retired.is_none() {
            self.workers.push(Worker::vacant());
            self.open.grow();
            self.ahead.grow();
        }
        // Whoever went from here before, it is not for the next one to wait for it.
        self.workers[slot as usize].seldom.early_deaths = EarlyDeaths::NONE;
        slot
    }

    /// The worker, if that very process still fills its place: the fence against stale facts. Whoever changes more than
    /// its numbers comes through [`Self::change`].
    pub(crate) fn current(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id.slot as usize).filter(|worker| worker.incarnation == id.incarnation)
    }

    pub(crate) fn slot(&self, slot: u32) -> &Worker {
        &self.workers[slot as usize]
    }

    pub(crate) fn id(&self, slot: u32) -> WorkerId {
        WorkerId { slot, incarnation: self.workers[slot as usize].incarnation }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let ids: Vec<_> = (0..self.workers.len() as u32).map(|slot| self.id(slot)).collect();
        ids.into_iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// A new process for this place.
    pub(crate) fn start(&mut self, slot: u32, now: Time) -> WorkerId {
        let allowance = self.allowance;
        let incarnation = self.next_incarnation(slot);
        self.change(slot, |worker| {
            worker.allowance = allowance;
            worker.leaving = false;
            worker.incarnation = incarnation;
            worker.seldom.started = now;
            worker.state = WorkerState::Starting;
            worker.seldom.standing = Standing::Unready;
            worker.seldom.beat = None;
            worker.answered = false;
        });
        self.id(slot)
    }

    /// The standby fills the place from now on.
    pub(crate) fn take_over(&mut self, slot: u32, standby: Standby, state: WorkerState, standing: Standing) {
        let allowance = self.allowance;
        self.change(slot, |worker| {
            worker.allowance = allowance;
            worker.leaving = false;
            worker.incarnation = standby.incarnation;
            worker.seldom.started = standby.started;
            worker.state = state;
            worker.seldom.standing = standing;
            worker.seldom.beat = None;
            worker.answered = false;
            worker.seldom.standby = None;
        });
    }

    /// The number of the place's next process, which is taken.
    pub(crate) fn next_incarnation(&mut self, slot: u32) -> u32 {
        let worker = &mut self.workers[slot as usize];
        worker.seldom.newest += 1;
        worker.seldom.newest
    }

    /// The standby, if it is that very process.
    pub(crate) fn standby(&mut self, id: WorkerId) -> Option<&mut Standby> {
        let worker = self.workers.get_mut(id.slot as usize)?;
        worker.seldom.standby.as_mut().filter(|standby| standby.incarnation == id.incarnation)
    }

    pub(crate) fn standby_ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let slots = self.workers.iter().zip(0..);
        let ids = slots.filter_map(|(worker, slot)| {
            worker.seldom.standby.map(|standby| WorkerId { slot, incarnation: standby.incarnation })
        });
        ids.collect::<Vec<_>>().into_iter()
    }

    /// The process is gone. What it had.
    pub(crate) fn end(&mut self, slot: u32) -> VecDeque<Held> {
        self.change(slot, |worker| {
            worker.state = WorkerState::Vacant;
            worker.backlog = 0;
            worker.begun = 0;
            worker.seldom.deadline = None;
            worker.retracting = None;
            worker.condemned = None;
            worker.sentenced = false;
            worker.stuck = false;
            worker.held.take_last(usize::MAX)
        })
    }

    pub(crate) fn set(&mut self, slot: u32, state: WorkerState) {
        self.change(slot, |worker| worker.state = state);
    }

    /// Every change of what a worker does comes through here, so that no list can disagree with it.
    pub(crate) fn change<T>(&mut self, slot: u32, change: impl FnOnce(&mut Worker) -> T) -> T {
        let worker = &mut self.workers[slot as usize];
        let was_idle = worker.is_idle();
        self.busy -= usize::from(!worker.held.is_empty());
        self.retracting -= usize::from(worker.retracting.is_some());
        let result = change(worker);
        self.busy += usize::from(!worker.held.is_empty());
        self.retracting += usize::from(worker.retracting.is_some());
        match (was_idle, worker.is_idle()) {
            (false, true) => self.idle.push(slot),
            (true, false) if self.idle.last() == Some(&slot) => drop(self.idle.pop()),
            (true, false) => self.idle.retain(|&idle| idle != slot),
            (true, true) | (false, false) => {}
        }
        self.open.set(slot, worker.takes_more(self.depth));
        self.ahead.set(slot, worker.has_prefetched());
        result
    }

    /// Send this to that worker.
    pub(crate) fn hold(&mut self, id: WorkerId, run: Assignment, estimate: u64, now: Time) {
        self.warm = id.slot;
        self.change(id.slot, |worker| {
            if worker.held.is_empty() {
                worker.progress = now;
            }
            let held = Held::new(run, estimate);
            worker.held.push_back(held);
            worker.backlog += held.estimate();
            worker.allowance = worker.allowance.map(|left| left.saturating_sub(1));
        });
    }

    /// So many dispatches that were not begun are back: they do not count.
    pub(crate) fn allow_again(&mut self, slot: u32, count: usize) {
        self.change(slot, |worker| worker.allowance = worker.allowance.map(|left| left + count as u32));
    }

    /// This dispatch is off that worker's hands. Whether it was there.
    pub(crate) fn release(&mut self, id: WorkerId, run: Assignment) -> bool {
        if self.current(id).is_none() {
            return false;
        }
        self.change(id.slot, |worker| {
            let Some((at, held)) = worker.held.remove(run) else { return false };
            worker.backlog -= held.estimate();
            worker.begun -= u32::from(at < worker.begun as usize);
            if at == 0 {
                worker.front_has_gone();
            }
            true
        })
    }

    /// The last `count` dispatches of that worker, of those that it was asked for, are back: which they are, oldest
    /// first. Fewer than asked for means that it has begun all that are left.
    pub(crate) fn take_back(&mut self, slot: u32, count: usize, asked: usize) -> VecDeque<Held> {
        self.change(slot, |worker| {
            worker.retracting = None;
            let back = worker.held.take_last(count);
            worker.backlog -= back.iter().map(Held::estimate).sum::<u64>();
            worker.allowance = worker.allowance.map(|left| left + back.len() as u32);
            if count < asked {
                worker.begun = worker.held.len() as u32;
            }
            worker.begun = worker.begun.min(worker.held.len() as u32);
            if worker.held.is_empty() {
                worker.front_has_gone();
            }
            back
        })
    }

    /// Placement without waiting: the idle worker that was busy last.
    pub(crate) fn warmest(&self) -> Option<WorkerId> {
        self.idle.last().map(|&slot| self.id(slot))
    }

    /// Placement of something short: behind what the worker in use has, if that is soon done. Waking another one costs
    /// more than it saves, and takes a processor from whoever submits.
    pub(crate) fn packable(&self, estimate: u64, now: Time) -> Option<WorkerId> {
        let worker = &self.workers[self.warm as usize];
        let soon = worker.backlog + estimate <= PACK_NANOS;
        let moving = now.saturating_sub(worker.progress) < PACK_STALE;
        (soon && moving && worker.takes_more(self.depth)).then(|| self.id(self.warm))
    }

    /// Placement ahead of time: some busy worker that has room.
    pub(crate) fn roomy(&self) -> Option<WorkerId> {
        self.open.last().map(|slot| self.id(slot))
    }

    /// How much is sent ahead from now on.
    pub(crate) fn set_depth(&mut self, depth: u64) {
        if depth != self.depth {
            self.depth = depth;
            for (worker, slot) in self.workers.iter().zip(0..) {
                self.open.set(slot, worker.takes_more(depth));
            }
        }
    }

    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// How many workers have something to do.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// Places that can be asked for something back.
    pub(crate) fn ahead(&self) -> &SlotSet {
        &self.ahead
    }

    /// No worker has anything that it might be about to begin, but for what it has in front.
    pub(crate) fn nothing_ahead(&self) -> bool {
        self.ahead.is_empty() && self.retracting == 0
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check_lists(&self) {
        for (worker, slot) in self.workers.iter().zip(0..) {
            let times = |list: &[u32]| list.iter().filter(|&&listed| listed == slot).count();
            assert_eq!(times(&self.idle), usize::from(worker.is_idle()), "slot {slot}: the idle stack");
            assert_eq!(
                times(self.open.as_slice()),
                usize::from(worker.takes_more(self.depth)),
                "slot {slot}: open"
            );
            assert_eq!(
                times(self.ahead.as_slice()),
                usize::from(worker.has_prefetched()),
                "slot {slot}: ahead"
            );
            let backlog = worker.held.iter().map(Held::estimate).sum::<u64>();
            assert_eq!(backlog, worker.backlog, "slot {slot}: backlog");
            assert!(
                worker.begun as usize <= worker.held.len(),
                "slot {slot}: it has begun what it does not have"
            );
            assert!(worker.held.len() <= PREFETCH_TASKS, "slot {slot}: too much was sent ahead");
        }
        let busy = self.workers.iter().filter(|worker| worker.front().is_some()).count();
        assert_eq!(self.busy, busy, "busy workers");
        let retracting = self.workers.iter().filter(|worker| worker.retracting.is_some()).count();
        assert_eq!(self.retracting, retracting, "workers that were asked for something back");
    }
}
