//! What the oracle knows about tasks, and what it asks of a dispatch.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::scheduler::types::{Assignment, Backoff, TaskId, TaskSpec, Time, Tries, WorkerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It lacks values: see [`Tasks::who_needs`].
    Needs,
    /// Nothing but a worker is missing. Back: it was dispatched, never begun, and goes before all that were not, the oldest
    /// first.
    Waiting {
        back: bool,
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
    /// How often it came back unbegun though nothing was before it, free of charge.
    pub(super) returns: u8,
    /// When it took its place in the queue, or before that: counts such events.
    pub(super) turn: u64,
    /// The worker that it was taken back from last.
    pub(super) taken_from: Option<WorkerId>,
    /// It is to be stopped, and was with a worker then.
    pub(super) doomed: bool,
    retries: u32,
    crashes: u32,
}

impl Task {
    fn new(spec: TaskSpec, place: Place, turn: u64) -> Self {
        Self {
            spec,
            place,
            dispatches: 0,
            begun: 0,
            returns: 0,
            turn,
            taken_from: None,
            doomed: false,
            retries: 0,
            crashes: 0,
        }
    }

    fn crash_limit(&self) -> u32 {
        self.spec.crash_limit.map_or_else(|| self.spec.retries.saturating_add(1), NonZeroU32::get)
    }

    /// It was begun and its worker is gone. How long it waits at most until it is tried again, if it is.
    pub(super) fn charge(&mut self, blame: bool) -> Option<Duration> {
        self.crashes += u32::from(blame);
        if self.retries == self.spec.retries || self.crashes >= self.crash_limit() {
            return None;
        }
        let Backoff { base_ms, cap_ms } = self.spec.backoff;
        let doubled = 2_u128.pow(self.retries.min(40)) * u128::from(base_ms);
        self.retries += 1;
        Some(Duration::from_millis(doubled.min(cap_ms.into()) as u64))
    }

    /// Which try it is that has not been charged.
    pub(super) fn tries(&self) -> Tries {
        Tries { made: self.retries + 1, allowed: self.spec.retries.saturating_add(1) }
    }

    /// The function was entered.
    fn enter(&mut self, run: Assignment) {
        self.begun += 1;
        let allowed = 1 + u64::from(self.spec.retries);
        assert!(self.begun <= allowed, "{run:?} is begun, the task's {}th time of {allowed}", self.begun);
        let crashes = self.crash_limit();
        assert!(self.crashes < crashes, "{run:?} is begun after {} crashes of {crashes}", self.crashes);
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.place, Place::Waiting { .. })
    }
}

#[derive(Debug, Default)]
pub(super) struct Tasks {
    all: Vec<Task>,
    /// Those that have not ended.
    live: BTreeSet<TaskId>,
    /// The values that those in [`Place::Needs`] lack.
    needs: BTreeMap<TaskId, BTreeSet<TaskId>>,
    turns: u64,
}

impl Tasks {
    pub(super) fn add(&mut self, spec: TaskSpec, needs: &[TaskId]) -> TaskId {
        let turn = self.next_turn();
        let place = if needs.is_empty() { Place::Waiting { back: false } } else { Place::Needs };
        self.all.push(Task::new(spec, place, turn));
        let id = TaskId(self.submitted());
        if place == Place::Needs {
            self.needs.insert(id, needs.iter().copied().collect());
        }
        self.live.insert(id);
        id
    }

    pub(super) fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Those that lack this value, in order of submission.
    pub(super) fn who_needs(&self, value: TaskId) -> Vec<TaskId> {
        self.needs.iter().filter(|(_, needs)| needs.contains(&value)).map(|(&id, _)| id).collect()
    }

    /// This value is there. How many lack nothing more, and take their places in the queue in order of submission.
    pub(super) fn give_value(&mut self, value: TaskId) -> u64 {
        let mut released = 0;
        for id in self.who_needs(value) {
            let needs = self.needs.get_mut(&id).expect("just listed");
            needs.remove(&value);
            if needs.is_empty() {
                self.needs.remove(&id);
                let turn = self.next_turn();
                let task = self.at(id);
                task.place = Place::Waiting { back: false };
                task.turn = turn;
                released += 1;
            }
        }
        released
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        self.all.get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    pub(super) fn at(&mut self, id: TaskId) -> &mut Task {
        let index = usize::try_from(id.0).ok().and_then(|id| id.checked_sub(1));
        let task = index.and_then(|index| self.all.get_mut(index));
        task.unwrap_or_else(|| panic!("{id:?} was never submitted"))
    }

    /// Those that have not ended.
    pub(super) fn live(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.live.iter().map(|&id| (id, &self.all[id.0 as usize - 1]))
    }

    /// Those that `which` holds for, of those that have not ended, in order of submission.
    pub(super) fn ids(&self, which: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.live().filter(|(_, task)| which(task)).map(|(id, _)| id).collect()
    }

    pub(super) fn end(&mut self, id: TaskId) {
        assert!(self.live.remove(&id), "{id:?} ends twice");
        self.needs.remove(&id);
        self.at(id).place = Place::Ended;
    }

    pub(super) fn submitted(&self) -> u64 {
        self.all.len() as u64
    }

    pub(super) fn all_ended(&self) -> bool {
        self.live.is_empty()
    }

    /// The highest priority of a task that nothing but a worker is missing to.
    pub(super) fn most_urgent(&self) -> Option<i32> {
        self.live().filter(|(_, task)| task.waits()).map(|(_, task)| task.spec.priority).max()
    }

    pub(super) fn enter(&mut self, run: Assignment) {
        self.at(run.task).enter(run);
    }

    /// These come back unbegun, and go before all others of their priority.
    pub(super) fn put_first(&mut self, tasks: &[TaskId]) {
        for &id in tasks {
            self.at(id).place = Place::Waiting { back: true };
        }
    }

    /// Those whose longest backoff is over wait for a worker now. They are: after a look at the clock, those
    /// that end by then; and in between, those that end before the scheduler wants to look again.
    pub(super) fn end_backoffs(&mut self, over: impl Fn(Time) -> bool) {
        for &id in &self.live {
            let task = &mut self.all[id.0 as usize - 1];
            if matches!(task.place, Place::Backoff(until) if over(until)) {
                task.place = Place::Waiting { back: false };
            }
        }
    }

    /// May this be dispatched, and was it its turn?
    ///
    /// What is promised is the order in which tasks are *sent*. They are begun in that order at each worker, but no
    /// longer over all of them: one that was sent ahead waits for its worker, while another worker is faster.
    pub(super) fn check_turn(&self, run: Assignment) {
        let task = *self.get(run.task).unwrap_or_else(|| panic!("{run:?} was never submitted"));
        let back = match task.place {
            Place::Waiting { back } => back,
            Place::Backoff(_) => false,
            Place::Needs => panic!("{run:?} is dispatched without {:?}", self.needs.get(&run.task)),
            Place::On(worker) => panic!("{run:?} is dispatched while {worker:?} has it"),
            Place::Ended => panic!("{run:?} is dispatched after the task was resolved"),
        };
        assert_eq!(run.attempt.0, task.dispatches + 1, "{run:?}: attempts count up by one");
        for (id, other) in self.live().filter(|&(id, _)| id != run.task) {
            let Place::Waiting { back: other_back } = other.place else { continue };
            let (mine, theirs) = (task.spec.priority, other.spec.priority);
            assert!(mine >= theirs, "{run:?} of priority {mine} overtakes {id:?} of {theirs}");
            if mine > theirs {
                continue;
            }
            match (back, other_back) {
                (true, true) => assert!(run.task < id, "{run:?} overtakes {id:?}: both came back"),
                (false, true) => panic!("{run:?} overtakes {id:?}, which was never begun"),
                (true, false) => {}
                (false, false) => {
                    let earlier = other.dispatches == 0 && other.turn < task.turn;
                    assert!(!earlier, "{run:?} overtakes {id:?}, which was there first");
                }
            }
        }
    }
}
