//! Descriptors of the host that a forked child of the host must not keep.
//!
//! A child made by `os.fork()` inherits the host's ends of all control sockets, and while it lives, no worker
//! would see the host's death as an end of file. The child closes them at once, touching no lock: another
//! thread of the parent may have held any lock at the moment of the fork.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Seven descriptors a worker and two a pool: enough for a thousand workers. Where it overflows, a forked
/// child keeps what did not fit, and workers fall back to watching the host's pid.
const MAX_HOST_FDS: usize = 7400;

const FREE: i32 = -1;

static HOST_FDS: [AtomicI32; MAX_HOST_FDS] = [const { AtomicI32::new(FREE) }; MAX_HOST_FDS];

/// How often this process image has been forked off; a pool made in another generation belongs to an ancestor.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number to compare a pool's birth with.
pub fn fork_generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// See [`super::after_fork_in_child`].
pub(super) fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    for place in &HOST_FDS {
        let fd = place.swap(FREE, Ordering::Relaxed);
        if fd != FREE {
            // A fork copies the descriptors before the memory: what another thread has opened in between stands here and
            // is not open, which rustix would take for a bug.
            // SAFETY: the number was registered by a `HostFd` of the parent, which in this process will never
            // be used again: every call checks the generation first, and `drop` does nothing here.
            unsafe { libc::close(fd) };
        }
    }
}

fn exchange(from: i32, to: i32) {
    for place in &HOST_FDS {
        if place.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Has forked children close a descriptor that a thread of this process owns, for as long as this lives. Drop it before
/// the descriptor.
#[derive(Debug)]
pub struct ClosedInChildren {
    raw: i32,
    generation: u32,
}

impl ClosedInChildren {
    /// From now on.
    pub fn new(fd: &impl AsFd) -> Self {
        let raw = fd.as_fd().as_raw_fd();
        exchange(FREE, raw);
        Self { raw, generation: fork_generation() }
    }
}

impl Drop for ClosedInChildren {
    fn drop(&mut self) {
        if self.generation == fork_generation() {
            exchange(self.raw, FREE);
        }
    }
}

/// A descriptor that is closed in forked children.
#[derive(Debug)]
pub struct HostFd {
    fd: ManuallyDrop<OwnedFd>,
    generation: u32,
}

impl HostFd {
    /// Take charge of `fd`.
    pub fn new(fd: OwnedFd) -> Self {
        exchange(FREE, fd.as_raw_fd());
        Self { fd: ManuallyDrop::new(fd), generation: fork_generation() }
    }
}

/// A copy of a descriptor that the application has named by its number.
pub fn duplicate(raw: RawFd) -> rustix::io::Result<HostFd> {
    if raw < 0 {
        return Err(rustix::io::Errno::BADF);
    }
    // SAFETY: it is used for this one call, which fails if there is no such descriptor.
    let fd = unsafe { BorrowedFd::borrow_raw(raw) };
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map(HostFd::new)
}

impl AsFd for HostFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for HostFd {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            return; // already closed in this process, and the number may be somebody else's by now
        }
        let raw = self.fd.as_raw_fd();
        exchange(raw, FREE);
        // Not by dropping the `OwnedFd`: a debug build would abort the host where something in it has closed the
        // number behind our back.
        // SAFETY: closed once, here; nothing uses `fd` afterwards.
        unsafe { rustix::io::close(raw) };
    }
}

/// What the worker cannot do without moves up, out of the way of tasks that close every low descriptor.
const FD_MIN: i32 = 200;

/// A copy with a high number, or with any where the limit on descriptors is low.
pub fn move_up(fd: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let fd = fd.as_fd();
    rustix::io::fcntl_dupfd_cloexec(fd, FD_MIN).or_else(|_| rustix::io::fcntl_dupfd_cloexec(fd, 3))
}
