//! The worker process's side: take over the control socket, keep a watch on the host, beat.
//!
//! Python runs in the main thread; the one native thread here needs no GIL, so a task that holds it for ever is
//! not mistaken for a dead worker, and the worker of a dead host ends whatever its task is doing.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, getppid, kill_process_group, pidfd_open};

use crate::ipc::{
    Arena, FileId, Heart, LinkError, WorkerLink, block_all_signals, move_up, reset_signal_mask, trim,
};

/// Four beats within the limit after which an idle worker counts as frozen. Each wakes the process, and an idle pool is to
/// cost nothing that can be measured.
const BEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Beats after which unused memory goes back to the system: 5 s, as in the host.
const BEATS_PER_REST: u32 = 10;

/// What is read of `/proc/self/status`: the line is among the first thirty, and has come long before.
const STATUS_BYTES: usize = 2048;

/// Take over the control socket from stdin and start the watch. The second value is the configuration, the third are
/// descriptors that the application shares.
pub fn attach() -> Result<(WorkerLink, Vec<u8>, Vec<OwnedFd>), LinkError> {
    reset_signal_mask();
    let stdin = rustix::stdio::stdin();
    let socket = move_up(stdin)?;
    let host = rustix::net::sockopt::socket_peercred(&socket)
        .map_err(|_| LinkError::NotAWorker("stdin is no socket: this process was not started by a pool"))?
        .pid;
    if getppid() != Some(host) {
        return Err(LinkError::NotAWorker(
            "the worker is not the host's own child: an executable that is a wrapper script must end in: exec python \"$@\"",
        ));
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    let (mut link, heart, shared) = WorkerLink::attach(socket)?;
    watch(host, link.socket(), heart, link.arena())?;
    match link.config()? {
        Some(config) => Ok((link, config, shared)),
        None => die(),
    }
}

/// Start the native thread that beats, and ends everything when the host is gone.
fn watch(host: Pid, socket: &OwnedFd, heart: Heart, arena: Arc<Arena>) -> Result<(), LinkError> {
    let socket = move_up(socket)?;
    // The end of file can be late: a forked child of the host may hold the host's end. The pidfd and, where
    // there is none, the parent's number are not fooled by that.
    let pidfd = pidfd_open(host, PidfdFlags::empty()).and_then(move_up).ok();
    let mut watched = vec![Watched::new(socket, PollFlags::RDHUP)?];
    watched.extend(pidfd.map(|pidfd| Watched::new(pidfd, PollFlags::IN)).transpose()?);
    heart.note_floor();
    let watching = move || {
        block_all_signals();
        let mut beats = 0_u32;
        let mut status = None;
        loop {
            heart.beat();
            note_peak(&heart, &mut status);
            beats = beats.wrapping_add(1);
            if beats.is_multiple_of(BEATS_PER_REST) {
                arena.rest();
                trim();
            }
            if getppid() != Some(host) || host_is_gone(&mut watched, || getppid() != Some(host)) {
                die();
            }
        }
    };
    thread::Builder::new()
        .name("disttask-watch".into())
        .spawn(watching)
        .map(drop)
        .map_err(|_| LinkError::Io(rustix::io::Errno::AGAIN))
}

/// The peak of our own memory. The kernel's `VmHWM` begins anew with a program, its `ru_maxrss` does not: that is what the
/// host sees when we have ended.
fn note_peak(heart: &Heart, status: &mut Option<Status>) {
    if let Some(other) = status.take_if(|status| !status.is_ours()) {
        other.leave();
    }
    if status.is_none() {
        *status = Status::open().ok();
    }
    let mut text = [0; STATUS_BYTES];
    if let Some(read) = status.as_ref().and_then(|status| rustix::io::pread(&status.file, &mut text, 0).ok())
        && let Some(bytes) = peak_in(&text[..read])
    {
        heart.note_peak(bytes);
    }
}

/// `/proc/self/status`. A task may close every descriptor, this one included, and its number may then be another file's:
/// that is not to be read. What an eventfd has counted would be gone; or nothing would be there, and the heart stand still.
struct Status {
    file: OwnedFd,
    is: FileId,
}

impl Status {
    fn open() -> rustix::io::Result<Self> {
        let opened = rustix::fs::open("/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = opened.and_then(move_up)?;
        let is = FileId::of(&file)?;
        Ok(Self { file, is })
    }

    fn is_ours(&self) -> bool {
        FileId::of(&self.file) == Ok(self.is)
    }

    /// The number is not ours to close any more.
    fn leave(self) {
        let _ = self.file.into_raw_fd();
    }
}

/// `VmHWM: 59628 kB`
fn peak_in(status: &[u8]) -> Option<u64> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"VmHWM:"))?;
    let number = std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?;
    Some(number.parse::<u64>().ok()?.saturating_mul(1024))
}

/// What tells of the host's end. A task may have closed it, as [`Status`]: then the parent's number has to do.
struct Watched {
    file: OwnedFd,
    is: FileId,
    of: PollFlags,
    was_wrong: bool,
}

impl Watched {
    fn new(file: OwnedFd, of: PollFlags) -> rustix::io::Result<Self> {
        let is = FileId::of(&file)?;
        Ok(Self { file, is, of, was_wrong: false })
    }

    fn is_asked(&self) -> bool {
        !self.was_wrong && FileId::of(&self.file) == Ok(self.is)
    }
}

/// Wait one beat for the socket to hang up or the host's process to end.
///
/// Before Linux 6.9 a pidfd cannot be told from an eventfd and its kind, which a task may have at its number: so it only says when to
/// look whether we have another parent, and is not asked any more once it was wrong.
fn host_is_gone(watched: &mut [Watched], is_orphan: impl Fn() -> bool) -> bool {
    let mut asked: Vec<_> = watched.iter_mut().filter(|watched| watched.is_asked()).collect();
    let mut fds: Vec<_> = asked.iter().map(|watched| PollFd::new(&watched.file, watched.of)).collect();
    if poll(&mut fds, Some(&BEAT)).is_err() {
        return false;
    }
    // One that was closed in this very moment says that it is none.
    let says: Vec<_> = fds.iter().map(|fd| !fd.revents().difference(PollFlags::NVAL).is_empty()).collect();
    let hung_up = asked.iter().zip(&says).any(|(watched, says)| *says && watched.of == PollFlags::RDHUP);
    if hung_up || is_orphan() {
        return true;
    }
    for (watched, says) in asked.iter_mut().zip(says) {
        watched.was_wrong = says;
    }
    false
}

/// The host is gone: take the whole process group along, this process included.
fn die() -> ! {
    let _ = kill_process_group(getpgrp(), Signal::KILL);
    std::process::abort() // not reached: the group includes us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_descriptor_is_not_the_hosts_end() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        let mut watched = [Watched::new(OwnedFd::from(ours), PollFlags::RDHUP).expect("it is open")];
        let is_gone = |watched: &mut [Watched]| host_is_gone(watched, || false);
        assert!(!is_gone(&mut watched));
        let mine = watched[0].is;
        watched[0].is = FileId::of(rustix::stdio::stdin()).expect("there is one");
        drop(theirs);
        assert!(!is_gone(&mut watched), "it is another file's number now");
        watched[0].is = mine;
        assert!(is_gone(&mut watched));
    }

    #[test]
    fn what_looks_like_a_pidfd_only_says_when_to_look() {
        let counter =
            rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC).expect("there are some");
        let mut watched = [Watched::new(counter, PollFlags::IN).expect("it is open")];
        assert!(host_is_gone(&mut watched, || true));
        assert!(!host_is_gone(&mut watched, || false));
        assert!(watched[0].was_wrong, "it would be asked without pause");
    }

    #[test]
    fn the_peak_is_found_in_a_status() {
        assert_eq!(
            peak_in(b"Name:\tpython\nVmPeak:\t 9 kB\nVmHWM:\t   59628 kB\nVmRSS:\t 7 kB\n"),
            Some(59628 * 1024)
        );
        assert_eq!(peak_in(b"Name:\tkthreadd\n"), None);
        assert!(peak_in(&std::fs::read("/proc/self/status").expect("we are alive")) > Some(100_000));
    }
}
