//! Results kept for `get_results`: reading does not consume, so something else must bound them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use crate::scheduler::TaskMap;
use crate::scheduler::types::{TaskId, Time};

/// How much is kept. The oldest finished result goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Finished results. The default, 100,000, is a day of tasks for a script and some 30 MB of small results.
    pub count: usize,
    /// Their bytes. The default is 256 MiB: a hundredth of a small server's memory.
    pub bytes: usize,
    /// Their age. The default is an hour: long enough to fetch what a lunch break computed.
    pub age: Duration,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        Self { count: 100_000, bytes: 256 << 20, age: Duration::from_secs(3600) }
    }
}

/// Results that were too large to be kept at all, of which that is remembered, so that whoever asks is told why.
const OVERSIZED_REMEMBERED: usize = 1000;

/// Tasks submitted with `retain`, pending ones included.
#[derive(Debug)]
pub(super) struct ResultStore {
    limits: RetentionLimits,
    slots: TaskMap<Arc<Slot>>,
    /// In order of completion.
    finished: VecDeque<Finished>,
    /// How many have ever finished: the number of the last one.
    count: u64,
    bytes: usize,
    /// The last results that alone were over the limit on bytes.
    oversized: VecDeque<(TaskId, usize)>,
}

/// Finished results after a cursor.
#[derive(Debug)]
pub struct Page {
    /// With their numbers, in order of completion; `None`: it was too large to be kept.
    pub finished: Vec<(u64, Option<Arc<Slot>>)>,
    /// The number before the first of them, or of the last result there is.
    pub before: u64,
    /// There are more.
    pub more: bool,
    /// How many after the cursor are no longer kept.
    pub missed: u64,
}

#[derive(Debug)]
struct Finished {
    /// Counts completions, from 1.
    number: u64,
    task: TaskId,
    at: Time,
    bytes: usize,
}

/// What the store knows of an id.
#[derive(Debug)]
pub enum Lookup {
    /// Pending or finished.
    Kept(Arc<Slot>),
    /// It was here and has been dropped, or was submitted without being kept.
    Evicted,
    /// No task of this pool has that id.
    Unknown,
}

impl ResultStore {
    pub(super) fn new(limits: RetentionLimits) -> Self {
        Self {
            limits,
            slots: TaskMap::default(),
            finished: VecDeque::new(),
            count: 0,
            bytes: 0,
            oversized: VecDeque::new(),
        }
    }

    pub(super) fn insert(&mut self, slot: Arc<Slot>) {
        self.slots.insert(slot.id(), slot);
    }

    /// A task has ended; if it is one of ours, it now counts against the limits.
    pub(super) fn finish(&mut self, task: TaskId, bytes: usize, now: Time) {
        if !self.slots.contains(task) {
            return;
        }
        self.count += 1;
        let fits = bytes <= self.limits.bytes;
        if !fits {
            // It alone goes: making room for it would cost everybody else's, and in vain.
            self.slots.remove(task);
            self.oversized.push_back((task, bytes));
            if self.oversized.len() > OVERSIZED_REMEMBERED {
                self.oversized.pop_front();
            }
        }
        let bytes = if fits { bytes } else { 0 };
        self.finished.push_back(Finished { number: self.count, task, at: now, bytes });
        self.bytes += bytes;
        self.evict(now);
    }

    /// Drop what is over a limit.
    pub(super) fn evict(&mut self, now: Time) {
        while let Some(oldest) = self.finished.front() {
            let over = self.finished.len() > self.limits.count
                || self.bytes > self.limits.bytes
                || now.saturating_sub(oldest.at) >= self.limits.age;
            if !over {
                return;
            }
            self.bytes -= oldest.bytes;
            self.slots.remove(oldest.task);
            self.finished.pop_front();
        }
    }

    /// When the oldest result will be too old.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.finished.front().map(|oldest| oldest.at.saturating_add(self.limits.age))
    }

    pub(super) fn lookup(&self, task: TaskId, submitted: u64) -> Lookup {
        match self.slots.get(task) {
            Some(slot) => Lookup::Kept(Arc::clone(slot)),
            None if (1..=submitted).contains(&task.0) => Lookup::Evicted,
            None => Lookup::Unknown,
        }
    }

    /// Whether everything that ever finished is still here.
    pub(super) fn is_complete(&self) -> bool {
        self.oversized.is_empty() && self.finished.len() as u64 == self.count
    }

    /// The bytes of a result that was too large to be kept, and the limit.
    pub(super) fn oversized(&self, task: TaskId) -> Option<(usize, usize)> {
        let found = self.oversized.iter().rev().find(|(large, _)| *large == task)?;
        Some((found.1, self.limits.bytes))
    }

    /// Finished tasks in order of completion.
    pub(super) fn finished(&self) -> Vec<Arc<Slot>> {
        self.finished.iter().filter_map(|done| self.slots.get(done.task)).map(Arc::clone).collect()
    }

    /// How many have ever finished.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// At most `limit` results that finished after the one with this number.
    pub(super) fn after(&self, cursor: u64, limit: usize) -> Page {
        let first_kept = self.finished.front().map_or(self.count + 1, |first| first.number);
        let cursor = cursor.min(self.count);
        let before = cursor.max(first_kept - 1);
        let skip = (before + 1 - first_kept) as usize;
        let rest = self.finished.iter().skip(skip);
        let found = rest.map(|done| (done.number, self.slots.get(done.task).map(Arc::clone)));
        let finished: Vec<_> = found.take(limit).collect();
        let last = finished.last().map_or(before, |(number, _)| *number);
        Page { finished, before, more: last < self.count, missed: before - cursor }
    }

    /// Tasks that have not finished, in order of submission.
    pub(super) fn pending(&self) -> Vec<Arc<Slot>> {
        let slots = self.slots.ids().into_iter().filter_map(|task| self.slots.get(task));
        slots.filter(|slot| !slot.is_resolved()).map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Payload;
    use crate::pool::slot::Outcome;

    const SECOND: Duration = Duration::from_secs(1);

    fn store_with(limits: RetentionLimits, results: u64, bytes: usize) -> ResultStore {
        let mut store = ResultStore::new(limits);
        for id in 1..=results {
            let slot = Slot::new(TaskId(id), true, false);
            store.insert(Arc::clone(&slot));
            slot.resolve(Outcome::Value(Payload::copied(&vec![0; bytes])));
            store.finish(TaskId(id), bytes, SECOND * id as u32);
        }
        store
    }

    fn kept(store: &ResultStore) -> Vec<u64> {
        store.finished().iter().map(|slot| slot.id().0).collect()
    }

    #[test]
    fn count_bytes_and_age_each_evict_the_oldest() {
        let roomy = RetentionLimits::default();
        assert_eq!(kept(&store_with(RetentionLimits { count: 2, ..roomy }, 5, 10)), [4, 5]);
        assert_eq!(kept(&store_with(RetentionLimits { bytes: 25, ..roomy }, 5, 10)), [4, 5]);
        assert_eq!(kept(&store_with(RetentionLimits { age: 2 * SECOND, ..roomy }, 5, 10)), [4, 5]);
        assert_eq!(kept(&store_with(RetentionLimits { bytes: 5, ..roomy }, 2, 10)), [] as [u64; 0]);
    }

    #[test]
    fn one_that_is_too_large_costs_nobody_else_anything() {
        let mut store = store_with(RetentionLimits { bytes: 100, ..RetentionLimits::default() }, 5, 10);
        let slot = Slot::new(TaskId(6), true, false);
        store.insert(Arc::clone(&slot));
        slot.resolve(Outcome::Value(Payload::copied(&[0; 101])));
        store.finish(TaskId(6), 101, SECOND);
        assert_eq!(kept(&store), [1, 2, 3, 4, 5]);
        assert!(matches!(store.lookup(TaskId(6), 6), Lookup::Evicted));
        assert_eq!(store.oversized(TaskId(6)), Some((101, 100)));
        assert_eq!(store.oversized(TaskId(5)), None);
        let page = store.after(4, 10);
        assert_eq!(
            page.finished.iter().map(|(n, slot)| (*n, slot.is_some())).collect::<Vec<_>>(),
            [(5, true), (6, false)]
        );
        assert_eq!((page.more, page.missed), (false, 0));
        assert!(!store.after(5, 1).more, "a reader is not kept coming back for it");
    }

    #[test]
    fn a_cursor_walks_through_everything_once() {
        let store = store_with(RetentionLimits { count: 5, ..RetentionLimits::default() }, 8, 1);
        let first = store.after(0, 2);
        assert_eq!(first.finished.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 5]);
        assert_eq!((first.before, first.more, first.missed), (3, true, 3));
        let rest = store.after(5, 100);
        assert_eq!(rest.finished.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [6, 7, 8]);
        assert_eq!((rest.more, rest.missed), (false, 0));
        assert!(store.after(8, 10).finished.is_empty());
        assert!(store.after(u64::MAX, 10).finished.is_empty());
    }

    #[test]
    fn an_evicted_id_is_told_from_an_unknown_one() {
        let store = store_with(RetentionLimits { count: 1, ..RetentionLimits::default() }, 3, 1);
        assert!(matches!(store.lookup(TaskId(3), 3), Lookup::Kept(_)));
        assert!(matches!(store.lookup(TaskId(1), 3), Lookup::Evicted));
        assert!(matches!(store.lookup(TaskId(4), 3), Lookup::Unknown));
        assert!(matches!(store.lookup(TaskId(0), 3), Lookup::Unknown));
    }
}
