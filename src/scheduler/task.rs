//! The task table.

use super::paged::TaskMap;
use super::retry::Budget;
use super::types::{Assignment, Attempt, TaskId, TaskSpec, WorkerId};

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

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) spec: TaskSpec,
    /// The last attempt that was dispatched; 0 before the first.
    pub(crate) attempt: Attempt,
    pub(crate) budget: Budget,
    pub(crate) state: TaskState,
    /// Its owner wants it stopped: whatever happens to it but an answer, it ends cancelled.
    pub(crate) doomed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    tasks: TaskMap<Task>,
    submitted: u64,
}

impl TaskTable {
    pub(crate) fn insert(&mut self, spec: TaskSpec) -> TaskId {
        self.submitted += 1;
        let id = TaskId(self.submitted);
        let budget = Budget::new(&spec);
        let state = TaskState::Queued;
        self.tasks.insert(id, Task { spec, attempt: Attempt(0), budget, state, doomed: false });
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
