//! What follows from a worker's exit: for the tasks that it had, for its place, and for the pool.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::ahead::Sent;
use super::task::Place;
use super::worker::Life;
use super::{Oracle, Phase};
use crate::scheduler::restart::{
    EARLY_DEATH_LIMIT, RESTART_BASE, RESTART_CAP, SETTLED_AFTER, TRANSIENT_LIMIT,
};
use crate::scheduler::retry::FREE_RETURNS;
use crate::scheduler::types::{Assignment, FailReason, KillReason, Time, WorkerId};

/// What few schedules come to, and only the oracle can tell: how often it was.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::simulation) struct Corners {
    pub(in crate::simulation) died_unsettled: u64,
    pub(in crate::simulation) rows_ended_by_work: u64,
    pub(in crate::simulation) rows_ended_by_age: u64,
    pub(in crate::simulation) long_rows_after_ready: u64,
    pub(in crate::simulation) spared_by_the_doomed: u64,
    pub(in crate::simulation) broken_transient: u64,
    pub(in crate::simulation) timeouts_returned: u64,
    pub(in crate::simulation) died_prefetched: u64,
    pub(in crate::simulation) prefetched: u64,
    pub(in crate::simulation) packed: u64,
    pub(in crate::simulation) taken_back: u64,
    pub(in crate::simulation) refused_in_part: u64,
    pub(in crate::simulation) timeouts_with_more: u64,
    pub(in crate::simulation) timeouts_spared: u64,
    pub(in crate::simulation) over_memory_with_more: u64,
    pub(in crate::simulation) over_memory_in_vain: u64,
    pub(in crate::simulation) cancelled_prefetched: u64,
    pub(in crate::simulation) shared: u64,
    pub(in crate::simulation) stuck: u64,
    pub(in crate::simulation) released: u64,
    pub(in crate::simulation) cancelled_waiting: u64,
    pub(in crate::simulation) recycled: u64,
    pub(in crate::simulation) recycled_at_work: u64,
    pub(in crate::simulation) used_up: u64,
    pub(in crate::simulation) overlaps: u64,
    pub(in crate::simulation) full_houses: u64,
    pub(in crate::simulation) grown: u64,
    pub(in crate::simulation) shrunk: u64,
    pub(in crate::simulation) restarted: u64,
    pub(in crate::simulation) unfit: u64,
    pub(in crate::simulation) spared_for_starters: u64,
    pub(in crate::simulation) standbys: u64,
    pub(in crate::simulation) standbys_refused: u64,
    pub(in crate::simulation) standbys_unused: u64,
    pub(in crate::simulation) standbys_frozen: u64,
    pub(in crate::simulation) standbys_released: u64,
    pub(in crate::simulation) standbys_unfit: u64,
    pub(in crate::simulation) took_over: u64,
    pub(in crate::simulation) took_over_early: u64,
    pub(in crate::simulation) stopped: u64,
    pub(in crate::simulation) stopped_with_more: u64,
    pub(in crate::simulation) spared: u64,
}

impl Oracle {
    /// `transient`: there never was a process, for a reason that may pass.
    pub(super) fn exit(&mut self, id: WorkerId, begun: Option<Assignment>, transient: bool, now: Time) {
        if self.standby(id).is_some() {
            return self.standby_exit(id);
        }
        let Some(worker) = self.current(id).filter(|worker| worker.is_process()) else { return };
        let (life, killed, useful, dismissed) = (worker.life, worker.killed, worker.useful, worker.dismissed);
        let settled = worker.ready.is_some_and(|ready| now >= ready + SETTLED_AFTER);
        worker.life = Life::Vacant(now);
        worker.asked = None;
        let held = worker.clear();
        if settled {
            let row = mem::take(&mut worker.early_deaths);
            self.corners.rows_ended_by_age += u64::from(row > 0);
        }
        if killed.is_none() && !matches!(life, Life::Leaving(_)) {
            self.totals.worker_deaths += 1;
        }
        let idle = held.is_empty();
        self.corners.died_prefetched += u64::from(held.len() > 1);
        self.lose_all(id, held, begun, killed, now);
        self.touch(id);
        self.stop_if_drained(now);
        let starting = matches!(life, Life::Starting(_));
        let unready = starting && matches!(killed, None | Some(KillReason::StartTimeout));
        let unsettled = life == Life::Up && idle && killed.is_none() && !useful && !settled;
        self.corners.died_unsettled += u64::from(unsettled);
        let early = unready || unsettled;
        match self.phase {
            Phase::Open | Phase::Draining if dismissed => {
                self.workers[id.slot as usize].life = Life::Gone;
                self.fill(now);
            }
            Phase::Open | Phase::Draining => {
                if self.take_over(id.slot as usize, now) {
                    self.workers[id.slot as usize].early_deaths += u32::from(early);
                } else if early {
                    self.die_early(id, unready, transient, now);
                } else {
                    self.start(id.slot as usize, now);
                }
            }
            Phase::Stopping | Phase::Broken => {
                self.workers[id.slot as usize].life = Life::Gone;
                self.finish_if_all_gone();
            }
        }
    }

    /// What was begun is charged for the death; what was not comes back, and goes first. That is free, for what waited
    /// behind another as often as it happens, and for what was next so many times.
    fn lose_all(
        &mut self,
        worker: WorkerId,
        held: VecDeque<Sent>,
        begun: Option<Assignment>,
        killed: Option<KillReason>,
        now: Time,
    ) {
        let begun = held.iter().position(|sent| Some(sent.run) == begun).map_or(0, |index| index + 1);
        let mut returned = Vec::new();
        for (index, sent) in held.into_iter().enumerate() {
            assert_eq!(sent.begun, index < begun, "the world contradicts itself about {:?}", sent.run);
            let task = self.tasks.at(sent.run.task);
            if task.doomed {
                self.corners.stopped += u64::from(sent.begun);
                self.fail(sent.run.task, FailReason::Cancelled);
                continue;
            }
            let free = index > 0 || task.returns < FREE_RETURNS;
            if !sent.begun && free {
                task.returns += u8::from(index == 0);
                self.corners.timeouts_returned += u64::from(killed == Some(KillReason::Timeout));
                returned.push(sent.run.task);
            } else {
                self.lose(worker, sent.run, killed, now);
            }
        }
        self.come_back(&returned);
    }

    /// A result that had arrived would have ended the task before.
    fn lose(&mut self, worker: WorkerId, run: Assignment, killed: Option<KillReason>, now: Time) {
        let task = self.tasks.at(run.task);
        let tries = task.tries();
        let (again, reason) = match killed {
            Some(KillReason::Timeout) => {
                (task.spec.retry_timeouts, FailReason::TimedOut { worker, tries, limit: task.spec.timeout })
            }
            Some(KillReason::Memory) => {
                (task.spec.retry_over_memory, FailReason::OverMemory { worker, tries })
            }
            _ => (true, FailReason::Crashed { worker, tries, killed }),
        };
        if !again || !self.try_again(run, killed.is_none(), now) {
            self.fail(run.task, reason);
        }
    }

    /// An attempt is lost. Whether it is tried again, and if so when.
    pub(super) fn try_again(&mut self, run: Assignment, blame: bool, now: Time) -> bool {
        let turn = self.tasks.next_turn();
        let task = self.tasks.at(run.task);
        let Some(wait) = task.charge(blame) else { return false };
        task.place = Place::Backoff(now + wait);
        task.turn = turn;
        self.totals.retried += 1;
        true
    }

    /// It never came up, or was gone again before it was of any use: others are not started as fast as they
    /// die. And if none comes up anywhere, not for ever.
    fn die_early(&mut self, id: WorkerId, unready: bool, transient: bool, now: Time) {
        let worker = &mut self.workers[id.slot as usize];
        worker.early_deaths += 1;
        let row = worker.early_deaths;
        if row > if transient { TRANSIENT_LIMIT } else { EARLY_DEATH_LIMIT } {
            let mut up = self.workers.iter().filter(|worker| worker.is_up()).peekable();
            if unready && up.peek().is_none() {
                self.corners.broken_transient += u64::from(transient);
                return self.break_pool(now);
            }
            self.corners.spared_by_the_doomed +=
                u64::from(unready && up.all(|worker| worker.killed.is_some()));
            self.corners.long_rows_after_ready += u64::from(!unready);
        }
        let wait = match row {
            1 => Duration::ZERO,
            n => RESTART_CAP.min(RESTART_BASE * 2_u32.pow((n - 2).min(16))),
        };
        if wait.is_zero() {
            self.start(id.slot as usize, now);
        } else {
            self.workers[id.slot as usize].life = Life::Vacant(now + wait);
        }
    }
}
