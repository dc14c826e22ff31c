//! An end of all workers by SIGTERM, which they may catch.

use std::time::Duration;

use super::core::Core;
use super::{PoolError, Shared};
use crate::scheduler::types::{Shutdown, Time};

/// How long a worker may take to leave after SIGTERM; as long as when it is asked to.
const TERMINATE_PATIENCE: Duration = crate::scheduler::STOP_LIMIT;

impl Shared {
    /// Stop at once: cancel what no worker has begun, fail the rest, and send SIGTERM to the workers, SIGKILL to those that
    /// do not leave.
    pub fn terminate(&self) -> Result<(), PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        core.shutdown(Shutdown::CancelPending);
        core.gentle_until = Some(core.now() + TERMINATE_PATIENCE);
        core.shutdown(Shutdown::Now);
        Ok(())
    }
}

impl Core {
    /// See [`TERMINATE_PATIENCE`].
    pub(super) fn end_gentleness(&mut self, now: Time) {
        if self.gentle_until.is_some_and(|until| until <= now) {
            self.gentle_until = None;
            self.seats.iter_mut().for_each(super::seat::Seat::kill);
        }
    }
}
