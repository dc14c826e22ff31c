//! How much memory a process has had, as the kernel counted it.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rustix::io::Errno;
use rustix::process::Pid;

/// A child that has ended and was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// As from `waitpid`.
    pub status: i32,
    /// The most bytes that it had in memory, or what it has inherited of that: a process that is spawned begins with its
    /// parent's peak.
    pub peak: u64,
}

/// Take the status of this child. `None`: it has not ended.
pub fn reap(pid: Pid) -> rustix::io::Result<Option<Reaped>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both point to memory of ours of the right type; all zeros are a valid `rusage`.
    let (got, usage) = unsafe {
        let got = libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, libc::WNOHANG, usage.as_mut_ptr());
        (got, usage.assume_init())
    };
    match got {
        0 => Ok(None),
        -1 => Err(last_error()),
        _ => Ok(Some(Reaped { status, peak: peak(&usage) })),
    }
}

/// The same of this process, so far: in bytes.
pub(super) fn own_peak() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: as above.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    peak(&usage)
}

/// The kernel counts in KiB.
fn peak(usage: &libc::rusage) -> u64 {
    u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
