//! The worker table, and placement: which idle worker takes the next task.

use super::restart::{Death, EarlyDeaths, SETTLED_AFTER};
use super::types::{Assignment, KillReason, Time, WorkerId, WorkerPhase};

/// What the process in one place of the pool is doing. As with tasks, each `match` names every variant.
/// `Busy` holds one assignment as long as a worker runs one task at a time; several (threads, coroutines, a
/// remote node) make it a list, and what is prefetched joins it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerState {
    /// No process; the next one starts when `Timer::Restart` fires.
    Vacant,
    /// Asked for; not heard of yet.
    Starting,
    /// Ready, and in the idle stack.
    Idle,
    /// Runs this.
    Busy(Assignment),
    /// SIGKILL is on its way. What it ran may still arrive, and then counts.
    Killed(KillReason, Option<Assignment>),
    /// Told to finish; has nothing to do.
    Draining,
    /// Gone, and not to be replaced.
    Retired,
}

/// What the process in a place has achieved. It outlasts the process, until the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not ready yet.
    Unready,
    /// Ready since then, and has not completed a task.
    Ready(Time),
    /// It has completed a task.
    Proven,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) incarnation: u32,
    pub(crate) state: WorkerState,
    pub(crate) standing: Standing,
    /// Over all processes of this place.
    pub(crate) early_deaths: EarlyDeaths,
    pub(crate) beat: Option<Beat>,
    /// Tasks that ended here, over all processes of this place.
    pub(crate) tasks_done: u64,
}

/// The last heartbeat counter seen to change, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    pub(crate) count: u64,
    pub(crate) changed: Time,
}

impl Worker {
    pub(crate) fn phase(&self) -> WorkerPhase {
        match self.state {
            WorkerState::Vacant => WorkerPhase::Restarting,
            WorkerState::Starting => WorkerPhase::Starting,
            WorkerState::Idle => WorkerPhase::Idle,
            WorkerState::Busy(assignment) => WorkerPhase::Busy(assignment),
            WorkerState::Killed(..) | WorkerState::Draining => WorkerPhase::Draining,
            WorkerState::Retired => WorkerPhase::Gone,
        }
    }

    /// The task that it has, even where its kill is on the way: that one may still come to its end.
    pub(crate) fn run(&self) -> Option<Assignment> {
        match self.state {
            WorkerState::Busy(run) => Some(run),
            WorkerState::Killed(_, run) => run,
            WorkerState::Vacant
            | WorkerState::Starting
            | WorkerState::Idle
            | WorkerState::Draining
            | WorkerState::Retired => None,
        }
    }

    /// Whether it shows that processes can start here. One that we kill does so as well, if it was ready: it
    /// would be there if we had let it.
    pub(crate) fn is_up(&self) -> bool {
        match self.state {
            WorkerState::Idle | WorkerState::Busy(_) => true,
            WorkerState::Killed(..) => self.standing != Standing::Unready,
            WorkerState::Vacant | WorkerState::Starting | WorkerState::Draining | WorkerState::Retired => {
                false
            }
        }
    }

    /// What it says about the place if the process is gone now.
    pub(crate) fn death(&self, transient: bool, now: Time) -> Death {
        match (self.standing, self.state) {
            (Standing::Proven, _) => Death::Proven,
            (Standing::Ready(since), _) if now.saturating_sub(since) >= SETTLED_AFTER => Death::Proven,
            (Standing::Ready(_), WorkerState::Idle) => Death::Unsettled,
            (_, WorkerState::Starting | WorkerState::Killed(KillReason::StartTimeout, _)) => {
                Death::Unready { transient }
            }
            (Standing::Unready | Standing::Ready(_), _) => Death::Neutral,
        }
    }
}

#[derive(Debug)]
pub(crate) struct WorkerTable {
    workers: Vec<Worker>,
    /// Idle places; the one that was busy last is at the end. It is taken first: its caches are hot.
    idle: Vec<u32>,
}

impl WorkerTable {
    pub(crate) fn new(count: u32) -> Self {
        let vacant = Worker {
            incarnation: 0,
            state: WorkerState::Vacant,
            standing: Standing::Unready,
            early_deaths: EarlyDeaths::default(),
            beat: None,
            tasks_done: 0,
        };
        Self { workers: vec![vacant; count as usize], idle: Vec::with_capacity(count as usize) }
    }

    /// The worker, if that very process still fills its place: the fence against stale facts.
    pub(crate) fn current(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id.slot as usize).filter(|worker| worker.incarnation == id.incarnation)
    }

    pub(crate) fn slot(&self, slot: u32) -> &Worker {
        &self.workers[slot as usize]
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let ids: Vec<_> = self
            .workers
            .iter()
            .zip(0..)
            .map(|(worker, slot)| WorkerId { slot, incarnation: worker.incarnation })
            .collect();
        ids.into_iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// A new process for this place.
    pub(crate) fn start(&mut self, slot: u32) -> WorkerId {
        let worker = &mut self.workers[slot as usize];
        worker.incarnation += 1;
        worker.state = WorkerState::Starting;
        worker.standing = Standing::Unready;
        worker.beat = None;
        WorkerId { slot, incarnation: worker.incarnation }
    }

    /// Every change of state comes through here, so that the idle stack cannot disagree with the states.
    pub(crate) fn set(&mut self, slot: u32, state: WorkerState) {
        let worker = &mut self.workers[slot as usize];
        let was_idle = worker.state == WorkerState::Idle;
        worker.state = state;
        match (was_idle, state == WorkerState::Idle) {
            (false, true) => self.idle.push(slot),
            (true, false) if self.idle.last() == Some(&slot) => drop(self.idle.pop()),
            (true, false) => self.idle.retain(|&idle| idle != slot),
            (true, true) | (false, false) => {}
        }
    }

    /// Placement: the idle worker that was busy last.
    pub(crate) fn warmest(&self) -> Option<WorkerId> {
        self.idle.last().map(|&slot| WorkerId { slot, incarnation: self.workers[slot as usize].incarnation })
    }

    pub(crate) fn idle_slots(&self) -> &[u32] {
        &self.idle
    }
}
