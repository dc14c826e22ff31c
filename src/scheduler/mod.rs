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

mod ahead;
mod answers;
mod cancel;
#[cfg(any(test, debug_assertions))]
mod check;
mod dependencies;
mod estimate;
mod held;
mod nested;
pub mod paged;
pub(crate) mod planted;
mod queue;
pub mod restart;
pub mod retry;
pub(crate) mod rng;
mod slots;
pub mod standby;
mod steps;
mod task;
mod timer;
mod turnover;
pub mod types;
mod view;
mod worker;
mod workers;

use std::collections::VecDeque;
use std::time::Duration;

#[cfg(test)]
pub(crate) use ahead::{LOOK_AFTER, STEAL_NANOS};
use dependencies::Dependencies;
use estimate::Estimates;
pub use paged::TaskMap;
use planted::Bug;
use queue::ReadyQueue;
use rng::Rng;
use standby::StartTimes;
use task::{TaskState, TaskTable};
use timer::{Timer, Timers};
use types::{Action, Assignment, FailReason, KillReason, Shutdown, TaskId, TaskSpec, Time, WorkerId};
use worker::{Beat, Standing, WorkerState};
#[cfg(test)]
pub(crate) use worker::{PACK_NANOS, PACK_STALE, PREFETCH_NANOS, PREFETCH_TASKS};
use workers::WorkerTable;

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
    /// Tasks that were given to whoever waited for them: see [`Scheduler::withdraw`].
    pub withdrawn: u64,
    /// Attempts that were granted after one that failed.
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
    dependencies: Dependencies,
    workers: WorkerTable,
    estimates: Estimates,
    start_times: StartTimes,
    /// No prefetched task has a lower priority than this.
    ahead_floor: i32,
    /// Until then little is sent ahead.
    shallow_until: Option<Time>,
    /// When it is next looked whether those get on who have something that waits.
    look_at: Option<Time>,
    /// What comes back unbegun is cancelled.
    cancelling: bool,
    /// So many workers there are to be.
    wanted: u32,
    /// Workers run code of the user's before they are ready.
    slow_starts: bool,
    /// [`Action::Finished`] was given out.
    said_finished: bool,
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
            dependencies: Dependencies::default(),
            workers: WorkerTable::new(workers),
            estimates: Estimates::default(),
            start_times: StartTimes::default(),
            ahead_floor: i32::MAX,
            shallow_until: None,
            look_at: None,
            cancelling: false,
            wanted: workers,
            slow_starts: false,
            said_finished: false,
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
        self.check_accepting()?;
        let id = self.tasks.insert(&spec);
        self.ready.push_back(spec.priority, id);
        self.dispatch(now);
        Ok(id)
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
        let Some(worker) = self.workers.current(id) else { return self.standby_ready(id, now) };
        if worker.state != WorkerState::Starting {
            return; // killed in the meantime, or the message came twice
        }
        worker.seldom.standing = Standing::Ready(now);
        let took = now.saturating_sub(worker.seldom.started);
        self.start_times.observe(took);
        self.timers.clear(Timer::Start(id));
        self.workers.set(id.slot, WorkerState::Up);
        if !self.has(Bug::ForgetsToDispatch) {
            self.dispatch(now);
        }
    }

    /// The answer to [`Action::Retract`]: the last `count` dispatches of that worker were taken back, unbegun.
    pub fn handle_retracted(&mut self, id: WorkerId, count: usize, now: Time) {
        self.taken_back(id, count);
        self.dispatch(now);
        self.stop_if_drained(now);
        if self.workers.current(id).is_some() {
            self.leave_if_done(id.slot, now);
        }
    }

    /// The process is gone and everything that it sent has been handled. `begun` is the last dispatch that it
    /// began, as far as is known: only a task that was begun is charged for the death. That is this one, and whatever was
    /// sent before it and not answered.
    pub fn handle_exit(&mut self, id: WorkerId, begun: Option<Assignment>, now: Time) {
        self.bury(id, begun, false, now);
    }

    /// The process could not even be started. `transient`: for want of descriptors, processes or memory, which
    /// may pass. A missing interpreter does not.
    pub fn handle_spawn_failed(&mut self, id: WorkerId, transient: bool, now: Time) {
        self.bury(id, None, transient, now);
    }

    /// A reading of the process's heartbeat counter. `at_work`: it has begun something that it has not answered. What has
    /// only been sent there costs nothing when it is killed, and would wait for long.
    pub fn handle_beat(&mut self, id: WorkerId, count: u64, at_work: bool, now: Time) {
        let Some(worker) = self.workers.current(id) else { return self.standby_beat(id, count, now) };
        let limit = match worker.state {
            WorkerState::Up if at_work && !worker.held.is_empty() => BUSY_FROZEN_LIMIT,
            WorkerState::Up | WorkerState::Draining => IDLE_FROZEN_LIMIT,
            WorkerState::Starting if self.slow_starts => START_LIMIT,
            WorkerState::Vacant | WorkerState::Starting | WorkerState::Killed(..) | WorkerState::Retired => {
                return;
            }
        };
        let starting = worker.state == WorkerState::Starting;
        if std::mem::take(&mut worker.answered) {
            worker.seldom.beat = None; // a sign of life: what stood still by the busy limit is not judged by the idle one
        }
        match worker.seldom.beat {
            Some(beat) if beat.count == count => {
                if now.saturating_sub(beat.changed) >= limit {
                    self.kill(id, if starting { KillReason::StartTimeout } else { KillReason::Frozen });
                }
            }
            Some(_) | None => worker.seldom.beat = Some(Beat { count, changed: now }),
        }
    }

    /// The driver could not look for `gap` (the machine slept, the process was stopped): forgive the gap, so
    /// that nobody is killed for it.
    pub fn handle_pause(&mut self, gap: Duration) {
        self.timers.postpone_limits(gap);
        for id in self.workers.ids() {
            let Some(worker) = self.workers.current(id) else { continue };
            worker.progress += gap;
            worker.seldom.deadline = worker.seldom.deadline.map(|deadline| deadline.saturating_add(gap));
            let standby = worker.seldom.standby.as_mut().and_then(|standby| standby.beat.as_mut());
            for Beat { changed, .. } in worker.seldom.beat.iter_mut().chain(standby) {
                *changed += gap;
            }
        }
    }

    /// Time has come to `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Attempt(id) => self.near_deadline(id, now),
                Timer::Standby(slot) => self.dismiss_standby(slot, now),
                Timer::Start(id) => drop(self.kill(id, KillReason::StartTimeout)),
                Timer::Leave(id) => drop(self.kill(id, KillReason::Shutdown)),
                Timer::Restart(slot) => self.spawn(slot, now),
                Timer::Stop => self.kill_all(KillReason::Shutdown),
                Timer::Retry(id) => {
                    let task = self.tasks.known(id);
                    task.state = TaskState::Queued;
                    let priority = task.priority;
                    self.ready.push_back(priority, id);
                }
            }
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(now);
        }
        self.dispatch(now);
    }
}
