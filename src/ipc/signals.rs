//! Signal masks. Signals are the host application's: no thread of ours may be picked to receive one.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Counted from SIGRTMIN, the first few of which libraries like to take.
const STACK_SIGNAL: i32 = 17;

/// Likewise.
const SOFT_SIGNAL: i32 = 18;

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

/// Sent to a worker that is to show its Python stacks: a real-time signal that nobody else is likely to use.
pub fn stack_signal() -> rustix::process::Signal {
    // SAFETY: the number is between SIGRTMIN and SIGRTMAX, so it is a signal, and not one that the C library keeps.
    unsafe { rustix::process::Signal::from_raw_unchecked(libc::SIGRTMIN() + STACK_SIGNAL) }
}

/// Sent to a worker's main thread when its task has used up its soft time-out.
pub fn soft_signal() -> i32 {
    libc::SIGRTMIN() + SOFT_SIGNAL
}
