//! A place in our arena, being filled or looked at.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use super::arena::{Arena, Block, PREPARED_BYTES, Place, RANGE_HEADER};
use super::foreign::{Descriptor, Part};

/// Memory for one payload, until it is dropped.
#[derive(Debug)]
pub struct Range {
    pub(super) parts: Vec<Part>,
    /// See `extents::Pages::Fresh`.
    pub(super) fresh: bool,
    /// Whether it stands in huge pages, once that was tried.
    pub(super) huge: OnceLock<bool>,
    pub(super) arena: Arc<Arena>,
    pub(super) block: Arc<Block>,
    pub(super) offset: usize,
    pub(super) bytes: usize,
    pub(super) whole: usize,
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

    /// Where it is large and was never touched, have it in huge pages before much is written: whether it is. That takes a while, so it
    /// is not done where ranges are handed out: perhaps with a lock held.
    fn make_huge(&self) -> bool {
        *self.huge.get_or_init(|| {
            self.fresh
                && self.whole >= PREPARED_BYTES
                && self.arena.make_huge(&self.block, self.offset, self.whole)
        })
    }

    /// Fill a part of it.
    ///
    /// # Panics
    /// Outside of it.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes);
        if bytes.len() >= PREPARED_BYTES {
            self.make_huge();
        }
        self.block.map().write(self.offset + RANGE_HEADER + at, bytes);
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
        let by_file = self.fresh && !self.make_huge();
        while by_file && done < bytes {
            // SAFETY: within what the caller vouches for.
            let rest = unsafe { std::slice::from_raw_parts(from.add(done), bytes - done) };
            match rustix::io::pwrite(&self.block.file, rest, (place + done) as u64) {
                Ok(written) if written > 0 => done += written,
                _ => break, // by the mapping, then
            }
        }
        // SAFETY: as above; the mapping is other memory.
        unsafe { self.block.map().fill(place + done, from.add(done), bytes - done) };
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
        self.read_at(0, into);
    }

    pub(super) fn read_at(&self, from: usize, into: &mut [u8]) {
        assert!(from.checked_add(into.len()).is_some_and(|end| end <= self.bytes));
        self.block.map().read(self.offset + RANGE_HEADER + from, into);
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
        if self.block.map().is_foreign() {
            return; // a forked child: it has no part in this, and a lock may be held for ever
        }
        self.arena.drop_range(Place { block: self.block.number, offset: self.offset, bytes: self.whole });
    }
}
