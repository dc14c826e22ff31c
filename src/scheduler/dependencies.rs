//! Tasks that wait for the values of others, in side tables: a task that waits for nothing has no entry here.
//!
//! That a task has ended and that its value is there are two facts. Only with the second ([`Scheduler::handle_value`]) may
//! whoever waits for it go: by then the value belongs to the host, and no death can take it back.
//!
//! Nothing here calls itself: the failure of a chain of tasks comes as one action per task, each followed by the next
//! [`Scheduler::handle_no_value`].

use super::paged::TaskMap;
use super::planted::Bug;
use super::task::TaskState;
use super::types::{FailReason, TaskId, TaskSpec, Time};
use super::{Scheduler, SubmitError};

/// Who waits for whom.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    /// By the task whose value they need. Those that were cancelled meanwhile are still listed.
    dependants: TaskMap<Vec<TaskId>>,
    /// How many values each task that waits still lacks.
    unmet: TaskMap<usize>,
}

impl Dependencies {
    fn add(&mut self, task: TaskId, needs: &[TaskId]) {
        for &need in needs {
            match self.dependants.get_mut(need) {
                Some(listed) => listed.push(task),
                None => drop(self.dependants.insert(need, vec![task])),
            }
        }
        self.unmet.insert(task, needs.len());
    }

    /// This task waits no more. What it needed may still list it: ids are not used again.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.unmet.remove(task);
        if self.unmet.is_empty() {
            self.dependants = TaskMap::default();
        }
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many values this task lacks; `None`: it does not wait.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn unmet(&self, task: TaskId) -> Option<usize> {
        self.unmet.get(task).copied()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.unmet.len()
    }

    /// How often this task is listed by what it needs.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn listed(&self, task: TaskId) -> usize {
        let lists = self.dependants.ids().into_iter().filter_map(|need| self.dependants.get(need));
        lists.flatten().filter(|&&listed| listed == task).count()
    }
}

impl Scheduler {
    /// Accept a task that needs the values of these (each named once), of which [`Self::handle_value`] or
    /// [`Self::handle_no_value`] will tell; without any, it is ready at once.
    pub fn submit_after(
        &mut self,
        spec: TaskSpec,
        needs: &[TaskId],
        now: Time,
    ) -> Result<TaskId, SubmitError> {
        if needs.is_empty() {
            return self.submit(spec, now);
        }
        self.check_accepting()?;
        let id = self.tasks.insert(&spec);
        self.tasks.known(id).state = TaskState::Waiting;
        self.dependencies.add(id, needs);
        Ok(id)
    }

    /// This task has ended, and its value is there: whoever lacked nothing else is ready.
    pub fn handle_value(&mut self, of: TaskId, now: Time) {
        if self.dependencies.len() == 0 {
            return; // the usual case
        }
        let Some(dependants) = self.dependencies.dependants.remove(of) else { return };
        let hasty = self.has(Bug::StartsWithoutAllValues);
        for id in dependants {
            let Some(unmet) = self.dependencies.unmet.get_mut(id) else { continue }; // cancelled
            *unmet -= 1;
            if *unmet > 0 && !hasty {
                continue;
            }
            self.dependencies.forget(id);
            let task = self.tasks.known(id);
            task.state = TaskState::Queued;
            let priority = task.priority;
            self.ready.push_back(priority, id);
        }
        self.dispatch(now);
    }

    /// This task has ended without a value: nobody who needs it can run. Each of them fails, and has no value either.
    pub fn handle_no_value(&mut self, of: TaskId, now: Time) {
        if self.dependencies.len() == 0 {
            return; // the usual case
        }
        let Some(dependants) = self.dependencies.dependants.remove(of) else { return };
        if self.has(Bug::ForgetsTheDependants) {
            return;
        }
        for id in dependants {
            if self.dependencies.unmet.contains(id) {
                self.dependencies.forget(id);
                self.resolve(id, FailReason::DependencyFailed(of));
            }
        }
        self.stop_if_drained(now);
    }
}
