//! What a task needs besides its arguments, and what follows when a task has ended that others need.

use std::sync::Arc;

use super::core::Core;
use super::failure::Failure;
use super::slot::{Outcome, Slot};
use crate::ipc::Input;
use crate::scheduler::types::{TaskId, Time};

/// One thing that a task needs.
#[derive(Clone, Debug)]
pub struct Need {
    /// What its worker is given.
    pub input: Arc<Input>,
    /// The task whose value that is, or will be; `None`: an object that was put.
    pub from: Option<Arc<Slot>>,
}

impl Need {
    /// The task that has still to end.
    fn awaited(&self) -> Option<TaskId> {
        self.from.as_ref().filter(|_| self.input.value().is_none()).map(|slot| slot.id())
    }
}

/// The tasks that must end before one with these needs can run: each once.
pub(super) fn awaited(needs: &[Need]) -> Vec<TaskId> {
    let mut ids: Vec<_> = needs.iter().filter_map(Need::awaited).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl Core {
    /// A task was accepted. Those of its needs that have failed before, nobody will tell of again.
    pub(super) fn tell_of_failed(&mut self, needs: &[TaskId], now: Time) {
        for &need in needs {
            if !self.entries.contains(need) {
                self.scheduler.handle_no_value(need, now);
            }
        }
    }

    /// A task has ended, and its outcome is in its slot: with a value, or without one.
    pub(super) fn tell_of_end(&mut self, task: TaskId, has_value: bool, now: Time) {
        if has_value {
            self.scheduler.handle_value(task, now);
        } else {
            self.scheduler.handle_no_value(task, now);
        }
    }

    /// The outcome of a task that needed the value of `of`, which has none.
    pub(super) fn unmet(&self, task: TaskId, of: TaskId) -> Outcome {
        let entry = self.entries.get(task);
        let needs = entry.map_or(&[][..], |entry| &entry.work.needs);
        let slot = needs.iter().filter_map(|need| need.from.as_ref()).find(|slot| slot.id() == of);
        let cause = slot.and_then(|slot| slot.outcome());
        let name = entry.map_or("", |entry| &entry.name);
        Outcome::Failed(Arc::new(Failure::unmet(task.0, name, of, cause)))
    }
}
