//! Many tasks under one lock: all are accepted, or none.

use std::sync::Arc;

use super::work::{Keep, Manner, Work, weight};
use super::{PoolError, Shared};
use crate::scheduler::types::{TaskId, TaskSpec};

/// A task to be accepted.
#[derive(Debug)]
pub struct NewTask<'a> {
    /// What is to run.
    pub work: Work,
    /// Its function's name.
    pub name: &'a str,
    /// How it is to be run.
    pub spec: TaskSpec,
    /// How it is shown.
    pub manner: Manner,
}

impl NewTask<'_> {
    fn weight(&self) -> usize {
        weight(&self.work, self.manner.name.as_deref().unwrap_or(self.name), self.manner.tags.as_ref())
    }
}

/// How much may wait before no more is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Bytes of their payloads, names and tags.
    pub bytes: usize,
}

impl Backlog {
    /// Whether so much more fits. What alone is over a limit goes through an empty pool.
    fn admits(self, waiting: (usize, usize), more: (usize, usize)) -> bool {
        waiting.0 == 0 || waiting.0 + more.0 <= self.tasks && waiting.1 + more.1 <= self.bytes
    }
}

impl Shared {
    /// Accept these tasks, in this order. On an error none of them is there: whoever sends them again runs nothing twice.
    pub fn submit_all(
        &self,
        tasks: Vec<NewTask<'_>>,
        keep: Keep,
        backlog: Backlog,
    ) -> Result<Vec<TaskId>, PoolError> {
        self.check_owner()?;
        let more = (tasks.len(), tasks.iter().map(NewTask::weight).sum());
        let mut core = self.core.lock();
        if let Some(why) = &core.broken {
            return Err(PoolError::Broken(Arc::clone(why)));
        }
        if !backlog.admits((core.entries.len(), core.waiting_bytes), more) {
            return Err(PoolError::Backlog);
        }
        let mut ids = Vec::with_capacity(tasks.len());
        for task in tasks {
            // What can refuse a task (a shutdown, a broken pool) needs the lock that is held here: it is the first one
            // that is refused, or none.
            let slot = core
                .submit(task.work, task.name, task.spec, keep, &task.manner)
                .map_err(|_| PoolError::ShutDown)?;
            ids.push(slot.id());
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_bytes_each_have_their_limit() {
        let backlog = Backlog { tasks: 10, bytes: 100 };
        assert!(backlog.admits((6, 6), (4, 94)));
        assert!(!backlog.admits((6, 6), (5, 5)), "eleven tasks");
        assert!(!backlog.admits((6, 6), (1, 95)), "101 bytes");
        assert!(backlog.admits((0, 0), (1, 1000)), "alone");
    }
}
