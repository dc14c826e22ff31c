//! The task table.

use std::time::Duration;

use super::paged::TaskMap;
use super::retry::{Budget, FREE_RETURNS};
use super::rng::Rng;
use super::types::{Assignment, Attempt, Backoff, FunctionId, TaskId, TaskSpec, Tries, WorkerId};

/// Where a task is. A resolved task has no state: it has left the table.
///
/// Each `match` on this names every variant, so a new one shows every place that must decide about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// It lacks the values of other tasks: see [`super::dependencies`].
    Waiting,
    /// In the ready queue.
    Queued,
    /// Its worker died, or it raised; it enters the ready queue when its `Timer::Retry` fires.
    Backoff,
    /// Dispatched to this worker, which runs it or will: see [`super::worker::Worker::held`].
    Sent(WorkerId),
}

/// One of a million, perhaps: what few tasks have stands elsewhere.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) function: FunctionId,
    pub(crate) priority: i32,
    /// The last attempt that was dispatched; 0 before the first.
    pub(crate) attempt: Attempt,
    pub(crate) state: TaskState,
    /// Its owner wants it stopped: whatever happens to it but an answer, it ends cancelled.
    pub(crate) doomed: bool,
    free_returns_left: u8,
    terms: Option<Box<Terms>>,
}

/// What the submitter asked for beyond the usual, which is neither retries nor a limit.
#[derive(Debug)]
struct Terms {
    timeout: Option<Duration>,
    retry_timeouts: bool,
    max_memory: Option<u64>,
    retry_over_memory: bool,
    backoff: Backoff,
    budget: Budget,
}

impl Task {
    fn new(spec: &TaskSpec) -> Self {
        let usual = spec.timeout.is_none() && spec.max_memory.is_none() && spec.retries == 0;
        let terms = (!usual).then(|| {
            let TaskSpec { timeout, retry_timeouts, max_memory, retry_over_memory, backoff, .. } = *spec;
            let budget = Budget::new(spec);
            Box::new(Terms { timeout, retry_timeouts, max_memory, retry_over_memory, backoff, budget })
        });
        Self {
            function: spec.function,
            priority: spec.priority,
            attempt: Attempt(0),
            state: TaskState::Queued,
            doomed: false,
            free_returns_left: FREE_RETURNS,
            terms,
        }
    }

    /// How long one attempt may run.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.terms.as_ref().and_then(|terms| terms.timeout)
    }

    /// Whether a time-out is tried again as well, where there are retries.
    pub(crate) fn retries_timeouts(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.retry_timeouts)
    }

    /// By how many bytes its worker may grow.
    pub(crate) fn max_memory(&self) -> Option<u64> {
        self.terms.as_ref().and_then(|terms| terms.max_memory)
    }

    /// Whether one that took more memory is tried again as well, where there are retries.
    pub(crate) fn retries_over_memory(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.retry_over_memory)
    }

    /// A dispatch came back that was never begun. Whether that is free of charge.
    pub(crate) fn returns_free(&mut self) -> bool {
        let free = self.free_returns_left > 0;
        self.free_returns_left = self.free_returns_left.saturating_sub(1);
        free
    }

    /// Charge one lost attempt: see [`Budget::charge`].
    pub(crate) fn charge(&mut self, blame: bool, rng: &mut Rng) -> Option<Duration> {
        let terms = self.terms.as_mut()?;
        terms.budget.charge(blame, terms.backoff, rng)
    }

    /// Which try is the one that runs, or will be next.
    pub(crate) fn tries(&self) -> Tries {
        self.terms.as_ref().map_or(Tries { made: 1, allowed: 1 }, |terms| terms.budget.tries())
    }
}

#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    tasks: TaskMap<Task>,
    submitted: u64,
}

impl TaskTable {
    pub(crate) fn insert(&mut self, spec: &TaskSpec) -> TaskId {
        self.submitted += 1;
        let id = TaskId(self.submitted);
        self.tasks.insert(id, Task::new(spec));
        id
    }

    /// Mark the task as dispatched to `worker`, under a new attempt number.
    pub(crate) fn begin(&mut self, id: TaskId, worker: WorkerId) -> Assignment {
        let task = self.known(id);
        assert_eq!(task.state, TaskState::Queued, "{id:?} is dispatched from the ready queue only");
        task.attempt.0 += 1;
        task.state = TaskState::Sent(worker);
        Assignment { task: id, attempt: task.attempt }
    }

    /// A task that an index of ours names; not to be found is our bug.
    pub(crate) fn known(&mut self, id: TaskId) -> &mut Task {
        self.tasks.get_mut(id).expect("an index names a task that the table does not hold")
    }

    pub(crate) fn get(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    pub(crate) fn is_queued(&self, id: TaskId) -> bool {
        self.get(id).is_some_and(|task| task.state == TaskState::Queued)
    }

    pub(crate) fn remove(&mut self, id: TaskId) -> Task {
        self.tasks.remove(id).expect("a task is resolved once")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn submitted(&self) -> u64 {
        self.submitted
    }

    /// All tasks in order of submission: for the rare moments that concern all of them.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        self.tasks.ids()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_begun_is_free_but_not_for_ever() {
        let mut task = Task::new(&TaskSpec::default());
        assert_eq!((0..1000).take_while(|_| task.returns_free()).count(), usize::from(FREE_RETURNS));
    }

    #[test]
    fn a_usual_task_is_small() {
        assert!(size_of::<Option<Task>>() <= 40, "a million of them stand in memory");
    }
}
