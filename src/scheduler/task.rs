//! The task table.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::retry::Budget;
use super::types::{Assignment, Attempt, TaskId, TaskSpec, WorkerId};

/// Where a task is. A resolved task has no state: it has left the table.
///
/// Each `match` on this names every variant, so a new one shows every place that must decide about it. Those
/// that are to come: *waiting* (for the results of other tasks) before `Queued`; *prefetched* and *retracting*
/// between `Queued` and `Running`, once a worker holds more than it runs; *blocked* (in a nested wait, its slot
/// lent out) after `Running`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// In the ready queue.
    Queued,
    /// Its worker died; it enters the ready queue when its `Timer::Retry` fires.
    Backoff,
    /// Dispatched to this worker.
    Running(WorkerId),
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) spec: TaskSpec,
    /// The last attempt that was dispatched; 0 before the first.
    pub(crate) attempt: Attempt,
    pub(crate) budget: Budget,
    pub(crate) state: TaskState,
}

/// Task ids are handed out in a row, so one multiplication (Fibonacci hashing; Knuth, TAOCP 6.4) spreads them
/// well. The standard hasher is seeded at random, which the scheduler may not be.
#[derive(Clone, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

/// A map keyed by task, with a hasher that is the same in every run.
pub type TaskMap<T> = HashMap<TaskId, T, BuildHasherDefault<IdHasher>>;

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
        self.tasks.insert(id, Task { spec, attempt: Attempt(0), budget, state: TaskState::Queued });
        id
    }

    /// Mark the task as dispatched to `worker`, under a new attempt number.
    pub(crate) fn begin(&mut self, id: TaskId, worker: WorkerId) -> (Assignment, TaskSpec) {
        let task = self.known(id);
        assert_eq!(task.state, TaskState::Queued, "{id:?} is dispatched from the ready queue only");
        task.attempt.0 += 1;
        task.state = TaskState::Running(worker);
        (Assignment { task: id, attempt: task.attempt }, task.spec)
    }

    /// A task that an index of ours names; not to be found is our bug.
    pub(crate) fn known(&mut self, id: TaskId) -> &mut Task {
        self.tasks.get_mut(&id).expect("an index names a task that the table does not hold")
    }

    pub(crate) fn get(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    pub(crate) fn is_queued(&self, id: TaskId) -> bool {
        self.get(id).is_some_and(|task| task.state == TaskState::Queued)
    }

    pub(crate) fn remove(&mut self, id: TaskId) -> Task {
        self.tasks.remove(&id).expect("a task is resolved once")
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
    #[expect(clippy::disallowed_methods, reason = "sorted before use, so hash order decides nothing")]
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        let mut ids: Vec<_> = self.tasks.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}
