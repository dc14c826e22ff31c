//! Stopping many tasks at once: all that were submitted from some point on.

use super::{PoolError, Shared};
use crate::scheduler::types::TaskId;

/// Tasks that are stopped under one lock: some hundred microseconds, for which submitters and the driver wait.
const AT_ONCE: usize = 256;

impl Shared {
    /// How many tasks there have been: the number of the last one.
    pub fn submitted(&self) -> u64 {
        self.core.lock().scheduler.submitted()
    }

    /// Cancel what waits of the tasks with this number and higher ones, and kill what runs. Returns at once: a process that
    /// is killed takes some milliseconds to go.
    pub fn stop_from(&self, first: TaskId) -> Result<(), PoolError> {
        self.check_owner()?;
        let mut tasks = self.core.lock().entries.ids();
        tasks.retain(|&task| task >= first);
        // The newest first, so that no worker that becomes free begins one that is to be stopped a moment later.
        for some in tasks.rchunks(AT_ONCE) {
            let mut core = self.core.lock();
            for &task in some.iter().rev() {
                core.kill(task);
            }
        }
        Ok(())
    }
}
