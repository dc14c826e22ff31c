//! The scheduler decides; it does nothing. Facts go in, actions come out.
//!
//! It knows no sockets, clocks, threads, randomness of its own, payload bytes or Python, so that the simulation
//! (`src/simulation/`) can drive it through a hundred thousand schedules and name a failing one by its seed.
//!
//! Four kinds of method, by direction:
//!
//! * commands from the application: [`Scheduler::submit`], [`Scheduler::cancel`], [`Scheduler::shutdown`],
//!   [`Scheduler::restart_worker`];
//! * facts from the world: `handle_*`;
//! * what the driver must now do: [`Scheduler::poll_action`] (drain it after each batch of facts) and
//!   [`Scheduler::poll_timeout`] (call [`Scheduler::handle_timeout`] then; spurious calls are harmless);
//! * plain getters.
//!
//! Time must not run backwards. Between two calls every ready task has a worker or there is no idle worker.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(any(test, debug_assertions))]
mod check;
pub(crate) mod planted;
mod queue;
pub mod restart;
pub mod retry;
pub(crate) mod rng;
mod steps;
mod task;
mod timer;
pub mod types;
mod worker;

use std::collections::VecDeque;
use std::time::Duration;

use planted::Bug;
use queue::ReadyQueue;
use rng::Rng;
pub use task::TaskMap;
use task::{TaskState, TaskTable};
use timer::{Timer, Timers};
use types::{
    Action, Assignment, Cancel, Completion, FailReason, KillReason, Shutdown, TaskId, TaskSpec, Time,
    WorkerId, WorkerPhase,
};
use worker::{Beat, Standing, WorkerState, WorkerTable};

/// How long a process may take from its start until it is ready. Generous: it imports Python and our own module
/// only, but on an overloaded machine or a cold network disk that can take long.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// How long workers have, together, to leave on their own when the pool stops. Their `atexit` handlers run here.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);

/// An idle worker whose heartbeat (every 100 ms) stands still this long is stopped or frozen, and replaced.
pub const IDLE_FROZEN_LIMIT: Duration = Duration::from_secs(2);

/// A busy one is given longer, because killing it costs an attempt, and somebody may be debugging it.
pub const BUSY_FROZEN_LIMIT: Duration = Duration::from_secs(60);

/// Which part of its life the pool is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Accepts nothing new; stops when the last task is resolved.
    Draining,
    /// Workers were told to go.
    Stopping,
    /// As `Stopping`, after the workers could not be started.
    Broken,
    Finished,
}

/// What `submit` may answer instead of a task id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// [`Scheduler::shutdown`] was called.
    #[error("the pool is shut down")]
    ShutDown,
    /// [`Action::Broken`] was given out.
    #[error("the pool is broken")]
    Broken,
}

/// Totals since the pool began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tasks that came with an answer, a value or an exception of their own.
    pub completed: u64,
    /// Tasks that ended without one: crashed, timed out, cut off.
    pub failed: u64,
    /// Tasks cancelled before they were dispatched.
    pub cancelled: u64,
    /// Attempts that were granted again after a worker's death.
    pub retried: u64,
    /// Workers that died without having been asked to.
    pub worker_deaths: u64,
}

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct Scheduler {
    phase: Phase,
    tasks: TaskTable,
    ready: ReadyQueue,
    workers: WorkerTable,
    timers: Timers,
    rng: Rng,
    actions: VecDeque<Action>,
    totals: Totals,
    #[cfg(test)]
    pub(crate) planted: Option<Bug>,
}

// Commands.
impl Scheduler {
    /// A pool of `workers` places, all of which start at once. `seed` feeds the jitter.
    ///
    /// # Panics
    /// With no workers at all.
    #[must_use]
    pub fn new(workers: u32, seed: u64, now: Time) -> Self {
        assert!(workers > 0, "a pool has at least one worker");
        let mut scheduler = Self {
            phase: Phase::Running,
            tasks: TaskTable::default(),
            ready: ReadyQueue::default(),
            workers: WorkerTable::new(workers),
            timers: Timers::default(),
            rng: Rng::new(seed),
            actions: VecDeque::new(),
            totals: Totals::default(),
            #[cfg(test)]
            planted: None,
        };
        for slot in 0..workers {
            scheduler.spawn(slot, now);
        }
        scheduler
    }

    /// Accept a task.
    pub fn submit(&mut self, spec: TaskSpec, now: Time) -> Result<TaskId, SubmitError> {
        match self.phase {
            Phase::Running => {}
            Phase::Draining | Phase::Stopping | Phase::Finished => return Err(SubmitError::ShutDown),
            Phase::Broken => return Err(SubmitError::Broken),
        }
        let id = self.tasks.insert(spec);
        self.ready.push_back(spec.priority, id);
        self.dispatch(now);
        Ok(id)
    }

    /// Take back a task that has not been dispatched.
    pub fn cancel(&mut self, id: TaskId, now: Time) -> Cancel {
        match self.tasks.get(id).map(|task| task.state) {
            None | Some(TaskState::Running(_)) => return Cancel::TooLate,
            Some(TaskState::Queued) => {
                self.tasks.remove(id);
                self.ready.note_cancelled(|task| self.tasks.is_queued(task));
            }
            Some(TaskState::Backoff) => {
                self.tasks.remove(id);
                if !self.has(Bug::ForgetsToClearTheRetry) {
                    self.timers.clear(Timer::Retry(id));
                }
            }
        }
        self.totals.cancelled += 1;
        self.stop_if_drained(now);
        Cancel::Cancelled
    }

    /// Accept nothing more, and end as `mode` says. A second call can only be stricter.
    pub fn shutdown(&mut self, mode: Shutdown, now: Time) {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining;
        }
        match mode {
            Shutdown::Drain => {}
            Shutdown::CancelPending => self.cancel_pending(),
            Shutdown::Now => self.fail_all(FailReason::PoolShutdown),
        }
        self.stop_if_drained(now);
        if mode == Shutdown::Now {
            self.kill_all(KillReason::Shutdown);
        }
    }

    /// Replace a worker, whatever it is doing. `false` where that process is not there any more.
    pub fn restart_worker(&mut self, id: WorkerId, _now: Time) -> bool {
        self.kill(id, KillReason::Requested)
    }
}

// Facts.
impl Scheduler {
    /// The process shook hands.
    pub fn handle_ready(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.workers.current(id) else { return };
        if worker.state != WorkerState::Starting {
            return; // killed in the meantime, or the message came twice
        }
        worker.standing = Standing::Ready(now);
        self.timers.clear(Timer::Start(id));
        self.workers.set(id.slot, WorkerState::Idle);
        if !self.has(Bug::ForgetsToDispatch) {
            self.dispatch(now);
        }
    }

    /// The process says that this dispatch is done, with a value or an exception.
    pub fn handle_completed(&mut self, id: WorkerId, done: Assignment, now: Time) -> Completion {
        let fenced = !self.has(Bug::DropsTheFence);
        let deaf = self.has(Bug::IgnoresDrainedResults);
        let keeps_the_row = self.has(Bug::KeepsTheRow);
        let Some(worker) = self.workers.current(id) else { return Completion::Stale };
        let next = match worker.state {
            WorkerState::Busy(run) if run == done || !fenced => WorkerState::Idle,
            WorkerState::Killed(why, Some(run)) if (run == done || !fenced) && !deaf => {
                WorkerState::Killed(why, None)
            }
            WorkerState::Busy(_)
            | WorkerState::Killed(..)
            | WorkerState::Vacant
            | WorkerState::Starting
            | WorkerState::Idle
            | WorkerState::Draining
            | WorkerState::Retired => return Completion::Stale,
        };
        worker.tasks_done += 1;
        if !keeps_the_row {
            worker.standing = Standing::Proven;
        }
        // An answer is a sign of life: what stood still by the busy limit is not judged by the idle one.
        worker.beat = None;
        if !self.has(Bug::ForgetsToClearTheDeadline) {
            self.timers.clear(Timer::Attempt(id));
        }
        self.workers.set(id.slot, next);
        self.tasks.remove(done.task);
        self.totals.completed += 1;
        self.dispatch(now);
        self.stop_if_drained(now);
        Completion::Final
    }

    /// The process is gone and everything that it sent has been handled. `begun` is the last dispatch that it
    /// began, as far as is known: only a task that was begun is charged for the death.
    pub fn handle_exit(&mut self, id: WorkerId, begun: Option<Assignment>, now: Time) {
        self.bury(id, begun, false, now);
    }

    /// The process could not even be started. `transient`: for want of descriptors, processes or memory, which
    /// may pass. A missing interpreter does not.
    pub fn handle_spawn_failed(&mut self, id: WorkerId, transient: bool, now: Time) {
        self.bury(id, None, transient, now);
    }

    /// A reading of the process's heartbeat counter.
    pub fn handle_beat(&mut self, id: WorkerId, count: u64, now: Time) {
        let Some(worker) = self.workers.current(id) else { return };
        let limit = match worker.state {
            WorkerState::Idle | WorkerState::Draining => IDLE_FROZEN_LIMIT,
            WorkerState::Busy(_) => BUSY_FROZEN_LIMIT,
            WorkerState::Vacant | WorkerState::Starting | WorkerState::Killed(..) | WorkerState::Retired => {
                return;
            }
        };
        match worker.beat {
            Some(beat) if beat.count == count => {
                if now.saturating_sub(beat.changed) >= limit {
                    self.kill(id, KillReason::Frozen);
                }
            }
            Some(_) | None => worker.beat = Some(Beat { count, changed: now }),
        }
    }

    /// The driver could not look for `gap` (the machine slept, the process was stopped): forgive the gap, so
    /// that nobody is killed for it.
    pub fn handle_pause(&mut self, gap: Duration) {
        self.timers.postpone_limits(gap);
        for id in self.workers.ids() {
            if let Some(Beat { changed, .. }) =
                self.workers.current(id).and_then(|worker| worker.beat.as_mut())
            {
                *changed += gap;
            }
        }
    }

    /// Time has come to `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Attempt(id) => drop(self.kill(id, KillReason::Timeout)),
                Timer::Start(id) => drop(self.kill(id, KillReason::StartTimeout)),
                Timer::Restart(slot) => self.spawn(slot, now),
                Timer::Stop => self.kill_all(KillReason::Shutdown),
                Timer::Retry(id) => {
                    let task = self.tasks.known(id);
                    task.state = TaskState::Queued;
                    let priority = task.spec.priority;
                    self.ready.push_back(priority, id);
                }
            }
        }
        self.dispatch(now);
    }
}

// What to do, and getters.
impl Scheduler {
    /// The next thing to do; `None` when there is nothing (more).
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Tasks that wait for a worker or a backoff.
    pub fn queued(&self) -> usize {
        self.tasks.len() - self.running()
    }

    /// Tasks that are on a worker, one that is being killed included: no other may have them yet.
    pub fn running(&self) -> usize {
        self.workers.iter().filter(|worker| worker.run().is_some()).count()
    }

    /// The next tasks in the queue, at most so many, in the order in which they will be dispatched.
    pub fn next_in_queue(&self, limit: usize) -> impl Iterator<Item = TaskId> {
        self.ready.entries().filter(|&task| self.tasks.is_queued(task)).take(limit)
    }

    /// Tasks accepted since the pool began.
    pub fn submitted(&self) -> u64 {
        self.tasks.submitted()
    }

    /// Totals since the pool began.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether this task is on a worker; `None` for one that has ended.
    pub fn is_running(&self, id: TaskId) -> Option<bool> {
        self.tasks.get(id).map(|task| matches!(task.state, TaskState::Running(_)))
    }

    /// Each place's current process, what it does, and how many tasks ended in that place.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, WorkerPhase, u64)> {
        self.workers
            .ids()
            .zip(self.workers.iter())
            .map(|(id, worker)| (id, worker.phase(), worker.tasks_done))
    }

    /// Whether tasks are still accepted.
    pub fn is_accepting(&self) -> bool {
        self.phase == Phase::Running
    }
}
