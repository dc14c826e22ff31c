//! What the pool's lock protects: the scheduler, and the things of the world that its actions are done to.
//!
//! Whoever has a fact (a submitting thread, the driver) takes the lock, hands it to the scheduler and runs the
//! actions that follow. Nothing in here knows of Python, so nothing in here can want the GIL.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::evidence::{Baseline, Earlier, OomWatch};
use super::failure::{Ended, end_in_words};
use super::history::History;
use super::names::Names;
use super::nested::Nested;
use super::output::Output;
use super::results::ResultStore;
use super::seat::{SEATS_PER_SLOT, Seat};
use super::slot::Slot;
use super::turnover::{Lifetime, Renewal};
use super::waker::{Topic, Waker};
use super::work::Work;
use crate::ipc::{Arena, HostBell};
use crate::scheduler::types::{Assignment, Shutdown, TaskId, Time, WorkerId};
use crate::scheduler::{Scheduler, TaskMap};
use crate::supervisor::{Process, Spawned};

/// How often heartbeats are read, and processes without a pidfd looked at. Four looks within the limit after
/// which an idle worker counts as frozen; two wake-ups a second cost an idle pool nothing measurable.
const TICK: Duration = Duration::from_millis(500);

/// The same where some process has no pidfd: its death is only noticed by looking.
const TICK_WITHOUT_PIDFD: Duration = Duration::from_millis(100);

/// An arena that nobody has taken anything from for this long gives its pages back. Getting them back costs a tenth of a
/// second per 100 MB, so not at the first pause.
const ARENA_REST: Duration = Duration::from_secs(5);

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
    pub(super) work: Work,
    pub(super) name: Arc<str>,
    pub(super) tags: Option<Arc<Vec<String>>>,
    pub(super) slot: Arc<Slot>,
    /// It may be begun more than once.
    pub(super) again: bool,
    /// It has a limit on memory.
    pub(super) limited: bool,
    pub(super) submitted: Time,
    pub(super) dispatched: Option<(Time, WorkerId)>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    /// [`SEATS_PER_SLOT`] for each place.
    pub(super) seats: Vec<Seat>,
    pub(super) results: ResultStore,
    pub(super) history: History,
    /// Called, under the lock, whenever a task has ended.
    pub(super) on_finish: Vec<OnFinish>,
    pub(super) entries: TaskMap<Entry>,
    /// Bytes of their payloads, names and tags.
    pub(super) waiting_bytes: usize,
    pub(super) born: Instant,
    pub(super) waker: Arc<Waker>,
    /// Announces observed futures to the Python collector. Gone once the pool has finished.
    pub(super) collector: Option<Sender<TaskId>>,
    pub(super) config: Arc<Vec<u8>>,
    /// What the next process is started with instead.
    pub(super) renewal: Option<Renewal>,
    pub(super) lifetime: Lifetime,
    pub(super) hello: Vec<u8>,
    pub(super) executable: String,
    /// Processes to start; the driver does that without the lock.
    pub(super) spawns: VecDeque<WorkerId>,
    /// What the driver sleeps until. Whoever sets an earlier deadline rings the bell.
    pub(super) sleeps_until: Option<Time>,
    pub(super) last_ended: Option<Ended>,
    ticked: Time,
    /// When it is next looked how much memory those tasks take that have a limit, if some run.
    pub(super) memory_look: Option<Time>,
    rested: Time,
    /// The arena is to rest: by the driver, and without the lock, since giving pages back takes long.
    pub(super) rest_due: bool,
    pub(super) oom: OomWatch,
    /// Of tasks that are tried again.
    pub(super) earlier: Earlier,
    /// Tasks that raised: answered, as far as the scheduler knows.
    pub(super) raised: u64,
    /// The workers were asked to go by SIGTERM, and have so long.
    pub(super) gentle_until: Option<Time>,
    /// Set once the pool is broken: why.
    pub(super) broken: Option<Arc<str>>,
    pub(super) finished: bool,
    pub(super) names: Names,
    pub(super) nested: Nested,
    pub(super) bell: Arc<HostBell>,
    pub(super) arena: Arc<Arena>,
    pub(super) output: Arc<Output>,
    /// How many want to hear of results without turning the crank themselves: observed futures, hooks, followers.
    pub(super) attention: Arc<AtomicI64>,
    /// Where the next submitter looks for answers.
    pub(super) next_look: usize,
    /// When a submitter looked last, and how many have not since then.
    pub(super) looked: Time,
    pub(super) unlooked: u32,
    /// How long the last task ran that was answered.
    pub(super) ran: Duration,
    /// Something was resolved since the last [`Core::run_actions`].
    pub(super) resolved: bool,
    /// Workers that were sent something since then.
    pub(super) dirty: Vec<usize>,
}

/// What a pool is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) workers: u32,
    pub(super) seed: u64,
    pub(super) lifetime: Lifetime,
    pub(super) slow_starts: bool,
    pub(super) results: ResultStore,
    pub(super) waker: Arc<Waker>,
    pub(super) bell: Arc<HostBell>,
    pub(super) arena: Arc<Arena>,
    pub(super) output: Arc<Output>,
    pub(super) attention: Arc<AtomicI64>,
    pub(super) collector: Sender<TaskId>,
    pub(super) config: Arc<Vec<u8>>,
    pub(super) hello: Vec<u8>,
    pub(super) executable: String,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let mut scheduler = Scheduler::new(parts.workers, parts.seed, Duration::ZERO);
        if let Some(limit) = parts.lifetime.tasks {
            scheduler.limit_tasks(limit);
        }
        if parts.slow_starts {
            scheduler.allow_slow_starts();
        }
        let mut core = Self {
            scheduler,
            seats: (0..SEATS_PER_SLOT * parts.workers as usize).map(|_| Seat::default()).collect(),
            results: parts.results,
            history: History::default(),
            on_finish: Vec::new(),
            entries: TaskMap::default(),
            waiting_bytes: 0,
            born: Instant::now(),
            waker: parts.waker,
            collector: Some(parts.collector),
            config: parts.config,
            renewal: None,
            lifetime: parts.lifetime,
            hello: parts.hello,
            executable: parts.executable,
            spawns: VecDeque::new(),
            sleeps_until: None,
            last_ended: None,
            oom: OomWatch::default(),
            earlier: Earlier::default(),
            raised: 0,
            ticked: Time::ZERO,
            memory_look: None,
            rested: Time::ZERO,
            rest_due: false,
            gentle_until: None,
            broken: None,
            finished: false,
            names: Names::default(),
            nested: Nested::default(),
            bell: parts.bell,
            arena: parts.arena,
            output: parts.output,
            attention: parts.attention,
            ran: Duration::ZERO,
            next_look: 0,
            looked: Time::ZERO,
            unlooked: 0,
            resolved: false,
            dirty: Vec::new(),
        };
        core.run_actions(Time::ZERO);
        core
    }

    pub(super) fn now(&self) -> Time {
        self.born.elapsed()
    }

    pub(super) fn shutdown(&mut self, mode: Shutdown) {
        let now = self.now();
        self.look_at_all(now); // what is done is done
        self.scheduler.shutdown(mode, now);
        self.run_actions(now);
    }

    /// Write to this worker what could not be written before.
    pub(super) fn flush(&mut self, id: WorkerId) {
        let waker = Arc::clone(&self.waker);
        let Some(seat) = self.seat(id) else { return };
        let Some(link) = seat.link.as_mut() else { return };
        let flushed = link.flush();
        let blocked = matches!(flushed, Ok(false));
        if blocked != seat.blocked {
            seat.blocked = blocked;
            waker.watch_writable(link.as_fd(), id, blocked);
        }
        if flushed.is_err() {
            seat.hang_up(&waker); // the process's exit tells the rest
        }
    }

    /// The driver has started this process.
    pub(super) fn install(&mut self, id: WorkerId, spawned: Spawned, baseline: Option<Baseline>) {
        let config = Arc::clone(&self.config);
        let waker = Arc::clone(&self.waker);
        let now = self.now();
        let place = self.place(id);
        let seat = &mut self.seats[place];
        seat.install(spawned, &waker, id);
        seat.started = now;
        if let Some(baseline) = &baseline {
            self.oom.started(baseline, now);
        }
        seat.baseline = baseline;
        if let Some(link) = seat.link.as_mut() {
            link.configure(&config);
        }
        self.flush(id);
    }

    /// This process could not be started.
    pub(super) fn spawn_failed(&mut self, id: WorkerId, error: &std::io::Error) {
        let problem = format!("could not be started: {error}");
        self.note_end(id, Ended { problem: Some(problem), ..Ended::unknown() });
        let now = self.now();
        self.scheduler.handle_spawn_failed(id, crate::supervisor::is_transient(error), now);
        self.run_actions(now);
    }

    /// A process has ended: take what it still had to say, then its status.
    pub(super) fn reap(&mut self, id: WorkerId) {
        if self.seat(id).is_none_or(|seat| seat.process.is_none()) {
            return;
        }
        self.bell.keep_promise();
        self.last_word(id);
        // A finished result must not count as lost, so the ring is emptied first.
        let place = self.place(id);
        self.receive(place, self.now());
        self.hear_last_of_nest(id);
        let waker = Arc::clone(&self.waker);
        if let Some(link) = &self.seats[place].link {
            link.bury(&self.arena);
        }
        let (newest, output) = (self.scheduler.submitted(), Arc::clone(&self.output));
        let buried = self.seats[place].bury(&waker, newest, &output, &mut self.oom);
        let Some((begun, ended)) = buried else { return };
        let nest = self.seat(id).map(|seat| seat.nest.close(&waker, id)).unwrap_or_default();
        self.ended(id, begun, ended);
        self.bury_nest(id, nest);
    }

    fn ended(&mut self, id: WorkerId, begun: Option<Assignment>, ended: Ended) {
        let how = begun.map(|run| (run, end_in_words(&ended)));
        self.note_end(id, ended);
        let now = self.now();
        self.scheduler.handle_exit(id, begun, now);
        self.run_actions(now);
        if let Some((run, how)) = how {
            self.note_lost(run.task, &how);
        }
    }

    /// An attempt has ended so. If that was not the end of the task, it is remembered.
    pub(super) fn note_lost(&mut self, task: TaskId, how: &str) {
        if self.entries.contains(task)
            && let Some(next) = self.scheduler.tries(task)
        {
            self.earlier.add(task, next.made - 1, how);
        }
    }

    fn note_end(&mut self, id: WorkerId, ended: Ended) {
        self.last_ended = Some(ended.clone());
        let place = self.place(id);
        self.seats[place].awaited = false;
        self.seats[place].ended = Some((id, ended));
    }

    /// Read all heartbeats, and look for processes that ended unwatched.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        self.ticked = now;
        if self.rested.saturating_add(ARENA_REST) <= now {
            self.rested = now;
            self.rest_due = true;
        }
        self.results.evict(now);
        self.oom.look(now);
        self.end_gentleness(now);
        for slot in 0..self.seats.len() {
            let seat = &mut self.seats[slot];
            seat.check_hung_up();
            let id = seat.id;
            if let Some(link) = &seat.link {
                self.scheduler.handle_beat(id, link.beats(), link.begun().is_some(), now);
            }
            if seat.process.as_ref().is_some_and(Process::has_ended) {
                self.reap(id);
            } else {
                self.flush(id);
                if let Some(link) = self.seats[slot].link.as_mut() {
                    link.take_away();
                    link.forget_dead(); // those that find no room, at the next tick
                }
                self.pump(slot); // a wake-up that was lost, if that can be, is late and not lost
            }
        }
        self.recycle(now);
        self.run_actions(now);
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
        let (due, tick) = (self.next_due(), self.next_tick());
        [due, tick, self.results.next_expiry()].into_iter().flatten().min()
    }

    /// The same, of what may have come up since it fell asleep.
    pub(super) fn next_due(&self) -> Option<Time> {
        [self.scheduler.poll_timeout(), self.memory_look].into_iter().flatten().min()
    }

    /// This worker has something to say.
    pub(super) fn hear(&mut self, id: WorkerId, topic: Topic) {
        let (newest, output) = (self.scheduler.submitted(), Arc::clone(&self.output));
        let waker = Arc::clone(&self.waker);
        let Some(seat) = self.seat(id) else { return };
        if !seat.read(topic, newest, &output) {
            seat.streams.close(topic, &waker, id);
        }
    }
}
