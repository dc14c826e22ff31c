//! Forks of the host, and arrays of results that Python looks at there.
//!
//! Such an array stands in the arena of the worker that made it, in pages that a forked child would share: each would see
//! what the other writes, and the child also what the worker writes once the parent has let go of the array. So a child
//! takes copies of them, at the same addresses, before anything else runs in it, and then they are its own as all other
//! memory is. Until then the parent keeps its leases, and does not return from `fork`.
//!
//! The child must touch no lock, which another thread may have held at the moment of the fork.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::foreign::ForeignBlock;

/// Arrays that Python may look at at once: each takes 32 KiB at least, so these are 2 GiB. What does not fit stays shared with
/// forked children. The table takes no memory before it is used.
const MAX_EXPOSED: usize = 1 << 16;

/// How long a parent waits for its child to copy: far more than copying all memory takes. A child that was stopped or that
/// something else holds up must not hold up its parent for ever.
const COPY_LIMIT: Duration = Duration::from_secs(30);

struct Slot {
    /// 0: free.
    bytes: AtomicUsize,
    /// 0: being filled.
    address: AtomicUsize,
}

static SLOTS: [Slot; MAX_EXPOSED] =
    [const { Slot { bytes: AtomicUsize::new(0), address: AtomicUsize::new(0) } }; MAX_EXPOSED];

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Where the next free slot is looked for.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Forks under way in this process.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// Leases that end when there are none.
static LATER: Mutex<Vec<(Arc<ForeignBlock>, usize)>> = Mutex::new(Vec::new());

thread_local! {
    /// Through which the child of the fork that this thread is at says that it has its copies.
    static PIPE: RefCell<Option<(OwnedFd, OwnedFd)>> = const { RefCell::new(None) };
}

/// A range that Python looks at.
#[derive(Debug)]
pub(super) struct Exposed(Option<usize>);

impl Exposed {
    pub(super) fn new(address: *mut u8, bytes: usize) -> Self {
        if TAKEN.fetch_add(1, Ordering::SeqCst) >= MAX_EXPOSED {
            TAKEN.fetch_sub(1, Ordering::SeqCst);
            return Self(None);
        }
        loop {
            let index = NEXT.fetch_add(1, Ordering::Relaxed) % MAX_EXPOSED;
            let slot = &SLOTS[index];
            if slot.bytes.compare_exchange(0, bytes, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                slot.address.store(address as usize, Ordering::SeqCst);
                return Self(Some(index));
            }
        }
    }

    fn withdraw(self) {
        if let Some(index) = self.0 {
            SLOTS[index].address.store(0, Ordering::SeqCst);
            SLOTS[index].bytes.store(0, Ordering::SeqCst);
            TAKEN.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Nobody here looks at this range any more. A child that is just being made may have to copy it all the same.
pub(super) fn end_lease(exposed: Exposed, block: &Arc<ForeignBlock>, at: usize) {
    exposed.withdraw();
    if FORKING.load(Ordering::SeqCst) > 0 {
        let mut later = LATER.lock();
        // The fork may have ended before the lock was had, and nobody would come for it.
        if FORKING.load(Ordering::SeqCst) > 0 {
            later.push((Arc::clone(block), at));
            return;
        }
    }
    block.end_lease(at);
}

/// This thread is about to fork. [`after_fork_in_parent`] comes, whether there is a child or not.
pub fn before_fork() {
    FORKING.fetch_add(1, Ordering::SeqCst);
    if TAKEN.load(Ordering::SeqCst) > 0 {
        PIPE.set(pipe_with(PipeFlags::CLOEXEC).ok());
    }
}

/// Wait until the child has its copies.
pub fn after_fork_in_parent() {
    if let Some((read, write)) = PIPE.take() {
        drop(write); // without a child, this ends the wait
        let limit = Timespec::try_from(COPY_LIMIT).ok();
        while poll(&mut [PollFd::new(&read, PollFlags::IN)], limit.as_ref()) == Err(rustix::io::Errno::INTR) {
        }
    }
    let mut later = LATER.lock();
    if FORKING.fetch_sub(1, Ordering::SeqCst) == 1 {
        for (block, at) in later.drain(..) {
            block.end_lease(at);
        }
    }
}

/// Take copies. `false`: there was no memory for some.
pub(super) fn after_fork_in_child() -> bool {
    FORKING.store(0, Ordering::SeqCst);
    let mut all = true;
    if TAKEN.swap(0, Ordering::SeqCst) > 0 {
        for slot in &SLOTS {
            let (address, bytes) =
                (slot.address.swap(0, Ordering::SeqCst), slot.bytes.swap(0, Ordering::SeqCst));
            if address != 0 {
                all &= make_private(address, bytes).is_ok();
            }
        }
    }
    if let Some((_, write)) = PIPE.take() {
        let _ = rustix::io::write(&write, b"c");
    }
    all
}

/// Put a copy of this memory in its own place.
fn make_private(address: usize, bytes: usize) -> rustix::io::Result<()> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let place = std::ptr::with_exposed_provenance_mut::<std::ffi::c_void>(address);
    // SAFETY: the new mapping overlaps nothing; the range was registered as mapped, and its lease has not ended, so the copy
    // reads what the array holds. Then the copy takes the place of the original, whose bytes are the same. This is the
    // only thread of the process.
    unsafe {
        let copy = rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE)?;
        std::ptr::copy_nonoverlapping(place.cast_const().cast::<u8>(), copy.cast::<u8>(), bytes);
        rustix::mm::mremap_fixed(copy, bytes, bytes, MremapFlags::MAYMOVE, place)?;
    }
    Ok(())
}
