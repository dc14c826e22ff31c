//! A place in the pool, and the process that fills it just now.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::core::Core;
use super::evidence::{Baseline, OomWatch, report_in};
use super::failure::Ended;
use super::memory::Watched;
use super::nested::Nest;
use super::output::Output;
use super::streams::{Speaker, Streams};
use super::waker::{Topic, Waker};
use crate::ipc::HostLink;
use crate::scheduler::types::{Assignment, KillReason, TaskId, Time, WorkerId};
use crate::supervisor::{Exit, Process, Spawned};

/// A place has room for two processes: for the one that fills it, and for one that is started before the other has gone.
pub(super) const SEATS_PER_SLOT: usize = 2;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one process, not a state")]
pub(super) struct Seat {
    /// The process that fills the place, or that has been asked for.
    pub(super) id: WorkerId,
    pub(super) process: Option<Process>,
    /// When that was started.
    pub(super) started: Time,
    pub(super) link: Option<HostLink>,
    pub(super) streams: Streams,
    pub(super) nest: Nest,
    /// The socket was full; the driver waits until it is writable.
    pub(super) blocked: bool,
    /// How the previous process of this place ended.
    pub(super) ended: Option<(WorkerId, Ended)>,
    /// The process was asked for, and there is no news of it.
    pub(super) awaited: bool,
    /// A kill came before the process was started.
    pub(super) doomed: bool,
    /// The socket is closed; `true` once that has been so for a tick.
    hung_up: Option<bool>,
    problem: Option<String>,
    /// We have sent it a signal, for this.
    pub(super) killed: Option<KillReason>,
    pub(super) baseline: Option<Baseline>,
    /// What it was sent last that has a limit on memory.
    pub(super) watched: Option<Watched>,
    /// Dispatches for which the ring has no room yet.
    pub(super) outbox: VecDeque<Assignment>,
    /// It is to be told to leave.
    pub(super) stopping: bool,
    /// The process's exit is not reported: it has no pidfd, or that could not be watched.
    pub(super) unwatched: bool,
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            id: WorkerId { slot: 0, incarnation: 0 },
            process: None,
            started: Time::ZERO,
            link: None,
            streams: Streams::default(),
            nest: Nest::default(),
            blocked: false,
            ended: None,
            awaited: false,
            doomed: false,
            hung_up: None,
            problem: None,
            killed: None,
            baseline: None,
            watched: None,
            outbox: VecDeque::new(),
            stopping: false,
            unwatched: false,
        }
    }
}

// Which seat is whose.
impl Core {
    /// The seat of this process; another one of the same place, if that has none.
    pub(super) fn place(&self, id: WorkerId) -> usize {
        let first = SEATS_PER_SLOT * id.slot as usize;
        first + usize::from(self.seats[first].id != id)
    }

    /// A seat for the next process of this place. There is one: the scheduler has no more than two there at a time.
    pub(super) fn vacant_place(&self, slot: u32) -> usize {
        let first = SEATS_PER_SLOT * slot as usize;
        let taken = self.seats[first].process.is_some() || self.seats[first].awaited;
        first + usize::from(taken)
    }

    /// The seat, if that very process fills it.
    pub(super) fn seat(&mut self, id: WorkerId) -> Option<&mut Seat> {
        let place = self.place(id);
        self.seats.get_mut(place).filter(|seat| seat.id == id)
    }

    fn seats_of(&self, id: WorkerId) -> &[Seat] {
        let first = SEATS_PER_SLOT * id.slot as usize;
        &self.seats[first..first + SEATS_PER_SLOT]
    }

    /// What this worker has begun and not answered.
    pub(super) fn begun_by(&self, id: WorkerId) -> Option<Assignment> {
        self.seats_of(id).iter().find(|seat| seat.id == id)?.link.as_ref()?.begun()
    }

    /// The process id of this very process, living or ended not long ago.
    pub(super) fn pid_of(&self, id: WorkerId) -> Option<i32> {
        self.seats_of(id).iter().find_map(|seat| seat.pid_of(id))
    }

    /// How this process ended, if that was not long ago.
    pub(super) fn ended_of(&self, id: WorkerId) -> Option<&Ended> {
        let mut ended = self.seats_of(id).iter().filter_map(|seat| seat.ended.as_ref());
        ended.find(|(ended, _)| *ended == id).map(|(_, how)| how)
    }
}

impl Seat {
    /// A process was asked for.
    pub(super) fn reserve(&mut self, id: WorkerId) {
        *self = Self { id, awaited: true, ended: self.ended.take(), ..Self::default() };
    }

    /// It has been started.
    pub(super) fn install(&mut self, spawned: Spawned, waker: &Waker, id: WorkerId) {
        let heard = waker.watch(spawned.link.as_fd(), Topic::Link, id, true);
        self.streams.install(spawned.pipes, spawned.output, waker, id);
        self.nest.install(spawned.asked, waker, id);
        let watched =
            spawned.process.exit_watch().is_some_and(|pidfd| waker.watch(pidfd, Topic::Exit, id, true));
        self.unwatched = !watched;
        self.awaited = false;
        self.process = Some(spawned.process);
        self.link = Some(spawned.link);
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

    /// Whether there may be room for what waits in the outbox.
    pub(super) fn has_room_again(&self) -> bool {
        let waits = self.stopping || !self.outbox.is_empty();
        waits && self.link.as_ref().is_some_and(HostLink::has_more_room)
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

    /// Take what it has printed, up to the answer of this task.
    pub(super) fn hear(&mut self, task: TaskId, newest: u64, output: &Output) {
        let speaker = self.speaker(Some(task), newest);
        self.streams.read_all(speaker, output);
    }

    /// Take what it has printed before it was ready: no task has.
    pub(super) fn hear_start(&mut self, newest: u64, output: &Output) {
        let speaker = self.speaker(None, newest);
        self.streams.read_all(speaker, output);
    }

    /// Take what is there of this. `false` once there will be no more.
    pub(super) fn read(&mut self, topic: Topic, newest: u64, output: &Output) -> bool {
        let begun = self.link.as_ref().and_then(HostLink::begun).map(|run| run.task);
        let speaker = self.speaker(begun, newest);
        self.streams.read(topic, speaker, output)
    }

    fn speaker(&self, begun: Option<TaskId>, newest: u64) -> Speaker {
        Speaker { pid: self.process.as_ref().map_or(0, Process::pid), begun, newest }
    }

    /// Sweep up after the process, which has ended. Returns what it had begun, and how it ended.
    pub(super) fn bury(
        &mut self,
        waker: &Waker,
        newest: u64,
        output: &Output,
        oom: &mut OomWatch,
    ) -> Option<(Option<Assignment>, Ended)> {
        self.process.as_ref()?.kill_group();
        let begun = self.link.as_ref().and_then(HostLink::begun);
        let speaker = self.speaker(begun.map(|run| run.task), newest);
        self.streams.read_all(speaker, output);
        let process = self.process.take()?;
        let link = self.link.take();
        let item = link.as_ref().and_then(|link| link.items().checked_sub(1));
        // The socket is still open where a process that the task started holds the worker's end.
        if let Some(link) = link.as_ref().filter(|_| self.hung_up.is_none()) {
            waker.watch(link.as_fd(), Topic::Link, self.id, false);
        }
        for topic in [Topic::Stdout, Topic::Stderr, Topic::Output] {
            self.streams.close(topic, waker, self.id);
        }
        if let Some(pidfd) = process.exit_watch() {
            waker.watch(pidfd, Topic::Exit, self.id, false);
        }
        let foreign = self.killed.is_none() && self.problem.is_none();
        let baseline = self.baseline.take().filter(|_| foreign && process.was_killed());
        let oom = baseline.and_then(|baseline| oom.judge(process.pid(), &baseline));
        let pid = process.pid();
        let (exit, counted) = process.reap();
        let stderr = self.streams.tail.take_text();
        let shown = self.streams.fatal.take_text();
        let stack = match exit {
            Exit::Signal(_) if !shown.is_empty() => shown,
            exit => report_in(&stderr, exit).to_owned(),
        };
        let peak_memory = link.as_ref().and_then(|link| link.peak_memory(counted));
        let (problem, killed) = (self.problem.take(), self.killed);
        let memory = self.watched.take().map(|watched| watched.usage);
        Some((begun, Ended { pid, exit, stderr, stack, peak_memory, memory, oom, item, problem, killed }))
    }
}
