//! Signal masks. Signals are the host application's: no thread of ours may be picked to receive one.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Block every signal for the calling thread. Called first in each native thread.
pub fn block_all_signals() {
    // SAFETY: `sigfillset` initialises the set; `pthread_sigmask` only reads it.
    unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// Undo it in a worker: a process inherits the mask of the thread that spawned it, which blocks everything.
pub fn reset_signal_mask() {
    // SAFETY: `sigemptyset` initialises the set; `pthread_sigmask` only reads it.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}
