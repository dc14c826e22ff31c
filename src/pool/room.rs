//! Memory for payloads: taking it, and waiting for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::{PoolError, Shared};
use crate::ipc::{MAX_INLINE_BYTES, NoRoom, Payload, Purpose, Range};

/// Tasks that run may be about to let go of what is kept, and so are given so many times as long as an idle pool.
const BUSY_FACTOR: u32 = 10;

/// How long somebody has waited for room in vain.
#[derive(Debug)]
pub struct Patience {
    since: Instant,
    freed: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { since: Instant::now(), freed: 0 }
    }
}

impl Core {
    fn check_accepting(&self) -> Result<(), PoolError> {
        match &self.broken {
            Some(why) => Err(PoolError::Broken(Arc::clone(why))),
            None if self.finished || !self.scheduler.is_accepting() => Err(PoolError::ShutDown),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Whether there may still come tasks: for what only those would use.
    pub fn check_accepting(&self) -> Result<(), PoolError> {
        self.check_owner()?;
        self.core.lock().check_accepting()
    }

    /// A place for a payload of this size, to be filled. `None`: there is no room now; see [`Self::wait_for_room`].
    pub fn payload(&self, purpose: Purpose, bytes: &[u8]) -> Result<Option<Payload>, PoolError> {
        if bytes.len() <= MAX_INLINE_BYTES {
            return Ok(Some(Payload::copied(bytes)));
        }
        let range = self.room(purpose, bytes.len())?;
        Ok(range.map(|range| {
            range.write(0, bytes);
            Payload::Ours(Arc::new(range))
        }))
    }

    /// Room for a payload of so many bytes, to be filled. `None`: not now; see [`Self::wait_for_room`].
    pub fn room(&self, purpose: Purpose, bytes: usize) -> Result<Option<Range>, PoolError> {
        self.check_owner()?;
        match self.arena.take_for(purpose, bytes) {
            Ok(range) => Ok(Some(range)),
            Err(NoRoom::Full) => Ok(None),
            Err(NoRoom::Never) => Err(PoolError::TooLarge(bytes, self.arena_bytes)),
        }
    }

    /// Wait until something that takes such a place has been dropped, at most so long: then try again. An error where there
    /// is no sense in that: the pool accepts nothing more, or its room is kept by nothing that will end by itself.
    pub fn wait_for_room(
        &self,
        bytes: usize,
        patience: &mut Patience,
        timeout: Duration,
    ) -> Result<(), PoolError> {
        self.turn();
        self.arena.wait_for_room(timeout);
        let is_idle = {
            let core = self.core.lock();
            core.check_accepting()?;
            core.scheduler.queued() + core.scheduler.running() == 0
        };
        let obstacle = self.arena.obstacle(bytes);
        // A task that is to end will free what it was given; what workers keep beyond that, nobody knows.
        let may_pass = !is_idle && !obstacle.only_kept;
        let limit = if is_idle { self.room_wait } else { self.room_wait.saturating_mul(BUSY_FACTOR) };
        if may_pass || obstacle.freed != patience.freed {
            *patience = Patience { since: Instant::now(), freed: obstacle.freed };
        } else if patience.since.elapsed() >= limit {
            return Err(PoolError::Kept {
                bytes,
                kept: obstacle.kept,
                budget: self.arena_bytes,
                seconds: limit.as_secs(),
            });
        }
        Ok(())
    }
}
