//! How long a function takes, from how long it took: what decides how much is sent ahead.

use std::time::Duration;

use super::types::FunctionId;

/// The weight of a new observation, as a divisor. An eighth (as in TCP's round-trip estimate, RFC 6298) follows a
/// change within some twenty tasks, and is not thrown by one that was long.
const WEIGHT: u64 = 8;

/// Functions that are told apart. Beyond it (a program that makes functions without end) there are no estimates.
const MAX_FUNCTIONS: usize = 1 << 16;

/// Estimates, by function, in nanoseconds; 0: none yet.
#[derive(Debug, Default)]
pub(crate) struct Estimates(Vec<u64>);

impl Estimates {
    /// A task of this function has run for so long.
    pub(crate) fn observe(&mut self, function: FunctionId, ran: Duration) {
        let index = function.0 as usize;
        if index == 0 || index > MAX_FUNCTIONS {
            return;
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        let ran = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX / 2).max(1);
        let estimate = &mut self.0[index];
        *estimate = match *estimate {
            0 => ran,
            known => (known - known / WEIGHT + ran / WEIGHT).max(1),
        };
    }

    /// How long the next one will take, in nanoseconds; `None` before the first has ended.
    pub(crate) fn get(&self, function: FunctionId) -> Option<u64> {
        self.0.get(function.0 as usize).copied().filter(|&estimate| estimate > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_and_is_not_thrown() {
        let mut estimates = Estimates::default();
        let function = FunctionId(3);
        assert_eq!(estimates.get(function), None);
        for _ in 0..100 {
            estimates.observe(function, Duration::from_micros(10));
        }
        assert_eq!(estimates.get(function), Some(10_000));
        estimates.observe(function, Duration::from_micros(90));
        assert_eq!(estimates.get(function), Some(20_000));
        estimates.observe(FunctionId(0), Duration::from_secs(1));
        assert_eq!(estimates.get(FunctionId(0)), None);
        estimates.observe(FunctionId(u32::MAX), Duration::from_secs(1));
        assert_eq!(estimates.get(FunctionId(u32::MAX)), None);
    }
}
