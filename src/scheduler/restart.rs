//! Restart policy: when does the next process of a place start, and when is the pool broken?

use std::time::Duration;

/// Deaths before ready, one after another, after which the pool is broken. With the waits below that is a
/// second or two of trying: a wrong interpreter or a bad import does not mend itself.
pub const EARLY_DEATH_LIMIT: u32 = 5;

/// The wait after the second early death in a row; the first is free, it may be chance.
pub const RESTART_BASE: Duration = Duration::from_millis(100);

/// The longest wait between starts.
pub const RESTART_CAP: Duration = Duration::from_secs(5);

/// What to do about a place whose process has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Start the next one after this long (zero: at once).
    After(Duration),
    /// Workers cannot start here. Give up, if no other worker is up.
    Hopeless(Duration),
}

/// Counts deaths before ready, pool-wide and in a row. A worker that becomes ready ends the row; a death at
/// work never counts: that is the business of the task that ran (see [`super::retry`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct EarlyDeaths(u32);

impl EarlyDeaths {
    pub(crate) fn record_ready(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn record_death(&mut self) -> Restart {
        self.0 = self.0.saturating_add(1);
        let wait = match self.0 {
            1 => Duration::ZERO,
            n => RESTART_CAP.min(RESTART_BASE * (1 << (n - 2).min(16))),
        };
        if self.0 > EARLY_DEATH_LIMIT { Restart::Hopeless(wait) } else { Restart::After(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_deaths_back_off_and_end_in_hopeless() {
        let mut deaths = EarlyDeaths::default();
        let waits: Vec<_> = (0..EARLY_DEATH_LIMIT).map(|_| deaths.record_death()).collect();
        let ms = |n| Restart::After(Duration::from_millis(n));
        assert_eq!(waits, [ms(0), ms(100), ms(200), ms(400), ms(800)]);
        assert!(matches!(deaths.record_death(), Restart::Hopeless(_)));
    }

    #[test]
    fn a_ready_worker_ends_the_row() {
        let mut deaths = EarlyDeaths::default();
        for _ in 0..EARLY_DEATH_LIMIT {
            deaths.record_death();
        }
        deaths.record_ready();
        assert_eq!(deaths.record_death(), Restart::After(Duration::ZERO));
    }
}
