//! The cross-check of every table against every other: run after each step in the simulation.

use std::collections::BTreeSet;

use super::held::Held;
use super::standby::StandbyState;
use super::task::TaskState;
use super::timer::Timer;
use super::types::{Assignment, WorkerId};
use super::worker::{Standing, WorkerState};
use super::{Phase, Scheduler};

impl Scheduler {
    /// Hold every table against every other.
    ///
    /// # Panics
    /// Where two disagree, naming them.
    pub fn sanity_check(&self) {
        self.check_tasks();
        self.check_workers();
        assert!(
            self.ready.len() == 0 || !self.workers.has_idle(),
            "a task is ready and a worker is idle, and nobody brought them together"
        );
        let looks = self.look_at.is_some();
        assert!(looks || self.workers.ahead().is_empty(), "something waits at a worker, and nobody looks");
        if self.phase == Phase::Draining {
            assert!(!self.tasks.is_empty(), "drained, and nobody stopped the workers");
        }
    }

    fn check_tasks(&self) {
        let in_queue: Vec<_> = self.ready.entries().filter(|&id| self.tasks.is_queued(id)).collect();
        let distinct: BTreeSet<_> = in_queue.iter().collect();
        assert_eq!(distinct.len(), in_queue.len(), "a task is in the ready queue twice");
        assert_eq!(in_queue.len(), self.ready.len(), "the ready queue miscounts");
        let mut queued = 0;
        let mut waiting = 0;
        for id in self.tasks.ids() {
            let task = self.tasks.get(id).expect("listed");
            let retry = self.timers.is_set(Timer::Retry(id));
            assert_eq!(
                retry,
                task.state == TaskState::Backoff,
                "{id:?}: {:?} and its timer disagree",
                task.state
            );
            match task.state {
                TaskState::Waiting => {
                    waiting += 1;
                    let unmet = self.dependencies.unmet(id);
                    assert_eq!(unmet, Some(self.dependencies.listed(id)), "{id:?}: values that it lacks");
                }
                TaskState::Queued => queued += 1,
                TaskState::Backoff => {}
                TaskState::Sent(worker) => {
                    let expected = Assignment { task: id, attempt: task.attempt };
                    let times = self.held_by(worker).filter(|&run| run == expected).count();
                    assert_eq!(times, 1, "{id:?} is with {worker:?}, which does not know it");
                }
            }
        }
        assert_eq!(waiting, self.dependencies.len(), "somebody waits for values, and is no such task");
        assert_eq!(queued, self.ready.len(), "a queued task is not in the ready queue");
    }

    fn check_workers(&self) {
        self.workers.check_lists();
        for id in self.workers.ids() {
            let worker = self.workers.slot(id.slot);
            let starting = worker.state == WorkerState::Starting;
            let limited = starting && !self.slow_starts;
            assert_eq!(limited, self.timers.is_set(Timer::Start(id)), "{id:?}: start limit");
            if matches!(worker.state, WorkerState::Starting | WorkerState::Up) {
                let unready = worker.seldom.standing == Standing::Unready;
                assert_eq!(starting, unready, "{id:?}: {:?} and {:?}", worker.state, worker.seldom.standing);
            }
            for run in self.held_by(id) {
                let task = self.tasks.get(run.task).expect("a worker has a task that is not in the table");
                assert_eq!(task.state, TaskState::Sent(id), "{id:?} has {run:?}, which does not know it");
            }
            let front = worker.front().and_then(|run| self.tasks.get(run.task));
            let limited =
                worker.state == WorkerState::Up && front.is_some_and(|task| task.timeout().is_some());
            // What is condemned needs no clock any more, nor does what the worker has left behind.
            if limited && worker.condemned.is_none() && worker.begun <= 1 {
                assert!(self.timers.is_set(Timer::Attempt(id)), "{id:?}: a time-out that nobody looks at");
            } else if !limited || worker.condemned.is_some() {
                assert!(!self.timers.is_set(Timer::Attempt(id)), "{id:?}: a time-out of nothing");
            }
            assert!(
                worker.condemned.is_none() || worker.retracting.is_some(),
                "{id:?} is condemned, and nothing follows"
            );
            let leaves = worker.state == WorkerState::Draining;
            let looks = self.timers.is_set(Timer::Leave(id)) || self.timers.is_set(Timer::Stop);
            assert!(looks || !leaves, "{id:?}: nobody looks whether it leaves");
            assert!(leaves || !self.timers.is_set(Timer::Leave(id)), "{id:?}: it is to leave, and is not");
            let doomed =
                self.held_by(id).filter(|run| self.tasks.get(run.task).is_some_and(|task| task.doomed));
            let up = worker.state == WorkerState::Up;
            assert_eq!(
                worker.sentenced,
                up && doomed.count() > 0,
                "{id:?}: something is to be stopped, or not"
            );
            if let Some(standby) = worker.seldom.standby {
                let other = WorkerId { incarnation: standby.incarnation, ..id };
                let limited = standby.state == StandbyState::Starting && !self.slow_starts;
                assert_eq!(limited, self.timers.is_set(Timer::Start(other)), "{other:?}: start limit");
                let stays = standby.state != StandbyState::Killed
                    && matches!(self.phase, Phase::Running | Phase::Draining);
                assert_eq!(stays, self.timers.is_set(Timer::Standby(id.slot)), "{other:?} is forgotten");
                let goes = matches!(standby.state, StandbyState::Leaving | StandbyState::Killed);
                let given_up = worker.leaving || worker.state == WorkerState::Retired;
                assert!(goes || !given_up, "{other:?} is to take over a place that is given up");
            } else {
                assert!(!self.timers.is_set(Timer::Standby(id.slot)), "{id:?}: a standby that is not there");
            }
            let vacant = worker.state == WorkerState::Vacant;
            assert_eq!(vacant, self.timers.is_set(Timer::Restart(id.slot)), "{id:?}: nobody will restart it");
        }
    }

    fn held_by(&self, id: WorkerId) -> impl Iterator<Item = Assignment> {
        let worker = self.workers.slot(id.slot);
        let held = worker.held.iter().map(Held::run);
        held.filter(move |_| worker.incarnation == id.incarnation)
    }
}
