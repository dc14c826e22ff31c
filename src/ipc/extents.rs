//! Which parts of a stretch of memory are free. First fit by address: what was freed last and lies lowest is used again
//! soonest, while it is warm.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Extents {
    /// Free parts: where they begin, and how long they are. No two of them touch.
    free: BTreeMap<usize, usize>,
    total: usize,
}

impl Extents {
    pub(super) fn new(total: usize) -> Self {
        Self { free: BTreeMap::from([(0, total)]), total }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Option<usize> {
        let (&at, &length) = self.free.iter().find(|&(_, &length)| length >= bytes)?;
        self.free.remove(&at);
        if length > bytes {
            self.free.insert(at + bytes, length - bytes);
        }
        Some(at)
    }

    pub(super) fn give_back(&mut self, mut at: usize, mut bytes: usize) {
        if let Some((&before, &length)) = self.free.range(..at).next_back() {
            assert!(before + length <= at, "given back twice");
            if before + length == at {
                self.free.remove(&before);
                at = before;
                bytes += length;
            }
        }
        if let Some((&after, &length)) = self.free.range(at..).next() {
            assert!(at + bytes <= after, "given back twice");
            if at + bytes == after {
                self.free.remove(&after);
                bytes += length;
            }
        }
        self.free.insert(at, bytes);
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.free.get(&0) == Some(&self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_overlap_and_grow_together_again() {
        let mut rng = 12345_u64;
        let mut below = |bound: usize| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (rng >> 33) as usize % bound
        };
        let mut extents = Extents::new(1000);
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for _ in 0..20_000 {
            if taken.is_empty() || below(2) == 0 {
                let bytes = 1 + below(50);
                if let Some(at) = extents.take(bytes) {
                    assert!(at + bytes <= 1000);
                    let apart =
                        |&(other, length): &(usize, usize)| at + bytes <= other || other + length <= at;
                    assert!(taken.iter().all(apart));
                    taken.push((at, bytes));
                } else {
                    assert!(taken.iter().map(|(_, bytes)| bytes).sum::<usize>() > 300);
                }
            } else {
                let (at, bytes) = taken.swap_remove(below(taken.len()));
                extents.give_back(at, bytes);
            }
        }
        for (at, bytes) in taken {
            extents.give_back(at, bytes);
        }
        assert!(extents.is_all_free());
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_noticed() {
        let mut extents = Extents::new(100);
        extents.give_back(0, 10);
    }
}
