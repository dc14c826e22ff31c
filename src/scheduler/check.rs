//! The cross-check of every table against every other: run after each step in the simulation.

use std::collections::BTreeSet;

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
            self.ready.len() == 0 || self.workers.idle_slots().is_empty(),
            "a task is ready and a worker is idle, and nobody brought them together"
        );
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
                TaskState::Queued => queued += 1,
                TaskState::Backoff => {}
                TaskState::Running(worker) => {
                    let run = self.run_of(worker);
                    let expected = Assignment { task: id, attempt: task.attempt };
                    assert_eq!(run, Some(expected), "{id:?} runs on {worker:?}, which does not know it");
                }
            }
        }
        assert_eq!(queued, self.ready.len(), "a queued task is not in the ready queue");
    }

    fn check_workers(&self) {
        for id in self.workers.ids() {
            let worker = self.workers.slot(id.slot);
            let idle = self.workers.idle_slots().iter().filter(|&&slot| slot == id.slot).count();
            assert_eq!(
                idle,
                usize::from(worker.state == WorkerState::Idle),
                "{id:?} and the idle stack disagree"
            );
            let starting = worker.state == WorkerState::Starting;
            assert_eq!(starting, self.timers.is_set(Timer::Start(id)), "{id:?}: start limit");
            if matches!(worker.state, WorkerState::Starting | WorkerState::Idle | WorkerState::Busy(_)) {
                let unready = worker.standing == Standing::Unready;
                assert_eq!(starting, unready, "{id:?}: {:?} and {:?}", worker.state, worker.standing);
            }
            if let Some(run) = self.run_of(id) {
                let task = self.tasks.get(run.task).expect("a worker runs a task that is not in the table");
                assert_eq!(task.state, TaskState::Running(id), "{id:?} runs {run:?}, which does not know it");
            }
            let timed = matches!(worker.state, WorkerState::Busy(run)
                if self.tasks.get(run.task).is_some_and(|task| task.spec.timeout.is_some()));
            assert_eq!(timed, self.timers.is_set(Timer::Attempt(id)), "{id:?}: an attempt and its time-out");
            let vacant = worker.state == WorkerState::Vacant;
            assert_eq!(vacant, self.timers.is_set(Timer::Restart(id.slot)), "{id:?}: nobody will restart it");
        }
    }

    fn run_of(&self, id: WorkerId) -> Option<Assignment> {
        let worker = self.workers.slot(id.slot);
        worker.run().filter(|_| worker.incarnation == id.incarnation)
    }
}
