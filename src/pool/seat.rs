//! A place in the pool, and the process that fills it just now.

use std::os::fd::AsFd;

use super::failure::Ended;
use super::stderr::Tail;
use super::waker::{Topic, Waker};
use crate::ipc::{HostFd, HostLink, Outgoing, Page};
use crate::scheduler::types::{Assignment, WorkerId};
use crate::supervisor::{Process, Spawned, read_stderr};

/// What one read takes from a worker's stderr: the size of a pipe.
const STDERR_READ_BYTES: usize = 64 * 1024;

/// How much is read from a dead worker's stderr: a grandchild may hold the pipe and write for ever.
const STDERR_LAST_READS: usize = 16;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one process, not a state")]
pub(super) struct Seat {
    /// The process that fills the place, or that has been asked for.
    pub(super) id: WorkerId,
    pub(super) process: Option<Process>,
    pub(super) link: Option<HostLink>,
    pub(super) stderr: Option<HostFd>,
    pub(super) page: Option<Page>,
    /// The socket was full; the driver waits until it is writable.
    pub(super) blocked: bool,
    /// How the previous process of this place ended.
    pub(super) ended: Option<(WorkerId, Ended)>,
    tail: Tail,
    /// A kill came before the process was started.
    pub(super) doomed: bool,
    /// The socket is closed; `true` once that has been so for a tick.
    hung_up: Option<bool>,
    problem: Option<String>,
    pub(super) last_sent: Option<Assignment>,
    /// Something pushed waits for the kernel to have memory.
    pub(super) starved: bool,
    /// The process's exit is not reported: it has no pidfd, or that could not be watched.
    pub(super) unwatched: bool,
    /// Read from stderr, and not passed on yet.
    pub(super) unpumped: Vec<Vec<u8>>,
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            id: WorkerId { slot: 0, incarnation: 0 },
            process: None,
            link: None,
            stderr: None,
            page: None,
            blocked: false,
            ended: None,
            tail: Tail::default(),
            doomed: false,
            hung_up: None,
            problem: None,
            last_sent: None,
            starved: false,
            unwatched: false,
            unpumped: Vec::new(),
        }
    }
}

impl Seat {
    /// A process was asked for.
    pub(super) fn reserve(&mut self, id: WorkerId) {
        *self = Self {
            id,
            ended: self.ended.take(),
            unpumped: std::mem::take(&mut self.unpumped),
            ..Self::default()
        };
    }

    /// It has been started.
    pub(super) fn install(&mut self, spawned: Spawned, waker: &Waker, id: WorkerId) {
        let heard = waker.watch(spawned.link.as_fd(), Topic::Link, id, true);
        waker.watch(spawned.stderr.as_fd(), Topic::Stderr, id, true);
        let watched =
            spawned.process.exit_watch().is_some_and(|pidfd| waker.watch(pidfd, Topic::Exit, id, true));
        self.unwatched = !watched;
        self.process = Some(spawned.process);
        self.link = Some(spawned.link);
        self.stderr = Some(spawned.stderr);
        self.page = spawned.page;
        if self.doomed {
            self.kill();
        } else if !heard {
            self.give_up("its control socket cannot be watched");
        }
    }

    /// The process id of this very process, living or just ended.
    pub(super) fn pid_of(&self, id: WorkerId) -> Option<i32> {
        match (&self.process, &self.ended) {
            (Some(process), _) if self.id == id => Some(process.pid()),
            (_, Some((ended, how))) if *ended == id => Some(how.pid),
            _ => None,
        }
    }

    pub(super) fn push(&mut self, frame: Outgoing, job: Option<Assignment>) {
        if let Some(link) = self.link.as_mut() {
            link.push(frame);
        }
        self.last_sent = job.or(self.last_sent);
    }

    pub(super) fn kill(&mut self) {
        match &self.process {
            Some(process) => process.kill_group(),
            None => self.doomed = true,
        }
    }

    /// The worker is of no use any more, for a reason that its exit status will not tell.
    pub(super) fn give_up(&mut self, problem: &str) {
        self.problem.get_or_insert_with(|| problem.to_owned());
        self.kill();
    }

    /// The worker's end of the socket is closed: it is dying, and its exit will be reported in a moment.
    pub(super) fn hang_up(&mut self, waker: &Waker) {
        let Some(link) = self.link.take() else { return };
        waker.watch(link.as_fd(), Topic::Link, self.id, false);
        self.hung_up = Some(false);
    }

    /// Once per tick: a worker that lives on for a whole tick without a socket is killed.
    pub(super) fn check_hung_up(&mut self) {
        match self.hung_up {
            Some(true) => self.give_up("a task closed its control socket"),
            Some(false) => self.hung_up = Some(true),
            None => {}
        }
    }

    /// Take what is there. `false` once there will be no more.
    pub(super) fn read_stderr(&mut self) -> bool {
        let Some(stderr) = &self.stderr else { return false };
        let mut buffer = vec![0; STDERR_READ_BYTES];
        match read_stderr(stderr, &mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                buffer.truncate(read);
                buffer.shrink_to_fit(); // it may wait long for the host's stderr
                self.tail.push(&buffer);
                self.unpumped.push(buffer);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// Sweep up after the process, which has ended. Returns what it had begun, and how it ended.
    pub(super) fn bury(&mut self, waker: &Waker) -> Option<(Option<Assignment>, Ended)> {
        let process = self.process.take()?;
        process.kill_group();
        for _ in 0..STDERR_LAST_READS {
            let before = self.unpumped.len();
            if !self.read_stderr() || self.unpumped.len() == before {
                break;
            }
        }
        // Still open where a process that the task started holds the worker's end.
        if let Some(link) = self.link.take() {
            waker.watch(link.as_fd(), Topic::Link, self.id, false);
        }
        if let Some(stderr) = self.stderr.take() {
            waker.watch(stderr.as_fd(), Topic::Stderr, self.id, false);
        }
        if let Some(pidfd) = process.exit_watch() {
            waker.watch(pidfd, Topic::Exit, self.id, false);
        }
        let begun = match self.page.take() {
            Some(page) => Some(page.begun()),
            None => self.last_sent,
        };
        let pid = process.pid();
        let exit = process.reap();
        let ended = Ended { pid, exit, stderr: self.tail.take_text(), problem: self.problem.take() };
        Some((begun, ended))
    }
}
