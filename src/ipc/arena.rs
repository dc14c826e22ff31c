//! Memory for payloads that do not fit a ring. Each side owns an arena, writes its payloads there and passes a
//! descriptor; the other side maps the arena's *blocks* when it first hears of them, and copies nothing that it need not.
//!
//! A payload may have several *parts*: a pickle, and the buffers that it refers to (pickle protocol 5), each of which the
//! receiver uses where it stands.
//!
//! An arena has few and large blocks, because each costs both sides a descriptor and a mapping. Within a block, *ranges*
//! are handed out. In front of each range stands its lease word: which link's other side still looks at it. A range is
//! used again only when its owner has dropped it and that word is zero, or the other side is dead.
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::FallocateFlags;

use super::HostFd;
use super::extents::{Pages, Stretch};
use super::range::Range;
use super::shm::{Backing, Map, create};

/// The first block; the following ones double, so that a small job stays small.
const FIRST_BLOCK_BYTES: usize = 4 << 20;

/// Blocks do not grow beyond this, except for a payload that is larger.
const LARGE_BLOCK_BYTES: usize = 256 << 20;

/// Of an arena that may grow as the system allows. Far from where sums of sizes overflow.
pub(super) const NO_BUDGET: usize = usize::MAX / 2;

/// Ranges begin on pages: a reader may map one, and no two share a page that one of them is done with.
pub(super) const PAGE: usize = 4096;

/// The lease word, and what aligns the payload for vector instructions.
pub(super) const RANGE_HEADER: usize = 64;

/// Part of an arena.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) number: u32,
    map: Map,
    pub(super) file: HostFd,
}

impl Block {
    pub(super) fn map(&self) -> &Map {
        &self.map
    }

    pub(super) fn lease(&self, offset: usize) -> &AtomicU32 {
        self.map.u32(offset)
    }
}

#[derive(Debug)]
struct Owned {
    block: Arc<Block>,
    ranges: Stretch,
    /// Its pages are just being given back: nothing is taken from it.
    resting: bool,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: Vec<Owned>,
    /// Dropped here, and still looked at on the other side.
    lingering: Vec<Place>,
    next_number: u32,
    /// In ranges.
    used: usize,
    /// Counts ranges that came free.
    freed: u64,
    /// Links whose other side is dead: whatever they looked at.
    dead: HashSet<u32>,
    /// Something was taken since the last [`Arena::rest`].
    active: bool,
    /// Blocks go as soon as nobody uses them.
    dissolved: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) offset: usize,
    /// Of the whole range, header and padding included.
    pub(super) bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Arena {
    backing: Backing,
    /// Bytes of ranges that may be in use; more waits.
    budget: usize,
    inner: Mutex<Inner>,
    freed: Condvar,
    /// The system has refused huge pages since pages were last given back to it.
    without_huge: AtomicBool,
    /// Held while files are made, filled or emptied, which takes long; `inner` is not.
    growing: Mutex<()>,
}

/// What stands in the way of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Obstacle {
    /// Bytes that the other sides still look at, though they were dropped here.
    pub kept: usize,
    /// Nothing else does: there would be room without them.
    pub only_kept: bool,
    /// Counts what came free.
    pub freed: u64,
}

/// What a range is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// On its way to somebody: others of its size are likely to follow.
    Passing,
    /// One object that stays for long: memory made ready for another would lie there as long, for nothing.
    Kept,
}

/// Why there is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The budget is used up: wait for others to be dropped.
    Full,
    /// It is more than the whole budget, or the system has no memory (or descriptor) for it.
    Never,
}

impl Arena {
    /// An empty one.
    pub fn new(backing: Backing, budget: usize) -> Arc<Self> {
        Arc::new(Self {
            backing,
            budget,
            inner: Mutex::default(),
            freed: Condvar::new(),
            without_huge: AtomicBool::new(false),
            growing: Mutex::default(),
        })
    }

    fn has_budget(&self) -> bool {
        self.budget < NO_BUDGET
    }

    /// Room for so many bytes that pass.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Range, NoRoom> {
        self.take_for(Purpose::Passing, bytes)
    }

    /// Room for so many bytes.
    pub fn take_for(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Result<Range, NoRoom> {
        let Some(whole) = whole(bytes).filter(|&whole| whole <= self.budget) else {
            return Err(NoRoom::Never);
        };
        let mut inner = self.inner.lock();
        inner.reclaim();
        if inner.used + whole > self.budget {
            return Err(NoRoom::Full);
        }
        inner.used += whole;
        inner.active = true;
        let found = inner.fit(whole);
        drop(inner);
        let (block, offset, pages) = match found {
            Some(found) => found,
            None => self.grow(whole).ok_or_else(|| {
                self.inner.lock().used -= whole;
                NoRoom::Never
            })?,
        };
        // Not in a worker, whose arena has no budget: there it was measured to slow the first results down.
        let likely = purpose == Purpose::Passing && pages == Pages::Fresh && self.has_budget();
        let next = if likely { self.inner.lock().next_to_prepare(whole, self.budget) } else { None };
        if let Some((another, at)) = next {
            self.prepare([(another, at), (Arc::clone(&block), offset)], whole);
        }
        if pages == Pages::Unmapped && whole >= PREPARED_BYTES {
            block.map.map_in(offset, whole);
        }
        block.lease(offset).store(0, Ordering::Relaxed);
        let fresh = pages == Pages::Fresh;
        Ok(Range {
            arena: Arc::clone(self),
            block,
            offset,
            bytes,
            whole,
            fresh,
            huge: OnceLock::new(),
            parts: Vec::new(),
        })
    }

    /// The other side of this link is dead: it looks at nothing any more.
    pub(super) fn bury(&self, link: u32) {
        let mut inner = self.inner.lock();
        inner.dead.insert(link);
        inner.reclaim();
        drop(inner);
        self.freed.notify_all();
    }

    /// The other sides are all gone: let go of what nobody here uses.
    pub fn dissolve(&self) {
        let mut inner = self.inner.lock();
        inner.dissolved = true;
        inner.reclaim();
    }

    /// Called now and then: if nothing was taken since the last call, free pages go back to the system.
    pub fn rest(&self) {
        let mut inner = self.inner.lock();
        inner.reclaim();
        let is_active = std::mem::take(&mut inner.active);
        drop(inner);
        if !is_active {
            let _growing = self.growing.lock();
            self.give_pages_back();
        }
    }

    /// A place in a new block.
    fn grow(&self, whole: usize) -> Option<(Arc<Block>, usize, Pages)> {
        let _growing = self.growing.lock();
        if let Some(found) = self.inner.lock().fit(whole) {
            return Some(found); // another thread has made a block, or given pages back, meanwhile
        }
        self.give_pages_back(); // of blocks in which it does not fit
        let (number, bytes) = self.inner.lock().next_block(whole);
        let file = create("disttask-arena", bytes, self.backing).ok()?;
        let map = Map::for_host(&file, bytes).ok()?;
        let block = Arc::new(Block { number, map, file: HostFd::new(file) });
        let mut ranges = Stretch::new(bytes);
        let (offset, pages) = ranges.take(whole)?;
        let owned = Owned { block: Arc::clone(&block), ranges, resting: false };
        self.inner.lock().blocks.push(owned);
        Some((block, offset, pages))
    }

    /// Free blocks keep their number and their place, but no memory. The caller holds `growing`.
    fn give_pages_back(&self) {
        let resting = self.inner.lock().lay_to_rest();
        for (block, touched) in resting {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where that cannot be done the pages stay, and are used again.
            let done = rustix::fs::fallocate(&block.file, flags, 0, touched as u64).is_ok();
            let mut inner = self.inner.lock();
            // It may have gone meanwhile, with the pool.
            if let Some(owned) = inner.blocks.iter_mut().find(|owned| owned.block.number == block.number) {
                owned.resting = false;
                if done {
                    owned.ranges.forget_pages();
                    self.without_huge.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// What stands in the way of so many bytes.
    pub fn obstacle(&self, bytes: usize) -> Obstacle {
        let inner = self.inner.lock();
        let kept: usize = inner.lingering.iter().map(|place| place.bytes).sum();
        let without = (inner.used - kept).saturating_add(whole(bytes).unwrap_or(usize::MAX));
        Obstacle { kept, only_kept: without <= self.budget, freed: inner.freed }
    }

    /// A range is no longer used here. It is free once the other side has let go of it.
    pub(super) fn drop_range(&self, place: Place) {
        let mut inner = self.inner.lock();
        inner.lingering.push(place);
        inner.reclaim();
        drop(inner);
        self.freed.notify_all();
    }

    /// Wait until something was dropped, at most so long.
    pub fn wait_for_room(&self, timeout: Duration) {
        let mut inner = self.inner.lock();
        self.freed.wait_for(&mut inner, timeout);
    }
}

impl Inner {
    fn fit(&mut self, whole: usize) -> Option<(Arc<Block>, usize, Pages)> {
        self.blocks.iter_mut().filter(|owned| !owned.resting).find_map(|owned| {
            let (offset, pages) = owned.ranges.take(whole)?;
            Some((Arc::clone(&owned.block), offset, pages))
        })
    }

    /// Which blocks nobody uses, and how much of each has pages.
    fn lay_to_rest(&mut self) -> Vec<(Arc<Block>, usize)> {
        let unused =
            self.blocks.iter_mut().filter(|owned| owned.ranges.touched() > 0 && owned.ranges.is_all_free());
        unused
            .map(|owned| {
                owned.resting = true;
                (Arc::clone(&owned.block), owned.ranges.touched())
            })
            .collect()
    }

    /// Number and size of a new block.
    fn next_block(&mut self, whole: usize) -> (u32, usize) {
        // Room for two of a large one: see `Arena::prepare`.
        let doubled = FIRST_BLOCK_BYTES << self.blocks.len().min(16);
        let twice = if whole <= LARGE_BLOCK_BYTES { 2 * whole } else { whole };
        let number = self.next_number;
        self.next_number += 1;
        (number, doubled.min(LARGE_BLOCK_BYTES).max(twice.next_multiple_of(FIRST_BLOCK_BYTES)))
    }

    fn give_back(&mut self, place: Place) {
        let owned = self.blocks.iter_mut().find(|owned| owned.block.number == place.block);
        owned.expect("blocks with ranges stay").ranges.give_back(place.offset, place.bytes);
        self.used -= place.bytes;
        self.freed += 1;
    }

    /// Take back what the other side has let go of meanwhile.
    fn reclaim(&mut self) {
        let mut index = 0;
        while let Some(&place) = self.lingering.get(index) {
            let owned = self.blocks.iter().find(|owned| owned.block.number == place.block);
            let lease = owned.expect("blocks with ranges stay").block.lease(place.offset);
            let holder = lease.load(Ordering::Acquire);
            if holder == NOBODY || self.dead.contains(&holder) {
                self.lingering.swap_remove(index);
                self.give_back(place);
            } else {
                index += 1;
            }
        }
        if self.dissolved {
            self.blocks.retain(|owned| !owned.ranges.is_all_free());
        }
    }
}

/// What a payload of so many bytes takes.
fn whole(bytes: usize) -> Option<usize> {
    bytes.checked_add(RANGE_HEADER)?.checked_next_multiple_of(PAGE)
}

/// Nobody on the other side looks at the range.
pub(super) const NOBODY: u32 = 0;

#[path = "prepared.rs"]
mod prepared;
pub(super) use prepared::PREPARED_BYTES;

#[cfg(test)]
#[path = "arena_tests.rs"]
mod tests;
