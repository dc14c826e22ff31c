//! Workers that come and go without having died: by number, age, memory, or because they were asked to.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::{PoolError, Shared};
use crate::scheduler::types::{Time, WorkerId, WorkerPhase};
use crate::supervisor::{Process, SpawnSpec, resident_bytes};

/// When workers are replaced that have done nothing wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lifetime {
    /// After so many tasks.
    pub tasks: Option<NonZeroU32>,
    /// When it was started so long ago.
    pub age: Option<Duration>,
    /// When it is found to have more bytes than this in memory.
    pub memory: Option<u64>,
}

/// What new workers are started with, where that has changed.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The interpreter's arguments.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Sent to each first.
    pub config: Vec<u8>,
}

impl Shared {
    /// From now on there are to be so many workers. New ones are started with `renewal`.
    pub fn resize(&self, workers: NonZeroU32, renewal: Renewal) -> Result<(), PoolError> {
        let mut core = self.renewable()?;
        let now = core.now();
        core.renewal = Some(renewal);
        core.scheduler.resize(workers.get(), now);
        core.run_actions(now);
        Ok(())
    }

    /// Replace each worker when its task is done; what is submitted from now on goes to those that are started with
    /// `renewal`. Which are the old ones.
    pub fn restart(&self, renewal: Renewal) -> Result<Vec<WorkerId>, PoolError> {
        let mut core = self.renewable()?;
        let now = core.now();
        core.look_at_all(now); // what has ended need not be waited for
        let old = core.seats.iter().filter(|seat| seat.process.is_some()).map(|seat| seat.id).collect();
        core.renewal = Some(renewal);
        core.scheduler.restart_all(now);
        core.run_actions(now);
        Ok(old)
    }

    fn renewable(&self) -> Result<parking_lot::MutexGuard<'_, Core>, PoolError> {
        self.check_owner()?;
        let core = self.core.lock();
        match &core.broken {
            Some(why) => Err(PoolError::Broken(Arc::clone(why))),
            None if core.finished || !core.scheduler.replaces() => Err(PoolError::Leaving),
            None => Ok(core),
        }
    }

    /// Whether some of these processes have not ended.
    pub fn any_left(&self, old: &[WorkerId]) -> bool {
        let core = self.core.lock();
        core.seats.iter().any(|seat| seat.process.is_some() && old.contains(&seat.id))
    }
}

impl Core {
    /// Before a process is started: with what.
    pub(super) fn renew(&mut self, spec: &mut SpawnSpec) {
        if let Some(renewal) = self.renewal.take() {
            spec.args = renewal.args;
            spec.env = renewal.env;
            self.config = Arc::new(renewal.config);
        }
    }

    /// Once per tick: replace workers that are too old, or have too much memory, when their task is done.
    ///
    /// By age one at a time, and none while another one starts: they are all of one age, and would leave the pool
    /// empty-handed. By memory only one that has completed a task: else a limit below what a worker begins with would
    /// have them replaced for ever, and nothing done.
    pub(super) fn recycle(&mut self, now: Time) {
        let Lifetime { age, memory, .. } = self.lifetime;
        if age.is_none() && memory.is_none() {
            return;
        }
        let starting = |phase| matches!(phase, WorkerPhase::Starting | WorkerPhase::Restarting);
        let mut waits = self.scheduler.workers().any(|(_, phase, _)| starting(phase));
        for slot in 0..self.seats.len() {
            let seat = &self.seats[slot];
            let id = seat.id;
            let Some(pid) = seat.process.as_ref().map(Process::pid) else { continue };
            let old = !waits && age.is_some_and(|age| now.saturating_sub(seat.started) >= age);
            let large = memory.is_some_and(|memory| {
                self.scheduler.has_served(id) && resident_bytes(pid).is_some_and(|bytes| bytes > memory)
            });
            if old || large {
                waits |= self.scheduler.recycle(id, now);
            }
        }
    }
}
