//! The ready queue: highest priority first, first come first served within one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::types::TaskId;

/// A cancelled task's entry is not searched for: the popper skips entries that the task table no longer knows
/// as queued. Entries of cancelled tasks are swept once they outnumber the live ones by this many, so that
/// cancelling costs O(1) and memory stays within a factor of two.
const SWEEP_SLACK: usize = 1024;

/// What waits with one priority.
#[derive(Debug, Default)]
struct Lane {
    /// Was dispatched and not begun. By age, whoever gives it back first: put at the head one by one, what two workers give
    /// back again and again would change places each time, and the older might never be run.
    returned: BTreeSet<TaskId>,
    waiting: VecDeque<TaskId>,
}

impl Lane {
    fn front(&self) -> Option<TaskId> {
        self.returned.first().or(self.waiting.front()).copied()
    }

    fn pop_front(&mut self) {
        if self.returned.pop_first().is_none() {
            self.waiting.pop_front();
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    lanes: BTreeMap<Reverse<i32>, Lane>,
    entries: usize,
    dead: usize,
}

impl ReadyQueue {
    /// A task that waits for its first attempt, or again after a backoff.
    pub(crate) fn push_back(&mut self, priority: i32, task: TaskId) {
        self.lanes.entry(Reverse(priority)).or_default().waiting.push_back(task);
        self.entries += 1;
    }

    /// A task that was dispatched but never begun: it goes back to the head of its lane, free of charge, behind those that
    /// are older and came back as well.
    pub(crate) fn give_back(&mut self, priority: i32, task: TaskId) {
        self.lanes.entry(Reverse(priority)).or_default().returned.insert(task);
        self.entries += 1;
    }

    /// The next task for which `is_live` holds. It stays where it is: see [`Self::pop_front`].
    pub(crate) fn front(&mut self, is_live: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        while let Some(mut lane) = self.lanes.first_entry() {
            while let Some(task) = lane.get().front() {
                if is_live(task) {
                    return Some(task);
                }
                lane.get_mut().pop_front();
                self.entries -= 1;
                self.dead -= 1;
            }
            lane.remove();
        }
        None
    }

    /// Take out what [`Self::front`] has just returned.
    pub(crate) fn pop_front(&mut self) {
        if let Some(mut lane) = self.lanes.first_entry() {
            lane.get_mut().pop_front();
            self.entries -= 1;
        }
    }

    /// One queued task was cancelled: its entry is now dead.
    pub(crate) fn note_cancelled(&mut self, is_live: impl Fn(TaskId) -> bool) {
        self.dead += 1;
        if self.dead > self.len() + SWEEP_SLACK {
            self.lanes.retain(|_, lane| {
                lane.returned.retain(|&task| is_live(task));
                lane.waiting.retain(|&task| is_live(task));
                lane.front().is_some()
            });
            self.entries -= self.dead;
            self.dead = 0;
        }
    }

    /// Tasks that wait.
    pub(crate) fn len(&self) -> usize {
        self.entries - self.dead
    }

    /// Every entry in order, dead ones included.
    pub(crate) fn entries(&self) -> impl Iterator<Item = TaskId> {
        self.lanes.values().flat_map(|lane| lane.returned.iter().chain(&lane.waiting)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_then_first_come() {
        let mut queue = ReadyQueue::default();
        for (priority, id) in [(0, 1), (5, 2), (0, 3), (-1, 4), (5, 5)] {
            queue.push_back(priority, TaskId(id));
        }
        queue.give_back(0, TaskId(7));
        queue.give_back(0, TaskId(6));
        let next = || {
            let front = queue.front(|_| true);
            queue.pop_front();
            front
        };
        let order: Vec<_> = std::iter::from_fn(next).map(|t| t.0).collect();
        assert_eq!(order, [2, 5, 6, 7, 1, 3, 4], "what came back first, the oldest before the others");
    }

    #[test]
    fn dead_entries_are_swept_and_never_popped() {
        let mut queue = ReadyQueue::default();
        let tasks = 4 * SWEEP_SLACK as u64;
        for id in 0..tasks {
            queue.push_back(0, TaskId(id));
        }
        for gone in 1..=tasks - 2 {
            queue.note_cancelled(|task| task.0 >= gone);
        }
        assert_eq!(queue.len(), 2);
        assert!(queue.entries().count() <= 2 * (2 + SWEEP_SLACK), "dead entries pile up");
        assert_eq!(queue.front(|task| task.0 >= tasks - 2), Some(TaskId(tasks - 2)));
    }
}
