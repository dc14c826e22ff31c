//! A place in the pool, and the process that fills it just now.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::failure::Ended;
use super::stderr::Tail;
use super::waker::{Topic, Waker};
use crate::ipc::{HostFd, HostLink};
use crate::scheduler::types::{Assignment, Time, WorkerId};
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
    /// When that was started.
    pub(super) started: Time,
    pub(super) link: Option<HostLink>,
    pub(super) stderr: Option<HostFd>,
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
    /// Dispatches for which the ring has no room yet.
    pub(super) outbox: VecDeque<Assignment>,
    /// It is to be told to leave.
    pub(super) stopping: bool,
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
            started: Time::ZERO,
            link: None,
            stderr: None,
            blocked: false,
            ended: None,
            tail: Tail::default(),
            doomed: false,
            hung_up: None,
            problem: None,
            outbox: VecDeque::new(),
            stopping: false,
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

    /// Take back the newest dispatches, `count` at most, up to the first that the worker has begun. How many.
    pub(super) fn retract_last(&mut self, count: usize) -> usize {
        let kept = self.outbox.len().saturating_sub(count);
        let unsent = self.outbox.split_off(kept).len();
        let sent = self.link.as_mut().map_or(0, |link| link.retract_last(count - unsent));
        unsent + sent
    }

    /// Take back this dispatch. `false`: the worker has begun it.
    pub(super) fn retract(&mut self, run: Assignment) -> bool {
        if let Some(index) = self.outbox.iter().position(|&unsent| unsent == run) {
            self.outbox.remove(index);
            return true;
        }
        self.link.as_mut().is_some_and(|link| link.retract(run))
    }

    /// What it has not begun is taken out of its reach first: it must not be hit by a kill that is not meant for it.
    pub(super) fn kill(&mut self) {
        self.retract_last(usize::MAX);
        match &self.process {
            Some(process) => process.kill_group(),
            None => self.doomed = true,
        }
    }

    /// As [`Self::kill`], but it may catch the signal.
    pub(super) fn terminate(&mut self) {
        self.retract_last(usize::MAX);
        match &self.process {
            Some(process) => process.terminate(),
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
        let Some(link) = self.link.as_ref().filter(|_| self.hung_up.is_none()) else { return };
        waker.watch(link.as_fd(), Topic::Link, self.id, false);
        self.hung_up = Some(false); // the rings are still of use: what it has finished stands there
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
        let begun = self.link.as_ref().and_then(HostLink::begun);
        let item = self.link.as_ref().and_then(|link| link.items().checked_sub(1));
        // The socket is still open where a process that the task started holds the worker's end.
        if let Some(link) = self.link.take().filter(|_| self.hung_up.is_none()) {
            waker.watch(link.as_fd(), Topic::Link, self.id, false);
        }
        if let Some(stderr) = self.stderr.take() {
            waker.watch(stderr.as_fd(), Topic::Stderr, self.id, false);
        }
        if let Some(pidfd) = process.exit_watch() {
            waker.watch(pidfd, Topic::Exit, self.id, false);
        }
        let pid = process.pid();
        let exit = process.reap();
        let ended = Ended { pid, exit, stderr: self.tail.take_text(), item, problem: self.problem.take() };
        Some((begun, ended))
    }
}
