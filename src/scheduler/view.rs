//! What the layers above ask: what to do next, and how things stand.

use super::task::TaskState;
use super::types::{Action, Assignment, FunctionId, TaskId, Time, Tries, WorkerId, WorkerPhase};
use super::{Phase, Scheduler, SubmitError, Totals};

impl Scheduler {
    /// The next thing to do; `None` when there is nothing (more).
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match (self.timers.next(), self.look_at) {
            (Some(timer), Some(look)) => Some(timer.min(look)),
            (timer, look) => timer.or(look),
        }
    }

    /// Tasks that wait for a worker, a backoff or the values of others.
    pub fn queued(&self) -> usize {
        self.tasks.len() - self.running()
    }

    /// Whether a task waits for a worker with room.
    pub fn has_ready(&self) -> bool {
        self.ready.len() > 0
    }

    /// Tasks that run on a worker or are the next to, one that is being killed included: no other may have them yet.
    pub fn running(&self) -> usize {
        self.workers.busy()
    }

    /// The next tasks in the queue, at most so many, in the order in which they will be dispatched; those first that
    /// have been sent ahead.
    pub fn next_in_queue(&self, limit: usize) -> impl Iterator<Item = TaskId> {
        let held = self.workers.iter().flat_map(|worker| worker.held.iter().skip(1)).map(|held| held.task);
        let mut ahead: Vec<_> = held.collect();
        ahead.sort_unstable_by_key(|&task| {
            (std::cmp::Reverse(self.tasks.get(task).map(|task| task.priority)), task)
        });
        let ready = self.ready.entries().filter(|&task| self.tasks.is_queued(task));
        ahead.into_iter().chain(ready).take(limit)
    }

    /// Tasks accepted since the pool began.
    pub fn submitted(&self) -> u64 {
        self.tasks.submitted()
    }

    /// Totals since the pool began.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How long a task of this function takes, in nanoseconds, by those that have ended; `None` before one has.
    pub fn usual(&self, function: FunctionId) -> Option<u64> {
        self.estimates.get(function)
    }

    /// Which try of a task it is that runs, or will be next.
    pub fn tries(&self, id: TaskId) -> Option<Tries> {
        Some(self.tasks.get(id)?.tries())
    }

    /// By how many bytes the worker that runs this task may grow, if there is a limit.
    pub fn max_memory(&self, id: TaskId) -> Option<u64> {
        self.tasks.get(id)?.max_memory()
    }

    /// Whether this very dispatch is what that process runs, or will next.
    pub fn is_at(&self, id: WorkerId, run: Assignment) -> bool {
        let worker = self.workers.slot(id.slot);
        worker.incarnation == id.incarnation && worker.front() == Some(run)
    }

    /// The worker that this task was sent to.
    pub fn worker_of(&self, id: TaskId) -> Option<WorkerId> {
        match self.tasks.get(id)?.state {
            TaskState::Sent(worker) => Some(worker),
            TaskState::Waiting | TaskState::Queued | TaskState::Backoff => None,
        }
    }

    /// How often a task was dispatched; `None`: it has been resolved.
    pub fn attempts(&self, id: TaskId) -> Option<u32> {
        self.tasks.get(id).map(|task| task.attempt.0)
    }

    /// Whether a worker runs this task or will next; `None` for one that has ended.
    pub fn is_running(&self, id: TaskId) -> Option<bool> {
        self.tasks.get(id).map(|task| match task.state {
            TaskState::Waiting | TaskState::Queued | TaskState::Backoff => false,
            TaskState::Sent(worker) => {
                self.workers.slot(worker.slot).front().is_some_and(|front| front.task == id)
            }
        })
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

    /// An error where they are not.
    pub(super) fn check_accepting(&self) -> Result<(), SubmitError> {
        match self.phase {
            Phase::Running => Ok(()),
            Phase::Draining | Phase::Stopping | Phase::Finished => Err(SubmitError::ShutDown),
            Phase::Broken => Err(SubmitError::Broken),
        }
    }
}
