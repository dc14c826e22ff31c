//! Memory for payloads that do not fit a ring. Each side owns an arena, writes its payloads there and passes a
//! descriptor; the other side maps the arena's *blocks* when it first hears of them, and copies nothing that it need not.
//!
//! A payload may have several *parts*: a pickle, and the buffers that it refers to (pickle protocol 5), each of which the
//! receiver uses where it stands.
//!
//! An arena has few and large blocks, because each costs both sides a descriptor and a mapping. Within a block, *ranges*
//! are handed out. In front of each range stands its lease word: which link's other side still looks at it. A range is
//! used again only when its owner has dropped it and that word is zero, or the other side is dead.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::FallocateFlags;

use super::HostFd;
use super::extents::{Pages, Stretch};
use super::foreign::{Descriptor, Part};
use super::shm::{Backing, Map, create};

/// The first block; the following ones double, so that a small job stays small.
const FIRST_BLOCK_BYTES: usize = 4 << 20;

/// Blocks do not grow beyond this, except for a payload that is larger.
const LARGE_BLOCK_BYTES: usize = 256 << 20;

/// From this size on, faulting pages in takes longer than starting a thread for it.
const PREPARED_BYTES: usize = 4 << 20;

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
    fn lease(&self, offset: usize) -> &AtomicU32 {
        self.map.u32(offset)
    }
}

#[derive(Debug)]
struct Owned {
    block: Arc<Block>,
    ranges: Stretch,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: Vec<Owned>,
    /// Dropped here, and still looked at on the other side.
    lingering: Vec<Place>,
    next_number: u32,
    /// In ranges.
    used: usize,
    /// Links whose other side is dead: whatever they looked at.
    dead: HashSet<u32>,
    /// Something was taken since the last [`Arena::rest`].
    active: bool,
    /// Blocks go as soon as nobody uses them.
    dissolved: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    block: u32,
    offset: usize,
    /// Of the whole range, header and padding included.
    bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Arena {
    backing: Backing,
    /// Bytes of ranges that may be in use; more waits.
    budget: usize,
    inner: Mutex<Inner>,
    freed: Condvar,
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
        Arc::new(Self { backing, budget, inner: Mutex::default(), freed: Condvar::new() })
    }

    /// Room for so many bytes.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Range, NoRoom> {
        let whole = bytes.checked_add(RANGE_HEADER).and_then(|bytes| bytes.checked_next_multiple_of(PAGE));
        let Some(whole) = whole.filter(|&whole| whole <= self.budget) else { return Err(NoRoom::Never) };
        let mut inner = self.inner.lock();
        inner.reclaim();
        if inner.used + whole > self.budget {
            return Err(NoRoom::Full);
        }
        let (block, offset, pages) = match inner.fit(whole) {
            Some(found) => found,
            None => inner.grow(whole, self.backing).ok_or(NoRoom::Never)?,
        };
        inner.used += whole;
        inner.active = true;
        // Not in a worker, whose arena has no budget: there it was measured to slow the first results down.
        let next = if pages == Pages::Fresh && self.budget < usize::MAX / 2 {
            inner.next_to_prepare(whole, self.budget)
        } else {
            None
        };
        drop(inner);
        if let Some((another, at)) = next {
            self.prepare([(another, at), (Arc::clone(&block), offset)], whole);
        }
        if pages == Pages::Unmapped && whole >= PREPARED_BYTES {
            block.map.map_in(offset, whole);
        }
        block.lease(offset).store(0, Ordering::Relaxed);
        let fresh = pages == Pages::Fresh;
        Ok(Range { arena: Arc::clone(self), block, offset, bytes, whole, fresh, parts: Vec::new() })
    }

    /// Have pages faulted in, on a thread of its own: of the next range of this size, and of the one that is being filled,
    /// for when it is used again. With two of them most programs that pass large payloads have all that they need.
    fn prepare(self: &Arc<Self>, ranges: [(Arc<Block>, usize); 2], whole: usize) {
        let arena = Arc::clone(self);
        let (block, offset) = (ranges[0].0.number, ranges[0].1);
        let work = move || {
            super::block_all_signals();
            for (block, offset) in &ranges {
                block.map.populate(*offset, whole);
            }
            drop(Given { arena: &arena, place: Place { block, offset, bytes: whole } });
        };
        // Without a thread the range is of no use to anybody, and goes back at once.
        if std::thread::Builder::new().name("disttask-prepare".into()).spawn(work).is_err() {
            drop(Given { arena: self, place: Place { block, offset, bytes: whole } });
        }
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
        if !std::mem::take(&mut inner.active) {
            inner.give_pages_back();
        }
    }

    /// Wait until something was dropped, at most so long.
    pub fn wait_for_room(&self, timeout: Duration) {
        let mut inner = self.inner.lock();
        self.freed.wait_for(&mut inner, timeout);
    }
}

impl Inner {
    fn fit(&mut self, whole: usize) -> Option<(Arc<Block>, usize, Pages)> {
        self.blocks.iter_mut().find_map(|owned| {
            let (offset, pages) = owned.ranges.take(whole)?;
            Some((Arc::clone(&owned.block), offset, pages))
        })
    }

    /// Free blocks keep their number and their place, but no memory.
    fn give_pages_back(&mut self) {
        for owned in
            self.blocks.iter_mut().filter(|owned| owned.ranges.touched() > 0 && owned.ranges.is_all_free())
        {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where that cannot be done the pages stay, and are used again.
            if rustix::fs::fallocate(&owned.block.file, flags, 0, owned.ranges.touched() as u64).is_ok() {
                owned.ranges.forget_pages();
            }
        }
    }

    fn grow(&mut self, whole: usize, backing: Backing) -> Option<(Arc<Block>, usize, Pages)> {
        self.give_pages_back(); // of blocks in which it does not fit
        // Room for two of a large one: see `Arena::prepare`.
        let doubled = FIRST_BLOCK_BYTES << self.blocks.len().min(16);
        let twice = if whole <= LARGE_BLOCK_BYTES { 2 * whole } else { whole };
        let bytes = doubled.min(LARGE_BLOCK_BYTES).max(twice.next_multiple_of(FIRST_BLOCK_BYTES));
        let file = create("disttask-arena", bytes, backing).ok()?;
        let map = Map::for_host(&file, bytes).ok()?;
        let block = Arc::new(Block { number: self.next_number, map, file: HostFd::new(file) });
        self.next_number += 1;
        let mut ranges = Stretch::new(bytes);
        let (offset, pages) = ranges.take(whole)?;
        self.blocks.push(Owned { block: Arc::clone(&block), ranges });
        Some((block, offset, pages))
    }

    /// The range that will be asked for next, if what is asked for now is a sign of more.
    fn next_to_prepare(&mut self, whole: usize, budget: usize) -> Option<(Arc<Block>, usize)> {
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

    fn give_back(&mut self, place: Place) {
        let owned = self.blocks.iter_mut().find(|owned| owned.block.number == place.block);
        owned.expect("blocks with ranges stay").ranges.give_back(place.offset, place.bytes);
        self.used -= place.bytes;
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

/// Nobody on the other side looks at the range.
pub(super) const NOBODY: u32 = 0;

/// Memory for one payload, until it is dropped.
#[derive(Debug)]
pub struct Range {
    parts: Vec<Part>,
    /// See [`Pages::Fresh`].
    fresh: bool,
    arena: Arc<Arena>,
    block: Arc<Block>,
    offset: usize,
    bytes: usize,
    whole: usize,
}

impl Range {
    /// The payload's size.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Fill a part of it.
    ///
    /// # Panics
    /// Outside of it.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes);
        self.block.map.write(self.offset + RANGE_HEADER + at, bytes);
    }

    /// Fill a part of it with what stands at an address.
    ///
    /// # Panics
    /// Outside of it.
    ///
    /// # Safety
    /// `from` is readable for so many bytes; who writes there meanwhile garbles the copy.
    pub unsafe fn fill(&self, at: usize, from: *const u8, bytes: usize) {
        assert!(at.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        let place = self.offset + RANGE_HEADER + at;
        let mut done = 0;
        while self.fresh && done < bytes {
            // SAFETY: within what the caller vouches for.
            let rest = unsafe { std::slice::from_raw_parts(from.add(done), bytes - done) };
            match rustix::io::pwrite(&self.block.file, rest, (place + done) as u64) {
                Ok(written) if written > 0 => done += written,
                _ => break, // by the mapping, then
            }
        }
        // SAFETY: as above; the mapping is other memory.
        unsafe { self.block.map.fill(place + done, from.add(done), bytes - done) };
    }

    /// What it holds besides one run of bytes.
    #[must_use]
    pub fn with_parts(mut self, parts: Vec<Part>) -> Self {
        self.parts = parts;
        self
    }

    /// Where its parts stand; empty where it is one run of bytes.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Read its beginning.
    ///
    /// # Panics
    /// With more than there is.
    pub fn read(&self, into: &mut [u8]) {
        assert!(into.len() <= self.bytes);
        self.block.map.read(self.offset + RANGE_HEADER, into);
    }

    pub(super) fn block(&self) -> &Block {
        &self.block
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        let parts = self.parts.clone();
        Descriptor { block: self.block.number, offset: self.offset as u64, bytes: self.bytes as u64, parts }
    }

    /// The other side of this link may look at it from here on; 0: nobody may, after all. What it lets go of is found by
    /// and by.
    pub(super) fn lease(&self, link: u32) {
        self.block.lease(self.offset).store(link, Ordering::Release);
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.block.map.is_foreign() {
            return; // a forked child: it has no part in this, and a lock may be held for ever
        }
        let place = Place { block: self.block.number, offset: self.offset, bytes: self.whole };
        let mut inner = self.arena.inner.lock();
        inner.lingering.push(place);
        inner.reclaim();
        drop(inner);
        self.arena.freed.notify_all();
    }
}
