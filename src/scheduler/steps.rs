//! The steps that commands and facts are made of. Each leaves the tables in agreement with each other.

use std::collections::BTreeSet;

use super::held::Held;
use super::planted::Bug;
use super::restart::Restart;
use super::task::TaskState;
use super::timer::Timer;
use super::types::{Action, Assignment, FailReason, KillReason, TaskId, Time, WorkerId};
use super::worker::{Worker, WorkerState};
use super::{Phase, START_LIMIT, STOP_LIMIT, Scheduler};

impl Scheduler {
    /// A process is gone, or never was: see to its tasks, and to its place.
    pub(super) fn bury(&mut self, id: WorkerId, begun: Option<Assignment>, transient: bool, now: Time) {
        let Some(worker) = self.workers.current(id) else { return self.bury_standby(id) };
        let killed = match worker.state {
            WorkerState::Starting | WorkerState::Up | WorkerState::Draining => None,
            WorkerState::Killed(why) => Some(why),
            WorkerState::Vacant | WorkerState::Retired => return,
        };
        if killed.is_none() && worker.state != WorkerState::Draining {
            self.totals.worker_deaths += 1;
        }
        let death = worker.death(transient, now);
        let restart = worker.seldom.early_deaths.record(death);
        let leaving = worker.leaving;
        self.timers.clear(Timer::Start(id));
        self.timers.clear(Timer::Attempt(id));
        self.timers.clear(Timer::Leave(id));
        let held = self.workers.end(id.slot);
        let charges_all = self.has(Bug::ChargesWhatNeverBegan);
        // Whatever was before the last that it began was begun as well, even if the answer was lost.
        let last_begun = begun.and_then(|begun| held.iter().position(|held| held.run() == begun));
        for (index, held) in held.into_iter().enumerate().rev() {
            let fate = if last_begun.is_some_and(|last| index <= last) || charges_all {
                Fate::Begun
            } else if index == 0 {
                Fate::Next
            } else {
                Fate::Waiting
            };
            self.lose(id, held.run(), fate, killed, now);
        }
        self.stop_if_drained(now);
        if leaving {
            self.retire(id.slot);
            self.fill(now);
        } else {
            self.replace(id.slot, restart, now);
        }
        self.dispatch(now);
    }

    /// A worker died with this dispatch on it. What was never begun goes back to the head of the queue, free of
    /// charge, whatever the worker died of: a time-out, too, is for what the function did with its time.
    /// For what was next that has a limit ([`super::retry::FREE_RETURNS`]).
    fn lose(&mut self, worker: WorkerId, run: Assignment, fate: Fate, killed: Option<KillReason>, now: Time) {
        let id = run.task;
        let for_ever = self.has(Bug::RetriesForEver);
        let forgets = self.has(Bug::ForgetsWhatWaited);
        let task = self.tasks.known(id);
        if task.doomed {
            return self.resolve(id, FailReason::Cancelled);
        }
        match fate {
            Fate::Waiting if forgets => return,
            Fate::Waiting => return self.return_unbegun(id),
            Fate::Next if task.returns_free() => return self.return_unbegun(id),
            Fate::Next | Fate::Begun => {}
        }
        let tries = task.tries();
        let reason = match killed {
            Some(KillReason::Timeout) => FailReason::TimedOut { worker, tries, limit: task.timeout() },
            Some(KillReason::Memory) => FailReason::OverMemory { worker, tries },
            _ => FailReason::Crashed { worker, tries, killed },
        };
        let is_final = match killed {
            Some(KillReason::Timeout) => !task.retries_timeouts(),
            Some(KillReason::Memory) => !task.retries_over_memory(),
            _ => false,
        };
        if is_final
            || !(self.try_again(id, killed.is_none(), now) || for_ever && self.wait_for_retry(id, now))
        {
            self.resolve(id, reason);
        }
    }

    /// One attempt is lost. Whether there will be another.
    pub(super) fn try_again(&mut self, id: TaskId, blame: bool, now: Time) -> bool {
        let task = self.tasks.known(id);
        let wait = task.charge(blame, &mut self.rng);
        wait.is_some_and(|wait| self.wait_for_retry(id, now + wait))
    }

    fn wait_for_retry(&mut self, id: TaskId, until: Time) -> bool {
        self.tasks.known(id).state = TaskState::Backoff;
        self.totals.retried += 1;
        self.timers.set(Timer::Retry(id), until);
        true
    }

    /// Decide about the place of a process that is gone.
    fn replace(&mut self, slot: u32, restart: Restart, now: Time) {
        match self.phase {
            Phase::Stopping | Phase::Broken | Phase::Finished => return self.retire(slot),
            Phase::Running | Phase::Draining => {}
        }
        if self.promote(slot, now) {
            return;
        }
        let wait = match restart {
            Restart::Hopeless(_) if !self.workers.iter().any(Worker::is_up) => {
                return self.give_up(slot, now);
            }
            Restart::After(wait) | Restart::Hopeless(wait) => wait,
        };
        if wait.is_zero() {
            self.spawn(slot, now);
        } else {
            self.timers.set(Timer::Restart(slot), now + wait);
        }
    }

    pub(super) fn spawn(&mut self, slot: u32, now: Time) {
        let worker = self.workers.start(slot, now);
        if !self.slow_starts {
            self.timers.set(Timer::Start(worker), now + START_LIMIT);
        }
        self.actions.push_back(Action::Spawn(worker));
    }

    /// Workers cannot start: fail everything, loudly.
    fn give_up(&mut self, slot: u32, now: Time) {
        self.break_pool(now);
        self.retire(slot);
    }

    pub(super) fn break_pool(&mut self, now: Time) {
        self.fail_all(FailReason::PoolBroken);
        self.phase = Phase::Broken;
        self.actions.push_back(Action::Broken);
        self.stop_workers(now);
    }

    /// Send SIGKILL, unless that process is already gone or has been sent one.
    pub(super) fn kill(&mut self, id: WorkerId, why: KillReason) -> bool {
        let Some(worker) = self.workers.current(id) else { return self.kill_standby(id, why) };
        match worker.state {
            WorkerState::Up | WorkerState::Starting | WorkerState::Draining => {}
            WorkerState::Vacant | WorkerState::Killed(..) | WorkerState::Retired => return false,
        }
        self.timers.clear(Timer::Start(id));
        self.timers.clear(Timer::Attempt(id));
        self.timers.clear(Timer::Leave(id));
        self.workers.change(id.slot, |worker| {
            worker.state = WorkerState::Killed(why);
            worker.condemned = None;
            worker.sentenced = false;
        });
        self.actions.push_back(Action::Kill(id, why));
        true
    }

    pub(super) fn kill_all(&mut self, why: KillReason) {
        for id in self.workers.ids().chain(self.workers.standby_ids()) {
            self.kill(id, why);
        }
    }

    /// Cancel everything that no worker has begun: what waits at a worker as soon as it is back. The first in the queue
    /// are spared, one for each worker that is on its way to them: that the pool is young cancels nothing more than would
    /// be cancelled a moment later.
    pub(super) fn cancel_pending(&mut self) {
        self.cancelling = true;
        self.dependencies.clear();
        let starting = self.workers.iter().filter(|worker| worker.state == WorkerState::Starting).count();
        let queue = self.ready.entries().filter(|&id| self.tasks.is_queued(id));
        let spared: BTreeSet<_> = queue.take(starting).collect();
        for id in self.tasks.ids() {
            match self.tasks.known(id).state {
                TaskState::Sent(_) => {}
                TaskState::Queued if spared.contains(&id) => {}
                TaskState::Waiting | TaskState::Backoff | TaskState::Queued => {
                    self.fail(id, FailReason::Cancelled);
                }
            }
        }
        self.take_back_all();
    }

    pub(super) fn fail_all(&mut self, reason: FailReason) {
        self.dependencies.clear();
        for id in self.tasks.ids() {
            self.fail(id, reason);
        }
    }

    /// Take a task from where it is, and resolve it without an answer of its own.
    fn fail(&mut self, id: TaskId, reason: FailReason) {
        match self.tasks.remove(id).state {
            TaskState::Waiting => {} // nobody is told any more
            TaskState::Queued => self.ready.note_cancelled(|task| self.tasks.is_queued(task)),
            TaskState::Backoff => self.timers.clear(Timer::Retry(id)),
            TaskState::Sent(worker) => self.forget_run(worker, id),
        }
        self.report(id, reason);
    }

    /// Resolve a task that no other table names any more.
    pub(super) fn resolve(&mut self, id: TaskId, reason: FailReason) {
        self.tasks.remove(id);
        self.report(id, reason);
    }

    fn report(&mut self, id: TaskId, reason: FailReason) {
        match reason {
            FailReason::Cancelled => self.totals.cancelled += 1,
            FailReason::Crashed { .. }
            | FailReason::TimedOut { .. }
            | FailReason::OverMemory { .. }
            | FailReason::DependencyFailed(_)
            | FailReason::PoolBroken
            | FailReason::PoolShutdown => self.totals.failed += 1,
        }
        self.actions.push_back(Action::Fail(id, reason));
    }

    /// A task that this worker has was resolved over its head: kill the worker, for it may be running the function.
    fn forget_run(&mut self, worker: WorkerId, task: TaskId) {
        self.kill(worker, KillReason::Shutdown);
        let held = &self.workers.slot(worker.slot).held;
        let run = held.iter().map(Held::run).find(|run| run.task == task);
        let known = run.is_some_and(|run| self.workers.release(worker, run));
        assert!(known, "the tables disagree about {task:?}");
    }

    /// Once shutting down and out of work: tell the workers to go.
    pub(super) fn stop_if_drained(&mut self, now: Time) {
        if self.phase == Phase::Draining && self.tasks.is_empty() {
            self.phase = Phase::Stopping;
            self.stop_workers(now);
        }
    }

    fn stop_workers(&mut self, now: Time) {
        self.timers.set(Timer::Stop, now + STOP_LIMIT);
        for id in self.workers.ids() {
            self.stop_standby(id.slot);
            match self.workers.slot(id.slot).state {
                WorkerState::Up if self.workers.slot(id.slot).held.is_empty() => {
                    self.workers.set(id.slot, WorkerState::Draining);
                    self.actions.push_back(Action::Stop(id));
                }
                // Nothing of the user's runs in it yet, so there is nothing to be graceful about.
                WorkerState::Starting => drop(self.kill(id, KillReason::Shutdown)),
                WorkerState::Vacant => {
                    self.timers.clear(Timer::Restart(id.slot));
                    self.retire(id.slot);
                }
                WorkerState::Up | WorkerState::Killed(..) | WorkerState::Draining | WorkerState::Retired => {}
            }
        }
    }

    pub(super) fn retire(&mut self, slot: u32) {
        if self.has(Bug::ForgetsToRetire) {
            return;
        }
        if self.workers.slot(slot).state == WorkerState::Retired {
            return;
        }
        self.workers.set(slot, WorkerState::Retired);
        self.finish_if_all_gone();
    }
}

/// How far a dispatch had got when its worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It ran.
    Begun,
    /// Nothing was before it, and yet it was not begun.
    Next,
    /// It waited behind another.
    Waiting,
}
