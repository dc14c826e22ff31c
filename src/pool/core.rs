//! What the pool's lock protects: the scheduler, and the things of the world that its actions are done to.
//!
//! Whoever has a fact (a submitting thread, the driver) takes the lock, hands it to the scheduler and runs the
//! actions that follow. Nothing in here knows of Python, so nothing in here can want the GIL.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::failure::Ended;
use super::history::History;
use super::look::Present;
use super::results::ResultStore;
use super::seat::Seat;
use super::slot::{Outcome, Slot};
use super::waker::{Topic, Waker};
use crate::ipc::{Flushed, Incoming, Outgoing, Received};
use crate::scheduler::types::{Assignment, Cancel, Completion, Shutdown, TaskId, TaskSpec, Time, WorkerId};
use crate::scheduler::{Scheduler, SubmitError, TaskMap};
use crate::supervisor::{Exit, Process, Spawned};

/// How often heartbeats are read, and processes without a pidfd looked at. Four looks within the limit after
/// which an idle worker counts as frozen; two wake-ups a second cost an idle pool nothing measurable.
const TICK: Duration = Duration::from_millis(500);

/// The same where some process has no pidfd: its death is only noticed by looking.
const TICK_WITHOUT_PIDFD: Duration = Duration::from_millis(100);

/// Who will want a task's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only whoever holds the future.
    ForTheFuture,
    /// Whoever has its id, in this process.
    ForItsId,
    /// Whoever has its id, anywhere: the worker describes the value as well.
    ForEverybody,
}

/// See [`Core::on_finish`]. Says whether it wants to be called again.
pub(super) struct OnFinish(pub(super) Box<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for OnFinish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFinish")
    }
}

/// What is kept for a task until it is resolved.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) payload: Arc<Vec<u8>>,
    pub(super) name: Arc<str>,
    pub(super) slot: Arc<Slot>,
    /// Ask the worker for a value that can be shown.
    pub(super) describe: bool,
    pub(super) submitted: Time,
    pub(super) dispatched: Option<(Time, WorkerId)>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    pub(super) seats: Vec<Seat>,
    pub(super) results: ResultStore,
    pub(super) history: History,
    /// Called, under the lock, whenever a task has ended.
    pub(super) on_finish: Vec<OnFinish>,
    pub(super) entries: TaskMap<Entry>,
    born: Instant,
    pub(super) waker: Arc<Waker>,
    /// Announces observed futures to the Python collector. Gone once the pool has finished.
    pub(super) collector: Option<Sender<TaskId>>,
    config: Arc<Vec<u8>>,
    hello: Vec<u8>,
    pub(super) executable: String,
    /// Processes to start; the driver does that without the lock.
    pub(super) spawns: VecDeque<WorkerId>,
    /// What the driver sleeps until. Whoever sets an earlier deadline rings the bell.
    pub(super) sleeps_until: Option<Time>,
    pub(super) last_ended: Option<Ended>,
    ticked: Time,
    /// Tasks that raised: answered, as far as the scheduler knows.
    pub(super) raised: u64,
    /// Set once the pool is broken: why.
    pub(super) broken: Option<Arc<str>>,
    pub(super) finished: bool,
    last_name: Arc<str>,
}

/// What a pool is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) workers: u32,
    pub(super) seed: u64,
    pub(super) results: ResultStore,
    pub(super) waker: Arc<Waker>,
    pub(super) collector: Sender<TaskId>,
    pub(super) config: Arc<Vec<u8>>,
    pub(super) hello: Vec<u8>,
    pub(super) executable: String,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let mut core = Self {
            scheduler: Scheduler::new(parts.workers, parts.seed, Duration::ZERO),
            seats: (0..parts.workers).map(|_| Seat::default()).collect(),
            results: parts.results,
            history: History::default(),
            on_finish: Vec::new(),
            entries: TaskMap::default(),
            born: Instant::now(),
            waker: parts.waker,
            collector: Some(parts.collector),
            config: parts.config,
            hello: parts.hello,
            executable: parts.executable,
            spawns: VecDeque::new(),
            sleeps_until: None,
            last_ended: None,
            raised: 0,
            ticked: Time::ZERO,
            broken: None,
            finished: false,
            last_name: Arc::from(""),
        };
        core.run_actions();
        core
    }

    pub(super) fn now(&self) -> Time {
        self.born.elapsed()
    }

    pub(super) fn submit(
        &mut self,
        payload: Arc<Vec<u8>>,
        name: &str,
        spec: TaskSpec,
        keep: Keep,
    ) -> Result<Arc<Slot>, SubmitError> {
        if self.finished && self.broken.is_none() {
            return Err(SubmitError::ShutDown);
        }
        let now = self.now();
        let id = self.scheduler.submit(spec, now)?;
        if &*self.last_name != name {
            self.last_name = Arc::from(name);
        }
        let slot = Slot::new(id, keep != Keep::ForTheFuture);
        if keep != Keep::ForTheFuture {
            self.results.insert(Arc::clone(&slot));
        }
        let entry = Entry {
            payload,
            name: Arc::clone(&self.last_name),
            slot: Arc::clone(&slot),
            describe: keep == Keep::ForEverybody,
            submitted: now,
            dispatched: None,
        };
        self.entries.insert(id, entry);
        self.run_actions();
        Ok(slot)
    }

    pub(super) fn cancel(&mut self, id: TaskId) -> bool {
        let cancelled = self.scheduler.cancel(id, self.now()) == Cancel::Cancelled;
        if cancelled {
            self.resolve(id, Outcome::Cancelled);
        }
        self.run_actions();
        cancelled
    }

    pub(super) fn shutdown(&mut self, mode: Shutdown) {
        let now = self.now();
        self.scheduler.shutdown(mode, now);
        self.run_actions();
    }

    /// Take what this worker has sent.
    pub(super) fn receive(&mut self, id: WorkerId) -> Received {
        let waker = Arc::clone(&self.waker);
        let Some(seat) = self.seat(id) else { return Received::Closed };
        let Some(link) = seat.link.as_mut() else { return Received::Closed };
        let mut frames = Vec::new();
        let received = link.receive(seat.last_sent, &mut frames);
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                seat.give_up(&error.to_string());
                Received::Closed
            }
        };
        if received == Received::Closed {
            // Its end of the socket is closed, by its death or by its doing; either way it is of no more use.
            seat.hang_up(&waker);
        }
        for frame in frames {
            self.handle_frame(id, frame);
        }
        received
    }

    fn handle_frame(&mut self, id: WorkerId, frame: Incoming) {
        let now = self.now();
        let (job, outcome) = match frame {
            Incoming::Ready(hello) if hello == self.hello => return self.scheduler.handle_ready(id, now),
            Incoming::Ready(hello) => {
                let problem = format!(
                    "the worker is {}, the host is {}: both must be the same",
                    String::from_utf8_lossy(&hello),
                    String::from_utf8_lossy(&self.hello)
                );
                if let Some(seat) = self.seat(id) {
                    seat.give_up(&problem);
                }
                return;
            }
            Incoming::Value(job, bytes) => (job, Outcome::Value(Arc::new(bytes))),
            Incoming::Described(job, bytes) => (job, Outcome::Described(Arc::new(bytes))),
            Incoming::Error(job, bytes) => (job, Outcome::Error(Arc::new(bytes))),
        };
        if self.scheduler.handle_completed(id, job, now) == Completion::Final {
            self.raised += u64::from(matches!(outcome, Outcome::Error(_)));
            self.resolve(job.task, outcome);
        }
    }

    /// Write to this worker what could not be written before.
    pub(super) fn flush(&mut self, id: WorkerId) {
        let waker = Arc::clone(&self.waker);
        let Some(seat) = self.seat(id) else { return };
        let Some(link) = seat.link.as_mut() else { return };
        let flushed = link.flush();
        seat.starved = matches!(flushed, Ok(Flushed::Starved)); // the next tick tries again
        let blocked = matches!(flushed, Ok(Flushed::Blocked));
        if blocked != seat.blocked {
            seat.blocked = blocked;
            waker.watch_writable(link.as_fd(), id, blocked);
        }
        if flushed.is_err() {
            seat.hang_up(&waker); // the process's exit tells the rest
        }
    }

    /// The driver has started this process.
    pub(super) fn install(&mut self, id: WorkerId, spawned: Spawned) {
        let config = Arc::clone(&self.config);
        let waker = Arc::clone(&self.waker);
        let seat = &mut self.seats[id.slot as usize];
        seat.install(spawned, &waker, id);
        if let Some(link) = seat.link.as_mut() {
            link.push(Outgoing::Config(config));
        }
        self.flush(id);
    }

    /// This process could not be started.
    pub(super) fn spawn_failed(&mut self, id: WorkerId, error: &std::io::Error) {
        let problem = format!("could not be started: {error}");
        self.note_end(
            id,
            Ended { pid: 0, exit: Exit::Unknown, stderr: String::new(), problem: Some(problem) },
        );
        let now = self.now();
        self.scheduler.handle_spawn_failed(id, crate::supervisor::is_transient(error), now);
        self.run_actions();
    }

    /// A process has ended: take what it still had to say, then its status.
    pub(super) fn reap(&mut self, id: WorkerId) {
        if self.seat(id).is_none_or(|seat| seat.process.is_none()) {
            return;
        }
        // A finished result must not count as lost, so the socket is emptied first. More than one budget of it
        // can be waiting.
        while self.receive(id) == Received::More {}
        let waker = Arc::clone(&self.waker);
        let Some((begun, ended)) = self.seat(id).and_then(|seat| seat.bury(&waker)) else { return };
        self.ended(id, begun, ended);
    }

    fn ended(&mut self, id: WorkerId, begun: Option<Assignment>, ended: Ended) {
        self.note_end(id, ended);
        let now = self.now();
        self.scheduler.handle_exit(id, begun, now);
        self.run_actions();
    }

    fn note_end(&mut self, id: WorkerId, ended: Ended) {
        self.last_ended = Some(ended.clone());
        self.seats[id.slot as usize].ended = Some((id, ended));
    }

    /// Read all heartbeats, and look for processes that ended unwatched.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        self.ticked = now;
        self.results.evict(now);
        for slot in 0..self.seats.len() {
            let seat = &mut self.seats[slot];
            seat.check_hung_up();
            let id = seat.id;
            let starved = seat.starved;
            if let Some(page) = &seat.page {
                self.scheduler.handle_beat(id, page.beats(), now);
            }
            if seat.process.as_ref().is_some_and(Process::has_ended) {
                self.reap(id);
            } else if starved {
                self.flush(id);
            }
        }
        self.run_actions();
    }

    /// How often to [`Self::tick`]; `None` without processes.
    fn tick_interval(&self) -> Option<Duration> {
        if self.seats.iter().all(|seat| seat.process.is_none()) {
            return None;
        }
        let unwatched = self.seats.iter().any(|seat| seat.unwatched);
        Some(if unwatched { TICK_WITHOUT_PIDFD } else { TICK })
    }

    /// When the next tick is due.
    pub(super) fn next_tick(&self) -> Option<Time> {
        self.tick_interval().map(|interval| self.ticked + interval)
    }

    /// When the driver must look again, if nothing happens before.
    pub(super) fn next_wake(&self) -> Option<Time> {
        let tick = self.next_tick();
        [self.scheduler.poll_timeout(), tick, self.results.next_expiry()].into_iter().flatten().min()
    }

    /// A task that has not been resolved.
    pub(super) fn present(&self, task: TaskId) -> Option<Present> {
        let entry = self.entries.get(&task)?;
        let now = self.now();
        let running = self.scheduler.is_running(task) == Some(true);
        let begun = entry.dispatched.filter(|_| running);
        Some(Present {
            task,
            name: Arc::clone(&entry.name),
            running,
            waited: begun.map_or(now, |(at, _)| at).saturating_sub(entry.submitted),
            ran: begun.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(at)),
            pid: begun.and_then(|(_, worker)| self.seats[worker.slot as usize].pid_of(worker)),
        })
    }

    /// The name of a task that has not been resolved.
    pub(super) fn task_name(&self, task: TaskId) -> Option<Arc<str>> {
        self.entries.get(&task).map(|entry| Arc::clone(&entry.name))
    }

    /// The seat, if that very process fills it.
    pub(super) fn seat(&mut self, id: WorkerId) -> Option<&mut Seat> {
        self.seats.get_mut(id.slot as usize).filter(|seat| seat.id == id)
    }

    pub(super) fn watch_stderr(&self, id: WorkerId, on: bool) {
        if let Some(stderr) = self.seats.get(id.slot as usize).and_then(|seat| seat.stderr.as_ref()) {
            self.waker.watch(stderr.as_fd(), Topic::Stderr, id, on);
        }
    }
}
