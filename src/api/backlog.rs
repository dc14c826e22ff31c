//! What may wait: the server takes tasks faster than workers end them, and memory is bounded.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::error::ApiError;

/// Tasks that have not ended: a million of them take some 500 MB beside their pickles.
const MAX_TASKS: usize = 1_000_000;

/// Their pickles: 1 GiB, sixteen of the largest requests.
const MAX_BYTES: usize = 1 << 30;

/// Tasks that this server has accepted. The pool lets go of a task's pickle when it has ended, which is how that is seen.
#[derive(Debug)]
pub(super) struct Backlog {
    max_tasks: usize,
    max_bytes: usize,
    accepted: Mutex<Accepted>,
}

#[derive(Debug, Default)]
struct Accepted {
    tasks: Vec<(Weak<Vec<u8>>, usize)>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self { max_tasks: MAX_TASKS, max_bytes: MAX_BYTES, accepted: Mutex::default() }
    }

    /// Count these in, all or none.
    pub(super) fn admit<'a>(
        &self,
        payloads: impl ExactSizeIterator<Item = &'a Arc<Vec<u8>>> + Clone,
    ) -> Result<(), ApiError> {
        let bytes: usize = payloads.clone().map(|payload| payload.len()).sum();
        let mut accepted = self.accepted.lock();
        let fits = |accepted: &Accepted| {
            // One request that alone is over a limit goes through an empty queue.
            accepted.tasks.is_empty()
                || accepted.tasks.len() + payloads.len() <= self.max_tasks
                    && accepted.bytes + bytes <= self.max_bytes
        };
        // Half of what is allowed may have ended long ago: looked at then, the look costs each task a constant.
        if !fits(&accepted) || accepted.tasks.len() >= accepted.tasks.capacity() {
            accepted.tasks.retain(|(payload, _)| payload.strong_count() > 0);
            accepted.bytes = accepted.tasks.iter().map(|(_, bytes)| bytes).sum();
            if !fits(&accepted) {
                return Err(ApiError::backlog_full());
            }
        }
        accepted.bytes += bytes;
        accepted.tasks.extend(payloads.map(|payload| (Arc::downgrade(payload), payload.len())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(count: usize, bytes: usize) -> Vec<Arc<Vec<u8>>> {
        (0..count).map(|_| Arc::new(vec![0; bytes])).collect()
    }

    #[test]
    fn number_and_bytes_are_bounded_and_ended_tasks_make_room() {
        let backlog = Backlog { max_tasks: 10, max_bytes: 100, accepted: Mutex::default() };
        let first = payloads(6, 1);
        assert_eq!(backlog.admit(first.iter()), Ok(()));
        assert!(backlog.admit(payloads(5, 1).iter()).is_err(), "eleven tasks");
        assert!(backlog.admit(payloads(1, 95).iter()).is_err(), "101 bytes");
        let rest = payloads(4, 1);
        assert_eq!(backlog.admit(rest.iter()), Ok(()));
        assert!(
            backlog.admit(payloads(1, 1).iter()).is_err(),
            "the refused ones were not counted, these are"
        );
        drop(first);
        assert_eq!(backlog.admit(payloads(6, 1).iter()), Ok(()));
    }
}
