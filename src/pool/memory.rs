//! What tasks with `max_memory` take: how much their workers grow.

use std::time::Duration;

use super::core::Core;
use crate::ipc::HostLink;
use crate::scheduler::types::{Assignment, Time};
use crate::supervisor::{Process, private_bytes};

/// How often it is looked, while such a task runs. A process fills a gigabyte in a quarter of a second: a limit is passed by
/// less than half of that, and a look costs some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A dispatch with a limit, and what was seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    run: Assignment,
    /// What its process had before: it was idle.
    base: u64,
    pub(super) usage: MemoryUse,
}

/// Bytes by which a process may grow, and has.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryUse {
    pub(super) limit: u64,
    pub(super) grown: u64,
}

impl Core {
    /// This is about to be sent, and has a limit.
    pub(super) fn watch_memory(&mut self, place: usize, run: Assignment, now: Time) {
        let pid = self.seats[place].process.as_ref().map(Process::pid);
        let (Some(limit), Some(base)) = (self.scheduler.max_memory(run.task), pid.and_then(private_bytes))
        else {
            return; // the process is gone, and its exit tells the rest
        };
        self.seats[place].watched = Some(Watched { run, base, usage: MemoryUse { limit, grown: 0 } });
        self.memory_look.get_or_insert(now + LOOK_EVERY);
    }

    /// Whoever has grown by more than what it runs may take is to be ended.
    pub(super) fn look_at_memory(&mut self, now: Time) {
        if self.memory_look.is_none_or(|at| at > now) {
            return;
        }
        self.memory_look = None;
        for place in 0..self.seats.len() {
            let seat = &mut self.seats[place];
            let (id, Some(mut watched), None) = (seat.id, seat.watched, seat.killed) else { continue };
            if !self.scheduler.is_at(id, watched.run) {
                seat.watched = None;
                continue;
            }
            self.memory_look = Some(now + LOOK_EVERY);
            // Before and after: if it has gone on meanwhile, something else may have grown.
            let is_at_it = || seat.link.as_ref().and_then(HostLink::begun) == Some(watched.run);
            let pid = seat.process.as_ref().map(Process::pid).filter(|_| is_at_it());
            let Some(bytes) = pid.and_then(private_bytes).filter(|_| is_at_it()) else { continue };
            watched.usage.grown = bytes.saturating_sub(watched.base);
            seat.watched = Some(watched);
            if watched.usage.grown > watched.usage.limit {
                self.scheduler.handle_over_memory(id, watched.run);
            }
        }
    }
}
