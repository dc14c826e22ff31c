//! A replacement that is started ahead of the kill, so that the place of a task that runs into its time-out has a worker
//! again at once.
//!
//! What a worker runs has a deadline; some time before it, a second process is started in the same place, the *standby*. When
//! the first is gone, for whatever reason, it takes the place over. If it was not needed it stays for a while, for tasks that
//! come near their deadline are seldom alone, and leaves.

use std::time::Duration;

use super::planted::Bug;
use super::timer::Timer;
use super::types::{Action, KillReason, Time, WorkerId};
use super::worker::{Beat, Standing, WorkerState};
use super::{IDLE_FROZEN_LIMIT, Phase, START_LIMIT, STOP_LIMIT, Scheduler};

/// How long a start is expected to take before one was seen: an interpreter on a machine that is busy.
pub const START_GUESS: Duration = Duration::from_millis(200);

/// How much earlier than at the deadline a standby is started, in starts: they do not all take the same.
pub const LEAD_STARTS: u32 = 2;

/// How long an unused standby stays after the deadline that it was started for.
pub const STANDBY_KEEP: Duration = Duration::from_secs(10);

/// So many places share one standby, on average: it takes memory, and a start takes a processor from what runs.
pub const PLACES_PER_STANDBY: usize = 4;

/// In a small pool so many are allowed.
pub const MIN_STANDBYS: usize = 2;

/// The second process of a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standby {
    pub(crate) incarnation: u32,
    pub(crate) state: StandbyState,
    pub(crate) started: Time,
    pub(crate) beat: Option<Beat>,
}

/// How far it is. As with workers, each `match` names every variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandbyState {
    Starting,
    Ready,
    /// Told to leave: nobody needed it.
    Leaving,
    Killed,
}

/// How long starts take: the first time seen, then three parts of what was thought and one of what is seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartTimes(Option<Duration>);

impl StartTimes {
    pub(crate) fn observe(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |usual| usual.saturating_sub(usual / 4) + took / 4));
    }

    fn lead(self) -> Duration {
        self.0.unwrap_or(START_GUESS).saturating_mul(LEAD_STARTS)
    }
}

// Deadlines.
impl Scheduler {
    /// This worker is about to begin something that may take so long.
    pub(super) fn set_deadline(&mut self, id: WorkerId, timeout: Duration, now: Time) {
        let deadline = now.saturating_add(timeout);
        // Not in the first half of its time: most tasks are done by then, and need no standby.
        let alarm =
            deadline.saturating_sub(self.start_times.lead()).max(deadline.saturating_sub(timeout / 2));
        if let Some(worker) = self.workers.current(id) {
            worker.seldom.deadline = Some(deadline);
        }
        self.timers.set(Timer::Attempt(id), alarm);
    }

    /// The deadline of what this worker runs is near, or there.
    pub(super) fn near_deadline(&mut self, id: WorkerId, now: Time) {
        let deadline =
            self.workers.slot(id.slot).seldom.deadline.expect("the alarm is set with the deadline");
        if deadline <= now {
            return self.time_out(id);
        }
        self.timers.set(Timer::Attempt(id), deadline);
        let keep = deadline.saturating_add(STANDBY_KEEP);
        let worker = self.workers.slot(id.slot);
        match worker.seldom.standby.map(|standby| standby.state) {
            None if !worker.leaving && self.may_have_standby() => self.start_standby(id.slot, keep, now),
            Some(StandbyState::Starting | StandbyState::Ready) => {
                self.timers.set(Timer::Standby(id.slot), keep);
            }
            None | Some(StandbyState::Leaving | StandbyState::Killed) => {}
        }
    }

    fn may_have_standby(&self) -> bool {
        let standbys = self.workers.iter().filter(|worker| worker.seldom.standby.is_some()).count();
        standbys < (self.wanted as usize / PLACES_PER_STANDBY).max(MIN_STANDBYS)
    }
}

// Its life.
impl Scheduler {
    fn start_standby(&mut self, slot: u32, keep: Time, now: Time) {
        let incarnation = self.workers.next_incarnation(slot);
        let standby = Standby { incarnation, state: StandbyState::Starting, started: now, beat: None };
        self.workers.change(slot, |worker| worker.seldom.standby = Some(standby));
        let id = WorkerId { slot, incarnation };
        if !self.slow_starts {
            self.timers.set(Timer::Start(id), now + START_LIMIT);
        }
        self.timers.set(Timer::Standby(slot), keep);
        self.actions.push_back(Action::Spawn(id));
    }

    /// It shook hands. `false`: it is no standby.
    pub(super) fn standby_ready(&mut self, id: WorkerId, now: Time) {
        let Some(standby) = self.workers.standby(id) else { return };
        if standby.state == StandbyState::Starting {
            standby.state = StandbyState::Ready;
            let took = now.saturating_sub(standby.started);
            self.start_times.observe(took);
            self.timers.clear(Timer::Start(id));
        }
    }

    /// A reading of its heartbeat: one that has stopped would take over and do nothing.
    pub(super) fn standby_beat(&mut self, id: WorkerId, count: u64, now: Time) {
        let slow = self.slow_starts;
        let Some(standby) = self.workers.standby(id) else { return };
        let (limit, why) = match standby.state {
            StandbyState::Starting if slow => (START_LIMIT, KillReason::StartTimeout),
            StandbyState::Ready | StandbyState::Leaving => (IDLE_FROZEN_LIMIT, KillReason::Frozen),
            StandbyState::Starting | StandbyState::Killed => return,
        };
        match standby.beat {
            Some(beat) if beat.count == count => {
                if now.saturating_sub(beat.changed) >= limit {
                    self.kill_standby(id, why);
                }
            }
            Some(_) | None => standby.beat = Some(Beat { count, changed: now }),
        }
    }

    /// It cannot be made ready: the next process of the place could not, either.
    pub(super) fn standby_unfit(&mut self, id: WorkerId, now: Time) {
        let open = self.replaces();
        let Some(standby) = self.workers.standby(id) else { return };
        if standby.state == StandbyState::Starting && open {
            standby.state = StandbyState::Leaving;
            self.timers.clear(Timer::Start(id));
            self.break_pool(now);
        }
    }

    /// The place is given up, so nobody is to take it over.
    pub(super) fn release_standby(&mut self, slot: u32, now: Time) {
        match self.workers.slot(slot).seldom.standby.map(|standby| standby.state) {
            Some(StandbyState::Starting | StandbyState::Ready) => self.dismiss_standby(slot, now),
            None | Some(StandbyState::Leaving | StandbyState::Killed) => {}
        }
    }

    /// It has stayed for long enough, or has been told to leave and has not.
    pub(super) fn dismiss_standby(&mut self, slot: u32, now: Time) {
        let Some(standby) = self.workers.slot(slot).seldom.standby else { return };
        let id = WorkerId { slot, incarnation: standby.incarnation };
        if self.tell_standby(id) {
            self.timers.set(Timer::Standby(slot), now + STOP_LIMIT);
        } else {
            self.kill_standby(id, KillReason::Shutdown);
        }
    }

    /// Ask it to leave. `false`: it is not in a state to.
    fn tell_standby(&mut self, id: WorkerId) -> bool {
        let Some(standby) = self.workers.standby(id) else { return false };
        let ready = standby.state == StandbyState::Ready;
        if ready {
            standby.state = StandbyState::Leaving;
            self.actions.push_back(Action::Stop(id));
        }
        ready
    }

    /// The pool stops: whoever has not left by the end of that is killed with the others.
    pub(super) fn stop_standby(&mut self, slot: u32) {
        let Some(standby) = self.workers.slot(slot).seldom.standby else { return };
        let id = WorkerId { slot, incarnation: standby.incarnation };
        if !self.tell_standby(id) && standby.state == StandbyState::Starting {
            self.kill_standby(id, KillReason::Shutdown);
        }
        self.timers.clear(Timer::Standby(slot));
    }

    pub(super) fn kill_standby(&mut self, id: WorkerId, why: KillReason) -> bool {
        let Some(standby) = self.workers.standby(id) else { return false };
        if standby.state == StandbyState::Killed {
            return false;
        }
        standby.state = StandbyState::Killed;
        self.timers.clear(Timer::Start(id));
        self.timers.clear(Timer::Standby(id.slot));
        self.actions.push_back(Action::Kill(id, why));
        true
    }

    /// It is gone, or could not be started. Nothing speaks against the place: the next time comes with the next deadline.
    pub(super) fn bury_standby(&mut self, id: WorkerId) {
        let Some(standby) = self.workers.standby(id) else { return };
        match standby.state {
            StandbyState::Starting | StandbyState::Ready => self.totals.worker_deaths += 1,
            StandbyState::Leaving | StandbyState::Killed => {}
        }
        self.timers.clear(Timer::Start(id));
        self.timers.clear(Timer::Standby(id.slot));
        self.workers.change(id.slot, |worker| worker.seldom.standby = None);
        self.finish_if_all_gone();
    }

    /// The place is vacant: the standby takes it over. `false`: there is none that could.
    pub(super) fn promote(&mut self, slot: u32, now: Time) -> bool {
        let Some(standby) = self.workers.slot(slot).seldom.standby else { return false };
        let (state, standing) = match standby.state {
            _ if self.has(Bug::ForgetsTheStandby) => return false,
            StandbyState::Starting => (WorkerState::Starting, Standing::Unready),
            StandbyState::Ready => (WorkerState::Up, Standing::Ready(now)),
            StandbyState::Leaving | StandbyState::Killed => return false,
        };
        self.timers.clear(Timer::Standby(slot));
        self.workers.take_over(slot, standby, state, standing);
        true
    }

    /// Whether all that was accepted is done and every process has gone: then say so, once.
    pub(super) fn finish_if_all_gone(&mut self) {
        if self.replaces() {
            return;
        }
        let mut workers = self.workers.iter();
        let all_gone =
            workers.all(|worker| worker.state == WorkerState::Retired && worker.seldom.standby.is_none());
        if all_gone && self.phase != Phase::Finished && !self.said_finished {
            self.said_finished = true;
            self.timers.clear(Timer::Stop);
            if self.phase == Phase::Stopping {
                self.phase = Phase::Finished;
            }
            self.actions.push_back(Action::Finished);
        }
    }
}
