//! A payload in the other side's arena, and how a frame says where it stands.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rustix::io::Errno;

use super::HostFd;
use super::arena::{NOBODY, PAGE, RANGE_HEADER};
use super::exposed;
use super::shm::{FileId, Map};

/// block u64, offset u64, bytes u64; then the parts
const DESCRIPTOR_BYTES: usize = 24;

/// offset u64, bytes u64
const PART_BYTES: usize = 16;

/// Parts begin where vector instructions and numpy's own arrays do.
pub const PART_ALIGN: usize = 64;

/// Parts of one payload, the pickle included: their table must fit a ring.
pub const MAX_PARTS: usize = 1024;

/// Where a part stands in its payload: offset and size.
pub type Part = (usize, usize);

/// Where a payload stands in its owner's arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) block: u32,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) parts: Vec<Part>,
}

impl Descriptor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DESCRIPTOR_BYTES + PART_BYTES * self.parts.len());
        bytes.extend(u64::from(self.block).to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        for &(at, length) in &self.parts {
            bytes.extend((at as u64).to_le_bytes());
            bytes.extend((length as u64).to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, table) = bytes.split_first_chunk::<DESCRIPTOR_BYTES>()?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let (block, offset, bytes) = (number(&head[0..8]), number(&head[8..16]), number(&head[16..24]));
        let mut parts = Vec::with_capacity(table.len() / PART_BYTES);
        for part in table.chunks(PART_BYTES) {
            let (at, length) = part.split_at_checked(8)?;
            if length.len() != 8 {
                return None;
            }
            let (at, length) = (number(at), number(length));
            if at.checked_add(length)? > bytes {
                return None;
            }
            parts.push((at as usize, length as usize));
        }
        Some(Self { block: u32::try_from(block).ok()?, offset, bytes, parts })
    }
}

/// From this size on, mapping all pages at once is worth a system call: a thousand pages.
const MAPPED_IN_BYTES: usize = 4 << 20;

/// A block of the other side's arena.
#[derive(Debug)]
pub(super) struct ForeignBlock {
    map: Map,
    /// Below this, pages were mapped in.
    mapped: AtomicUsize,
    /// To be passed on by a host, and to map parts of it anew.
    file: HostFd,
    /// Which file that is.
    id: FileId,
    /// Under which it is passed on.
    number: u32,
}

/// Numbers blocks that are passed on; the host's own are counted from 0.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1 << 31);

impl ForeignBlock {
    /// Forked children get the mapping, too: they may look at arrays that stand in it. See `exposed` for those.
    pub(super) fn new(file: OwnedFd) -> Result<Self, (Errno, OwnedFd)> {
        let map = || Map::new(&file, usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0));
        match map().and_then(|map| Ok((map, FileId::of(&file)?))) {
            Ok((map, id)) => Ok(Self::of(file, map, id)),
            Err(errno) => Err((errno, file)),
        }
    }

    /// Only what one payload needs of it, for which there are addresses left where there are none for the whole; and that
    /// payload, as it stands there.
    pub(super) fn part(file: OwnedFd, what: Descriptor) -> rustix::io::Result<(Self, Descriptor)> {
        let bytes = usize::try_from(what.bytes).ok().and_then(|bytes| bytes.checked_add(RANGE_HEADER));
        let at = usize::try_from(what.offset).ok().filter(|at| at % PAGE == 0).ok_or(Errno::INVAL)?;
        let map = Map::part(
            &file,
            at,
            bytes.and_then(|bytes| bytes.checked_next_multiple_of(PAGE)).ok_or(Errno::INVAL)?,
        )?;
        let id = FileId::of(&file)?;
        Ok((Self::of(file, map, id), Descriptor { offset: 0, ..what }))
    }

    fn of(file: OwnedFd, map: Map, id: FileId) -> Self {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed) | 1 << 31;
        Self { map, mapped: AtomicUsize::new(0), file: HostFd::new(file), id, number }
    }

    /// Its descriptor; `None` where something in this process has closed it, and the number may be somebody else's.
    pub(super) fn file(&self) -> Option<&HostFd> {
        FileId::of(&self.file).is_ok_and(|id| id == self.id).then_some(&self.file)
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Nobody here looks at the range any more.
    pub(super) fn end_lease(&self, at: usize) {
        self.map.u32(at).store(NOBODY, Ordering::Release);
    }
}

/// In whose name a payload is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// This link's.
    Taken(u32),
    /// Its owner gave the lease with it.
    Given,
    /// Nobody's: its owner keeps it until it was read.
    None,
}

/// A payload in the other side's arena, for as long as this lives.
#[derive(Debug)]
pub struct Foreign {
    block: Arc<ForeignBlock>,
    at: usize,
    bytes: usize,
    parts: Vec<Part>,
    /// It is ours to end.
    leased: bool,
    /// Python has been given its address; the number is that of `exposed`.
    exposed: OnceLock<u64>,
    /// Its pages are this process's own.
    is_private: AtomicBool,
}

impl Foreign {
    /// Look at it. `None` where the descriptor is garbage.
    pub(super) fn new(block: Arc<ForeignBlock>, what: Descriptor, lease: Lease) -> Option<Self> {
        let at = usize::try_from(what.offset).ok()?;
        let bytes = usize::try_from(what.bytes).ok()?;
        let end = at.checked_add(RANGE_HEADER)?.checked_add(bytes)?;
        let inside = end <= block.map.len() && at % PAGE == 0 && what.parts.len() <= MAX_PARTS;
        if !inside {
            return None;
        }
        if let Lease::Taken(link) = lease {
            block.map.u32(at).store(link, Ordering::Release);
        }
        Some(Self {
            block,
            at,
            bytes,
            parts: what.parts,
            leased: lease != Lease::None,
            exposed: OnceLock::new(),
            is_private: AtomicBool::new(false),
        })
    }

    /// Before much of it is looked at: have its pages mapped, if nobody has. Takes some milliseconds for 100 MB.
    pub fn map_in(&self) {
        let end = (self.at + RANGE_HEADER + self.bytes).next_multiple_of(PAGE).min(self.block.map.len());
        if self.bytes >= MAPPED_IN_BYTES && self.block.mapped.fetch_max(end, Ordering::Relaxed) < end {
            self.block.map.map_in(self.at, end - self.at);
        }
    }

    pub(super) fn block(&self) -> &Arc<ForeignBlock> {
        &self.block
    }

    /// For another worker, which has been shown the block.
    pub(super) fn descriptor(&self) -> Descriptor {
        let parts = self.parts.clone();
        Descriptor { block: self.block.number, offset: self.at as u64, bytes: self.bytes as u64, parts }
    }

    /// Its size.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Where its parts stand; empty where it is one run of bytes.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Read some of it.
    ///
    /// # Panics
    /// Outside of it.
    pub fn read(&self, from: usize, into: &mut [u8]) {
        assert!(from.checked_add(into.len()).is_some_and(|end| end <= self.bytes));
        self.block.map.read(self.at + RANGE_HEADER + from, into);
    }

    /// Before Python is given an address in it.
    pub fn expose(self: &Arc<Self>) {
        self.exposed.get_or_init(|| exposed::expose(self));
    }

    /// Where a part is mapped, for reading and writing, while this lives.
    ///
    /// # Panics
    /// Outside of it.
    pub fn address(&self, (at, bytes): Part) -> *mut u8 {
        assert!(at.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        self.block.map.address(self.at + RANGE_HEADER + at, bytes)
    }

    /// With the padding at its end.
    fn pages(&self) -> usize {
        (RANGE_HEADER + self.bytes).next_multiple_of(PAGE)
    }

    /// Put copies in the place of its pages. `false`: that cannot be had. One thread at a time, and once: a second time
    /// would bring back what was there at the first.
    pub(super) fn make_private(&self) -> bool {
        let Some(file) = self.block.file() else { return false };
        let done = self.block.map.make_private(file, self.at, self.pages()).is_ok();
        self.is_private.store(done, Ordering::Release);
        done
    }

    /// Undo that, without which nobody could be told that the lease has ended, nor see what comes there next.
    fn share_again(&self) -> bool {
        let Some(file) = self.block.file() else { return false };
        self.block.mapped.fetch_min(self.at, Ordering::Relaxed);
        self.block.map.share_again(file, self.at, self.pages()).is_ok()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A forked child drops its copies of what its parent still looks at.
        if self.block.map.is_foreign() {
            return;
        }
        if let Some(number) = self.exposed.take() {
            exposed::withdraw(number);
        }
        // Where the place cannot be had back, it stays taken: that is better than two of them at one address.
        let is_back = !*self.is_private.get_mut() || self.share_again();
        if self.leased && is_back {
            self.block.end_lease(self.at);
        }
    }
}
