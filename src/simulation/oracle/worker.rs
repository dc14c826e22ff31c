//! What the oracle knows about workers: what it was told, and what it was asked to do to them.

use std::collections::VecDeque;
use std::time::Duration;

use super::ahead::Sent;
use super::standby::Standby;
use crate::scheduler::types::{KillReason, Time, WorkerId, WorkerPhase};
use crate::scheduler::{BUSY_FROZEN_LIMIT, IDLE_FROZEN_LIMIT, START_LIMIT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// No process; the next one starts at this time.
    Vacant(Time),
    /// Must be ready by this time.
    /// No time: it runs an initializer.
    Starting(Option<Time>),
    /// Ready, and at work on what it holds.
    Up,
    /// Told to leave, by this time if it is not the pool that ends.
    Leaving(Option<Time>),
    /// Left, and not replaced.
    Gone,
}

/// What holds for all workers of a pool.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulation) struct Terms {
    /// How many tasks each gets at most.
    pub(in crate::simulation) tasks: Option<u32>,
    /// They run an initializer, however long that takes.
    pub(in crate::simulation) slow: bool,
}

impl Terms {
    /// A process that is asked for now.
    pub(super) fn starting(self, now: Time) -> Life {
        Life::Starting((!self.slow).then_some(now + START_LIMIT))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) life: Life,
    /// When it was asked for.
    pub(super) asked_for: Time,
    /// The last number given to a process of the place.
    pub(super) newest: u32,
    /// The place's second process.
    pub(super) standby: Option<Standby>,
    /// We were told to kill it, for this reason. What it was doing may still come to an end.
    pub(super) killed: Option<KillReason>,
    /// What it was sent and has not answered, the oldest first.
    pub(super) held: VecDeque<Sent>,
    /// When it is next looked at what is in front: some time before its time is over, and then.
    pub(super) limit: Option<Time>,
    /// The end of the time of what is in front.
    pub(super) deadline: Option<Time>,
    /// What is in front is over this limit, and what waits behind has been asked back.
    pub(super) condemned: Option<KillReason>,
    /// So many were asked back, and there is no answer yet.
    pub(super) asked: Option<usize>,
    /// So many of those that it holds could not be taken back.
    pub(super) refused: usize,
    /// When it last got on, as far as is known.
    pub(super) moved: Time,
    /// It was found not to, and nothing may be put behind what it is at.
    pub(super) stuck: bool,
    /// Since when it has had something that it could be asked for.
    pub(super) waits_since: Option<Time>,
    /// The heartbeat counter, and since when it has stood there.
    pub(super) beat: Option<(u64, Time)>,
    pub(super) done: u64,
    /// When this process became ready.
    pub(super) ready: Option<Time>,
    /// This process has completed a task.
    pub(super) useful: bool,
    /// Deaths in this place since the last that was no cause for alarm.
    pub(super) early_deaths: u32,
    /// Since when it has had nothing to do, as a place in a row; `None` where it has.
    pub(super) freed: Option<u64>,
    /// So many more tasks it may get.
    pub(super) allowed: Option<u32>,
    /// It gets no more, and is not replaced in its place.
    pub(super) dismissed: bool,
}

impl Worker {
    /// The first process of a place.
    pub(super) fn new(slot: u32, terms: Terms, now: Time) -> Self {
        let id = WorkerId { slot, incarnation: 0 };
        let mut worker = Self {
            id,
            life: Life::Gone,
            asked_for: Time::ZERO,
            newest: 0,
            standby: None,
            killed: None,
            held: VecDeque::new(),
            limit: None,
            deadline: None,
            condemned: None,
            asked: None,
            refused: 0,
            moved: Time::ZERO,
            stuck: false,
            waits_since: None,
            beat: None,
            done: 0,
            ready: None,
            useful: false,
            early_deaths: 0,
            freed: None,
            allowed: None,
            dismissed: false,
        };
        worker.start(terms, now);
        worker
    }

    /// The next process of the place.
    pub(super) fn start(&mut self, terms: Terms, now: Time) -> WorkerId {
        let id = self.next_id();
        self.begin_as(id, now, terms.starting(now), terms);
        id
    }

    /// Nothing is there any more; what was.
    pub(super) fn clear(&mut self) -> VecDeque<Sent> {
        self.limit = None;
        self.condemned = None;
        self.refused = 0;
        self.stuck = false;
        std::mem::take(&mut self.held)
    }

    /// One is done, or was taken away. Behind it, in front, everything begins anew.
    pub(super) fn remove(&mut self, index: usize) -> Sent {
        self.refused -= usize::from(index < self.refused);
        if index == 0 {
            self.limit = None;
            self.condemned = None;
            self.stuck = false;
        }
        self.held.remove(index).expect("the index was looked up")
    }

    pub(super) fn is_process(&self) -> bool {
        match self.life {
            Life::Starting(_) | Life::Up | Life::Leaving(_) => true,
            Life::Vacant(_) | Life::Gone => false,
        }
    }

    /// Came up, and is there: also if it has been killed and does not know it yet.
    pub(super) fn is_up(&self) -> bool {
        self.life == Life::Up && !(self.killed.is_some() && self.dismissed)
    }

    /// Can be given work.
    pub(super) fn serves(&self) -> bool {
        let open = !self.dismissed && self.allowed != Some(0);
        open && self.can_be_asked()
    }

    /// Can be asked for something back.
    pub(super) fn can_be_asked(&self) -> bool {
        self.life == Life::Up && self.killed.is_none() && self.asked.is_none()
    }

    pub(super) fn is_free(&self) -> bool {
        self.serves() && self.held.is_empty()
    }

    /// How many it could be asked for: not what is in front, and not what it would not give before.
    pub(super) fn waiting(&self) -> usize {
        if self.life == Life::Up && self.killed.is_none() {
            self.held.len() - self.held.len().min(self.refused.max(1))
        } else {
            0
        }
    }

    pub(super) fn phase(&self) -> WorkerPhase {
        match self.life {
            Life::Vacant(_) => WorkerPhase::Restarting,
            Life::Gone => WorkerPhase::Gone,
            _ if self.killed.is_some() => WorkerPhase::Draining,
            Life::Starting(_) => WorkerPhase::Starting,
            Life::Up => self.held.front().map_or(WorkerPhase::Idle, |sent| WorkerPhase::Busy(sent.run)),
            Life::Leaving(_) => WorkerPhase::Draining,
        }
    }

    /// When the clock will do something about it.
    pub(super) fn limit(&self) -> Option<Time> {
        match self.life {
            Life::Vacant(until) => Some(until),
            _ if self.killed.is_some() => None,
            Life::Starting(limit) | Life::Leaving(limit) => limit,
            Life::Up => self.limit,
            Life::Gone => None,
        }
    }

    /// Nobody looked for so long: all limits are that much later.
    pub(super) fn forgive(&mut self, gap: Duration) {
        if let Life::Starting(Some(limit)) | Life::Leaving(Some(limit)) = &mut self.life {
            *limit += gap;
        }
        self.limit = self.limit.map(|limit| limit.saturating_add(gap));
        self.deadline = self.deadline.map(|deadline| deadline.saturating_add(gap));
        if let Some(standby) = &mut self.standby {
            if let Life::Starting(Some(limit)) = &mut standby.life {
                *limit += gap;
            }
            standby.beat = standby.beat.map(|(count, since)| (count, since + gap));
        }
        self.moved += gap;
        if let Some((_, since)) = &mut self.beat {
            *since += gap;
        }
    }

    /// A reading of the heartbeat. Has it stood still for too long?
    pub(super) fn stands_still(&mut self, count: u64, now: Time) -> bool {
        let limit = match self.life {
            _ if self.killed.is_some() => return false,
            Life::Up if self.held.iter().any(|sent| sent.begun) => BUSY_FROZEN_LIMIT,
            Life::Up | Life::Leaving(_) => IDLE_FROZEN_LIMIT,
            Life::Starting(None) => START_LIMIT,
            Life::Vacant(_) | Life::Starting(Some(_)) | Life::Gone => return false,
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
