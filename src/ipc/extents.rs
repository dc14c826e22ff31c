//! Which parts of a stretch of memory are free. First fit by address: what was freed last and lies lowest is used again
//! soonest, while it is warm.

use std::collections::BTreeMap;

/// What is known of the pages of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    /// Never touched. Filling them through the file costs half of what faulting them in does.
    Fresh,
    /// There, and not mapped: they were filled through the file.
    Unmapped,
    Mapped,
}

/// A stretch of memory whose pages come when they are first touched.
#[derive(Debug)]
pub(super) struct Stretch {
    extents: Extents,
    /// No page from here on has ever been written (or was given back).
    touched: usize,
    /// Below this pages were mapped, or the faults of those who took parts there have mapped them.
    mapped: usize,
}

impl Stretch {
    pub(super) fn new(total: usize) -> Self {
        Self { extents: Extents::new(total), touched: 0, mapped: 0 }
    }

    /// A part of this size: where it begins, and how its pages are. Who gets an unmapped one is to map it.
    pub(super) fn take(&mut self, bytes: usize) -> Option<(usize, Pages)> {
        let at = self.extents.take(bytes)?;
        let end = at + bytes;
        let pages = if at >= self.touched {
            Pages::Fresh
        } else if end > self.mapped {
            self.mapped = end;
            Pages::Unmapped
        } else {
            Pages::Mapped
        };
        self.touched = self.touched.max(end);
        Some((at, pages))
    }

    pub(super) fn give_back(&mut self, at: usize, bytes: usize) {
        self.extents.give_back(at, bytes);
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.extents.is_all_free()
    }

    /// Up to where there may be pages.
    pub(super) fn touched(&self) -> usize {
        self.touched
    }

    /// The pages went back to the system.
    pub(super) fn forget_pages(&mut self) {
        (self.touched, self.mapped) = (0, 0);
    }
}

#[derive(Debug)]
struct Extents {
    /// Free parts: where they begin, and how long they are. No two of them touch.
    free: BTreeMap<usize, usize>,
    total: usize,
}

impl Extents {
    fn new(total: usize) -> Self {
        Self { free: BTreeMap::from([(0, total)]), total }
    }

    fn take(&mut self, bytes: usize) -> Option<usize> {
        let (&at, &length) = self.free.iter().find(|&(_, &length)| length >= bytes)?;
        self.free.remove(&at);
        if length > bytes {
            self.free.insert(at + bytes, length - bytes);
        }
        Some(at)
    }

    fn give_back(&mut self, mut at: usize, mut bytes: usize) {
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

    fn is_all_free(&self) -> bool {
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
    fn pages_are_fresh_once_and_mapped_by_whoever_comes_second() {
        let mut stretch = Stretch::new(100);
        let mut take = |bytes| stretch.take(bytes).unwrap();
        assert_eq!([take(10), take(20)], [(0, Pages::Fresh), (10, Pages::Fresh)]);
        stretch.give_back(0, 10);
        assert_eq!(stretch.take(10), Some((0, Pages::Unmapped)));
        stretch.give_back(0, 10);
        assert_eq!(stretch.take(5), Some((0, Pages::Mapped)));
        stretch.give_back(0, 5);
        stretch.give_back(10, 20);
        assert!(stretch.is_all_free());
        stretch.forget_pages();
        assert_eq!(stretch.take(30), Some((0, Pages::Fresh)));
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_noticed() {
        let mut extents = Extents::new(100);
        extents.give_back(0, 10);
    }
}
