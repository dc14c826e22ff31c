//! The steps that commands and facts are made of. Each leaves the tables in agreement with each other.

use super::planted::Bug;
use super::restart::Restart;
use super::task::TaskState;
use super::timer::Timer;
use super::types::{Action, Assignment, FailReason, KillReason, TaskId, Time, WorkerId};
use super::worker::{Worker, WorkerState};
use super::{Phase, START_LIMIT, STOP_LIMIT, Scheduler};

impl Scheduler {
    /// Bring ready tasks and idle workers together until one of them runs out.
    pub(super) fn dispatch(&mut self, now: Time) {
        while let Some(worker) = self.workers.warmest() {
            let Some(task) = self.ready.pop(|task| self.tasks.is_queued(task)) else { return };
            let (assignment, spec) = self.tasks.begin(task, worker);
            self.workers.set(worker.slot, WorkerState::Busy(assignment));
            if let Some(timeout) = spec.timeout {
                self.timers.set(Timer::Attempt(worker), now.saturating_add(timeout));
            }
            self.actions.push_back(Action::Dispatch(worker, assignment));
        }
    }

    /// A process is gone, or never was: see to its task, and to its place.
    pub(super) fn bury(&mut self, id: WorkerId, begun: Option<Assignment>, transient: bool, now: Time) {
        let Some(worker) = self.workers.current(id) else { return };
        let (run, killed) = match worker.state {
            WorkerState::Starting | WorkerState::Idle | WorkerState::Draining => (None, None),
            WorkerState::Busy(run) => (Some(run), None),
            WorkerState::Killed(why, run) => (run, Some(why)),
            WorkerState::Vacant | WorkerState::Retired => return,
        };
        if killed.is_none() && worker.state != WorkerState::Draining {
            self.totals.worker_deaths += 1;
        }
        let death = worker.death(transient, now);
        let restart = worker.early_deaths.record(death);
        self.timers.clear(Timer::Start(id));
        self.timers.clear(Timer::Attempt(id));
        self.workers.set(id.slot, WorkerState::Vacant);
        if let Some(run) = run {
            self.lose(id, run, begun == Some(run), killed, now);
        }
        self.stop_if_drained(now);
        self.replace(id.slot, restart, now);
        self.dispatch(now);
    }

    /// A worker died with this dispatch on it. What was never begun goes back to the head of the queue, free of
    /// charge, whatever the worker died of: a time-out, too, is for what the function did with its time.
    /// That has a limit ([`super::retry::FREE_RETURNS`]).
    fn lose(
        &mut self,
        worker: WorkerId,
        run: Assignment,
        begun: bool,
        killed: Option<KillReason>,
        now: Time,
    ) {
        let id = run.task;
        let charge_all = self.has(Bug::ChargesWhatNeverBegan);
        let for_ever = self.has(Bug::RetriesForEver);
        let task = self.tasks.known(id);
        if !begun && !charge_all && task.budget.returns_free() {
            task.state = TaskState::Queued;
            let priority = task.spec.priority;
            return self.ready.push_front(priority, id);
        }
        if killed == Some(KillReason::Timeout) {
            return self.fail(id, FailReason::TimedOut { worker, attempts: run.attempt.0 });
        }
        let attempts = task.attempt.0;
        let mut wait = task.budget.charge(killed.is_none(), &mut self.rng);
        if for_ever {
            wait = Some(wait.unwrap_or_default());
        }
        let Some(wait) = wait else {
            return self.fail(id, FailReason::Crashed { worker, attempts, killed });
        };
        task.state = TaskState::Backoff;
        self.totals.retried += 1;
        self.timers.set(Timer::Retry(id), now + wait);
    }

    /// Decide about the place of a process that is gone.
    fn replace(&mut self, slot: u32, restart: Restart, now: Time) {
        match self.phase {
            Phase::Stopping | Phase::Broken | Phase::Finished => return self.retire(slot),
            Phase::Running | Phase::Draining => {}
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
        let worker = self.workers.start(slot);
        self.timers.set(Timer::Start(worker), now + START_LIMIT);
        self.actions.push_back(Action::Spawn(worker));
    }

    /// Workers cannot start: fail everything, loudly.
    fn give_up(&mut self, slot: u32, now: Time) {
        self.fail_all(FailReason::PoolBroken);
        self.phase = Phase::Broken;
        self.actions.push_back(Action::Broken);
        self.stop_workers(now);
        self.retire(slot);
    }

    /// Send SIGKILL, unless that process is already gone or has been sent one.
    pub(super) fn kill(&mut self, id: WorkerId, why: KillReason) -> bool {
        let Some(worker) = self.workers.current(id) else { return false };
        let run = match worker.state {
            WorkerState::Busy(run) => Some(run),
            WorkerState::Starting | WorkerState::Idle | WorkerState::Draining => None,
            WorkerState::Vacant | WorkerState::Killed(..) | WorkerState::Retired => return false,
        };
        self.timers.clear(Timer::Start(id));
        self.timers.clear(Timer::Attempt(id));
        self.workers.set(id.slot, WorkerState::Killed(why, run));
        self.actions.push_back(Action::Kill(id, why));
        true
    }

    pub(super) fn kill_all(&mut self, why: KillReason) {
        for id in self.workers.ids() {
            self.kill(id, why);
        }
    }

    pub(super) fn cancel_pending(&mut self) {
        for id in self.tasks.ids() {
            match self.tasks.known(id).state {
                TaskState::Running(_) => {}
                TaskState::Backoff | TaskState::Queued => self.fail(id, FailReason::Cancelled),
            }
        }
    }

    pub(super) fn fail_all(&mut self, reason: FailReason) {
        for id in self.tasks.ids() {
            self.fail(id, reason);
        }
    }

    /// Resolve a task without an answer of its own.
    fn fail(&mut self, id: TaskId, reason: FailReason) {
        match self.tasks.remove(id).state {
            TaskState::Queued => self.ready.note_cancelled(|task| self.tasks.is_queued(task)),
            TaskState::Backoff => self.timers.clear(Timer::Retry(id)),
            TaskState::Running(worker) => self.forget_run(worker, id),
        }
        match reason {
            FailReason::Cancelled => self.totals.cancelled += 1,
            FailReason::Crashed { .. }
            | FailReason::TimedOut { .. }
            | FailReason::PoolBroken
            | FailReason::PoolShutdown => self.totals.failed += 1,
        }
        self.actions.push_back(Action::Fail(id, reason));
    }

    /// The task on this worker was resolved over its head: kill the worker, for it still runs the function.
    fn forget_run(&mut self, worker: WorkerId, task: TaskId) {
        self.kill(worker, KillReason::Shutdown);
        if let Some(worker) = self.workers.current(worker)
            && let WorkerState::Killed(_, run) = &mut worker.state
        {
            let run = run.take();
            assert!(run.is_some_and(|run| run.task == task), "the tables disagree about {task:?}");
        }
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
            match self.workers.slot(id.slot).state {
                WorkerState::Idle => {
                    self.workers.set(id.slot, WorkerState::Draining);
                    self.actions.push_back(Action::Stop(id));
                }
                // Nothing of the user's runs in it yet, so there is nothing to be graceful about.
                WorkerState::Starting => drop(self.kill(id, KillReason::Shutdown)),
                WorkerState::Vacant => {
                    self.timers.clear(Timer::Restart(id.slot));
                    self.retire(id.slot);
                }
                WorkerState::Busy(_)
                | WorkerState::Killed(..)
                | WorkerState::Draining
                | WorkerState::Retired => {}
            }
        }
    }

    fn retire(&mut self, slot: u32) {
        if self.has(Bug::ForgetsToRetire) {
            return;
        }
        if self.workers.slot(slot).state == WorkerState::Retired {
            return;
        }
        self.workers.set(slot, WorkerState::Retired);
        let all_gone = self.workers.iter().all(|worker| worker.state == WorkerState::Retired);
        if all_gone && self.phase != Phase::Finished {
            self.timers.clear(Timer::Stop);
            if self.phase == Phase::Stopping {
                self.phase = Phase::Finished;
            }
            self.actions.push_back(Action::Finished);
        }
    }
}
