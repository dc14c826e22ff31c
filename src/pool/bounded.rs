//! A queue with a bound: a submitter waits for its turn, or is refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::slot::Slot;
use super::wait::{Hope, MAX_SPIN};
use super::work::{Keep, Manner, Work};
use super::{PoolError, Shared};
use crate::scheduler::types::TaskSpec;

impl Core {
    /// Whether there are as many unfinished tasks as there may be, in a pool that goes on taking some.
    fn is_full(&self, limit: usize) -> bool {
        self.entries.len() >= limit
            && self.broken.is_none()
            && !self.finished
            && self.scheduler.is_accepting()
    }
}

impl Shared {
    /// Accept a task where fewer than `limit` are unfinished; see [`Self::wait_for_turn`].
    pub fn submit_within(
        &self,
        limit: usize,
        work: Work,
        name: &str,
        spec: TaskSpec,
        keep: Keep,
        manner: &Manner,
    ) -> Result<Arc<Slot>, PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        if core.is_full(limit) {
            core.turn(); // some may have ended, and nobody has looked
        }
        if core.is_full(limit) {
            return Err(PoolError::QueueFull(limit));
        }
        Self::accept(&mut core, work, name, spec, keep, manner)
    }

    /// Wait until fewer than `limit` tasks are unfinished, or the pool takes no more, at most so long.
    pub fn wait_for_turn(&self, limit: usize, timeout: Duration) -> bool {
        let free = || !self.core.lock().is_full(limit);
        self.queuing.fetch_add(1, Ordering::Relaxed);
        let is_free =
            self.spin_until(&free, MAX_SPIN.min(timeout)) || self.sleep_until(&free, Hope::Room, timeout);
        self.queuing.fetch_sub(1, Ordering::Relaxed);
        is_free
    }

    /// How many threads do that now.
    pub fn queuing(&self) -> usize {
        self.queuing.load(Ordering::Relaxed)
    }
}
