//! What the oracle knows about workers: what it was told, and what it was asked to do to them.

use std::time::Duration;

use crate::scheduler::types::{Assignment, KillReason, Time, WorkerId, WorkerPhase};
use crate::scheduler::{BUSY_FROZEN_LIMIT, IDLE_FROZEN_LIMIT, START_LIMIT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// No process; the next one starts at this time.
    Vacant(Time),
    /// Must be ready by this time.
    Starting(Time),
    Idle,
    /// Runs this, until this time at the latest.
    Busy(Assignment, Option<Time>),
    /// Told to leave.
    Leaving,
    /// Left, and not replaced.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) life: Life,
    /// We were told to kill it, for this reason. What it was doing may still come to an end.
    pub(super) killed: Option<KillReason>,
    /// The heartbeat counter, and since when it has stood there.
    pub(super) beat: Option<(u64, Time)>,
    pub(super) done: u64,
    /// When this process became ready.
    pub(super) ready: Option<Time>,
    /// This process has completed a task.
    pub(super) useful: bool,
    /// Deaths in this place since the last that was no cause for alarm.
    pub(super) early_deaths: u32,
    /// When it last had nothing left to do, as a place in a row.
    pub(super) freed: u64,
}

impl Worker {
    /// The first process of a place.
    pub(super) fn new(slot: u32, now: Time) -> Self {
        let id = WorkerId { slot, incarnation: 0 };
        let mut worker = Self {
            id,
            life: Life::Gone,
            killed: None,
            beat: None,
            done: 0,
            ready: None,
            useful: false,
            early_deaths: 0,
            freed: 0,
        };
        worker.start(now);
        worker
    }

    /// The next process of the place.
    pub(super) fn start(&mut self, now: Time) -> WorkerId {
        self.id.incarnation += 1;
        self.life = Life::Starting(now + START_LIMIT);
        self.killed = None;
        self.beat = None;
        self.ready = None;
        self.useful = false;
        self.id
    }

    pub(super) fn is_process(&self) -> bool {
        match self.life {
            Life::Starting(_) | Life::Idle | Life::Busy(..) | Life::Leaving => true,
            Life::Vacant(_) | Life::Gone => false,
        }
    }

    /// Came up, and is there: also if it has been killed and does not know it yet.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.life, Life::Idle | Life::Busy(..))
    }

    pub(super) fn is_free(&self) -> bool {
        self.killed.is_none() && self.life == Life::Idle
    }

    pub(super) fn phase(&self) -> WorkerPhase {
        match self.life {
            Life::Vacant(_) => WorkerPhase::Restarting,
            Life::Gone => WorkerPhase::Gone,
            _ if self.killed.is_some() => WorkerPhase::Draining,
            Life::Starting(_) => WorkerPhase::Starting,
            Life::Idle => WorkerPhase::Idle,
            Life::Busy(run, _) => WorkerPhase::Busy(run),
            Life::Leaving => WorkerPhase::Draining,
        }
    }

    /// When the clock will do something about it.
    pub(super) fn limit(&self) -> Option<Time> {
        match self.life {
            Life::Vacant(until) => Some(until),
            _ if self.killed.is_some() => None,
            Life::Starting(limit) => Some(limit),
            Life::Busy(_, limit) => limit,
            Life::Idle | Life::Leaving | Life::Gone => None,
        }
    }

    /// Nobody looked for so long: all limits are that much later.
    pub(super) fn forgive(&mut self, gap: Duration) {
        match &mut self.life {
            Life::Starting(limit) | Life::Busy(_, Some(limit)) => *limit = limit.saturating_add(gap),
            Life::Vacant(_) | Life::Idle | Life::Busy(_, None) | Life::Leaving | Life::Gone => {}
        }
        if let Some((_, since)) = &mut self.beat {
            *since += gap;
        }
    }

    /// A reading of the heartbeat. Has it stood still for too long?
    pub(super) fn stands_still(&mut self, count: u64, now: Time) -> bool {
        let limit = match self.life {
            _ if self.killed.is_some() => return false,
            Life::Idle | Life::Leaving => IDLE_FROZEN_LIMIT,
            Life::Busy(..) => BUSY_FROZEN_LIMIT,
            Life::Vacant(_) | Life::Starting(_) | Life::Gone => return false,
        };
        match self.beat {
            Some((last, since)) if last == count => now >= since + limit,
            Some(_) | None => {
                self.beat = Some((count, now));
                false
            }
        }
    }
}
