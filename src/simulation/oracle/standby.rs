//! What the oracle knows of replacements that are started before they are needed.

use std::time::Duration;

use super::worker::{Life, Terms, Worker};
use super::{Oracle, Phase};
use crate::scheduler::standby::{LEAD_STARTS, MIN_STANDBYS, PLACES_PER_STANDBY, STANDBY_KEEP, START_GUESS};
use crate::scheduler::types::{Action, KillReason, Time, WorkerId};
use crate::scheduler::{IDLE_FROZEN_LIMIT, START_LIMIT, STOP_LIMIT};

/// A second process of a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standby {
    pub(super) id: WorkerId,
    pub(super) life: Life,
    pub(super) killed: bool,
    pub(super) asked_for: Time,
    /// The heartbeat counter, and since when it has stood there.
    pub(super) beat: Option<(u64, Time)>,
    /// When it is sent away, or made to go.
    pub(super) until: Option<Time>,
}

impl Standby {
    /// It is to take over, or to be told to leave.
    fn serves(&self) -> bool {
        !self.killed && matches!(self.life, Life::Starting(_) | Life::Up)
    }

    /// When the clock will do something about it.
    pub(super) fn limits(&self) -> impl Iterator<Item = Time> {
        let start = match self.life {
            Life::Starting(limit) if !self.killed => limit,
            _ => None,
        };
        start.into_iter().chain(self.until)
    }
}

impl Oracle {
    /// A process shook hands that was asked for at this time.
    pub(super) fn started(&mut self, asked_for: Time, now: Time) {
        let took = now.saturating_sub(asked_for);
        self.usual_start = Some(match self.usual_start {
            None => took,
            Some(usual) => usual.saturating_sub(usual / 4) + took / 4,
        });
    }

    /// When it is first looked at something with this time-out that is begun now: at most two starts before its deadline,
    /// and in the second half of its time.
    pub(super) fn first_look(&self, timeout: Duration, now: Time) -> Time {
        let deadline = now.saturating_add(timeout);
        let lead = self.usual_start.unwrap_or(START_GUESS) * LEAD_STARTS;
        deadline.saturating_sub(lead).max(deadline.saturating_sub(timeout / 2))
    }

    /// The deadline of this place is near. Is there to be a second process?
    pub(super) fn near(&mut self, slot: usize, now: Time) {
        let (wanted, terms) = (self.wanted, self.terms);
        let there = self.workers.iter().filter(|worker| worker.standby.is_some()).count();
        let worker = &mut self.workers[slot];
        let deadline = worker.deadline.expect("it has one");
        worker.limit = Some(deadline);
        let until = Some(deadline.saturating_add(STANDBY_KEEP));
        match &mut worker.standby {
            Some(standby) if standby.serves() => standby.until = until,
            Some(_) => {}
            // Nobody takes over from one that is not to be replaced.
            None if worker.dismissed => {}
            None if there < MIN_STANDBYS.max(wanted / PLACES_PER_STANDBY) => {
                let id = worker.next_id();
                let life = terms.starting(now);
                worker.standby = Some(Standby { id, life, killed: false, asked_for: now, beat: None, until });
                self.corners.standbys += 1;
                self.owed.push(Action::Spawn(id));
            }
            None => self.corners.standbys_refused += 1,
        }
    }

    pub(super) fn standby(&mut self, id: WorkerId) -> Option<&mut Standby> {
        let worker = self.workers.get_mut(id.slot as usize)?;
        worker.standby.as_mut().filter(|standby| standby.id == id)
    }

    pub(super) fn standby_ready(&mut self, id: WorkerId, now: Time) {
        let Some(standby) = self.standby(id) else { return };
        if !standby.killed && matches!(standby.life, Life::Starting(_)) {
            standby.life = Life::Up;
            let asked_for = standby.asked_for;
            self.started(asked_for, now);
        }
    }

    pub(super) fn doom_standby(&mut self, id: WorkerId, why: KillReason) -> bool {
        let Some(standby) = self.standby(id) else { return false };
        if standby.killed {
            return false;
        }
        standby.killed = true;
        standby.until = None;
        self.owed.push(Action::Kill(id, why));
        true
    }

    /// A reading of its heartbeat.
    pub(super) fn standby_beat(&mut self, id: WorkerId, count: u64, now: Time) {
        let Some(standby) = self.standby(id) else { return };
        let (limit, why) = match standby.life {
            _ if standby.killed => return,
            Life::Starting(None) => (START_LIMIT, KillReason::StartTimeout),
            Life::Up | Life::Leaving(_) => (IDLE_FROZEN_LIMIT, KillReason::Frozen),
            Life::Starting(Some(_)) | Life::Vacant(_) | Life::Gone => return,
        };
        match standby.beat {
            Some((last, since)) if last == count => {
                if now >= since + limit {
                    self.corners.standbys_frozen += u64::from(why == KillReason::Frozen);
                    self.doom_standby(id, why);
                }
            }
            Some(_) | None => standby.beat = Some((count, now)),
        }
    }

    /// It is gone.
    pub(super) fn standby_exit(&mut self, id: WorkerId) {
        let Some(&mut standby) = self.standby(id) else { return };
        if standby.serves() {
            self.totals.worker_deaths += 1;
        }
        self.workers[id.slot as usize].standby = None;
        self.finish_if_all_gone();
    }

    /// Look at the clock for its sake.
    pub(super) fn clock_of_standby(&mut self, slot: usize, now: Time) {
        let Some(standby) = self.workers[slot].standby else { return };
        let id = standby.id;
        if matches!(standby.life, Life::Starting(Some(limit)) if limit <= now && !standby.killed) {
            self.doom_standby(id, KillReason::StartTimeout);
        } else if standby.until.is_some_and(|until| until <= now) && !self.send_away(slot, now) {
            self.doom_standby(id, KillReason::Shutdown);
        }
    }

    /// Where it is up, it is told to leave.
    fn send_away(&mut self, slot: usize, now: Time) -> bool {
        let Some(standby) = &mut self.workers[slot].standby else { return false };
        if standby.killed || standby.life != Life::Up {
            return false;
        }
        standby.life = Life::Leaving(None);
        standby.until = Some(now + STOP_LIMIT);
        self.corners.standbys_unused += 1;
        self.owed.push(Action::Stop(standby.id));
        true
    }

    /// The place is given up, and with it this.
    pub(super) fn release_standby(&mut self, slot: usize, now: Time) {
        let Some(standby) = self.workers[slot].standby.filter(Standby::serves) else { return };
        self.corners.standbys_released += 1;
        if !self.send_away(slot, now) {
            self.doom_standby(standby.id, KillReason::Shutdown);
        }
    }

    /// It cannot be made ready, which breaks the pool as it does anywhere.
    pub(super) fn standby_unfit(&mut self, id: WorkerId, now: Time) {
        let open = self.is_open();
        let Some(standby) = self.standby(id) else { return };
        if open && !standby.killed && matches!(standby.life, Life::Starting(_)) {
            standby.life = Life::Leaving(None);
            self.corners.standbys_unfit += 1;
            self.break_pool(now);
        }
    }

    /// The pool stops.
    pub(super) fn stop_standby(&mut self, slot: usize, now: Time) {
        let Some(standby) = self.workers[slot].standby else { return };
        if !self.send_away(slot, now) && matches!(standby.life, Life::Starting(_)) {
            self.doom_standby(standby.id, KillReason::Shutdown);
        }
        if let Some(standby) = &mut self.workers[slot].standby {
            standby.until = None;
        }
    }

    /// The first process of the place is gone, and work goes on: the second takes over, if it can.
    pub(super) fn take_over(&mut self, slot: usize, now: Time) -> bool {
        if !matches!(self.phase, Phase::Open | Phase::Draining) {
            return false;
        }
        let worker = &mut self.workers[slot];
        let Some(standby) = worker.standby else { return false };
        let up = standby.life == Life::Up;
        if !standby.serves() {
            return false;
        }
        worker.standby = None;
        worker.begin_as(standby.id, standby.asked_for, standby.life, self.terms);
        worker.ready = up.then_some(now);
        self.corners.took_over += u64::from(up);
        self.corners.took_over_early += u64::from(!up);
        self.touch(standby.id);
        true
    }
}

impl Worker {
    /// The number of the next process of this place.
    pub(super) fn next_id(&mut self) -> WorkerId {
        self.newest += 1;
        WorkerId { incarnation: self.newest, ..self.id }
    }

    /// From now on the place is this process's.
    pub(super) fn begin_as(&mut self, id: WorkerId, asked_for: Time, life: Life, terms: Terms) {
        self.id = id;
        self.asked_for = asked_for;
        self.life = life;
        self.allowed = terms.tasks;
        self.dismissed = false;
        self.killed = None;
        self.beat = None;
        self.ready = None;
        self.useful = false;
    }
}
