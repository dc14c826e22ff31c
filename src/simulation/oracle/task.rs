//! What the oracle knows about tasks, and what it asks of a dispatch.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::scheduler::retry::{BACKOFF_BASE, BACKOFF_CAP, DEFAULT_CRASH_LIMIT};
use crate::scheduler::types::{Assignment, TaskId, TaskSpec, Time, WorkerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing but a worker is missing. `returned`: it was dispatched, never begun, and goes first.
    Waiting {
        returned: bool,
    },
    /// Its retry was granted; it waits for a worker at this time at the latest, perhaps already.
    Backoff(Time),
    On(WorkerId),
    Ended,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) spec: TaskSpec,
    pub(super) place: Place,
    pub(super) dispatches: u32,
    /// How often its function was really entered, in whatever process.
    pub(super) begun: u64,
    /// How often it came back unbegun, free of charge.
    pub(super) returns: u8,
    /// So many tasks had been submitted when it took its place in the queue, or more.
    pub(super) behind: u64,
    retries: u32,
    crashes: u32,
}

impl Task {
    fn new(spec: TaskSpec, behind: u64) -> Self {
        let place = Place::Waiting { returned: false };
        Self { spec, place, dispatches: 0, begun: 0, returns: 0, behind, retries: 0, crashes: 0 }
    }

    fn crash_limit(&self) -> u32 {
        let default =
            if self.spec.retries == 0 { DEFAULT_CRASH_LIMIT } else { self.spec.retries.saturating_add(1) };
        self.spec.crash_limit.map_or(default, NonZeroU32::get)
    }

    /// It was begun and its worker is gone. How long it waits at most until it is tried again, if it is.
    pub(super) fn charge(&mut self, blame: bool) -> Option<Duration> {
        self.crashes += u32::from(blame);
        if self.retries == self.spec.retries || self.crashes >= self.crash_limit() {
            return None;
        }
        let doubled = BACKOFF_BASE * (1 << self.retries.min(16));
        self.retries += 1;
        Some(doubled.min(BACKOFF_CAP))
    }

    /// The function was entered.
    pub(super) fn enter(&mut self, run: Assignment) {
        self.begun += 1;
        let allowed = 1 + u64::from(self.spec.retries);
        assert!(self.begun <= allowed, "{run:?} is begun, the task's {}th time of {allowed}", self.begun);
        let crashes = self.crash_limit();
        assert!(self.crashes < crashes, "{run:?} is begun after {} crashes of {crashes}", self.crashes);
    }

    fn waits(&self) -> bool {
        matches!(self.place, Place::Waiting { .. })
    }
}

#[derive(Debug, Default)]
pub(super) struct Tasks(Vec<Task>);

impl Tasks {
    pub(super) fn add(&mut self, spec: TaskSpec) -> TaskId {
        self.0.push(Task::new(spec, self.submitted()));
        TaskId(self.0.len() as u64)
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.0.get_mut(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    pub(super) fn at(&mut self, id: TaskId) -> &mut Task {
        self.get_mut(id).unwrap_or_else(|| panic!("{id:?} was never submitted"))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        (1..).map(TaskId).zip(&self.0)
    }

    /// Those that `which` holds for, in order of submission.
    pub(super) fn ids(&self, which: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.iter().filter(|(_, task)| which(task)).map(|(id, _)| id).collect()
    }

    pub(super) fn submitted(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn all_ended(&self) -> bool {
        self.0.iter().all(|task| task.place == Place::Ended)
    }

    pub(super) fn somebody_waits(&self) -> bool {
        self.0.iter().any(Task::waits)
    }

    /// Those whose longest backoff is over wait for a worker now. They are: after a look at the clock, those
    /// that end by then; and in between, those that end before the scheduler wants to look again.
    pub(super) fn end_backoffs(&mut self, over: impl Fn(Time) -> bool) {
        for task in &mut self.0 {
            if matches!(task.place, Place::Backoff(until) if over(until)) {
                task.place = Place::Waiting { returned: false };
            }
        }
    }

    /// May this be dispatched, and was it its turn?
    pub(super) fn check_turn(&mut self, run: Assignment) {
        let task = *self.at(run.task);
        let returned = match task.place {
            Place::Waiting { returned } => returned,
            Place::Backoff(_) => false,
            Place::On(worker) => panic!("{run:?} is dispatched while {worker:?} has it"),
            Place::Ended => panic!("{run:?} is dispatched after the task was resolved"),
        };
        assert_eq!(run.attempt.0, task.dispatches + 1, "{run:?}: attempts count up by one");
        for (id, other) in self.iter().filter(|&(id, other)| id != run.task && other.waits()) {
            let (mine, theirs) = (task.spec.priority, other.spec.priority);
            assert!(mine >= theirs, "{run:?} of priority {mine} overtakes {id:?} of {theirs}");
            if mine > theirs || returned {
                continue;
            }
            let first = other.place == Place::Waiting { returned: true };
            assert!(!first, "{run:?} overtakes {id:?}, which was never begun");
            let earlier = other.dispatches == 0 && id.0 <= task.behind;
            assert!(!earlier, "{run:?} overtakes {id:?}, which was there first");
        }
    }
}
