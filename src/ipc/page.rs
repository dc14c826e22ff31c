//! One page of shared memory per worker: what the host may know of it without asking.
//!
//! The worker writes, the host reads. User code in the worker may scribble on it; the host only ever compares
//! the numbers, so the worst outcome is a wrong charge against that very worker's task.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::scheduler::types::{Assignment, Attempt, TaskId};

const PAGE_BYTES: usize = 4096;

#[repr(C)]
struct Layout {
    /// Counted up every 100 ms by a native thread that needs no GIL.
    beat: AtomicU64,
    /// The last dispatch that the worker took up. `task` is written last.
    begun_attempt: AtomicU32,
    begun_task: AtomicU64,
}

/// A mapping of the page; both sides hold one.
#[derive(Debug)]
pub struct Page {
    at: NonNull<Layout>,
}

// SAFETY: the page is only accessed through atomics.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A fresh page and the descriptor to pass on. Fails where memfds are not to be had.
    pub fn create() -> rustix::io::Result<(Self, OwnedFd)> {
        let fd = rustix::fs::memfd_create("disttask-page", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, PAGE_BYTES as u64)?;
        // Without these seals a worker could truncate the file, and the host would die of SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
        let page = Self::map(&fd)?;
        // A forked child of the host has no use for it. Failure leaves a mapping that nobody there touches.
        // SAFETY: the range is the mapping that `page` owns.
        let _ = unsafe { rustix::mm::madvise(page.at.as_ptr().cast(), PAGE_BYTES, Advice::LinuxDontFork) };
        Ok((page, fd))
    }

    /// The other side's mapping.
    pub fn map(fd: impl AsFd) -> rustix::io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        Ok(Self { at: NonNull::new(at.cast()).ok_or(rustix::io::Errno::NOMEM)? })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is page-aligned, larger than `Layout`, zero-filled at birth (valid for atomics),
        // sealed against shrinking, and lives as long as `self`.
        unsafe { self.at.as_ref() }
    }

    /// Worker: still alive.
    pub fn beat(&self) {
        self.layout().beat.fetch_add(1, Ordering::Relaxed);
    }

    /// Worker: this dispatch is taken up now.
    pub fn begin(&self, job: Assignment) {
        self.layout().begun_attempt.store(job.attempt.0, Ordering::Relaxed);
        self.layout().begun_task.store(job.task.0, Ordering::Release);
    }

    /// Host: the heartbeat counter.
    pub fn beats(&self) -> u64 {
        self.layout().beat.load(Ordering::Relaxed)
    }

    /// Host: the last dispatch that was taken up. Meant for a worker that is dead; a live one may be between
    /// its two writes.
    pub fn begun(&self) -> Assignment {
        let task = TaskId(self.layout().begun_task.load(Ordering::Acquire));
        Assignment { task, attempt: Attempt(self.layout().begun_attempt.load(Ordering::Relaxed)) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // In a forked child the range is not mapped (see `create`) unless something else has taken it since:
        // the pool's owner check keeps us from getting here.
        // SAFETY: the mapping is ours and nobody holds a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// `read` bytes of the vector's spare capacity have been written by the kernel.
pub(super) fn assume_filled(vector: &mut Vec<u8>, read: usize) {
    assert!(read <= vector.capacity() - vector.len());
    // SAFETY: checked above; the bytes were filled by read(2), which reported their number.
    unsafe { vector.set_len(vector.len() + read) };
}
