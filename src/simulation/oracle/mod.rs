//! The oracle: what the scheduler has promised, worked out from outside.
//!
//! It is told every event before the scheduler is, and says what the scheduler now owes: the answer to the
//! call, and the actions that must follow (which is what "at most once", "not before its time" and "never
//! blamed" come down to). Dispatches and retractions alone are not foretold but judged: each dispatch by whether it was
//! allowed and whose turn it was, each retraction by whether there was a reason; and where there is one after an event,
//! and it is not asked, that is a fault as well. It sees nothing of the scheduler but its answers, its actions and its
//! public getters. Of the world it sees more than the scheduler does: which tasks are really begun.

mod ahead;
mod answers;
mod exit;
mod judge;
mod standby;
mod task;
mod turnover;
mod worker;

use std::time::Duration;

use ahead::Expected;
pub(super) use exit::Corners;
use task::{Place, Tasks};
pub(super) use worker::Terms;
use worker::{Life, Worker};

use super::event::{Answer, Event};
use crate::scheduler::types::{
    Action, Assignment, Attempt, Cancel, FailReason, FunctionId, KillReason, Shutdown, TaskId, TaskSpec,
    Time, WorkerId,
};
use crate::scheduler::{STOP_LIMIT, SubmitError, Totals};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
    Stopping,
    Broken,
}

#[derive(Debug)]
pub(super) struct Oracle {
    tasks: Tasks,
    workers: Vec<Worker>,
    terms: Terms,
    /// So many of them there are to be.
    wanted: usize,
    /// The queue, as the scheduler has told it last.
    queue: Vec<TaskId>,
    expected: Expected,
    phase: Phase,
    /// What was not begun is to be cancelled as soon as it is back.
    cancelling: bool,
    /// When those who were told to leave are made to.
    stop_limit: Option<Time>,
    pub(super) corners: Corners,
    /// How often a worker became free.
    frees: u64,
    /// When something waited at a worker last, and could be asked for.
    last_waited: Time,
    /// The last event was a look at the clock.
    clock_struck: bool,
    /// Ended since the last look at the getters.
    ended: Vec<TaskId>,
    all_gone: bool,
    /// How long a process takes from being asked for until it is ready.
    usual_start: Option<Duration>,
    /// Actions that must come before the next event.
    owed: Vec<Action>,
    totals: Totals,
}

// What it is told.
impl Oracle {
    pub(super) fn new(workers: u32, terms: Terms, now: Time) -> Self {
        let workers: Vec<_> = (0..workers).map(|slot| Worker::new(slot, terms, now)).collect();
        let owed = workers.iter().map(|worker| Action::Spawn(worker.id)).collect();
        Self {
            tasks: Tasks::default(),
            wanted: workers.len(),
            workers,
            terms,
            queue: Vec::new(),
            expected: Expected::default(),
            phase: Phase::Open,
            cancelling: false,
            stop_limit: None,
            corners: Corners::default(),
            frees: 0,
            last_waited: Time::ZERO,
            clock_struck: false,
            ended: Vec::new(),
            all_gone: false,
            usual_start: None,
            owed,
            totals: Totals::default(),
        }
    }

    /// This is about to happen; what must the scheduler answer?
    pub(super) fn hear(&mut self, event: Event, now: Time) -> Answer {
        self.clock_struck = matches!(event, Event::Timeout);
        match event {
            Event::Submit(spec, needs) => return Answer::Submitted(self.submit(spec, &needs.distinct())),
            Event::Value(id) => self.corners.released += self.tasks.give_value(id),
            Event::NoValue(id) => {
                for dependant in self.tasks.who_needs(id) {
                    self.fail(dependant, FailReason::DependencyFailed(id));
                }
                self.stop_if_drained(now);
            }
            Event::SubmitNested(spec) => return Answer::Submitted(self.submit_nested(spec)),
            Event::Cancel(id) => return Answer::Cancel(self.cancel(id, now)),
            Event::Withdraw(id) => return Answer::Cancel(self.withdraw(id, now)),
            Event::Restart(id) => return Answer::Restarted(self.doom(id, KillReason::Requested)),
            Event::Recycle(id) => return Answer::Restarted(self.recycle(id, now)),
            Event::RestartAll => self.restart_all(now),
            Event::Resize(workers) => self.resize(workers as usize, now),
            Event::Unfit(id) => self.unfit(id, now),
            Event::Completed(id, done, ran) => return Answer::Completion(self.completed(id, done, ran, now)),
            Event::Raised(id, done, ran) => return Answer::Completion(self.raised(id, done, ran, now)),
            Event::KillTask(id, run) => return Answer::Sentenced(self.sentence(id, run)),
            Event::Retracted(id, count) => self.retracted(id, count, now),
            Event::TakenBack(id, run) => self.totals.cancelled += self.taken_back(id, run, now),
            Event::WithdrawnTakenBack(id, run) => self.totals.withdrawn += self.taken_back(id, run, now),
            Event::Shutdown(mode) => self.shutdown(mode, now),
            Event::Ready(id) => self.ready(id, now),
            Event::Exit(id, begun) => self.exit(id, begun, false, now),
            Event::SpawnFailed(id, transient) => self.exit(id, None, transient, now),
            Event::Beat(id, count, _) => {
                self.standby_beat(id, count, now);
                let Some(worker) = self.current(id) else { return Answer::Nothing };
                let starts = matches!(worker.life, Life::Starting(_));
                if worker.stands_still(count, now) {
                    self.doom(id, if starts { KillReason::StartTimeout } else { KillReason::Frozen });
                }
            }
            Event::OverMemory(id, run) => self.over_memory(id, run),
            Event::Pause(gap) => {
                self.workers.iter_mut().for_each(|worker| worker.forgive(gap));
                self.stop_limit = self.stop_limit.map(|limit| limit + gap);
            }
            Event::Timeout => self.clock(now),
        }
        Answer::Nothing
    }

    /// A process has entered a task's function. The scheduler learns of that only if the process dies.
    pub(super) fn begun(&mut self, id: WorkerId, run: Assignment) {
        self.tasks.enter(run);
        // The pool may have been shut down over its head.
        let Some(worker) = self.current(id) else { return };
        if let Some(sent) = worker.held.iter_mut().find(|sent| sent.run == run) {
            sent.begun = true;
        }
    }

    /// What this task runs.
    pub(super) fn function(&mut self, id: TaskId) -> FunctionId {
        self.spec(id).function
    }

    /// What was asked for.
    pub(super) fn spec(&mut self, id: TaskId) -> TaskSpec {
        self.tasks.at(id).spec
    }

    fn submit(&mut self, spec: TaskSpec, needs: &[TaskId]) -> Result<TaskId, SubmitError> {
        match self.phase {
            Phase::Open => Ok(self.tasks.add(spec, needs)),
            Phase::Draining | Phase::Stopping => Err(SubmitError::ShutDown),
            Phase::Broken => Err(SubmitError::Broken),
        }
    }

    fn cancel(&mut self, id: TaskId, now: Time) -> Cancel {
        let Some(&task) = self.tasks.get(id) else { return Cancel::TooLate };
        match task.place {
            Place::Ended => return Cancel::TooLate,
            Place::On(worker) => {
                let attempt = Attempt(task.dispatches);
                return Cancel::Sent(worker, Assignment { task: id, attempt });
            }
            Place::Needs => {
                self.corners.cancelled_waiting += 1;
                self.end(id);
            }
            Place::Waiting { .. } | Place::Backoff(_) => self.end(id),
        }
        self.totals.cancelled += 1;
        self.stop_if_drained(now);
        Cancel::Cancelled
    }

    /// What a running task submits is a part of the work that was accepted before.
    fn submit_nested(&mut self, spec: TaskSpec) -> Result<TaskId, SubmitError> {
        if self.phase == Phase::Draining && !self.cancelling {
            return Ok(self.tasks.add(spec, &[]));
        }
        self.submit(spec, &[])
    }

    /// What lacks values cannot be run by anybody.
    fn withdraw(&mut self, id: TaskId, now: Time) -> Cancel {
        match self.tasks.get(id).map(|task| task.place) {
            None | Some(Place::Needs) => Cancel::TooLate,
            Some(Place::Waiting { .. } | Place::Backoff(_)) => {
                self.end(id);
                self.totals.withdrawn += 1;
                self.stop_if_drained(now);
                Cancel::Cancelled
            }
            Some(Place::Ended | Place::On(_)) => self.cancel(id, now), // which takes nothing from anybody
        }
    }

    fn ready(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.current(id) else { return self.standby_ready(id, now) };
        if worker.killed.is_none() && matches!(worker.life, Life::Starting(_)) {
            worker.life = Life::Up;
            worker.ready = Some(now);
            let asked_for = worker.asked_for;
            self.started(asked_for, now);
            self.touch(id);
        }
    }

    fn clock(&mut self, now: Time) {
        self.tasks.end_backoffs(|until| until <= now);
        // What is due first comes first: of standbys there are not enough for everybody.
        let mut slots: Vec<_> = (0..self.workers.len()).collect();
        slots.sort_by_key(|&slot| self.workers[slot].limit());
        for slot in slots {
            self.clock_of_standby(slot, now);
            let worker = &self.workers[slot];
            let id = worker.id;
            if worker.limit().is_none_or(|limit| limit > now) {
                continue;
            }
            match worker.life {
                Life::Vacant(_) => self.start(slot, now),
                Life::Starting(_) => drop(self.doom(id, KillReason::StartTimeout)),
                Life::Up => {
                    if worker.deadline.is_none_or(|deadline| deadline > now) {
                        self.near(slot, now);
                    } else {
                        self.overdue(slot);
                    }
                }
                Life::Leaving(_) => drop(self.doom(id, KillReason::Shutdown)),
                Life::Gone => unreachable!("no limit"),
            }
        }
        if self.stop_limit.is_some_and(|limit| limit <= now) {
            self.stop_limit = None;
            self.doom_all();
        }
    }

    fn shutdown(&mut self, mode: Shutdown, now: Time) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
        match mode {
            Shutdown::Drain => {}
            Shutdown::CancelPending => {
                self.cancelling = true;
                let spared = self.spared();
                let waiting =
                    |place| matches!(place, Place::Needs | Place::Waiting { .. } | Place::Backoff(_));
                for id in self.tasks.ids(|task| waiting(task.place)) {
                    if !spared.contains(&id) {
                        self.fail(id, FailReason::Cancelled);
                    }
                }
            }
            Shutdown::Now => self.fail_all(FailReason::PoolShutdown),
        }
        self.stop_if_drained(now);
        if mode == Shutdown::Now {
            self.doom_all();
        }
    }
}

// What it concludes.
impl Oracle {
    fn current(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id.slot as usize).filter(|worker| worker.id == id)
    }

    fn start(&mut self, slot: usize, now: Time) {
        let id = self.workers[slot].start(self.terms, now);
        self.owed.push(Action::Spawn(id));
    }

    /// A kill is owed, unless there is nobody to kill or it was ordered before.
    fn doom(&mut self, id: WorkerId, why: KillReason) -> bool {
        let Some(worker) = self.current(id) else { return self.doom_standby(id, why) };
        if !worker.is_process() || worker.killed.is_some() {
            return false;
        }
        worker.killed = Some(why);
        worker.condemned = None;
        self.touch(id);
        self.owed.push(Action::Kill(id, why));
        true
    }

    fn doom_all(&mut self) {
        for slot in 0..self.workers.len() {
            self.doom(self.workers[slot].id, KillReason::Shutdown);
            if let Some(standby) = self.workers[slot].standby {
                self.doom(standby.id, KillReason::Shutdown);
            }
        }
    }

    fn end(&mut self, id: TaskId) {
        self.tasks.end(id);
        self.ended.push(id);
    }

    fn fail(&mut self, id: TaskId, reason: FailReason) {
        self.end(id);
        match reason {
            FailReason::Cancelled => self.totals.cancelled += 1,
            FailReason::Crashed { .. }
            | FailReason::TimedOut { .. }
            | FailReason::OverMemory { .. }
            | FailReason::DependencyFailed(_)
            | FailReason::PoolBroken
            | FailReason::PoolShutdown => self.totals.failed += 1,
        }
        self.owed.push(Action::Fail(id, reason));
    }

    /// Resolve everything. Whoever was at work is killed, and nothing that it says counts any more.
    fn fail_all(&mut self, reason: FailReason) {
        for id in self.tasks.ids(|_| true) {
            self.fail(id, reason);
        }
        for slot in 0..self.workers.len() {
            if !self.workers[slot].held.is_empty() {
                self.doom(self.workers[slot].id, KillReason::Shutdown);
                self.workers[slot].clear();
            }
        }
    }

    fn stop_if_drained(&mut self, now: Time) {
        if self.phase == Phase::Draining && self.tasks.all_ended() {
            self.phase = Phase::Stopping;
            self.stop(now);
        }
    }

    fn stop(&mut self, now: Time) {
        self.stop_limit = Some(now + STOP_LIMIT);
        for slot in 0..self.workers.len() {
            self.stop_standby(slot, now);
            let worker = &mut self.workers[slot];
            let id = worker.id;
            match worker.life {
                Life::Vacant(_) => worker.life = Life::Gone,
                Life::Up if worker.killed.is_none() && worker.held.is_empty() => {
                    worker.life = Life::Leaving(None);
                    self.touch(id);
                    self.owed.push(Action::Stop(id));
                }
                Life::Starting(_) => drop(self.doom(id, KillReason::Shutdown)),
                Life::Up | Life::Leaving(_) | Life::Gone => {}
            }
        }
        self.finish_if_all_gone();
    }

    fn finish_if_all_gone(&mut self) {
        let gone = |worker: &Worker| worker.life == Life::Gone && worker.standby.is_none();
        if !self.all_gone && self.workers.iter().all(gone) {
            self.all_gone = true;
            self.stop_limit = None;
            self.owed.push(Action::Finished);
        }
    }
}
