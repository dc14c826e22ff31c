//! What one place in the pool is doing.

use std::time::Duration;

use super::held::{Held, HeldQueue};
use super::restart::{Death, EarlyDeaths, SETTLED_AFTER};
use super::standby::Standby;
use super::types::{Assignment, KillReason, Time, WorkerPhase};

/// What the process in one place of the pool is doing. As with tasks, each `match` names every variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerState {
    /// No process; the next one starts when `Timer::Restart` fires.
    Vacant,
    /// Asked for; not heard of yet.
    Starting,
    /// Ready. With nothing in [`Worker::held`] it is idle, and in the idle stack; else it is busy.
    Up,
    /// SIGKILL is on its way. What it ran may still arrive, and then counts.
    Killed(KillReason),
    /// Told to finish; has nothing to do.
    Draining,
    /// Gone, and not to be replaced.
    Retired,
}

/// A worker with as much work as this (by estimate) is sent one task more at most: a millisecond hides the round trip to
/// the host many times over, and is no wait that anybody notices.
pub const PREFETCH_NANOS: u64 = 1_000_000;

/// Dispatches at one worker, however short they are: as many as a worker that is fast gets done in the time above,
/// and few enough to be taken back in one go.
pub const PREFETCH_TASKS: usize = 1024;

/// A worker in use with no more work than this (by estimate) is sent a short task before an idle one is woken: waking a
/// process takes about as long.
pub const PACK_NANOS: u64 = 50_000;

/// ... if it was heard of this recently: what it runs may be longer than expected.
pub const PACK_STALE: Duration = Duration::from_micros(200);

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

/// What each task changes, and no more: two lines of the processor's cache, which are fetched together. With ten thousand
/// workers little is in the cache any more, and the less of it there is the more.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Worker {
    /// What it was sent and has not answered, in the order in which it takes it: it runs the first, or is about to.
    /// The others are *prefetched*; they can be taken back, and cost nothing when the process dies.
    pub(crate) held: HeldQueue,
    /// The sum of the estimates in `held`, in nanoseconds.
    pub(crate) backlog: u64,
    /// So many of `held` it is known to have begun, because a retraction came upon them. There is no sense in asking for
    /// these again.
    pub(crate) begun: u32,
    /// When it last took up something new, as far as is known.
    pub(crate) progress: Time,
    /// So many were asked back ([`super::types::Action::Retract`]), and it is not answered: it gets nothing until then.
    pub(crate) retracting: Option<u32>,
    /// So many more tasks this process may be sent; `None`: any number.
    pub(crate) allowance: Option<u32>,
    /// Tasks that ended here, over all processes of this place.
    pub(crate) tasks_done: u64,
    pub(crate) incarnation: u32,
    pub(crate) state: WorkerState,
    /// What it runs is over this limit; the kill waits for the answer to that retraction.
    pub(crate) condemned: Option<KillReason>,
    /// Something that it has is to be stopped ([`super::task::Task::doomed`]). It gets nothing until that has gone.
    pub(crate) sentenced: bool,
    /// It was seen not to get on: nothing is sent after what it runs until it does.
    pub(crate) stuck: bool,
    /// It gets nothing more, and the place is retired with it (see [`super::turnover`]).
    pub(crate) leaving: bool,
    /// There was an answer since the last look at `beat`, which stands elsewhere.
    pub(crate) answered: bool,
    pub(crate) seldom: Box<Seldom>,
}

const _: () = assert!(size_of::<Worker>() == 128);

/// What tasks do not change, mostly.
#[derive(Debug)]
pub(crate) struct Seldom {
    pub(crate) standing: Standing,
    pub(crate) beat: Option<Beat>,
    /// The last number that a process of this place was given.
    pub(crate) newest: u32,
    /// Over all processes of this place.
    pub(crate) early_deaths: EarlyDeaths,
    /// When its process was asked for.
    pub(crate) started: Time,
    /// When what it runs is over its time.
    pub(crate) deadline: Option<Time>,
    /// A process that is to take the place over.
    pub(crate) standby: Option<Standby>,
}

/// The last heartbeat counter seen to change, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    pub(crate) count: u64,
    pub(crate) changed: Time,
}

impl Worker {
    /// A place without a process.
    pub(crate) fn vacant() -> Self {
        Self {
            held: HeldQueue::EMPTY,
            backlog: 0,
            begun: 0,
            progress: Time::ZERO,
            retracting: None,
            allowance: None,
            tasks_done: 0,
            incarnation: 0,
            state: WorkerState::Vacant,
            condemned: None,
            sentenced: false,
            stuck: false,
            leaving: false,
            answered: false,
            seldom: Box::new(Seldom {
                standing: Standing::Unready,
                beat: None,
                newest: 0,
                early_deaths: EarlyDeaths::NONE,
                started: Time::ZERO,
                deadline: None,
                standby: None,
            }),
        }
    }

    pub(crate) fn phase(&self) -> WorkerPhase {
        match self.state {
            WorkerState::Vacant => WorkerPhase::Restarting,
            WorkerState::Starting => WorkerPhase::Starting,
            WorkerState::Up => self.front().map_or(WorkerPhase::Idle, WorkerPhase::Busy),
            WorkerState::Killed(..) | WorkerState::Draining => WorkerPhase::Draining,
            WorkerState::Retired => WorkerPhase::Gone,
        }
    }

    /// What it runs, or is about to, even where its kill is on the way: that one may still come to its end.
    pub(crate) fn front(&self) -> Option<Assignment> {
        self.held.front().map(Held::run)
    }

    /// Whoever was meant is no longer there. Looked at before it is written: reading bytes together that were just written
    /// one by one has the processor wait until all that was written before is in the cache.
    pub(crate) fn front_has_gone(&mut self) {
        if self.condemned.is_some() || self.stuck {
            self.condemned = None;
            self.stuck = false;
        }
    }

    /// Ready and without anything to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == WorkerState::Up && self.held.is_empty() && self.retracting.is_none() && self.may_take()
    }

    /// Whether anything at all may still be sent to this process.
    pub(crate) fn may_take(&self) -> bool {
        !self.leaving && self.allowance != Some(0)
    }

    /// Whether it counts among those that are wanted. One that has nothing more to do does not: its successor starts
    /// while it runs its exit handlers.
    pub(crate) fn counts(&self) -> bool {
        match self.state {
            WorkerState::Vacant | WorkerState::Starting | WorkerState::Up => true,
            WorkerState::Killed(_) => !self.leaving,
            WorkerState::Draining | WorkerState::Retired => false,
        }
    }

    /// Whether something may be sent after what it has: one task in any case, which hides the round trip to the host. What
    /// then waits too long is had back ([`super::ahead::LOOK_AFTER`]).
    pub(crate) fn takes_more(&self, depth: u64) -> bool {
        (1..PREFETCH_TASKS).contains(&self.held.len())
            && (self.held.len() == 1 || self.backlog < depth)
            && self.state == WorkerState::Up
            && self.retracting.is_none()
            && self.condemned.is_none()
            && !self.sentenced
            && !self.stuck
            && self.may_take()
    }

    /// How many of its tasks it may not have begun. The first does not count: it is as good as begun.
    pub(crate) fn unbegun(&self) -> usize {
        self.held.len().saturating_sub(self.begun.max(1) as usize)
    }

    /// Whether it can be asked for something back.
    pub(crate) fn has_prefetched(&self) -> bool {
        self.unbegun() > 0 && self.state == WorkerState::Up && self.retracting.is_none()
    }

    /// What is expected of its prefetched tasks, in nanoseconds.
    pub(crate) fn prefetched_nanos(&self) -> u64 {
        self.backlog - self.held.front().map_or(0, Held::estimate)
    }

    /// Whether it shows that processes can start here. One that we kill does so as well, if it was ready: it
    /// would be there if we had let it.
    pub(crate) fn is_up(&self) -> bool {
        match self.state {
            WorkerState::Up => true,
            WorkerState::Killed(..) => self.seldom.standing != Standing::Unready && !self.leaving,
            WorkerState::Vacant | WorkerState::Starting | WorkerState::Draining | WorkerState::Retired => {
                false
            }
        }
    }

    /// What it says about the place if the process is gone now.
    pub(crate) fn death(&self, transient: bool, now: Time) -> Death {
        match (self.seldom.standing, self.state) {
            (Standing::Proven, _) => Death::Proven,
            (Standing::Ready(since), _) if now.saturating_sub(since) >= SETTLED_AFTER => Death::Proven,
            (Standing::Ready(_), WorkerState::Up) if self.held.is_empty() => Death::Unsettled,
            (_, WorkerState::Starting | WorkerState::Killed(KillReason::StartTimeout)) => {
                Death::Unready { transient }
            }
            (Standing::Unready | Standing::Ready(_), _) => Death::Neutral,
        }
    }
}
