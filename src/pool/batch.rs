//! Many tasks under one lock: all are accepted, or none.

use std::sync::Arc;

use super::core::Keep;
use super::{PoolError, Shared};
use crate::ipc::MAX_PAYLOAD_BYTES;
use crate::scheduler::types::{TaskId, TaskSpec};

/// A task to be accepted.
#[derive(Debug)]
pub struct NewTask<'a> {
    /// Its pickle.
    pub payload: Arc<Vec<u8>>,
    /// Its function's name.
    pub name: &'a str,
    /// How it is to be run.
    pub spec: TaskSpec,
}

impl Shared {
    /// Accept these tasks, in this order. On an error none of them is there: whoever sends them again runs nothing twice.
    pub fn submit_all(&self, tasks: Vec<NewTask<'_>>, keep: Keep) -> Result<Vec<TaskId>, PoolError> {
        self.check_owner()?;
        let largest = tasks.iter().map(|task| task.payload.len() as u64).max().unwrap_or(0);
        if largest > MAX_PAYLOAD_BYTES {
            return Err(PoolError::TooLarge(largest));
        }
        let mut core = self.core.lock();
        if let Some(why) = &core.broken {
            return Err(PoolError::Broken(Arc::clone(why)));
        }
        let mut ids = Vec::with_capacity(tasks.len());
        for task in tasks {
            // What can refuse a task (a shutdown, a broken pool) needs the lock that is held here: it is the first one
            // that is refused, or none.
            let slot =
                core.submit(task.payload, task.name, task.spec, keep).map_err(|_| PoolError::ShutDown)?;
            ids.push(slot.id());
        }
        Ok(ids)
    }
}
