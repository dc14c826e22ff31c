//! What is told of tasks that end because the driver did: to the result store, the history and whoever waits.

use super::core::{Core, Entry};
use super::history::Facts;
use super::slot::Outcome;
use crate::scheduler::types::TaskId;

impl Core {
    /// One task of an abandoned pool has ended so.
    pub(super) fn note_abandoned(&mut self, task: TaskId, entry: &Entry, outcome: &Outcome) {
        let now = self.now();
        if entry.slot.is_retained() {
            self.results.finish(task, outcome.size(), now);
        }
        let facts = Facts {
            task,
            name: entry.name.clone(),
            tags: entry.tags.clone(),
            submitted: entry.submitted,
            dispatched: entry.dispatched.map(|(at, _)| at),
            ended: now,
            pid: None,
        };
        self.history.record(facts, outcome);
    }

    /// All have: nobody waits for more.
    pub(super) fn wake_abandoned(&mut self) {
        self.call_hooks();
    }
}
