//! All deadlines in one table, so that one `poll_timeout` feeds one sleep in the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::types::{TaskId, Time, WorkerId};

/// What a deadline is for. At most one of each runs at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The attempt that runs on this worker has used up its time, or is near that.
    Attempt(WorkerId),
    /// This worker should have become ready by now.
    Start(WorkerId),
    /// This task's backoff is over.
    Retry(TaskId),
    /// This place needs its standby no longer.
    Standby(u32),
    /// This place may start its next process.
    Restart(u32),
    /// This worker was told to leave, and should have by now.
    Leave(WorkerId),
    /// The graceful part of the shutdown is over.
    Stop,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.clear(timer);
        self.due.insert(timer, at);
        self.order.insert((at, timer));
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.due.contains_key(&timer)
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|&(at, _)| at)
    }

    /// The earliest timer that is due, taken out.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    /// The driver did not run for `gap`: nobody may be killed for time in which we could not look.
    pub(crate) fn postpone_limits(&mut self, gap: Duration) {
        let limits: Vec<_> = self
            .due
            .iter()
            .filter(|(timer, _)| {
                matches!(timer, Timer::Attempt(_) | Timer::Start(_) | Timer::Leave(_) | Timer::Stop)
            })
            .map(|(&timer, &at)| (timer, at.saturating_add(gap))) // no time-out is too long
            .collect();
        for (timer, at) in limits {
            self.set(timer, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_moves_limits_and_leaves_waits_alone() {
        let worker = WorkerId { slot: 0, incarnation: 1 };
        let second = Duration::from_secs(1);
        let mut timers = Timers::default();
        timers.set(Timer::Attempt(worker), second);
        timers.set(Timer::Retry(TaskId(1)), second);
        timers.postpone_limits(second);
        assert_eq!(timers.pop_due(second), Some(Timer::Retry(TaskId(1))));
        assert_eq!(timers.pop_due(second), None);
        assert_eq!(timers.next(), Some(2 * second));
    }

    #[test]
    fn a_pause_cannot_push_a_limit_over_the_end_of_time() {
        let limit = Timer::Attempt(WorkerId { slot: 0, incarnation: 1 });
        let mut timers = Timers::default();
        timers.set(limit, Time::MAX);
        timers.postpone_limits(Duration::from_secs(1));
        assert_eq!(timers.next(), Some(Time::MAX));
    }
}
