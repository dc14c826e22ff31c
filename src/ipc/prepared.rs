//! Pages of an arena's ranges, made ready before they are used.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::extents::Pages;
use super::{Arena, Block, Inner, LARGE_BLOCK_BYTES, Place};

/// From this size on, faulting pages in takes longer than starting a thread for it.
pub(in crate::ipc) const PREPARED_BYTES: usize = 4 << 20;

impl Arena {
    /// Whether a place is in huge pages now. One refusal is enough: to look for such pages where there are none takes long.
    pub(in crate::ipc) fn make_huge(&self, block: &Block, offset: usize, whole: usize) -> bool {
        // Not in a worker, whose arena has no budget: on a virtual machine huge pages are often memory never used before,
        // and the first results, each of another worker, were measured to take longer than in small ones.
        if !self.has_budget() || self.without_huge.load(Ordering::Relaxed) {
            return false;
        }
        let done = block.map.make_huge(offset, whole);
        self.without_huge.store(!done, Ordering::Relaxed);
        done
    }

    /// Have pages faulted in, on a thread of its own: of the next range of this size, and of the one that is being filled,
    /// for when it is used again. With two of them most programs that pass large payloads have all that they need.
    pub(super) fn prepare(self: &Arc<Self>, ranges: [(Arc<Block>, usize); 2], whole: usize) {
        let arena = Arc::clone(self);
        let (block, offset) = (ranges[0].0.number, ranges[0].1);
        let work = move || {
            crate::ipc::block_all_signals();
            let [(next, at), (current, current_at)] = &ranges;
            if !arena.make_huge(next, *at, whole) {
                next.map.populate(*at, whole);
                current.map.populate(*current_at, whole);
            }
            drop(Given { arena: &arena, place: Place { block, offset, bytes: whole } });
        };
        // Without a thread the range is of no use to anybody, and goes back at once.
        if std::thread::Builder::new().name("disttask-prepare".into()).spawn(work).is_err() {
            drop(Given { arena: self, place: Place { block, offset, bytes: whole } });
        }
    }
}

impl Inner {
    /// The range that will be asked for next, if what is asked for now is a sign of more.
    pub(super) fn next_to_prepare(&mut self, whole: usize, budget: usize) -> Option<(Arc<Block>, usize)> {
        let worth_it = (PREPARED_BYTES..=LARGE_BLOCK_BYTES).contains(&whole);
        if !worth_it || self.used + whole > budget {
            return None;
        }
        let (block, offset, pages) = self.fit(whole)?;
        self.used += whole;
        if pages != Pages::Fresh {
            self.give_back(Place { block: block.number, offset, bytes: whole });
            return None;
        }
        Some((block, offset))
    }
}

/// A place that goes back when this is dropped.
struct Given<'a> {
    arena: &'a Arena,
    place: Place,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let mut inner = self.arena.inner.lock();
        inner.give_back(self.place);
        inner.reclaim();
        drop(inner);
        self.arena.freed.notify_all();
    }
}
