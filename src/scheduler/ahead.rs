//! Which worker gets what, and when: placement, what is sent ahead of time, and having that back.
//!
//! Something that was sent ahead is only a wish: until its worker begins it, it can be taken back, and is, wherever it
//! stands better elsewhere. That is asked for with [`Action::Retract`], and what is not given back has been begun.

use std::time::Duration;

use super::held::Held;
use super::planted::Bug;
use super::timer::Timer;
use super::types::{Action, Assignment, FailReason, KillReason, TaskId, Time, WorkerId};
use super::worker::{PACK_NANOS, PREFETCH_NANOS, WorkerState};
use super::{Scheduler, TaskState, TaskTable};

/// How often it is looked whether workers get on with what was sent ahead. Whoever has not for half as long has been
/// thought faster than he is, and what waits there is taken back. Twice what is sent ahead at most, and little against
/// what a user notices.
pub(crate) const LOOK_AFTER: Duration = Duration::from_millis(2);

/// Prefetched work (by estimate, in nanoseconds) that an idle worker takes over at once. With less, its owner is done
/// before the other one is awake. Not less than what is packed, or it would be packed there again, in a circle.
pub(crate) const STEAL_NANOS: u64 = PACK_NANOS;

/// Workers that are compared, to find one with much to share: for a good choice, not for the best of ten thousand.
const SHARE_SCAN: usize = 8;

/// What is sent ahead (by estimate) where more urgent tasks come in between. Each of these has all that taken back, so
/// where they come in numbers it is not to be much, or the pool does little else.
const SHALLOW_NANOS: u64 = PREFETCH_NANOS / 16;

/// So long after the last of them; in the longer run the one that has more taken back is then of no account.
const SHALLOW_FOR: Duration = Duration::from_millis(10);

/// What a task counts at most in the sum of a worker's estimates: far above what anything is compared with, and far from
/// where the sum would overflow.
const MAX_ESTIMATE: u64 = 1_000 * PREFETCH_NANOS;

impl Scheduler {
    /// Bring ready tasks and workers together until one of them runs out.
    pub(super) fn dispatch(&mut self, now: Time) {
        if self.workers.nothing_ahead() {
            self.ahead_floor = i32::MAX;
        }
        if self.shallow_until.is_some_and(|until| until <= now) {
            self.shallow_until = None;
            self.workers.set_depth(PREFETCH_NANOS);
        }
        loop {
            let Some(task) = self.ready.front(|task| self.tasks.is_queued(task)) else {
                self.share();
                break;
            };
            let known = self.tasks.known(task);
            let (function, priority, timeout) = (known.function, known.priority, known.timeout());
            let limited = timeout.is_some() || known.max_memory().is_some();
            let estimate = self.estimates.get(function);
            let urgent = priority > self.ahead_floor && !self.has(Bug::PrefetchOvertakes);
            let Some(worker) = self.place(limited || urgent, estimate, now) else {
                if urgent && !self.workers.ahead().is_empty() {
                    self.take_back_all(); // what has been sent ahead would go first
                    self.shallow_until = Some(now + SHALLOW_FOR);
                    self.workers.set_depth(SHALLOW_NANOS);
                }
                break;
            };
            self.ready.pop_front();
            if !self.workers.slot(worker.slot).is_idle() {
                self.ahead_floor = self.ahead_floor.min(priority);
            }
            let run = self.tasks.begin(task, worker);
            self.workers.hold(worker, run, estimate.unwrap_or(PREFETCH_NANOS).min(MAX_ESTIMATE), now);
            if let Some(timeout) = timeout {
                self.set_deadline(worker, timeout, now);
            }
            self.actions.push_back(Action::Dispatch(worker, run));
        }
        if self.look_at.is_none() && !self.workers.ahead().is_empty() {
            self.look_at = Some(now + LOOK_AFTER);
        }
    }

    /// Which worker takes the next task, if one does. Nothing but an idle one will do for a task (the first and the third
    /// of these are to be `alone`)
    ///
    /// * with a limit on time or memory: both are counted from when it is sent;
    /// * that nothing is known of: it may be long, and the worker that it waits for as well;
    /// * that is more urgent than something that has been sent ahead: that is taken back first;
    /// * of a pool that cancels what has not been begun: this one is a retry, and was.
    fn place(&self, alone: bool, estimate: Option<u64>, now: Time) -> Option<WorkerId> {
        let idle = || self.workers.warmest();
        match estimate {
            Some(estimate) if !alone && !self.cancelling => {
                self.workers.packable(estimate, now).or_else(idle).or_else(|| self.workers.roomy())
            }
            Some(_) | None => idle(),
        }
    }

    /// Nothing is ready. Where a worker is idle and another has much that it has not begun, they share that.
    fn share(&mut self) {
        if !self.workers.has_idle() {
            return;
        }
        let some = self.workers.ahead().as_slice().iter().rev().take(SHARE_SCAN);
        let Some(&slot) = some.max_by_key(|&&slot| self.workers.slot(slot).prefetched_nanos()) else {
            return;
        };
        let worker = self.workers.slot(slot);
        if worker.prefetched_nanos() >= STEAL_NANOS {
            self.take_back(slot, worker.unbegun().div_ceil(2));
        }
    }

    /// Were the estimates right? What waits for somebody who does not get on is taken back.
    pub(super) fn look(&mut self, now: Time) {
        self.look_at = None;
        let still = |slot| now.saturating_sub(self.workers.slot(slot).progress) >= LOOK_AFTER / 2;
        let ahead = self.workers.ahead().as_slice().iter();
        for slot in ahead.copied().filter(|&slot| still(slot)).collect::<Vec<_>>() {
            self.take_back(slot, self.workers.slot(slot).unbegun());
            self.workers.change(slot, |worker| worker.stuck = true);
        }
    }

    /// Ask for the last `count` dispatches of a worker back. It gets nothing until the answer is there.
    pub(super) fn take_back(&mut self, slot: u32, count: usize) {
        self.workers.change(slot, |worker| worker.retracting = Some(count as u32));
        self.actions.push_back(Action::Retract(self.workers.id(slot), count));
    }

    /// Have everything back that no worker has begun.
    pub(super) fn take_back_all(&mut self) {
        for slot in self.workers.ahead().as_slice().to_vec() {
            self.take_back(slot, self.workers.slot(slot).unbegun());
        }
    }

    /// The answer: the last `count` are back.
    pub(super) fn taken_back(&mut self, id: WorkerId, count: usize) {
        let Some(asked) = self.workers.current(id).and_then(|worker| worker.retracting) else {
            return; // the process went in the meantime
        };
        for held in self.workers.take_back(id.slot, count, asked as usize).into_iter().rev() {
            let task = held.task;
            if self.tasks.known(task).timeout().is_some() {
                self.timers.clear(Timer::Attempt(id));
            }
            self.return_unbegun(task);
        }
        self.execute(id);
        let worker = self.workers.slot(id.slot);
        if (self.cancelling || worker.leaving) && worker.has_prefetched() {
            self.take_back(id.slot, worker.unbegun()); // less was asked for before
        }
    }

    /// A dispatch came back that was never begun: it goes to the head of the queue, where it came from.
    pub(super) fn return_unbegun(&mut self, id: TaskId) {
        let task = self.tasks.known(id);
        if self.cancelling || task.doomed {
            return self.resolve(id, FailReason::Cancelled);
        }
        task.state = TaskState::Queued;
        let priority = task.priority;
        self.ready.give_back(priority, id);
    }

    /// What this worker runs is over its time.
    pub(super) fn time_out(&mut self, id: WorkerId) {
        self.condemn(id, KillReason::Timeout);
    }

    /// The process was seen to have grown, during this dispatch, by more than that may take.
    pub fn handle_over_memory(&mut self, id: WorkerId, run: Assignment) {
        let blames_anybody = self.has(Bug::BlamesWhoeverIsInFront);
        let Some(worker) = self.workers.current(id) else { return };
        let front = worker.front();
        if worker.state == WorkerState::Up && (front == Some(run) || blames_anybody && front.is_some()) {
            self.condemn(id, KillReason::Memory);
        }
    }

    /// What this worker runs is to be ended. The first reason counts.
    fn condemn(&mut self, id: WorkerId, why: KillReason) {
        self.timers.clear(Timer::Attempt(id));
        self.workers.change(id.slot, |worker| worker.condemned = worker.condemned.or(Some(why)));
        self.execute(id);
    }

    /// Kill a worker if what is in front of it is over a limit or to be stopped, but only with nothing behind that: it
    /// might begin it before the kill hits.
    pub(super) fn execute(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.current(id) else { return };
        if worker.condemned.is_none() && !worker.sentenced || worker.state != WorkerState::Up {
            return;
        }
        let is_doomed = |tasks: &TaskTable, held: &Held| tasks.get(held.task).is_some_and(|task| task.doomed);
        let doomed = worker.held.front().is_some_and(|front| is_doomed(&self.tasks, front));
        let sentenced = worker.held.iter().any(|held| is_doomed(&self.tasks, held));
        if !sentenced {
            self.workers.change(id.slot, |worker| worker.sentenced = false);
        }
        let worker = self.workers.slot(id.slot);
        let why = match (doomed || sentenced && self.has(Bug::KillsWhoeverIsInFront), worker.condemned) {
            (true, _) => KillReason::Cancelled,
            (false, Some(limit)) => limit,
            (false, None) => return, // whatever is to be stopped is not what runs, as far as is known
        };
        if worker.held.len() == 1 || self.has(Bug::KillsWithoutTakingBack) {
            self.kill(id, why);
        } else if worker.begun > 1 {
            // It is at another task, so what was meant has come to its end, and the answer is on its way.
            self.workers.change(id.slot, |worker| worker.condemned = None);
        } else if worker.retracting.is_none() {
            self.take_back(id.slot, worker.unbegun());
        }
    }
}

/// What comes up in no schedule of the simulation: large numbers.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::retry::FREE_RETURNS;
    use crate::scheduler::types::{FunctionId, TaskSpec};
    use crate::scheduler::worker::PREFETCH_TASKS;

    const FUNCTION: FunctionId = FunctionId(1);

    /// One worker that is ready, and a function that is known to take so long.
    fn pool(ran: Duration) -> (Scheduler, WorkerId) {
        let mut pool = Scheduler::new(1, 0, Time::ZERO);
        let id = WorkerId { slot: 0, incarnation: 1 };
        pool.handle_ready(id, Time::ZERO);
        submit(&mut pool, 0);
        let first = dispatches(&mut pool)[0];
        pool.handle_completed(id, first, Some(ran), Time::ZERO);
        (pool, id)
    }

    fn submit(pool: &mut Scheduler, priority: i32) -> TaskId {
        let spec = TaskSpec { function: FUNCTION, priority, ..TaskSpec::default() };
        pool.submit(spec, Time::ZERO).expect("it is open")
    }

    /// What is dispatched.
    fn dispatches(pool: &mut Scheduler) -> Vec<Assignment> {
        let mut sent = Vec::new();
        while let Some(action) = pool.poll_action() {
            if let Action::Dispatch(_, run) = action {
                sent.push(run);
            }
        }
        sent
    }

    #[test]
    fn however_short_they_are_not_too_many_are_sent() {
        let (mut pool, _) = pool(Duration::ZERO);
        for _ in 0..3 * PREFETCH_TASKS {
            submit(&mut pool, 0);
        }
        assert_eq!(dispatches(&mut pool).len(), PREFETCH_TASKS);
        pool.sanity_check();
    }

    #[test]
    fn what_waits_for_others_that_kill_their_worker_is_never_charged() {
        let (mut pool, mut id) = pool(Duration::from_micros(1));
        let patient = submit(&mut pool, 0);
        dispatches(&mut pool);
        pool.handle_exit(id, None, Time::ZERO); // it was next itself this once
        for _ in 0..3 * FREE_RETURNS {
            let killer = submit(&mut pool, 1);
            id.incarnation += 1;
            pool.handle_ready(id, Time::ZERO);
            let sent = dispatches(&mut pool);
            assert_eq!(sent.iter().map(|run| run.task).collect::<Vec<_>>(), [killer, patient]);
            pool.handle_exit(id, Some(sent[0]), Time::ZERO);
            assert_eq!(pool.is_running(killer), None);
        }
        assert_eq!(pool.is_running(patient), Some(false));
    }

    #[test]
    fn many_urgent_tasks_do_not_move_everything_each() {
        const URGENT: usize = 100;
        let (mut pool, id) = pool(Duration::from_micros(1));
        for _ in 0..3 * PREFETCH_TASKS {
            submit(&mut pool, 0);
        }
        let mut held = dispatches(&mut pool).len();
        let mut moved = 0;
        for _ in 0..URGENT {
            submit(&mut pool, 1);
            while let Some(action) = pool.poll_action() {
                match action {
                    Action::Dispatch(..) => held += 1,
                    Action::Retract(_, count) => {
                        assert_eq!(count, held - 1, "all but what it is at");
                        moved += count;
                        held = 1;
                        pool.handle_retracted(id, count, Time::ZERO);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let shallow = (SHALLOW_NANOS / 1_000) as usize;
        assert!(moved <= PREFETCH_TASKS + URGENT * (shallow + 1), "{moved} tasks were moved");
    }

    /// Two workers in step, each of which is sent something ahead that it gives back: nothing stays behind for ever.
    #[test]
    fn what_is_given_back_again_and_again_has_its_turn() {
        const RAN: Duration = Duration::from_millis(10);
        let mut pool = Scheduler::new(2, 0, Time::ZERO);
        let ids = [0, 1].map(|slot| WorkerId { slot, incarnation: 1 });
        for id in ids {
            pool.handle_ready(id, Time::ZERO);
        }
        for _ in 0..100 {
            submit(&mut pool, 0);
        }
        let mut held = [const { std::collections::VecDeque::<Assignment>::new() }; 2];
        let mut begun = Vec::new();
        let mut now = Time::ZERO;
        let drain = |pool: &mut Scheduler, held: &mut [std::collections::VecDeque<Assignment>; 2], now| {
            while let Some(action) = pool.poll_action() {
                match action {
                    Action::Dispatch(id, run) => held[id.slot as usize].push_back(run),
                    Action::Retract(id, count) => {
                        held[id.slot as usize].truncate(1);
                        pool.handle_retracted(id, count, now);
                    }
                    _ => {}
                }
            }
        };
        drain(&mut pool, &mut held, now);
        while begun.len() < 100 {
            for id in ids {
                let Some(run) = held[id.slot as usize].pop_front() else { continue };
                begun.push(run.task.0);
                pool.handle_completed(id, run, Some(RAN), now);
                drain(&mut pool, &mut held, now);
            }
            now += RAN;
            while pool.poll_timeout().is_some_and(|at| at <= now) {
                pool.handle_timeout(now);
                drain(&mut pool, &mut held, now);
            }
        }
        let late = begun.iter().zip(1..).map(|(&task, turn)| u64::abs_diff(task, turn)).max();
        assert!(late.is_some_and(|late| late <= 4), "they ran in this order: {begun:?}");
    }
}
