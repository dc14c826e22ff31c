//! Retry policy: may this task run again after its worker died or it raised, and when?

use std::num::NonZeroU32;
use std::time::Duration;

use super::rng::Rng;
use super::types::{Backoff, TaskSpec, Tries};

/// Where the submitter says nothing. The longest wait before the first retry is short, because a single death is usually
/// the machine's doing; before any, it is long enough for memory pressure to pass, and short enough to watch.
impl Default for Backoff {
    fn default() -> Self {
        Self { base_ms: 100, cap_ms: 30_000 }
    }
}

/// How often a dispatch that was never begun is free. A worker seldom dies between the sending and the taking; a task
/// that this happens to again and again has something to do with it (its delivery takes longer than its time-out, say),
/// and must not go round for ever.
pub const FREE_RETURNS: u8 = 16;

/// What a task has left, of those that may be tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    retries_left: u32,
    crashes_left: u32,
    retried: u32,
}

impl Budget {
    pub(crate) fn new(spec: &TaskSpec) -> Self {
        let crashes_left = spec.crash_limit.map_or_else(|| spec.retries.saturating_add(1), NonZeroU32::get);
        Self { retries_left: spec.retries, crashes_left, retried: 0 }
    }

    /// Charge one lost attempt. `blame` is false where we ended the worker ourselves, or the function raised: that uses
    /// up a retry (it ran) but is no evidence that the task kills workers.
    ///
    /// Returns how long to wait before the next attempt, or `None` where there is none.
    pub(crate) fn charge(&mut self, blame: bool, backoff: Backoff, rng: &mut Rng) -> Option<Duration> {
        if blame {
            self.crashes_left = self.crashes_left.saturating_sub(1);
        }
        if self.retries_left == 0 || self.crashes_left == 0 {
            return None;
        }
        self.retries_left -= 1;
        self.retried += 1;
        Some(rng.up_to(backoff_limit(backoff, self.retried)))
    }

    /// Which try is the one that has not been charged yet.
    pub(crate) fn tries(&self) -> Tries {
        let made = self.retried.saturating_add(1);
        Tries { made, allowed: made.saturating_add(self.retries_left) }
    }
}

/// The upper bound of the wait before the `n`-th retry (from 1): doubling, then capped. The wait itself is
/// uniform below it ("full jitter": M. Brooker, *Exponential Backoff And Jitter*, AWS 2015).
fn backoff_limit(backoff: Backoff, n: u32) -> Duration {
    let doublings = n.saturating_sub(1).min(31);
    let doubled = u64::from(backoff.base_ms) << doublings;
    Duration::from_millis(doubled.min(backoff.cap_ms.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charges(spec: TaskSpec, blame: bool) -> u32 {
        let mut budget = Budget::new(&spec);
        let mut rng = Rng::new(1);
        (0..1000).take_while(|_| budget.charge(blame, Backoff::default(), &mut rng).is_some()).count() as u32
    }

    #[test]
    fn no_retries_unless_asked_for() {
        assert_eq!(charges(TaskSpec::default(), true), 0);
    }

    #[test]
    fn retries_are_all_granted_without_a_limit_of_their_own() {
        assert_eq!(charges(TaskSpec { retries: 50, ..TaskSpec::default() }, true), 50);
    }

    #[test]
    fn the_crash_limit_cuts_retries_short_but_not_for_kills_of_ours() {
        let spec = TaskSpec { retries: 50, crash_limit: NonZeroU32::new(3), ..TaskSpec::default() };
        assert_eq!(charges(spec, true), 2, "the third crash is the last");
        assert_eq!(charges(spec, false), 50);
    }

    #[test]
    fn tries_are_counted_from_one_to_the_last() {
        let mut budget = Budget::new(&TaskSpec { retries: 2, ..TaskSpec::default() });
        let mut rng = Rng::new(1);
        let mut seen = vec![budget.tries()];
        while budget.charge(false, Backoff::default(), &mut rng).is_some() {
            seen.push(budget.tries());
        }
        assert_eq!(seen, [1, 2, 3].map(|made| Tries { made, allowed: 3 }));
    }

    #[test]
    fn backoff_doubles_to_its_cap() {
        let backoff = Backoff { base_ms: 100, cap_ms: 30_000 };
        assert_eq!(backoff_limit(backoff, 1), Duration::from_millis(100));
        assert_eq!(backoff_limit(backoff, 3), Duration::from_millis(400));
        assert_eq!(backoff_limit(backoff, u32::MAX), Duration::from_secs(30));
        let longest = Backoff { base_ms: u32::MAX, cap_ms: u32::MAX };
        assert_eq!(backoff_limit(longest, u32::MAX).as_millis(), u128::from(u32::MAX));
        assert_eq!(backoff_limit(Backoff { base_ms: 0, ..backoff }, 9), Duration::ZERO);
    }
}
