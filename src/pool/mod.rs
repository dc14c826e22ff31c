//! Where the scheduler meets the world.
//!
//! ```text
//!  caller's thread                      driver thread                     worker process
//!  submit ─► lock: Scheduler ─► ring ───────────────────────────────────► take, run
//!  result ─► lock: Scheduler ◄───────────────────────────────── ring ◄─── answer
//!                               exits, deadlines, heartbeats, restarts
//!                               and answers that nobody waits for
//! ```
//!
//! Any thread may turn the crank: take the lock, take all answers from all rings, feed them to the scheduler and run what
//! it wants done. A submitter does it on its way, a thread in `result()` does it until it has what it waits for (see
//! `wait`), the driver does the rest. None of them takes the GIL for it.

mod abandon;
mod accept;
mod actions;
mod answer;
mod batch;
mod bounded;
mod cancel;
mod core;
mod crank;
mod driver;
mod evidence;
mod failure;
mod greeting;
mod history;
mod look;
mod memory;
mod names;
mod needs;
mod nested;
mod output;
mod pieces;
mod results;
mod room;
mod seat;
mod slot;
mod stack;
mod status;
mod streams;
mod sweep;
mod termination;
mod turnover;
mod wait;
mod waker;
mod work;

pub use answer::{error_text, value_json, value_pickle, value_repr};
pub use batch::{Backlog, NewTask};
pub use failure::{Failure, FailureKind};
pub use history::Past;
pub use look::{Filter, ForeignCursor, Present};
pub use needs::Need;
pub use output::{Output, Piece, dropped_notice};
pub use results::{Lookup, Page, RetentionLimits};
pub use room::Patience;
pub use slot::{Outcome, Slot};
pub use stack::{STACK_LOOKS, StackLook, StackRequest};
pub use status::{CurrentTask, PoolStatus, TotalsStatus, WorkerStateName, WorkerStatus};
pub use turnover::{Lifetime, Renewal};
pub use wait::SPIN_WITH_GIL;
pub use work::{Keep, Manner, Work};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use parking_lot::{Condvar, Mutex};

use self::core::{Core, Parts};
use crate::ipc::{Arena, Form, HostBell, fork_generation};
use crate::scheduler::types::{Shutdown, TaskId, TaskSpec};
pub use crate::supervisor::SpawnSpec;
use results::ResultStore;
use waker::Waker;

/// Each takes a few descriptors and a process; more than this is a mistake (a time in ms given as a count, say).
pub const MAX_WORKERS: u32 = 1024;

/// How a pool is made.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Number of worker processes.
    pub workers: u32,
    /// The interpreter and its arguments.
    pub spawn: SpawnSpec,
    /// Sent to each worker first.
    pub config: Vec<u8>,
    /// What each worker must say of itself when it is ready.
    pub hello: Vec<u8>,
    /// Begins the pool's task ids; random, so that ids of different pools differ.
    pub prefix: String,
    /// Feeds the jitter.
    pub seed: u64,
    /// When workers are replaced.
    pub lifetime: Lifetime,
    /// Workers run code of the user's before they are ready.
    pub slow_starts: bool,
    /// How much `get_results` can look back on.
    pub retention: RetentionLimits,
    /// Memory for payloads that are too large for a ring.
    pub arena_bytes: usize,
    /// How long a submitter waits for some of it while nothing is under way that would free it.
    pub room_wait: Duration,
}

/// What outlives a pool: its futures keep this, and not the pool.
#[derive(Debug)]
pub struct Ident {
    /// The pool's number in this process.
    pub id: u64,
    /// Begins every task id of this pool, as text.
    prefix: Box<str>,
    generation: u32,
    /// What its tasks print.
    pub output: Arc<Output>,
}

impl Ident {
    /// The task's id as text: the pool's random prefix, and the task's number.
    pub fn id_text(&self, task: TaskId) -> String {
        format!("{}-{}", self.prefix, task.0)
    }

    /// An error in a process that is a fork of the owner. Comes before any lock: it may be held for ever there.
    pub fn check_owner(&self) -> Result<(), PoolError> {
        if self.generation == fork_generation() { Ok(()) } else { Err(PoolError::Forked) }
    }
}

/// Numbers the pools of this process.
static NEXT_POOL: AtomicU64 = AtomicU64::new(1);

/// Why the pool will not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It was shut down.
    #[error("cannot schedule new futures after shutdown: make a new Executor")]
    ShutDown,
    /// Its workers leave, or have left.
    #[error("the workers leave after a shutdown, and are not replaced: make a new Executor")]
    Leaving,
    /// Its workers cannot be started.
    #[error("{0}")]
    Broken(Arc<str>),
    /// The calling process is a fork of the one that made it.
    #[error(
        "this Executor belongs to the parent process and does not survive os.fork(): make a new one in this process"
    )]
    Forked,
    /// More tasks wait than the submitter allows.
    #[error("too many tasks wait already: submit this again when some have ended")]
    Backlog,
    /// As many tasks are unfinished as this pool allows.
    #[error(
        "{0} tasks are unfinished, as many as max_pending allows: submit this again when one has ended, or make the \
         executor with on_full=\"block\", which waits"
    )]
    QueueFull(usize),
    /// The memory set aside for payloads is in use.
    #[error("no room now for a payload of {0} bytes: wait until other tasks have ended")]
    Full(usize),
    /// More than the memory set aside for payloads.
    #[error("no memory for a payload of {0} bytes: at most {1} are set aside for all of them")]
    TooLarge(usize, usize),
    /// The memory set aside for payloads is in use, and nothing is under way that would free it.
    #[error(
        "no room for a payload of {bytes} bytes: {kept} of the {budget} that are set aside for all of them hold arguments of \
         tasks that have ended, which workers still look at, and none came free in {seconds} s. Have tasks copy what \
         they keep (in a global, a cache), call executor.submit with less at a time, or pass the data in a file"
    )]
    Kept {
        /// Asked for.
        bytes: usize,
        /// Looked at by workers, and by nobody else.
        kept: usize,
        /// In all.
        budget: usize,
        /// Waited for.
        seconds: u64,
    },
}

/// A pool, as its handles share it.
#[derive(Debug)]
pub struct Shared {
    ident: Arc<Ident>,
    core: Mutex<Core>,
    waker: Arc<Waker>,
    bell: Arc<HostBell>,
    arena: Arc<Arena>,
    arena_bytes: usize,
    room_wait: Duration,
    /// A thread in `result()` sleeps on the bell, or is about to.
    leader: AtomicBool,
    attention: Arc<AtomicI64>,
    /// Threads that wait for room in a queue with a bound.
    queuing: AtomicUsize,
    /// How long it is worth to look for an answer before sleeping.
    spin_nanos: AtomicU64,
    collected: Receiver<TaskId>,
    /// The driver has ended: no process is left.
    gone: Mutex<bool>,
    went: Condvar,
}

impl Shared {
    /// Make a pool and start its workers.
    pub fn start(config: PoolConfig) -> std::io::Result<Arc<Self>> {
        let waker = Arc::new(Waker::new()?);
        let bell = Arc::new(HostBell::new(config.spawn.backing)?);
        let arena = Arena::new(config.spawn.backing, config.arena_bytes);
        let attention = Arc::new(AtomicI64::new(0));
        let (collector, collected) = unbounded();
        let output = Arc::new(Output::default());
        let core = Core::new(Parts {
            workers: config.workers,
            seed: config.seed,
            lifetime: config.lifetime,
            slow_starts: config.slow_starts,
            results: ResultStore::new(config.retention),
            waker: Arc::clone(&waker),
            bell: Arc::clone(&bell),
            arena: Arc::clone(&arena),
            output: Arc::clone(&output),
            attention: Arc::clone(&attention),
            collector,
            config: Arc::new(config.config),
            hello: config.hello,
            executable: config.spawn.executable.to_string_lossy().into_owned(),
        });
        let shared = Arc::new(Self {
            ident: Arc::new(Ident {
                id: NEXT_POOL.fetch_add(1, Ordering::Relaxed),
                prefix: config.prefix.into(),
                generation: fork_generation(),
                output,
            }),
            core: Mutex::new(core),
            waker,
            bell,
            arena,
            arena_bytes: config.arena_bytes,
            room_wait: config.room_wait,
            leader: AtomicBool::new(false),
            attention,
            queuing: AtomicUsize::new(0),
            spin_nanos: AtomicU64::new(0),
            collected,
            gone: Mutex::new(false),
            went: Condvar::new(),
        });
        let driven = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("disttask-driver".into())
            .spawn(move || driver::run(&driven, config.spawn))?;
        Ok(shared)
    }

    /// What its futures know of it.
    pub fn ident(&self) -> Arc<Ident> {
        Arc::clone(&self.ident)
    }

    /// An error in a process that is a fork of the owner.
    pub fn check_owner(&self) -> Result<(), PoolError> {
        self.ident.check_owner()
    }

    /// Accept a task.
    pub fn submit(
        &self,
        work: Work,
        name: &str,
        spec: TaskSpec,
        keep: Keep,
        manner: &Manner,
    ) -> Result<Arc<Slot>, PoolError> {
        self.check_owner()?;
        Self::accept(&mut self.core.lock(), work, name, spec, keep, manner)
    }

    fn accept(
        core: &mut Core,
        work: Work,
        name: &str,
        spec: TaskSpec,
        keep: Keep,
        manner: &Manner,
    ) -> Result<Arc<Slot>, PoolError> {
        if let Some(why) = &core.broken {
            return Err(PoolError::Broken(Arc::clone(why)));
        }
        core.submit(work, name, spec, keep, manner).map_err(|_| PoolError::ShutDown)
    }

    /// Take back a task that no worker has; `false`: too late.
    pub fn cancel(&self, task: TaskId) -> Result<bool, PoolError> {
        self.check_owner()?;
        Ok(self.core.lock().cancel(task))
    }

    /// Take back a task that no worker has, or stop the worker that does. `false`: too late. One that runs is resolved when
    /// its process is gone: as cancelled, unless its answer came first.
    pub fn kill(&self, task: TaskId) -> Result<bool, PoolError> {
        self.check_owner()?;
        Ok(self.core.lock().kill(task))
    }

    /// Whether a worker has begun the task; `false` also when it has ended.
    pub fn is_running(&self, task: TaskId) -> bool {
        self.check_owner().is_ok() && self.core.lock().is_running(task)
    }

    /// How long a task of this name and form takes, in nanoseconds, by those that have ended.
    pub fn usual(&self, name: &str, form: Form) -> Option<u64> {
        let core = &mut *self.core.lock();
        core.usual(name, form)
    }

    /// Accept nothing more. Returns at once; see [`Self::wait_gone`].
    pub fn shutdown(&self, mode: Shutdown) -> Result<(), PoolError> {
        self.check_owner()?;
        self.core.lock().shutdown(mode);
        Ok(())
    }

    /// Wait until no process of the pool is left, at most so long.
    pub fn wait_gone(&self, timeout: Duration) -> bool {
        let mut gone = self.gone.lock();
        if !*gone {
            self.went.wait_for(&mut gone, timeout);
        }
        *gone
    }

    /// Observed futures that were resolved; waits for the first one, at most so long. `None` once there will be
    /// no more.
    pub fn collect(&self, timeout: Duration) -> Option<Vec<TaskId>> {
        match self.collected.recv_timeout(timeout) {
            Ok(first) => Some(std::iter::once(first).chain(self.collected.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// The slot of a task that was submitted with `retain`.
    pub fn lookup(&self, task: TaskId) -> Result<Lookup, PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        let now = core.now();
        core.results.evict(now);
        let submitted = core.scheduler.submitted();
        Ok(core.results.lookup(task, submitted))
    }

    /// Retained tasks that have finished, in order of completion.
    pub fn retained_finished(&self) -> Result<Vec<Arc<Slot>>, PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        let now = core.now();
        core.results.evict(now);
        Ok(core.results.finished())
    }

    /// Retained tasks that have not finished, in order of submission.
    pub fn retained_pending(&self) -> Result<Vec<Arc<Slot>>, PoolError> {
        self.check_owner()?;
        Ok(self.core.lock().results.pending())
    }

    /// The worker processes that there are.
    pub fn pids(&self) -> Vec<i32> {
        let core = self.core.lock();
        core.seats
            .iter()
            .filter_map(|seat| seat.process.as_ref())
            .map(crate::supervisor::Process::pid)
            .collect()
    }

    /// Whether this handle may be used in this process.
    pub fn is_foreign(&self) -> bool {
        self.check_owner().is_err()
    }

    /// A deadline from a user's number of seconds; what is too far away to express is no deadline.
    pub fn deadline(seconds: f64) -> Option<Instant> {
        let wait = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
        Instant::now().checked_add(wait)
    }
}
