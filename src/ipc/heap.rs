//! Memory that the C library keeps for the next allocation, to be given back to the system.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// Less than this is no reason to look through the heap. Of what is freed in one piece the C library keeps as much as twice
/// 32 MB, and more where something stands behind it.
const WORTH_IT: usize = 4 << 20;

/// Bytes that were freed since the last [`trim`], as far as it was noted.
static FREED: AtomicUsize = AtomicUsize::new(0);

/// Something of so many bytes was freed, and nothing of its kind need follow.
pub fn note_freed(bytes: usize) {
    FREED.fetch_add(bytes, Ordering::Relaxed);
}

/// Give back what is free, if that may be much. Other threads' allocations wait meanwhile: some milliseconds where it is much.
pub fn trim() {
    if FREED.load(Ordering::Relaxed) < WORTH_IT {
        return;
    }
    FREED.store(0, Ordering::Relaxed);
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called by any thread, at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
