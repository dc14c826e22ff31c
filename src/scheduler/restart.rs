//! Restart policy: when does the next process of a place start, and when is the pool broken?
//!
//! A process that dies at work is replaced at once: its death is the business of the task (see
//! [`super::retry`]). What speaks against the *place* is a process that dies before it has been of any use: it
//! never became ready, or died idle soon after, without one task to its credit. Such deaths, one after another
//! in the same place, are a row. Along the row the waits grow, so that nothing is respawned as fast as it dies.
//! Each place has a row of its own, so that many places with one mishap each are not taken for one that is past
//! hope.

use std::time::Duration;

/// Early deaths in a row after which the pool is broken, if the last was before ready and no worker is up. With
/// the waits below that is a second or two of trying: a wrong interpreter or a bad import does not mend itself.
pub const EARLY_DEATH_LIMIT: u32 = 5;

/// The same where the process could not even be started, for want of descriptors, processes or memory. Those
/// come back when somebody else lets go of them, so it is worth more than a minute: the waits add up to 71 s.
pub const TRANSIENT_LIMIT: u32 = 20;

/// The wait after the second early death in a row; the first is free, it may be chance.
pub const RESTART_BASE: Duration = Duration::from_millis(100);

/// The longest wait between starts.
pub const RESTART_CAP: Duration = Duration::from_secs(5);

/// A process that has been ready this long has come through its start, whatever it dies of then. It is the
/// longest wait, so that a place that is replaced at once does not start more often than one that waits.
pub const SETTLED_AFTER: Duration = RESTART_CAP;

/// What the end of a process says about its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It never became ready. `transient`: it could not be started, for a reason that may pass.
    Unready { transient: bool },
    /// It died idle, before it had settled and before it had completed a task.
    Unsettled,
    /// It was at work, or we ended it: nothing.
    Neutral,
    /// It had completed a task, or had settled: the place is sound.
    Proven,
}

/// What to do about a place whose process has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Start the next one after this long (zero: at once).
    After(Duration),
    /// Workers cannot start here. Give up, if no worker is up in any other place.
    Hopeless(Duration),
}

/// The row of early deaths in one place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EarlyDeaths(u32);

impl EarlyDeaths {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn record(&mut self, death: Death) -> Restart {
        // A process that became ready shows that processes can start here, however soon it dies.
        let limit = match death {
            Death::Unready { transient: false } => Some(EARLY_DEATH_LIMIT),
            Death::Unready { transient: true } => Some(TRANSIENT_LIMIT),
            Death::Unsettled => None,
            Death::Neutral => return Restart::After(Duration::ZERO),
            Death::Proven => {
                self.0 = 0;
                return Restart::After(Duration::ZERO);
            }
        };
        self.0 = self.0.saturating_add(1);
        let wait = match self.0 {
            1 => Duration::ZERO,
            n => RESTART_CAP.min(RESTART_BASE * (1 << (n - 2).min(16))),
        };
        if limit.is_some_and(|limit| self.0 > limit) { Restart::Hopeless(wait) } else { Restart::After(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Scheduler;
    use crate::scheduler::types::{Action, Time, WorkerId};

    const UNREADY: Death = Death::Unready { transient: false };
    const TRANSIENT: Death = Death::Unready { transient: true };

    #[test]
    fn early_deaths_back_off_and_end_in_hopeless() {
        let mut deaths = EarlyDeaths::default();
        let waits: Vec<_> = (0..EARLY_DEATH_LIMIT).map(|_| deaths.record(UNREADY)).collect();
        let ms = |n| Restart::After(Duration::from_millis(n));
        assert_eq!(waits, [ms(0), ms(100), ms(200), ms(400), ms(800)]);
        assert!(matches!(deaths.record(UNREADY), Restart::Hopeless(_)));
    }

    #[test]
    fn what_may_pass_is_given_more_than_a_minute() {
        let mut deaths = EarlyDeaths::default();
        let waits = (0..TRANSIENT_LIMIT).map(|_| match deaths.record(TRANSIENT) {
            Restart::After(wait) => wait,
            Restart::Hopeless(_) => panic!("too early"),
        });
        assert_eq!(waits.sum::<Duration>().as_secs(), 71);
        assert!(matches!(deaths.record(TRANSIENT), Restart::Hopeless(_)));
    }

    #[test]
    fn deaths_after_ready_back_off_and_are_never_hopeless() {
        let mut deaths = EarlyDeaths::default();
        for _ in 0..1000 {
            assert!(matches!(deaths.record(Death::Unsettled), Restart::After(_)));
        }
        assert_eq!(deaths.record(Death::Unsettled), Restart::After(RESTART_CAP));
    }

    #[test]
    fn only_a_proven_process_ends_the_row() {
        let mut deaths = EarlyDeaths::default();
        deaths.record(UNREADY);
        assert_eq!(deaths.record(Death::Neutral), Restart::After(Duration::ZERO));
        assert_eq!(deaths.record(UNREADY), Restart::After(RESTART_BASE));
        assert_eq!(deaths.record(Death::Proven), Restart::After(Duration::ZERO));
        assert_eq!(deaths.record(UNREADY), Restart::After(Duration::ZERO));
    }

    fn spawned(pool: &mut Scheduler) -> Vec<WorkerId> {
        let actions = std::iter::from_fn(|| pool.poll_action());
        actions
            .map(|action| match action {
                Action::Spawn(id) => id,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn one_mishap_in_each_place_breaks_nothing() {
        let mut pool = Scheduler::new(8, 0, Time::ZERO);
        for id in spawned(&mut pool) {
            pool.handle_exit(id, None, Duration::from_millis(5));
        }
        assert_eq!(spawned(&mut pool).len(), 8, "each is replaced at once");
    }

    #[test]
    fn a_worker_that_dies_idle_again_and_again_is_slowed_down() {
        let mut now = Time::ZERO;
        let mut pool = Scheduler::new(1, 0, now);
        let mut starts = 0;
        while now < Duration::from_secs(60) {
            if let [id] = spawned(&mut pool)[..] {
                starts += 1;
                pool.handle_ready(id, now);
                pool.handle_exit(id, None, now);
            } else {
                now = pool.poll_timeout().expect("the next start");
                pool.handle_timeout(now);
            }
        }
        // Seven in the first 3.1 s, the eighth 3.2 s later, then one every five seconds.
        assert_eq!(starts, 18);
        assert!(pool.is_accepting());
    }

    #[test]
    fn a_settled_process_is_replaced_at_once_each_time() {
        let mut now = Time::ZERO;
        let mut pool = Scheduler::new(1, 0, now);
        for _ in 0..100 {
            let id = spawned(&mut pool)[0];
            pool.handle_ready(id, now);
            now += SETTLED_AFTER;
            pool.handle_exit(id, None, now);
        }
    }
}
