//! Workers that come and go without having died, and those that cannot be made ready.

use std::time::Duration;

use super::core::Core;
use super::{PoolError, Shared};
use crate::scheduler::types::{Shutdown, Time, WorkerId};

/// Begins what a worker says of itself when its initializer has failed; the rest is why. No version begins like this.
pub(super) const UNFIT: &[u8] = b"unfit\n";

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

    /// Its initializer failed: that breaks the pool.
    pub(super) fn unfit(&mut self, id: WorkerId, hello: &[u8]) {
        let pid = self.seat(id).and_then(|seat| seat.pid_of(id)).unwrap_or_default();
        let why = String::from_utf8_lossy(&hello[UNFIT.len()..]);
        let why = format!("the pool is broken: its initializer failed in worker pid {pid}: {why}");
        let now = self.now();
        if self.scheduler.is_starting(id) {
            self.broken.get_or_insert_with(|| why.into());
        }
        self.scheduler.handle_unfit(id, now);
    }

    /// A process has ended. If the last that it said was that it is unfit, that counts.
    pub(super) fn last_word(&mut self, id: WorkerId) {
        let Some(link) = self.seat(id).and_then(|seat| seat.link.as_mut()) else { return };
        if let Ok(Some(hello)) = link.greeted()
            && hello.starts_with(UNFIT)
        {
            self.unfit(id, &hello);
            let now = self.now();
            self.run_actions(now);
        }
    }
}
