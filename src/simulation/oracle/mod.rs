//! The oracle: what the scheduler has promised, worked out from outside.
//!
//! It is told every event before the scheduler is, and says what the scheduler now owes: the answer to the
//! call, and the actions that must follow (which is what "at most once", "not before its time" and "never
//! blamed" come down to). Dispatches alone are not foretold but judged, each by whether it was allowed and
//! whose turn it was. It sees nothing of the scheduler but its answers, its actions and its public getters.

mod exit;
mod task;
mod worker;

use std::mem;

pub(super) use exit::Corners;
use task::{Place, Tasks};
use worker::{Life, Worker};

use super::event::{Answer, Event};
use crate::scheduler::retry::FREE_RETURNS;
use crate::scheduler::types::{
    Action, Assignment, Cancel, Completion, FailReason, KillReason, Shutdown, TaskId, TaskSpec, Time,
    WorkerId,
};
use crate::scheduler::{STOP_LIMIT, Scheduler, SubmitError, Totals};

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
    phase: Phase,
    /// When those who were told to leave are made to.
    stop_limit: Option<Time>,
    pub(super) corners: Corners,
    /// How often a worker became free.
    freed: u64,
    all_gone: bool,
    /// Actions that must come before the next event.
    owed: Vec<Action>,
    totals: Totals,
}

// What it is told.
impl Oracle {
    pub(super) fn new(workers: u32, now: Time) -> Self {
        let workers: Vec<_> = (0..workers).map(|slot| Worker::new(slot, now)).collect();
        let owed = workers.iter().map(|worker| Action::Spawn(worker.id)).collect();
        Self {
            tasks: Tasks::default(),
            workers,
            phase: Phase::Open,
            stop_limit: None,
            corners: Corners::default(),
            freed: 0,
            all_gone: false,
            owed,
            totals: Totals::default(),
        }
    }

    /// This is about to happen; what must the scheduler answer?
    pub(super) fn hear(&mut self, event: Event, now: Time) -> Answer {
        match event {
            Event::Submit(spec) => return Answer::Submitted(self.submit(spec)),
            Event::Cancel(id) => return Answer::Cancel(self.cancel(id, now)),
            Event::Restart(id) => return Answer::Restarted(self.doom(id, KillReason::Requested)),
            Event::Completed(id, done) => return Answer::Completion(self.completed(id, done, now)),
            Event::Shutdown(mode) => self.shutdown(mode, now),
            Event::Ready(id) => self.ready(id, now),
            Event::Exit(id, begun) => self.exit(id, begun, false, now),
            Event::SpawnFailed(id, transient) => self.exit(id, None, transient, now),
            Event::Beat(id, count) => {
                if self.current(id).is_some_and(|worker| worker.stands_still(count, now)) {
                    self.doom(id, KillReason::Frozen);
                }
            }
            Event::Pause(gap) => {
                self.workers.iter_mut().for_each(|worker| worker.forgive(gap));
                self.stop_limit = self.stop_limit.map(|limit| limit + gap);
            }
            Event::Timeout => self.clock(now),
        }
        Answer::Nothing
    }

    /// A process has entered a task's function. The scheduler learns of that only if the process dies.
    pub(super) fn begun(&mut self, run: Assignment) {
        self.tasks.at(run.task).enter(run);
    }

    fn submit(&mut self, spec: TaskSpec) -> Result<TaskId, SubmitError> {
        match self.phase {
            Phase::Open => Ok(self.tasks.add(spec)),
            Phase::Draining | Phase::Stopping => Err(SubmitError::ShutDown),
            Phase::Broken => Err(SubmitError::Broken),
        }
    }

    fn cancel(&mut self, id: TaskId, now: Time) -> Cancel {
        let Some(task) = self.tasks.get_mut(id) else { return Cancel::TooLate };
        match task.place {
            Place::On(_) | Place::Ended => return Cancel::TooLate,
            Place::Waiting { .. } | Place::Backoff(_) => task.place = Place::Ended,
        }
        self.totals.cancelled += 1;
        self.stop_if_drained(now);
        Cancel::Cancelled
    }

    fn completed(&mut self, id: WorkerId, done: Assignment, now: Time) -> Completion {
        let freed = self.freed + 1;
        let Some(worker) = self.current(id) else { return Completion::Stale };
        match worker.life {
            Life::Busy(run, _) if run == done => {}
            Life::Vacant(_)
            | Life::Starting(_)
            | Life::Idle
            | Life::Busy(..)
            | Life::Leaving
            | Life::Gone => return Completion::Stale,
        }
        worker.life = Life::Idle;
        worker.beat = None; // an answer is a sign of life
        worker.done += 1;
        worker.useful = true;
        let row = mem::take(&mut worker.early_deaths);
        worker.freed = freed;
        self.freed = freed;
        self.tasks.at(done.task).place = Place::Ended;
        self.totals.completed += 1;
        self.corners.rows_ended_by_work += u64::from(row > 0);
        self.stop_if_drained(now);
        Completion::Final
    }

    fn ready(&mut self, id: WorkerId, now: Time) {
        let freed = self.freed + 1;
        let Some(worker) = self.current(id) else { return };
        if worker.killed.is_none() && matches!(worker.life, Life::Starting(_)) {
            worker.life = Life::Idle;
            worker.freed = freed;
            worker.ready = Some(now);
            self.freed = freed;
        }
    }

    fn clock(&mut self, now: Time) {
        self.tasks.end_backoffs(|until| until <= now);
        for slot in 0..self.workers.len() {
            let worker = &self.workers[slot];
            let id = worker.id;
            if worker.limit().is_none_or(|limit| limit > now) {
                continue;
            }
            match worker.life {
                Life::Vacant(_) => self.start(slot, now),
                Life::Starting(_) => drop(self.doom(id, KillReason::StartTimeout)),
                Life::Busy(..) => drop(self.doom(id, KillReason::Timeout)),
                Life::Idle | Life::Leaving | Life::Gone => unreachable!("no limit"),
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
                let waiting = |place| matches!(place, Place::Waiting { .. } | Place::Backoff(_));
                for id in self.tasks.ids(|task| waiting(task.place)) {
                    self.fail(id, FailReason::Cancelled);
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
        let id = self.workers[slot].start(now);
        self.owed.push(Action::Spawn(id));
    }

    /// A kill is owed, unless there is nobody to kill or it was ordered before.
    fn doom(&mut self, id: WorkerId, why: KillReason) -> bool {
        let Some(worker) = self.current(id) else { return false };
        if !worker.is_process() || worker.killed.is_some() {
            return false;
        }
        worker.killed = Some(why);
        self.owed.push(Action::Kill(id, why));
        true
    }

    fn doom_all(&mut self) {
        for slot in 0..self.workers.len() {
            self.doom(self.workers[slot].id, KillReason::Shutdown);
        }
    }

    fn fail(&mut self, id: TaskId, reason: FailReason) {
        self.tasks.at(id).place = Place::Ended;
        match reason {
            FailReason::Cancelled => self.totals.cancelled += 1,
            FailReason::Crashed { .. }
            | FailReason::TimedOut { .. }
            | FailReason::PoolBroken
            | FailReason::PoolShutdown => self.totals.failed += 1,
        }
        self.owed.push(Action::Fail(id, reason));
    }

    /// Resolve everything. Whoever was at work is killed, and nothing that it says counts any more.
    fn fail_all(&mut self, reason: FailReason) {
        for id in self.tasks.ids(|task| task.place != Place::Ended) {
            self.fail(id, reason);
        }
        for slot in 0..self.workers.len() {
            if matches!(self.workers[slot].life, Life::Busy(..)) {
                self.doom(self.workers[slot].id, KillReason::Shutdown);
                self.workers[slot].life = Life::Idle;
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
            let worker = &mut self.workers[slot];
            let id = worker.id;
            match worker.life {
                Life::Vacant(_) => worker.life = Life::Gone,
                Life::Idle if worker.killed.is_none() => {
                    worker.life = Life::Leaving;
                    self.owed.push(Action::Stop(id));
                }
                Life::Starting(_) => drop(self.doom(id, KillReason::Shutdown)),
                Life::Idle | Life::Busy(..) | Life::Leaving | Life::Gone => {}
            }
        }
        self.finish_if_all_gone();
    }

    fn finish_if_all_gone(&mut self) {
        if !self.all_gone && self.workers.iter().all(|worker| worker.life == Life::Gone) {
            self.all_gone = true;
            self.stop_limit = None;
            self.owed.push(Action::Finished);
        }
    }
}

// What it checks.
impl Oracle {
    /// The scheduler wants this done.
    pub(super) fn see(&mut self, action: Action, now: Time) {
        if let Action::Dispatch(id, run) = action {
            return self.see_dispatch(id, run, now);
        }
        let Some(index) = self.owed.iter().position(|&owed| owed == action) else {
            panic!("{action:?} comes uncalled for: {}", self.objection(action, now));
        };
        self.owed.swap_remove(index);
    }

    fn see_dispatch(&mut self, id: WorkerId, run: Assignment, now: Time) {
        let worker = self.current(id).unwrap_or_else(|| panic!("{run:?} goes to {id:?}, which is not there"));
        assert!(worker.is_free(), "{run:?} goes to {worker:?}, which is not free");
        let freed = worker.freed;
        let warmer = self.workers.iter().find(|other| other.is_free() && other.freed > freed);
        assert!(warmer.is_none(), "{run:?} goes to {id:?}, and {warmer:?} was busy last");
        self.tasks.check_turn(run);
        let task = self.tasks.at(run.task);
        task.dispatches += 1;
        task.place = Place::On(id);
        let limit = task.spec.timeout.map(|timeout| now.saturating_add(timeout));
        self.workers[id.slot as usize].life = Life::Busy(run, limit);
    }

    /// In words, why an action was not owed.
    fn objection(&mut self, action: Action, now: Time) -> String {
        match action {
            Action::Fail(id, reason) => {
                let task = *self.tasks.at(id);
                let blamed = matches!(reason, FailReason::Crashed { .. } | FailReason::TimedOut { .. });
                match task.place {
                    _ if blamed && task.begun == 0 && task.returns < FREE_RETURNS => {
                        "it was never begun".into()
                    }
                    Place::Ended => "it was resolved before".into(),
                    place @ (Place::Waiting { .. } | Place::Backoff(_) | Place::On(_)) => {
                        format!("{place:?}")
                    }
                }
            }
            Action::Kill(id, why) => {
                let worker = self.current(id);
                format!("at {now:?} nothing demands {why:?} of {worker:?}")
            }
            Action::Finished if self.all_gone => "it was said before".into(),
            Action::Broken if self.phase == Phase::Broken => "it was said before".into(),
            Action::Spawn(_) | Action::Dispatch(..) | Action::Stop(_) | Action::Broken | Action::Finished => {
                format!("{:?}, {:?}", self.phase, self.workers)
            }
        }
    }

    /// All actions are out: is every promise kept, and do the getters tell the truth?
    pub(super) fn settle(&mut self, scheduler: &Scheduler) {
        let alarm = scheduler.poll_timeout();
        self.tasks.end_backoffs(|until| alarm.is_none_or(|alarm| alarm > until));
        assert!(self.owed.is_empty(), "owed and not done: {:?}", self.owed);
        let free = self.workers.iter().find(|worker| worker.is_free());
        if let Some(worker) = free {
            assert!(!self.tasks.somebody_waits(), "a task waits and {:?} is free", worker.id);
        }
        let (mut queued, mut running) = (0, 0);
        for (id, task) in self.tasks.iter() {
            let on_worker = match task.place {
                Place::Waiting { .. } | Place::Backoff(_) => Some(false),
                Place::On(_) => Some(true),
                Place::Ended => None,
            };
            queued += usize::from(on_worker == Some(false));
            running += usize::from(on_worker == Some(true));
            let told = scheduler.is_running(id);
            assert!(told == on_worker, "is_running({id:?}) says {told:?}, and it is {on_worker:?}");
        }
        assert_eq!((scheduler.queued(), scheduler.running()), (queued, running), "queued and running tasks");
        assert_eq!(scheduler.submitted(), self.tasks.submitted(), "submitted tasks");
        assert_eq!(scheduler.totals(), self.totals, "totals");
        assert_eq!(scheduler.is_accepting(), self.phase == Phase::Open, "is_accepting");
        self.check_alarm(alarm);
        for ((id, phase, done), worker) in scheduler.workers().zip(&self.workers) {
            let told = (id, phase, done);
            let known = (worker.id, worker.phase(), worker.done);
            assert!(told == known, "workers() says {told:?}, and it is {known:?}");
        }
    }

    /// Somebody must look at the clock when the next limit is reached, and not before, but for a backoff: that
    /// one is jittered, and may end earlier than is known here.
    fn check_alarm(&self, alarm: Option<Time>) {
        let limits = self.workers.iter().filter_map(Worker::limit);
        let next = limits.chain(self.stop_limit).min();
        if alarm != next {
            let jittered = self.tasks.iter().any(|(_, task)| matches!(task.place, Place::Backoff(_)));
            let early = jittered && next.is_none_or(|next| alarm.is_some_and(|alarm| alarm < next));
            assert!(early, "poll_timeout is {alarm:?}, and the next limit {next:?}");
        }
    }

    /// The world is quiet and all time has passed: nothing may be left undone.
    pub(super) fn check_quiet(&self, scheduler: &Scheduler) {
        assert!(self.tasks.all_ended(), "lost: {:?}", self.tasks.ids(|task| task.place != Place::Ended));
        for worker in &self.workers {
            assert!(self.all_gone || worker.is_free(), "{worker:?} was not replaced");
        }
        let Totals { completed, failed, cancelled, .. } = scheduler.totals();
        assert_eq!(completed + failed + cancelled, scheduler.submitted(), "every task ends once");
    }

    /// The pool was shut down, too.
    pub(super) fn check_end(&self, scheduler: &Scheduler) {
        self.check_quiet(scheduler);
        assert!(self.all_gone, "not all workers are gone: {:?}", self.workers);
    }
}
