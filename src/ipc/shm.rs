//! Memory that two processes share: a file without a name, mapped by both.
//!
//! Never a `&[u8]` over it: user code in the worker may write to it at any time. What is read is copied out first,
//! what is synchronised goes through atomics, and every offset is checked here.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::fork_generation;
use super::huge::{self, Reserved};

/// Where an unnamed file is made when memfds are not to be had: memory-backed first.
const FALLBACK_FOLDERS: [&str; 3] = ["/dev/shm", "/tmp", "/var/tmp"];

/// Of all systems: what is done for each page is done often enough.
const SMALLEST_PAGE: usize = 4096;

/// Which file a descriptor is of: numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(u64, u64);

impl FileId {
    /// Of this one, now.
    pub fn of(fd: impl AsFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(fd)?;
        Ok(Self(stat.st_dev, stat.st_ino))
    }
}

/// Which kind of file to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A memfd, sealed against shrinking. Where there are none, as [`Self::File`].
    Memfd,
    /// An unnamed file, whose blocks are reserved: a full file system is an error here, and no SIGBUS later.
    File,
}

/// A file of `bytes` zeros, to be mapped by both sides.
pub(super) fn create(name: &str, bytes: usize, backing: Backing) -> rustix::io::Result<OwnedFd> {
    if backing == Backing::Memfd
        && let Ok(fd) = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
    {
        rustix::fs::ftruncate(&fd, bytes as u64)?;
        // Without these seals a worker could truncate the file, and the host would die of SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
        return Ok(fd);
    }
    let mut last = Errno::NOSYS;
    for folder in FALLBACK_FOLDERS {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let made = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).and_then(|fd| {
            rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64)?;
            Ok(fd)
        });
        match made {
            Ok(fd) => return Ok(fd),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// A mapping of such a file.
#[derive(Debug)]
pub(super) struct Map {
    at: NonNull<u8>,
    bytes: usize,
    /// Where in the file it begins.
    base: usize,
    generation: u32,
}

// SAFETY: the memory is accessed through atomics and copies only; who may write what, and when, is the protocol's business
// (`lane`, `arena`), and a breach of it garbles bytes, not memory safety.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Map the first `bytes` of the file, which must have them.
    pub(super) fn new(fd: impl AsFd, bytes: usize) -> rustix::io::Result<Self> {
        Self::part(fd, 0, bytes)
    }

    /// Map `bytes` of the file from a page on; it must have them. Offsets are counted from there.
    pub(super) fn part(fd: impl AsFd, base: usize, bytes: usize) -> rustix::io::Result<Self> {
        let size = usize::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
        if base.checked_add(bytes).is_none_or(|end| size < end) {
            return Err(Errno::INVAL);
        }
        let reserved = Reserved::new(bytes)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: what is replaced has just been reserved for this.
        let at = unsafe {
            rustix::mm::mmap(
                reserved.fit(),
                bytes,
                access,
                MapFlags::SHARED | MapFlags::FIXED,
                fd,
                base as u64,
            )?
        };
        reserved.keep(bytes);
        let at = NonNull::new(at.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { at, bytes, base, generation: fork_generation() })
    }

    /// As [`Self::new`], and a forked child does not get it. Failing in that leaves a mapping that nobody there touches.
    pub(super) fn for_host(fd: impl AsFd, bytes: usize) -> rustix::io::Result<Self> {
        let map = Self::new(fd, bytes)?;
        // SAFETY: the range is the mapping that `map` owns.
        let _ = unsafe { rustix::mm::madvise(map.at.as_ptr().cast(), bytes, Advice::LinuxDontFork) };
        Ok(map)
    }

    /// Whether it was made by a process that this one is a fork of: the memory may not be mapped here at all.
    pub(super) fn is_foreign(&self) -> bool {
        self.generation != fork_generation()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    fn check(&self, at: usize, bytes: usize, align: usize) {
        assert!(
            at.is_multiple_of(align) && bytes <= self.bytes && at <= self.bytes - bytes,
            "outside the shared memory"
        );
    }

    /// The 64-bit number at this offset.
    pub(super) fn u64(&self, at: usize) -> &AtomicU64 {
        self.check(at, 8, 8);
        // SAFETY: in bounds and aligned (checked; the mapping is page-aligned), valid for any bits, and mapped while `self` is.
        unsafe { &*self.at.as_ptr().add(at).cast() }
    }

    /// The 32-bit number at this offset.
    pub(super) fn u32(&self, at: usize) -> &AtomicU32 {
        self.check(at, 4, 4);
        // SAFETY: as above.
        unsafe { &*self.at.as_ptr().add(at).cast() }
    }

    /// Copy into the memory.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len(), 1);
        // SAFETY: in bounds; `bytes` is ordinary memory, so the ranges cannot overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr().add(at), bytes.len()) };
    }

    /// Have a part that was never touched in huge pages, as far as they fit. `false`: the system does not; nothing is lost.
    pub(super) fn make_huge(&self, at: usize, bytes: usize) -> bool {
        self.check(at, bytes, SMALLEST_PAGE);
        // What has no page at all is refused. One is enough, and more would be copied.
        let whole = huge::whole_ones(at, bytes);
        !whole.is_empty()
            && whole.clone().step_by(huge::PAGE).all(|page| self.populate(page, SMALLEST_PAGE))
            // SAFETY: within the mapping, and its contents do not change.
            && unsafe { huge::collapse(self.at.as_ptr().add(whole.start), whole.len()) }
            && self.populate(at, bytes) // what is left at both ends
    }

    /// Have the pages of a part there, writable. Where the kernel cannot (before 5.14), they come when they are touched.
    pub(super) fn populate(&self, at: usize, bytes: usize) -> bool {
        self.check(at, bytes, SMALLEST_PAGE);
        // SAFETY: the range is within the mapping, and its contents do not change.
        let done = unsafe {
            rustix::mm::madvise(self.at.as_ptr().add(at).cast(), bytes, Advice::LinuxPopulateWrite)
        };
        done.is_ok()
    }

    /// Map pages that are there, all at once: a fault for each costs three times as much.
    pub(super) fn map_in(&self, at: usize, bytes: usize) {
        self.check(at, bytes, SMALLEST_PAGE);
        // SAFETY: as above.
        let _ =
            unsafe { rustix::mm::madvise(self.at.as_ptr().add(at).cast(), bytes, Advice::LinuxPopulateRead) };
    }

    /// Put private copies in the place of these pages. What another thread writes there meanwhile is in them: the kernel
    /// copies each page before the first write to it, and here only sees to it that there is one.
    pub(super) fn make_private(&self, fd: impl AsFd, at: usize, bytes: usize) -> rustix::io::Result<()> {
        self.remap(fd, at, bytes, MapFlags::PRIVATE)?;
        if !self.populate(at, bytes) {
            self.write_to_each_page(at, bytes); // before Linux 5.14
        }
        Ok(())
    }

    /// Write what is there, which changes nothing. Where that has changed meanwhile, somebody else has written to the page.
    fn write_to_each_page(&self, at: usize, bytes: usize) {
        for page in (at..at + bytes).step_by(SMALLEST_PAGE) {
            let (word, relaxed) = (self.u32(page), Ordering::Relaxed);
            let now = word.load(relaxed);
            let _ = word.compare_exchange(now, now, relaxed, relaxed);
        }
    }

    /// Map the file's own pages there again.
    pub(super) fn share_again(&self, fd: impl AsFd, at: usize, bytes: usize) -> rustix::io::Result<()> {
        self.remap(fd, at, bytes, MapFlags::SHARED)
    }

    fn remap(&self, fd: impl AsFd, at: usize, bytes: usize, flags: MapFlags) -> rustix::io::Result<()> {
        self.check(at, bytes, SMALLEST_PAGE);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the range is within the mapping, which it replaces with the same part of the same file.
        let _ = unsafe {
            let place = self.at.as_ptr().add(at).cast();
            rustix::mm::mmap(place, bytes, access, flags | MapFlags::FIXED, fd, (self.base + at) as u64)?
        };
        Ok(())
    }

    /// Copy much into the memory.
    ///
    /// # Safety
    /// `from` is readable for so many bytes, and lies outside this memory.
    pub(super) unsafe fn fill(&self, at: usize, from: *const u8, bytes: usize) {
        self.check(at, bytes, 1);
        // SAFETY: in bounds here; the caller vouches for the other side.
        unsafe { super::copy::copy(from, self.at.as_ptr().add(at), bytes) };
    }

    /// Where a part of the memory is mapped.
    pub(super) fn address(&self, at: usize, bytes: usize) -> *mut u8 {
        self.check(at, bytes, 1);
        // SAFETY: in bounds.
        unsafe { self.at.as_ptr().add(at) }
    }

    /// Copy out of the memory.
    pub(super) fn read(&self, at: usize, into: &mut [u8]) {
        self.check(at, into.len(), 1);
        // SAFETY: as above, the other way.
        unsafe { std::ptr::copy_nonoverlapping(self.at.as_ptr().add(at), into.as_mut_ptr(), into.len()) };
    }

    /// Copy out of the memory, to the end of a vector with enough room (or more is made).
    pub(super) fn append_to(&self, at: usize, bytes: usize, vector: &mut Vec<u8>) {
        self.check(at, bytes, 1);
        vector.reserve(bytes);
        // SAFETY: in bounds; the room was reserved, and is initialised by the copy before its length says so.
        unsafe {
            let end = vector.as_mut_ptr().add(vector.len());
            std::ptr::copy_nonoverlapping(self.at.as_ptr().add(at), end, bytes);
            vector.set_len(vector.len() + bytes);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.is_foreign() {
            return; // what is mapped there in this process may be somebody else's
        }
        // SAFETY: the mapping is ours and nobody holds a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

/// `read` bytes of the vector's spare capacity have been written by the kernel.
pub(super) fn assume_filled(vector: &mut Vec<u8>, read: usize) {
    assert!(read <= vector.capacity() - vector.len());
    // SAFETY: checked above; the bytes were filled by read(2), which reported their number.
    unsafe { vector.set_len(vector.len() + read) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 4 * SMALLEST_PAGE;

    fn bytes_of(map: &Map) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        map.read(0, &mut bytes);
        bytes
    }

    #[test]
    fn private_pages_keep_what_they_held_until_they_are_shared_again() {
        for is_old_kernel in [false, true] {
            let file = create("disttask-test", BYTES, Backing::Memfd).expect("a file");
            let (ours, theirs) =
                (Map::new(&file, BYTES).expect("room"), Map::new(&file, BYTES).expect("room"));
            ours.write(0, &[1; BYTES]);
            let (at, bytes) = (SMALLEST_PAGE, 2 * SMALLEST_PAGE);
            if is_old_kernel {
                ours.remap(&file, at, bytes, MapFlags::PRIVATE).expect("room");
                ours.write_to_each_page(at, bytes);
            } else {
                ours.make_private(&file, at, bytes).expect("room");
            }
            theirs.write(0, &[2; BYTES]);
            let ones_in_the_middle =
                bytes_of(&ours).chunks(SMALLEST_PAGE).map(|page| page[7]).collect::<Vec<_>>();
            assert_eq!(ones_in_the_middle, [2, 1, 1, 2]);
            ours.write(at, &[3; 8]);
            assert_eq!(bytes_of(&theirs), [2; BYTES]);
            ours.share_again(&file, at, bytes).expect("room");
            assert_eq!(bytes_of(&ours), [2; BYTES]);
        }
    }
}
